//! Tests of the record format: every record is read back, and anything else is refused.

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::types::{Durable, Length, Offset, PartNumber, Principal, Timestamp, UploadId};
use hoist_proto::upload::{
    Completion, Composition, EventKind, EventRequest, Excess, Family, GivenUp, IndexedParts, Interruption,
    Origin, PartNumberSet, PendingEvent, Phase, Semantics, SinkKey, TargetResponse, Upload,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::{Record, from_bytes, to_bytes};
use crate::store::Error;

/// A record of version 1 as first released. The file never changes, and must be readable forever.
const SAMPLE: &[u8] = include_bytes!("version1.record");

fn sample() -> Record {
    let mut fields = HeaderMap::new();
    fields.append("content-type", HeaderValue::from_static("video/mp4"));
    fields
        .append("content-disposition", HeaderValue::from_static("attachment; filename=\"a: \\\"b\\\".mp4\""));
    fields.append("x-note", HeaderValue::from_static("one"));
    fields.append("x-note", HeaderValue::from_static(""));
    fields.append("x-binary", HeaderValue::from_bytes(b"caf\xe9 \xff").expect("obs-text is allowed"));
    let mut answered = HeaderMap::new();
    answered.append("location", HeaderValue::from_static("/files/7"));
    Record {
        upload: Upload {
            id: "1m6rt34g64vr34c1m6rt34g64r".parse::<UploadId>().expect("an id"),
            family: Family::Token,
            semantics: Semantics {
                completion: Completion::AtLengthOrEnd,
                excess: Excess::Invalidates,
                interruption: Interruption::Resumes,
            },
            owner: Some(Principal::new("alice")),
            composition: Composition::Direct,
            alias: None,
            file: None,
            origin: Origin { method: Method::POST, target: "/uploads?to=a".to_owned(), fields },
            created: Timestamp::from_millis(1_700_000_000_123),
            touched: Timestamp::from_millis(1_700_000_009_876),
            lifetime: Some(Duration::from_hours(168)),
            resumes: 0,
            events: Vec::new(),
            length: Some(Length::new(4_294_967_296)),
            offset: Durable::ZERO,
            phase: Phase::Delivered(TargetResponse {
                status: StatusCode::CREATED,
                fields: answered,
                content: b"stored \x00\xff".to_vec(),
            }),
        },
        discarded: Some(Offset::new(4_294_967_296)),
    }
}

#[test]
fn the_sample_of_version_1_is_readable_forever() {
    assert_eq!(from_bytes(SAMPLE).expect("the sample decodes"), sample());
    // Version 1 is also written exactly like this.
    assert_eq!(String::from_utf8(to_bytes(&sample()).expect("encodes")), String::from_utf8(SAMPLE.to_vec()));
}

#[test]
fn a_record_states_its_creation_in_a_line_of_its_own() {
    let text = String::from_utf8(SAMPLE.to_vec()).expect("the sample is text");
    assert_eq!(text.matches(&super::creation_line(sample().upload.created)).count(), 1);
    assert!(!text.contains(&super::creation_line(sample().upload.touched)));
}

#[test]
fn names_that_a_hook_has_chosen_are_kept() {
    let mut record = sample();
    (record.upload.alias, record.upload.file) = (Some("a/b%20c".into()), Some("in/b".into()));
    assert_eq!(from_bytes(&to_bytes(&record).expect("encodes")).expect("decodes"), record);
}

#[test]
fn every_torn_or_edited_record_is_refused() {
    for end in 0..SAMPLE.len() {
        assert!(matches!(from_bytes(&SAMPLE[..end]), Err(Error::Damaged(_))), "cut at {end}");
        assert!(super::is_torn(&SAMPLE[..end]), "cut at {end}");
    }
    for at in 0..SAMPLE.len() {
        let mut edited = SAMPLE.to_vec();
        edited[at] ^= 1;
        assert!(matches!(from_bytes(&edited), Err(Error::Damaged(_))), "edited at {at}");
    }
    let mut longer = SAMPLE.to_vec();
    longer.push(b'\n');
    assert!(from_bytes(&longer).is_err());
    assert!(from_bytes(&vec![b' '; super::BYTES_MAX + 1]).is_err());
}

/// Returns `text` with its checksum, as a complete record.
fn sealed(text: &str) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let sum = hoist_proto::hex::encode(&Sha256::digest(text.as_bytes()));
    format!("{text}{}{sum}{}", super::CHECKSUM, super::CLOSING).into_bytes()
}

fn body() -> String {
    let text = String::from_utf8(SAMPLE.to_vec()).expect("the sample is text");
    text[..text.find(super::CHECKSUM).expect("it has a checksum")].to_owned()
}

#[test]
fn a_record_counts_resumptions_and_one_without_the_count_has_none() {
    let resumed = Record { upload: Upload { resumes: 2, ..sample().upload }, ..sample() };
    let text = String::from_utf8(to_bytes(&resumed).expect("encodes")).expect("text");
    assert!(text.contains("\n  \"resumes\": 2,\n"), "{text}");
    assert_eq!(from_bytes(text.as_bytes()).expect("decodes"), resumed);
    assert!(!body().contains("\"resumes\": ") && sample().upload.resumes == 0);
}

/// Events as a record has them; the second one has the request of the first.
const EVENTS: &str = r#""events": [
    {
      "kind": "created",
      "at_ms": 1700000000123,
      "offset": 0,
      "sinks": [
        "00000000000000ff",
        "0102030405060708"
      ],
      "request": {
        "method": "POST",
        "uri": "/uploads",
        "remote": "192.0.2.7:4711",
        "fields": [
          "user-agent: curl/8"
        ]
      }
    },
    {
      "kind": "finished",
      "at_ms": 1700000009876,
      "offset": 4294967296,
      "length": 4294967296,
      "sinks": [
        "00000000000000ff"
      ],
      "request": "same",
      "given_up": {
        "at_ms": 1700000099999,
        "attempts": 7,
        "why": "answered 500"
      },
      "retried_ms": 1700000199999
    }
  ]"#;

fn events() -> Vec<PendingEvent> {
    let sink = |last| SinkKey::from_bits([0, 0, 0, 0, 0, 0, 0, last]);
    let fields = HeaderMap::from_iter([(http::header::USER_AGENT, HeaderValue::from_static("curl/8"))]);
    let (uri, remote) = ("/uploads".to_owned(), "192.0.2.7:4711".to_owned());
    let created = PendingEvent {
        kind: EventKind::Created,
        at: Timestamp::from_millis(1_700_000_000_123),
        offset: Offset::ZERO,
        length: None,
        sinks: vec![sink(255), SinkKey::from_bits([1, 2, 3, 4, 5, 6, 7, 8])],
        request: Some(Arc::new(EventRequest { method: Method::POST, uri, remote, fields })),
        given_up: None,
        retried: None,
    };
    let given_up = GivenUp {
        at: Timestamp::from_millis(1_700_000_099_999),
        attempts: 7,
        why: "answered 500".to_owned(),
    };
    let finished = PendingEvent {
        kind: EventKind::Finished,
        at: Timestamp::from_millis(1_700_000_009_876),
        offset: Offset::new(4_294_967_296),
        length: Some(Length::new(4_294_967_296)),
        sinks: vec![sink(255)],
        given_up: Some(given_up),
        retried: Some(Timestamp::from_millis(1_700_000_199_999)),
        ..created.clone()
    };
    vec![created, finished]
}

/// Returns the sample with a member behind its last.
fn with_last_member(member: &str) -> Vec<u8> {
    let body = body();
    let text = body.strip_suffix(",\n").expect("a member is last");
    sealed(&format!("{text},\n  {member},\n"))
}

#[test]
fn events_keep_their_format_forever_and_a_record_without_them_has_none() {
    let record = Record { upload: Upload { events: events(), ..sample().upload }, ..sample() };
    let bytes = with_last_member(EVENTS);
    assert_eq!(from_bytes(&bytes).expect("decodes"), record);
    assert_eq!(String::from_utf8(to_bytes(&record).expect("encodes")), String::from_utf8(bytes));
    assert!(!body().contains("events") && sample().upload.events.is_empty());
    let extended = EVENTS.replace("\"offset\": 0", "\"colour\": [], \"offset\": 0");
    assert_eq!(
        from_bytes(&with_last_member(&extended)).expect("decodes"),
        record,
        "unknown members are ignored"
    );
}

#[test]
fn an_event_that_this_version_does_not_know_is_a_clear_error() {
    let newer = with_last_member(&EVENTS.replace("\"finished\"", "\"moved\""));
    let error = from_bytes(&newer).expect_err("it is unknown").to_string();
    assert!(error.contains("\"moved\"") && error.contains("newer version"), "{error}");
    assert!(!super::is_torn(&newer), "and is not the remains of a crash");
    for (old, new) in [
        ("\"kind\": \"created\"", "\"kind\": 7"),
        ("\"at_ms\": 1700000000123,", ""),
        ("\"00000000000000ff\"", "\"00000000000000FF\""),
        ("\"00000000000000ff\"", "\"https://example.org\""),
        ("\"method\": \"POST\"", "\"method\": \"P ST\""),
        ("\"user-agent: curl/8\"", "\"user-agent\""),
        ("\"request\": \"same\"", "\"request\": \"other\""),
        ("\"offset\": 0", "\"offset\": -1"),
    ] {
        assert!(EVENTS.contains(old), "{old}");
        let edited = with_last_member(&EVENTS.replacen(old, new, 1));
        assert!(matches!(from_bytes(&edited), Err(Error::Damaged(_))), "{new}");
    }
    let first = EVENTS.find("\"request\": {").expect("is there");
    let end = EVENTS.find("\n    },").expect("is there");
    let orphan = format!("{}\"request\": \"same\"{}", &EVENTS[..first], &EVENTS[end..]);
    assert!(from_bytes(&with_last_member(&orphan)).is_err(), "no event is before the first");
}

#[test]
fn unknown_members_are_ignored_and_unknown_versions_are_refused() {
    assert_eq!(sealed(&body()), SAMPLE);
    let extended = sealed(&body().replace("  \"owner\"", "  \"colour\": [1, {\"a\": null}],\n  \"owner\""));
    assert_eq!(from_bytes(&extended).expect("decodes"), sample());
    let newer = sealed(&body().replace("\"version\": 1", "\"version\": 2"));
    let error = from_bytes(&newer).expect_err("a newer version is refused").to_string();
    assert!(error.contains("version 2") && error.contains("version 1"), "{error}");
    assert!(!super::is_torn(&newer), "and is not the remains of a crash");
}

/// Returns the sample with a member inserted before its method.
fn with_member(member: &str) -> Vec<u8> {
    sealed(&body().replace("  \"method\"", &format!("  {member},\n  \"method\"")))
}

#[test]
fn the_composition_keeps_its_format_forever() {
    let number = |number| PartNumber::new(number).expect("in range");
    let ids = ["1m6rt34g64vr34c1m6rt34g64r", "00000000000000000000000000", "1m6rt34g64vr34c1m6rt34g64r"];
    let joined = ids.iter().map(|id| id.parse::<UploadId>().expect("an id")).collect();
    let numbered = |highest, last: Option<u64>| {
        Composition::Indexed(IndexedParts {
            started: PartNumberSet::up_to(number(highest)),
            last: last.map(number),
        })
    };
    let ids_text = ids.map(|id| format!("\n      \"{id}\"")).join(",");
    for (text, composition) in [
        ("\"part\"".to_owned(), Composition::Part),
        (format!("{{\n    \"joined\": [{ids_text}\n    ]\n  }}"), Composition::Concatenated(joined)),
        ("{\n    \"joined\": []\n  }".to_owned(), Composition::Concatenated(vec![])),
        ("{\n    \"numbered\": {\n      \"highest\": 7\n    }\n  }".to_owned(), numbered(7, None)),
        (
            "{\n    \"numbered\": {\n      \"highest\": 9999,\n      \"last\": 0\n    }\n  }".to_owned(),
            numbered(9999, Some(0)),
        ),
        (
            "{\n    \"numbered\": {\n      \"highest\": 9,\n      \"begun\": [\n        [\n          0,\n          3\n        \
             ],\n        [\n          9,\n          9\n        ]\n      ]\n    }\n  }"
                .to_owned(),
            Composition::Indexed(IndexedParts { started: PartNumberSet::up_to(number(3)).and(number(9)), last: None }),
        ),
    ] {
        let bytes = with_member(&format!("\"makeup\": {text}"));
        let record = Record { upload: Upload { composition, ..sample().upload }, ..sample() };
        assert_eq!(from_bytes(&bytes).expect("decodes"), record);
        assert_eq!(String::from_utf8(to_bytes(&record).expect("encodes")), String::from_utf8(bytes));
    }
    // Explicit or absent, as in every record from before the member existed.
    assert_eq!(from_bytes(&with_member("\"makeup\": \"own\"")).expect("decodes"), sample());
    assert_eq!(from_bytes(SAMPLE).expect("decodes").upload.composition, Composition::Direct);
    for wrong in [
        "\"whole\"",
        "null",
        "7",
        "[]",
        "{}",
        "{\"joined\": \"1m6rt34g64vr34c1m6rt34g64r\"}",
        "{\"joined\": [\"../../../../../../etc/pass\"]}",
        "{\"joined\": [7]}",
        "{\"numbered\": {}}",
        "{\"numbered\": {\"highest\": 10000}}",
        "{\"numbered\": {\"highest\": -1}}",
        "{\"numbered\": {\"highest\": 1, \"last\": 18446744073709551615}}",
        "{\"part\": 1, \"own\": 2}",
    ] {
        let edited = with_member(&format!("\"makeup\": {wrong}"));
        assert!(matches!(from_bytes(&edited), Err(Error::Damaged(_))), "{wrong}");
    }
}

#[test]
fn the_largest_number_of_parts_fits_the_record() {
    let parts = (0..=u128::from(PartNumber::MAX)).map(|part| UploadId::from_bits(part.to_be_bytes()));
    let composition = Composition::Concatenated(parts.collect());
    let record = Record { upload: Upload { composition, ..sample().upload }, ..sample() };
    assert_eq!(from_bytes(&to_bytes(&record).expect("encodes")).expect("decodes"), record);
}

#[test]
fn contradictory_records_are_damaged() {
    let edits = [
        ("\"delivered\"", "\"open\""),
        ("\"delivered\"", "\"dreaming\""),
        ("\"status\": 201", "\"status\": 99"),
        ("\"method\": \"POST\"", "\"method\": \"P ST\""),
        ("\"x-note: one\"", "\"x-note\""),
        ("\"x-note: one\"", "\"x note: one\""),
        ("\"x-note: one\"", "\"x-note: a\\nb\""),
        ("636166e920ff", "636166e920f"),
        ("636166e920ff", "636166e920fg"),
        ("\"1m6rt34g64vr34c1m6rt34g64r\"", "\"../../../../../../etc/pass\""),
        ("\"length\": 4294967296", "\"length\": -1"),
    ];
    for (old, new) in edits {
        assert!(body().contains(old), "{old}");
        let edited = sealed(&body().replace(old, new));
        assert!(matches!(from_bytes(&edited), Err(Error::Damaged(_))), "{new}");
    }
    let deep = format!("{{\"version\": 1, \"a\": {}", "[".repeat(100_000));
    assert!(from_bytes(deep.as_bytes()).is_err());
}

fn header_map() -> impl Strategy<Value = HeaderMap> {
    let octet = prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')];
    let field = ("[a-z][a-z0-9-]{0,12}", prop::collection::vec(octet, 0..24));
    prop::collection::vec(field, 0..6).prop_map(|fields| {
        let entry = |(name, value): (String, Vec<u8>)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            (name, HeaderValue::from_bytes(&value).expect("a value"))
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields.into_iter().map(entry) {
            map.append(name, value);
        }
        map
    })
}

fn answer() -> impl Strategy<Value = TargetResponse> {
    (100_u16..1000, header_map(), any::<Vec<u8>>()).prop_map(|(status, fields, content)| TargetResponse {
        status: StatusCode::from_u16(status).expect("in range"),
        fields,
        content,
    })
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Open),
        Just(Phase::Received),
        answer().prop_map(Phase::Delivered),
        answer().prop_map(Phase::Failed),
    ]
}

fn composition() -> impl Strategy<Value = Composition> {
    let number =
        || (0..=u64::from(PartNumber::MAX)).prop_map(|number| PartNumber::new(number).expect("in range"));
    let ids = prop::collection::vec(any::<[u8; 16]>().prop_map(UploadId::from_bits), 0..40);
    prop_oneof![
        Just(Composition::Direct),
        Just(Composition::Part),
        ids.prop_map(Composition::Concatenated),
        (number(), prop::collection::vec(number(), 0..20), prop::option::of(number())).prop_map(
            |(first, more, last)| {
                let begun = more.into_iter().fold(PartNumberSet::with(first), PartNumberSet::and);
                Composition::Indexed(IndexedParts { started: begun, last })
            }
        ),
    ]
}

fn some_events() -> impl Strategy<Value = Vec<PendingEvent>> {
    let kind = prop::sample::select(EventKind::ALL.to_vec());
    let sinks = prop::collection::vec(any::<[u8; 8]>().prop_map(SinkKey::from_bits), 0..4);
    let request = (any::<String>(), any::<String>(), header_map()).prop_map(|(uri, remote, fields)| {
        Arc::new(EventRequest { method: Method::PATCH, uri, remote, fields })
    });
    let given_up = (any::<u64>(), any::<u32>(), any::<String>()).prop_map(|(at, attempts, why)| GivenUp {
        at: Timestamp::from_millis(at),
        attempts,
        why,
    });
    let numbers = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>());
    let event = (kind, sinks, prop::option::of(request), prop::option::of(given_up), numbers).prop_map(
        |(kind, sinks, request, given_up, (at, offset, length, retried))| PendingEvent {
            kind,
            at: Timestamp::from_millis(at),
            offset: Offset::new(offset),
            length: length.map(Length::new),
            sinks,
            request,
            given_up,
            retried: retried.map(Timestamp::from_millis),
        },
    );
    prop::collection::vec((event, any::<bool>()), 0..4).prop_map(|events| {
        let mut all: Vec<PendingEvent> = Vec::new();
        for (mut event, repeats) in events {
            if let Some(last) = all.last().filter(|_| repeats) {
                event.request.clone_from(&last.request);
            }
            all.push(event);
        }
        all
    })
}

fn upload() -> impl Strategy<Value = Upload> {
    use prop::sample::select;
    let semantics = (
        select(vec![
            Completion::AtLength,
            Completion::AtLengthOrEnd,
            Completion::Explicit,
            Completion::ExplicitOrAtLength,
        ]),
        select(vec![Excess::Invalidates, Excess::Keeps]),
        select(vec![Interruption::Resumes, Interruption::Discards]),
    );
    let family = select(vec![Family::Conventional, Family::Token, Family::Ietf, Family::Tus1]);
    let origin = (select(vec![Method::POST, Method::PUT, Method::PATCH]), any::<String>(), header_map());
    let times = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>());
    let who = (any::<Option<String>>(), composition(), any::<u32>(), some_events());
    (any::<[u8; 16]>(), family, semantics, who, origin, times, phase()).prop_map(
        |(bits, family, (completion, excess, interruption), who, origin, times, phase)| {
            let (owner, composition, resumes, events) = who;
            Upload {
                id: UploadId::from_bits(bits),
                family,
                semantics: Semantics { completion, excess, interruption },
                owner: owner.map(Principal::new),
                composition,
                alias: None,
                file: None,
                origin: Origin { method: origin.0, target: origin.1, fields: origin.2 },
                created: Timestamp::from_millis(times.0),
                touched: Timestamp::from_millis(times.1),
                lifetime: times.2.map(Duration::from_millis),
                resumes,
                events,
                length: times.3.map(Length::new),
                offset: Durable::ZERO,
                phase,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_record_is_read_back(upload in upload(), discarded in any::<Option<u64>>()) {
        let record = Record { upload, discarded: discarded.map(Offset::new) };
        let bytes = to_bytes(&record).expect("encodes");
        prop_assert!(!super::is_torn(&bytes));
        prop_assert_eq!(from_bytes(&bytes).expect("decodes"), record);
    }

    #[test]
    fn from_bytes_never_panics(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        let _ = from_bytes(&bytes);
        let _ = from_bytes(&sealed(&text));
    }
}
