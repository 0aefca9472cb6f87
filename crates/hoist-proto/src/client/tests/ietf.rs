//! The machine in the IETF dialect, event by event. `simulation` runs it against the engine.

use super::*;
use crate::dialect::interop::Interop;

mod earlier_run;
mod evidence;
mod requests;
mod simulation;

/// An event of a request. The last one ends the request.
#[derive(Clone, Copy)]
enum Act {
    /// A 104 arrives after this much content, and the request continues.
    Interim(u64, &'static str),
    /// A 104 arrives after this much content, and the machine stops the request.
    InterimStops(u64, &'static str),
    /// The connection breaks after this much content; if `None`, nothing can have arrived.
    Cut(Option<u64>),
    /// The server answers after all of the content.
    Answers(u16, &'static str),
    /// The server answers after this much of the content.
    AnswersEarly(u64, u16, &'static str),
}
use Act::{Answers, AnswersEarly, Cut, Interim, InterimStops};

const URL: &str = "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 8";
const AT: &str = "Upload-Draft-Interop-Version: 8";

fn begun(version: Interop, opening: Opening, method: Method, length: u64) -> Uploader {
    let origin = Origin { method, ..origin() };
    let target = Uri::from_static("https://h.example/uploads");
    let dialect = ClientDialect::Ietf(version);
    Uploader::create(dialect, target, origin, Length::new(length), retries()).with_opening(opening)
}

/// Writes a request as `POST /uploads 0-100 ?1` or `PATCH /u/1 5-100 at 5 ?1`.
fn written(transmit: &Transmit) -> String {
    let fields = transmit.head.headers();
    let text = |name: &str| fields.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
    let range = transmit.content.as_ref().map(|range| format!("{}-{}", range.start, range.end));
    let at = text("upload-offset").map(|at| format!("at {at}"));
    let parts = [
        Some(transmit.head.method().to_string()),
        Some(transmit.head.uri().path().to_owned()),
        range,
        at,
        text("upload-complete").or_else(|| text("upload-incomplete").map(|value| format!("in{value}"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn play(uploader: &mut Uploader, story: &[(&str, &[Act])]) {
    for (number, (expected, acts)) in story.iter().enumerate() {
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(transmit) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(written(&transmit), *expected, "request {number}");
        let whole = transmit.content.map_or(0, |range| range.end - range.start);
        let moment = moment(1000 * number as u64);
        for act in *acts {
            match *act {
                Interim(sent, text) | InterimStops(sent, text) => {
                    uploader.on_sent(sent);
                    let status = StatusCode::from_u16(104).expect("a status");
                    let verdict = uploader.on_interim(status, &fields(text), moment);
                    let expected =
                        if matches!(act, Interim(..)) { OnInterim::Continue } else { OnInterim::Stop };
                    assert_eq!(verdict, expected, "request {number}: {text}");
                }
                Cut(sent) => {
                    uploader.on_sent(sent.unwrap_or(0));
                    uploader.on_lost(sent.is_some(), moment);
                }
                Answers(status, text) | AnswersEarly(_, status, text) => {
                    uploader.on_sent(if let AnswersEarly(sent, ..) = act { *sent } else { whole });
                    let status = StatusCode::from_u16(status).expect("a status");
                    uploader.on_response(status, &fields(text), moment);
                }
            }
        }
    }
}

type Story<'a> = Vec<(&'a str, &'a [Act])>;

const POST: &str = "POST /uploads 0-100 ?1";
const DONE: &[Act] = &[Answers(200, "Upload-Complete: ?1")];
const QUERY: &str = "HEAD /u/1";

fn succeeds(stories: Vec<(&str, Story<'_>)>) {
    for (name, story) in stories {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()), "{name}");
        assert_eq!((uploader.acknowledged(), uploader.is_answered()), (Offset::new(100), true), "{name}");
    }
}

fn leak_acts(acts: Vec<Act>) -> &'static [Act] {
    Vec::leak(acts)
}

// proves: IETF-RET-13, IETF-CLI-01, IETF-CLI-02, IETF-CLI-04, IETF-CLI-05, IETF-CLI-06, IETF-CLI-08, IETF-CLI-10, IETF-CLI-11, IETF-CLI-14, IETF-CLI-15, IETF-CLI-17, IETF-CLI-18, IETF-CLI-20, IETF-APP-02, IETF-APP-03, IETF-CRE-03
#[test]
fn an_interrupted_upload_is_resumed_at_its_url() {
    succeeds(vec![
        ("whole", vec![(POST, DONE)]),
        (
            "whole, with a URL that is not needed",
            vec![(POST, &[Interim(0, URL), Answers(200, "Upload-Complete: ?1")])],
        ),
        ("a server without the protocol", vec![(POST, &[Answers(201, "Location: /files/7")])]),
        (
            "the `Location` of the target is not that of the upload",
            vec![(POST, &[Interim(0, URL), Answers(201, "Location: /x|Upload-Complete: ?1")])],
        ),
        (
            "interrupted twice",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(60))]),
                (QUERY, &[Answers(204, "Upload-Offset: 40|Upload-Complete: ?0|Upload-Length: 100")]),
                ("PATCH /u/1 40-100 at 40 ?1", &[Cut(Some(10))]),
                (QUERY, &[Cut(None)]),
                (QUERY, &[Answers(503, "Retry-After: 1")]),
                (QUERY, &[Answers(204, "Upload-Offset: 45|Upload-Complete: ?0")]),
                ("PATCH /u/1 45-100 at 45 ?1", DONE),
            ],
        ),
        (
            "a lost answer is requested again by an empty append",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(100))]),
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Cut(Some(0))]),
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "having all bytes does not complete the upload",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(100))]),
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "a conflict carries the offset, the third in a row leads to a query",
            vec![
                (POST, &[Interim(0, URL), Answers(500, "")]),
                (QUERY, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 10-100 at 10 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 20|Upload-Complete: ?0")],
                ),
                (
                    "PATCH /u/1 20-100 at 20 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 5|Upload-Complete: ?0")],
                ),
                ("PATCH /u/1 5-100 at 5 ?1", &[AnswersEarly(0, 409, "Upload-Offset: 6|Upload-Complete: ?0")]),
                (QUERY, &[Answers(204, "Upload-Offset: 7|Upload-Complete: ?0")]),
                ("PATCH /u/1 7-100 at 7 ?1", &[Answers(409, "")]),
                (QUERY, &[Answers(204, "Upload-Offset: 8|Upload-Complete: ?0")]),
                ("PATCH /u/1 8-100 at 8 ?1", DONE),
            ],
        ),
        (
            "an offset beyond what was sent is credible",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(10))]),
                (QUERY, &[Answers(204, "Upload-Offset: 90|Upload-Complete: ?0")]),
                ("PATCH /u/1 90-100 at 90 ?1", DONE),
            ],
        ),
        (
            "a success that does not complete the upload continues it",
            vec![
                (
                    POST,
                    &[
                        Interim(0, URL),
                        Answers(201, "Location: https://h.example/u/1|Upload-Complete: ?0|Upload-Offset: 30"),
                    ],
                ),
                ("PATCH /u/1 30-100 at 30 ?1", &[Answers(204, "Upload-Complete: ?0|Upload-Offset: 100")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Answers(204, "")]),
                (QUERY, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "gone with nothing acknowledged: created again",
            vec![(POST, &[Interim(0, URL), Cut(Some(10))]), (QUERY, &[Answers(404, "")]), (POST, DONE)],
        ),
    ]);
}

// proves: IETF-CLI-08, IETF-CLI-13
#[test]
fn a_query_ends_a_request_that_hangs_and_is_repeated_until_it_returns_an_offset() {
    succeeds(vec![
        (
            "a query without an offset is repeated",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(10))]),
                (QUERY, &[Answers(200, "")]),
                (QUERY, &[Answers(400, "")]),
                (QUERY, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                ("PATCH /u/1 10-100 at 10 ?1", &[Cut(Some(5))]),
                (QUERY, &[Answers(204, "Upload-Complete: ?0")]),
                (QUERY, &[Answers(204, "Upload-Offset: 12|Upload-Complete: ?0")]),
                ("PATCH /u/1 12-100 at 12 ?1", DONE),
            ],
        ),
        (
            "a conflict at the right offset comes from another request, which a query ends",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(50))]),
                (QUERY, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 10-100 at 10 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 10|Upload-Complete: ?0")],
                ),
                (QUERY, &[Answers(204, "Upload-Offset: 50|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-100 at 50 ?1", DONE),
            ],
        ),
    ]);
}

// proves: IETF-INT-02, IETF-INT-08, IETF-INT-11, IETF-VER-04, IETF-VER-09, IETF-OFF-04, IETF-CLI-16, IETF-CRE-05
#[test]
fn only_a_104_of_the_own_version_counts() {
    const OTHER: &str = "Location: https://h.example/u/9|Upload-Draft-Interop-Version: 6";
    const NONE: &str = "Location: https://h.example/u/9";
    succeeds(vec![
        (
            "a 104 of another version is ignored, and the retry is careful",
            vec![
                (POST, &[Interim(0, OTHER), Interim(0, NONE), Cut(Some(10))]),
                ("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 0-100 at 0 ?1", DONE),
            ],
        ),
        (
            "nothing reached the server: the request is repeated as it was",
            vec![(POST, &[Cut(None)]), (POST, DONE)],
        ),
        (
            "a 104 to an append names no new URL",
            vec![
                (POST, &[Interim(0, URL), Cut(Some(60))]),
                (QUERY, &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 0-100 at 0 ?1",
                    &[
                        Interim(9, "Upload-Offset: 5|Location: /u/2|Upload-Draft-Interop-Version: 8"),
                        Cut(Some(9)),
                    ],
                ),
                (QUERY, &[Answers(204, "Upload-Offset: 7|Upload-Complete: ?0")]),
                ("PATCH /u/1 7-100 at 7 ?1", DONE),
            ],
        ),
    ]);
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    let progress = |at: &'static str| Interim(50, at);
    let acts = [
        Interim(0, URL),
        progress("Upload-Offset: 20|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 10|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 51|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 30|Upload-Draft-Interop-Version: 7"),
        progress("Upload-Offset: x|Upload-Draft-Interop-Version: 8"),
    ];
    play(&mut uploader, &[(POST, &acts)]);
    // Impossible offsets are ignored; acknowledged bytes may be dropped.
    assert_eq!(uploader.acknowledged(), Offset::new(20));
    assert_eq!(uploader.url(), Some(&Uri::from_static("https://h.example/u/1")));
    // Other interim responses, and those outside of a request, change nothing.
    assert_eq!(uploader.on_interim(StatusCode::CONTINUE, &fields(URL), moment(0)), OnInterim::Continue);
    uploader.on_response(StatusCode::OK, &fields("Upload-Complete: ?1"), moment(0));
    assert_eq!(
        uploader.on_interim(StatusCode::from_u16(104).expect("one"), &fields(URL), moment(0)),
        OnInterim::Continue
    );
}

// proves: IETF-INT-06, IETF-LIM-05, IETF-RET-14, IETF-CRE-18
#[test]
fn an_upload_that_cannot_continue_is_cancelled() {
    const TWO: &str = "Location: https://h.example/u/2|Upload-Draft-Interop-Version: 8";
    const SMALL: &str =
        "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 8|Upload-Limit: max-size=99";
    let too_large = Failure::TooLarge { max: 99, length: Length::new(100) };
    let different = |remote| Failure::Different { remote, length: Length::new(100) };
    let cancelled: (&str, &[Act]) = ("DELETE /u/1", &[Answers(204, "")]);
    let stories: Vec<(Failure, Story<'_>)> = vec![
        (Failure::TwoUrls, vec![(POST, &[Interim(0, URL), InterimStops(5, TWO)]), cancelled]),
        (
            Failure::TwoUrls,
            vec![(POST, &[Interim(0, URL), Answers(201, "Location: /u/2|Upload-Complete: ?0")]), cancelled],
        ),
        (too_large, vec![(POST, &[InterimStops(0, SMALL)]), cancelled]),
        (too_large, vec![(POST, &[InterimStops(0, SMALL)]), ("DELETE /u/1", &[Cut(Some(0))])]),
        (too_large, vec![(POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: max-size=99")])]),
        (
            different(101),
            vec![
                (POST, &[Interim(0, URL), Cut(Some(9))]),
                (QUERY, &[Answers(204, "Upload-Offset: 101")]),
                cancelled,
            ],
        ),
        (
            different(99),
            vec![
                (POST, &[Interim(0, URL), Cut(Some(9))]),
                (QUERY, &[Answers(204, "Upload-Offset: 9|Upload-Length: 99")]),
                cancelled,
            ],
        ),
    ];
    for (failure, story) in stories {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Err(failure));
    }
}

// proves: IETF-CLI-03, IETF-CLI-05, IETF-CLI-09, IETF-CLI-13, IETF-LIM-04
#[test]
fn failures_name_their_reason() {
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let cut: (&str, &[Act]) = (POST, &[Interim(0, URL), Cut(Some(60))]);
    let at: (&str, &[Act]) = (QUERY, &[Answers(204, "Upload-Offset: 9|Upload-Complete: ?0")]);
    let append = "PATCH /u/1 9-100 at 9 ?1";
    let silent: (&str, &[Act]) = (QUERY, &[Answers(200, "")]);
    let malformed: (&str, &[Act]) = (QUERY, &[Answers(204, "Upload-Offset: -1|Upload-Complete: ?0")]);
    let unclear: (&str, &[Act]) = (QUERY, &[Answers(400, "Upload-Complete: ?0")]);
    let stories: Vec<(Failure, bool, Story<'_>)> = vec![
        (rejected(422), true, vec![(POST, &[Answers(422, "Upload-Complete: ?1")])]),
        (rejected(503), true, vec![(POST, &[Answers(503, "Upload-Complete: ?1|Retry-After: 1")])]),
        (rejected(403), false, vec![(POST, &[AnswersEarly(0, 403, "Upload-Complete: ?0")])]),
        (rejected(404), false, vec![(POST, &[Answers(404, "")])]),
        (rejected(409), false, vec![(POST, &[Answers(409, "")])]),
        (rejected(308), false, vec![(POST, &[Answers(308, "")])]),
        (rejected(401), false, vec![cut, (QUERY, &[Answers(401, "")])]),
        (
            rejected(415),
            false,
            vec![cut, at, (append, &[Answers(415, "Upload-Offset: 9|Upload-Complete: ?0")])],
        ),
        (rejected(422), true, vec![cut, at, (append, &[Answers(422, "Upload-Complete: ?1")])]),
        (Failure::NotResumable, false, vec![cut, silent, silent, silent]),
        (Failure::NotResumable, false, vec![cut, silent, malformed, malformed]),
        (rejected(400), false, vec![cut, malformed, unclear, unclear]),
        (rejected(302), false, vec![cut, (QUERY, &[Answers(302, "Location: /login")])]),
        (Failure::Gone, false, vec![cut, at, (append, &[Answers(404, "")])]),
        (Failure::Gone, false, vec![cut, at, (append, &[Cut(Some(3))]), (QUERY, &[Answers(410, "")])]),
        // The upload may have been complete: another creation might make a second one.
        (
            Failure::Gone,
            false,
            vec![(POST, &[Interim(0, URL), Cut(Some(100))]), (QUERY, &[Answers(404, "")])],
        ),
        (Failure::Unanswered, false, vec![(POST, &[Cut(Some(100))])]),
        (Failure::Unanswered, false, vec![(POST, &[Answers(502, "")])]),
        (Failure::Unanswered, false, vec![(POST, &[AnswersEarly(50, 200, "")])]),
        // The upload expires before the next attempt.
        (
            Failure::Gone,
            false,
            vec![(
                POST,
                &[
                    Interim(0, "Location: /u/1|Upload-Limit: max-age=0|Upload-Draft-Interop-Version: 8"),
                    Cut(Some(5)),
                ],
            )],
        ),
    ];
    for (failure, answered, story) in stories {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &story);
        assert_eq!((ends(&mut uploader), uploader.is_answered()), (Err(failure), answered));
        uploader.on_response(StatusCode::OK, &fields("Upload-Complete: ?1"), moment(0));
        uploader.on_lost(true, moment(0));
        assert_eq!(ends(&mut uploader), Err(failure), "the failure is final");
    }
    // A request with an idempotent method is repeated.
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::PUT, 100);
    let story: Story<'_> = vec![
        ("PUT /uploads 0-100 ?1", &[Cut(Some(100))]),
        ("PUT /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
        ("PATCH /u/1 0-100 at 0 ?1", DONE),
    ];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A server without resumption gives no URL to an empty creation.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(200, "")])]);
    assert_eq!(ends(&mut uploader), Err(Failure::NotResumable));
}

/// A creation that ends early is followed by a query, which ends the rest of the creation on the server.
// proves: IETF-CON-01, IETF-RET-12
#[test]
fn no_transfer_begins_while_the_creation_of_its_upload_may_still_run() {
    const SHORTER: &str = "Location: /u/1|Upload-Limit: max-append-size=60|Upload-Draft-Interop-Version: 8";
    let endings: [&[Act]; 4] = [
        &[InterimStops(0, SHORTER)],
        &[Interim(0, URL), Cut(Some(50))],
        &[Interim(0, URL), AnswersEarly(50, 503, "")],
        &[Interim(0, URL), AnswersEarly(50, 201, "Location: /u/1|Upload-Complete: ?0")],
    ];
    for ending in endings {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &[(POST, ending), (QUERY, &[Cut(None)])]);
    }
}
