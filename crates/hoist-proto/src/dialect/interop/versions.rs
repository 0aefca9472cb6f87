//! Sets of interop versions: those that an operator lets a server accept.

use std::fmt;
use std::str::FromStr;

use super::Interop;

/// The smallest number of the IETF dialect. Smaller numbers belong to the Upload-Token drafts.
const OLDEST: u64 = match Interop::OLDEST.number() {
    Some(number) => number,
    None => 0,
};

const LARGEST: u64 = 63;

/// A set of interop versions. Numbers newer than this release are treated as the newest known version, under their own
/// number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Versions(u64);

impl Versions {
    /// All versions that this release knows.
    pub const KNOWN: Self = {
        let (mut set, mut index) = (0, 0);
        while index < Interop::ALL.len() {
            if let Some(number) = Interop::ALL[index].number() {
                set |= 1 << number;
            }
            index += 1;
        }
        Self(set)
    };

    /// Returns whether the set contains a number.
    pub fn contains(self, number: u64) -> bool {
        number <= LARGEST && self.0 & (1 << number) != 0
    }

    /// Returns the version with a number, if the set contains it.
    pub fn find(self, number: u64) -> Option<Interop> {
        self.contains(number).then(|| Interop::of_number(number).unwrap_or(Interop::Later(number)))
    }

    /// Returns the newest version in the set.
    pub fn newest(self) -> Interop {
        self.numbers().last().and_then(|number| self.find(number)).unwrap_or(Interop::Rfc)
    }

    /// Returns the numbers in the set, smallest first.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        (OLDEST..=LARGEST).filter(move |number| self.contains(*number))
    }
}

impl Default for Versions {
    fn default() -> Self {
        Self::KNOWN
    }
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the syntax that [`FromStr`] reads, with ranges as long as possible: `3-6,10`.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for first in self.numbers().filter(|number| !self.contains(number - 1)) {
            let last = (first..=LARGEST).take_while(|number| self.contains(*number)).last().unwrap_or(first);
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

/// An error for a text that is not a list of interop versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a list of interop versions from {OLDEST} to {LARGEST}; write it like {} or 3,5,8-10",
    Interop::RANGE
)]
pub struct NotVersions;

impl FromStr for Versions {
    type Err = NotVersions;

    fn from_str(text: &str) -> Result<Self, NotVersions> {
        let number = |text: &str| {
            let digits = text.trim();
            let number = digits.parse().ok().filter(|number| (OLDEST..=LARGEST).contains(number));
            number.filter(|_| !digits.starts_with('+')).ok_or(NotVersions)
        };
        let mut set = 0;
        for range in text.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(NotVersions);
            }
            set |= (first..=last).fold(0, |set, number| set | 1 << number);
        }
        Ok(Self(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: IETF-VER-10
    #[test]
    fn a_set_is_parsed_and_displayed() {
        let table = [
            ("3-10", "3-10"),
            ("10", "10"),
            (" 3 - 6 , 10", "3-6,10"),
            ("8,3,4,9", "3-4,8-9"),
            ("3-63", "3-63"),
            ("3-5,4-8,8", "3-8"),
        ];
        for (text, expected) in table {
            let set: Versions = text.parse().expect(text);
            assert_eq!(set.to_string(), expected);
            assert_eq!(expected.parse(), Ok(set));
        }
        for wrong in ["", "2", "2-5", "64", "3-64", "9-3", "3-", "-9", "3,,4", "three", "3..9", "+3"] {
            assert_eq!(wrong.parse::<Versions>(), Err(NotVersions), "{wrong:?}");
        }
        assert_eq!(Versions::default().to_string(), "3-10");
        assert!(Versions::KNOWN.numbers().eq(Interop::numbers()));
    }

    // proves: IETF-VER-10
    #[test]
    fn a_number_newer_than_this_release_is_the_newest_version_under_its_own_number() {
        let set: Versions = "6-8,11".parse().expect("a set");
        assert_eq!(set.find(11), Some(Interop::Later(11)));
        assert_eq!((set.newest(), set.newest().number()), (Interop::Later(11), Some(11)));
        assert_eq!(set.find(7), Some(Interop::V7));
        for number in [0, 2, 3, 9, 10, 12, 63, 64, 65, 999_999_999_999_999, u64::MAX] {
            assert_eq!(set.find(number), None, "{number}");
        }
    }
}
