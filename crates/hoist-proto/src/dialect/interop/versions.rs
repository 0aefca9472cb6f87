//! The interop versions a server accepts.
//!
//! Owns the set an operator may choose; the differences between versions are [`interop`](super)'s.

use std::fmt;
use std::str::FromStr;

use super::Interop;

/// The oldest number of this family. Those below it belong to the Upload-Token drafts.
const OLDEST: u64 = 3;

/// The largest number a set can hold.
const LARGEST: u64 = 63;

/// A set of interop versions.
///
/// It may hold numbers that came after this release. Their requests are read and answered as the newest version known, under
/// their own number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Versions(u64);

impl Versions {
    /// All that this release knows.
    pub const KNOWN: Self = Self((1 << 11) - (1 << OLDEST));

    /// Returns `true` if the version number is accepted.
    pub fn contains(self, number: u64) -> bool {
        number <= LARGEST && self.0 & (1 << number) != 0
    }

    /// The iteration a number stands for, if it is accepted.
    pub fn find(self, number: u64) -> Option<Interop> {
        self.contains(number).then(|| Interop::of_number(number).unwrap_or(Interop::Later(number)))
    }

    /// The newest iteration in the set.
    pub fn newest(self) -> Interop {
        self.numbers().last().and_then(|number| self.find(number)).unwrap_or(Interop::Rfc)
    }

    /// The numbers in the set, smallest first.
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

/// Written as it is read, with stretches as long as they can be: `3-6,10`.
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

/// The text is not a list of interop versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of interop versions from 3 to 63; write it like 3-10 or 3,5,8-10")]
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
        for stretch in text.split(',') {
            let (first, last) = stretch.split_once('-').unwrap_or((stretch, stretch));
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
    fn a_set_is_read_and_written() {
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
        let known = Interop::ALL.into_iter().filter_map(Interop::number);
        assert!(Versions::KNOWN.numbers().eq(known));
    }

    // proves: IETF-VER-10
    #[test]
    fn a_number_after_this_release_is_the_newest_version_under_its_own_name() {
        let set: Versions = "6-8,11".parse().expect("a set");
        assert_eq!(set.find(11), Some(Interop::Later(11)));
        assert_eq!((set.newest(), set.newest().number()), (Interop::Later(11), Some(11)));
        assert_eq!(set.find(7), Some(Interop::V7));
        for number in [0, 2, 3, 9, 10, 12, 63, 64, 65, 999_999_999_999_999, u64::MAX] {
            assert_eq!(set.find(number), None, "{number}");
        }
    }
}
