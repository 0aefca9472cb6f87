//! The IETF dialect in every version: decoded requests, encoded responses byte for byte, and interim responses.

use std::time::Duration;

use proptest::prelude::*;

use super::super::tests::{context, head, upload};
use super::super::{Dialect, Resource};
use super::*;
use crate::dialect::client::{Intent, UploadLimits, UploadState};
use crate::operation::AppendToComplete;
use crate::operation::OnExisting;
use crate::policy::Limits;
use crate::refusal::{InterruptCause, Reason, Refusal, SizeLimit};
use crate::types::{LARGEST_INTEGER, Timestamp};
use crate::upload::Composition;
use crate::upload::{Origin, TargetResponse};

const ID: UploadId = UploadId::from_bits([5; 16]);
const BASE: &str = "https://example.org/uploads";

fn codec(version: Interop) -> IetfCodec {
    IetfCodec { version, sends_interim: true, ..IetfCodec::unversioned() }
}

/// The codecs of all versions with a number, and the numbers.
fn numbered() -> impl Iterator<Item = (IetfCodec, u64)> {
    Interop::ALL.into_iter().filter_map(|version| Some((codec(version), version.number()?)))
}

/// The decoded operation, or the status and the field of the refusal, as one line of text.
fn decoded(version: Interop, resource: Resource, method: &str, fields: &str, bytes: Option<u64>) -> String {
    let refused = |refusal: &Refusal| match refusal.reason {
        Reason::InvalidField { name, .. } => format!("400 {name}"),
        Reason::InconsistentLength if refusal.state.is_none() => "400 lengths".into(),
        _ => refusal.status(Some(Dialect::Ietf(codec(version)))).as_u16().to_string(),
    };
    let head = head(method, fields);
    let decoded = match Dialect::Ietf(codec(version)).decode(&head, resource, bytes) {
        Ok(decoded) => decoded,
        Err(refusal) => return refused(&refusal),
    };
    let subject = if let Resource::Upload(id) = resource { Subject::Id(id) } else { Subject::Fresh };
    assert_eq!((decoded.subject, decoded.family), (subject, Family::Ietf));
    let optional = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    let of = |content: Content, length: Option<Length>| {
        let more = if content.finish == Finish::Later { " more" } else { "" };
        format!("{} of {}{more}", optional(content.bytes), optional(length.map(Length::get)))
    };
    match decoded.operation {
        Operation::Create(create) => {
            assert_eq!((create.semantics, create.on_existing), (SEMANTICS, OnExisting::Refuse));
            assert_eq!(create.below_min_size, BelowMinSize::Ordinary);
            format!("create {}", of(create.content, create.length))
        }
        Operation::Append(append) => {
            assert_eq!(append.like, None, "an append is a PATCH");
            format!("append at {} {}", append.at, of(append.content, append.length))
        }
        Operation::Retrieve => "retrieve".into(),
        Operation::Cancel => "cancel".into(),
        Operation::Reject(refusal) => format!("rejected: {}", refused(&refusal)),
    }
}

fn created(version: Interop, method: &str, fields: &str, bytes: Option<u64>) -> String {
    decoded(version, Resource::Endpoint, method, fields, bytes)
}

fn on_upload(version: Interop, method: &str, fields: &str, bytes: Option<u64>) -> String {
    decoded(version, Resource::Upload(ID), method, fields, bytes)
}

// proves: IETF-CRE-01, IETF-CRE-05, IETF-CRE-13, IETF-CRE-17, IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, IETF-LEN-08, IETF-COD-03
#[test]
fn creations_are_decoded() {
    let table = [
        ("POST", "{last}", Some(200), "create 200 of 200"),
        ("PUT", "{last}", Some(0), "create 0 of 0"),
        ("PATCH", "{last}", Some(200), "create 200 of 200"),
        ("BREW", "{last}", Some(200), "create 200 of 200"),
        ("POST", "{last}", None, "create ? of ?"),
        ("POST", "{more}", Some(0), "create 0 of ? more"),
        ("POST", "{more}", Some(7), "create 7 of ? more"),
        ("POST", "{more}", None, "create ? of ? more"),
        ("POST", "{more}Upload-Length: 9|", Some(7), "create 7 of 9 more"),
        ("POST", "{last}Upload-Length: 9|", None, "create ? of 9"),
        ("POST", "{last}Upload-Length: 9|", Some(9), "create 9 of 9"),
        ("POST", "{last}Upload-Length: 9|", Some(8), "400 lengths"),
        ("POST", "{last}Upload-Length: 8|", Some(9), "400 lengths"),
        // Content beyond the length is left to the engine.
        ("POST", "{more}Upload-Length: 8|", Some(9), "create 9 of 8 more"),
        ("POST", "{last}Upload-Length: many|", Some(9), "create 9 of 9"),
        ("POST", "{last}Upload-Offset: 0|", Some(9), "create 9 of 9"),
        ("POST", "{last}Upload-Offset: -0|", Some(9), "create 9 of 9"),
        ("POST", "{last}Upload-Offset: x|", Some(9), "create 9 of 9"),
        ("POST", "{last}Upload-Offset: 1|", Some(9), "400 Upload-Offset"),
        // The media type of appends on a resource without an upload.
        ("PATCH", "{last}Content-Type: application/partial-upload|", Some(9), "415"),
        ("POST", "{last}Content-Type: application/partial-upload|", Some(9), "create 9 of 9"),
    ];
    for (method, fields, bytes, expected) in table {
        for version in Interop::ALL {
            let (last, more) = match version {
                Interop::V3 => ("Upload-Incomplete: ?0|", "Upload-Incomplete: ?1|"),
                _ => ("Upload-Complete: ?1|", "Upload-Complete: ?0|"),
            };
            let fields = fields.replace("{last}", last).replace("{more}", more);
            assert_eq!(created(version, method, &fields, bytes), expected, "{version:?} {method} {fields}");
        }
    }
}

// proves: IETF-CRE-14, IETF-CRE-15, IETF-CRE-16
#[test]
fn a_creation_keeps_the_fields_for_its_target() {
    let fields = "Content-Type: image/png|Content-Encoding: gzip|Content-Disposition: inline; filename=x|\
                  Want-Repr-Digest: sha-256=1|X-Own: a|X-Own: b|Authorization: secret|Cookie: secret|Host: x|\
                  Content-Length: 5|Transfer-Encoding: chunked|Connection: close|Expect: 100-continue|\
                  Upload-Complete: ?0|Upload-Incomplete: ?0|Upload-Offset: 0|Upload-Length: 9|\
                  Upload-Draft-Interop-Version: 8";
    let mut parts = head("PUT", fields);
    parts.uri = "/uploads/name?y=1".parse().expect("a target");
    let origin_of = |parts: &Parts| {
        let decoded = codec(Interop::V8).decode_creation(parts, Some(5)).expect("a creation");
        let Operation::Create(create) = decoded.operation else { panic!("it creates") };
        create.origin
    };
    let origin = origin_of(&parts);
    assert_eq!((origin.method.as_str(), origin.target.as_str()), ("PUT", "/uploads/name?y=1"));
    let kept: Vec<_> = origin
        .fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    let expected = [
        "content-type: image/png",
        "content-encoding: gzip",
        "content-disposition: inline; filename=x",
        "want-repr-digest: sha-256=1",
        "x-own: a",
        "x-own: b",
    ];
    assert_eq!(kept, expected);
    // No representation has the media type of appends.
    parts.headers.insert("content-type", "Application/Partial-Upload;a=b".parse().expect("a value"));
    assert!(!origin_of(&parts).fields.contains_key("content-type"));
}

const TYPE: &str = "Content-Type: application/partial-upload|";

// proves: IETF-APP-01, IETF-APP-04, IETF-APP-05, IETF-APP-06, IETF-APP-16, IETF-APP-19, IETF-SF-04, IETF-CRE-16, IETF-COD-02
#[test]
fn appends_are_decoded_as_their_version_requires() {
    // The operation in version 3, in 4 and 5, in 6, and since 7.
    let no_type = ["append at 5 2 of ?", "append at 5 2 of ? more", "rejected: 415", "rejected: 415"];
    let missing = ["append at 5 2 of ?", "append at 5 2 of ? more", "append at 5 2 of ? more"];
    let without_field = [missing[0], missing[1], missing[2], "rejected: 400 Upload-Complete"];
    let no_offset = ["rejected: 400 Upload-Offset"; 4];
    let more = ["append at 5 2 of ? more"; 4];
    let last = ["append at 5 2 of ?"; 4];
    let length = ["append at 5 2 of 9"; 4];
    let table: [(&str, Option<u64>, [&str; 4]); 18] = [
        ("{type}Upload-Offset: 5|{last}", Some(2), last),
        ("{type}Upload-Offset: 5|{more}", Some(2), more),
        ("{type}Upload-Offset: 5|{last}", None, ["append at 5 ? of ?"; 4]),
        ("{type}Upload-Offset: 5|{more}", Some(0), ["append at 5 0 of ? more"; 4]),
        ("{type}Upload-Offset: 5|", Some(2), without_field),
        // A malformed field counts as absent, and the field of other versions is ignored.
        ("{type}Upload-Offset: 5|{bad}", Some(2), without_field),
        ("{type}Upload-Offset: 5|{other}", Some(2), without_field),
        ("{type}{last}", Some(2), no_offset),
        ("{type}Upload-Offset: -5|{last}", Some(2), no_offset),
        ("{type}Upload-Offset: 5|Upload-Offset: 5|{last}", Some(2), no_offset),
        ("{type}", Some(2), no_offset),
        ("Content-Type: Application/Partial-Upload; a=b|Upload-Offset: 5|{last}", Some(2), last),
        // The media type is checked before the fields.
        ("Content-Type: text/plain|Upload-Offset: 5|{bad}", Some(2), no_type),
        ("Upload-Offset: 5|", Some(2), no_type),
        (
            "Content-Type: text/plain|Upload-Offset: x|",
            Some(2),
            [no_offset[0], no_offset[0], "rejected: 415", "rejected: 415"],
        ),
        // Contradicting lengths are left to the engine.
        ("{type}Upload-Offset: 5|{last}Upload-Length: 9|", Some(2), length),
        ("{type}Upload-Offset: 5|{last}Upload-Length: x|", Some(2), last),
        ("{type}Upload-Offset: 5|{last}Content-Encoding: br|X-Method: POST|", Some(2), last),
    ];
    for (fields, bytes, expected) in table {
        for version in Interop::ALL {
            let (last, more, bad, other, column) = match version {
                Interop::V3 => (
                    "Upload-Incomplete: ?0|",
                    "Upload-Incomplete: ?1|",
                    "Upload-Incomplete: 1|",
                    "Upload-Complete: ?0|",
                    0,
                ),
                Interop::V4 | Interop::V5 => (
                    "Upload-Complete: ?1|",
                    "Upload-Complete: ?0|",
                    "Upload-Complete: 1|",
                    "Upload-Incomplete: ?0|",
                    1,
                ),
                Interop::V6 => (
                    "Upload-Complete: ?1|",
                    "Upload-Complete: ?0|",
                    "Upload-Complete: 1|",
                    "Upload-Incomplete: ?0|",
                    2,
                ),
                _ => (
                    "Upload-Complete: ?1|",
                    "Upload-Complete: ?0|",
                    "Upload-Complete: 1|",
                    "Upload-Incomplete: ?0|",
                    3,
                ),
            };
            let fields = fields
                .replace("{type}", TYPE)
                .replace("{last}", last)
                .replace("{more}", more)
                .replace("{bad}", bad)
                .replace("{other}", other);
            assert_eq!(on_upload(version, "PATCH", &fields, bytes), expected[column], "{version:?} {fields}");
        }
    }
}

// proves: IETF-RET-01, IETF-RET-11, IETF-DEL-01
#[test]
fn questions_and_cancellations_are_strict_up_to_6() {
    for version in Interop::ALL {
        let own = if version == Interop::V3 { "Upload-Incomplete" } else { "Upload-Complete" };
        let other = if version == Interop::V3 { "Upload-Complete" } else { "Upload-Incomplete" };
        for (method, asked) in [("HEAD", "retrieve"), ("GET", "retrieve"), ("DELETE", "cancel")] {
            assert_eq!(on_upload(version, method, "", None), asked);
            assert_eq!(on_upload(version, method, "", Some(3)), asked);
            assert_eq!(on_upload(version, method, &format!("{other}: ?0|{TYPE}"), None), asked);
            for name in ["Upload-Offset", own, "Upload-Length"] {
                for value in ["0", "?0", "rubbish"] {
                    let expected = if version < Interop::V7 {
                        format!("rejected: 400 {name}")
                    } else {
                        asked.to_owned()
                    };
                    let found = on_upload(version, method, &format!("{name}: {value}"), None);
                    assert_eq!(found, expected, "{version:?} {method} {name}");
                }
            }
        }
        for method in ["POST", "PUT", "BREW", "TRACE"] {
            assert_eq!(on_upload(version, method, "Upload-Complete: ?1", Some(1)), "rejected: 405");
        }
    }
}

// proves: IETF-SF-01, IETF-SF-02, IETF-SF-04, IETF-SF-07, IETF-SF-08, IETF-SF-10
#[test]
fn the_test_vectors_of_structured_fields_hold() {
    let accepted = [
        ("0", 0),
        ("7", 7),
        ("007", 7),
        ("-0", 0),
        ("999999999999999", LARGEST_INTEGER),
        ("12;foo", 12),
        ("12; a=1", 12),
        (" 5 ", 5),
        ("5;a=b", 5),
    ];
    for (value, number) in accepted {
        let fields = format!("{TYPE}Upload-Complete: ?0|Upload-Offset: {value}");
        assert_eq!(
            on_upload(Interop::V8, "PATCH", &fields, Some(0)),
            format!("append at {number} 0 of ? more")
        );
        let fields = format!("Upload-Complete: ?0|Upload-Length: {value}");
        assert_eq!(created(Interop::V8, "POST", &fields, Some(0)), format!("create 0 of {number} more"));
    }
    let ignored = [
        "",
        "+1",
        "-1",
        "1.0",
        "1e3",
        "0x10",
        "\"5\"",
        ":NQ==:",
        "1000000000000000",
        "5,6",
        "5 6",
        "?1",
        "@5",
    ];
    for value in ignored {
        let fields = format!("{TYPE}Upload-Complete: ?0|Upload-Offset: {value}");
        assert_eq!(
            on_upload(Interop::V8, "PATCH", &fields, Some(0)),
            "rejected: 400 Upload-Offset",
            "{value}"
        );
        let fields = format!("Upload-Complete: ?0|Upload-Length: {value}");
        assert_eq!(created(Interop::V8, "POST", &fields, Some(0)), "create 0 of ? more", "{value}");
    }
    for value in ["1", "true", "?2", "\"?1\"", "?T", "", "?1, ?1", "?"] {
        let fields = format!("{TYPE}Upload-Offset: 0|Upload-Complete: {value}");
        let found = on_upload(Interop::V8, "PATCH", &fields, Some(0));
        assert_eq!(found, "rejected: 400 Upload-Complete", "{value}");
        let creation =
            codec_of_creation(&head("POST", &format!("Upload-Complete: {value}")), DialectOptions::default());
        assert_eq!(creation, None, "{value}");
    }
}

// proves: IETF-SF-03, IETF-SF-05, IETF-SF-06, IETF-SF-08, IETF-SF-10
#[test]
fn the_test_vectors_of_upload_limit_hold() {
    let takes = |lines: &[&str]| {
        let name = UPLOAD_LIMIT;
        let fields: HeaderMap =
            lines.iter().map(|line| (name.clone(), line.parse().expect("a value"))).collect();
        client::response(Interop::V8, StatusCode::OK, &fields).limits
    };
    let nothing = UploadLimits::default();
    let sizes = |most, least| Some(UploadLimits { size_max: Some(most), size_min: least, ..nothing });
    let table: [(&[&str], Option<UploadLimits>); 15] = [
        (&["max-size=10"], sizes(10, None)),
        (&["max-size=10,min-size=0"], sizes(10, Some(0))),
        (&["max-size=1, max-size=2"], sizes(2, None)),
        (&["max-size=1", "max-size=2, min-size=-0"], sizes(2, Some(0))),
        (&["foo=1, max-size=10, bar=?0, baz"], sizes(10, None)),
        (&["max-age=60;q=1"], Some(UploadLimits { age_max: Some(60), ..nothing })),
        (&["expires=60, max-age=50"], Some(UploadLimits { age_max: Some(50), ..nothing })),
        (&["expires=60"], Some(UploadLimits { age_max: Some(60), ..nothing })),
        (
            &["max-append-size=9, min-append-size=3"],
            Some(UploadLimits { append_max: Some(9), append_min: Some(3), ..nothing }),
        ),
        (&[""], Some(nothing)),
        (&["min-size=0"], Some(UploadLimits { size_min: Some(0), ..nothing })),
        (&["max-size=10, max-age=?1"], None),
        (&["max-size=10, min-size=-1"], None),
        (&["max-size=1000000000000000"], None),
        (&[], None),
    ];
    for (lines, expected) in table {
        assert_eq!(takes(lines), expected, "{lines:?}");
    }
    for line in ["107374182400", "max-size", "max-size=1.5", "max-size=(1 2)", "Max-Size=1", "max-size=10,"] {
        assert_eq!(takes(&[line]), None, "{line}");
    }
}

/// The status and the fields of a head as one line of text.
fn written(head: &Response<()>) -> String {
    let mut lines: Vec<_> = head
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect();
    lines.sort();
    lines.insert(0, head.status().as_u16().to_string());
    lines.join("|")
}

fn state(offset: u64, length: Option<u64>, complete: bool) -> State {
    let expires = Some(Timestamp::from_millis(100_000));
    let offset = Durable::attest(Offset::new(offset));
    State { offset, length: length.map(Length::new), complete, expires, awaits_parts: false, part: None }
}

const LIMITS: Limits = Limits { size_max: Some(1000), size_min: 2, append_max: Some(500), append_min: 3 };

fn limited() -> Context<'static> {
    let lifetime = Some(Duration::from_secs(90));
    Context { base: BASE, limits: &LIMITS, now: Timestamp::from_millis(39_001), lifetime }
}

/// Replaces the placeholders of a template by the values of a version.
fn spelled_out(version: Interop, template: &str) -> String {
    let (no, yes) = match version {
        Interop::V3 => ("upload-incomplete: ?1", "upload-incomplete: ?0"),
        _ => ("upload-complete: ?0", "upload-complete: ?1"),
    };
    let appended = if version < Interop::V7 { "201" } else { "204" };
    let limits = "max-size=1000, min-size=2, max-append-size=500, min-append-size=3";
    let age = |seconds: u64| match version {
        Interop::V3 | Interop::V4 | Interop::V5 => String::new(),
        Interop::V6 => format!("upload-limit: {limits}, expires={seconds}, max-age={seconds}|"),
        _ => format!("upload-limit: {limits}, max-age={seconds}|"),
    };
    let number =
        version.number().map_or(String::new(), |number| format!("upload-draft-interop-version: {number}|"));
    let mut lines: Vec<String> = template
        .replace("{no}", no)
        .replace("{yes}", yes)
        .replace("{appended}", appended)
        .replace("{limits}|", &age(90))
        .replace("{limits and age}|", &age(60))
        .replace("{length}|", "upload-length: 200|")
        .replace("{number}|", &number)
        .split('|')
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    lines[1..].sort();
    lines.join("|")
}

// proves: IETF-SF-09, IETF-CRE-08, IETF-CRE-09, IETF-CRE-10, IETF-CRE-11, IETF-APP-10, IETF-APP-11, IETF-APP-12, IETF-APP-13, IETF-RET-02, IETF-RET-03, IETF-RET-04, IETF-RET-05, IETF-RET-06, IETF-DEL-04, IETF-LIM-02, IETF-OPT-02, IETF-INT-14, IETF-VER-03, IETF-VER-08
#[test]
fn replies_are_encoded_as_their_version_requires() {
    let location = format!("location: {BASE}/{ID}|");
    let answer = |status: u16, fields: &str| TargetResponse {
        status: StatusCode::from_u16(status).expect("a status"),
        fields: head("GET", fields).headers,
        content: b"said".to_vec(),
    };
    let complete =
        |created, answer| Reply::Complete { id: ID, created, state: state(200, Some(200), true), answer };
    let v3_location = |version| if version == Interop::V3 { location.as_str() } else { "" };
    let table: Vec<(Reply, String, bool)> = vec![
        (
            Reply::Stored { id: ID, created: true, state: state(7, None, false) },
            format!("201|{location}upload-offset: 7|{{no}}|{{limits and age}}|{{number}}|"),
            false,
        ),
        (
            Reply::Stored { id: ID, created: true, state: state(0, Some(200), false) },
            format!("201|{location}upload-offset: 0|{{no}}|{{length}}|{{limits and age}}|{{number}}|"),
            false,
        ),
        (
            Reply::Stored { id: ID, created: false, state: state(7, Some(200), false) },
            "{appended}|upload-offset: 7|{no}|{length}|{number}|".into(),
            false,
        ),
        (
            Reply::State { id: ID, state: state(7, None, false), described: HeaderMap::new() },
            "204|cache-control: no-store|upload-offset: 7|{no}|{limits and age}|{number}|".into(),
            false,
        ),
        (
            Reply::State { id: ID, state: state(200, Some(200), true), described: HeaderMap::new() },
            "204|cache-control: no-store|upload-offset: 200|{yes}|{length}|{limits and age}|{number}|".into(),
            false,
        ),
        (
            complete(false, answer(200, "X-Own: a|X-Own: b|Location: /x")),
            "200|location: /x|upload-offset: 200|{yes}|{length}|x-own: a|x-own: b|{number}|".into(),
            false,
        ),
        (complete(false, answer(422, "")), "422|upload-offset: 200|{yes}|{length}|{number}|".into(), false),
        (complete(true, answer(422, "")), "422|upload-offset: 200|{yes}|{length}|{number}|".into(), true),
        (complete(true, answer(204, "")), "204|upload-offset: 200|{yes}|{length}|{number}|".into(), true),
        (
            complete(true, answer(201, "")),
            format!("201|{location}upload-offset: 200|{{yes}}|{{length}}|{{number}}|"),
            false,
        ),
        (
            complete(true, answer(201, "Location: https://elsewhere.example/1")),
            "201|location: https://elsewhere.example/1|upload-offset: 200|{yes}|{length}|{number}|".into(),
            false,
        ),
        // Fields of the dialect in the target's response are dropped.
        (
            complete(
                false,
                answer(
                    200,
                    "Upload-Complete: ?0|Upload-Incomplete: ?1|Upload-Offset: 3|Upload-Length: 4|Upload-Limit: x|Upload-Draft-Interop-Version: 1",
                ),
            ),
            "200|upload-offset: 200|{yes}|{length}|{number}|".into(),
            false,
        ),
        (Reply::Cancelled, "204|{number}|".into(), false),
    ];
    for (reply, template, creates) in table {
        for version in Interop::ALL {
            let template = match (creates, template.split_once('|')) {
                (true, Some((code, rest))) => format!("{code}|{}{rest}", v3_location(version)),
                _ => template.clone(),
            };
            let expected = spelled_out(version, &template);
            assert_eq!(
                written(&codec(version).encode(&reply, &limited())),
                expected,
                "{version:?} {reply:?}"
            );
        }
    }
}

// proves: IETF-APP-04, IETF-APP-05, IETF-APP-06, IETF-APP-07, IETF-APP-13, IETF-APP-15, IETF-CMP-06, IETF-LIM-06, IETF-LIM-07, IETF-RET-10, IETF-DEL-02, IETF-LEN-04, IETF-LEN-06, IETF-LEN-07, IETF-PRB-01, IETF-PRB-02, IETF-PRB-03
#[test]
fn refusals_are_encoded_as_their_version_requires() {
    let (at, end) = (state(7, Some(200), false), state(200, Some(200), true));
    let told = "{no}|{length}|cache-control: no-store|{number}|";
    let too_large = |limit, state| Refusal { reason: Reason::TooLarge { limit, bytes_max: 5 }, state };
    let cut = |cause| Reason::Interrupted(cause).with_state(at);
    let mismatch = |state: State| Reason::OffsetMismatch { provided: Offset::new(9) }.with_state(state);
    let table = [
        (mismatch(at), format!("409|upload-offset: 7|{told}")),
        // `Upload-Complete: ?0` shows that the response is not the target's, even if the upload is complete.
        (mismatch(end), format!("409|upload-offset: 200|{told}")),
        (Reason::InconsistentLength.with_state(end), format!("400|upload-offset: 200|{told}")),
        (Reason::InconsistentLength.with_state(at), format!("400|upload-offset: 7|{told}")),
        (Reason::InconsistentLength.into(), "400|{no}|cache-control: no-store|{number}|".into()),
        (
            Reason::LengthExceeded(Some(Length::new(200))).into(),
            "400|{no}|cache-control: no-store|{number}|".into(),
        ),
        (Reason::NotFound.into(), "404|{no}|cache-control: no-store|{number}|".into()),
        (
            Refusal { state: Some(at), ..Refusal::field("Upload-Offset", "x") },
            format!("400|upload-offset: 7|{told}"),
        ),
        (
            Reason::NotAppendMediaType { accept: PARTIAL_UPLOAD }.with_state(at),
            format!("415|accept-patch: application/partial-upload|upload-offset: 7|{told}"),
        ),
        (
            Reason::MethodNotAllowed { allow: "HEAD, PATCH" }.with_state(at),
            format!("405|allow: HEAD, PATCH|upload-offset: 7|{told}"),
        ),
        (too_large(SizeLimit::Append, Some(at)), format!("413|upload-offset: 7|{{limits and age}}|{told}")),
        (
            too_large(SizeLimit::Representation, None),
            "413|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::TooSmall { bytes_min: 3 }.with_state(at),
            format!("400|upload-offset: 7|{{limits and age}}|{told}"),
        ),
        (
            Reason::TooSmall { bytes_min: 3 }.into(),
            "400|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::TooManyUploads { uploads_max: 1 }.into(),
            "429|retry-after: 60|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (
            Reason::QuotaExceeded { bytes_max: 1 }.into(),
            "507|retry-after: 60|{no}|{limits}|cache-control: no-store|{number}|".into(),
        ),
        (Reason::StorageFull.with_state(at), format!("507|retry-after: 60|upload-offset: 7|{told}")),
        (cut(InterruptCause::Disconnected), format!("400|upload-offset: 7|{told}")),
        (cut(InterruptCause::TooSlow), format!("408|upload-offset: 7|{told}")),
        (cut(InterruptCause::Superseded), format!("409|upload-offset: 7|{told}")),
        (cut(InterruptCause::ShuttingDown), format!("503|retry-after: 1|upload-offset: 7|{told}")),
        (Reason::Busy.into(), "503|retry-after: 1|{no}|cache-control: no-store|{number}|".into()),
        (Reason::Internal.into(), "500|{no}|cache-control: no-store|{number}|".into()),
        (
            Reason::Unauthorized { challenge: "Bearer" }.into(),
            "401|www-authenticate: Bearer|{no}|cache-control: no-store|{number}|".into(),
        ),
    ];
    for (refusal, template) in table {
        for version in Interop::ALL {
            let expected = spelled_out(version, &template);
            assert_eq!(
                written(&Dialect::Ietf(codec(version)).refuse(&refusal, &limited())),
                expected,
                "{version:?} {refusal:?}"
            );
        }
    }
    let problem = mismatch(at).problem(None);
    assert_eq!(
        problem.problem_type.uri(),
        "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    );
    assert_eq!(problem.title, "Mismatching Upload Offset");
    assert_eq!(problem.numbers, [("expected-offset", 7), ("provided-offset", 9)]);
    for reason in [Reason::InconsistentLength, Reason::LengthExceeded(None)] {
        let problem = Refusal::new(reason).problem(None);
        assert_eq!(
            problem.problem_type.uri(),
            "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
        );
        assert_eq!((problem.title, problem.numbers.len()), ("Inconsistent Upload Length Values", 0));
    }
}

// proves: IETF-PRB-02, IETF-PRB-03
#[test]
fn an_append_to_a_complete_upload_has_the_problem_type_of_its_version() {
    let refusal = Reason::AlreadyComplete.with_state(state(200, Some(200), true));
    let completed = "https://iana.org/assignments/http-problem-types#completed-upload";
    let told = "{no}|{length}|cache-control: no-store|{number}|";
    for (versions, uri) in [
        (&[Interop::V3, Interop::V4, Interop::V5][..], "about:blank"),
        (&[Interop::V6, Interop::V7], completed),
    ] {
        for version in versions {
            let dialect = Dialect::Ietf(codec(*version));
            let expected = spelled_out(*version, &format!("400|upload-offset: 200|{told}"));
            assert_eq!(written(&dialect.refuse(&refusal, &limited())), expected, "{version:?}");
            let problem = refusal.problem(Some(dialect));
            assert_eq!((problem.status, problem.problem_type.uri()), (StatusCode::BAD_REQUEST, uri));
        }
    }
}

// proves: IETF-APP-14, IETF-APP-15
#[test]
fn the_response_to_an_append_to_a_complete_upload_depends_on_the_version() {
    for version in Interop::ALL {
        let parts =
            head("PATCH", &format!("{TYPE}Upload-Offset: 5|Upload-Complete: ?1|Upload-Incomplete: ?0"));
        let decoded = codec(version).decode_on_upload(ID, &parts, Some(0));
        let Operation::Append(append) = decoded.operation else { panic!("{decoded:?}") };
        let expected = match version {
            Interop::V3 | Interop::V4 | Interop::V5 | Interop::V6 | Interop::V7 => AppendToComplete::Rejects,
            Interop::V8 | Interop::V9 | Interop::V10 | Interop::Later(_) | Interop::Rfc => {
                AppendToComplete::Replays
            }
        };
        assert_eq!(append.when_complete, expected, "{version:?}");
    }
}

// proves: IETF-CRE-07, IETF-INT-01, IETF-INT-02, IETF-INT-03, IETF-INT-04, IETF-INT-05, IETF-INT-07, IETF-INT-12, IETF-INT-14, IETF-LIM-07, IETF-VER-02, IETF-VER-03
#[test]
fn who_is_sent_a_104_and_what_it_carries() {
    let began = Upload { lifetime: Some(Duration::from_secs(100)), ..upload() };
    let post = head("POST", "Upload-Complete: ?1|Upload-Incomplete: ?0");
    let create = codec(Interop::V8).decode_creation(&post, Some(9)).expect("a creation").operation;
    let patch = head("PATCH", &format!("{TYPE}Upload-Offset: 0|Upload-Complete: ?1"));
    let append = codec(Interop::V8).decode_on_upload(ID, &patch, Some(9)).operation;
    for version in Interop::ALL {
        let dialect = Dialect::Ietf(codec(version));
        let announced = dialect.announcement(&create, &post, &began, &limited()).expect("it is told");
        let template = format!("104|location: {BASE}/{ID}|{{limits and age}}|{{number}}|");
        assert_eq!(written(&announced), spelled_out(version, &template), "{version:?}");
        for operation in [&append, &Operation::Retrieve, &Operation::Cancel] {
            assert!(dialect.announcement(operation, &patch, &began, &limited()).is_none());
        }
        let progress = dialect.progress(Durable::attest(Offset::new(5))).as_ref().map(written);
        let expected = spelled_out(version, "104|upload-offset: 5|{number}|");
        assert_eq!(progress, (version > Interop::V4).then_some(expected), "{version:?}");

        // Not sent to a client that may not understand it, or for an upload that cannot be resumed.
        let deaf = IetfCodec { version, ..IetfCodec::unversioned() };
        assert!(deaf.announcement(&began, &limited()).is_none() && deaf.progress(Durable::ZERO).is_none());
        let semantics = Semantics { interruption: Interruption::Discards, ..began.semantics };
        let below_min_size = Upload { semantics, ..began.clone() };
        assert!(codec(version).announcement(&below_min_size, &limited()).is_none());
    }
}

// proves: IETF-LIM-02, IETF-OPT-02, IETF-SF-09
#[test]
fn limits_report_the_remaining_lifetime() {
    let limits_at = |limits: &Limits, lifetime: Option<u64>, now| {
        let upload = Upload { lifetime: lifetime.map(Duration::from_secs), ..upload() };
        let context = Context { base: BASE, limits, now: Timestamp::from_millis(now), lifetime: None };
        let head = codec(Interop::V8).announcement(&upload, &context).expect("it is told");
        head.headers()["upload-limit"].to_str().expect("ASCII").to_owned()
    };
    let none = Limits::default();
    let huge = Limits { size_max: Some(u64::MAX), append_max: Some(u64::MAX), ..none };
    let most = LARGEST_INTEGER;
    let table = [
        (&none, None, 0, "min-size=0".to_owned()),
        (&none, Some(100), 0, "min-size=0, max-age=100".into()),
        (&none, Some(100), 1, "min-size=0, max-age=99".into()),
        (&none, Some(100), 40_000, "min-size=0, max-age=60".into()),
        (&none, Some(100), 99_999, "min-size=0, max-age=0".into()),
        (&none, Some(100), 999_999, "min-size=0, max-age=0".into()),
        (&none, Some(u64::MAX), 0, format!("min-size=0, max-age={}", (u64::MAX / 1000).min(most))),
        (&huge, None, 0, format!("max-size={most}, min-size=0, max-append-size={most}")),
    ];
    for (limits, lifetime, now, expected) in table {
        assert_eq!(limits_at(limits, lifetime, now), expected);
    }
}

fn any_content() -> impl Strategy<Value = Content> {
    let finish = prop::sample::select(&[Finish::Here, Finish::Later][..]);
    (prop::option::of(0..=LARGEST_INTEGER), finish).prop_map(|(bytes, finish)| Content { bytes, finish })
}

fn any_operation(version: Interop) -> impl Strategy<Value = Operation> {
    let length = || prop::option::of((0..=LARGEST_INTEGER).prop_map(Length::new));
    let fields = prop::sample::subsequence(
        vec![("content-type", "image/png"), ("content-encoding", "gzip"), ("x-own", "1"), ("prefer", "a")],
        0..=4,
    );
    let method = prop::sample::select(&[Method::POST, Method::PUT, Method::PATCH][..]);
    let target = prop::sample::select(&["/uploads", "/", "/a/b?c=d"][..]);
    let origin = (method, target, fields).prop_map(|(method, target, fields)| {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Origin { method, target: target.into(), fields }
    });
    let create = (any_content(), length(), origin).prop_map(|(content, length, origin)| {
        // The size of the last request declares the length.
        let ends = content.bytes.filter(|_| content.finish == Finish::Here).map(Length::new);
        let (on_existing, below_min_size) = (OnExisting::Refuse, BelowMinSize::Ordinary);
        Operation::Create(Create {
            semantics: SEMANTICS,
            length: ends.or(length),
            content,
            on_existing,
            below_min_size,
            composition: Composition::Direct,
            waits_for_parts: false,
            origin,
        })
    });
    let when_complete = version.properties().when_complete;
    let append = (0..=LARGEST_INTEGER, length(), any_content()).prop_map(move |(at, length, content)| {
        Operation::Append(Append { like: None, at: Offset::new(at), length, content, when_complete })
    });
    prop_oneof![create, append, Just(Operation::Retrieve), Just(Operation::Cancel)]
}

/// The request by which a client asks for an operation.
fn intent(operation: &Operation) -> Intent<'_> {
    match operation {
        Operation::Create(Create { origin, length, content, .. }) => {
            Intent::Create { origin, length: *length, content: *content }
        }
        Operation::Append(Append { at, length, content, .. }) => {
            Intent::Append { at: *at, length: *length, finish: content.finish }
        }
        Operation::Retrieve => Intent::Query,
        Operation::Cancel => Intent::Cancel,
        Operation::Reject(refusal) => panic!("no client asks for a refusal: {refusal:?}"),
    }
}

fn any_spoken() -> impl Strategy<Value = (Interop, Operation)> {
    prop::sample::select(&Interop::ALL[..]).prop_flat_map(|version| (Just(version), any_operation(version)))
}

proptest! {
    // proves: IETF-VER-01, IETF-CLI-19, IETF-APP-01, IETF-CRE-03, IETF-CRE-04
    #[test]
    fn a_server_decodes_the_request_that_a_client_encodes((version, operation) in any_spoken()) {
        let (target, resource, bytes) = match &operation {
            Operation::Create(create) => (create.origin.target.clone(), Resource::Endpoint, create.content.bytes),
            Operation::Append(append) => (format!("/uploads/{ID}"), Resource::Upload(ID), append.content.bytes),
            _ => (format!("/uploads/{ID}"), Resource::Upload(ID), None),
        };
        let (parts, ()) = client::request(version, &target, &intent(&operation)).expect("a request").into_parts();
        let number = parts.headers.get(INTEROP_VERSION).map(|value| value.to_str().expect("ASCII").to_owned());
        prop_assert_eq!(number, version.number().map(|number| number.to_string()));
        let detected = super::super::detect(&parts, resource, super::super::DialectOptions { rfc_interim: true, ..Default::default() });
        let dialect = match detected {
            super::super::Detected::Dialect(dialect) => dialect,
            // A query without a version is answered in the dialect of the upload.
            super::super::Detected::ByUpload => Dialect::Ietf(codec(version)),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(dialect, Dialect::Ietf(codec(version)));
        let subject = if resource == Resource::Endpoint { Subject::Fresh } else { Subject::Id(ID) };
        let expected = Decoded { subject, family: Family::Ietf, operation };
        prop_assert_eq!(dialect.decode(&parts, resource, bytes), Ok(expected));
    }

    // proves: IETF-INT-08, IETF-VER-04
    #[test]
    fn a_client_decodes_the_response_that_a_server_encodes(
        version in prop::sample::select(&Interop::ALL[..]),
        other in prop::sample::select(&Interop::ALL[..]),
        offset in 0..=LARGEST_INTEGER,
        length in prop::option::of(0..=LARGEST_INTEGER),
        complete in any::<bool>(),
    ) {
        let said = state(offset, length, complete);
        let server = codec(version);
        let has_limits = version >= Interop::V6;
        let limits = has_limits.then_some(UploadLimits {
            size_max: Some(1000), size_min: Some(2), append_max: Some(500), append_min: Some(3), age_max: Some(60),
        });
        let told = UploadState {
            offset: Some(Offset::new(offset)),
            length: length.map(Length::new),
            complete: Some(complete),
            expires_in: None,
        };
        let heads = [
            (server.encode(&Reply::State { id: ID, state: said, described: HeaderMap::new() }, &limited()), told, limits),
            (server.encode(&Reply::Stored { id: ID, created: true, state: said }, &limited()), told, limits),
            (server.encode(&Reply::Stored { id: ID, created: false, state: said }, &limited()), told, None),
            (
                Dialect::Ietf(server).refuse(
                    &Reason::OffsetMismatch { provided: Offset::ZERO }.with_state(said), &limited()),
                UploadState { complete: Some(false), ..told },
                None,
            ),
        ];
        let read = |fields: &HeaderMap| client::response(version, StatusCode::OK, fields);
        for (head, state, limits) in heads {
            let response = read(head.headers());
            prop_assert_eq!((response.state, response.limits), (state, limits));
        }
        // A client accepts only interim responses of its own version.
        let interim = server.announcement(&upload(), &context(BASE)).expect("it is told");
        prop_assert_eq!(client::is_own_interim(other, interim.status(), interim.headers()), version == other);
        if let Some(progress) = server.progress(said.offset) {
            prop_assert_eq!(read(progress.headers()).state.offset, Some(Offset::new(offset)));
            prop_assert!(!progress.headers().contains_key(header::LOCATION));
        }
    }

    #[test]
    fn no_field_panics_a_client(
        version in prop::sample::select(&Interop::ALL[..]),
        name in prop::sample::select(&["upload-limit", "upload-offset", "upload-complete", "upload-incomplete", "upload-length", "upload-draft-interop-version"][..]),
        lines in prop::collection::vec(prop::collection::vec(prop_oneof![0x20..=0x7e_u8, 0x80..=0xff_u8], 0..60), 0..3),
    ) {
        let values = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let fields: HeaderMap = values.map(|value| (HeaderName::from_static(name), value)).collect();
        client::response(version, StatusCode::OK, &fields);
        client::is_own_interim(version, crate::dialect::resumption_supported(), &fields);
    }
}

#[test]
fn versions_and_numbers_correspond() {
    assert_eq!(numbered().map(|(_, number)| number).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8, 9, 10]);
    for (speaker, number) in numbered() {
        assert_eq!(Interop::of_number(number), Some(speaker.version));
    }
    for number in [0, 1, 2, 11, u64::MAX] {
        assert_eq!(Interop::of_number(number), None);
    }
}
