//! The machine in tus 1.0: event by event, and let loose on a server of the protocol's own words.

use super::*;

mod simulation;

type Story<'a> = Vec<(&'a str, Event)>;

const ALL: Offers = Offers {
    with_upload: true,
    defers_length: true,
    terminates: true,
    concatenates: true,
    ..Offers::least()
};

fn begun(offers: Offers, length: impl Into<Option<Length>>) -> Uploader {
    let target = Uri::from_static("https://h.example/files");
    let retries = Retries { attempts: 5, ..Retries::default() };
    Uploader::create_tus1(target, offers, Role::Whole, origin(), length, retries)
}

/// `POST /files length 100`, `PATCH /files/1 5-100 at 5`.
fn said(ask: &Ask) -> String {
    let text = |name: &str| {
        let value = ask.head.headers().get(name);
        value.map(|value| value.to_str().expect("ASCII").to_owned())
    };
    assert_eq!(text("tus-resumable").as_deref(), Some("1.0.0"));
    let is_typed = text("content-type").as_deref() == Some("application/offset+octet-stream");
    assert_eq!(is_typed, ask.content.is_some(), "content has its type");
    let parts = [
        Some(ask.head.method().to_string()),
        Some(ask.head.uri().path().to_owned()),
        ask.content.as_ref().map(|range| format!("{}-{}", range.start, range.end)),
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
        let Step::Send(ask) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(said(&ask), *expected, "request {number}");
        let whole = ask.content.map_or(0, |range| range.end - range.start);
        let moment = moment(1000 * number as u64);
        match *event {
            Lost(sent) => {
                uploader.on_sent(sent.unwrap_or(0));
                uploader.on_lost(sent.is_some(), moment);
            }
            Says(status, text) | SaysEarly(_, status, text) => {
                uploader.on_sent(if let SaysEarly(sent, ..) = event { *sent } else { whole });
                let status = StatusCode::from_u16(status).expect("a status");
                uploader.on_response(status, &fields(text), moment);
            }
        }
    }
}

const POST: &str = "POST /files length 100";
const MADE: Event = Says(201, "Location: /files/1");
const ASKED: &str = "HEAD /files/1";

// proves: TUS1-HDR-01, TUS1-HDR-07, TUS1-CRE-01, TUS1-CRE-03, TUS1-PATCH-02, TUS1-PATCH-04, TUS1-PATCH-06, TUS1-PATCH-08, TUS1-PATCH-10, TUS1-HEAD-01, TUS1-CHK-02, TUS1-EXP-04
#[test]
fn what_was_interrupted_goes_on_at_the_url() {
    let stories: Vec<(&str, Story<'_>)> = vec![
        ("whole", vec![(POST, MADE), ("PATCH /files/1 0-100 at 0", Says(204, "Upload-Offset: 100"))]),
        (
            "cut, and again",
            vec![
                (POST, Lost(Some(0))),
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Lost(Some(60))),
                (ASKED, Says(200, "Upload-Offset: 40|Upload-Length: 100")),
                ("PATCH /files/1 40-100 at 40", Says(204, "Upload-Offset: 70")),
                ("PATCH /files/1 70-100 at 70", Says(423, "")),
                (ASKED, Says(423, "Retry-After: 1")),
                (ASKED, Says(200, "Upload-Offset: 70|Upload-Length: 100")),
                ("PATCH /files/1 70-100 at 70", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "the answer to the last is lost",
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Lost(Some(100))),
                (ASKED, Says(204, "Upload-Offset: 100|Upload-Length: 100")),
            ],
        ),
        (
            "elsewhere, by its word and without one",
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", SaysEarly(0, 409, "Upload-Offset: 30")),
                ("PATCH /files/1 30-100 at 30", SaysEarly(0, 409, "")),
                (ASKED, Says(200, "Upload-Offset: 50|Upload-Length: 100")),
                ("PATCH /files/1 50-100 at 50", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "expired, and begun again",
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Lost(Some(60))),
                (ASKED, Says(410, "")),
                (POST, Says(201, "Location: https://h.example/files/2")),
                ("PATCH /files/2 0-100 at 0", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "damaged on the way",
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Says(460, "")),
                (ASKED, Says(200, "Upload-Offset: 0|Upload-Length: 100")),
                ("PATCH /files/1 0-100 at 0", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (
            "too much at once",
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", SaysEarly(0, 413, "")),
                (ASKED, Says(200, "Upload-Offset: 0|Upload-Length: 100")),
                ("PATCH /files/1 0-50 at 0", Says(204, "Upload-Offset: 50")),
                ("PATCH /files/1 50-100 at 50", Says(204, "Upload-Offset: 100")),
            ],
        ),
    ];
    for (name, story) in stories {
        let mut uploader = begun(Offers::least(), Length::new(100));
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()), "{name}");
        assert_eq!((uploader.acknowledged(), uploader.is_answered()), (Offset::new(100), true), "{name}");
    }
}

// proves: TUS1-CRE-05, TUS1-CWU-01, TUS1-CWU-03
#[test]
fn little_goes_with_the_creation() {
    let with = "POST /files 0-100 length 100";
    let stories: Vec<(u64, Result<(), Failure>, Story<'_>)> = vec![
        (100, Ok(()), vec![(with, Says(201, "Location: /files/1|Upload-Offset: 100"))]),
        (
            100,
            Ok(()),
            vec![
                (with, Says(201, "Location: /files/1|Upload-Offset: 5")),
                ("PATCH /files/1 5-100 at 5", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (
            100,
            Ok(()),
            vec![
                (with, Lost(Some(60))),
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Says(204, "Upload-Offset: 100")),
            ],
        ),
        (100, Err(Failure::Unanswered), vec![(with, Lost(Some(100)))]),
        (0, Ok(()), vec![("POST /files length 0", MADE)]),
        (
            1 << 20,
            Ok(()),
            vec![
                ("POST /files length 1048576", MADE),
                ("PATCH /files/1 0-1048576 at 0", Says(204, "Upload-Offset: 1048576")),
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
fn what_the_server_has_given_up_is_not_asked_for() {
    const MADE: &str = "Location: /files/1|Date: Sun, 06 Nov 1994 08:49:37 GMT|Upload-Expires: Sun, 06 Nov 1994 08:49:47 GMT";
    let mut uploader = begun(Offers::least(), Length::new(100));
    let story = [
        (POST, Says(201, MADE)),
        ("PATCH /files/1 0-100 at 0", SaysEarly(60, 503, "Retry-After: 20")),
        (POST, Says(201, "Location: /files/2")),
        ("PATCH /files/2 0-100 at 0", Says(204, "Upload-Offset: 100")),
    ];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
}

#[test]
fn what_goes_under_one_digest_shrinks_on_a_bad_link() {
    const MIB: u64 = 1024 * 1024;
    let offers = Offers { checksum: Some(Checksum::Sha1), ..Offers::least() };
    let mut uploader = begun(offers, Length::new(100 * MIB));
    play(&mut uploader, &[("POST /files length 104857600", MADE)]);
    for most in [16 * MIB, 8 * MIB, 4 * MIB] {
        let Step::Send(ask) = uploader.step() else { panic!("it sends") };
        assert_eq!((ask.content, ask.checksum), (Some(0..most), Some(Checksum::Sha1)));
        uploader.on_lost(true, moment(0));
        play(&mut uploader, &[(ASKED, Says(200, "Upload-Offset: 0|Upload-Length: 104857600"))]);
    }
}

// proves: TUS1-CDL-02
#[test]
fn a_length_is_told_when_it_is_known() {
    let mut uploader = begun(ALL, None);
    play(&mut uploader, &[("POST /files deferred", MADE)]);
    let Step::Send(ask) = uploader.step() else { panic!("it sends") };
    assert!(ask.is_open && ask.head.headers().get("upload-length").is_none());
    uploader.on_sent(60);
    uploader.on_content_end(60);
    uploader.on_source_end(Length::new(60));
    uploader.on_response(StatusCode::NO_CONTENT, &fields("Upload-Offset: 60"), moment(0));
    play(&mut uploader, &[("PATCH /files/1 60-60 at 60 length 60", Says(204, "Upload-Offset: 60"))]);
    assert_eq!((ends(&mut uploader), uploader.attempts_repeated()), (Ok(()), 0));
}

// proves: TUS1-CAT-02, TUS1-CAT-03, TUS1-CAT-05, TUS1-CAT-14
#[test]
fn parts_are_joined() {
    let target = || Uri::from_static("https://h.example/files");
    let length = Length::new(7);
    let mut part = Uploader::create_tus1(target(), ALL, Role::Part, origin(), length, Retries::default());
    play(
        &mut part,
        &[("POST /files 0-7 length 7 partial", Says(201, "Location: /files/1|Upload-Offset: 7"))],
    );
    let parts = vec![part.url().expect("known").clone(), Uri::from_static("/files/2")];
    let joined = Role::Joined(parts);
    let mut whole =
        Uploader::create_tus1(target(), ALL, joined, origin(), Length::new(9), Retries::default());
    let Step::Send(ask) = whole.step() else { panic!("it sends") };
    assert_eq!(ask.head.headers()["upload-concat"], "final;https://h.example/files/1 /files/2");
    assert!(ask.content.is_none() && !ask.head.headers().contains_key("upload-length"));
    whole.on_response(StatusCode::CREATED, &fields("Location: /files/3"), moment(0));
    assert_eq!(ends(&mut whole), Ok(()));
}

// proves: TUS1-TRM-01
#[test]
fn what_cannot_be_is_not_believed() {
    let (length, url) = (Length::new(100), Uri::from_static("https://h.example/files/1"));
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let different = |told| Failure::Different { told, length };
    let stories: Vec<(Failure, Story<'_>)> = vec![
        (rejected(401), vec![(POST, Says(401, ""))]),
        (Failure::NotResumable, vec![(POST, Says(201, ""))]),
        (
            different(90),
            vec![
                (POST, MADE),
                ("PATCH /files/1 0-100 at 0", Lost(Some(9))),
                (ASKED, Says(200, "Upload-Offset: 9|Upload-Length: 90")),
                ("DELETE /files/1", Says(204, "")),
            ],
        ),
        (
            Failure::Gone,
            vec![(POST, MADE), ("PATCH /files/1 0-100 at 0", Lost(Some(100))), (ASKED, Says(404, ""))],
        ),
    ];
    for (failure, story) in stories {
        let mut uploader = begun(Offers::least(), length);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Err(failure));
    }
    // Another client's upload is not begun again here: nobody knows how it was begun.
    let mut uploader = Uploader::resume_tus1(url, ALL, Role::Whole, length, Retries::default());
    play(&mut uploader, &[(ASKED, Says(404, ""))]);
    assert_eq!(ends(&mut uploader), Err(Failure::Gone));
}
