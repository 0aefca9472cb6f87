//! Decisions on every operation in every state and under every limit, and the invariants over random sequences of requests.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::operation::Content;
use crate::policy::Limits;
use crate::types::LARGEST_INTEGER;
use crate::upload::{Completion, Origin, Semantics, TargetResponse};

mod explicit;
mod random;

const ID: UploadId = UploadId::from_bits([9; 16]);
const NOW: Timestamp = Timestamp::from_millis(1_000_000);

const TOKEN: Semantics = Semantics {
    completion: Completion::AtLengthOrEnd,
    excess: Excess::Invalidates,
    interruption: Interruption::Resumes,
};

fn durable(bytes: u64) -> Durable {
    Durable::attest(Offset::new(bytes))
}

fn origin() -> Origin {
    Origin { method: Method::POST, target: "/uploads".into(), fields: HeaderMap::new() }
}

fn upload(offset: u64, length: Option<u64>, phase: Phase) -> Upload {
    Upload {
        id: ID,
        family: Family::Token,
        semantics: TOKEN,
        owner: None,
        composition: Composition::Direct,
        alias: None,
        file: None,
        origin: origin(),
        created: Timestamp::from_millis(0),
        touched: Timestamp::from_millis(500_000),
        lifetime: None,
        resumes: 0,
        events: Vec::new(),
        length: length.map(Length::new),
        offset: durable(offset),
        phase,
    }
}

fn answer() -> TargetResponse {
    TargetResponse::of(StatusCode::NO_CONTENT)
}

fn content(bytes: Option<u64>, finish: Finish) -> Content {
    Content { bytes, finish }
}

fn here(bytes: u64) -> Content {
    content(Some(bytes), Finish::Here)
}

fn create(length: Option<u64>, content: Content) -> Operation {
    let length = length.map(Length::new);
    let (on_existing, below_min_size) = (OnExisting::Refuse, BelowMinSize::Resumes);
    Operation::Create(Create {
        semantics: TOKEN,
        length,
        content,
        on_existing,
        below_min_size,
        composition: Composition::Direct,
        waits_for_parts: false,
        origin: origin(),
    })
}

fn append(at: u64, length: Option<u64>, content: Content) -> Operation {
    let (at, length, when_complete) = (Offset::new(at), length.map(Length::new), AppendToComplete::Conflicts);
    Operation::Append(Append { at, length, content, like: None, when_complete })
}

fn request(operation: Operation) -> UploadRequest {
    UploadRequest { id: ID, principal: None, family: Family::Token, operation }
}

/// A decision as one line of text.
fn summary(decision: &Decision) -> String {
    let receive = |word: &str, upload: &Upload, plan: &Plan| {
        let bound = match plan.room.bound {
            Bound::Length(_) => "length",
            Bound::Size(_) => "size",
            Bound::Append(_) => "append",
            Bound::Integer => "integer",
        };
        let length = upload.length.map_or("?".to_owned(), |length| length.to_string());
        format!("{word} {} bytes by {bound} at {} of {length}", plan.room.bytes, plan.at)
    };
    match decision {
        Decision::Create(upload, plan) => receive("create", upload, plan),
        Decision::Receive(upload, plan) => receive("receive", upload, plan),
        Decision::Cancel => "cancel".into(),
        Decision::Answer(Reply::State { state, .. }) => format!("state {} {}", state.offset, state.complete),
        Decision::Answer(Reply::Complete { .. }) => "again".into(),
        Decision::Answer(reply) => format!("{reply:?}"),
        Decision::Refuse(refusal) => name(refusal),
        Decision::Invalidate(refusal) => format!("dead: {}", name(refusal)),
    }
}

/// The name of the reason of a refusal.
fn name(refusal: &Refusal) -> String {
    let text = format!("{:?}", refusal.reason);
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

fn decided(known: Option<&Upload>, operation: Operation, limits: Limits) -> String {
    let policy = Policy { limits, ..Policy::default() };
    summary(&decide(known, &request(operation), &policy, NOW))
}

// proves: TOK-CRE-05, TOK-CRE-06, TOK-OFF-04, TOK-APP-02, TOK-APP-06, TOK-CAN-02, TDR-APP-02, TDR-APP-03, TDR-CRE-05, TDR-OFF-05
#[test]
fn operations_in_every_state_have_the_expected_decision() {
    let open = || Some(upload(100, Some(200), Phase::Open));
    let growing = || Some(upload(100, None, Phase::Open));
    let received = || Some(upload(200, Some(200), Phase::Received));
    let done = || Some(upload(200, Some(200), Phase::Delivered(answer())));
    let failed =
        || Some(upload(200, Some(200), Phase::Failed(TargetResponse::of(StatusCode::UNPROCESSABLE_ENTITY))));
    let more = |bytes| content(Some(bytes), Finish::Later);
    let unknown = content(None, Finish::Here);
    let largest = LARGEST_INTEGER;
    let table = vec![
        (None, create(Some(200), here(200)), "create 200 bytes by length at 0 of 200".into()),
        (None, create(Some(200), here(0)), "create 200 bytes by length at 0 of 200".into()),
        (None, create(Some(0), here(0)), "create 0 bytes by length at 0 of 0".into()),
        (None, create(None, unknown), format!("create {largest} bytes by integer at 0 of ?")),
        (None, create(None, more(0)), format!("create {largest} bytes by integer at 0 of ?")),
        (None, create(Some(200), here(201)), "InconsistentLength".into()),
        (None, append(0, None, here(1)), "NotFound".into()),
        (None, Operation::Retrieve, "NotFound".into()),
        (None, Operation::Cancel, "NotFound".into()),
        (open(), create(Some(200), here(200)), "UploadExists".into()),
        (done(), create(Some(200), here(200)), "UploadExists".into()),
        (open(), append(100, None, here(100)), "receive 100 bytes by length at 100 of 200".into()),
        (open(), append(100, Some(200), here(100)), "receive 100 bytes by length at 100 of 200".into()),
        (open(), append(100, None, here(1)), "receive 100 bytes by length at 100 of 200".into()),
        (open(), append(100, None, here(0)), "receive 100 bytes by length at 100 of 200".into()),
        (open(), append(100, None, unknown), "receive 100 bytes by length at 100 of 200".into()),
        (open(), append(100, None, here(101)), "dead: LengthExceeded".into()),
        (open(), append(100, Some(201), here(1)), "InconsistentLength".into()),
        (open(), append(99, None, here(1)), "OffsetMismatch".into()),
        (open(), append(101, None, here(1)), "OffsetMismatch".into()),
        (open(), append(0, None, here(200)), "OffsetMismatch".into()),
        // The offset is checked before everything else.
        (open(), append(99, Some(7), here(999)), "OffsetMismatch".into()),
        (
            growing(),
            append(100, None, here(9)),
            format!("receive {} bytes by integer at 100 of ?", largest - 100),
        ),
        (growing(), append(100, Some(150), here(50)), "receive 50 bytes by length at 100 of 150".into()),
        (growing(), append(100, Some(100), here(0)), "receive 0 bytes by length at 100 of 100".into()),
        (growing(), append(100, Some(99), here(0)), "InconsistentLength".into()),
        (received(), append(200, None, here(0)), "AlreadyComplete".into()),
        (done(), append(200, None, here(0)), "again".into()),
        (failed(), append(200, None, here(0)), "again".into()),
        (done(), append(200, None, here(1)), "AlreadyComplete".into()),
        (done(), append(200, None, unknown), "AlreadyComplete".into()),
        (done(), append(100, None, here(100)), "OffsetMismatch".into()),
        (open(), Operation::Retrieve, "state 100 false".into()),
        (received(), Operation::Retrieve, "state 200 true".into()),
        (done(), Operation::Retrieve, "state 200 true".into()),
        (open(), Operation::Cancel, "cancel".into()),
        (done(), Operation::Cancel, "cancel".into()),
    ];
    for (known, operation, expected) in table {
        let text = format!("{operation:?} on {known:?}");
        assert_eq!(decided(known.as_ref(), operation, Limits::default()), expected, "{text}");
    }
}

// proves: TDR-CRE-03, TDR-APP-02, TDR-APP-04
#[test]
fn a_creation_in_an_early_draft_resumes_only_an_empty_upload() {
    let transfer = |length, content| {
        let Operation::Create(create) = create(length, content) else { unreachable!("it is one") };
        Operation::Create(Create { on_existing: OnExisting::ResumeAtZero, ..create })
    };
    let table = [
        (None, "create 200 bytes by length at 0 of 200"),
        (Some(upload(0, None, Phase::Open)), "receive 200 bytes by length at 0 of 200"),
        (Some(upload(0, Some(200), Phase::Open)), "receive 200 bytes by length at 0 of 200"),
        (Some(upload(0, Some(300), Phase::Open)), "InconsistentLength"),
        (Some(upload(1, None, Phase::Open)), "UploadExists"),
        (Some(upload(0, Some(0), Phase::Delivered(answer()))), "UploadExists"),
        (Some(upload(0, Some(0), Phase::Received)), "UploadExists"),
    ];
    for (known, expected) in table {
        let decision = decided(known.as_ref(), transfer(Some(200), here(200)), Limits::default());
        assert_eq!(decision, expected, "{known:?}");
    }
}

// proves: TDR-CRE-08
#[test]
fn an_append_by_another_method_than_patch_must_use_the_method_of_the_creation() {
    let known = upload(100, Some(200), Phase::Open);
    let table = [
        (None, 100, "receive 100 bytes by length at 100 of 200"),
        (Some(Method::POST), 100, "receive 100 bytes by length at 100 of 200"),
        (Some(Method::PUT), 100, "InvalidField"),
        (Some(Method::PUT), 99, "InvalidField"),
        (Some(Method::POST), 99, "OffsetMismatch"),
    ];
    for (like, at, expected) in table {
        let Operation::Append(append) = append(at, None, here(100)) else { unreachable!("it is one") };
        let operation = Operation::Append(Append { like, ..append });
        assert_eq!(decided(Some(&known), operation, Limits::default()), expected);
    }
}

// proves: TOK-SEC-02, TOK-TOKEN-03, TDR-HDR-06
#[test]
fn an_upload_of_another_client_or_family_does_not_exist() {
    let mine = Upload { owner: Some(Principal::new("me")), ..upload(100, Some(200), Phase::Open) };
    let timed = Upload { lifetime: Some(Duration::from_secs(500)), ..mine.clone() };
    let me = Some(Principal::new("me"));
    let other = Some(Principal::new("other"));
    let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
    let table = [
        (&mine, me.clone(), Family::Token, at(1000), true),
        (&mine, other, Family::Token, at(1000), false),
        (&mine, None, Family::Token, at(1000), false),
        (&mine, me.clone(), Family::Ietf, at(1000), false),
        (&timed, me.clone(), Family::Token, at(999), true),
        (&timed, me, Family::Token, at(1000), false),
    ];
    for (known, principal, family, now, visible) in table {
        for operation in [Operation::Retrieve, Operation::Cancel, append(100, None, here(1))] {
            let request = UploadRequest { principal: principal.clone(), family, ..request(operation) };
            let decision = decide(Some(known), &request, &Policy::default(), now);
            let is_none = [Reason::NotFound, Reason::Gone]
                .map(|reason| Decision::Refuse(reason.into()))
                .contains(&decision);
            assert_eq!(!is_none, visible, "{request:?} at {now:?}");
            // Only its creator may learn that it existed.
            let gone = decision == Decision::Refuse(Reason::Gone.into());
            assert_eq!(gone, !visible && is_visible(known, &request));
        }
        let request = UploadRequest { principal, family, ..request(create(Some(1), here(1))) };
        let decision = decide(Some(known), &request, &Policy::default(), now);
        assert_eq!(
            matches!(decision, Decision::Refuse(Refusal { reason: Reason::UploadExists, .. })),
            visible
        );
        assert_eq!(matches!(decision, Decision::Create(..)), !visible);
    }
}

// proves: TOK-CRE-09
#[test]
fn limits_bound_the_received_content() {
    let size = |most| Limits { size_max: Some(most), ..Limits::default() };
    let at_most = |most| Limits { append_max: Some(most), ..Limits::default() };
    let at_least = |least| Limits { append_min: least, ..Limits::default() };
    let more = |bytes| content(Some(bytes), Finish::Later);
    let unknown = content(None, Finish::Here);
    let open = || Some(upload(100, Some(200), Phase::Open));
    let growing = || Some(upload(100, None, Phase::Open));
    let table = [
        (size(200), None, create(Some(200), here(200)), "create 200 bytes by length at 0 of 200"),
        (size(199), None, create(Some(200), here(200)), "TooLarge"),
        (size(199), None, create(Some(200), here(0)), "TooLarge"),
        (size(199), None, create(None, more(200)), "TooLarge"),
        (size(199), None, create(None, unknown), "create 199 bytes by size at 0 of ?"),
        (size(199), growing(), append(100, None, unknown), "receive 99 bytes by size at 100 of ?"),
        (size(199), growing(), append(100, None, here(100)), "TooLarge"),
        (size(199), growing(), append(100, Some(200), here(1)), "TooLarge"),
        // The limit has shrunk since the creation: the stored content stays, and no more is accepted.
        (size(50), growing(), append(100, None, unknown), "receive 0 bytes by size at 100 of ?"),
        (at_most(10), None, create(Some(200), here(0)), "create 10 bytes by append at 0 of 200"),
        (at_most(10), None, create(Some(200), here(11)), "TooLarge"),
        (at_most(10), open(), append(100, None, more(10)), "receive 10 bytes by append at 100 of 200"),
        (at_most(10), open(), append(100, None, more(11)), "TooLarge"),
        (at_least(10), None, create(None, more(9)), "TooSmall"),
        (at_least(10), None, create(None, more(0)), "create 999999999999999 bytes by integer at 0 of ?"),
        (at_least(10), None, create(Some(9), here(9)), "create 9 bytes by length at 0 of 9"),
        (at_least(10), open(), append(100, None, more(9)), "TooSmall"),
        (at_least(10), open(), append(100, None, more(0)), "TooSmall"),
        (at_least(10), open(), append(100, None, here(9)), "receive 100 bytes by length at 100 of 200"),
        (
            at_least(10),
            open(),
            append(100, None, content(None, Finish::Later)),
            "receive 100 bytes by length at 100 of 200",
        ),
    ];
    for (limits, known, operation, expected) in table {
        let text = format!("{limits:?} {operation:?}");
        assert_eq!(decided(known.as_ref(), operation, limits), expected, "{text}");
    }
    // There is no state to report before the upload exists.
    let policy = Policy { limits: size(5), ..Policy::default() };
    let decision = decide(None, &request(create(Some(200), here(200))), &policy, NOW);
    assert!(matches!(decision, Decision::Refuse(refusal) if refusal.state.is_none()));
}

/// The consequence of an ending as one line of text.
fn settled(semantics: Semantics, length: Option<u64>, finish: Finish, stored: u64, how: End) -> String {
    let before = Upload { semantics, ..upload(100, length, Phase::Open) };
    let room = match length {
        Some(length) => Room { bytes: length - 100, bound: Bound::Length(Length::new(length)) },
        None => Room { bytes: 1000, bound: Bound::Size(1100) },
    };
    let plan = Plan { at: Offset::new(100), room, bytes_min: 0, finish, created: false };
    let (after, verdict) = settle(before.clone(), &plan, &Ending { stored: durable(stored), how }, NOW);
    assert_eq!(after.offset, durable(stored));
    assert_eq!(after.touched == NOW, stored > 100);
    assert_eq!(after.is_complete(), matches!(verdict, Verdict::Deliver { .. }));
    match verdict {
        Verdict::Acknowledge(Reply::Stored { state, .. }) => {
            assert_eq!(state.offset, after.offset);
            format!("stored {}", state.complete)
        }
        Verdict::Acknowledge(reply) => panic!("{reply:?}"),
        Verdict::Deliver { .. } => {
            assert_eq!(after.length, Some(Length::new(stored)));
            "deliver".into()
        }
        Verdict::Refuse(refusal) => {
            if let Some(state) = refusal.state {
                assert_eq!(state.offset, after.offset);
            }
            name(&refusal)
        }
        Verdict::Remove(refusal) => format!("removed: {}", name(&refusal)),
    }
}

// proves: TOK-CRE-01, TOK-CRE-04, TOK-CRE-09, TOK-APP-01, TOK-APP-05, TOK-APP-05a
#[test]
fn endings_have_the_expected_verdict_for_every_completion_rule() {
    use Finish::{Here, Later};
    let cut = End::Interrupted(InterruptCause::Disconnected);
    let by_length = Semantics { completion: Completion::AtLength, excess: Excess::Keeps, ..TOKEN };
    let said = Semantics { completion: Completion::Explicit, excess: Excess::Keeps, ..TOKEN };
    // Length, end of the representation, bytes stored, ending; then the verdict for AtLength, AtLengthOrEnd and Explicit.
    let table = [
        (Some(200), Here, 200, End::AllReceived, ["deliver", "deliver", "deliver"]),
        (Some(200), Later, 200, End::AllReceived, ["deliver", "deliver", "stored false"]),
        (Some(200), Here, 200, cut, ["deliver", "deliver", "Interrupted"]),
        (Some(200), Later, 200, cut, ["deliver", "deliver", "Interrupted"]),
        (Some(200), Here, 150, End::AllReceived, ["stored false", "stored false", "InconsistentLength"]),
        (Some(200), Later, 150, End::AllReceived, ["stored false", "stored false", "stored false"]),
        (Some(200), Here, 150, cut, ["Interrupted", "Interrupted", "Interrupted"]),
        (Some(200), Here, 100, cut, ["Interrupted", "Interrupted", "Interrupted"]),
        (Some(200), Here, 200, End::OverLimit, ["deliver", "removed: LengthExceeded", "LengthExceeded"]),
        (Some(200), Later, 200, End::OverLimit, ["deliver", "removed: LengthExceeded", "LengthExceeded"]),
        (Some(200), Here, 150, End::StorageFull, ["StorageFull", "StorageFull", "StorageFull"]),
        (Some(200), Here, 200, End::StorageFull, ["deliver", "deliver", "StorageFull"]),
        (None, Here, 150, End::AllReceived, ["stored false", "deliver", "deliver"]),
        (None, Here, 100, End::AllReceived, ["stored false", "deliver", "deliver"]),
        (None, Later, 150, End::AllReceived, ["stored false", "stored false", "stored false"]),
        (None, Here, 150, cut, ["Interrupted", "Interrupted", "Interrupted"]),
        (None, Here, 1100, End::OverLimit, ["TooLarge", "TooLarge", "TooLarge"]),
        (None, Here, 150, End::StorageFull, ["StorageFull", "StorageFull", "StorageFull"]),
        (Some(100), Here, 100, End::AllReceived, ["deliver", "deliver", "deliver"]),
    ];
    for (length, finish, stored, how, expected) in table {
        for (semantics, expected) in [by_length, TOKEN, said].into_iter().zip(expected) {
            let found = settled(semantics, length, finish, stored, how);
            assert_eq!(found, expected, "{:?} {length:?} {finish:?} {stored} {how:?}", semantics.completion);
        }
    }
    // An interruption discards the content of an upload that cannot be resumed.
    let ordinary = Semantics { interruption: Interruption::Discards, ..TOKEN };
    for (how, expected) in [
        (cut, "removed: Interrupted"),
        (End::StorageFull, "removed: StorageFull"),
        (End::AllReceived, "stored false"),
    ] {
        assert_eq!(settled(ordinary, Some(200), Here, 150, how), expected);
    }
    for cause in [
        InterruptCause::Superseded,
        InterruptCause::TooSlow,
        InterruptCause::Malformed,
        InterruptCause::ShuttingDown,
        InterruptCause::ByOperator,
    ] {
        assert_eq!(settled(TOKEN, Some(200), Here, 150, End::Interrupted(cause)), "Interrupted");
    }
}

#[test]
#[should_panic(expected = "took acknowledged bytes back")]
fn a_store_that_loses_acknowledged_bytes_causes_a_panic() {
    settled(TOKEN, Some(200), Finish::Here, 99, End::AllReceived);
}

// proves: TOK-APP-06
#[test]
fn the_response_of_the_target_is_recorded_and_sent_again() {
    for (status, failed) in [(StatusCode::NO_CONTENT, false), (StatusCode::UNPROCESSABLE_ENTITY, true)] {
        let kept = TargetResponse::of(status);
        let policy = Policy { retention: Some(Duration::from_mins(1)), ..Policy::default() };
        let received = upload(200, Some(200), Phase::Received);
        let (upload, reply) = deliver(received, kept.clone(), true, &policy, NOW);
        assert_eq!(matches!(upload.phase, Phase::Failed(_)), failed);
        assert_eq!(upload.expires(), Some(NOW.plus(Duration::from_mins(1))));
        let Reply::Complete { answer, created: true, state, .. } = reply else { panic!("{reply:?}") };
        assert_eq!((&answer, state.complete), (&kept, true));
        let again = decide(Some(&upload), &request(append(200, None, here(0))), &policy, NOW);
        let Decision::Answer(Reply::Complete { answer, .. }) = again else { panic!("{again:?}") };
        assert_eq!(answer, kept);
    }
}

// proves: TOK-APP-05a
#[test]
fn an_upload_that_has_its_last_byte_awaits_delivery() {
    let explicit = Semantics { completion: Completion::Explicit, ..TOKEN };
    let either = Semantics { completion: Completion::ExplicitOrAtLength, ..TOKEN };
    let table = [
        (TOKEN, upload(200, Some(200), Phase::Open), true),
        (TOKEN, upload(199, Some(200), Phase::Open), false),
        (TOKEN, upload(200, None, Phase::Open), false),
        (TOKEN, upload(0, Some(0), Phase::Open), true),
        (TOKEN, upload(200, Some(200), Phase::Received), true),
        (TOKEN, upload(200, Some(200), Phase::Delivered(answer())), false),
        (TOKEN, upload(200, Some(200), Phase::Failed(answer())), false),
        (explicit, upload(200, Some(200), Phase::Open), false),
        (explicit, upload(200, Some(200), Phase::Received), true),
        (either, upload(200, Some(200), Phase::Open), true),
        (either, upload(200, None, Phase::Open), false),
    ];
    for (semantics, upload, due) in table {
        let upload = Upload { semantics, ..upload };
        assert_eq!(upload.awaits_delivery(), due, "{upload:?}");
    }
}
