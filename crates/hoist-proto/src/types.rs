//! The protocol's quantities and names as types: offsets, lengths, ids, tokens, fences, time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The largest structured-field integer (RFC 9651, Integers), and so the largest offset or length that can be
/// announced.
pub const LARGEST_INTEGER: u64 = 999_999_999_999_999;

/// The bytes that an upload holds. Never decreases over the life of an upload (upload-token: TOK-OFF-03).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// The offset of an empty upload.
    pub const ZERO: Self = Self(0);

    /// Returns the offset after `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes before this offset.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the offset after `bytes` more bytes, or `None` on overflow.
    pub fn advance(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Returns the number of bytes between an earlier offset and this one, or `None` if `earlier` is later.
    pub fn bytes_since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes of a complete representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length(u64);

impl Length {
    /// Returns the length of a representation of `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns whether an upload at `offset` holds the whole representation.
    pub fn is_reached(self, offset: Offset) -> bool {
        offset.0 >= self.0
    }

    /// Returns the number of bytes missing after `offset`; zero once the length is reached.
    pub fn bytes_left(self, offset: Offset) -> u64 {
        self.0.saturating_sub(offset.0)
    }
}

impl From<Offset> for Length {
    fn from(end: Offset) -> Self {
        Self(end.0)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An offset whose bytes are stored as the configured durability level demands.
///
/// Only a store creates one ([`Durable::attest`]), and only this type can be encoded as the `Upload-Offset` of a
/// response, so that a response never acknowledges bytes that are not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Durable(Offset);

impl Durable {
    /// The offset of an empty upload.
    pub const ZERO: Self = Self(Offset::ZERO);

    /// States that every byte before `offset` is durable. Only for stores; clippy rejects it elsewhere.
    pub const fn attest(offset: Offset) -> Self {
        Self(offset)
    }

    /// Returns the offset.
    pub const fn offset(self) -> Offset {
        self.0
    }

    /// Returns the end of several durable contents that follow each other, or `None` on overflow.
    pub fn joined(contents: impl IntoIterator<Item = Self>) -> Option<Self> {
        contents.into_iter().try_fold(Self::ZERO, |end, content| Some(Self(end.0.advance(content.0.get())?)))
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an upload within a server: 128 bits, written as 26 lower-case characters.
///
/// The alphabet is Crockford's base 32, which has no special character of file systems or URIs. Each id has one
/// spelling, and no other text parses, so that an id can be used as a file name unchanged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId([u8; 16]);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl UploadId {
    /// The number of characters of the written form.
    pub const CHARS: usize = 26;

    /// Returns the id of these bits, which the caller has made unguessable.
    pub const fn from_bits(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub const fn bits(self) -> [u8; 16] {
        self.0
    }

    /// Returns the first eight characters, for logs: enough to find an upload, but not to address it.
    pub fn short(self) -> ShortId {
        ShortId(self)
    }

    fn chars(self) -> [u8; Self::CHARS] {
        let mut rest = u128::from_be_bytes(self.0);
        let mut chars = [0; Self::CHARS];
        for place in chars.iter_mut().rev() {
            *place = ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        chars
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.chars()).expect("the alphabet is ASCII"))
    }
}

/// Shows the short form, because the URI of an upload may be a capability.
impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({})", self.short())
    }
}

impl FromStr for UploadId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        if text.len() != Self::CHARS {
            return Err(NotAnId);
        }
        let mut bits = 0_u128;
        for (place, char) in text.bytes().enumerate() {
            let value = ALPHABET.iter().position(|&known| known == char).ok_or(NotAnId)? as u128;
            // 26 characters hold 130 bits. The two surplus bits must be zero, or two texts would name one id.
            if place == 0 && value > 7 {
                return Err(NotAnId);
            }
            bits = bits << 5 | value;
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

/// The text is not an [`UploadId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an upload id: it is {} characters of 0-9 and a-z without i, l, o and u", UploadId::CHARS)]
pub struct NotAnId;

/// The form of an [`UploadId`] for logs.
#[derive(Clone, Copy)]
pub struct ShortId(UploadId);

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0.chars()[..8]).expect("the alphabet is ASCII"))
    }
}

/// A client's own name for an upload: 1 to 256 secret octets.
///
/// Two spellings of the same octets are the same token. `Debug` shows only the length, and comparison takes constant
/// time.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

impl Token {
    /// The maximum number of octets (upload-token: TOK-TOKEN-01).
    pub const OCTETS_MAX: usize = 256;

    /// Returns the token of these octets, or `None` if there are none or too many.
    pub fn new(octets: impl Into<Box<[u8]>>) -> Option<Self> {
        let octets = octets.into();
        (1..=Self::OCTETS_MAX).contains(&octets.len()).then_some(Self(octets))
    }

    /// Returns the secret octets, which must not be logged or stored.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number of octets.
    pub fn octets(&self) -> usize {
        self.0.len()
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} octets)", self.0.len())
    }
}

/// The number of a part, from 0 to 9999 (upload-token: TOK-IDX-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

impl PartNumber {
    /// The first part.
    pub const FIRST: Self = Self(0);
    /// The largest number.
    pub const MAX: u16 = 9999;

    /// Returns the part number, or `None` if it is out of range.
    pub fn new(number: u64) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number <= Self::MAX).map(Self)
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Returns all part numbers from the first to this one.
    pub fn up_to(self) -> impl Iterator<Item = Self> {
        (0..=self.0).map(Self)
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of the right to change an upload. A store rejects writes with an older fence than the newest it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// Returns the fence of an epoch that its issuer has not used before.
    pub const fn new(epoch: u64) -> Self {
        Self(epoch)
    }

    /// Returns the epoch.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The authenticated sender of a request: an opaque, stable name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Returns the principal of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// A moment in milliseconds since the Unix epoch. This crate reads no clock; callers pass the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Returns the moment this many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Returns the moment `after` later, or the last representable one.
    pub fn plus(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Returns the time to the second in UTC, as `2026-11-22T09:30:00Z` (RFC 3339).
    pub fn rfc3339(self) -> String {
        // Howard Hinnant's `civil_from_days`, which counts days from 1 March of the year 0.
        let seconds = self.0 / 1000;
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }

    /// Returns the time from `now` to this moment; zero if it has passed.
    pub fn until(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        for bits in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            let id = UploadId::from_bits(bits);
            let text = id.to_string();
            assert_eq!(text.len(), UploadId::CHARS);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(
                text.to_uppercase().parse::<UploadId>().is_ok(),
                text.bytes().all(|c| c.is_ascii_digit())
            );
        }
        let not_ids = [
            "",
            ".",
            "..",
            "zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "../../../../../../etc/pass",
            "0000000000000000000000000o",
            "000000000000000000000000000",
        ];
        for text in not_ids {
            assert_eq!(text.parse::<UploadId>(), Err(NotAnId), "{text}");
        }
        assert_eq!("7zzzzzzzzzzzzzzzzzzzzzzzzz".parse(), Ok(UploadId::from_bits([0xff; 16])));
    }

    #[test]
    fn debug_output_hides_secrets() {
        let token = Token::new(*b"correct horse").expect("in range");
        assert_eq!(format!("{token:?}"), "Token(13 octets)");
        let id = UploadId::from_bits(*b"0123456789abcdef");
        assert!(!format!("{id:?}").contains(&id.to_string()));
        assert!(
            Token::new(*b"").is_none()
                && Token::new(vec![0; 257]).is_none()
                && Token::new(vec![0; 256]).is_some()
        );
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(Offset::new(u64::MAX).advance(1), None);
        assert_eq!(Offset::new(3).bytes_since(Offset::new(4)), None);
        assert_eq!(Length::new(3).bytes_left(Offset::new(5)), 0);
        assert!(Length::new(3).is_reached(Offset::new(3)) && !Length::new(3).is_reached(Offset::new(2)));
        assert_eq!(Timestamp::from_millis(5).until(Timestamp::from_millis(7)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(u64::MAX).plus(Duration::from_secs(1)).millis(), u64::MAX);
    }
}
