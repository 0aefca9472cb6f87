//! Uploads with explicit completion: lengths from two indicators, appends to complete uploads, small uploads, and invalidation.

use super::*;

const EXPLICIT: Semantics = Semantics {
    completion: Completion::Explicit,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};
const LATER: Finish = Finish::Later;

fn one(offset: u64, length: Option<u64>, phase: Phase) -> Upload {
    Upload { semantics: EXPLICIT, family: Family::Ietf, ..upload(offset, length, phase) }
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
        semantics: EXPLICIT,
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
    summary(&decide(known, &asks(operation), &policy, NOW))
}

// proves: IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, IETF-LEN-05, IETF-LEN-06, IETF-APP-07, IETF-APP-16, IETF-APP-19
#[test]
fn contradicting_lengths_are_refused() {
    let open = || one(100, Some(200), Phase::Open);
    let growing = || one(100, None, Phase::Open);
    let more = |bytes| content(Some(bytes), LATER);
    let unknown = |finish| content(None, finish);
    let most = LARGEST_INTEGER - 100;
    let table = [
        // The size of the last request declares the length.
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
        (open(), 100, None, here(99), "InconsistentLength".into()),
        (open(), 100, None, here(0), "InconsistentLength".into()),
        (open(), 100, Some(199), here(99), "InconsistentLength".into()),
        (open(), 100, Some(200), here(99), "InconsistentLength".into()),
        (open(), 100, Some(201), more(1), "InconsistentLength".into()),
        (open(), 100, Some(50), more(1), "InconsistentLength".into()),
        (growing(), 100, Some(108), here(9), "InconsistentLength".into()),
        (growing(), 100, Some(110), here(9), "InconsistentLength".into()),
        (growing(), 100, Some(99), unknown(LATER), "InconsistentLength".into()),
        (growing(), 100, Some(108), more(9), "InconsistentLength".into()),
        (growing(), 100, Some(100), here(0), "receive 0 bytes by length at 100 of 100".into()),
        // Content beyond the length invalidates the upload, whatever else the request declares.
        (open(), 100, None, here(101), "dead: LengthExceeded".into()),
        (open(), 100, None, more(101), "dead: LengthExceeded".into()),
        (open(), 100, Some(200), here(101), "dead: LengthExceeded".into()),
        (open(), 100, Some(201), here(101), "dead: LengthExceeded".into()),
        // The offset is checked before lengths.
        (open(), 99, Some(7), here(999), "OffsetMismatch".into()),
        (open(), 101, None, here(99), "OffsetMismatch".into()),
        (open(), 0, None, here(200), "OffsetMismatch".into()),
    ];
    for (known, at, length, content, expected) in table {
        let operation = appends(at, length, content, AppendToComplete::Replays);
        let text = format!("{operation:?}");
        assert_eq!(decision(Some(&known), operation, Limits::default()), expected, "{text}");
    }
    // A creation whose content exceeds its own length creates nothing.
    assert_eq!(decision(None, creates(Some(8), more(9)), Limits::default()), "InconsistentLength");
    assert_eq!(
        decision(None, creates(Some(9), here(9)), Limits::default()),
        "create 9 bytes by length at 0 of 9"
    );
}

// proves: IETF-CMP-02, IETF-CMP-06, IETF-APP-14, IETF-APP-15, IETF-PRB-03
#[test]
fn an_append_to_a_complete_upload_is_a_replay_or_refused() {
    let done = || one(200, Some(200), Phase::Delivered(answer()));
    let failed = || one(200, Some(200), Phase::Failed(TargetResponse::of(StatusCode::UNPROCESSABLE_ENTITY)));
    let received = || one(200, Some(200), Phase::Received);
    let more = |bytes| content(Some(bytes), LATER);
    // The decision in versions with replay, and in versions without.
    let table = [
        (done(), 200, None, here(0), "again", "AlreadyComplete"),
        (failed(), 200, None, here(0), "again", "AlreadyComplete"),
        (done(), 200, Some(200), here(0), "again", "AlreadyComplete"),
        (received(), 200, None, here(0), "Busy", "AlreadyComplete"),
        (received(), 200, None, here(1), "InconsistentLength", "AlreadyComplete"),
        (done(), 200, None, more(0), "InconsistentLength", "AlreadyComplete"),
        (done(), 200, None, here(1), "InconsistentLength", "AlreadyComplete"),
        (done(), 200, None, more(1), "InconsistentLength", "AlreadyComplete"),
        (done(), 200, None, content(None, Finish::Here), "InconsistentLength", "AlreadyComplete"),
        (done(), 100, None, here(0), "OffsetMismatch", "AlreadyComplete"),
        (done(), 100, None, here(100), "OffsetMismatch", "AlreadyComplete"),
        (done(), 201, None, here(0), "OffsetMismatch", "AlreadyComplete"),
    ];
    for (known, at, length, content, replays, rejects) in table {
        for (when_complete, expected) in
            [(AppendToComplete::Replays, replays), (AppendToComplete::Rejects, rejects)]
        {
            let operation = appends(at, length, content, when_complete);
            let text = format!("{operation:?} on {:?}", known.phase);
            assert_eq!(decision(Some(&known), operation, Limits::default()), expected, "{text}");
        }
    }
    // An append to an incomplete upload is received in every version.
    let open = one(100, Some(200), Phase::Open);
    for when_complete in [AppendToComplete::Rejects, AppendToComplete::Replays, AppendToComplete::Conflicts] {
        let found = decision(Some(&open), appends(100, None, here(100), when_complete), Limits::default());
        assert_eq!(found, "receive 100 bytes by length at 100 of 200");
    }
}

// proves: IETF-RET-03, IETF-CMP-01, IETF-CMP-03
#[test]
fn an_upload_is_reported_complete_after_its_target_has_responded() {
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
fn a_malformed_request_gets_the_state_only_if_the_client_may_see_the_upload() {
    let reject = || Operation::Reject(Refusal::field("Upload-Offset", "x"));
    assert_eq!(decision(None, reject(), Limits::default()), "NotFound");
    let known = one(7, Some(200), Phase::Open);
    let decision_on_known = decide(Some(&known), &asks(reject()), &Policy::default(), NOW);
    let refusal = Refusal { state: Some(State::from(&known)), ..Refusal::field("Upload-Offset", "x") };
    assert_eq!(decision_on_known, Decision::Refuse(refusal));
    let owned = Upload { owner: Some(Principal::new("me")), ..known.clone() };
    let dead = Upload { lifetime: Some(Duration::ZERO), ..known.clone() };
    for known in [owned, Upload { family: Family::Token, ..known }] {
        assert_eq!(decision(Some(&known), reject(), Limits::default()), "NotFound");
    }
    assert_eq!(decision(Some(&dead), reject(), Limits::default()), "Gone");
}

// proves: IETF-LIM-07, IETF-CRE-06
#[test]
fn an_upload_below_the_smallest_size_is_received_like_an_ordinary_request() {
    let limits = Limits { size_min: 100, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    // Length, content, and the expected interruption rule.
    let table = [
        (Some(99), here(99), false),
        (Some(0), here(0), false),
        (Some(100), here(100), true),
        // With an unknown length, or with more content to follow, it remains resumable.
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
fn content_over_a_limit_is_refused() {
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
        // A length that no header field can hold is always too large.
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
fn content_below_the_smallest_size_is_refused_after_it_ends_if_its_size_is_undeclared() {
    let room = Room { bytes: 1000, bound: Bound::Integer };
    let brought = |bytes, finish, created, how| {
        let (before, bytes_min) =
            (if created { 0 } else { 100 }, if finish == Finish::Later { 10 } else { 0 });
        let plan = Plan { at: Offset::new(before), room, bytes_min, finish, created };
        let ending = Ending { stored: durable(before + bytes), how };
        match settle(one(before, None, Phase::Open), &plan, &ending, NOW).1 {
            Verdict::Refuse(refusal) => {
                assert_eq!(refusal.state.map(|state| state.offset), Some(durable(before + bytes)));
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
    // An empty creation, the last request of an upload, and interrupted content.
    assert_eq!(brought(0, Finish::Later, true, End::AllReceived), "stored");
    assert_eq!(brought(9, Finish::Here, false, End::AllReceived), "Deliver { refusal: None }");
    assert_eq!(
        brought(9, Finish::Later, false, End::Interrupted(InterruptCause::Disconnected)),
        "Interrupted"
    );
}

/// The verdict as one word.
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
                refusal.state.map(|state| (state.offset, state.complete)),
                Some((durable(stored), false))
            );
            name(&refusal)
        }
        Verdict::Remove(refusal) => {
            assert_eq!(refusal.state, None);
            format!("removed: {}", name(&refusal))
        }
    }
}

// proves: IETF-CMP-01, IETF-CMP-03, IETF-CMP-04, IETF-LEN-05, IETF-LEN-06, IETF-LEN-07, IETF-LIM-08, IETF-CRE-12, IETF-APP-09
#[test]
fn endings_complete_keep_or_invalidate_the_upload() {
    use Finish::{Here, Later};
    let cut = End::Interrupted(InterruptCause::Disconnected);
    let to = |length| Bound::Length(Length::new(length));
    let table = [
        (Some(200), to(200), Here, 200, End::AllReceived, "deliver"),
        (None, Bound::Integer, Here, 150, End::AllReceived, "deliver"),
        (None, Bound::Integer, Here, 100, End::AllReceived, "deliver"),
        // Reaching the length does not complete the upload.
        (Some(200), to(200), Later, 200, End::AllReceived, "stored"),
        (Some(200), to(200), Here, 200, cut, "Interrupted"),
        (Some(200), to(200), Later, 150, End::AllReceived, "stored"),
        (Some(200), to(200), Here, 150, End::AllReceived, "InconsistentLength"),
        (None, Bound::Integer, Here, 150, cut, "Interrupted"),
        (Some(200), to(200), Here, 150, End::StorageFull, "StorageFull"),
        (Some(200), to(200), Here, 200, End::OverLimit, "removed: LengthExceeded"),
        (Some(200), to(200), Later, 200, End::OverLimit, "removed: LengthExceeded"),
        // Content over the limit of one request can be sent again; content over the size limit invalidates the upload.
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
