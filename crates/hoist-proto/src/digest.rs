//! Digest fields (RFC 9530): what a peer says its content hashes to, and which hashes it would like to be told.
//!
//! Owns their syntax and their choice. Hashing itself is not this crate's: it needs the content.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

/// `Repr-Digest`: of the whole representation.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// `Want-Repr-Digest`: which of those a peer would like.
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
/// `Content-Digest`: of the content of one message.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A hash function both sides can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `sha-256`.
    Sha256,
    /// `sha-512`.
    Sha512,
    /// SHA-1, for checksums of tus 1.0 alone: it protects against accidents.
    Sha1,
    /// MD5, likewise.
    Md5,
    /// CRC-32 as in gzip, its four octets the highest first, likewise.
    Crc32,
    /// CRC-32C (Castagnoli), likewise.
    Crc32c,
}

impl Algorithm {
    /// Those of the digest fields, the preferred first.
    pub const IN_FIELDS: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its key in the digest fields. Those that are not offered there have one all the same (RFC 9530, the registry).
    pub const fn key(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
            Self::Sha1 => "sha",
            Self::Md5 => "md5",
            Self::Crc32 => "crc32",
            Self::Crc32c => "crc32c",
        }
    }

    /// How many octets its value has.
    pub const fn octets(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Sha1 => 20,
            Self::Md5 => 16,
            Self::Crc32 | Self::Crc32c => 4,
        }
    }

    fn of_key(key: &str) -> Option<Self> {
        Self::IN_FIELDS.into_iter().find(|algorithm| algorithm.key() == key)
    }
}

/// What some bytes hash to, or are said to.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// By which function.
    pub algorithm: Algorithm,
    /// The value.
    pub octets: Vec<u8>,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} of {} octets)", self.algorithm.key(), self.octets.len())
    }
}

/// The digests a field says that can be checked. A field that does not parse says none; an unknown function is passed over.
//= IETF-DIG-08
pub fn parse(fields: &HeaderMap, name: &HeaderName) -> Vec<Digest> {
    let octets = |item| match item {
        BareItem::ByteSequence(octets) => Some(octets),
        _ => None,
    };
    members(fields, name, octets)
        .into_iter()
        .map(|(algorithm, octets)| Digest { algorithm, octets })
        .collect()
}

/// Whether a header section promises a `Content-Digest` behind the content.
pub fn is_in_trailer(fields: &HeaderMap) -> bool {
    let lines = fields.get_all(http::header::TRAILER).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .any(|name| name.trim().eq_ignore_ascii_case(CONTENT_DIGEST.as_str()))
}

/// The function a `Want-Repr-Digest` field likes best among those that can be computed.
//= IETF-DIG-04
pub fn preferred(fields: &HeaderMap) -> Option<Algorithm> {
    let weight = |item| match item {
        BareItem::Integer(weight) => u64::try_from(i64::from(weight)).ok(),
        _ => None,
    };
    let mut wanted = members(fields, &WANT_REPR_DIGEST, weight);
    wanted.retain(|(_, weight)| (1..=10).contains(weight));
    wanted.into_iter().rev().max_by_key(|(_, weight)| *weight).map(|(algorithm, _)| algorithm)
}

/// A digest as the value of a field.
pub fn value(digest: &Digest) -> HeaderValue {
    let octets = sfv::ItemSerializer::new().bare_item(digest.octets.as_slice()).finish();
    HeaderValue::try_from(format!("{}={octets}", digest.algorithm.key())).expect("a key and base64")
}

/// The members whose function is known. One of another type spoils the whole field.
fn members<T>(
    fields: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(BareItem) -> Option<T>,
) -> Vec<(Algorithm, T)> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let Ok(dictionary) = Parser::new(&lines.join(&b", "[..])).parse::<Dictionary>() else {
        return Vec::new();
    };
    let mut known = Vec::new();
    for (key, entry) in dictionary {
        let Some(algorithm) = Algorithm::of_key(key.as_str()) else { continue };
        let ListEntry::Item(item) = entry else { return Vec::new() };
        let Some(value) = read(item.bare_item) else { return Vec::new() };
        known.push((algorithm, value));
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), HeaderValue::from_str(line).expect("a field value"))).collect()
    }

    // proves: IETF-DIG-08
    #[test]
    fn digests_read_as_they_are_written() {
        let hello = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
        let read = parse(&fields(&REPR_DIGEST, &[hello]), &REPR_DIGEST);
        assert_eq!(read.len(), 1);
        assert_eq!(
            (read[0].algorithm, &read[0].octets[..4]),
            (Algorithm::Sha256, &[0x2c, 0xf2, 0x4d, 0xba][..])
        );
        assert_eq!(value(&read[0]), hello);
        for (lines, count) in [
            (&["md5=:AAAA:"][..], 0),
            (&["md5=:AAAA:, sha-512=:AAAA:"], 1),
            (&["sha-512=:AAAA:", "sha-256=:AAAA:"], 2),
            (&["sha-256=5"], 0),
            (&["sha-256=:AAAA:, sha-512=(1 2)"], 0),
            (&["sha-256"], 0),
            (&["nonsense,"], 0),
            (&[""], 0),
            (&[], 0),
        ] {
            assert_eq!(parse(&fields(&REPR_DIGEST, lines), &REPR_DIGEST).len(), count, "{lines:?}");
        }
    }

    // proves: IETF-DIG-04
    #[test]
    fn the_heaviest_wish_that_can_be_met_is_met() {
        for (line, expected) in [
            ("sha-256=10", Some(Algorithm::Sha256)),
            ("sha-256=3, sha-512=7, md5=10", Some(Algorithm::Sha512)),
            ("sha-512=5, sha-256=5", Some(Algorithm::Sha512)),
            ("sha-256=0, sha-512=0", None),
            ("sha-256=11", None),
            ("md5=10", None),
            ("sha-256=?1", None),
        ] {
            assert_eq!(preferred(&fields(&WANT_REPR_DIGEST, &[line])), expected, "{line}");
        }
    }
}
