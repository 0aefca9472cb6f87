//! The client's machine, event by event; `simulation` lets it loose on the engine.

use http::{HeaderName, HeaderValue, Method};

use super::*;
use crate::dialect::token::Form;
use crate::field;

mod ietf;
mod simulation;
mod tus1;

/// What happens to a request.
enum Event {
    /// The connection breaks, after this much content was handed to it; nothing can have arrived when it is absent.
    Lost(Option<u64>),
    /// The server answers, after all of the content.
    Says(u16, &'static str),
    /// The server answers, after this much of the content.
    SaysEarly(u64, u16, &'static str),
}
use Event::{Lost, Says, SaysEarly};

fn origin() -> Origin {
    Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() }
}

fn uploader(length: u64) -> Uploader {
    let retries = Retries { attempts: 5, ..Retries::default() };
    Uploader::create(Uri::from_static("/uploads"), token_of([7; 32]), origin(), Length::new(length), retries)
}

fn resumed(length: u64) -> Uploader {
    let retries = Retries { attempts: 5, ..Retries::default() };
    Uploader::resume(Uri::from_static("/uploads"), token_of([7; 32]), origin(), Length::new(length), retries)
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

/// `POST 0-100`, `HEAD`, `PATCH 5-100 at 5`.
fn written(ask: &Ask) -> String {
    let at = field::integer(ask.head.headers(), &crate::dialect::UPLOAD_OFFSET).ignoring_malformed();
    let content =
        ask.content.as_ref().map(|range| format!(" {}-{}", range.start, range.end)).unwrap_or_default();
    let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
    format!("{}{content}{at}", ask.head.method())
}

/// Sends what the machine asks for, passes waits over, and compares the requests.
fn run(uploader: &mut Uploader, events: &[(&str, Event)]) {
    for (at, (expected, event)) in events.iter().enumerate() {
        let moment = moment(1000 * at as u64);
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(ask) = step else { panic!("{expected}: {step:?}") };
        assert_eq!(written(&ask), *expected, "request {at}");
        let whole = ask.content.map_or(0, |range| range.end - range.start);
        let (sent, response) = match *event {
            Lost(sent) => (sent.unwrap_or(0), Err(sent.is_some())),
            Says(status, text) => (whole, Ok((status, text))),
            SaysEarly(sent, status, text) => (sent, Ok((status, text))),
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
        step => panic!("it goes on: {step:?}"),
    }
}

// proves: TOK-TOKEN-06, TDR-HDR-01, TDR-HDR-03, TDR-HDR-05
#[test]
fn one_token_goes_through_all_requests_of_an_upload() {
    let mut uploader = uploader(10);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let mut step = uploader.step();
        while let Step::Wait(_) = step {
            step = uploader.step();
        }
        let Step::Send(ask) = step else { panic!("{step:?}") };
        tokens.push(ask.head.headers()["upload-token"].clone());
        uploader.on_lost(true, moment(0));
    }
    let expected = format!(":{}=:", "Bwc".repeat(14) + "B");
    assert_eq!(tokens[0].len(), 46);
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{expected}");
    assert_eq!(Form::of(&fields("Upload-Token: a")), Form::Seed);
}

/// Stories that end well.
fn tell(stories: Vec<(&str, Vec<(&str, Event)>)>) {
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
fn what_was_interrupted_goes_on() {
    let done = DONE;
    tell(vec![
        ("whole", vec![("POST 0-100", Says(204, done))]),
        ("the draft's own answer", vec![("POST 0-100", Says(204, ""))]),
        ("draft form", vec![("POST 0-100", Says(201, "Upload-Offset: 100|Upload-Incomplete: ?0"))]),
        (
            "cut, at any place",
            vec![
                ("POST 0-100", Lost(Some(60))),
                ("HEAD", Says(204, "Upload-Offset: 40")),
                ("PATCH 40-100 at 40", Lost(Some(60))),
                ("HEAD", Says(204, "Upload-Offset: 99|Upload-Length: 100|Upload-Complete: ?0")),
                ("PATCH 99-100 at 99", Says(204, done)),
            ],
        ),
        (
            "no connection: nothing to ask about",
            vec![("POST 0-100", Lost(None)), ("POST 0-100", Lost(None)), ("POST 0-100", Says(204, done))],
        ),
        (
            "no connection, after one that was",
            vec![
                ("POST 0-100", Lost(Some(0))),
                ("HEAD", Lost(None)),
                ("HEAD", Says(404, "")),
                ("POST 0-100", Lost(None)),
                ("HEAD", Says(404, "")),
                ("POST 0-100", Says(204, done)),
            ],
        ),
        (
            "the creation arrives after the question about it",
            vec![
                ("POST 0-100", Lost(Some(10))),
                ("HEAD", Says(404, "")),
                ("POST 0-100", Says(409, "Upload-Offset: 3")),
                ("HEAD", Says(204, "Upload-Offset: 5")),
                ("PATCH 5-100 at 5", Says(204, done)),
            ],
        ),
    ]);
}

#[test]
fn what_the_server_says_decides_where() {
    let done = DONE;
    tell(vec![
        (
            "a lost answer is asked for by an empty append",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Says(204, done)),
                ("PATCH 100-100 at 100", Says(201, done)),
            ],
        ),
        (
            "the same, where no answer is kept",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Says(204, done)),
                ("PATCH 100-100 at 100", Says(409, done)),
            ],
        ),
        (
            "a server that does not see it is complete is told so",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Says(204, "Upload-Offset: 100|Upload-Complete: ?0")),
                ("PATCH 100-100 at 100", Says(204, "Upload-Offset: 100|Upload-Complete: ?0")),
                ("PATCH 100-100 at 100", Says(204, done)),
            ],
        ),
        (
            "conflicts tell the offset",
            vec![
                ("POST 0-100", SaysEarly(50, 503, "Upload-Offset: 20")),
                ("HEAD", Says(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", SaysEarly(0, 409, "Upload-Offset: 30")),
                ("PATCH 30-100 at 30", Says(409, "Upload-Offset: 100|Upload-Complete: ?1")),
                ("PATCH 100-100 at 100", Says(204, done)),
            ],
        ),
        (
            "a conflict at the right offset, or without one, is asked about",
            vec![
                ("POST 0-100", Lost(Some(50))),
                ("HEAD", Says(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", Says(409, "Upload-Offset: 20")),
                ("HEAD", Says(409, "")),
                ("HEAD", Says(204, "Upload-Offset: 20")),
                ("PATCH 20-100 at 20", Says(409, "")),
                ("HEAD", Says(204, "Upload-Offset: 21")),
                ("PATCH 21-100 at 21", Says(204, done)),
            ],
        ),
        (
            "a server that lost acknowledged bytes gets them again",
            vec![
                ("POST 0-100", Lost(Some(100))),
                ("HEAD", Says(204, "Upload-Offset: 80")),
                ("PATCH 80-100 at 80", Says(409, "Upload-Offset: 10")),
                ("PATCH 10-100 at 10", Says(204, done)),
            ],
        ),
        (
            "an answer before all was sent, without an offset, says nothing",
            vec![
                ("POST 0-100", SaysEarly(99, 200, "")),
                ("HEAD", Says(204, "Upload-Offset: 99")),
                ("PATCH 99-100 at 99", Says(204, done)),
            ],
        ),
        (
            "an empty upload that the server has forgotten begins again",
            vec![
                ("POST 0-100", Lost(Some(10))),
                ("HEAD", Says(204, "Upload-Offset: 0")),
                ("PATCH 0-100 at 0", Says(404, "")),
                ("POST 0-100", Says(204, done)),
            ],
        ),
    ]);
}

// proves: TDR-RSP-02, TDR-OFF-08
#[test]
fn what_cannot_be_is_not_believed() {
    let rejected = |status| Failure::Rejected(StatusCode::from_u16(status).expect("a status"));
    let different = |told| Failure::Different { told, length: Length::new(100) };
    let impossible = |told, sent| Failure::Impossible { told: Offset::new(told), sent: Offset::new(sent) };
    let lost = || ("POST 0-100", Lost(Some(60)));
    let stories = [
        (rejected(413), vec![("POST 0-100", SaysEarly(7, 413, "Upload-Complete: ?1"))]),
        (rejected(404), vec![("POST 0-100", Says(404, ""))]),
        (rejected(308), vec![("POST 0-100", Says(308, ""))]),
        (rejected(401), vec![lost(), ("HEAD", Says(401, ""))]),
        // The target refused the whole: the kept answer says so, however complete the upload is.
        (
            rejected(422),
            vec![
                lost(),
                ("HEAD", Says(204, "Upload-Offset: 60")),
                ("PATCH 60-100 at 60", Lost(Some(40))),
                ("HEAD", Says(204, "Upload-Offset: 100|Upload-Complete: ?1")),
                ("PATCH 100-100 at 100", Says(422, "Upload-Offset: 100|Upload-Complete: ?1")),
            ],
        ),
        (Failure::Taken, vec![("POST 0-100", Says(409, "Upload-Offset: 10"))]),
        (Failure::NotResumable, vec![lost(), ("HEAD", Says(200, ""))]),
        (Failure::NotResumable, vec![lost(), ("HEAD", Says(204, "Upload-Offset: many"))]),
        (different(99), vec![lost(), ("HEAD", Says(204, "Upload-Offset: 10|Upload-Length: 99"))]),
        (different(101), vec![lost(), ("HEAD", Says(204, "Upload-Offset: 101"))]),
        (different(10), vec![lost(), ("HEAD", Says(204, "Upload-Offset: 10|Upload-Complete: ?1"))]),
        (impossible(61, 60), vec![lost(), ("HEAD", Says(204, "Upload-Offset: 61"))]),
        (impossible(100, 99), vec![("POST 0-100", SaysEarly(99, 204, "Upload-Offset: 100"))]),
        (impossible(99, 100), vec![("POST 0-100", Says(204, "Upload-Offset: 99"))]),
        (
            impossible(80, 60),
            vec![
                lost(),
                ("HEAD", Says(204, "Upload-Offset: 60")),
                ("PATCH 60-100 at 60", SaysEarly(0, 409, "Upload-Offset: 80")),
            ],
        ),
        (
            Failure::Gone,
            vec![lost(), ("HEAD", Says(204, "Upload-Offset: 1")), ("PATCH 1-100 at 1", Says(404, ""))],
        ),
        (
            Failure::Gone,
            vec![
                lost(),
                ("HEAD", Says(204, "Upload-Offset: 1")),
                ("PATCH 1-100 at 1", Lost(Some(9))),
                ("HEAD", Says(410, "")),
            ],
        ),
    ];
    for (failure, events) in stories {
        let mut uploader = uploader(100);
        run(&mut uploader, &events);
        assert_eq!(ends(&mut uploader), Err(failure));
        // It stays ended, whatever comes.
        uploader.on_response(StatusCode::NO_CONTENT, &fields("Upload-Offset: 100"), moment(0));
        uploader.on_lost(true, moment(0));
        assert_eq!(ends(&mut uploader), Err(failure));
    }
}

// proves: TDR-OFF-01, TDR-OFF-09
#[test]
fn an_earlier_run_is_continued() {
    let done = "Upload-Offset: 100|Upload-Complete: ?1";
    let stories: [(u64, Vec<(&str, Event)>); 4] = [
        (70, vec![("HEAD", Says(204, "Upload-Offset: 70")), ("PATCH 70-100 at 70", Says(204, done))]),
        (0, vec![("HEAD", Says(404, "")), ("POST 0-100", Says(204, done))]),
        (100, vec![("HEAD", Says(204, done)), ("PATCH 100-100 at 100", Says(204, done))]),
        (
            0,
            vec![
                ("HEAD", Says(404, "")),
                ("POST 0-100", Says(409, "Upload-Offset: 0")),
                ("HEAD", Says(204, "Upload-Offset: 0")),
                ("PATCH 0-100 at 0", Says(204, done)),
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
fn a_bound_on_requests_splits_the_content() {
    let mut uploader = uploader(100).with_content_max(40);
    let events = [
        ("POST 0-40", Says(204, "Upload-Offset: 40|Upload-Complete: ?0")),
        ("PATCH 40-80 at 40", Lost(Some(20))),
        ("HEAD", Says(204, "Upload-Offset: 50|Upload-Complete: ?0")),
        ("PATCH 50-90 at 50", Says(204, "Upload-Offset: 90|Upload-Complete: ?0")),
        ("PATCH 90-100 at 90", Says(204, "Upload-Offset: 100|Upload-Complete: ?1")),
    ];
    run(&mut uploader, &events);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A whole creation without a told offset would mean all of it, a partial one does not.
    let mut uploader = self::uploader(100).with_content_max(40);
    run(&mut uploader, &[("POST 0-40", Says(204, "")), ("HEAD", Says(404, ""))]);
}

#[test]
fn what_is_too_much_at_once_is_sent_in_less() {
    let mut uploader = uploader(100);
    let story = [
        ("POST 0-100", SaysEarly(0, 413, "")),
        ("POST 0-50", SaysEarly(9, 413, "Upload-Limit: max-append-size=30")),
        ("HEAD", Says(204, "Upload-Offset: 9")),
        ("PATCH 9-39 at 9", Says(204, "Upload-Offset: 39|Upload-Complete: ?0")),
        ("PATCH 39-69 at 39", Says(204, "Upload-Offset: 69|Upload-Complete: ?0")),
        ("PATCH 69-99 at 69", Says(204, "Upload-Offset: 99|Upload-Complete: ?0")),
        ("PATCH 99-100 at 99", Says(204, "Upload-Offset: 100|Upload-Complete: ?1")),
    ];
    run(&mut uploader, &story);
    assert_eq!(ends(&mut uploader), Ok(()));
    // A server that takes nothing at all is not asked for ever.
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
fn a_part_is_done_when_the_server_has_it() {
    let part = |uploader: Uploader| {
        let number = crate::types::PartNumber::new(7).expect("in range");
        uploader.as_part(crate::upload::Part { number, last: true })
    };
    let mut uploader = part(uploader(100));
    let Step::Send(ask) = uploader.step() else { panic!("it sends") };
    assert_eq!(ask.head.headers()["upload-index"], "7;last");
    uploader.on_sent(60);
    uploader.on_lost(true, moment(0));
    let story = [
        ("HEAD", Says(204, "Upload-Offset: 60|Upload-Length: 100|Upload-Complete: ?0")),
        ("PATCH 60-100 at 60", Says(204, "Upload-Offset: 100|Upload-Complete: ?0")),
    ];
    run(&mut uploader, &story);
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), false));

    let mut uploader = part(resumed(100));
    run(&mut uploader, &[("HEAD", Says(204, "Upload-Offset: 100|Upload-Length: 100|Upload-Complete: ?0"))]);
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), false));

    let mut uploader = part(self::uploader(100));
    run(&mut uploader, &[("POST 0-100", Says(204, "Upload-Offset: 100|Upload-Complete: ?1"))]);
    assert_eq!((ends(&mut uploader), uploader.is_answered()), (Ok(()), true));
}

#[test]
fn a_stream_says_where_it_ended_when_it_has_ended() {
    let target = Uri::from_static("/uploads");
    let mut uploader = Uploader::create(target, token_of([7; 32]), origin(), None, Retries::default());
    let mut sends = |expected: (&str, u64, bool), ends_at: Option<u64>, answer: &str| {
        let Step::Send(ask) = uploader.step() else { panic!("{expected:?}") };
        let start = ask.content.clone().expect("content").start;
        let complete = field::boolean(ask.head.headers(), &crate::dialect::UPLOAD_COMPLETE);
        let said = complete.ignoring_malformed().unwrap_or(true);
        assert_eq!((ask.head.method().as_str(), start, said), expected);
        if ask.is_open {
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
fn nothing_is_uploaded_too() {
    let mut uploader = uploader(0);
    run(
        &mut uploader,
        &[("POST 0-0", Lost(Some(0))), ("HEAD", Says(404, "")), ("POST 0-0", Says(204, "Upload-Offset: 0"))],
    );
    assert_eq!(ends(&mut uploader), Ok(()));
}

#[test]
fn waits_grow_are_random_and_honour_the_server() {
    let retries = Retries::default();
    let second = |seconds| Duration::from_secs(seconds);
    for (attempt, most) in
        [(1, second(1) / 2), (2, second(1)), (3, second(2)), (7, second(30)), (90, second(30))]
    {
        assert_eq!(retries.wait(attempt, 0), Duration::ZERO);
        assert!(retries.wait(attempt, u64::MAX) <= most);
        assert!(retries.wait(attempt, u64::MAX) + Duration::from_micros(1) >= most);
        let half = retries.wait(attempt, u64::MAX / 2);
        assert!(half < most && half > most / 3, "{attempt}: {half:?}");
    }

    let mut uploader = uploader(100);
    run(&mut uploader, &[("POST 0-100", Says(503, "Retry-After: 20"))]);
    let Step::Wait(wait) = uploader.step() else { panic!("it waits") };
    assert!((second(20)..second(21)).contains(&wait), "{wait:?}");
    assert!(matches!(uploader.step(), Step::Send(_)));

    // One that asks for more than there is budget is not waited for.
    let mut uploader = self::uploader(100);
    run(&mut uploader, &[("POST 0-100", Says(503, "Retry-After: 99999999999999999999"))]);
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 1, last: Trouble::Status(_) })));
}

#[test]
fn retries_are_bounded_and_progress_renews_them() {
    // By number.
    let mut uploader = uploader(100);
    run(&mut uploader, &[("POST 0-100", Lost(Some(0)))]);
    for _ in 0..5 {
        run(&mut uploader, &[("HEAD", Lost(Some(0)))]);
    }
    assert_eq!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, last: Trouble::Lost }));

    // By time.
    let mut uploader = resumed(100);
    uploader.step();
    uploader.on_lost(true, moment(1_000_000));
    uploader.step();
    uploader.step();
    uploader.on_lost(true, moment(1_300_001));
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 2, .. })));

    // Any byte more renews both, however often.
    let mut uploader = resumed(100);
    for at in 1..100_u64 {
        let offset: &'static str = Box::leak(format!("Upload-Offset: {at}").into_boxed_str());
        let append: &'static str = Box::leak(format!("PATCH {at}-100 at {at}").into_boxed_str());
        run(&mut uploader, &[("HEAD", Lost(Some(0))), ("HEAD", Says(204, offset)), (append, Lost(Some(1)))]);
    }
    assert_eq!(uploader.attempts_repeated(), 198);

    // Going back and forth is no progress.
    let mut uploader = resumed(100);
    run(&mut uploader, &[("HEAD", Says(204, "Upload-Offset: 50"))]);
    for _ in 0..3 {
        run(&mut uploader, &[("PATCH 50-100 at 50", Says(409, "Upload-Offset: 10"))]);
        if let Step::Failed(_) = uploader.clone().step() {
            break;
        }
        run(&mut uploader, &[("PATCH 10-100 at 10", Says(409, "Upload-Offset: 50"))]);
    }
    assert!(matches!(ends(&mut uploader), Err(Failure::Exhausted { attempts: 6, .. })));
}
