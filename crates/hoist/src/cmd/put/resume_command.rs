//! The command that resumes an interrupted run, quoted for a shell and without secrets, and its record in the journal.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use serde_json::{Value, json};

use crate::output::quoted;

/// Flags whose value is a secret.
const SECRET: [&str; 2] = ["--bearer", "--proxy"];

/// The number of bytes up to which a command is recorded. A run may have thousands of files, each with a journal entry.
const NOTE_BYTES_MAX: usize = 16 * 1024;

/// The command that resumes an upload, as the journal records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cmd) struct ResumeNote {
    /// The working directory of the run, quoted for a shell.
    directory: String,
    /// The command, quoted for a shell.
    command: String,
}

impl ResumeNote {
    /// Returns the note for a run in the working directory, or `None` if the command is too long to be recorded.
    pub(super) fn of(arguments: &[OsString]) -> Option<Self> {
        let length: usize = arguments.iter().map(|word| word.len() + 1).sum();
        if length > NOTE_BYTES_MAX {
            return None;
        }
        Some(Self { directory: working_directory()?, command: format(arguments) })
    }

    pub(super) fn to_text(&self) -> String {
        json!({ "directory": self.directory, "command": self.command }).to_string()
    }

    /// Reads a note, or returns `None` if another program has written it.
    pub(in crate::cmd) fn read(text: &str) -> Option<Self> {
        let written: Value = serde_json::from_str(text).ok()?;
        let line = |key: &str| {
            let text = written[key].as_str()?;
            (!text.contains(char::is_control)).then(|| text.to_owned())
        };
        Some(Self { directory: line("directory")?, command: line("command")? })
    }

    /// Returns the command for the working directory, with a `cd` if the run had another one.
    pub(in crate::cmd) fn command(&self) -> String {
        let Self { directory, command } = self;
        if working_directory().as_ref() == Some(directory) {
            command.clone()
        } else {
            format!("cd {directory} && {command}")
        }
    }
}

/// Returns the working directory, quoted for a shell.
fn working_directory() -> Option<String> {
    std::env::current_dir().ok().map(|directory| quoted(&directory))
}

/// Formats a command line for a shell, with secrets replaced by `...`.
pub(super) fn format(arguments: &[OsString]) -> String {
    let mut text = Vec::with_capacity(arguments.len());
    // The flag whose value comes next.
    let mut flag = Flag::Plain;
    for word in arguments {
        let octets = word.as_bytes();
        let value = std::mem::replace(&mut flag, Flag::Plain);
        let (name, value, word_of_value) = match value {
            Flag::Plain => {
                let (name, own, kind) = Flag::split(octets);
                if own.is_none() {
                    flag = kind;
                }
                match own {
                    Some(own) => (name, kind, own),
                    None => (&b""[..], Flag::Plain, octets),
                }
            }
            kind => (&b""[..], kind, octets),
        };
        let name = String::from_utf8_lossy(name);
        text.push(match value {
            Flag::Plain => quoted(word),
            Flag::Secret => format!("{name}..."),
            Flag::Header => format!("{name}{}", field(word_of_value)),
        });
    }
    text.join(" ")
}

/// A flag, by what its value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    Plain,
    Secret,
    Header,
}

impl Flag {
    /// Splits a word into a flag, with the `=` after it, and its value, if the word has one.
    fn split(word: &[u8]) -> (&[u8], Option<&[u8]>, Self) {
        let flags = SECRET.into_iter().map(|flag| (flag, Self::Secret)).chain([("--header", Self::Header)]);
        for (flag, kind) in flags {
            match word.strip_prefix(flag.as_bytes()) {
                Some([]) => return (word, None, kind),
                Some([b'=', value @ ..]) => return (&word[..=flag.len()], Some(value), kind),
                _ => {}
            }
        }
        // Short flags may share a word: `-qH FIELD`, `-qHFIELD`.
        let is_switch = |octet: &u8| matches!(octet, b'j' | b'k' | b'q' | b'v');
        let Some(short) = word.strip_prefix(b"-") else { return (word, None, Self::Plain) };
        let switches = short.iter().take_while(|octet| is_switch(octet)).count();
        match &short[switches..] {
            [b'H'] => (word, None, Self::Header),
            [b'H', b'=', value @ ..] => (&word[..switches + 3], Some(value), Self::Header),
            [b'H', value @ ..] => (&word[..switches + 2], Some(value), Self::Header),
            _ => (word, None, Self::Plain),
        }
    }
}

/// Replaces the value of a field, since any value may be a secret (`Private-Token`, `X-Api-Key`).
fn field(text: &[u8]) -> String {
    match text.iter().position(|octet| *octet == b':') {
        Some(end) => quoted(OsStr::from_bytes(&[&text[..end], b": ..."].concat())),
        None => "...".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_again_and_limited_in_length() {
        let words =
            ["hoist".into(), OsString::from(OsStr::from_bytes(b"a b\n\xe9")), "--bearer=s3cret".into()];
        let note = ResumeNote::of(&words).expect("a short command");
        assert_eq!(note.command(), r"hoist $'a b\n\351' --bearer=...");
        assert_eq!(ResumeNote::read(&note.to_text()), Some(note.clone()));
        let elsewhere = ResumeNote { directory: "'/a b'".to_owned(), ..note };
        assert_eq!(elsewhere.command(), r"cd '/a b' && hoist $'a b\n\351' --bearer=...");
        assert_eq!(ResumeNote::of(&vec![OsString::from("film"); 4096]), None);
        for other in ["", "{}", "a note", r#"{"directory":"/","command":"\u001b[2J"}"#] {
            assert_eq!(ResumeNote::read(other), None, "{other}");
        }
    }

    #[test]
    fn words_that_are_not_utf8_are_escaped() {
        let words = ["hoist".into(), OsString::from(OsStr::from_bytes(b"it's \\ \xe9\n"))];
        assert_eq!(format(&words), r"hoist $'it\'s \\ \351\n'");
    }

    #[test]
    fn secrets_that_are_not_utf8_are_omitted() {
        let secret = |text: &[u8]| OsString::from(OsStr::from_bytes(text));
        let words = ["--header".into(), secret(b"X-Secret: s3cret\xe9"), secret(b"--header=s3cret\xe9")];
        assert_eq!(format(&words), "--header 'X-Secret: ...' --header=...");
    }

    #[test]
    fn the_command_is_quoted_and_without_secrets() {
        let cases: [(&[&str], &str); 13] = [
            (&["hoist", "put", "a b", "http://h/u"], "hoist put 'a b' http://h/u"),
            (&["hoist", "put", "it's", "*.mkv", ""], r"hoist put 'it'\''s' '*.mkv' ''"),
            (&["hoist", "--bearer", "s3cret", "x"], "hoist --bearer ... x"),
            (&["hoist", "--bearer=s3cret", "x"], "hoist --bearer=... x"),
            (&["hoist", "--header", "Cookie: a=b", "x"], "hoist --header 'Cookie: ...' x"),
            (&["hoist", "--header=X-Team: films"], "hoist --header='X-Team: ...'"),
            (&["hoist", "--header", "Private-Token: s3cret"], "hoist --header 'Private-Token: ...'"),
            (&["hoist", "--header=s3cret", "x"], "hoist --header=... x"),
            (&["hoist", "-H", "Cookie: a=b", "x"], "hoist -H 'Cookie: ...' x"),
            (&["hoist", "-qkH", "Cookie: a=b", "x"], "hoist -qkH 'Cookie: ...' x"),
            (&["hoist", "-HCookie: a=b", "x"], "hoist -H'Cookie: ...' x"),
            (&["hoist", "-jH=Cookie: a=b", "x"], "hoist -jH='Cookie: ...' x"),
            (&["hoist", "-H", "s3cret", "-Hs3cret"], "hoist -H ... -H..."),
        ];
        for (words, expected) in cases {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            assert_eq!(format(&words), expected);
        }
    }
}
