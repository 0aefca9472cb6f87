//! `Upload-Metadata`: keys, and values in Base64.
//!
//! The syntax is as lenient as deployed clients need it. The upload keeps the field itself unchanged.

use std::collections::HashSet;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};

use super::UPLOAD_METADATA;
use crate::base64;
use crate::refusal::Refusal;

const OCTETS_MAX: usize = 16 * 1024;

/// Keys and values in their order. A value is any sequence of octets.
pub type Metadata = Vec<(String, Vec<u8>)>;

/// Reads the field.
///
/// # Errors
/// Returns a refusal if the field is too long, if a key is missing or repeated, or if a value is not Base64.
//= TUS1-MET-03, TUS1-MET-04, TUS1-MET-07
pub fn read(value: &[u8]) -> Result<Metadata, Refusal> {
    let wrong = |wrong| Err(Refusal::field("Upload-Metadata", wrong));
    if value.len() > OCTETS_MAX {
        return wrong("has more than 16384 octets");
    }
    let mut metadata = Metadata::new();
    let mut known = HashSet::new();
    if value.trim_ascii().is_empty() {
        return Ok(metadata);
    }
    for pair in value.split(|octet| *octet == b',') {
        let mut words = pair.trim_ascii().split(|octet| *octet == b' ').filter(|word| !word.is_empty());
        let (Some(key), encoded, None) = (words.next(), words.next(), words.next()) else {
            return wrong("must be pairs of a key and a value in Base64, separated by commas");
        };
        // A space before the first key means that the key is missing.
        if metadata.is_empty() && pair.first() == Some(&b' ') {
            return wrong("has an empty key");
        }
        let Ok(key) = std::str::from_utf8(key) else { return wrong("has a key that is not text") };
        let Some(octets) = base64::decode(encoded.unwrap_or_default()) else {
            return wrong("has a value that is not valid Base64");
        };
        if !known.insert(key) {
            return wrong("has a repeated key");
        }
        metadata.push((key.to_owned(), octets));
    }
    Ok(metadata)
}

/// Writes metadata as the value of the field. Returns `None` if a key is no key, or if the value is too long.
pub fn value(metadata: &Metadata) -> Option<HeaderValue> {
    let is_key =
        |key: &str| !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_graphic() && octet != b',');
    let mut pairs = Vec::new();
    for (key, octets) in metadata {
        if !is_key(key) {
            return None;
        }
        let separator = if octets.is_empty() { "" } else { " " };
        pairs.push(format!("{key}{separator}{}", base64::encode(octets)));
    }
    let text = pairs.join(",");
    HeaderValue::try_from(text).ok().filter(|value| value.len() <= OCTETS_MAX)
}

/// Writes the metadata of a representation, with the media type and the file name in them as fields of their own, in place
/// of those that `fields` has. `value` is the field as it was received.
//= TUS1-MET-06
pub fn describe(fields: &mut HeaderMap, metadata: &Metadata, value: HeaderValue) {
    for (name, value) in [
        (header::CONTENT_TYPE, media_type(metadata)),
        (header::CONTENT_DISPOSITION, disposition(metadata)),
        (UPLOAD_METADATA, Some(value).filter(|value| !value.is_empty())),
    ] {
        match value {
            Some(value) => drop(fields.insert(name, value)),
            None => drop(fields.remove(name)),
        }
    }
}

/// Returns the media type of the representation, if the metadata contain one that is valid in a header field.
//= TUS1-MET-06
pub fn media_type(metadata: &Metadata) -> Option<HeaderValue> {
    let text = first(metadata, &["filetype", "type"])?;
    let is_type = text.split_once('/').is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
    HeaderValue::from_str(text).ok().filter(|_| is_type)
}

/// Returns the file name as the value of `Content-Disposition`.
//= TUS1-MET-05, TUS1-MET-06
pub fn disposition(metadata: &Metadata) -> Option<HeaderValue> {
    let name = first(metadata, &["filename", "fileName", "name"])?;
    let mut text = String::from("attachment; filename*=UTF-8''");
    for octet in name.bytes() {
        if octet.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            let _ = write!(text, "%{octet:02X}");
        }
    }
    HeaderValue::try_from(text).ok()
}

/// Returns the path of the file, with its name, relative to the directory that the user chose. Clients may put a slash
/// before it, as Uppy does for directories that are dropped on it.
pub fn relative_path(metadata: &Metadata) -> Option<&str> {
    let path = first(metadata, &["relativePath"])?;
    Some(path.strip_prefix('/').unwrap_or(path))
}

/// Returns the first non-empty value of some keys. Some clients send `null` for a value that they do not have.
fn first<'a>(metadata: &'a Metadata, keys: &[&str]) -> Option<&'a str> {
    let pair = |key: &&str| metadata.iter().find(|(known, _)| known == *key);
    let text = |(_, octets): &'a (String, Vec<u8>)| std::str::from_utf8(octets).ok();
    keys.iter().filter_map(pair).filter_map(text).find(|text| !matches!(*text, "" | "null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(value: &str) -> Option<Vec<(String, String)>> {
        let metadata = read(value.as_bytes()).ok()?;
        let text = |(key, octets): (String, Vec<u8>)| (key, String::from_utf8_lossy(&octets).into_owned());
        Some(metadata.into_iter().map(text).collect())
    }

    // proves: TUS1-MET-03
    #[test]
    fn the_syntax_of_deployed_clients_is_read() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            (
                "filename d29ybGRfZG9taW5hdGlvbl9wbGFuLnBkZg==,is_confidential",
                &[("filename", "world_domination_plan.pdf"), ("is_confidential", "")],
            ),
            ("a,b Zm9v", &[("a", ""), ("b", "foo")]),
            ("empty ,b Zm9v", &[("empty", ""), ("b", "foo")]),
            ("fileName eA==, filetype eQ==", &[("fileName", "x"), ("filetype", "y")]),
            ("a Zm9vYg", &[("a", "foob")]),
            ("name w6Q=", &[("name", "\u{e4}")]),
            ("", &[]),
            (" ", &[]),
        ];
        for (value, expected) in cases {
            let expected = expected.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
            assert_eq!(pairs(value), Some(expected.collect()), "{value}");
        }
    }

    // proves: TUS1-MET-04, TUS1-MET-07
    #[test]
    fn malformed_metadata_are_refused() {
        for value in
            [",a YQ==", " a YQ==", "a YQ==,a Yg==", "a !!", "a YQ== Yg==", "a YQ==,", "a Y", "a YQ=x"]
        {
            assert_eq!(pairs(value), None, "{value}");
        }
        assert!(read(format!("a {}", "YWFh".repeat(4096)).as_bytes()).is_err());
        assert!(read(b"\xff YQ==").is_err());
    }

    // proves: TUS1-MET-05, TUS1-MET-06
    #[test]
    fn names_and_media_types_are_encoded_in_header_fields_and_cannot_inject_others() {
        let metadata = |key: &str, text: &str| vec![(key.to_owned(), text.as_bytes().to_vec())];
        let named = |text| disposition(&metadata("filename", text)).expect("a name");
        assert_eq!(named("a b.txt"), "attachment; filename*=UTF-8''a%20b.txt");
        assert_eq!(
            named("../x\r\nSet-Cookie: y"),
            "attachment; filename*=UTF-8''..%2Fx%0D%0ASet-Cookie%3A%20y"
        );
        assert_eq!(disposition(&metadata("fileName", "null")), None);
        assert_eq!(media_type(&metadata("filetype", "image/png")).expect("a type"), "image/png");
        for text in ["", "null", "image", "/png", "image/", "a/b\r\nc"] {
            assert_eq!(media_type(&metadata("filetype", text)), None, "{text:?}");
        }
        let both = [metadata("name", "second"), metadata("filename", "first")].concat();
        assert_eq!(disposition(&both).expect("a name"), "attachment; filename*=UTF-8''first");
    }

    // proves: TUS1-MET-06
    #[test]
    fn written_metadata_read_back_and_replace_what_was_there() {
        let pair = |key: &str, text: &str| (key.to_owned(), text.as_bytes().to_vec());
        let metadata = vec![
            pair("filename", "a b"),
            pair("filetype", "image/png"),
            pair("empty", ""),
            pair("x", "\u{e9}"),
        ];
        let written = value(&metadata).expect("good keys");
        assert_eq!(written, "filename YSBi,filetype aW1hZ2UvcG5n,empty,x w6k=");
        assert_eq!(read(written.as_bytes()), Ok(metadata.clone()));
        for key in ["", "a b", "a,b", "\u{e9}", "a\n"] {
            assert_eq!(value(&vec![pair(key, "x")]), None, "{key:?}");
        }
        assert_eq!(value(&vec![pair("x", &"y".repeat(20_000))]), None);

        let mut fields = HeaderMap::new();
        describe(&mut fields, &metadata, written);
        assert_eq!(fields[header::CONTENT_TYPE], "image/png");
        assert_eq!(fields[header::CONTENT_DISPOSITION], "attachment; filename*=UTF-8''a%20b");
        describe(&mut fields, &Vec::new(), HeaderValue::from_static(""));
        assert!(fields.is_empty(), "{fields:?}");
    }

    #[test]
    fn the_relative_path_of_uppy_is_read() {
        for (value, expected) in [
            ("relativePath ZmlsbXMvb2xkL2E=", Some("films/old/a")),
            ("filename YQ==,relativePath L2ZpbG1zL2E=", Some("films/a")),
            ("relativePath bnVsbA==", None),
            ("relativePath", None),
            ("relativePath /w==", None),
            ("filename YQ==", None),
        ] {
            let metadata = read(value.as_bytes()).expect("metadata");
            assert_eq!(relative_path(&metadata), expected, "{value}");
        }
    }
}
