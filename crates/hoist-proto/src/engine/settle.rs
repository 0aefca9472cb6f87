//! The state of an upload after a request's content has ended, and after its target has responded.

use super::limits::over_limit;
use super::{Bound, End, Ending, Plan, Verdict, without_upload};
use crate::operation::{Finish, Reply};
use crate::policy::Policy;
use crate::refusal::Reason;
use crate::types::{Length, Offset, Timestamp};
use crate::upload::{
    Completion, Composition, Excess, Interruption, Phase, Semantics, State, TargetResponse, Upload,
};

/// Returns the upload after the content of a request has ended, and the consequence for the client.
///
/// The upload has its new offset. It is complete only if the verdict is [`Verdict::Deliver`], and then its length is known.
///
/// # Panics
/// If the store has lost acknowledged bytes: `ending.stored` is below the upload's offset.
pub fn settle(upload: Upload, plan: &Plan, ending: &Ending, now: Timestamp) -> (Upload, Verdict) {
    //= IETF-OFF-01
    assert!(
        ending.stored >= upload.offset,
        "a store took acknowledged bytes back: {} < {}",
        ending.stored,
        upload.offset
    );
    let touched = if ending.stored > upload.offset { now } else { upload.touched };
    let mut upload = Upload { offset: ending.stored, touched, ..upload };

    if let (End::OverLimit, Bound::Length(length), Excess::Invalidates) =
        (ending.how, plan.room.bound, upload.semantics.excess)
    {
        return (upload, Verdict::Remove(Reason::LengthExceeded(Some(length)).into()));
    }
    //= TUS1-CWU-05
    // The client does not know the URL of the upload yet, so it could not resume after the bytes that fit.
    let is_unknown = plan.created && upload.semantics.excess == Excess::Keeps;
    if ending.how == End::OverLimit && (is_unknown || is_truncated_by_size(&upload, plan)) {
        return (upload, Verdict::Remove(over_limit(plan.room.bound, None)));
    }
    if is_complete(&upload, plan, upload.offset.offset(), ending.how) {
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        //= TUS1-PATCH-11
        let state = Some(State::from(&upload));
        let refusal = (ending.how == End::OverLimit).then(|| over_limit(plan.room.bound, state));
        return (upload, Verdict::Deliver { refusal });
    }
    let state = State::from(&upload);
    let received = upload.offset.offset().bytes_since(plan.at).unwrap_or(0);
    let refusal = match ending.how {
        //= IETF-LEN-07
        End::AllReceived if upload.semantics.completion.is_explicit() && plan.finish == Finish::Here => {
            Reason::InconsistentLength.with_state(state)
        }
        // Counted after the fact, because the size of content need not be declared. The bytes that arrived stay.
        End::AllReceived if plan.is_too_little(received) => {
            Reason::TooSmall { bytes_min: plan.bytes_min }.with_state(state)
        }
        //= IETF-APP-19
        End::AllReceived => {
            let reply = Reply::Stored { id: upload.id, created: plan.created, state };
            return (upload, Verdict::Acknowledge(reply));
        }
        End::Interrupted(cause) => Reason::Interrupted(cause).with_state(state),
        End::OverLimit => over_limit(plan.room.bound, Some(state)),
        End::StorageFull => Reason::StorageFull.with_state(state),
    };
    match upload.semantics.interruption {
        Interruption::Resumes => (upload, Verdict::Refuse(refusal)),
        Interruption::Discards => (upload, Verdict::Remove(without_upload(refusal))),
    }
}

/// Returns whether content that exceeds the largest size ends the upload. If it stayed, an empty append that completes the
/// upload would make a representation out of its first bytes alone.
//= IETF-LIM-08
fn is_truncated_by_size(upload: &Upload, plan: &Plan) -> bool {
    let Semantics { completion, excess, .. } = upload.semantics;
    completion.is_explicit()
        && excess == Excess::Invalidates
        && matches!(plan.room.bound, Bound::Size(_) | Bound::Integer)
}

/// Returns whether a new upload is complete with content of this length, if all of it arrives.
pub fn is_completed_by(upload: &Upload, plan: &Plan, content: Length) -> bool {
    let end = plan.at.advance(content.get());
    end.is_some_and(|end| is_complete(upload, plan, end, End::AllReceived))
}

/// Returns whether the upload is complete after content that ended in this way.
//= TUS1-CDL-05
//= TOK-CRE-04, TOK-APP-05a, IETF-CMP-01, IETF-CMP-03, IETF-CMP-04
fn is_complete(upload: &Upload, plan: &Plan, end: Offset, how: End) -> bool {
    let at_length = upload.length.map(|length| length.is_reached(end));
    let at_end = how == End::AllReceived && plan.finish == Finish::Here;
    match upload.semantics.completion {
        Completion::AtLength => at_length == Some(true),
        Completion::AtLengthOrEnd | Completion::ExplicitOrAtLength => at_length.unwrap_or(at_end),
        Completion::Explicit => at_end && at_length != Some(false),
    }
}

/// Records the response of the target. Returns the upload, and the reply to the request that completed it.
pub fn deliver(
    upload: Upload,
    answer: TargetResponse,
    created: bool,
    policy: &Policy,
    now: Timestamp,
) -> (Upload, Reply) {
    let recorded = answer.clone();
    let phase = if answer.status.is_success() { Phase::Delivered(recorded) } else { Phase::Failed(recorded) };
    //= IETF-RES-03
    // A part is kept for another upload, so it lives as long as an incomplete one.
    let lifetime = if upload.composition == Composition::Part { upload.lifetime } else { policy.retention };
    let upload = Upload { phase, lifetime, touched: now, ..upload };
    let reply = Reply::Complete { id: upload.id, created, state: State::from(&upload), answer };
    (upload, reply)
}
