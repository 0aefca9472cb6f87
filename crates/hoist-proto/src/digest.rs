//! Digest fields (RFC 9530): the digests that a peer states, and the algorithms that it prefers.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::field::natural;

/// `Repr-Digest`: digests of the whole representation.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// `Want-Repr-Digest`: the algorithms that a peer prefers for `Repr-Digest`.
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");
/// `Content-Digest`: digests of the content of one message.
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A digest algorithm that both sides can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `sha-256`.
    Sha256,
    /// `sha-512`.
    Sha512,
    /// SHA-1, only for checksums of tus 1.0, to detect accidental changes.
    Sha1,
    /// MD5, only for checksums of tus 1.0.
    Md5,
    /// CRC-32 as in gzip, in big-endian order, only for checksums of tus 1.0.
    Crc32,
    /// CRC-32C (Castagnoli) in big-endian order, only for checksums of tus 1.0.
    Crc32c,
}

impl Algorithm {
    /// The algorithms of the digest fields, the preferred one first.
    pub const IN_FIELDS: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Returns the algorithm's key in the digest fields (RFC 9530, the registry).
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

    /// Returns the number of octets of a digest.
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

/// A digest, computed or stated.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The octets of the digest.
    pub octets: Vec<u8>,
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({} of {} octets)", self.algorithm.key(), self.octets.len())
    }
}

/// Returns the digests in a field that can be verified. A malformed field has none; unknown algorithms are ignored.
//= IETF-DIG-08
pub fn parse(fields: &HeaderMap, name: &HeaderName) -> Vec<Digest> {
    let members = members(fields, name, |item| item.as_byte_sequence().map(<[u8]>::to_vec));
    members.into_iter().map(|(algorithm, octets)| Digest { algorithm, octets }).collect()
}

/// Returns whether a header section announces the field `digest` in the trailer section.
pub fn is_in_trailer(fields: &HeaderMap, digest: &HeaderName) -> bool {
    let lines = fields.get_all(http::header::TRAILER).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|name| name.trim().eq_ignore_ascii_case(digest.as_str()))
}

/// Returns the most preferred algorithm of a `Want-Repr-Digest` field that can be computed.
//= IETF-DIG-04
pub fn preferred(fields: &HeaderMap) -> Option<Algorithm> {
    let mut wanted = members(fields, &WANT_REPR_DIGEST, natural);
    wanted.retain(|(_, weight)| (1..=10).contains(weight));
    wanted.into_iter().rev().max_by_key(|(_, weight)| *weight).map(|(algorithm, _)| algorithm)
}

/// Writes a digest.
pub fn value(digest: &Digest) -> HeaderValue {
    let octets = sfv::ItemSerializer::new().bare_item(digest.octets.as_slice()).finish();
    HeaderValue::try_from(format!("{}={octets}", digest.algorithm.key())).expect("a key and base64")
}

/// Returns the members with known algorithms, or none if one of them is of another type.
fn members<T>(
    fields: &HeaderMap,
    name: &HeaderName,
    read: impl Fn(&BareItem) -> Option<T>,
) -> Vec<(Algorithm, T)> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    let Ok(dictionary) = Parser::new(&lines.join(&b", "[..])).parse::<Dictionary>() else {
        return Vec::new();
    };
    let mut known = Vec::new();
    for (key, entry) in dictionary {
        let Some(algorithm) = Algorithm::of_key(key.as_str()) else { continue };
        let ListEntry::Item(item) = entry else { return Vec::new() };
        let Some(value) = read(&item.bare_item) else { return Vec::new() };
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
    fn a_written_digest_reads_back() {
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
    fn the_preferred_known_algorithm_is_chosen() {
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
