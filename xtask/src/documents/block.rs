//! The fenced blocks of a document.

use anyhow::{Result, bail};

/// A fenced block, as far as the runner is concerned with it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fence {
    /// The commands, if the block is one of the shell.
    pub(crate) block: Option<Block>,
    /// The output that the previous block is expected to print, of a block marked `text output`.
    pub(crate) output: Option<String>,
}

/// Shell commands: a block marked `sh`, or a comment that begins with `<!-- sh`, which readers do not see.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Block {
    /// The number of its first line.
    pub(crate) line: usize,
    pub(crate) text: String,
    /// The reason why the block is not run: `no-run="..."`.
    pub(crate) no_run: Option<String>,
    /// Exit codes that its commands may have, separated by spaces: `exits="28"`.
    pub(crate) permitted: String,
}

impl Block {
    /// Returns the commands for the runner: a server in the foreground replaces its shell, so that it can be stopped.
    pub(crate) fn as_run(&self) -> String {
        if !self.is_server_in_front() {
            return self.text.clone();
        }
        let at = self.text.rfind("hoist serve").unwrap_or_default();
        format!("{}exec {}", &self.text[..at], &self.text[at..])
    }

    /// Returns whether the block ends with a server in the foreground.
    pub(crate) fn is_server_in_front(&self) -> bool {
        self.commands().last().is_some_and(|last| last.starts_with("hoist serve") && !last.ends_with('&'))
    }

    /// Returns the port of the server that the block starts.
    pub(crate) fn server_port(&self) -> Option<u16> {
        let commands = self.commands();
        let server = commands.iter().rfind(|command| command.starts_with("hoist serve"))?;
        let listen = server.split_once("--listen ").and_then(|(_, rest)| rest.split_whitespace().next());
        let port = listen.and_then(|address| address.trim_matches('\'').rsplit_once(':')?.1.parse().ok());
        Some(port.unwrap_or(super::PORT))
    }

    /// Returns the commands without comments, continuation lines joined.
    fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
    }
}

/// Returns the fenced blocks of a document, in order.
pub(crate) fn fences(document: &str) -> Result<Vec<Fence>> {
    let mut fences = Vec::new();
    let mut lines = document.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let (info, end) = match (line.strip_prefix("```"), line.strip_prefix("<!-- sh")) {
            (Some(info), _) => (info, "```"),
            (None, Some(_)) => (line.trim_start_matches("<!-- "), "-->"),
            _ => continue,
        };
        let mut text = String::new();
        loop {
            match lines.next() {
                Some((_, line)) if line == end => break,
                Some((_, line)) => text.extend([line, "\n"]),
                None => bail!("line {}: the block has no end", at + 1),
            }
        }
        fences.push(fence(at + 1, info, text)?);
    }
    Ok(fences)
}

fn fence(line: usize, info: &str, text: String) -> Result<Fence> {
    let (language, attributes) = info.split_once(' ').unwrap_or((info, ""));
    match language {
        "sh" => {
            let mut block = Block { line, text, ..Block::default() };
            for (name, value) in attributes_of(attributes).unwrap_or_else(|| vec![(attributes, "")]) {
                match name {
                    "no-run" if !value.is_empty() => block.no_run = Some(value.to_owned()),
                    "exits" => value.clone_into(&mut block.permitted),
                    _ => bail!(
                        "line {line}: unknown attribute {name}; write no-run=\"REASON\" or exits=\"CODES\""
                    ),
                }
            }
            Ok(Fence { block: Some(block), output: None })
        }
        "bash" | "shell" | "console" => bail!("line {line}: mark shell commands `sh`"),
        "text" if attributes == "output" => Ok(Fence { block: None, output: Some(text) }),
        _ => Ok(Fence::default()),
    }
}

/// Parses `name="value" name="value"`. Returns `None` for anything else.
fn attributes_of(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut attributes = Vec::new();
    while !text.trim().is_empty() {
        let (name, rest) = text.trim_start().split_once("=\"")?;
        let (value, rest) = rest.split_once('"')?;
        attributes.push((name, value));
        text = rest;
    }
    Some(attributes)
}

/// Returns whether a block's output is the expected one. In it, `…` stands for any text of a line, and a line of `…`
/// alone for any lines.
pub(crate) fn matches(expected: &str, printed: &str) -> bool {
    let (expected, printed): (Vec<_>, Vec<_>) = (expected.lines().collect(), printed.lines().collect());
    matches_lines(&expected, &printed)
}

fn matches_lines(expected: &[&str], printed: &[&str]) -> bool {
    match expected {
        [] => printed.is_empty(),
        ["…", rest @ ..] => (0..=printed.len()).any(|skipped| matches_lines(rest, &printed[skipped..])),
        [line, rest @ ..] => {
            printed.first().is_some_and(|first| matches_line(line, first))
                && matches_lines(rest, &printed[1..])
        }
    }
}

fn matches_line(expected: &str, printed: &str) -> bool {
    let mut pieces = expected.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| printed.trim_end().strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = Some(piece);
    }
    rest.is_empty() || last.is_some_and(|last| last.is_empty() || rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Block {
        Block { line: 1, text: text.to_owned(), ..Block::default() }
    }

    #[test]
    fn shell_blocks_are_found_with_their_attributes() {
        let text = "a\n```sh\nb\n```\n```sh no-run=\"needs a name\" exits=\"28 1\"\nc\n```\n<!-- sh\nd\n-->\n```text output\ne\n```\n\
                    ```rust\nf\n```\n";
        let fences = fences(text).unwrap();
        let blocks: Vec<_> = fences.iter().filter_map(|fence| fence.block.as_ref()).collect();
        assert_eq!(
            blocks.iter().map(|block| (block.line, block.text.as_str())).collect::<Vec<_>>(),
            [(2, "b\n"), (5, "c\n"), (8, "d\n")]
        );
        assert_eq!(
            (blocks[1].no_run.as_deref(), blocks[1].permitted.as_str()),
            (Some("needs a name"), "28 1")
        );
        assert_eq!(fences[3].output.as_deref(), Some("e\n"));
    }

    #[test]
    fn unclear_blocks_are_rejected() {
        for text in
            ["```sh\nx\n", "```sh no-run\nx\n```\n", "```sh no-run=\"\"\nx\n```\n", "```bash\nx\n```\n"]
        {
            assert!(fences(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_in_the_foreground_is_told_from_others() {
        let server = block("mkdir x\nhoist serve \\\n  --listen 127.0.0.1:8443 --data x    # until Ctrl-C\n");
        assert!(server.is_server_in_front());
        assert_eq!(server.server_port(), Some(8443));
        assert!(server.as_run().contains("mkdir x\nexec hoist serve"));
        assert!(!block("hoist serve &\n").is_server_in_front());
        assert_eq!(block("hoist serve &\n").server_port(), Some(8080));
        assert_eq!(block("hoist put a http://h\n").server_port(), None);
    }

    #[test]
    fn expected_output_may_have_gaps() {
        for (expected, printed, is_match) in [
            ("a\nb\n", "a\nb\n", true),
            ("a\nb\n", "a\n", false),
            ("a …\n", "a 1\n", true),
            ("a … c\n", "a b c\n", true),
            ("a … c\n", "a b d\n", false),
            ("…\nz\n", "x\ny\nz\n", true),
            ("a\n…\n", "a\n", true),
            ("a\n", "a\nb\n", false),
        ] {
            assert_eq!(matches(expected, printed), is_match, "{expected:?} {printed:?}");
        }
    }
}
