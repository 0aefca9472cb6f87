//! `Upload-Checksum`: the digest of the content of one request, in the header or the trailer section.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::base64;
use crate::digest::{Algorithm, Digest};
use crate::refusal::Refusal;

/// `Upload-Checksum`: the name of a hash function and the digest in Base64.
pub const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");

/// The hash functions and their names, in order of preference.
const NAMES: [(Algorithm, &str); 6] = [
    (Algorithm::Sha1, "sha1"),
    (Algorithm::Sha256, "sha256"),
    (Algorithm::Sha512, "sha512"),
    (Algorithm::Md5, "md5"),
    (Algorithm::Crc32, "crc32"),
    (Algorithm::Crc32c, "crc32c"),
];

/// The hash functions, in order of preference.
pub const ALGORITHMS: [Algorithm; 6] = {
    let [(a, _), (b, _), (c, _), (d, _), (e, _), (f, _)] = NAMES;
    [a, b, c, d, e, f]
};

/// Returns the names of all hash functions, for `Tus-Checksum-Algorithm`.
//= TUS1-CHK-04
pub(super) fn names() -> HeaderValue {
    let names = NAMES.map(|(_, name)| name).join(",");
    HeaderValue::try_from(names).expect("names are ASCII")
}

pub(super) fn name(algorithm: Algorithm) -> &'static str {
    NAMES.into_iter().find(|(known, _)| *known == algorithm).map_or("", |(_, name)| name)
}

/// Reads the checksum in a header or trailer section.
///
/// # Errors
/// Returns a refusal if the checksum cannot be compared: there are two, it is malformed, or the hash function is unknown.
//= TUS1-CHK-02, TUS1-CHK-05
pub fn parse(fields: &HeaderMap) -> Result<Option<Digest>, Refusal> {
    let wrong = |wrong| Err(Refusal::field("Upload-Checksum", wrong));
    let mut lines = fields.get_all(&UPLOAD_CHECKSUM).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return wrong("must be a single line");
    }
    let text = line.as_bytes().trim_ascii();
    let Some(space) = text.iter().position(|octet| *octet == b' ') else {
        return wrong("must be the name of a hash function, a space, and a digest in Base64");
    };
    let (name, encoded) = (&text[..space], text[space..].trim_ascii());
    let Some((algorithm, _)) = NAMES.into_iter().find(|(_, known)| known.as_bytes() == name) else {
        return wrong("names an unknown hash function: use sha1, sha256, sha512, md5, crc32 or crc32c");
    };
    match base64::decode(encoded) {
        Some(octets) if octets.len() == algorithm.octets() => Ok(Some(Digest { algorithm, octets })),
        Some(_) => wrong("has a digest of the wrong length"),
        None => wrong("has a digest that is not valid Base64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::is_in_trailer;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (UPLOAD_CHECKSUM, HeaderValue::from_str(line).expect("a field value"));
        lines.iter().map(line).collect()
    }

    // proves: TUS1-CHK-04, TUS1-CHK-05
    #[test]
    fn checksums_are_read_or_refused() {
        let known = [
            ("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", Algorithm::Sha1),
            ("md5 XrY7u+Ae7tCTyyK7j1rNww==", Algorithm::Md5),
            ("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", Algorithm::Sha256),
            ("crc32 DUoRhQ==", Algorithm::Crc32),
            ("crc32c yZRlqg==", Algorithm::Crc32c),
            ("sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0", Algorithm::Sha1),
        ];
        for (line, algorithm) in known {
            let digest = parse(&fields(&[line])).expect("well-formed").expect("there");
            assert_eq!(digest.algorithm, algorithm, "{line}");
        }
        assert_eq!(parse(&HeaderMap::new()), Ok(None));
        for line in [
            "",
            "sha1",
            "sha1 ",
            "sha1 !!!!",
            "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            "sha1 Kq5s",
            "sha3 AAAA",
            "crc32 DUoRhQAA",
        ] {
            assert!(parse(&fields(&[line])).is_err(), "{line}");
        }
        assert!(parse(&fields(&["crc32 DUoRhQ==", "crc32 DUoRhQ=="])).is_err());
        assert_eq!(names(), "sha1,sha256,sha512,md5,crc32,crc32c");
    }

    // proves: TUS1-CHK-07
    #[test]
    fn a_checksum_in_the_trailer_is_announced_by_name() {
        for (line, expected) in
            [("Upload-Checksum", true), ("x, upload-checksum ", true), ("upload-checksums", false)]
        {
            let fields = [(http::header::TRAILER, HeaderValue::from_static(line))].into_iter().collect();
            assert_eq!(is_in_trailer(&fields, &UPLOAD_CHECKSUM), expected, "{line}");
        }
        assert!(!is_in_trailer(&HeaderMap::new(), &UPLOAD_CHECKSUM));
    }
}
