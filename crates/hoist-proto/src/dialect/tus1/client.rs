//! The client's half of tus 1.0. Numbers are plain decimals here, not structured fields.

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

use super::super::client::{
    ClientProperties, ConflictRule, CreationContent, Intent, Naming, OffsetTrust, Response, UploadState,
    method,
};
use super::checksum::{self, UPLOAD_CHECKSUM};
use super::extension::{Extension, Extensions};
use super::{
    OFFSET_OCTET_STREAM, SEMANTICS, TUS_CHECKSUM_ALGORITHM, TUS_EXTENSION, TUS_MAX_SIZE, UPLOAD_CONCAT,
    UPLOAD_DEFER_LENGTH, UPLOAD_EXPIRES, UPLOAD_METADATA, VERSION, checksum_mismatch, decimal, sign,
};
use crate::base64;
use crate::dialect::status::StatusClass;
use crate::dialect::{TUS_VERSION, UPLOAD_LENGTH, UPLOAD_OFFSET};
use crate::digest::Algorithm;
use crate::types::{Length, Offset};

/// The largest content that goes with a creation. All of it is lost if the connection is cut before the URL arrives.
const CREATION_BYTES_MAX: u64 = 64 * 1024;

/// The extensions and limits of a server, as its response to `OPTIONS` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The extensions.
    pub extensions: Extensions,
    /// The digest that may go with the content of a request.
    pub checksum: Option<Checksum>,
    /// Bytes of the largest upload.
    pub size_max: Option<u64>,
}

/// A digest of the content of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// SHA-1, which every server with the extension supports.
    Sha1,
}

/// The part of an upload in a concatenation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Concat {
    /// None: the upload is a whole representation.
    #[default]
    None,
    /// A partial upload that is to be joined with others.
    Partial,
    /// The partial uploads with these URLs, joined. It has no content of its own.
    Final(Vec<Uri>),
}

impl Checksum {
    fn name(self) -> &'static str {
        checksum::name(match self {
            Self::Sha256 => Algorithm::Sha256,
            Self::Sha1 => Algorithm::Sha1,
        })
    }

    /// Returns the field that carries the digest.
    //= TUS1-CHK-01
    pub fn field(self, digest: &[u8]) -> (HeaderName, HeaderValue) {
        let text = format!("{} {}", self.name(), base64::encode(digest));
        (UPLOAD_CHECKSUM, HeaderValue::try_from(text).expect("letters, digits and a space"))
    }
}

impl Capabilities {
    /// Reads a response to `OPTIONS`. Returns `None` if the server does not support tus 1.0 with `creation`.
    //= TUS1-OPT-04
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let lists = |name: &HeaderName, wanted: &str| list(fields, name).any(|listed| listed == wanted);
        let has = |extension: &Extension| lists(&TUS_EXTENSION, extension.name());
        if !lists(&TUS_VERSION, VERSION) || !has(&Extension::Creation) {
            return None;
        }
        let missing = Extension::ALL.into_iter().filter(|extension| !has(extension));
        let checksum = [Checksum::Sha256, Checksum::Sha1]
            .into_iter()
            .find(|wanted| lists(&TUS_CHECKSUM_ALGORITHM, wanted.name()));
        Some(Self {
            extensions: missing.fold(Extensions::ALL, Extensions::without),
            checksum: checksum.filter(|_| has(&Extension::Checksum)),
            size_max: number(fields, &TUS_MAX_SIZE),
        })
    }

    /// Returns what is assumed of a server whose capabilities are unknown.
    pub fn assumed() -> Self {
        let assumed = [Extension::Creation, Extension::CreationDeferLength, Extension::Termination];
        let others = Extension::ALL.into_iter().filter(|extension| !assumed.contains(extension));
        let extensions = others.fold(Extensions::ALL, Extensions::without);
        Self { extensions, checksum: None, size_max: None }
    }
}

pub(crate) fn properties(capabilities: &Capabilities, concat: &Concat) -> ClientProperties {
    let is_joined = matches!(concat, Concat::Final(_));
    let with_content = capabilities.extensions.has(Extension::CreationWithUpload) && !is_joined;
    ClientProperties {
        naming: Naming::Url,
        completion: SEMANTICS.completion,
        offsets: OffsetTrust::Sent,
        conflicts: ConflictRule::FollowForward,
        cancels: capabilities.extensions.has(Extension::Termination),
        restarts: true,
        creation_content: if with_content {
            CreationContent::Small(CREATION_BYTES_MAX)
        } else {
            CreationContent::None
        },
        size_max: capabilities.size_max,
        checksum: capabilities.checksum,
        is_joined,
        ..ClientProperties::CONVENTIONAL
    }
}

/// Writes the head of a request: to the target for a creation, to the upload's URL otherwise.
///
/// # Errors
/// Returns an error if `target` is not the target of a request, or if the URLs to be joined fit into no field.
//= TUS1-HDR-01, TUS1-CRE-01, TUS1-CWU-01, TUS1-CAT-02, TUS1-CAT-03, TUS1-CAT-05, TUS1-PATCH-02, TUS1-CDL-02
pub fn request(concat: &Concat, target: &str, intent: &Intent<'_>) -> Result<Request<()>, http::Error> {
    let method = if let Intent::Create { .. } = intent { Method::POST } else { method(intent) };
    let mut head = Request::builder().method(method).uri(target).body(())?;
    let fields = head.headers_mut();
    sign(fields);
    let (length, has_content) = match intent {
        Intent::Create { origin, length, content } => {
            let mut length = *length;
            if let Concat::Final(parts) = concat {
                let urls: Vec<String> = parts.iter().map(Uri::to_string).collect();
                fields.insert(UPLOAD_CONCAT, HeaderValue::try_from(format!("final;{}", urls.join(" ")))?);
                length = None;
            } else if length.is_none() {
                fields.insert(UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1"));
            }
            if *concat == Concat::Partial {
                fields.insert(UPLOAD_CONCAT, HeaderValue::from_static("partial"));
            } else {
                describe(fields, &origin.fields);
            }
            (length, content.bytes != Some(0))
        }
        Intent::Append { at, length, .. } => {
            fields.insert(UPLOAD_OFFSET, HeaderValue::from(at.get()));
            (*length, true)
        }
        Intent::Query | Intent::Cancel => (None, false),
    };
    if let Some(length) = length {
        fields.insert(UPLOAD_LENGTH, HeaderValue::from(length.get()));
    }
    if has_content {
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(OFFSET_OCTET_STREAM));
    }
    Ok(head)
}

/// Reads the response to a request; `is_query` tells whether that asked for the offset.
pub(crate) fn response(is_query: bool, status: StatusCode, fields: &HeaderMap) -> Response {
    let mut response = Response { state: state(fields), ..Response::of(status, fields) };
    if is_query && status == StatusCode::FORBIDDEN {
        //= TUS1-HEAD-05
        response.class = StatusClass::NotFound;
    } else if !is_query && (status == checksum_mismatch() || status == StatusCode::EXPECTATION_FAILED) {
        //= TUS1-CHK-02
        // The content was damaged on the way and is sent again. One server answers 417 instead of 460.
        (response.class, response.retry_after) = (StatusClass::Retry, None);
    }
    response
}

/// Reads the state of an upload from a response.
pub fn state(fields: &HeaderMap) -> UploadState {
    let date = |name: &HeaderName| fields.get(name).and_then(|value| value.to_str().ok()).and_then(seconds);
    let expires_in = match (date(&UPLOAD_EXPIRES), date(&header::DATE)) {
        (Some(expires), Some(now)) => Some(Duration::from_secs(expires.saturating_sub(now))),
        _ => None,
    };
    UploadState {
        offset: number(fields, &UPLOAD_OFFSET).map(Offset::new),
        length: number(fields, &UPLOAD_LENGTH).map(Length::new),
        complete: None,
        expires_in,
    }
}

/// Writes the name and the media type of an ordinary request as metadata. A name with directories is written as Uppy
/// writes it: its last segment as `filename`, and all of it as `relativePath`.
//= TUS1-MET-01, TUS1-CRE-06
fn describe(fields: &mut HeaderMap, ordinary: &HeaderMap) {
    let text = |name| ordinary.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let name = text(header::CONTENT_DISPOSITION).and_then(file_name);
    let kind = text(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let relative_path = name.clone().filter(|name| name.contains(&b'/'));
    let name = name.map(|name| last_segment(&name).to_vec());
    let pairs: Vec<String> = [("filename", name), ("relativePath", relative_path), ("filetype", kind)]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key} {}", base64::encode(&value))))
        .collect();
    if !pairs.is_empty() {
        let value = HeaderValue::try_from(pairs.join(",")).expect("letters, digits, spaces and commas");
        fields.insert(UPLOAD_METADATA, value);
    }
    // A server ignores the other fields that it does not know.
    for (name, value) in ordinary {
        if *name != header::CONTENT_DISPOSITION && *name != header::CONTENT_TYPE {
            fields.append(name.clone(), value.clone());
        }
    }
}

fn last_segment(path: &[u8]) -> &[u8] {
    path.rsplit(|octet| *octet == b'/').find(|segment| !segment.is_empty()).unwrap_or(path)
}

/// Returns the file name of a `Content-Disposition` that this client wrote. The percent-encoded form has precedence.
fn file_name(disposition: &str) -> Option<Vec<u8>> {
    if let Some((_, encoded)) = disposition.split_once("filename*=UTF-8''") {
        let mut octets = Vec::new();
        let mut rest = encoded.as_bytes();
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                Some(octet) if *first == b'%' => {
                    octets.push(octet);
                    rest = &after[2..];
                }
                _ if *first == b';' => break,
                _ => {
                    octets.push(*first);
                    rest = after;
                }
            }
        }
        return Some(octets);
    }
    let (_, quoted) = disposition.split_once("filename=\"")?;
    let (name, _) = quoted.split_once('"')?;
    Some(name.as_bytes().to_vec())
}

fn list<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lines = fields.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Reads a plain decimal number.
//= TUS1-HDR-07
fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    decimal(fields.get(name)?.as_bytes().trim_ascii())
}

/// Returns the seconds since 1970 of an HTTP date in the form that senders have to use.
//= TUS1-EXP-03
fn seconds(date: &str) -> Option<u64> {
    // The parser knows no leap second.
    let (date, leap) = match date.strip_suffix(":60 GMT") {
        Some(minute) => (format!("{minute}:59 GMT"), 1),
        None => (date.to_owned(), 0),
    };
    let is_current_form = date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len();
    let moment = httpdate::parse_http_date(&date).ok().filter(|_| is_current_form)?;
    Some(moment.duration_since(UNIX_EPOCH).ok()?.as_secs() + leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = lines.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::try_from(*value).expect("a value"))
        });
        parsed.collect()
    }

    // proves: TUS1-OPT-04
    #[test]
    fn capabilities_are_read_from_the_response_to_options() {
        let all = fields(&[
            ("tus-version", "1.0.0, 0.2.2"),
            ("tus-extension", "creation,creation-with-upload, checksum,termination"),
            ("tus-checksum-algorithm", "md5,sha1"),
            ("tus-max-size", "1000"),
        ]);
        let read = Capabilities::of(&all).expect("it supports tus");
        let has = |extension| read.extensions.has(extension);
        assert!(has(Extension::CreationWithUpload) && has(Extension::Termination));
        assert!(!has(Extension::CreationDeferLength) && !has(Extension::Concatenation));
        assert_eq!((read.checksum, read.size_max), (Some(Checksum::Sha1), Some(1000)));
        for other in [
            fields(&[]),
            fields(&[("tus-version", "0.2.2"), ("tus-extension", "creation")]),
            fields(&[("tus-version", "1.0.0"), ("tus-extension", "expiration")]),
        ] {
            assert_eq!(Capabilities::of(&other), None, "{other:?}");
        }
    }

    // proves: TUS1-EXP-03
    #[test]
    fn dates_are_read_as_seconds() {
        let table = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Wed, 25 Jun 2014 16:00:00 GMT", Some(1_403_712_000)),
            ("Thu, 29 Feb 2024 23:59:60 GMT", Some(1_709_251_200)),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nox 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 99999 08:49:37 GMT", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    // proves: TUS1-MET-01, TUS1-CRE-06
    #[test]
    fn name_and_media_type_become_metadata() {
        let mut written = HeaderMap::new();
        let ordinary = fields(&[
            ("content-disposition", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
            ("content-type", "text/plain"),
            ("x-own", "kept"),
        ]);
        describe(&mut written, &ordinary);
        assert_eq!(written[UPLOAD_METADATA], "filename w6kudHh0,filetype dGV4dC9wbGFpbg==");
        assert_eq!((written.len(), &written["x-own"]), (2, &HeaderValue::from_static("kept")));
        let plain = fields(&[("content-disposition", "attachment; filename=\"a b\"")]);
        let mut written = HeaderMap::new();
        describe(&mut written, &plain);
        assert_eq!(written[UPLOAD_METADATA], "filename YSBi");
        for (path, metadata) in [
            ("films/old/a", "filename YQ==,relativePath ZmlsbXMvb2xkL2E="),
            ("a/", "filename YQ==,relativePath YS8="),
            ("/", "filename Lw==,relativePath Lw=="),
        ] {
            let mut written = HeaderMap::new();
            let disposition = format!("attachment; filename=\"{path}\"");
            describe(&mut written, &fields(&[("content-disposition", &disposition)]));
            assert_eq!(written[UPLOAD_METADATA], metadata, "{path}");
        }
    }
}
