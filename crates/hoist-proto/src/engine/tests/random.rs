//! Random requests on a random upload, which keep the invariants of the engine.

use super::*;

/// A random request: its operation, the bytes that arrive of its content, and the ending.
#[derive(Clone, Debug)]
struct Act {
    operation: Operation,
    comes: u64,
    how: End,
}

fn any_content() -> impl Strategy<Value = Content> {
    (prop::option::of(0..40_u64), any::<bool>())
        .prop_map(|(bytes, here)| content(bytes, if here { Finish::Here } else { Finish::Later }))
}

fn any_act() -> impl Strategy<Value = Act> {
    let length = || prop::option::weighted(0.3, 0..100_u64);
    let on_existing = prop::sample::select(&[OnExisting::Refuse, OnExisting::ResumeAtZero][..]);
    let creates = (length(), any_content(), on_existing).prop_map(|(length, content, on_existing)| {
        let Operation::Create(create) = create(length, content) else { unreachable!("it is one") };
        Operation::Create(Create { on_existing, ..create })
    });
    let appends =
        (0..100_u64, length(), any_content()).prop_map(|(at, length, content)| append(at, length, content));
    let operation = prop_oneof![
        2 => creates,
        6 => appends,
        1 => Just(Operation::Retrieve),
        1 => prop::sample::select(&[Operation::Retrieve, Operation::Cancel][..]),
    ];
    let how = prop::sample::select(
        &[
            End::AllReceived,
            End::AllReceived,
            End::Interrupted(InterruptCause::Disconnected),
            End::StorageFull,
        ][..],
    );
    (operation, 0..60_u64, how).prop_map(|(operation, comes, how)| Act { operation, comes, how })
}

/// Gives most appends the offset of the upload, because a random offset is nearly always wrong.
fn aimed(operation: Operation, known: Option<&Upload>, straight: bool) -> Operation {
    match (operation, known) {
        (Operation::Append(append), Some(upload)) if straight => {
            Operation::Append(Append { at: upload.offset.offset(), ..append })
        }
        (operation, _) => operation,
    }
}

/// Receives content within the plan, as an intake does, and checks the invariants of endings.
fn receive(upload: &Upload, plan: &Plan, act: &Act, declared: Option<u64>) -> Option<Upload> {
    assert_eq!(plan.at, upload.offset.offset());
    let (bytes, how) = match (declared, act.how) {
        (Some(declared), End::AllReceived) => (declared, End::AllReceived),
        (Some(declared), how) => (act.comes.min(declared), how),
        (None, how) => (act.comes, how),
    };
    let (bytes, how) = if bytes > plan.room.bytes { (plan.room.bytes, End::OverLimit) } else { (bytes, how) };
    let stored = durable(plan.at.get() + bytes);
    let (after, verdict) = settle(upload.clone(), plan, &Ending { stored, how }, NOW);
    assert!(after.offset >= upload.offset);
    if let Some(length) = upload.length {
        assert!(after.offset.offset().get() <= length.get(), "a byte beyond the length");
        assert_eq!(after.length, Some(length));
    }
    let reached = after.length.is_some_and(|length| length.is_reached(after.offset.offset()));
    let may = match upload.semantics.completion {
        Completion::AtLength => reached,
        Completion::AtLengthOrEnd | Completion::ExplicitOrAtLength => {
            reached || (upload.length.is_none() && how == End::AllReceived && plan.finish == Finish::Here)
        }
        Completion::Explicit => how == End::AllReceived && plan.finish == Finish::Here,
    };
    match verdict {
        Verdict::Deliver { .. } => {
            assert!(
                may && after.phase == Phase::Received && after.length == Some(after.offset.offset().into())
            );
            Some(deliver(after, answer(), plan.created, &Policy::default(), NOW).0)
        }
        Verdict::Acknowledge(_) => {
            assert_eq!((how, &after.phase), (End::AllReceived, &Phase::Open));
            Some(after)
        }
        Verdict::Refuse(_) => {
            assert_eq!(after.phase, Phase::Open);
            Some(after)
        }
        Verdict::Remove(_) => {
            // An upload that the client does not know yet is removed whatever its semantics.
            let invalidates = upload.semantics.excess == Excess::Invalidates || plan.created;
            let excess = invalidates && how == End::OverLimit;
            assert!(excess || upload.semantics.interruption == Interruption::Discards);
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // proves: TOK-OFF-03, TOK-APP-02, TOK-CRE-04, TOK-CRE-09
    #[test]
    fn random_requests_keep_the_invariants(
        completion in prop::sample::select(&[
            Completion::AtLength,
            Completion::AtLengthOrEnd,
            Completion::Explicit,
            Completion::ExplicitOrAtLength,
        ][..]),
        excess in prop::sample::select(&[Excess::Invalidates, Excess::Keeps][..]),
        limits in (prop::option::of(20..90_u64), prop::option::of(5..40_u64), 0..4_u64),
        acts in prop::collection::vec((any_act(), prop::bool::weighted(0.8)), 1..40),
    ) {
        let semantics = Semantics { completion, excess, interruption: Interruption::Resumes };
        let (size_max, append_max, append_min) = limits;
        let policy = Policy { limits: Limits { size_max, append_max, append_min, ..Limits::default() }, ..Policy::default() };
        let mut known: Option<Upload> = None;
        for (act, straight) in acts {
            let operation = match aimed(act.operation.clone(), known.as_ref(), straight) {
                Operation::Create(create) => Operation::Create(Create { semantics, ..create }),
                other => other,
            };
            let declared = match &operation {
                Operation::Create(create) => create.content.bytes,
                Operation::Append(append) => append.content.bytes,
                Operation::Retrieve | Operation::Cancel | Operation::Reject(_) => None,
            };
            let at = match &operation { Operation::Append(append) => Some(append.at), _ => None };
            let before = known.clone();
            known = match decide(known.as_ref(), &request(operation), &policy, NOW) {
                Decision::Create(upload, plan) => {
                    prop_assert!(before.is_none() && plan.created && upload.offset == Durable::ZERO);
                    prop_assert!(size_max.is_none_or(|most| plan.room.bytes <= most));
                    receive(&upload, &plan, &act, declared)
                }
                Decision::Receive(upload, plan) => {
                    let before = before.expect("there is one");
                    prop_assert!(!before.is_complete() && !plan.created);
                    prop_assert!(at.is_none_or(|at| at == before.offset.offset()));
                    prop_assert!(declared.is_none_or(|bytes| bytes <= plan.room.bytes));
                    prop_assert!(before.length.is_none() || before.length == upload.length);
                    let same = Upload { length: before.length, ..upload.clone() };
                    prop_assert_eq!(&same, &before);
                    receive(&upload, &plan, &act, declared)
                }
                Decision::Cancel => { prop_assert!(before.is_some()); None }
                Decision::Invalidate(refusal) => {
                    prop_assert!(matches!(refusal.reason, Reason::LengthExceeded(_)) && excess == Excess::Invalidates);
                    None
                }
                Decision::Answer(reply) => {
                    let state = match reply {
                        Reply::State { state, .. } | Reply::Complete { state, .. } => state,
                        other => panic!("{other:?}"),
                    };
                    prop_assert_eq!(Some(state), before.as_ref().map(State::from));
                    before
                }
                Decision::Refuse(refusal) => {
                    if let Some(state) = refusal.state {
                        prop_assert_eq!(state.offset, before.as_ref().expect("it has a state").offset);
                    }
                    before
                }
            };
            if let Some(upload) = &known {
                prop_assert!(size_max.is_none_or(|most| upload.offset.offset().get() <= most));
                // No upload awaits delivery after a request.
                prop_assert!(!upload.awaits_delivery(), "{upload:?}");
            }
        }
    }
}
