//! The machine where the server names the upload, event by event; `simulation` lets it loose on the engine.

use super::*;
use crate::dialect::interop::Interop;

mod simulation;

/// What happens to a request, in order; the last of it ends the request.
#[derive(Clone, Copy)]
enum Act {
    /// A 104 comes after this much content, and the request goes on.
    Hears(u64, &'static str),
    /// A 104 comes after this much content, and the machine wants the request to end.
    Stops(u64, &'static str),
    /// The connection breaks, after this much content; nothing can have arrived when it is absent.
    Breaks(Option<u64>),
    /// The server answers, after all of the content.
    Answers(u16, &'static str),
    /// The server answers, after this much of the content.
    AnswersEarly(u64, u16, &'static str),
}
use Act::{Answers, AnswersEarly, Breaks, Hears, Stops};

const U: &str = "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 8";
const AT: &str = "Upload-Draft-Interop-Version: 8";

fn retries() -> Retries {
    Retries { attempts: 5, ..Retries::default() }
}

fn begun(version: Interop, opening: Opening, method: Method, length: u64) -> Uploader {
    let origin = Origin { method, ..origin() };
    let target = Uri::from_static("https://h.example/uploads");
    Uploader::create_in(target, version, opening, origin, Length::new(length), retries())
}

/// `POST /uploads 0-100 ?1`, `PATCH /u/1 5-100 at 5 ?1`.
fn written(ask: &Ask) -> String {
    let fields = ask.head.headers();
    let text = |name: &str| fields.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
    let range = ask.content.as_ref().map(|range| format!("{}-{}", range.start, range.end));
    let at = text("upload-offset").map(|at| format!("at {at}"));
    let parts = [
        Some(ask.head.method().to_string()),
        Some(ask.head.uri().path().to_owned()),
        range,
        at,
        text("upload-complete").or_else(|| text("upload-incomplete").map(|said| format!("in{said}"))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn play(uploader: &mut Uploader, story: &[(&str, &[Act])]) {
    for (number, (expected, acts)) in story.iter().enumerate() {
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(ask) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(written(&ask), *expected, "request {number}");
        let whole = ask.content.map_or(0, |range| range.end - range.start);
        let moment = moment(1000 * number as u64);
        for act in *acts {
            match *act {
                Hears(sent, text) | Stops(sent, text) => {
                    uploader.on_sent(sent);
                    let status = StatusCode::from_u16(104).expect("a status");
                    let heard = uploader.on_interim(status, &fields(text), moment);
                    let expected = if matches!(act, Hears(..)) { Heard::GoOn } else { Heard::Stop };
                    assert_eq!(heard, expected, "request {number}: {text}");
                }
                Breaks(sent) => {
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
const ASKED: &str = "HEAD /u/1";

fn goes_well(stories: Vec<(&str, Story<'_>)>) {
    for (name, story) in stories {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()), "{name}");
        assert_eq!((uploader.acknowledged(), uploader.is_answered()), (Offset::new(100), true), "{name}");
    }
}

// proves: IETF-RET-13, IETF-CLI-01, IETF-CLI-02, IETF-CLI-04, IETF-CLI-05, IETF-CLI-06, IETF-CLI-08, IETF-CLI-10, IETF-CLI-11, IETF-CLI-14, IETF-CLI-15, IETF-CLI-17, IETF-CLI-18, IETF-CLI-20, IETF-APP-02, IETF-APP-03, IETF-CRE-03
#[test]
fn what_was_interrupted_goes_on_at_the_url() {
    goes_well(vec![
        ("whole", vec![(POST, DONE)]),
        (
            "whole, with a url that is not needed",
            vec![(POST, &[Hears(0, U), Answers(200, "Upload-Complete: ?1")])],
        ),
        ("a server that never heard of it", vec![(POST, &[Answers(201, "Location: /files/7")])]),
        (
            "the target's own place is not the upload's",
            vec![(POST, &[Hears(0, U), Answers(201, "Location: /x|Upload-Complete: ?1")])],
        ),
        (
            "cut, and again",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(60))]),
                (ASKED, &[Answers(204, "Upload-Offset: 40|Upload-Complete: ?0|Upload-Length: 100")]),
                ("PATCH /u/1 40-100 at 40 ?1", &[Breaks(Some(10))]),
                (ASKED, &[Breaks(None)]),
                (ASKED, &[Answers(503, "Retry-After: 1")]),
                (ASKED, &[Answers(204, "Upload-Offset: 45|Upload-Complete: ?0")]),
                ("PATCH /u/1 45-100 at 45 ?1", DONE),
            ],
        ),
        (
            "a lost answer is asked for by an empty append",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(100))]),
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Breaks(Some(0))]),
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "having everything completes nothing",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(100))]),
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "conflicts tell the offset, three in a row are asked about",
            vec![
                (POST, &[Hears(0, U), Answers(500, "")]),
                (ASKED, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 10-100 at 10 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 20|Upload-Complete: ?0")],
                ),
                (
                    "PATCH /u/1 20-100 at 20 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 5|Upload-Complete: ?0")],
                ),
                ("PATCH /u/1 5-100 at 5 ?1", &[AnswersEarly(0, 409, "Upload-Offset: 6|Upload-Complete: ?0")]),
                (ASKED, &[Answers(204, "Upload-Offset: 7|Upload-Complete: ?0")]),
                ("PATCH /u/1 7-100 at 7 ?1", &[Answers(409, "")]),
                (ASKED, &[Answers(204, "Upload-Offset: 8|Upload-Complete: ?0")]),
                ("PATCH /u/1 8-100 at 8 ?1", DONE),
            ],
        ),
        (
            "a server that has more than was sent is believed",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(10))]),
                (ASKED, &[Answers(204, "Upload-Offset: 90|Upload-Complete: ?0")]),
                ("PATCH /u/1 90-100 at 90 ?1", DONE),
            ],
        ),
        (
            "a success that does not complete goes on",
            vec![
                (
                    POST,
                    &[
                        Hears(0, U),
                        Answers(201, "Location: https://h.example/u/1|Upload-Complete: ?0|Upload-Offset: 30"),
                    ],
                ),
                ("PATCH /u/1 30-100 at 30 ?1", &[Answers(204, "Upload-Complete: ?0|Upload-Offset: 100")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Answers(204, "")]),
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        (
            "nothing was acknowledged: begun again",
            vec![(POST, &[Hears(0, U), Breaks(Some(10))]), (ASKED, &[Answers(404, "")]), (POST, DONE)],
        ),
    ]);
}

// proves: IETF-CLI-08, IETF-CLI-13
#[test]
fn a_question_ends_what_hangs_and_is_asked_until_it_is_answered() {
    goes_well(vec![
        (
            "a question is asked again where its answer tells no offset",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(10))]),
                (ASKED, &[Answers(200, "")]),
                (ASKED, &[Answers(400, "")]),
                (ASKED, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                ("PATCH /u/1 10-100 at 10 ?1", &[Breaks(Some(5))]),
                (ASKED, &[Answers(204, "Upload-Complete: ?0")]),
                (ASKED, &[Answers(204, "Upload-Offset: 12|Upload-Complete: ?0")]),
                ("PATCH /u/1 12-100 at 12 ?1", DONE),
            ],
        ),
        (
            "a conflict at the very offset is another request's, which a question ends",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(50))]),
                (ASKED, &[Answers(204, "Upload-Offset: 10|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 10-100 at 10 ?1",
                    &[AnswersEarly(0, 409, "Upload-Offset: 10|Upload-Complete: ?0")],
                ),
                (ASKED, &[Answers(204, "Upload-Offset: 50|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-100 at 50 ?1", DONE),
            ],
        ),
    ]);
}

// proves: IETF-INT-02, IETF-INT-08, IETF-INT-11, IETF-VER-04, IETF-VER-09, IETF-OFF-04, IETF-CLI-16, IETF-CRE-05
#[test]
fn only_its_own_104_counts() {
    const OTHER: &str = "Location: https://h.example/u/9|Upload-Draft-Interop-Version: 6";
    const NONE: &str = "Location: https://h.example/u/9";
    goes_well(vec![
        (
            "another version's is no 104: careful on the retry",
            vec![
                (POST, &[Hears(0, OTHER), Hears(0, NONE), Breaks(Some(10))]),
                ("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 0-100 at 0 ?1", DONE),
            ],
        ),
        ("nothing reached the server: the same once more", vec![(POST, &[Breaks(None)]), (POST, DONE)]),
        (
            "progress on an append has no place to tell",
            vec![
                (POST, &[Hears(0, U), Breaks(Some(60))]),
                (ASKED, &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")]),
                (
                    "PATCH /u/1 0-100 at 0 ?1",
                    &[
                        Hears(9, "Upload-Offset: 5|Location: /u/2|Upload-Draft-Interop-Version: 8"),
                        Breaks(Some(9)),
                    ],
                ),
                (ASKED, &[Answers(204, "Upload-Offset: 7|Upload-Complete: ?0")]),
                ("PATCH /u/1 7-100 at 7 ?1", DONE),
            ],
        ),
    ]);
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    let progress = |at: &'static str| Hears(50, at);
    let acts = [
        Hears(0, U),
        progress("Upload-Offset: 20|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 10|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 51|Upload-Draft-Interop-Version: 8"),
        progress("Upload-Offset: 30|Upload-Draft-Interop-Version: 7"),
        progress("Upload-Offset: x|Upload-Draft-Interop-Version: 8"),
    ];
    play(&mut uploader, &[(POST, &acts)]);
    // What cannot be is not believed; what can be need not be kept any more.
    assert_eq!(uploader.acknowledged(), Offset::new(20));
    assert_eq!(uploader.url(), Some(&Uri::from_static("https://h.example/u/1")));
    // Another interim response, and one when nothing is sent, say nothing.
    assert_eq!(uploader.on_interim(StatusCode::CONTINUE, &fields(U), moment(0)), Heard::GoOn);
    uploader.on_response(StatusCode::OK, &fields("Upload-Complete: ?1"), moment(0));
    assert_eq!(
        uploader.on_interim(StatusCode::from_u16(104).expect("one"), &fields(U), moment(0)),
        Heard::GoOn
    );
}

// proves: IETF-INT-06, IETF-LIM-05, IETF-RET-14, IETF-CRE-18
#[test]
fn what_cannot_go_on_is_cancelled() {
    const TWO: &str = "Location: https://h.example/u/2|Upload-Draft-Interop-Version: 8";
    const SMALL: &str =
        "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 8|Upload-Limit: max-size=99";
    let too_large = Failure::TooLarge { most: 99, length: Length::new(100) };
    let different = |told| Failure::Different { told, length: Length::new(100) };
    let cancelled: (&str, &[Act]) = ("DELETE /u/1", &[Answers(204, "")]);
    let stories: Vec<(Failure, Story<'_>)> = vec![
        (Failure::TwoPlaces, vec![(POST, &[Hears(0, U), Stops(5, TWO)]), cancelled]),
        (
            Failure::TwoPlaces,
            vec![(POST, &[Hears(0, U), Answers(201, "Location: /u/2|Upload-Complete: ?0")]), cancelled],
        ),
        (too_large, vec![(POST, &[Stops(0, SMALL)]), cancelled]),
        (too_large, vec![(POST, &[Stops(0, SMALL)]), ("DELETE /u/1", &[Breaks(Some(0))])]),
        (too_large, vec![(POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: max-size=99")])]),
        (
            different(101),
            vec![
                (POST, &[Hears(0, U), Breaks(Some(9))]),
                (ASKED, &[Answers(204, "Upload-Offset: 101")]),
                cancelled,
            ],
        ),
        (
            different(99),
            vec![
                (POST, &[Hears(0, U), Breaks(Some(9))]),
                (ASKED, &[Answers(204, "Upload-Offset: 9|Upload-Length: 99")]),
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
fn what_cannot_be_done_has_a_reason() {
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let cut: (&str, &[Act]) = (POST, &[Hears(0, U), Breaks(Some(60))]);
    let at: (&str, &[Act]) = (ASKED, &[Answers(204, "Upload-Offset: 9|Upload-Complete: ?0")]);
    let append = "PATCH /u/1 9-100 at 9 ?1";
    let silent: (&str, &[Act]) = (ASKED, &[Answers(200, "")]);
    let malformed: (&str, &[Act]) = (ASKED, &[Answers(204, "Upload-Offset: -1|Upload-Complete: ?0")]);
    let unclear: (&str, &[Act]) = (ASKED, &[Answers(400, "Upload-Complete: ?0")]);
    let stories: Vec<(Failure, bool, Story<'_>)> = vec![
        (rejected(422), true, vec![(POST, &[Answers(422, "Upload-Complete: ?1")])]),
        (rejected(503), true, vec![(POST, &[Answers(503, "Upload-Complete: ?1|Retry-After: 1")])]),
        (rejected(403), false, vec![(POST, &[AnswersEarly(0, 403, "Upload-Complete: ?0")])]),
        (rejected(404), false, vec![(POST, &[Answers(404, "")])]),
        (rejected(409), false, vec![(POST, &[Answers(409, "")])]),
        (rejected(308), false, vec![(POST, &[Answers(308, "")])]),
        (rejected(401), false, vec![cut, (ASKED, &[Answers(401, "")])]),
        (
            rejected(415),
            false,
            vec![cut, at, (append, &[Answers(415, "Upload-Offset: 9|Upload-Complete: ?0")])],
        ),
        (rejected(422), true, vec![cut, at, (append, &[Answers(422, "Upload-Complete: ?1")])]),
        (Failure::NotResumable, false, vec![cut, silent, silent, silent]),
        (Failure::NotResumable, false, vec![cut, silent, malformed, malformed]),
        (rejected(400), false, vec![cut, malformed, unclear, unclear]),
        (rejected(302), false, vec![cut, (ASKED, &[Answers(302, "Location: /login")])]),
        (Failure::Gone, false, vec![cut, at, (append, &[Answers(404, "")])]),
        (Failure::Gone, false, vec![cut, at, (append, &[Breaks(Some(3))]), (ASKED, &[Answers(410, "")])]),
        // It may be complete, and forgotten: to begin again might do it twice.
        (Failure::Gone, false, vec![(POST, &[Hears(0, U), Breaks(Some(100))]), (ASKED, &[Answers(404, "")])]),
        (Failure::Unanswered, false, vec![(POST, &[Breaks(Some(100))])]),
        (Failure::Unanswered, false, vec![(POST, &[Answers(502, "")])]),
        (Failure::Unanswered, false, vec![(POST, &[AnswersEarly(50, 200, "")])]),
        // Its time is over before the next attempt.
        (
            Failure::Gone,
            false,
            vec![(
                POST,
                &[
                    Hears(0, "Location: /u/1|Upload-Limit: max-age=0|Upload-Draft-Interop-Version: 8"),
                    Breaks(Some(5)),
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
        assert_eq!(ends(&mut uploader), Err(failure), "it stays ended");
    }
    // A method that promises to do it once however often it is asked may be asked again.
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::PUT, 100);
    let story: Story<'_> = vec![
        ("PUT /uploads 0-100 ?1", &[Breaks(Some(100))]),
        ("PUT /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
        ("PATCH /u/1 0-100 at 0 ?1", DONE),
    ];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A server without resuming cannot be opened carefully.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(200, "")])]);
    assert_eq!(ends(&mut uploader), Err(Failure::NotResumable));
}

// proves: IETF-CLI-01, IETF-CLI-02, IETF-CLI-18
#[test]
fn a_success_is_judged_by_what_shows_that_the_server_speaks_the_protocol() {
    const CAREFUL: &str = "POST /uploads 0-0 ?0";
    const U10: &str = "Location: https://h.example/u/1|Upload-Draft-Interop-Version: 10";
    let end = |opening, version, story: Story<'_>| {
        let mut uploader = begun(version, opening, Method::POST, 100);
        play(&mut uploader, &story);
        (ends(&mut uploader), uploader.url().is_some())
    };
    // The place of what an ordinary server made of it is none to append to.
    let made = vec![(CAREFUL, &[Answers(201, "Location: /files/7")][..])];
    assert_eq!(end(Opening::Careful, Interop::V10, made), (Err(Failure::NotResumable), false));
    let made = vec![(POST, &[Answers(201, "Location: /files/7")][..])];
    assert_eq!(end(Opening::AtOnce, Interop::V10, made), (Ok(()), false));
    // One field is evidence enough.
    let opened = vec![
        (CAREFUL, &[Answers(201, "Location: /u/1|Upload-Limit: min-size=0")][..]),
        ("PATCH /u/1 0-100 at 0 ?1", DONE),
    ];
    assert_eq!(end(Opening::Careful, Interop::V10, opened), (Ok(()), true));
    // Since -12 a success that does not say that it completes leaves an upload to go on with.
    let silent = (POST, &[Hears(0, U10), Answers(200, "")][..]);
    let story = vec![
        silent,
        (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?0")]),
        ("PATCH /u/1 100-100 at 100 ?1", DONE),
    ];
    assert_eq!(end(Opening::AtOnce, Interop::V10, story), (Ok(()), true));
    let story = vec![(POST, &[Hears(0, U), Answers(200, "")][..])];
    assert_eq!(end(Opening::AtOnce, Interop::V8, story), (Ok(()), true));
}

// proves: IETF-VER-11
#[test]
fn a_number_that_is_refused_without_a_word_is_followed_by_the_next() {
    const U6: &str = "Location: /u/1|Upload-Draft-Interop-Version: 6";
    let refused: &[Act] = &[AnswersEarly(10, 400, "")];
    let number = |uploader: &mut Uploader| match uploader.clone().step() {
        Step::Send(ask) => ask
            .head
            .headers()
            .get("upload-draft-interop-version")
            .map(|value| value.to_str().expect("ASCII").to_owned()),
        other => panic!("{other:?}"),
    };
    let negotiating = |version| begun(version, Opening::AtOnce, Method::POST, 100).negotiating();
    let mut uploader = negotiating(VERSIONS[0]);
    let mut spoken = vec![number(&mut uploader)];
    for _ in 0..2 {
        play(&mut uploader, &[(POST, refused)]);
        spoken.push(number(&mut uploader));
    }
    assert_eq!(spoken, [Some("10".to_owned()), Some("6".to_owned()), None]);
    assert_eq!(uploader.version(), Some(Interop::Rfc));
    play(&mut uploader, &[(POST, refused)]);
    assert_eq!(ends(&mut uploader), Err(Failure::Rejected(StatusCode::BAD_REQUEST)));

    // The second number is spoken to the end, at a URL that it has named.
    let mut uploader = negotiating(VERSIONS[0]);
    let story: Story<'_> = vec![
        (POST, refused),
        (POST, &[Hears(0, U6), Breaks(Some(60))]),
        (ASKED, &[Answers(204, "Upload-Offset: 40|Upload-Complete: ?0")]),
        ("PATCH /u/1 40-100 at 40 ?1", &[Answers(201, "Upload-Complete: ?1")]),
    ];
    play(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.version()), (Ok(()), Some(Interop::V6)));

    // A refusal in words is one of the upload, and a version that was chosen is not changed.
    let bad = Failure::Rejected(StatusCode::BAD_REQUEST);
    let mut uploader = negotiating(VERSIONS[0]);
    play(&mut uploader, &[(POST, &[AnswersEarly(0, 400, "Upload-Complete: ?0")])]);
    assert_eq!(ends(&mut uploader), Err(bad));
    let mut uploader = begun(VERSIONS[0], Opening::AtOnce, Method::POST, 100);
    play(&mut uploader, &[(POST, refused)]);
    assert_eq!(ends(&mut uploader), Err(bad));

    // An upload of an earlier run is asked for in the next version too.
    let url = Uri::from_static("https://h.example/u/1");
    let mut uploader = Uploader::resume_in(url, Interop::V10, Length::new(100), retries()).negotiating();
    let story: Story<'_> = vec![
        (ASKED, &[Answers(400, "")]),
        (ASKED, &[Answers(204, "Upload-Offset: 70|Upload-Complete: ?0")]),
        ("PATCH /u/1 70-100 at 70 ?1", DONE),
    ];
    play(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.version()), (Ok(()), Some(Interop::V6)));
}

/// However a creation ends early, a question comes before the first append: it ends what is left of the creation at the
/// server.
// proves: IETF-CON-01, IETF-RET-12
#[test]
fn no_transfer_begins_while_the_creation_of_its_upload_may_still_run() {
    const SHORTER: &str = "Location: /u/1|Upload-Limit: max-append-size=60|Upload-Draft-Interop-Version: 8";
    let endings: [&[Act]; 4] = [
        &[Stops(0, SHORTER)],
        &[Hears(0, U), Breaks(Some(50))],
        &[Hears(0, U), AnswersEarly(50, 503, "")],
        &[Hears(0, U), AnswersEarly(50, 201, "Location: /u/1|Upload-Complete: ?0")],
    ];
    for ending in endings {
        let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
        play(&mut uploader, &[(POST, ending), (ASKED, &[Breaks(None)])]);
    }
}

// proves: IETF-LIM-03, IETF-LIM-09
#[test]
fn requests_are_as_large_as_the_server_wants() {
    let stories: Vec<(u64, Story<'_>)> = vec![
        (
            u64::MAX,
            vec![
                (
                    POST,
                    &[Stops(
                        0,
                        "Location: /u/1|Upload-Limit: max-append-size=60|Upload-Draft-Interop-Version: 8",
                    )],
                ),
                (ASKED, &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")]),
                ("PATCH /u/1 0-60 at 0 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 60-100 at 60 ?1", DONE),
            ],
        ),
        (
            u64::MAX,
            vec![
                (POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: max-append-size=60")]),
                (
                    "POST /uploads 0-60 ?0",
                    &[Answers(201, "Location: /u/1|Upload-Complete: ?0|Upload-Offset: 60")],
                ),
                ("PATCH /u/1 60-100 at 60 ?1", DONE),
            ],
        ),
        (
            u64::MAX,
            vec![
                (POST, &[AnswersEarly(9, 413, "")]),
                ("POST /uploads 0-50 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-100 at 50 ?1", &[AnswersEarly(0, 413, "")]),
                (ASKED, &[Answers(204, "Upload-Offset: 50|Upload-Complete: ?0")]),
                ("PATCH /u/1 50-75 at 50 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 75-100 at 75 ?1", DONE),
            ],
        ),
        (
            10,
            vec![
                (
                    "POST /uploads 0-10 ?0",
                    &[AnswersEarly(0, 400, "Upload-Complete: ?0|Upload-Limit: min-append-size=40")],
                ),
                ("POST /uploads 0-40 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")]),
                ("PATCH /u/1 40-80 at 40 ?0", &[Answers(204, "Upload-Complete: ?0")]),
                ("PATCH /u/1 80-100 at 80 ?1", DONE),
            ],
        ),
    ];
    for (content_max, story) in stories {
        let mut uploader =
            begun(Interop::V8, Opening::AtOnce, Method::POST, 100).with_content_max(content_max);
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), Ok(()));
    }
    // Less than the least is not tried.
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    let story: Story<'_> =
        vec![(POST, &[AnswersEarly(0, 413, "Upload-Complete: ?0|Upload-Limit: min-append-size=100")])];
    play(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Err(Failure::Rejected(StatusCode::PAYLOAD_TOO_LARGE)));
}

#[test]
fn every_version_is_spoken_as_it_is() {
    for version in Interop::ALL {
        let (yes, no) = if version == Interop::V3 { ("in?0", "in?1") } else { ("?1", "?0") };
        let number = version.number().map(|number| format!("|Upload-Draft-Interop-Version: {number}"));
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let place = leak(format!("Location: /u/1{}", number.unwrap_or_default()));
        let complete = |yes: bool| match (version, yes) {
            (Interop::V3, yes) => format!("Upload-Incomplete: ?{}", u8::from(!yes)),
            (_, yes) => format!("Upload-Complete: ?{}", u8::from(yes)),
        };
        let at = |offset: u64, yes| leak(format!("Upload-Offset: {offset}|{}", complete(yes)));
        let mut uploader = begun(version, Opening::AtOnce, Method::POST, 100);
        let (created, appended) =
            (format!("POST /uploads 0-100 {yes}"), format!("PATCH /u/1 40-100 at 40 {yes}"));
        let again = format!("PATCH /u/1 100-100 at 100 {yes}");
        let mut story: Story<'_> = vec![
            (&created, leak_acts(vec![Hears(0, place), Breaks(Some(60))])),
            (ASKED, leak_acts(vec![Answers(204, at(40, false))])),
            (&appended, leak_acts(vec![Breaks(Some(60))])),
            (ASKED, leak_acts(vec![Answers(204, at(100, true))])),
        ];
        // Before 8 an answer is not given again: that it is complete is all there is to know.
        if version >= Interop::V8 {
            story.push((&again, leak_acts(vec![Answers(200, at(100, true))])));
        }
        play(&mut uploader, &story);
        assert_eq!(
            (ends(&mut uploader), uploader.is_answered()),
            (Ok(()), version >= Interop::V8),
            "{version:?}"
        );

        // Only since 7 a success has to say that it is the target's.
        let mut uploader = begun(version, Opening::Careful, Method::POST, 100);
        let created = format!("POST /uploads 0-0 {no}");
        let appended = format!("PATCH /u/1 0-100 at 0 {yes}");
        let story: Story<'_> = vec![
            (&created, leak_acts(vec![Answers(201, leak(format!("Location: /u/1|{}", complete(false))))])),
            (&appended, leak_acts(vec![Answers(204, "")])),
        ];
        play(&mut uploader, &story);
        if version < Interop::V7 {
            assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), true), "{version:?}");
        } else {
            play(&mut uploader, &[(ASKED, leak_acts(vec![Answers(204, at(100, false))]))]);
        }
    }
}

fn leak_acts(acts: Vec<Act>) -> &'static [Act] {
    Vec::leak(acts)
}

// proves: IETF-CLI-11, IETF-CLI-13, IETF-RET-12
#[test]
fn an_earlier_run_is_continued_at_its_url() {
    let resumed = || {
        let url = Uri::from_static("https://h.example/u/1");
        Uploader::resume_in(url, Interop::V8, Length::new(100), retries())
    };
    let stories: Vec<(Result<(), Failure>, Story<'_>)> = vec![
        (
            Ok(()),
            vec![
                (ASKED, &[Answers(204, "Upload-Offset: 70|Upload-Complete: ?0")]),
                ("PATCH /u/1 70-100 at 70 ?1", DONE),
            ],
        ),
        (
            Ok(()),
            vec![
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", DONE),
            ],
        ),
        // It is complete, and what was answered is not known any more.
        (
            Ok(()),
            vec![
                (ASKED, &[Answers(204, "Upload-Offset: 100|Upload-Complete: ?1")]),
                ("PATCH /u/1 100-100 at 100 ?1", &[Answers(404, "")]),
            ],
        ),
        // The target had enough of it early: its answer says why.
        (
            Err(Failure::Rejected(StatusCode::UNPROCESSABLE_ENTITY)),
            vec![
                (ASKED, &[Answers(204, "Upload-Offset: 30|Upload-Complete: ?1")]),
                ("PATCH /u/1 30-30 at 30 ?1", &[Answers(422, "Upload-Complete: ?1")]),
            ],
        ),
        (
            Err(Failure::Different { told: 30, length: Length::new(100) }),
            vec![
                (ASKED, &[Answers(204, "Upload-Offset: 30|Upload-Complete: ?1")]),
                ("PATCH /u/1 30-30 at 30 ?1", &[Answers(400, "Upload-Complete: ?0")]),
            ],
        ),
        (Err(Failure::Gone), vec![(ASKED, &[Answers(404, "")])]),
    ];
    for (end, story) in stories {
        let mut uploader = resumed();
        play(&mut uploader, &story);
        assert_eq!(ends(&mut uploader), end);
    }
}

#[test]
fn retries_of_a_url_s_upload_are_bounded_and_renewed_by_progress() {
    let mut uploader = begun(Interop::V8, Opening::AtOnce, Method::POST, 100);
    play(&mut uploader, &[(POST, &[Hears(0, U), Breaks(Some(60))])]);
    for _ in 0..5 {
        play(&mut uploader, &[(ASKED, &[Breaks(Some(0))])]);
    }
    assert_eq!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, last: Trouble::Lost }));

    // A server that takes nothing and says yes to everything is left.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")])]);
    for _ in 0..6 {
        play(
            &mut uploader,
            &[("PATCH /u/1 0-100 at 0 ?1", &[Answers(204, "Upload-Offset: 0|Upload-Complete: ?0")])],
        );
    }
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, .. })));

    // Progress that only 104s tell renews them too.
    let mut uploader = begun(Interop::V8, Opening::Careful, Method::POST, 100);
    play(&mut uploader, &[("POST /uploads 0-0 ?0", &[Answers(201, "Location: /u/1|Upload-Complete: ?0")])]);
    for at in 0..50_u64 {
        let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let append = leak(format!("PATCH /u/1 {at}-100 at {at} ?1"));
        let more = leak(format!("Upload-Offset: {}|{AT}", at + 1));
        let state = leak(format!("Upload-Offset: {}|Upload-Complete: ?0", at + 1));
        play(
            &mut uploader,
            &[
                (append, leak_acts(vec![Hears(1, more), Breaks(Some(1))])),
                (ASKED, leak_acts(vec![Answers(204, state)])),
            ],
        );
    }
}

#[test]
fn places_are_resolved_against_the_target() {
    let target = Uri::from_static("https://h.example/files/uploads?x=1");
    let table = [
        ("https://other.example/u/1", Some("https://other.example/u/1")),
        ("https://h.example/u/1#part", Some("https://h.example/u/1")),
        ("//cdn.example/u/1", Some("https://cdn.example/u/1")),
        ("/u/1?y=https://z", Some("https://h.example/u/1?y=https://z")),
        ("u/1", Some("https://h.example/files/u/1")),
        ("?u=1", Some("https://h.example/files/uploads?u=1")),
        ("", None),
        ("#x", None),
        ("https://", None),
    ];
    for (location, expected) in table {
        let found = super::super::ietf::resolve(&target, location).map(|uri| uri.to_string());
        assert_eq!(found.as_deref(), expected, "{location}");
    }
    let found = super::super::ietf::resolve(&Uri::from_static("/uploads"), "/u/1");
    assert_eq!(found, Some(Uri::from_static("/u/1")));
}
