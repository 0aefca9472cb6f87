//! The JSON of tusd's hooks, field for field, which receivers in the wild read.
//!
//! Owns the names of the hooks and the view of an upload in this format. Hooks send it when they ask, and the outbox when it
//! delivers.

use std::path::Path;

use hoist_proto::dialect::tus1::{UPLOAD_CONCAT, UPLOAD_METADATA, metadata};
use hoist_proto::types::Length;
use hoist_proto::upload::{Composition, Origin, Upload};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use crate::filename;
use crate::request_facts::RequestFacts;

/// An upload as an event shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventUpload<'a> {
    pub(crate) upload: &'a Upload,
    /// The path of the upload below the endpoint; empty before its creation.
    pub(crate) id: &'a str,
    /// The number of bytes that are stored at the time of the event.
    pub(crate) offset: u64,
    /// The files of the upload; `None` before its creation, or if it has none.
    pub(crate) files: Option<UploadFiles<'a>>,
    /// The path of the upload URL.
    pub(crate) endpoint: &'a str,
}

/// The files of an upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadFiles<'a> {
    pub(crate) content: &'a Path,
    pub(crate) record: &'a Path,
}

/// Returns the JSON of a hook, such as `post-finish`, about an upload and the request that caused it.
pub(crate) fn event(hook: &str, of: EventUpload<'_>, request: &RequestFacts) -> Value {
    json!({
        "Type": hook,
        "Event": { "Upload": upload(of), "HTTPRequest": http_request(request) },
    })
}

fn upload(of: EventUpload<'_>) -> Value {
    let EventUpload { upload, id, offset, files, endpoint } = of;
    let storage = files.map_or(Value::Null, |files| {
        json!({
            "Type": "filestore",
            "Path": files.content.to_string_lossy(),
            "InfoPath": files.record.to_string_lossy(),
        })
    });
    json!({
        "ID": id,
        "Size": upload.length.map_or(0, Length::get),
        "SizeIsDeferred": upload.length.is_none(),
        "Offset": offset,
        "MetaData": metadata_of(&upload.origin.fields),
        "IsPartial": upload.composition == Composition::Part,
        "IsFinal": matches!(upload.composition, Composition::Concatenated(_)),
        "PartialUploads": partial_uploads(upload, endpoint),
        "Storage": storage,
    })
}

/// Returns the metadata of a tus upload, or the name and the media type of another one.
fn metadata_of(fields: &HeaderMap) -> Map<String, Value> {
    let text = |octets: &[u8]| Value::from(String::from_utf8_lossy(octets));
    if let Some(value) = fields.get(UPLOAD_METADATA) {
        let pairs = metadata::read(value.as_bytes()).unwrap_or_default();
        return pairs.into_iter().map(|(key, octets)| (key, text(&octets))).collect();
    }
    let mut pairs = Map::new();
    if let Some(name) = filename::from_disposition(fields) {
        pairs.insert("filename".into(), name.into());
    }
    if let Some(media_type) = fields.get(header::CONTENT_TYPE) {
        pairs.insert("filetype".into(), text(media_type.as_bytes()));
    }
    pairs
}

/// Returns the ids of the parts of a concatenated upload, as its client named them.
fn partial_uploads(upload: &Upload, endpoint: &str) -> Value {
    let Composition::Concatenated(parts) = &upload.composition else { return Value::Null };
    let named = concatenated_names(&upload.origin, endpoint);
    let named = named.filter(|named| named.len() == parts.len());
    named.unwrap_or_else(|| parts.iter().map(ToString::to_string).collect()).into()
}

/// Returns the paths below the endpoint of the URLs in `Upload-Concat`.
fn concatenated_names(origin: &Origin, endpoint: &str) -> Option<Vec<String>> {
    let value = origin.fields.get(UPLOAD_CONCAT)?.to_str().ok()?;
    let urls = value.trim().strip_prefix("final;")?.split_ascii_whitespace();
    Some(urls.map(|url| name_below(url, endpoint).to_owned()).collect())
}

/// Returns the path of a URL below the endpoint, without a slash at its end. A URL that is not below it is its own name.
pub(crate) fn name_below<'a>(url: &'a str, endpoint: &str) -> &'a str {
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let below = path.strip_prefix(endpoint.trim_end_matches('/')).and_then(|below| below.strip_prefix('/'));
    let name = below.unwrap_or(path);
    name.strip_suffix('/').unwrap_or(name)
}

fn http_request(request: &RequestFacts) -> Value {
    json!({
        "Method": request.method(),
        "URI": request.target(),
        "RemoteAddr": request.peer(),
        "Header": request.fields().map(header_fields).unwrap_or_default(),
    })
}

fn header_fields(fields: &HeaderMap) -> Map<String, Value> {
    let named = fields.keys().map(|name| {
        let lines = fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        (canonical(name.as_str()), Value::Array(lines.collect()))
    });
    named.collect()
}

/// Returns the name of a field in the case in which Go's programs look for it: `X-Request-Id`.
fn canonical(name: &str) -> String {
    let mut is_first = true;
    let in_case = |octet: char| {
        let octet = if is_first { octet.to_ascii_uppercase() } else { octet.to_ascii_lowercase() };
        is_first = octet == '-';
        octet
    };
    name.chars().map(in_case).collect()
}

#[cfg(test)]
mod tests {
    use hoist_proto::types::{Durable, UploadId};
    use http::{HeaderValue, Method};

    use super::*;

    const ID: UploadId = UploadId::from_bits([1; 16]);

    fn origin(fields: &[(&'static str, &'static str)]) -> Origin {
        let fields = fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        Origin { method: Method::POST, target: "/uploads".into(), fields: fields.collect() }
    }

    fn shown(upload: &Upload) -> Value {
        let of = EventUpload { upload, id: "a/b", offset: 3, files: None, endpoint: "/uploads" };
        event("post-finish", of, &RequestFacts::default())["Event"]["Upload"].clone()
    }

    #[test]
    fn the_json_is_that_of_tusd() {
        let fields = [
            ("host", "up.example:1080"),
            ("x-request-ID", "7"),
            ("accept", "a"),
            ("accept", "b"),
            ("tus-resumable", "1.0.0"),
        ];
        let mut lines = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            lines.append(name, HeaderValue::from_static(value));
        }
        let request = RequestFacts::new(Method::POST, "/uploads?a=1".into(), "192.0.2.7:4711".into(), lines);
        let upload = Upload {
            length: Some(Length::new(10)),
            composition: Composition::Direct,
            origin: origin(&[
                ("upload-metadata", "filename YS50eHQ=,secret,x /w=="),
                ("content-type", "no/no"),
            ]),
            ..hoist_proto::testing::upload(ID)
        };
        let files = UploadFiles { content: Path::new("/d/content"), record: Path::new("/d/record") };
        let of =
            EventUpload { upload: &upload, id: "a1", offset: 4, files: Some(files), endpoint: "/uploads" };
        let expected = json!({
            "Type": "post-receive",
            "Event": {
                "Upload": {
                    "ID": "a1", "Size": 10, "SizeIsDeferred": false, "Offset": 4,
                    "MetaData": {"filename": "a.txt", "secret": "", "x": "\u{fffd}"},
                    "IsPartial": false, "IsFinal": false, "PartialUploads": null,
                    "Storage": {"Type": "filestore", "Path": "/d/content", "InfoPath": "/d/record"},
                },
                "HTTPRequest": {
                    "Method": "POST", "URI": "/uploads?a=1", "RemoteAddr": "192.0.2.7:4711",
                    "Header": {
                        "Host": ["up.example:1080"], "X-Request-Id": ["7"], "Accept": ["a", "b"],
                        "Tus-Resumable": ["1.0.0"],
                    },
                },
            },
        });
        assert_eq!(event("post-receive", of, &request), expected);
    }

    #[test]
    fn an_upload_without_length_or_files_has_zero_and_null() {
        let upload = Upload { length: None, ..hoist_proto::testing::upload(ID) };
        let seen = shown(&Upload { origin: origin(&[]), ..upload });
        assert_eq!((&seen["Size"], &seen["SizeIsDeferred"]), (&json!(0), &json!(true)));
        assert_eq!((&seen["Storage"], &seen["MetaData"]), (&Value::Null, &json!({})));
    }

    #[test]
    fn other_dialects_have_their_name_and_type_as_metadata() {
        let upload = Upload {
            origin: origin(&[
                ("content-type", "image/png"),
                ("content-disposition", "attachment; filename=\"a b.png\""),
            ]),
            ..hoist_proto::testing::upload(ID)
        };
        assert_eq!(shown(&upload)["MetaData"], json!({"filename": "a b.png", "filetype": "image/png"}));
    }

    #[test]
    fn parts_and_wholes_of_tus_are_marked() {
        let part = Upload { composition: Composition::Part, ..hoist_proto::testing::upload(ID) };
        let seen = shown(&part);
        assert_eq!((&seen["IsPartial"], &seen["IsFinal"]), (&json!(true), &json!(false)));
        let other = UploadId::from_bits([2; 16]);
        let whole = Upload {
            composition: Composition::Concatenated(vec![ID, other]),
            offset: Durable::ZERO,
            origin: origin(&[("upload-concat", "final;http://x/uploads/a/b /uploads/c/?x")]),
            ..hoist_proto::testing::upload(ID)
        };
        let seen = shown(&whole);
        assert_eq!((&seen["IsPartial"], &seen["IsFinal"]), (&json!(false), &json!(true)));
        assert_eq!(seen["PartialUploads"], json!(["a/b", "c"]));
        let unnamed = Upload { origin: origin(&[]), ..whole };
        assert_eq!(shown(&unnamed)["PartialUploads"], json!([ID.to_string(), other.to_string()]));
    }

    #[test]
    fn names_of_uploads_are_paths_below_the_endpoint() {
        for (url, endpoint, name) in [
            ("https://x:1/uploads/a/b", "/uploads", "a/b"),
            ("/uploads/a?x#y", "/uploads", "a"),
            ("a", "/uploads", "a"),
            ("/a/", "/", "a"),
            ("http://x", "/", ""),
            ("/uploadsa", "/uploads", "/uploadsa"),
        ] {
            assert_eq!(name_below(url, endpoint), name, "{url}");
        }
    }
}
