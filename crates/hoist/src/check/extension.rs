//! The tus 1.0 extensions that a case needs, derived from its requests.
//!
//! A case that tests a server without an extension lists it in `lacks`. Any other case that uses an extension is
//! skipped on a server without it.

use std::collections::BTreeSet;

use super::case::{Case, ContentSpec, FieldLines, GivenUpload, RequestSpec, RequestTarget};

/// The extensions that requests can show.
pub(crate) const ALL: [&str; 8] = [
    "creation",
    "creation-with-upload",
    "creation-defer-length",
    "expiration",
    "checksum",
    "checksum-trailer",
    "termination",
    "concatenation",
];

/// The algorithms of checksums that cases use.
const ALGORITHMS: [&str; 6] = ["sha1", "sha256", "sha512", "md5", "crc32", "crc32c"];

/// Returns the extensions that a case uses.
pub(crate) fn used(case: &Case) -> BTreeSet<&'static str> {
    let mut used = BTreeSet::from(["creation"]);
    let unnamed = case.given.upload();
    for given in case.given.uploads.values().chain(&unnamed) {
        used.extend(shown_by(given.fields.keys()));
        let is_partial = has(&given.fields, "upload-concat", "partial");
        if given.length.is_none() && !given.complete {
            used.insert("creation-defer-length");
        }
        if is_partial && !is_whole(given) {
            used.insert("concatenation-unfinished");
        }
    }
    for send in case.sends() {
        used.extend(shown_by(send.fields.keys()));
        if send.trailers.keys().any(|name| name.eq_ignore_ascii_case("upload-checksum")) {
            used.extend(["checksum", "checksum-trailer"]);
        }
        let has_content = send.content.as_ref().is_some_and(|content| !content.bytes().is_empty());
        match (send.method.as_str(), send.to) {
            ("POST", RequestTarget::Target) if has_content => drop(used.insert("creation-with-upload")),
            ("DELETE", RequestTarget::Upload) => drop(used.insert("termination")),
            _ => {}
        }
    }
    let expires = |name: &String| name.eq_ignore_ascii_case("upload-expires");
    if case.expects().any(|expect| expect.fields.keys().any(expires)) {
        used.insert("expiration");
    }
    used
}

/// Returns the algorithms of the checksums that a case sends, ignoring unknown ones.
pub(crate) fn algorithms(case: &Case) -> BTreeSet<&'static str> {
    let lines = case.sends().flat_map(|send| &send.fields).filter(|(name, _)| is_checksum(name));
    let lines = lines.flat_map(|(_, lines)| lines.each());
    let trailers = case.sends().flat_map(|send| &send.trailers).filter(|(name, _)| is_checksum(name));
    let values: Vec<String> = lines.chain(trailers.map(|(_, value)| value.clone())).collect();
    let first = |value: &String| value.split(' ').next().unwrap_or_default().to_owned();
    let sent: BTreeSet<String> = values.iter().map(first).collect();
    ALGORITHMS.into_iter().filter(|name| sent.contains(*name)).collect()
}

fn is_checksum(name: &str) -> bool {
    name.eq_ignore_ascii_case("upload-checksum")
}

fn shown_by<'a>(names: impl Iterator<Item = &'a String>) -> impl Iterator<Item = &'static str> {
    names.filter_map(|name| match name.to_ascii_lowercase().as_str() {
        "upload-checksum" => Some("checksum"),
        "upload-concat" => Some("concatenation"),
        "upload-defer-length" => Some("creation-defer-length"),
        _ => None,
    })
}

fn has(fields: &std::collections::BTreeMap<String, FieldLines>, name: &str, value: &str) -> bool {
    let mut lines = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    lines.any(|(_, lines)| lines.each().iter().any(|line| line == value))
}

fn is_whole(given: &GivenUpload) -> bool {
    let bytes = given.content.as_ref().map_or(0, |content: &ContentSpec| content.bytes().len() as u64);
    given.complete || given.length == Some(bytes)
}

impl Case {
    /// Returns all requests of the case.
    pub(crate) fn sends(&self) -> impl Iterator<Item = &RequestSpec> {
        std::iter::once(&self.send).chain(self.then.iter().filter_map(|step| step.send.as_ref()))
    }

    fn expects(&self) -> impl Iterator<Item = &super::case::Expect> {
        std::iter::once(&self.expect).chain(self.then.iter().map(|step| &step.expect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(text: &str) -> Case {
        let text = format!("name = \"a\"\nproves = []\n{text}");
        toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn requests_show_the_extensions_they_use() {
        let cases: [(&str, &[&str]); 6] = [
            ("send = { method = \"POST\", length = 5 }", &["creation"]),
            (
                "send = { method = \"POST\", length = 5, content = \"01234\" }",
                &["creation", "creation-with-upload"],
            ),
            (
                "given = { content = \"x\" }\nsend = { method = \"DELETE\", to = \"upload\" }",
                &["creation", "creation-defer-length", "termination"],
            ),
            (
                "given = { content = \"x\", length = 1 }\n\
                 send = { method = \"PATCH\", to = \"upload\", trailers = { Upload-Checksum = \"sha1 x\" } }",
                &["checksum", "checksum-trailer", "creation"],
            ),
            (
                "given.uploads.a = { length = 9, fields = { Upload-Concat = \"partial\" } }\n\
                 send = { method = \"POST\", fields = { upload-concat = \"final;{a}\" } }",
                &["concatenation", "concatenation-unfinished", "creation"],
            ),
            (
                "send = { method = \"POST\", length = 5 }\nexpect = { fields = { Upload-Expires = \"{date}\" } }",
                &["creation", "expiration"],
            ),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = used(&case(text)).into_iter().collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn checksums_show_their_algorithm() {
        let text = "send = { method = \"PATCH\", fields = { Upload-Checksum = \"md5 x\", X = \"sha1 x\" } }";
        assert_eq!(algorithms(&case(text)).into_iter().collect::<Vec<_>>(), ["md5"]);
        let unknown = "send = { method = \"PATCH\", fields = { Upload-Checksum = \"md7 x\" } }";
        assert!(algorithms(&case(unknown)).is_empty());
    }
}
