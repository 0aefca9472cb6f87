//! The client's side of tus 1.0 on the wire: heads of requests, and what responses say.
//!
//! Owns the spelling alone. Numbers are plain decimals here, not structured fields.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};

use crate::dialect::{TUS_RESUMABLE, TUS_VERSION, UPLOAD_LENGTH, UPLOAD_OFFSET};
use crate::operation::Operation;
use crate::types::{Length, Offset};

const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
const PATCH_TYPE: HeaderValue = HeaderValue::from_static("application/offset+octet-stream");
const DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const CONCAT: HeaderName = HeaderName::from_static("upload-concat");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
const MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
const CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
/// Digits of the largest number: 2^63 - 1.
const DIGITS_MAX: usize = 19;

/// What a server says of itself in its answer to `OPTIONS`.
#[expect(clippy::struct_excessive_bools, reason = "a list of independent extensions")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Content may come with the creation.
    pub with_upload: bool,
    /// A length may be told later.
    pub defers_length: bool,
    /// An upload can be ended.
    pub terminates: bool,
    /// Partial uploads can be joined.
    pub concatenates: bool,
    /// The digest that may go with content.
    pub checksum: Option<Checksum>,
    /// Bytes of the largest upload.
    pub size_max: Option<u64>,
}

/// A digest that may go with the content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// SHA-1, which every server with checksums has.
    Sha1,
}

impl Checksum {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
        }
    }

    /// The field that carries the digest.
    //= TUS1-CHK-01
    pub fn field(self, digest: &[u8]) -> (HeaderName, HeaderValue) {
        let text = format!("{} {}", self.name(), base64(digest));
        (CHECKSUM, HeaderValue::try_from(text).expect("letters, digits and a space"))
    }
}

impl Offers {
    /// Reads the answer to `OPTIONS`. None when the server does not speak tus 1.0.
    //= TUS1-OPT-04
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let speaks = list(fields, &TUS_VERSION).any(|version| version == "1.0.0");
        let creates = list(fields, &EXTENSION).any(|name| name == "creation");
        if !speaks || !creates {
            return None;
        }
        let has = |wanted: &str| list(fields, &EXTENSION).any(|name| name == wanted);
        let digests = |wanted: Checksum| list(fields, &CHECKSUM_ALGORITHM).any(|name| name == wanted.name());
        let checksum = [Checksum::Sha256, Checksum::Sha1].into_iter().find(|wanted| digests(*wanted));
        Some(Self {
            with_upload: has("creation-with-upload"),
            defers_length: has("creation-defer-length"),
            terminates: has("termination"),
            concatenates: has("concatenation"),
            checksum: checksum.filter(|_| has("checksum")),
            size_max: number(fields, &MAX_SIZE),
        })
    }

    /// The head of a question about an upload, or of its end.
    pub fn ask(url: &str, operation: &Operation) -> Result<Request<()>, http::Error> {
        match operation {
            Operation::Cancel => cancel(url),
            Operation::Create(_) | Operation::Append(_) | Operation::Retrieve | Operation::Reject(_) => {
                retrieve(url)
            }
        }
    }

    /// The offset and the length that the answer to a question says.
    pub fn told(fields: &HeaderMap) -> (Option<Offset>, Option<Length>) {
        let told = told(fields);
        (told.offset, told.length)
    }

    /// What every server with `creation` has, where nobody asked.
    pub const fn least() -> Self {
        Self {
            with_upload: false,
            defers_length: true,
            terminates: true,
            concatenates: false,
            checksum: None,
            size_max: None,
        }
    }
}

/// What a response says of the upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) offset: Option<Offset>,
    pub(super) length: Option<Length>,
    /// How long the upload still lives, by the server's own clock.
    pub(super) lives: Option<Duration>,
}

pub(super) fn told(fields: &HeaderMap) -> Told {
    let date = |name: &HeaderName| fields.get(name).and_then(|value| value.to_str().ok()).and_then(seconds);
    let lives = match (date(&EXPIRES), date(&header::DATE)) {
        (Some(expires), Some(now)) => Some(Duration::from_secs(expires.saturating_sub(now))),
        _ => None,
    };
    Told {
        offset: number(fields, &UPLOAD_OFFSET).map(Offset::new),
        length: number(fields, &UPLOAD_LENGTH).map(Length::new),
        lives,
    }
}

/// The status that says that content does not match its digest; one server says 417.
//= TUS1-CHK-02
pub(super) fn is_mismatch(status: StatusCode) -> bool {
    status.as_u16() == 460 || status == StatusCode::EXPECTATION_FAILED
}

/// A request, signed with the version.
//= TUS1-HDR-01
fn signed(method: Method, target: &str) -> Result<Request<()>, http::Error> {
    let mut head = Request::builder().method(method).uri(target).body(())?;
    head.headers_mut().insert(TUS_RESUMABLE, VERSION);
    Ok(head)
}

/// What a creation says.
pub(super) struct Creation<'a> {
    pub(super) length: Option<Length>,
    /// Whether content comes with it.
    pub(super) carries: bool,
    pub(super) is_partial: bool,
    /// The fields of the request as an ordinary one would have them.
    pub(super) fields: &'a HeaderMap,
}

//= TUS1-CRE-01, TUS1-CWU-01, TUS1-CAT-02
pub(super) fn create(target: &str, creation: &Creation<'_>) -> Result<Request<()>, http::Error> {
    let mut head = signed(Method::POST, target)?;
    let fields = head.headers_mut();
    match creation.length {
        Some(length) => fields.insert(UPLOAD_LENGTH, HeaderValue::from(length.get())),
        None => fields.insert(DEFER_LENGTH, HeaderValue::from_static("1")),
    };
    if creation.is_partial {
        fields.insert(CONCAT, HeaderValue::from_static("partial"));
    } else {
        describe(fields, creation.fields);
    }
    if creation.carries {
        fields.insert(header::CONTENT_TYPE, PATCH_TYPE);
    }
    Ok(head)
}

/// Joins partial uploads into one.
//= TUS1-CAT-03, TUS1-CAT-05
pub(super) fn join(target: &str, parts: &[Uri], origin: &HeaderMap) -> Result<Request<()>, http::Error> {
    let mut head = signed(Method::POST, target)?;
    let urls: Vec<String> = parts.iter().map(Uri::to_string).collect();
    let fields = head.headers_mut();
    fields.insert(CONCAT, HeaderValue::try_from(format!("final;{}", urls.join(" ")))?);
    describe(fields, origin);
    Ok(head)
}

//= TUS1-PATCH-02, TUS1-CDL-02
pub(super) fn append(url: &str, at: Offset, length: Option<Length>) -> Result<Request<()>, http::Error> {
    let mut head = signed(Method::PATCH, url)?;
    let fields = head.headers_mut();
    fields.insert(UPLOAD_OFFSET, HeaderValue::from(at.get()));
    fields.insert(header::CONTENT_TYPE, PATCH_TYPE);
    if let Some(length) = length {
        fields.insert(UPLOAD_LENGTH, HeaderValue::from(length.get()));
    }
    Ok(head)
}

pub(super) fn retrieve(url: &str) -> Result<Request<()>, http::Error> {
    signed(Method::HEAD, url)
}

pub(super) fn cancel(url: &str) -> Result<Request<()>, http::Error> {
    signed(Method::DELETE, url)
}

/// Says in metadata what an ordinary request says in its fields: the name and the media type.
//= TUS1-MET-01, TUS1-CRE-06
fn describe(fields: &mut HeaderMap, ordinary: &HeaderMap) {
    let text = |name| ordinary.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let name = text(header::CONTENT_DISPOSITION).and_then(file_name);
    let kind = text(header::CONTENT_TYPE).map(|kind| kind.as_bytes().to_vec());
    let pairs: Vec<String> = [("filename", name), ("filetype", kind)]
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| format!("{key} {}", base64(&value))))
        .collect();
    if !pairs.is_empty() {
        let value = HeaderValue::try_from(pairs.join(",")).expect("letters, digits, spaces and commas");
        fields.insert(METADATA, value);
    }
    // What is neither name nor type is sent along as it is; what a server does not know it passes over.
    for (name, value) in ordinary {
        if *name != header::CONTENT_DISPOSITION && *name != header::CONTENT_TYPE {
            fields.append(name.clone(), value.clone());
        }
    }
}

/// The file name of a `Content-Disposition` as this client writes it: percent-encoded UTF-8 before plain text.
fn file_name(disposition: &str) -> Option<Vec<u8>> {
    if let Some((_, encoded)) = disposition.split_once("filename*=UTF-8''") {
        let mut octets = Vec::new();
        let mut rest = encoded.as_bytes();
        while let [first, behind @ ..] = rest {
            let two = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            match two.and_then(|two| u8::from_str_radix(two, 16).ok()) {
                Some(octet) if *first == b'%' => {
                    octets.push(octet);
                    rest = &behind[2..];
                }
                _ if *first == b';' => break,
                _ => {
                    octets.push(*first);
                    rest = behind;
                }
            }
        }
        return Some(octets);
    }
    let (_, quoted) = disposition.split_once("filename=\"")?;
    let (name, _) = quoted.split_once('"')?;
    Some(name.as_bytes().to_vec())
}

/// The elements of a comma-separated list.
fn list<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = fields.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// A plain decimal number.
//= TUS1-HDR-07
fn number(fields: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = fields.get(name)?.to_str().ok()?.trim();
    let is_number =
        (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let [first, second, third] = [0, 1, 2].map(|at| u32::from(group.get(at).copied().unwrap_or(0)));
        let bits = first << 16 | second << 8 | third;
        for place in 0..4 {
            let char = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(char) } else { '=' });
        }
    }
    text
}

/// Seconds since 1970 of an HTTP date in the form every sender has to use, `Sun, 06 Nov 1994 08:49:37 GMT`.
//= TUS1-EXP-03
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = date.split_once(", ")?;
    let mut words = date.split(' ');
    let mut word = || words.next();
    let day: u64 = word()?.parse().ok()?;
    let name = word()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = word()?.parse().ok()?;
    let mut clock = word()?.split(':').map(|part| part.parse::<u64>().ok());
    let [hour, minute, second] = [clock.next()??, clock.next()??, clock.next()??];
    if !(1970..=9999).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1 March of the year 0, so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some(((days.checked_sub(719_468)? * 24 + hour) * 60 + minute) * 60 + second)
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
    fn a_server_says_what_it_offers() {
        let all = fields(&[
            ("tus-version", "1.0.0, 0.2.2"),
            ("tus-extension", "creation,creation-with-upload, checksum,termination"),
            ("tus-checksum-algorithm", "md5,sha1"),
            ("tus-max-size", "1000"),
        ]);
        let offers = Offers::of(&all).expect("it speaks tus");
        assert!(offers.with_upload && offers.terminates && !offers.defers_length && !offers.concatenates);
        assert_eq!((offers.checksum, offers.size_max), (Some(Checksum::Sha1), Some(1000)));
        for stranger in [
            fields(&[]),
            fields(&[("tus-version", "0.2.2"), ("tus-extension", "creation")]),
            fields(&[("tus-version", "1.0.0"), ("tus-extension", "expiration")]),
        ] {
            assert_eq!(Offers::of(&stranger), None, "{stranger:?}");
        }
    }

    // proves: TUS1-EXP-03
    #[test]
    fn dates_are_seconds() {
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
    fn name_and_type_become_metadata() {
        let mut said = HeaderMap::new();
        let ordinary = fields(&[
            ("content-disposition", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
            ("content-type", "text/plain"),
            ("x-own", "kept"),
        ]);
        describe(&mut said, &ordinary);
        assert_eq!(said[METADATA], "filename w6kudHh0,filetype dGV4dC9wbGFpbg==");
        assert_eq!((said.len(), &said["x-own"]), (2, &HeaderValue::from_static("kept")));
        let plain = fields(&[("content-disposition", "attachment; filename=\"a b\"")]);
        let mut said = HeaderMap::new();
        describe(&mut said, &plain);
        assert_eq!(said[METADATA], "filename YSBi");
    }

    #[test]
    fn base64_is_padded() {
        let table = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (octets, text) in table {
            assert_eq!(base64(octets.as_bytes()), text);
        }
    }
}
