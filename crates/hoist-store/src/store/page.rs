//! Pages of a group of uploads, and the positions at which they end.

use std::fmt;
use std::str::FromStr;

use super::UploadSummary;

/// Some uploads of a group, and the position after them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The uploads, in no particular order.
    pub uploads: Vec<UploadSummary>,
    /// The position from which the next page continues; `None` at the end of the group.
    pub next: Option<Position>,
}

/// A position in a group of uploads. Only the store that made it knows its meaning.
///
/// Stays valid while uploads are created, changed and removed, and after a restart of the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(String);

impl Position {
    /// The most characters of a position.
    pub const CHARS_MAX: usize = 64;

    /// Returns a position with this text: one to 64 letters, digits, `-` and `_`.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let is_plain =
            text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
        (is_plain && (1..=Self::CHARS_MAX).contains(&text.len())).then_some(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        Self::new(text).ok_or(BadPosition)
    }
}

/// A text that is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position of this listing")]
pub struct BadPosition;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_short_plain_text() {
        for text in ["0", "-7", "1m6rt34g_Z", &"9".repeat(64)] {
            assert_eq!(text.parse::<Position>().map(|position| position.to_string()).as_deref(), Ok(text));
        }
        for text in ["", " ", "a b", "a/b", "ä", "\n", &"9".repeat(65)] {
            assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text:?}");
        }
    }
}
