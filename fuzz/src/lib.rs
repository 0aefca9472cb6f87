//! Fuzz targets: one function per decoder. Each accepts any bytes, and panics if the decoder does or if the decoded
//! value is inconsistent.
//!
//! The targets do not call the engine. `fuzz_targets/` runs them under libFuzzer, `src/bin/mutate.rs` under the seeded
//! mutator.

#![forbid(unsafe_code)]

use hoist_proto::dialect::client::Intent;
use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::{
    self, Context, Detected, Dialect, DialectOptions, Resource, TUS_RESUMABLE, ietf, token, tus1,
};
use hoist_proto::field::{self, Field};
use hoist_proto::operation::{Append, Create, Operation, Subject};
use hoist_proto::policy::Limits;
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Durable, LARGEST_INTEGER, Timestamp, Token, UploadId};
use hoist_proto::upload::{Composition, Family, Phase, Upload};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use sha2::{Digest, Sha256};

/// The name of a target, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. The files in `fuzz_targets/` and the folders in `seeds/` have the same names.
pub const TARGETS: &[Target] = &[
    ("fields", fields),
    ("h1_chunked", h1_chunked),
    ("h1_head", h1_head),
    ("record", record),
    ("token_decode", token_decode),
    ("tus1_decode", tus1_decode),
    ("tus1_metadata", tus1_metadata),
    ("upload_id", upload_id),
];

/// Parses the bytes of an HTTP/1.1 connection up to the end of a head.
pub fn h1_head(data: &[u8]) {
    hoist_http::fuzz::head(data);
}

/// Decodes content in the chunked transfer coding.
pub fn h1_chunked(data: &[u8]) {
    hoist_http::fuzz::chunked(data);
}

/// The kinds of resources to which a request may be addressed.
const RESOURCES: [Resource; 3] =
    [Resource::Endpoint, Resource::Named, Resource::Upload(UploadId::from_bits([7; 16]))];

/// The options of a server that supports everything.
const OPTIONS: DialectOptions =
    DialectOptions { rfc_interim: true, versions: Versions::KNOWN, tus: tus1::Extensions::ALL };

/// Detects and decodes a request head, and reads its fields as those of a response.
pub fn token_decode(data: &[u8]) {
    let head = head(data);
    let content_bytes: Option<u64> =
        head.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    // A client cannot encode a larger number; the engine refuses it.
    let content_bytes = content_bytes.filter(|bytes| *bytes <= LARGEST_INTEGER);
    let _ = token::client::state(&head.headers);
    for resource in RESOURCES {
        match dialect::detect(&head, resource, OPTIONS) {
            Detected::Dialect(dialect) => match dialect.decode(&head, resource, content_bytes) {
                Ok(decoded) => {
                    check_announcement(dialect, &head, &decoded.operation);
                    check_round_trip(dialect, resource, &decoded.subject, &decoded.operation);
                }
                Err(refusal) => refused(dialect, &refusal),
            },
            Detected::Refuse(refusal) => {
                assert!(dialect::refused(None, &refusal).status().as_u16() >= 400);
            }
            Detected::Discover | Detected::ByUpload => {}
        }
    }
}

/// Checks that a decoded operation, encoded as a request, decodes to the same operation.
fn check_round_trip(dialect: Dialect, resource: Resource, subject: &Subject, operation: &Operation) {
    let intent = match operation {
        Operation::Create(Create { origin, length, content, .. }) => {
            Intent::Create { origin, length: *length, content: *content }
        }
        Operation::Append(Append { at, length, content, .. }) => {
            Intent::Append { at: *at, length: *length, finish: content.finish }
        }
        Operation::Retrieve => Intent::Query,
        Operation::Cancel => Intent::Cancel,
        // No client sends a rejected operation.
        Operation::Reject(_) => return,
    };
    let again = match (dialect, subject) {
        (Dialect::Token(form), Subject::Token(token)) => {
            token::client::request(form, "/uploads", token, None, &intent)
        }
        (Dialect::Ietf(speaker), _) => ietf::client::request(speaker.version, "/uploads", &intent),
        _ => return,
    };
    let (mut again, ()) = again.expect("a head that was decoded").into_parts();
    if let Operation::Append(Append { like: Some(method), .. }) = operation {
        again.method = method.clone();
    }
    let is_token = matches!(dialect, Dialect::Token(_));
    // The form without a number is detected by a field that not every request has, and our client does not send it.
    if is_token && dialect::detect(&again, Resource::Endpoint, OPTIONS) != Detected::Dialect(dialect) {
        return;
    }
    let content_bytes = match operation {
        Operation::Create(create) => create.content.bytes,
        Operation::Append(append) => append.content.bytes,
        Operation::Retrieve | Operation::Cancel | Operation::Reject(_) => None,
    };
    let resource = if is_token { Resource::Endpoint } else { resource };
    let again = dialect.decode(&again, resource, content_bytes).expect("our own head is well-formed");
    assert_eq!(&again.subject, subject);
    assert_eq!(summary(&again.operation), summary(operation));
}

/// Checks that a decoded creation can be announced, by a response with status 104.
fn check_announcement(dialect: Dialect, head: &Parts, operation: &Operation) {
    let Operation::Create(create) = operation else { return };
    let upload = Upload {
        id: UploadId::from_bits([7; 16]),
        family: Family::Ietf,
        semantics: create.semantics,
        owner: None,
        composition: create.composition.clone(),
        alias: None,
        file: None,
        origin: create.origin.clone(),
        created: Timestamp::from_millis(0),
        touched: Timestamp::from_millis(0),
        lifetime: None,
        resumes: 0,
        length: create.length,
        offset: Durable::ZERO,
        phase: Phase::Open,
        events: Vec::new(),
    };
    if let Some(interim) = dialect.announcement(operation, head, &upload, &context()) {
        assert_eq!(interim.status().as_u16(), 104);
    }
}

fn context() -> Context<'static> {
    const NONE: Limits = Limits { size_max: None, size_min: 0, append_max: None, append_min: 0 };
    Context { base: "/uploads", alias: None, limits: &NONE, now: Timestamp::from_millis(0), lifetime: None }
}

/// Returns the parts of an operation that encoding preserves.
fn summary(operation: &Operation) -> String {
    match operation {
        Operation::Create(create) => format!("create {:?} {:?}", create.length, create.content),
        Operation::Append(append) => format!("append {append:?}"),
        Operation::Retrieve => "retrieve".to_owned(),
        Operation::Cancel => "cancel".to_owned(),
        Operation::Reject(refusal) => format!("{refusal:?}"),
    }
}

fn refused(dialect: Dialect, refusal: &Refusal) {
    assert!(dialect.refuse(refusal, &context()).status().as_u16() >= 400);
    assert!(!refusal.detail().is_empty());
}

/// Detects and decodes a request head of tus 1.0, also with a method override, and reads the digests that its fields
/// state as a header section and as a trailer section.
pub fn tus1_decode(data: &[u8]) {
    let mut sent = head(data);
    sent.headers.entry(TUS_RESUMABLE).or_insert(HeaderValue::from_static(tus1::VERSION));
    let content_bytes =
        sent.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    for resource in RESOURCES {
        let mut head = sent.clone();
        if let Err(refusal) = tus1::override_method(&mut head, resource) {
            assert_eq!(refusal.status(None).as_u16(), 405);
            continue;
        }
        let Detected::Dialect(dialect @ Dialect::Tus1(_)) = dialect::detect(&head, resource, OPTIONS) else {
            continue;
        };
        match dialect.decode(&head, resource, content_bytes) {
            Ok(decoded) => {
                check_invariants(&decoded.operation);
                let announced = matches!(&decoded.operation, Operation::Create(_));
                assert!(!announced || dialect.progress(Durable::ZERO).is_none(), "there is no 104");
            }
            Err(refusal) => refused(dialect, &refusal),
        }
        for digest in dialect.expected_digests(&head.headers).header {
            assert_eq!(digest.octets.len(), digest.algorithm.octets());
        }
        if let Err(refusal) = dialect.trailer_digests(&head.headers) {
            refused(dialect, &refusal);
        }
    }
}

/// Checks what the engine assumes about decoded operations.
fn check_invariants(operation: &Operation) {
    match operation {
        Operation::Create(create) => {
            if let Composition::Concatenated(parts) = &create.composition {
                assert!(!parts.is_empty(), "it has parts");
                assert_eq!(
                    (create.length, create.content.bytes),
                    (None, Some(0)),
                    "and no content of its own"
                );
            }
            if let (Some(length), Some(bytes)) = (create.length, create.content.bytes) {
                assert!(bytes <= length.get());
            }
        }
        Operation::Reject(refusal) => assert!(refusal.status(None).as_u16() >= 400),
        Operation::Append(_) | Operation::Retrieve | Operation::Cancel => {}
    }
}

/// Parses `Upload-Metadata`, checks that it can be encoded and parsed again, and converts it to header fields.
pub fn tus1_metadata(data: &[u8]) {
    let Ok(metadata) = tus1::metadata::read(data) else { return };
    let pairs = metadata.iter().map(|(key, octets)| format!("{key} {}", base64(octets)));
    let written = pairs.collect::<Vec<_>>().join(",");
    // Restored padding may make it longer than the parser accepts.
    if written.len() <= data.len() {
        assert_eq!(tus1::metadata::read(written.as_bytes()).expect("it was read"), metadata);
    }
    let keys = metadata.iter().map(|(key, _)| key.as_str());
    assert_eq!(keys.collect::<std::collections::BTreeSet<_>>().len(), metadata.len(), "no key occurs twice");
    assert!(metadata.iter().all(|(key, _)| !key.is_empty() && !key.contains([' ', ','])));
    let _ = tus1::metadata::media_type(&metadata);
    if let Some(disposition) = tus1::metadata::disposition(&metadata) {
        assert!(disposition.to_str().is_ok(), "a name is encoded in ASCII");
    }
}

fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in octets.chunks(3) {
        let bits = three
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_usize, |bits, octet| bits << 8 | usize::from(*octet));
        for at in 0..4 {
            let digit = char::from(ALPHABET[bits >> (18 - 6 * at) & 63]);
            text.push(if at > three.len() { '=' } else { digit });
        }
    }
    text
}

/// Parses each line as a field line of every type, and checks that the values can be encoded and parsed again.
pub fn fields(data: &[u8]) {
    const NAME: HeaderName = HeaderName::from_static("upload-token");
    let lines = data.split(|&octet| octet == b'\n').take(8);
    let map: HeaderMap = lines.filter_map(|line| Some((NAME, HeaderValue::from_bytes(line).ok()?))).collect();
    if let Field::Is(number) = field::integer(&map, &NAME) {
        assert!(number <= LARGEST_INTEGER);
        assert_eq!(field::integer(&one(&NAME, field::integer_value(number)), &NAME), Field::Is(number));
    }
    if let Field::Is(value) = field::boolean(&map, &NAME) {
        assert_eq!(field::boolean(&one(&NAME, field::boolean_value(value)), &NAME), Field::Is(value));
    }
    if let Field::Is(token) = field::token(&map, &NAME) {
        assert!((1..=Token::OCTETS_MAX).contains(&token.octets()));
        assert_eq!(field::token(&one(&NAME, field::token_value(&token)), &NAME), Field::Is(token));
    }
    if let Field::Is(part) = field::part(&map, &NAME) {
        assert!(part.number.to_string().parse::<u16>().is_ok_and(|number| number <= 9999));
        assert_eq!(field::part(&one(&NAME, field::part_value(part)), &NAME), Field::Is(part));
    }
    if let Field::Is(numbers) = field::integers(&map, &NAME, ["max-size", "max-age"]) {
        assert!(numbers.into_iter().flatten().all(|number| number <= LARGEST_INTEGER));
    }
    if map.len() > 1 {
        assert_eq!(field::integer(&map, &NAME), Field::Malformed, "two lines are not an item");
    }
}

/// Parses a record, as it is and with a matching checksum, which no mutation would find.
pub fn record(data: &[u8]) {
    let sealed = seal(data);
    for bytes in [data, &sealed] {
        if let Ok(record) = hoist_store::record::from_bytes(bytes) {
            let written = hoist_store::record::to_bytes(&record).expect("what was read can be written");
            assert_eq!(
                hoist_store::record::from_bytes(&written).expect("what was written can be read"),
                record
            );
        }
    }
}

fn seal(data: &[u8]) -> Vec<u8> {
    const CHECKSUM: &[u8] = b"  \"sha256\": \"";
    let end = data.windows(CHECKSUM.len()).rposition(|window| window == CHECKSUM).unwrap_or(data.len());
    let mut sealed = data[..end].to_vec();
    let sum = Sha256::digest(&sealed);
    sealed.extend_from_slice(CHECKSUM);
    for octet in sum {
        sealed.extend_from_slice(format!("{octet:02x}").as_bytes());
    }
    sealed.extend_from_slice(b"\"\n}\n");
    sealed
}

/// Parses the id of an upload. An id has one spelling, which is safe as a file name.
pub fn upload_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<UploadId>() {
        assert_eq!(id.to_string(), text);
        assert_eq!(UploadId::from_bits(id.bits()), id);
        assert!(text.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit()));
    }
}

/// Builds a head from `METHOD target` and lines of `name: value`. Ignores what cannot be part of a head.
fn head(data: &[u8]) -> Parts {
    let mut lines = data.split(|&octet| octet == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut words = lines.next().unwrap_or_default().split(|&octet| octet == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok()).unwrap_or(Method::POST);
    let target = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = method;
    head.uri = target.unwrap_or_default();
    for line in lines.take(64) {
        let Some(colon) = line.iter().position(|&octet| octet == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            head.headers.append(name, value);
        }
    }
    head
}

fn one(name: &HeaderName, value: HeaderValue) -> HeaderMap {
    std::iter::once((name.clone(), value)).collect()
}
