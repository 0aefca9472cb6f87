//! The command that resumes an interrupted run, quoted for a shell and without secrets.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

/// Flags whose value is a secret.
const SECRET: [&str; 2] = ["--bearer", "--proxy"];

/// Formats a command line for a shell, with secrets replaced by `...`.
pub(super) fn format(arguments: &[OsString]) -> String {
    let mut text = Vec::with_capacity(arguments.len());
    let mut flag = String::new();
    for word in arguments {
        let Some(word) = word.to_str() else {
            let is_secret = flag == "--header" || SECRET.contains(&&*flag) || is_secret_with_value(word);
            text.push(if is_secret { "...".to_owned() } else { escaped(word) });
            flag.clear();
            continue;
        };
        text.push(match word.split_once('=') {
            Some((name, _)) if SECRET.contains(&name) => format!("{name}=..."),
            Some((name @ "--header", value)) => format!("{name}={}", quoted(&field(value))),
            _ if SECRET.contains(&&*flag) => "...".to_owned(),
            _ if flag == "--header" => quoted(&field(word)),
            _ => quoted(word),
        });
        word.clone_into(&mut flag);
    }
    text.join(" ")
}

/// Returns whether an argument that is not UTF-8 is `--flag=value` with a secret value.
fn is_secret_with_value(word: &OsStr) -> bool {
    let flags = SECRET.into_iter().chain(["--header"]);
    let mut flags = flags.map(|flag| format!("{flag}="));
    flags.any(|flag| word.as_bytes().starts_with(flag.as_bytes()))
}

/// Replaces the value of a field, since any value may be a secret (`Private-Token`, `X-Api-Key`).
fn field(text: &str) -> String {
    match text.split_once(':') {
        Some((name, _)) => format!("{name}: ..."),
        None => "...".to_owned(),
    }
}

fn quoted(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_@%+=:,./-".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Quotes a word that is not UTF-8 as `$'...'`, with octal escapes.
fn escaped(word: &OsStr) -> String {
    let mut text = String::from("$'");
    for octet in word.as_bytes() {
        match octet {
            b'\'' | b'\\' => {
                text.push('\\');
                text.push(char::from(*octet));
            }
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => write!(text, "\\{octet:03o}").expect("writing to a string"),
        }
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_not_utf8_are_escaped() {
        let words = ["hoist".into(), OsString::from(OsStr::from_bytes(b"it's \\ \xe9\n"))];
        assert_eq!(format(&words), r"hoist $'it\'s \\ \351\012'");
    }

    #[test]
    fn secrets_that_are_not_utf8_are_omitted() {
        let secret = |text: &[u8]| OsString::from(OsStr::from_bytes(text));
        let words =
            ["--header".into(), secret(b"X-Secret: s3cret\xe9"), secret(b"--header=X-Secret: s3cret\xe9")];
        assert_eq!(format(&words), "--header ... ...");
    }

    #[test]
    fn the_command_is_quoted_and_without_secrets() {
        let cases: [(&[&str], &str); 8] = [
            (&["hoist", "put", "a b", "http://h/u"], "hoist put 'a b' http://h/u"),
            (&["hoist", "put", "it's", "*.mkv", ""], r"hoist put 'it'\''s' '*.mkv' ''"),
            (&["hoist", "--bearer", "s3cret", "x"], "hoist --bearer ... x"),
            (&["hoist", "--bearer=s3cret", "x"], "hoist --bearer=... x"),
            (&["hoist", "--header", "Cookie: a=b", "x"], "hoist --header 'Cookie: ...' x"),
            (&["hoist", "--header=X-Team: films"], "hoist --header='X-Team: ...'"),
            (&["hoist", "--header", "Private-Token: s3cret"], "hoist --header 'Private-Token: ...'"),
            (&["hoist", "--header=s3cret", "x"], "hoist --header=... x"),
        ];
        for (words, expected) in cases {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            assert_eq!(format(&words), expected);
        }
    }
}
