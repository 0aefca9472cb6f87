//! The limits on the content of one request.

use super::{Bound, Plan, Room};
use crate::operation::{Append, Content, Finish};
use crate::policy::Limits;
use crate::refusal::{Reason, Refusal, SizeLimit};
use crate::types::{LARGEST_INTEGER, Length, Offset};
use crate::upload::{State, Upload};

/// Returns the plan for receiving content at offset `at`, or the refusal if none of it may be stored.
//= TOK-CRE-09, IETF-LIM-01, IETF-SEC-08, TUS1-CRE-04
pub(super) fn plan(
    upload: &Upload,
    at: Offset,
    content: Content,
    limits: &Limits,
    created: bool,
) -> Result<Plan, Refusal> {
    if let Some(bound) = exceeded_size(upload.length, limits) {
        return Err(over_limit(bound, Some(upload.into())));
    }
    let room = room(upload.length, at, limits);
    if content.bytes.is_some_and(|declared| declared > room.bytes) {
        return Err(over_limit(room.bound, Some(upload.into())));
    }
    //= IETF-LIM-07
    let bytes_min = if content.finish == Finish::Later { limits.append_min } else { 0 };
    let plan = Plan { at, room, bytes_min, finish: content.finish, created };
    match content.bytes {
        Some(declared) if plan.is_too_little(declared) => {
            Err(Reason::TooSmall { bytes_min }.with_state(upload))
        }
        _ => Ok(plan),
    }
}

/// Returns the refusal of an append whose declared sizes exceed the server's limits, whatever the state of the upload. The
/// refusal reports `state`.
pub fn exceeds_limits(append: &Append, limits: &Limits, state: Option<State>) -> Option<Refusal> {
    if let Some(bound) = exceeded_size(append.length, limits) {
        return Some(over_limit(bound, state));
    }
    let room = room(None, append.at, limits);
    let declared = append.content.bytes?;
    if declared > room.bytes {
        return Some(over_limit(room.bound, state));
    }
    let bytes_min = limits.append_min;
    let is_last = append.content.finish == Finish::Here;
    (!is_last && declared < bytes_min).then_some(Refusal { reason: Reason::TooSmall { bytes_min }, state })
}

/// Returns the bound that a length exceeds. Offsets could not be reported up to a length that no header field can hold.
pub(super) fn exceeded_size(length: Option<Length>, limits: &Limits) -> Option<Bound> {
    let bytes_max = limits.size_max.unwrap_or(LARGEST_INTEGER).min(LARGEST_INTEGER);
    length.is_some_and(|length| length.get() > bytes_max).then_some(Bound::Size(bytes_max))
}

/// Returns the tightest bound on content that begins at `at`.
//= IETF-LEN-05
fn room(length: Option<Length>, at: Offset, limits: &Limits) -> Room {
    let up_to = |end: u64| end.saturating_sub(at.get());
    [
        length.map(|length| Room { bytes: length.bytes_left(at), bound: Bound::Length(length) }),
        limits.size_max.map(|bytes_max| Room { bytes: up_to(bytes_max), bound: Bound::Size(bytes_max) }),
        limits.append_max.map(|bytes_max| Room { bytes: bytes_max, bound: Bound::Append(bytes_max) }),
    ]
    .into_iter()
    .flatten()
    .min_by_key(|room| room.bytes)
    .unwrap_or(Room { bytes: up_to(LARGEST_INTEGER), bound: Bound::Integer })
}

pub(super) fn over_limit(bound: Bound, state: Option<State>) -> Refusal {
    let (limit, bytes_max) = match bound {
        Bound::Length(length) => return Reason::LengthExceeded(Some(length)).into(),
        Bound::Size(bytes) => (SizeLimit::Representation, bytes),
        Bound::Append(bytes) => (SizeLimit::Append, bytes),
        Bound::Integer => (SizeLimit::Representation, LARGEST_INTEGER),
    };
    Refusal { reason: Reason::TooLarge { limit, bytes_max }, state }
}
