//! The machine in tus 1.0, event by event. `simulation` runs it against a server written from the specification.

use super::*;
use crate::dialect::tus1::client::{Capabilities, Concat};
use crate::dialect::tus1::{Extension, Extensions};

mod simulation;

type Story<'a> = Vec<(&'a str, Event)>;

const ALL: Capabilities = Capabilities { extensions: Extensions::ALL, checksum: None, size_max: None };

fn in_tus1(capabilities: Capabilities, concat: Concat) -> ClientDialect {
    ClientDialect::Tus1 { capabilities, concat }
}

fn begun(capabilities: Capabilities, length: impl Into<Option<Length>>) -> Uploader {
    let target = Uri::from_static("https://h.example/files");
    Uploader::create(in_tus1(capabilities, Concat::None), target, origin(), length, retries())
}

/// Writes a request as `POST /files length 100` or `PATCH /files/1 5-100 at 5`.
fn written(transmit: &Transmit) -> String {
    let text = |name: &str| {
        let value = transmit.head.headers().get(name);
        value.map(|value| value.to_str().expect("ASCII").to_owned())
    };
    assert_eq!(text("tus-resumable").as_deref(), Some("1.0.0"));
    let is_typed = text("content-type").as_deref() == Some("application/offset+octet-stream");
    assert_eq!(is_typed, transmit.content.is_some(), "content has its media type");
    let parts = [
        Some(transmit.head.method().to_string()),
        Some(transmit.head.uri().path().to_owned()),
        transmit.content.as_ref().map(|range| format!("{}-{}", range.start, range.end)),
        text("upload-offset").map(|at| format!("at {at}")),
        text("upload-length").map(|length| format!("length {length}")),
        text("upload-defer-length").map(|_| "deferred".to_owned()),
        text("upload-concat"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn play(uploader: &mut Uploader, story: &[(&str, Event)]) {
    for (number, (expected, event)) in story.iter().enumerate() {
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(transmit) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(written(&transmit), *expected, "request {number}");
        let whole = transmit.content.map_or(0, |range| range.end - range.start);
        let moment = moment(1000 * number as u64);
        match *event {
            Lost(sent) => {
                uploader.on_sent(sent.unwrap_or(0));
                uploader.on_lost(sent.is_some(), moment);
            }
            Answers(status, text) | AnswersEarly(_, status, text) => {
                uploader.on_sent(if let AnswersEarly(sent, ..) = event { *sent } else { whole });
                let status = StatusCode::from_u16(status).expect("a status");
                uploader.on_response(status, &fields(text), moment);
            }
        }
    }
}

const POST: &str = "POST /files length 100";
const CREATED: Event = Answers(201, "Location: /files/1");
const QUERY: &str = "HEAD /files/1";

// proves: TUS1-HDR-01, TUS1-HDR-07, TUS1-CRE-01, TUS1-CRE-03, TUS1-PATCH-02, TUS1-PATCH-04, TUS1-PATCH-06, TUS1-PATCH-08, TUS1-PATCH-10, TUS1-HEAD-01, TUS1-CHK-02, TUS1-EXP-04
#[test]
fn an_interrupted_upload_is_resumed_at_its_url() {
    let stories: Vec<(&str, Story<'_>)> = vec![
        ("whole", vec![(POST, CREATED), ("PATCH /files/1 0-100 at 0", Answers(204, "Upload-Offset: 100"))]),
        (
            "interrupted twice",
            vec![
                (POST, Lost(Some(0))),
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Lost(Some(60))),
                (QUERY, Answers(200, "Upload-Offset: 40|Upload-Length: 100")),
                ("PATCH /files/1 40-100 at 40", Answers(204, "Upload-Offset: 70")),
                ("PATCH /files/1 70-100 at 70", Answers(423, "")),
                (QUERY, Answers(423, "Retry-After: 1")),
                (QUERY, Answers(200, "Upload-Offset: 70|Upload-Length: 100")),
                ("PATCH /files/1 70-100 at 70", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "the last answer is lost",
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Lost(Some(100))),
                (QUERY, Answers(204, "Upload-Offset: 100|Upload-Length: 100")),
            ],
        ),
        (
            "conflicts with and without an offset",
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", AnswersEarly(0, 409, "Upload-Offset: 30")),
                ("PATCH /files/1 30-100 at 30", AnswersEarly(0, 409, "")),
                (QUERY, Answers(200, "Upload-Offset: 50|Upload-Length: 100")),
                ("PATCH /files/1 50-100 at 50", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "expired and created again",
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Lost(Some(60))),
                (QUERY, Answers(410, "")),
                (POST, Answers(201, "Location: https://h.example/files/2")),
                ("PATCH /files/2 0-100 at 0", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "damaged in transit",
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Answers(460, "")),
                (QUERY, Answers(200, "Upload-Offset: 0|Upload-Length: 100")),
                ("PATCH /files/1 0-100 at 0", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "too large for one request",
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", AnswersEarly(0, 413, "")),
                (QUERY, Answers(200, "Upload-Offset: 0|Upload-Length: 100")),
                ("PATCH /files/1 0-50 at 0", Answers(204, "Upload-Offset: 50")),
                ("PATCH /files/1 50-100 at 50", Answers(204, "Upload-Offset: 100")),
            ],
        ),
    ];
    for (name, story) in stories {
        let mut uploader = begun(Capabilities::assumed(), Length::new(100));
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()), "{name}");
        assert_eq!((uploader.acknowledged(), uploader.is_answered()), (Offset::new(100), true), "{name}");
    }
}

// proves: TUS1-CRE-05, TUS1-CWU-01, TUS1-CWU-03
#[test]
fn small_content_goes_with_the_creation() {
    let with = "POST /files 0-100 length 100";
    let stories: Vec<(u64, Result<(), Failure>, Story<'_>)> = vec![
        (100, Ok(()), vec![(with, Answers(201, "Location: /files/1|Upload-Offset: 100"))]),
        (
            100,
            Ok(()),
            vec![
                (with, Answers(201, "Location: /files/1|Upload-Offset: 5")),
                ("PATCH /files/1 5-100 at 5", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (
            100,
            Ok(()),
            vec![
                (with, Lost(Some(60))),
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Answers(204, "Upload-Offset: 100")),
            ],
        ),
        (100, Err(Failure::Unanswered), vec![(with, Lost(Some(100)))]),
        (0, Ok(()), vec![("POST /files length 0", CREATED)]),
        (
            1 << 20,
            Ok(()),
            vec![
                ("POST /files length 1048576", CREATED),
                ("PATCH /files/1 0-1048576 at 0", Answers(204, "Upload-Offset: 1048576")),
            ],
        ),
    ];
    for (length, end, story) in stories {
        let mut uploader = begun(ALL, Length::new(length));
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), end, "{length}");
    }
}

#[test]
fn an_expired_upload_is_created_again_without_a_query() {
    const CREATED: &str = "Location: /files/1|Date: Sun, 06 Nov 1994 08:49:37 GMT|Upload-Expires: Sun, 06 Nov 1994 08:49:47 GMT";
    let mut uploader = begun(Capabilities::assumed(), Length::new(100));
    let story = [
        (POST, Answers(201, CREATED)),
        ("PATCH /files/1 0-100 at 0", AnswersEarly(60, 503, "Retry-After: 20")),
        (POST, Answers(201, "Location: /files/2")),
        ("PATCH /files/2 0-100 at 0", Answers(204, "Upload-Offset: 100")),
    ];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
}

#[test]
fn interruptions_halve_the_content_under_one_digest() {
    const MIB: u64 = 1024 * 1024;
    let capabilities = Capabilities { checksum: Some(Checksum::Sha1), ..Capabilities::assumed() };
    let mut uploader = begun(capabilities, Length::new(100 * MIB));
    play(&mut uploader, &[("POST /files length 104857600", CREATED)]);
    for most in [16 * MIB, 8 * MIB, 4 * MIB] {
        let Step::Send(transmit) = uploader.step() else { panic!("no request") };
        assert_eq!((transmit.content, transmit.checksum), (Some(0..most), Some(Checksum::Sha1)));
        uploader.on_lost(true, moment(0));
        play(&mut uploader, &[(QUERY, Answers(200, "Upload-Offset: 0|Upload-Length: 104857600"))]);
    }
}

// proves: TUS1-CDL-02
#[test]
fn a_deferred_length_is_sent_once_it_is_known() {
    let mut uploader = begun(ALL, None);
    play(&mut uploader, &[("POST /files deferred", CREATED)]);
    let Step::Send(transmit) = uploader.step() else { panic!("no request") };
    assert!(transmit.is_open && transmit.head.headers().get("upload-length").is_none());
    uploader.on_sent(60);
    uploader.on_content_end(60);
    uploader.on_source_end(Length::new(60));
    uploader.on_response(StatusCode::NO_CONTENT, &fields("Upload-Offset: 60"), moment(0));
    play(&mut uploader, &[("PATCH /files/1 60-60 at 60 length 60", Answers(204, "Upload-Offset: 60"))]);
    assert_eq!((ends(&mut uploader), uploader.attempts_repeated()), (Ok(()), 0));
}

// proves: TUS1-CAT-02, TUS1-CAT-03, TUS1-CAT-05, TUS1-CAT-14
#[test]
fn partial_uploads_are_joined() {
    let target = || Uri::from_static("https://h.example/files");
    let length = Length::new(7);
    let mut part =
        Uploader::create(in_tus1(ALL, Concat::Partial), target(), origin(), length, Retries::default());
    play(
        &mut part,
        &[("POST /files 0-7 length 7 partial", Answers(201, "Location: /files/1|Upload-Offset: 7"))],
    );
    let parts = vec![part.url().expect("known").clone(), Uri::from_static("/files/2")];
    let joined = in_tus1(ALL, Concat::Final(parts));
    let mut whole = Uploader::create(joined, target(), origin(), Length::new(9), Retries::default());
    let Step::Send(transmit) = whole.step() else { panic!("no request") };
    assert_eq!(transmit.head.headers()["upload-concat"], "final;https://h.example/files/1 /files/2");
    assert!(transmit.content.is_none() && !transmit.head.headers().contains_key("upload-length"));
    whole.on_response(StatusCode::CREATED, &fields("Location: /files/3"), moment(0));
    assert_eq!(ends(&mut whole), Ok(()));
}

// proves: TUS1-TRM-01
#[test]
fn an_impossible_response_fails_the_upload() {
    let (length, url) = (Length::new(100), Uri::from_static("https://h.example/files/1"));
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let different = |remote| Failure::Different { remote, length };
    let stories: Vec<(Failure, Story<'_>)> = vec![
        (rejected(401), vec![(POST, Answers(401, ""))]),
        (Failure::NotResumable, vec![(POST, Answers(201, ""))]),
        (
            different(90),
            vec![
                (POST, CREATED),
                ("PATCH /files/1 0-100 at 0", Lost(Some(9))),
                (QUERY, Answers(200, "Upload-Offset: 9|Upload-Length: 90")),
                ("DELETE /files/1", Answers(204, "")),
            ],
        ),
        (
            Failure::Gone,
            vec![(POST, CREATED), ("PATCH /files/1 0-100 at 0", Lost(Some(100))), (QUERY, Answers(404, ""))],
        ),
        // The server may have completed the upload and forgotten it, although it does not say so.
        (
            Failure::Gone,
            vec![(POST, CREATED), ("PATCH /files/1 0-100 at 0", Answers(204, "")), (QUERY, Answers(404, ""))],
        ),
    ];
    for (failure, story) in stories {
        let mut uploader = begun(Capabilities::assumed(), length);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Err(failure));
    }
    // An upload of an earlier client is not created again, because its creation is unknown.
    let mut uploader =
        Uploader::resume(in_tus1(ALL, Concat::None), url, origin(), length, Retries::default());
    play(&mut uploader, &[(QUERY, Answers(404, ""))]);
    assert_eq!(ends(&mut uploader), Err(Failure::Gone));
}
