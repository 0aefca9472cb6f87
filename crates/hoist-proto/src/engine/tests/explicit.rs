//! Uploads that are complete when somebody says so: lengths from two sides, what a complete one answers, small ones, and
//! what makes one invalid.

use super::*;

const SAID: Semantics = Semantics {
    completion: Completion::Explicit,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};
const LATER: Finish = Finish::Later;

fn one(offset: u64, length: Option<u64>, phase: Phase) -> Upload {
    Upload { semantics: SAID, family: Family::Ietf, ..upload(offset, length, phase) }
}

fn asks(operation: Operation) -> UploadRequest {
    UploadRequest { family: Family::Ietf, ..request(operation) }
}

fn appends(at: u64, length: Option<u64>, content: Content, when_complete: AppendToComplete) -> Operation {
    let (at, length) = (Offset::new(at), length.map(Length::new));
    Operation::Append(Append { like: None, at, length, content, when_complete })
}

fn creates(length: Option<u64>, content: Content) -> Operation {
    let (length, on_existing, below_min_size) =
        (length.map(Length::new), OnExisting::Refuse, BelowMinSize::Ordinary);
    Operation::Create(Create {
        semantics: SAID,
        length,
        content,
        on_existing,
        below_min_size,
        composition: Composition::Direct,
        waits_for_parts: false,
        origin: origin(),
    })
}

fn decision(known: Option<&Upload>, operation: Operation, limits: Limits) -> String {
    let policy = Policy { limits, ..Policy::default() };
    told(&decide(known, &asks(operation), &policy, NOW))
}

// proves: IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, IETF-LEN-05, IETF-LEN-06, IETF-APP-07, IETF-APP-16, IETF-APP-19
#[test]
fn what_every_request_says_of_the_length_agrees() {
    let open = || one(100, Some(200), Phase::Open);
    let growing = || one(100, None, Phase::Open);
    let more = |bytes| content(Some(bytes), LATER);
    let unknown = |finish| content(None, finish);
    let most = LARGEST_INTEGER - 100;
    let table = [
        // Declared by the request's own size where it is the last.
        (open(), 100, None, here(100), "receive 100 bytes by length at 100 of 200".to_owned()),
        (open(), 100, Some(200), here(100), "receive 100 bytes by length at 100 of 200".into()),
        (growing(), 100, None, here(9), "receive 9 bytes by length at 100 of 109".into()),
        (growing(), 100, Some(109), here(9), "receive 9 bytes by length at 100 of 109".into()),
        (growing(), 100, Some(300), more(9), "receive 200 bytes by length at 100 of 300".into()),
        (growing(), 100, None, more(9), format!("receive {most} bytes by integer at 100 of ?")),
        (growing(), 100, None, unknown(Finish::Here), format!("receive {most} bytes by integer at 100 of ?")),
        (growing(), 100, Some(150), unknown(Finish::Here), "receive 50 bytes by length at 100 of 150".into()),
        (open(), 100, None, more(0), "receive 100 bytes by length at 100 of 200".into()),
        // A contradiction within the length leaves the upload as it is.
        (open(), 100, None, here(99), "Inconsistent".into()),
        (open(), 100, None, here(0), "Inconsistent".into()),
        (open(), 100, Some(199), here(99), "Inconsistent".into()),
        (open(), 100, Some(200), here(99), "Inconsistent".into()),
        (open(), 100, Some(201), more(1), "Inconsistent".into()),
        (open(), 100, Some(50), more(1), "Inconsistent".into()),
        (growing(), 100, Some(108), here(9), "Inconsistent".into()),
        (growing(), 100, Some(110), here(9), "Inconsistent".into()),
        (growing(), 100, Some(99), unknown(LATER), "Inconsistent".into()),
        (growing(), 100, Some(108), more(9), "Inconsistent".into()),
        (growing(), 100, Some(100), here(0), "receive 0 bytes by length at 100 of 100".into()),
        // An end beyond it does not, whatever else the request says.
        (open(), 100, None, here(101), "dead: Excess".into()),
        (open(), 100, None, more(101), "dead: Excess".into()),
        (open(), 100, Some(200), here(101), "dead: Excess".into()),
        (open(), 100, Some(201), here(101), "dead: Excess".into()),
        // The offset is looked at before lengths.
        (open(), 99, Some(7), here(999), "Mismatch".into()),
        (open(), 101, None, here(99), "Mismatch".into()),
        (open(), 0, None, here(200), "Mismatch".into()),
    ];
    for (known, at, length, content, expected) in table {
        let operation = appends(at, length, content, AppendToComplete::Replays);
        let text = format!("{operation:?}");
        assert_eq!(decision(Some(&known), operation, Limits::default()), expected, "{text}");
    }
    // More than a creation's own length begins nothing.
    assert_eq!(decision(None, creates(Some(8), more(9)), Limits::default()), "Inconsistent");
    assert_eq!(
        decision(None, creates(Some(9), here(9)), Limits::default()),
        "create 9 bytes by length at 0 of 9"
    );
}

// proves: IETF-CMP-02, IETF-CMP-06, IETF-APP-14, IETF-APP-15, IETF-PRB-03
#[test]
fn a_complete_upload_gives_its_answer_again_or_refuses() {
    let done = || one(200, Some(200), Phase::Delivered(answer()));
    let failed = || one(200, Some(200), Phase::Failed(TargetResponse::of(StatusCode::UNPROCESSABLE_ENTITY)));
    let received = || one(200, Some(200), Phase::Received);
    let more = |bytes| content(Some(bytes), LATER);
    // With replay; for those who know none.
    let table = [
        (done(), 200, None, here(0), "again", "Finished"),
        (failed(), 200, None, here(0), "again", "Finished"),
        (done(), 200, Some(200), here(0), "again", "Finished"),
        (received(), 200, None, here(0), "Busy", "Finished"),
        (received(), 200, None, here(1), "Inconsistent", "Finished"),
        (done(), 200, None, more(0), "Inconsistent", "Finished"),
        (done(), 200, None, here(1), "Inconsistent", "Finished"),
        (done(), 200, None, more(1), "Inconsistent", "Finished"),
        (done(), 200, None, content(None, Finish::Here), "Inconsistent", "Finished"),
        (done(), 100, None, here(0), "Mismatch", "Finished"),
        (done(), 100, None, here(100), "Mismatch", "Finished"),
        (done(), 201, None, here(0), "Mismatch", "Finished"),
    ];
    for (known, at, length, content, replays, rejects) in table {
        for (when_complete, expected) in [
            (AppendToComplete::Replays, replays),
            (AppendToComplete::Rejects { typed: true }, rejects),
            (AppendToComplete::Rejects { typed: false }, rejects),
        ] {
            let operation = appends(at, length, content, when_complete);
            let text = format!("{operation:?} on {:?}", known.phase);
            assert_eq!(decision(Some(&known), operation, Limits::default()), expected, "{text}");
        }
    }
    // One that is not complete is not finished for anybody.
    let open = one(100, Some(200), Phase::Open);
    for when_complete in
        [AppendToComplete::Rejects { typed: true }, AppendToComplete::Replays, AppendToComplete::Conflicts]
    {
        let found = decision(Some(&open), appends(100, None, here(100), when_complete), Limits::default());
        assert_eq!(found, "receive 100 bytes by length at 100 of 200");
    }
}

// proves: IETF-RET-03, IETF-CMP-01, IETF-CMP-03
#[test]
fn it_is_told_to_be_complete_when_its_target_has_answered() {
    let table = [
        (Phase::Open, "state 200 false"),
        (Phase::Received, "state 200 false"),
        (Phase::Delivered(answer()), "state 200 true"),
        (Phase::Failed(answer()), "state 200 true"),
    ];
    for (phase, expected) in table {
        let known = one(200, Some(200), phase);
        assert_eq!(decision(Some(&known), Operation::Retrieve, Limits::default()), expected);
    }
}

// proves: IETF-APP-16, IETF-RET-10, IETF-APP-05
#[test]
fn what_makes_no_sense_is_told_to_who_may_see_the_upload() {
    let reject = || Operation::Reject(Refusal::field("Upload-Offset", "x"));
    assert_eq!(decision(None, reject(), Limits::default()), "NotFound");
    let known = one(7, Some(200), Phase::Open);
    let Decision::Refuse(Refusal::Beside(refusal, state)) =
        decide(Some(&known), &asks(reject()), &Policy::default(), NOW)
    else {
        panic!("it is refused, and told where it is");
    };
    assert_eq!((*refusal, state), (Refusal::field("Upload-Offset", "x"), State::from(&known)));
    let owned = Upload { owner: Some(Principal::new("me")), ..known.clone() };
    let dead = Upload { lifetime: Some(Duration::ZERO), ..known.clone() };
    for known in [owned, Upload { family: Family::Token, ..known }] {
        assert_eq!(decision(Some(&known), reject(), Limits::default()), "NotFound");
    }
    assert_eq!(decision(Some(&dead), reject(), Limits::default()), "Gone");
}

// proves: IETF-LIM-07, IETF-CRE-06
#[test]
fn what_is_too_small_to_resume_is_taken_as_an_ordinary_request() {
    let limits = Limits { size_min: 100, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    // Length, content, and whether it can be resumed.
    let table = [
        (Some(99), here(99), false),
        (Some(0), here(0), false),
        (Some(100), here(100), true),
        // Of unknown length, or counting on a second request: it stays an upload.
        (None, content(None, Finish::Here), true),
        (Some(99), content(Some(0), LATER), true),
        (None, content(Some(5), LATER), true),
    ];
    for (length, content, resumes) in table {
        for below_min_size in [BelowMinSize::Ordinary, BelowMinSize::Resumes] {
            let Operation::Create(create) = creates(length, content) else { unreachable!("it is one") };
            let operation = Operation::Create(Create { below_min_size, ..create });
            let Decision::Create(upload, _) = decide(None, &asks(operation), &policy, NOW) else {
                panic!("below_min_size is no error")
            };
            let expected = resumes || below_min_size == BelowMinSize::Resumes;
            assert_eq!(
                upload.semantics.interruption == Interruption::Resumes,
                expected,
                "{length:?} {content:?}"
            );
        }
    }
}

// proves: IETF-LIM-07, IETF-LIM-08
#[test]
fn limits_are_refused_with_what_they_leave() {
    let (none, huge) = (Limits::default(), LARGEST_INTEGER + 1);
    let size = |most| Limits { size_max: Some(most), ..Limits::default() };
    let at_most = |most| Limits { append_max: Some(most), ..Limits::default() };
    let at_least = |least| Limits { append_min: least, ..Limits::default() };
    let open = || Some(one(100, Some(200), Phase::Open));
    let growing = || Some(one(100, None, Phase::Open));
    let more = |bytes| content(Some(bytes), LATER);
    let append = |content| appends(100, None, content, AppendToComplete::Replays);
    let table = [
        (size(199), None, creates(Some(200), more(0)), "TooLarge"),
        (size(199), None, creates(None, more(200)), "TooLarge"),
        // What cannot be told is too large everywhere.
        (none, None, creates(Some(huge), here(huge)), "TooLarge"),
        (none, None, creates(Some(huge), more(0)), "TooLarge"),
        (none, None, creates(None, more(huge)), "TooLarge"),
        (none, growing(), append(here(LARGEST_INTEGER)), "TooLarge"),
        (size(u64::MAX), None, creates(Some(huge), here(huge)), "TooLarge"),
        (size(199), growing(), append(here(100)), "TooLarge"),
        (size(199), growing(), append(more(100)), "TooLarge"),
        (size(199), growing(), append(content(None, LATER)), "receive 99 bytes by size at 100 of ?"),
        (at_most(10), None, creates(Some(200), more(11)), "TooLarge"),
        (at_most(10), None, creates(Some(11), here(11)), "TooLarge"),
        (at_most(10), open(), append(more(11)), "TooLarge"),
        (at_most(10), open(), append(content(None, LATER)), "receive 10 bytes by append at 100 of 200"),
        (at_least(10), None, creates(None, more(9)), "TooSmall"),
        (at_least(10), None, creates(None, more(0)), "create 999999999999999 bytes by integer at 0 of ?"),
        (at_least(10), None, creates(Some(9), here(9)), "create 9 bytes by length at 0 of 9"),
        (at_least(10), open(), append(more(9)), "TooSmall"),
        (at_least(10), open(), append(more(0)), "TooSmall"),
        (at_least(10), growing(), append(here(0)), "receive 0 bytes by length at 100 of 100"),
    ];
    for (limits, known, operation, expected) in table {
        let text = format!("{limits:?} {operation:?}");
        assert_eq!(decision(known.as_ref(), operation, limits), expected, "{text}");
    }
}

// proves: IETF-LIM-07
#[test]
fn too_little_is_counted_where_it_is_not_declared() {
    let room = Room { bytes: 1000, bound: Bound::Integer };
    let brought = |bytes, finish, created, how| {
        let (before, bytes_min) =
            (if created { 0 } else { 100 }, if finish == Finish::Later { 10 } else { 0 });
        let plan = Plan { at: Offset::new(before), room, bytes_min, finish, created };
        let ending = Ending { stored: durable(before + bytes), how };
        match settle(one(before, None, Phase::Open), &plan, &ending, NOW).1 {
            Verdict::Refuse(refusal) => {
                assert_eq!(refusal.state().map(|state| state.offset), Some(durable(before + bytes)));
                name(&refusal)
            }
            Verdict::Acknowledge(_) => "stored".into(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(brought(9, Finish::Later, false, End::AllReceived), "TooSmall");
    assert_eq!(brought(0, Finish::Later, false, End::AllReceived), "TooSmall");
    assert_eq!(brought(9, Finish::Later, true, End::AllReceived), "TooSmall");
    assert_eq!(brought(10, Finish::Later, false, End::AllReceived), "stored");
    // A creation that only reserves, the last of an upload, and content that was cut.
    assert_eq!(brought(0, Finish::Later, true, End::AllReceived), "stored");
    assert_eq!(brought(9, Finish::Here, false, End::AllReceived), "Deliver { refusal: None }");
    assert_eq!(brought(9, Finish::Later, false, End::Interrupted(Interrupted::Cut)), "Interrupted");
}

/// What an ending leaves, in a word.
fn ended(length: Option<u64>, bound: Bound, finish: Finish, stored: u64, how: End) -> String {
    let room = Room { bytes: stored - 100, bound };
    let plan = Plan { at: Offset::new(100), room, bytes_min: 0, finish, created: false };
    let ending = Ending { stored: durable(stored), how };
    let (upload, verdict) = settle(one(100, length, Phase::Open), &plan, &ending, NOW);
    match verdict {
        Verdict::Deliver { .. } => {
            assert_eq!((upload.phase, upload.length), (Phase::Received, Some(Length::new(stored))));
            "deliver".into()
        }
        Verdict::Acknowledge(_) => "stored".into(),
        Verdict::Refuse(refusal) => {
            assert_eq!(
                refusal.state().map(|state| (state.offset, state.complete)),
                Some((durable(stored), false))
            );
            name(&refusal)
        }
        Verdict::Remove(refusal) => {
            assert_eq!(refusal.state(), None);
            format!("removed: {}", name(&refusal))
        }
    }
}

// proves: IETF-CMP-01, IETF-CMP-03, IETF-CMP-04, IETF-LEN-05, IETF-LEN-06, IETF-LEN-07, IETF-LIM-08, IETF-CRE-12, IETF-APP-09
#[test]
fn endings_complete_keep_or_invalidate() {
    use Finish::{Here, Later};
    let cut = End::Interrupted(Interrupted::Cut);
    let to = |length| Bound::Length(Length::new(length));
    let table = [
        (Some(200), to(200), Here, 200, End::AllReceived, "deliver"),
        (None, Bound::Integer, Here, 150, End::AllReceived, "deliver"),
        (None, Bound::Integer, Here, 100, End::AllReceived, "deliver"),
        // Everything being there completes nothing.
        (Some(200), to(200), Later, 200, End::AllReceived, "stored"),
        (Some(200), to(200), Here, 200, cut, "Interrupted"),
        (Some(200), to(200), Later, 150, End::AllReceived, "stored"),
        (Some(200), to(200), Here, 150, End::AllReceived, "Inconsistent"),
        (None, Bound::Integer, Here, 150, cut, "Interrupted"),
        (Some(200), to(200), Here, 150, End::StorageFull, "Full"),
        (Some(200), to(200), Here, 200, End::OverLimit, "removed: Excess"),
        (Some(200), to(200), Later, 200, End::OverLimit, "removed: Excess"),
        // More than one request may carry is sent again; more than an upload may have is not.
        (None, Bound::Append(50), Here, 150, End::OverLimit, "TooLarge"),
        (Some(200), Bound::Append(50), Later, 150, End::OverLimit, "TooLarge"),
        (None, Bound::Size(150), Here, 150, End::OverLimit, "removed: TooLarge"),
        (None, Bound::Integer, Later, 150, End::OverLimit, "removed: TooLarge"),
    ];
    for (length, bound, finish, stored, how, expected) in table {
        assert_eq!(
            ended(length, bound, finish, stored, how),
            expected,
            "{length:?} {bound:?} {finish:?} {how:?}"
        );
    }
}
