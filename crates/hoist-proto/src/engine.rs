//! The protocol itself: what a request does to an upload, and what it leaves when it ends.
//!
//! Two pure functions. [`decide`] looks at the upload before a request, [`settle`] after it. Neither knows a dialect's
//! name, a clock or a disk; [`deliver`] records what the target said in between.

pub mod composition;

use http::Method;

use crate::operation::{
    Append, AppendToComplete, BelowMinSize, Content, Create, Finish, OnExisting, Operation, Reply,
};
use crate::policy::{Limits, Policy};
use crate::refusal::{Interrupted, Limit, Refusal};
use crate::types::{Durable, LARGEST_INTEGER, Length, Offset, Principal, Timestamp, UploadId};
use crate::upload::{
    Completion, Composition, Excess, Family, Interruption, Phase, Semantics, State, TargetResponse, Upload,
};

/// A request whose upload has been named.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadRequest {
    /// The upload it is about.
    pub id: UploadId,
    /// Who asks.
    pub principal: Option<Principal>,
    /// The family of its dialect.
    pub family: Family,
    /// What it asks for.
    pub operation: Operation,
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Create this upload, then receive.
    Create(Upload, Plan),
    /// Receive; when the upload differs from the stored one (its length became known), store that first.
    Receive(Upload, Plan),
    /// Remove the upload, then say so.
    Cancel,
    /// Say this.
    Answer(Reply),
    /// Say this, and nothing changes.
    Refuse(Refusal),
    /// Say this, and remove the upload: it can never be right again.
    Invalidate(Refusal),
}

/// How to receive the content of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the content begins.
    pub at: Offset,
    /// The most bytes to store of it.
    pub room: Room,
    /// The fewest bytes this request has to bring. Fewer are kept, and refused.
    pub bytes_min: u64,
    /// Whether the representation ends with it.
    pub finish: Finish,
    /// Whether this request created the upload.
    pub created: bool,
}

impl Plan {
    /// Whether a request that brought so much brought less than it has to. One that only creates need bring nothing.
    fn is_too_little(&self, bytes: u64) -> bool {
        bytes < self.bytes_min && !(self.created && bytes == 0)
    }
}

/// How much content fits, and which rule says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may be stored.
    pub bytes: u64,
    /// What one byte more would break.
    pub bound: Bound,
}

/// The rule that bounds a request's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The upload's own length.
    Length(Length),
    /// The largest upload.
    Size(u64),
    /// The largest request.
    Append(u64),
    /// The largest offset that can be told.
    Integer,
}

/// How the content of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What of the upload is durable now.
    pub stored: Durable,
    /// How it ended.
    pub how: End,
}

/// How the content of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it arrived.
    AllReceived,
    /// It ended early.
    Interrupted(Interrupted),
    /// More arrived than the [`Room`] allows. The bytes that fit are stored.
    OverLimit,
    /// The store has no space left. The bytes that fit are stored.
    StorageFull,
}

/// What follows from an [`Ending`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The upload goes on; say this.
    Acknowledge(Reply),
    /// The representation is whole: hand it to the target, then record its answer with [`deliver`].
    Deliver {
        /// The refusal to answer with in place of the target's response.
        refusal: Option<Refusal>,
    },
    /// The upload stays as it is; say this.
    Refuse(Refusal),
    /// The upload is to be removed; say this.
    Remove(Refusal),
}

/// What a request does to the upload it names, of which `known` is what the store has.
///
/// The caller loads `known` after every earlier request on the upload has ended, and finishes an upload that
/// [awaits delivery](Upload::awaits_delivery) first. The order of checks is: existence, completeness, offset, lengths, limits.
pub fn decide(known: Option<&Upload>, request: &UploadRequest, policy: &Policy, now: Timestamp) -> Decision {
    //= IETF-SEC-01
    let visible = known.filter(|upload| is_of(upload, request) && !upload.is_expired(now));
    match (&request.operation, visible) {
        (Operation::Create(create), None) => begin(create, request, policy, now),
        (Operation::Create(create), Some(upload)) => continue_at_zero(upload, create, policy),
        (_, None) if known.is_some_and(|upload| is_of(upload, request)) => Decision::Refuse(Refusal::Gone),
        (_, None) => Decision::Refuse(Refusal::NotFound), //= TOK-OFF-04, TOK-CAN-02, TDR-APP-02, TDR-OFF-05, IETF-DEL-02
        (Operation::Append(append), Some(upload)) => extend(upload, append, policy),
        (Operation::Retrieve, Some(upload)) => {
            let described = upload.origin.fields.clone();
            Decision::Answer(Reply::State { id: upload.id, state: upload.into(), described })
        }
        (Operation::Cancel, Some(_)) => Decision::Cancel,
        (Operation::Reject(refusal), Some(upload)) => {
            Decision::Refuse(Refusal::Beside(Box::new(refusal.clone()), upload.into()))
        }
    }
}

/// Whether a request may know of an upload: it is its creator's, and of the same family.
fn is_of(upload: &Upload, request: &UploadRequest) -> bool {
    upload.family == request.family && upload.owner == request.principal
}

/// A creation under a name that nothing has.
fn begin(create: &Create, request: &UploadRequest, policy: &Policy, now: Timestamp) -> Decision {
    let Create { mut semantics, length, content, below_min_size, ref origin, ref composition, .. } = *create;
    //= IETF-LIM-07
    let is_small = length.is_some_and(|length| length.get() < policy.limits.size_min);
    if is_small && below_min_size == BelowMinSize::Ordinary && content.finish == Finish::Here {
        semantics.interruption = Interruption::Discards;
    }
    let upload = Upload {
        id: request.id,
        family: request.family,
        semantics,
        owner: request.principal.clone(),
        composition: composition.clone(),
        origin: origin.clone(),
        created: now,
        touched: now,
        lifetime: policy.lifetime,
        length,
        offset: Durable::ZERO,
        phase: Phase::Open,
    };
    match plan(&upload, Offset::ZERO, content, &policy.limits, true) {
        Ok(plan) => Decision::Create(upload, plan),
        // Nothing exists yet, so there is nothing to invalidate and no state to tell.
        Err(refusal) => Decision::Refuse(without_state(refusal)),
    }
}

/// A creation under a name that has an upload.
//= TOK-CRE-05, TDR-CRE-05, TDR-APP-04
fn continue_at_zero(upload: &Upload, create: &Create, policy: &Policy) -> Decision {
    match create.on_existing {
        OnExisting::ResumeAtZero if upload.offset == Durable::ZERO && !upload.is_complete() => {
            let like = Some(create.origin.method.clone()).filter(|method| *method != Method::PATCH);
            let (length, content) = (create.length, create.content);
            let append = Append {
                like,
                at: Offset::ZERO,
                length,
                content,
                when_complete: AppendToComplete::Conflicts,
            };
            extend(upload, &append, policy)
        }
        OnExisting::ResumeAtZero | OnExisting::Refuse => Decision::Refuse(Refusal::Taken(upload.into())),
    }
}

/// An append to an upload that exists.
fn extend(upload: &Upload, append: &Append, policy: &Policy) -> Decision {
    let state = State::from(upload);
    match upload.composition {
        Composition::Direct | Composition::Part => {}
        //= TUS1-PATCH-14, TUS1-CAT-08
        Composition::Concatenated(_) => return Decision::Refuse(Refusal::Composed(state)),
        //= TOK-IDX-06
        Composition::Indexed(_) => return Decision::Refuse(Refusal::Mixed(state)),
    }
    if let AppendToComplete::Rejects { typed } = append.when_complete
        && upload.is_complete()
    {
        return Decision::Refuse(Refusal::Finished { state, typed });
    }
    //= TDR-CRE-08
    if append.like.as_ref().is_some_and(|method| *method != upload.origin.method) {
        return Decision::Refuse(Refusal::field(
            "Upload-Offset",
            "an append is a PATCH, or of the method that created",
        ));
    }
    if append.at != upload.offset.offset() {
        //= TOK-APP-02, TDR-APP-03, IETF-APP-07
        return Decision::Refuse(Refusal::Mismatch { state, provided: append.at });
    }
    if upload.is_complete() {
        return again(upload, append);
    }
    // Announced or sent, an excess is an excess: it is found before lengths are compared.
    let declared = append.content.bytes.and_then(|bytes| append.at.advance(bytes));
    if let (Some(length), Some(declared)) = (upload.length, declared)
        && declared.get() > length.get()
    {
        //= IETF-LEN-06
        let refusal = Refusal::Excess(Some(length));
        return match upload.semantics.excess {
            Excess::Invalidates => Decision::Invalidate(refusal),
            Excess::Keeps => Decision::Refuse(refusal),
        };
    }
    //= IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, TUS1-CDL-03
    let is_last = upload.semantics.completion.is_said() && append.content.finish == Finish::Here;
    let ends = declared.filter(|_| is_last).map(Length::from);
    let Ok(length) = agreed(&[upload.length, append.length, ends]) else {
        return Decision::Refuse(Refusal::Inconsistent(Some(state)));
    };
    if length.is_some_and(|length| length.get() < append.at.get()) {
        return Decision::Refuse(Refusal::Inconsistent(Some(state)));
    }
    let upload = Upload { length, ..upload.clone() };
    match plan(&upload, append.at, append.content, &policy.limits, false) {
        Ok(plan) => Decision::Receive(upload, plan),
        // The length is this request's own word, and its content contradicts it: nothing that was known is wrong.
        Err(Refusal::Excess(_)) => Decision::Refuse(Refusal::Inconsistent(Some(state))),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

/// Lengths that contradict each other.
struct Contradiction;

/// The length that all who say one agree on.
fn agreed(said: &[Option<Length>]) -> Result<Option<Length>, Contradiction> {
    let mut said = said.iter().flatten();
    let first = said.next();
    if said.all(|other| Some(other) == first) { Ok(first.copied()) } else { Err(Contradiction) }
}

/// An append at the end of a complete upload: its sender may have lost the answer.
//= TOK-APP-06, IETF-APP-14, IETF-APP-15, IETF-CMP-02
fn again(upload: &Upload, append: &Append) -> Decision {
    let state = State::from(upload);
    let is_last =
        append.content.finish == Finish::Here || append.when_complete == AppendToComplete::Conflicts;
    let is_replay = append.content.bytes == Some(0) && is_last;
    match &upload.phase {
        //= TUS1-PATCH-12
        _ if append.when_complete == AppendToComplete::Admits && append.content.bytes == Some(0) => {
            Decision::Answer(Reply::Stored { id: upload.id, created: false, state })
        }
        Phase::Delivered(answer) | Phase::Failed(answer) if is_replay => {
            let answer = answer.clone();
            Decision::Answer(Reply::Complete { id: upload.id, created: false, state, answer })
        }
        // The target was asked and failed before it answered; it is asked again, and so should be the peer.
        Phase::Received if is_replay && append.when_complete == AppendToComplete::Replays => {
            Decision::Refuse(Refusal::Busy)
        }
        _ => Decision::Refuse(match append.when_complete {
            AppendToComplete::Replays => Refusal::Inconsistent(Some(state)),
            //= TUS1-PATCH-13
            AppendToComplete::Admits => Refusal::Excess(upload.length),
            AppendToComplete::Conflicts | AppendToComplete::Rejects { .. } => Refusal::Completed(state),
        }),
    }
}

/// How much of the content may be stored, or why none of it may.
//= TOK-CRE-09, IETF-LIM-01, IETF-SEC-08, TUS1-CRE-04
fn plan(
    upload: &Upload,
    at: Offset,
    content: Content,
    limits: &Limits,
    created: bool,
) -> Result<Plan, Refusal> {
    let state = Some(State::from(upload));
    // A length that cannot be told could not be kept to either.
    let most = limits.size_max.unwrap_or(LARGEST_INTEGER).min(LARGEST_INTEGER);
    if upload.length.is_some_and(|length| length.get() > most) {
        return Err(Refusal::TooLarge { limit: Limit::Size, bytes: most, state });
    }
    let room = room(upload.length, at, limits);
    if content.bytes.is_some_and(|declared| declared > room.bytes) {
        return Err(beyond(room.bound, state));
    }
    //= IETF-LIM-07
    let bytes_min = if content.finish == Finish::Later { limits.append_min } else { 0 };
    let plan = Plan { at, room, bytes_min, finish: content.finish, created };
    match content.bytes {
        Some(declared) if plan.is_too_little(declared) => Err(Refusal::TooSmall { bytes: bytes_min, state }),
        _ => Ok(plan),
    }
}

/// The refusal of an append that says itself that it is beyond the server's limits, whatever the upload's state is.
pub fn beyond_limits(append: &Append, limits: &Limits, state: Option<State>) -> Option<Refusal> {
    let most = limits.size_max.unwrap_or(LARGEST_INTEGER).min(LARGEST_INTEGER);
    if append.length.is_some_and(|length| length.get() > most) {
        return Some(Refusal::TooLarge { limit: Limit::Size, bytes: most, state });
    }
    let room = room(None, append.at, limits);
    let declared = append.content.bytes?;
    if declared > room.bytes {
        return Some(beyond(room.bound, state));
    }
    let is_last = append.content.finish == Finish::Here;
    (!is_last && declared < limits.append_min)
        .then_some(Refusal::TooSmall { bytes: limits.append_min, state })
}

/// The tightest of the bounds on content that begins at `at`.
//= IETF-LEN-05
fn room(length: Option<Length>, at: Offset, limits: &Limits) -> Room {
    let to = |end: u64| end.saturating_sub(at.get());
    [
        length.map(|length| Room { bytes: length.bytes_left(at), bound: Bound::Length(length) }),
        limits.size_max.map(|most| Room { bytes: to(most), bound: Bound::Size(most) }),
        limits.append_max.map(|most| Room { bytes: most, bound: Bound::Append(most) }),
    ]
    .into_iter()
    .flatten()
    .min_by_key(|room| room.bytes)
    .unwrap_or(Room { bytes: to(LARGEST_INTEGER), bound: Bound::Integer })
}

fn beyond(bound: Bound, state: Option<State>) -> Refusal {
    match bound {
        Bound::Length(length) => Refusal::Excess(Some(length)),
        Bound::Size(bytes) => Refusal::TooLarge { limit: Limit::Size, bytes, state },
        Bound::Append(bytes) => Refusal::TooLarge { limit: Limit::Append, bytes, state },
        Bound::Integer => Refusal::TooLarge { limit: Limit::Size, bytes: LARGEST_INTEGER, state },
    }
}

fn without_state(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::TooLarge { limit, bytes, .. } => Refusal::TooLarge { limit, bytes, state: None },
        Refusal::TooSmall { bytes, .. } => Refusal::TooSmall { bytes, state: None },
        Refusal::Excess(_) => Refusal::Inconsistent(None),
        other => other,
    }
}

/// What a request leaves behind when its content has ended, and what to say about it.
///
/// The upload returned is the one before with its new offset; it is complete only when the verdict is
/// [`Verdict::Deliver`], and then its length is known.
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
    let whole = ending.how == End::AllReceived;

    if let (End::OverLimit, Bound::Length(length), Excess::Invalidates) =
        (ending.how, plan.room.bound, upload.semantics.excess)
    {
        return (upload, Verdict::Remove(Refusal::Excess(Some(length))));
    }
    //= TUS1-CWU-05
    // Nobody knows yet that it exists, so nobody could go on with what fits.
    let is_unknown = plan.created && upload.semantics.excess == Excess::Keeps;
    if ending.how == End::OverLimit && (is_unknown || dies_beyond_limits(&upload, plan)) {
        return (upload, Verdict::Remove(beyond(plan.room.bound, None)));
    }
    if is_complete(&upload, plan, whole) {
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        //= TUS1-PATCH-11
        let refusal =
            (ending.how == End::OverLimit).then(|| beyond(plan.room.bound, Some(State::from(&upload))));
        return (upload, Verdict::Deliver { refusal });
    }
    let state = State::from(&upload);
    let brought = upload.offset.offset().bytes_since(plan.at).unwrap_or(0);
    let refusal = match ending.how {
        End::AllReceived if contradicts(&upload, plan) => Refusal::Inconsistent(Some(state)),
        // Counted here, because content need not declare its size beforehand; what is stored by now stays.
        End::AllReceived if plan.is_too_little(brought) => {
            Refusal::TooSmall { bytes: plan.bytes_min, state: Some(state) }
        }
        //= IETF-APP-19
        End::AllReceived => {
            let reply = Reply::Stored { id: upload.id, created: plan.created, state };
            return (upload, Verdict::Acknowledge(reply));
        }
        End::Interrupted(cause) => Refusal::Interrupted { cause, state: Some(state) },
        End::OverLimit => beyond(plan.room.bound, Some(state)),
        End::StorageFull => Refusal::Full(Some(state)),
    };
    match upload.semantics.interruption {
        Interruption::Resumes => (upload, Verdict::Refuse(refusal)),
        Interruption::Discards => (upload, Verdict::Remove(without_state(refusal))),
    }
}

/// Whether an upload cannot outlive that its sender had more than the largest upload may have: saying that it is complete
/// would be enough to make a whole of what is only its beginning.
//= IETF-LIM-08
fn dies_beyond_limits(upload: &Upload, plan: &Plan) -> bool {
    let Semantics { completion, excess, .. } = upload.semantics;
    completion.is_said()
        && excess == Excess::Invalidates
        && matches!(plan.room.bound, Bound::Size(_) | Bound::Integer)
}

//= TUS1-CDL-05
//= TOK-CRE-04, TOK-APP-05a, IETF-CMP-01, IETF-CMP-03, IETF-CMP-04
fn is_complete(upload: &Upload, plan: &Plan, whole: bool) -> bool {
    let reached = upload.length.map(|length| length.is_reached(upload.offset.offset()));
    let said_so = whole && plan.finish == Finish::Here;
    match upload.semantics.completion {
        Completion::AtLength => reached == Some(true),
        Completion::AtLengthOrEnd | Completion::ExplicitOrAtLength => reached.unwrap_or(said_so),
        Completion::Explicit => said_so && reached != Some(false),
    }
}

/// Whether a request that arrived whole said it was the last and was not.
//= IETF-LEN-07
fn contradicts(upload: &Upload, plan: &Plan) -> bool {
    upload.semantics.completion.is_said() && plan.finish == Finish::Here
}

/// The upload after its target has answered, and what the request that completed it is told.
pub fn deliver(
    upload: Upload,
    answer: TargetResponse,
    created: bool,
    policy: &Policy,
    now: Timestamp,
) -> (Upload, Reply) {
    let kept = answer.clone();
    let phase = if answer.status.is_success() { Phase::Delivered(kept) } else { Phase::Failed(kept) };
    //= IETF-RES-03
    // A part is no end in itself: it lives as long as one that is not complete.
    let lifetime = if upload.composition == Composition::Part { upload.lifetime } else { policy.retention };
    let upload = Upload { phase, lifetime, touched: now, ..upload };
    let reply = Reply::Complete { id: upload.id, created, state: State::from(&upload), answer };
    (upload, reply)
}

#[cfg(test)]
mod tests;
