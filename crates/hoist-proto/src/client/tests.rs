//! The client's machine, event by event. `simulation` runs it against the engine.

use http::{HeaderName, HeaderValue, Method};

use super::*;
use crate::dialect::token::Form;
use crate::field;
use crate::upload::Part;

mod ietf;
mod retries;
mod simulation;
mod tus1;

/// The end of a request.
enum Event {
    /// The connection breaks after this much content was handed to it; if `None`, nothing can have arrived.
    Lost(Option<u64>),
    /// The server answers after all of the content.
    Answers(u16, &'static str),
    /// The server answers after this much of the content.
    AnswersEarly(u64, u16, &'static str),
}
use Event::{Answers, AnswersEarly, Lost};

fn origin() -> Origin {
    Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() }
}

fn named(part: Option<Part>) -> ClientDialect {
    ClientDialect::Token { token: token_of([7; 32]), form: Form::Seed, part }
}

fn retries() -> Retries {
    Retries { attempts: 5, ..Retries::default() }
}

fn uploader(length: u64) -> Uploader {
    let target = Uri::from_static("/uploads");
    Uploader::create(named(None), target, origin(), Length::new(length), retries())
}

fn resumed(length: u64) -> Uploader {
    let target = Uri::from_static("/uploads");
    Uploader::resume(named(None), target, origin(), Length::new(length), retries())
}

fn moment(millis: u64) -> Moment {
    Moment { elapsed: Duration::from_millis(millis), random: u64::MAX / 2 }
}

fn fields(text: &str) -> HeaderMap {
    let line = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a field");
        (name.parse::<HeaderName>().expect("a name"), value.parse::<HeaderValue>().expect("a value"))
    };
    text.split('|').filter(|text| !text.is_empty()).map(line).collect()
}

/// Writes a request as `POST 0-100`, `HEAD` or `PATCH 5-100 at 5`.
fn written(transmit: &Transmit) -> String {
    let at = field::integer(transmit.head.headers(), &crate::dialect::UPLOAD_OFFSET).ignoring_malformed();
    let content =
        transmit.content.as_ref().map(|range| format!(" {}-{}", range.start, range.end)).unwrap_or_default();
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("{}{content}{at}", transmit.head.method())
}

/// Compares the requests of the machine with those expected and reports the events. Skips pauses.
fn run(uploader: &mut Uploader, events: &[(&str, Event)]) {
    for (at, (expected, event)) in events.iter().enumerate() {
        let moment = moment(1000 * at as u64);
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(transmit) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(written(&transmit), *expected, "request {at}");
        let whole = transmit.content.map_or(0, |range| range.end - range.start);
        let (sent, response) = match *event {
            Lost(sent) => (sent.unwrap_or(0), Err(sent.is_some())),
            Answers(status, text) => (whole, Ok((status, text))),
            AnswersEarly(sent, status, text) => (sent, Ok((status, text))),
        };
        uploader.on_sent(sent);
        match response {
            Err(reached) => uploader.on_lost(reached, moment),
            Ok((status, text)) => {
                let status = StatusCode::from_u16(status).expect("a status");
                uploader.on_response(status, &fields(text), moment);
            }
        }
    }
}

fn ends(uploader: &mut Uploader) -> Result<(), Failure> {
    match uploader.step() {
        Step::Done => Ok(()),
        Step::Failed(failure) => Err(failure),
        step => panic!("the upload has not ended: {step:?}"),
    }
}

// proves: TOK-TOKEN-06, TDR-HDR-01, TDR-HDR-03, TDR-HDR-05
#[test]
fn every_request_of_an_upload_carries_the_same_token() {
    let mut uploader = uploader(10);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(transmit) = step else { panic!("{step:?}") };
        tokens.push(transmit.head.headers()["upload-token"].clone());
        uploader.on_lost(true, moment(0));
    }
    let expected = format!(":{}=:", "Bwc".repeat(14) + "B");
    assert_eq!(tokens[0].len(), 46);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{expected}");
    assert_eq!(Form::of(&fields("Upload-Token: a")), Form::Seed);
}

/// Checks histories that end in success.
fn succeeds(stories: Vec<(&str, Vec<(&str, Event)>)>) {
    for (name, events) in stories {
        let mut uploader = uploader(100);
        run(&mut uploader, &events);
        assert_eq!(ends(&mut uploader), Ok(()), "{name}");
        assert_eq!(uploader.acknowledged(), Offset::new(100), "{name}");
    }
}

const DONE: &str = "Upload-Offset: 100|Upload-Complete: ?1";

// proves: TDR-SEED-04, TDR-SEED-10, TDR-OFF-09, TDR-CLI-01
#[test]
fn an_interrupted_upload_is_resumed() {
    let done = DONE;
    succeeds(vec![
        ("whole", vec![("POST 0-100", Answers(204, done))]),
        ("the draft's own answer", vec![("POST 0-100", Answers(204, ""))]),
        ("draft form", vec![("POST 0-100", Answers(201, "Upload-Offset: 100|Upload-Incomplete: ?0"))]),
        (
            "interrupted at any point",
            vec![
                ("POST 0-100", Lost(Some(60))),
                ("HEAD", Answers(204, "Upload-Offset: 40")),
                ("PATCH 40-100 at 40", Lost(Some(60))),
                ("HEAD", Answers(204, "Upload-Offset: 99|Upload-Length: 100|Upload-Complete: ?0")),
                ("PATCH 99-100 at 99", Answers(204, done)),
            ],
        ),
        (
            "no connection: no query is needed",
            vec![("POST 0-100", Lost(None)), ("POST 0-100", Lost(None)), ("POST 0-100", Answers(204, done))],
        ),
        (
            "no connection, after an interrupted one",
            vec![
                ("POST 0-100", Lost(Some(0))),
                ("HEAD", Lost(None)),
                ("HEAD", Answers(404, "")),
                ("POST 0-100", Lost(None)),
                ("HEAD", Answers(404, "")),
                ("POST 0-100", Answers(204, done)),
            ],
        ),
        (
            "the creation arrives after the query",
            vec![
                ("POST 0-100", Lost(Some(10))),
                ("HEAD", Answers(404, "")),
                ("POST 0-100", Answers(409, "Upload-Offset: 3")),
                ("HEAD", Answers(204, "Upload-Offset: 5")),
                ("PATCH 5-100 at 5", Answers(204, done)),
            ],
        ),
    ]);
}

#[test]
fn the_server_s_offset_decides_where_to_continue() {
    let done = DONE;
    succeeds(vec![
        (
            "a lost answer is requested again by an empty append",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Answers(204, done)),
                ("PATCH 100-100 at 100", Answers(201, done)),
            ],
        ),
        (
            "the same, from a server that keeps no answer",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Answers(204, done)),
                ("PATCH 100-100 at 100", Answers(409, done)),
            ],
        ),
        (
            "a server that has everything and is not complete is asked to complete",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")),
                ("PATCH 100-100 at 100", Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")),
                ("PATCH 100-100 at 100", Answers(204, done)),
            ],
        ),
        (
            "a conflict carries the offset",
            vec![
                ("POST 0-100", AnswersEarly(50, 503, "Upload-Offset: 20")),
                ("HEAD", Answers(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", AnswersEarly(0, 409, "Upload-Offset: 30")),
                ("PATCH 30-100 at 30", Answers(409, "Upload-Offset: 100|Upload-Complete: ?1")),
                ("PATCH 100-100 at 100", Answers(204, done)),
            ],
        ),
        (
            "a conflict at the right offset, or without one, leads to a query",
            vec![
                ("POST 0-100", Lost(Some(50))),
                ("HEAD", Answers(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", Answers(409, "Upload-Offset: 20")),
                ("HEAD", Answers(409, "")),
                ("HEAD", Answers(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", Answers(409, "")),
                ("HEAD", Answers(204, "Upload-Offset: 21")),
                ("PATCH 21-100 at 21", Answers(204, done)),
            ],
        ),
        (
            "a server that lost acknowledged bytes is sent them again",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Answers(204, "Upload-Offset: 80")),
                ("PATCH 80-100 at 80", Answers(409, "Upload-Offset: 10")),
                ("PATCH 10-100 at 10", Answers(204, done)),
            ],
        ),
        (
            "an early success without an offset acknowledges nothing",
            vec![
                ("POST 0-100", AnswersEarly(99, 200, "")),
                ("HEAD", Answers(204, "Upload-Offset: 99")),
                ("PATCH 99-100 at 99", Answers(204, done)),
            ],
        ),
        (
            "an empty upload that is gone is created again",
            vec![
                ("POST 0-100", Lost(Some(10))),
                ("HEAD", Answers(204, "Upload-Offset: 0")),
                ("PATCH 0-100 at 0", Answers(404, "")),
                ("POST 0-100", Answers(204, done)),
            ],
        ),
    ]);
}

// proves: TDR-RSP-02, TDR-OFF-08
#[test]
fn an_impossible_response_fails_the_upload() {
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let different = |remote| Failure::Different { remote, length: Length::new(100) };
    let impossible =
        |offset, sent| Failure::Impossible { offset: Offset::new(offset), sent: Offset::new(sent) };
    let lost = || ("POST 0-100", Lost(Some(60)));
    let stories = [
        (rejected(413), vec![("POST 0-100", AnswersEarly(7, 413, "Upload-Complete: ?1"))]),
        (rejected(404), vec![("POST 0-100", Answers(404, ""))]),
        (rejected(308), vec![("POST 0-100", Answers(308, ""))]),
        (rejected(401), vec![lost(), ("HEAD", Answers(401, ""))]),
        // The target rejected the representation, and its answer is replayed.
        (
            rejected(422),
            vec![
                lost(),
                ("HEAD", Answers(204, "Upload-Offset: 60")),
                ("PATCH 60-100 at 60", Lost(Some(40))),
                ("HEAD", Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")),
                ("PATCH 100-100 at 100", Answers(422, "Upload-Offset: 100|Upload-Complete: ?1")),
            ],
        ),
        (Failure::Taken, vec![("POST 0-100", Answers(409, "Upload-Offset: 10"))]),
        (Failure::NotResumable, vec![lost(), ("HEAD", Answers(200, ""))]),
        (Failure::NotResumable, vec![lost(), ("HEAD", Answers(204, "Upload-Offset: many"))]),
        (different(99), vec![lost(), ("HEAD", Answers(204, "Upload-Offset: 10|Upload-Length: 99"))]),
        (different(101), vec![lost(), ("HEAD", Answers(204, "Upload-Offset: 101"))]),
        (different(10), vec![lost(), ("HEAD", Answers(204, "Upload-Offset: 10|Upload-Complete: ?1"))]),
        (impossible(61, 60), vec![lost(), ("HEAD", Answers(204, "Upload-Offset: 61"))]),
        (impossible(100, 99), vec![("POST 0-100", AnswersEarly(99, 204, "Upload-Offset: 100"))]),
        (impossible(99, 100), vec![("POST 0-100", Answers(204, "Upload-Offset: 99"))]),
        (
            impossible(80, 60),
            vec![
                lost(),
                ("HEAD", Answers(204, "Upload-Offset: 60")),
                ("PATCH 60-100 at 60", AnswersEarly(0, 409, "Upload-Offset: 80")),
            ],
        ),
        (
            Failure::Gone,
            vec![lost(), ("HEAD", Answers(204, "Upload-Offset: 1")), ("PATCH 1-100 at 1", Answers(404, ""))],
        ),
        (
            Failure::Gone,
            vec![
                lost(),
                ("HEAD", Answers(204, "Upload-Offset: 1")),
                ("PATCH 1-100 at 1", Lost(Some(9))),
                ("HEAD", Answers(410, "")),
            ],
        ),
    ];
    for (failure, events) in stories {
        let mut uploader = uploader(100);
        run(&mut uploader, &events);
        assert_eq!(ends(&mut uploader), Err(failure));
        // The failure is final.
        uploader.on_response(StatusCode::NO_CONTENT, &fields("Upload-Offset: 100"), moment(0));
        uploader.on_lost(true, moment(0));
        assert_eq!(ends(&mut uploader), Err(failure));
    }
}

// proves: TDR-OFF-01, TDR-OFF-09
#[test]
fn an_upload_of_an_earlier_run_is_resumed() {
    let done = "Upload-Offset: 100|Upload-Complete: ?1";
    let stories: [(u64, Vec<(&str, Event)>); 4] = [
        (70, vec![("HEAD", Answers(204, "Upload-Offset: 70")), ("PATCH 70-100 at 70", Answers(204, done))]),
        (0, vec![("HEAD", Answers(404, "")), ("POST 0-100", Answers(204, done))]),
        (100, vec![("HEAD", Answers(204, done)), ("PATCH 100-100 at 100", Answers(204, done))]),
        (
            0,
            vec![
                ("HEAD", Answers(404, "")),
                ("POST 0-100", Answers(409, "Upload-Offset: 0")),
                ("HEAD", Answers(204, "Upload-Offset: 0")),
                ("PATCH 0-100 at 0", Answers(204, done)),
            ],
        ),
    ];
    for (at, events) in stories {
        let mut uploader = resumed(100);
        run(&mut uploader, &events);
        assert_eq!((ends(&mut uploader), uploader.resumed_at()), (Ok(()), Offset::new(at)));
    }
}

#[test]
fn a_content_limit_splits_the_upload() {
    let mut uploader = uploader(100).with_content_max(40);
    let events = [
        ("POST 0-40", Answers(204, "Upload-Offset: 40|Upload-Complete: ?0")),
        ("PATCH 40-80 at 40", Lost(Some(20))),
        ("HEAD", Answers(204, "Upload-Offset: 50|Upload-Complete: ?0")),
        ("PATCH 50-90 at 50", Answers(204, "Upload-Offset: 90|Upload-Complete: ?0")),
        ("PATCH 90-100 at 90", Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")),
    ];
    run(&mut uploader, &events);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A success without an offset acknowledges a whole representation, but not a part of it.
    let mut uploader = self::uploader(100).with_content_max(40);
    run(&mut uploader, &[("POST 0-40", Answers(204, "")), ("HEAD", Answers(404, ""))]);
}

#[test]
fn a_request_that_is_too_large_is_sent_again_in_smaller_ones() {
    let mut uploader = uploader(100);
    let story = [
        ("POST 0-100", AnswersEarly(0, 413, "")),
        ("POST 0-50", AnswersEarly(9, 413, "Upload-Limit: max-append-size=30")),
        ("HEAD", Answers(204, "Upload-Offset: 9")),
        ("PATCH 9-39 at 9", Answers(204, "Upload-Offset: 39|Upload-Complete: ?0")),
        ("PATCH 39-69 at 39", Answers(204, "Upload-Offset: 69|Upload-Complete: ?0")),
        ("PATCH 69-99 at 69", Answers(204, "Upload-Offset: 99|Upload-Complete: ?0")),
        ("PATCH 99-100 at 99", Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")),
    ];
    run(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A server that accepts nothing ends the upload.
    let mut uploader = self::uploader(1 << 40);
    let mut requests = 0;
    while let Step::Send(_) = uploader.step() {
        uploader.on_response(StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), moment(0));
        requests += 1;
        assert!(requests < 30);
    }
    assert_eq!(ends(&mut uploader), Err(Failure::Rejected(StatusCode::PAYLOAD_TOO_LARGE)));
}

// proves: TOK-IDX-01, TOK-IDX-03, TOK-IDX-04a
#[test]
fn a_part_is_done_when_the_server_has_all_of_it() {
    let number = crate::types::PartNumber::new(7).expect("in range");
    let part = |begin: fn(ClientDialect, Uri, Origin, Length, Retries) -> Uploader| {
        let dialect = named(Some(Part { number, last: true }));
        begin(dialect, Uri::from_static("/uploads"), origin(), Length::new(100), retries())
    };
    let mut uploader = part(Uploader::create);
    let Step::Send(transmit) = uploader.step() else { panic!("no request") };
    assert_eq!(transmit.head.headers()["upload-index"], "7;last");
    uploader.on_sent(60);
    uploader.on_lost(true, moment(0));
    let story = [
        ("HEAD", Answers(204, "Upload-Offset: 60|Upload-Length: 100|Upload-Complete: ?0")),
        ("PATCH 60-100 at 60", Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")),
    ];
    run(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), false));

    let mut uploader = part(Uploader::resume);
    run(
        &mut uploader,
        &[("HEAD", Answers(204, "Upload-Offset: 100|Upload-Length: 100|Upload-Complete: ?0"))],
    );
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), false));

    let mut uploader = part(Uploader::create);
    run(&mut uploader, &[("POST 0-100", Answers(204, "Upload-Offset: 100|Upload-Complete: ?1"))]);
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), true));
}

#[test]
fn a_stream_of_unknown_length_ends_with_an_empty_append() {
    let target = Uri::from_static("/uploads");
    let mut uploader = Uploader::create(named(None), target, origin(), None, Retries::default());
    let mut sends = |expected: (&str, u64, bool), ends_at: Option<u64>, answer: &str| {
        let Step::Send(transmit) = uploader.step() else { panic!("{expected:?}") };
        let start = transmit.content.clone().expect("content").start;
        let complete = field::boolean(transmit.head.headers(), &crate::dialect::UPLOAD_COMPLETE);
        let is_last = complete.ignoring_malformed().unwrap_or(true);
        assert_eq!((transmit.head.method().as_str(), start, is_last), expected);
        if transmit.is_open {
            uploader.on_sent(60);
            uploader.on_content_end(60);
        }
        if let Some(length) = ends_at {
            uploader.on_source_end(Length::new(length));
        }
        uploader.on_response(StatusCode::NO_CONTENT, &fields(answer), moment(0));
    };
    sends(("POST", 0, false), None, "Upload-Offset: 60|Upload-Complete: ?0");
    sends(("PATCH", 60, false), Some(120), "Upload-Offset: 120|Upload-Complete: ?0");
    sends(("PATCH", 120, true), None, "Upload-Offset: 120|Upload-Complete: ?1");
    assert_eq!((ends(&mut uploader), uploader.attempts_repeated()), (Ok(()), 0));
}

#[test]
fn an_empty_representation_is_uploaded() {
    let mut uploader = uploader(0);
    run(
        &mut uploader,
        &[
            ("POST 0-0", Lost(Some(0))),
            ("HEAD", Answers(404, "")),
            ("POST 0-0", Answers(204, "Upload-Offset: 0")),
        ],
    );
    assert_eq!(ends(&mut uploader), Ok(()));
}
