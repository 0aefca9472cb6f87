//! File names on terminals and in logs.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// A file name or another word, displayed as `ls` does: as it is if it has only characters that are safe, and quoted for a
/// shell otherwise.
///
/// Control characters, characters that change the direction of text, and bytes that are not UTF-8 are escaped, so a name
/// can neither break a line nor control a terminal. A shell reads the displayed text as one word, equal to the name.
///
/// ```
/// use hoist_client::Quoted;
///
/// assert_eq!(Quoted::new("film.mkv").to_string(), "film.mkv");
/// assert_eq!(Quoted::new("a film.mkv").to_string(), "'a film.mkv'");
/// assert_eq!(Quoted::new("two\nlines").to_string(), r"$'two\nlines'");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a OsStr);

impl<'a> Quoted<'a> {
    /// Displays a name.
    pub fn new<T: AsRef<OsStr> + ?Sized>(name: &'a T) -> Self {
        Self(name.as_ref())
    }
}

impl<'a> From<&'a Path> for Quoted<'a> {
    fn from(path: &'a Path) -> Self {
        Self(path.as_os_str())
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // On unix these are the bytes of the name.
        let octets = self.0.as_encoded_bytes();
        match self.0.to_str() {
            Some(text) if !text.chars().any(is_unsafe) => plain_or_quoted(text, f),
            _ => escaped(octets, f),
        }
    }
}

fn plain_or_quoted(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_plain = |char: char| {
        char.is_ascii_alphanumeric()
            || "_@%+=:,./-".contains(char)
            || (!char.is_ascii() && !char.is_whitespace())
    };
    if !text.is_empty() && text.chars().all(is_plain) {
        f.write_str(text)
    } else {
        write!(f, "'{}'", text.replace('\'', r"'\''"))
    }
}

/// Returns whether a character may control a terminal or reorder the text around it.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Quotes a word as `$'...'`.
fn escaped(octets: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("$'")?;
    for chunk in octets.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\'' | '\\' => write!(f, "\\{char}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                char if is_unsafe(char) => octal(char.encode_utf8(&mut [0; 4]).as_bytes(), f)?,
                char => write!(f, "{char}")?,
            }
        }
        octal(chunk.invalid(), f)?;
    }
    f.write_str("'")
}

fn octal(octets: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, "\\{octet:03o}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_only_where_a_shell_or_a_terminal_needs_it() {
        let cases = [
            ("film.mkv", "film.mkv"),
            ("/a/b-c_d@%+=:,.", "/a/b-c_d@%+=:,."),
            ("\u{fc}ber.mkv", "\u{fc}ber.mkv"),
            ("a film", "'a film'"),
            ("it's", r"'it'\''s'"),
            ("*", "'*'"),
            ("", "''"),
            ("a\nb\tc\r", r"$'a\nb\tc\r'"),
            ("\x1b[2Jit's", r"$'\033[2Jit\'s'"),
            ("c1\u{9b}", r"$'c1\302\233'"),
            ("\u{202e}gnp.exe", r"$'\342\200\256gnp.exe'"),
            ("a\u{a0}b", "'a\u{a0}b'"),
        ];
        for (name, expected) in cases {
            assert_eq!(Quoted::new(name).to_string(), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_are_escaped() {
        use std::os::unix::ffi::OsStrExt as _;

        assert_eq!(Quoted::new(OsStr::from_bytes(b"caf\xe9 it's\\")).to_string(), r"$'caf\351 it\'s\\'");
    }
}
