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

mod encoding;
mod round_trip;

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

fn state(offset: u64, length: Option<u64>, complete: bool) -> State {
    let expires = Some(Timestamp::from_millis(100_000));
    let offset = Durable::attest(Offset::new(offset));
    State { offset, length: length.map(Length::new), complete, expires, awaits_parts: false, part: None }
}

const LIMITS: Limits = Limits { size_max: Some(1000), size_min: 2, append_max: Some(500), append_min: 3 };

fn limited() -> Context<'static> {
    let lifetime = Some(Duration::from_secs(90));
    Context { base: BASE, alias: None, limits: &LIMITS, now: Timestamp::from_millis(39_001), lifetime }
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
