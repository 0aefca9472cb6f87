//! The protocol itself: the effect of a request on an upload, before and after its content is received.
//!
//! [`decide`] takes the upload and the decoded request and says how to proceed. [`settle`] takes the upload and the end of
//! the content and gives the upload's new state and the response. [`deliver`] records the response of the target. All three
//! are pure: they see no clock, no disk and no dialect, only the properties that a dialect sets in the
//! [`Operation`] and in the upload's [`Semantics`](crate::upload::Semantics).

pub mod composition;
mod limits;
mod settle;

use http::Method;

pub use self::limits::exceeds_limits;
use self::limits::plan;
pub use self::settle::{deliver, is_completed_by, settle};
use crate::operation::{
    Append, AppendToComplete, BelowMinSize, Create, Finish, OnExisting, Operation, Reply,
};
use crate::policy::Policy;
use crate::refusal::{InterruptCause, Reason, Refusal};
use crate::types::{Durable, Length, Offset, Principal, Timestamp, UploadId};
use crate::upload::{Composition, Excess, Family, Interruption, Phase, State, Upload};

/// A decoded request whose upload has an id.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadRequest {
    /// The id of the upload.
    pub id: UploadId,
    /// The authenticated client; `None` without authentication.
    pub principal: Option<Principal>,
    /// The family of the request's dialect.
    pub family: Family,
    /// The requested operation.
    pub operation: Operation,
}

/// The way to proceed with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Create the upload, then receive its content.
    Create(Upload, Plan),
    /// Receive the content. If the upload differs from the stored one, because its length became known, store it first.
    Receive(Upload, Plan),
    /// Remove the upload, then respond with [`Reply::Cancelled`].
    Cancel,
    /// Respond with this reply; the upload stays as it is.
    Answer(Reply),
    /// Respond with this refusal; the upload stays as it is.
    Refuse(Refusal),
    /// Remove the upload, which can never become valid again, and respond with this refusal.
    Invalidate(Refusal),
}

/// The bounds within which the content of one request is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The offset at which the content begins.
    pub at: Offset,
    /// The number of bytes that may be stored, and the rule that bounds it.
    pub room: Room,
    /// The fewest bytes the request must carry. Fewer bytes are stored, and the request is refused.
    pub bytes_min: u64,
    /// The end of the representation, with this content or later.
    pub finish: Finish,
    /// True if this request created the upload.
    pub created: bool,
}

impl Plan {
    /// Returns whether `bytes` of content are fewer than required. A creation may carry none.
    fn is_too_little(&self, bytes: u64) -> bool {
        bytes < self.bytes_min && !(self.created && bytes == 0)
    }
}

/// The number of bytes that fit, and the rule that bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The number of bytes that may be stored.
    pub bytes: u64,
    /// The rule that one more byte would break.
    pub bound: Bound,
}

/// A rule that bounds the content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The length of the upload.
    Length(Length),
    /// The size limit of representations, in bytes.
    Size(u64),
    /// The size limit of one request, in bytes.
    Append(u64),
    /// The largest integer that a header field can hold.
    Integer,
}

/// The state of the store after the content of a request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The durable offset of the upload.
    pub stored: Durable,
    /// The way in which the content ended.
    pub how: End,
}

/// The way in which the content of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it arrived.
    AllReceived,
    /// It ended early.
    Interrupted(InterruptCause),
    /// More arrived than the [`Room`] allows. The bytes that fit are stored.
    OverLimit,
    /// The store has no space left. The bytes that fit are stored.
    StorageFull,
}

/// The consequence of an [`Ending`].
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The upload is not complete yet; respond with this reply.
    Acknowledge(Reply),
    /// The representation is complete. Hand it to the target, then record the target's response with [`deliver`].
    Deliver {
        /// The refusal to answer with in place of the target's response.
        refusal: Option<Refusal>,
    },
    /// The upload stays as it is; respond with this refusal.
    Refuse(Refusal),
    /// Remove the upload and respond with this refusal.
    Remove(Refusal),
}

/// Decides how to proceed with a request. `known` is the upload with the request's id, as the store has it.
///
/// The caller must load `known` after all earlier requests on the upload have ended, and must first deliver an upload that
/// [awaits delivery](Upload::awaits_delivery). The checks are made in this order: existence, completeness, offset, lengths,
/// limits.
pub fn decide(known: Option<&Upload>, request: &UploadRequest, policy: &Policy, now: Timestamp) -> Decision {
    //= IETF-SEC-01
    let visible = known.filter(|upload| is_visible(upload, request));
    let live = visible.filter(|upload| !upload.is_expired(now));
    match (&request.operation, live) {
        (Operation::Create(new), None) => create(new, request, policy, now),
        (Operation::Create(new), Some(upload)) => create_existing(upload, new, policy),
        (_, None) if visible.is_some() => Decision::Refuse(Reason::Gone.into()),
        (_, None) => Decision::Refuse(Reason::NotFound.into()), //= TOK-OFF-04, TOK-CAN-02, TDR-APP-02, TDR-OFF-05, IETF-DEL-02
        (Operation::Append(content), Some(upload)) => append(upload, content, policy),
        (Operation::Retrieve, Some(upload)) => {
            let described = upload.origin.fields.clone();
            Decision::Answer(Reply::State { id: upload.id, state: upload.into(), described })
        }
        (Operation::Cancel, Some(_)) => Decision::Cancel,
        (Operation::Reject(refusal), Some(upload)) => {
            Decision::Refuse(Refusal { state: Some(upload.into()), ..refusal.clone() })
        }
    }
}

/// Returns whether the client of a request may know of the upload.
fn is_visible(upload: &Upload, request: &UploadRequest) -> bool {
    upload.family == request.family && upload.owner == request.principal
}

fn create(create: &Create, request: &UploadRequest, policy: &Policy, now: Timestamp) -> Decision {
    let Create { length, content, below_min_size, .. } = *create;
    let mut upload = new_upload(create, request, policy, now);
    //= IETF-LIM-07
    let is_small = length.is_some_and(|length| length.get() < policy.limits.size_min);
    if is_small && below_min_size == BelowMinSize::Ordinary && content.finish == Finish::Here {
        upload.semantics.interruption = Interruption::Discards;
    }
    match plan(&upload, Offset::ZERO, content, &policy.limits, true) {
        Ok(plan) => Decision::Create(upload, plan),
        // There is no upload to invalidate yet, and no state to report.
        Err(refusal) => Decision::Refuse(without_upload(refusal)),
    }
}

/// Returns the upload that a creation makes, without content.
fn new_upload(create: &Create, request: &UploadRequest, policy: &Policy, now: Timestamp) -> Upload {
    Upload {
        id: request.id,
        family: request.family,
        semantics: create.semantics,
        owner: request.principal.clone(),
        composition: create.composition.clone(),
        alias: None,
        file: None,
        origin: create.origin.clone(),
        created: now,
        touched: now,
        lifetime: policy.lifetime,
        resumes: 0,
        length: create.length,
        offset: Durable::ZERO,
        phase: Phase::Open,
        events: Vec::new(),
    }
}

/// Decides on a creation under the id of an existing upload.
//= TOK-CRE-05, TDR-CRE-05, TDR-APP-04
fn create_existing(upload: &Upload, create: &Create, policy: &Policy) -> Decision {
    match create.on_existing {
        OnExisting::ResumeAtZero if upload.offset == Durable::ZERO && !upload.is_complete() => {
            let content = Append {
                like: Some(create.origin.method.clone()).filter(|method| *method != Method::PATCH),
                at: Offset::ZERO,
                length: create.length,
                content: create.content,
                when_complete: AppendToComplete::Conflicts,
            };
            append(upload, &content, policy)
        }
        OnExisting::ResumeAtZero | OnExisting::Refuse => {
            Decision::Refuse(Reason::UploadExists.with_state(upload))
        }
    }
}

fn append(upload: &Upload, append: &Append, policy: &Policy) -> Decision {
    let state = State::from(upload);
    let refuse = |reason: Reason| Decision::Refuse(reason.with_state(state));
    match upload.composition {
        Composition::Direct | Composition::Part => {}
        //= TUS1-PATCH-14, TUS1-CAT-08
        Composition::Concatenated(_) => return refuse(Reason::AppendToComposed),
        //= TOK-IDX-06
        Composition::Indexed(_) => return refuse(Reason::ConflictingParts),
    }
    if append.when_complete == AppendToComplete::Rejects && upload.is_complete() {
        return refuse(Reason::AlreadyComplete);
    }
    //= TDR-CRE-08
    if append.like.as_ref().is_some_and(|method| *method != upload.origin.method) {
        let problem = "an append must use PATCH, or the method that created the upload";
        return Decision::Refuse(Refusal::field("Upload-Offset", problem));
    }
    if append.at != upload.offset.offset() {
        //= TOK-APP-02, TDR-APP-03, IETF-APP-07
        return refuse(Reason::OffsetMismatch { provided: append.at });
    }
    if upload.is_complete() {
        return append_to_complete(upload, append);
    }
    // Comes before lengths are compared, so that it makes no difference whether the size of the content was declared.
    let declared = append.content.bytes.and_then(|bytes| append.at.advance(bytes));
    if let (Some(length), Some(declared)) = (upload.length, declared)
        && declared.get() > length.get()
    {
        //= IETF-LEN-06
        let refusal = Reason::LengthExceeded(Some(length)).into();
        return match upload.semantics.excess {
            Excess::Invalidates => Decision::Invalidate(refusal),
            Excess::Keeps => Decision::Refuse(refusal),
        };
    }
    //= IETF-LEN-02, IETF-LEN-03, IETF-LEN-04, TUS1-CDL-03
    let is_last = upload.semantics.completion.is_explicit() && append.content.finish == Finish::Here;
    let end = declared.filter(|_| is_last).map(Length::from);
    let length = match agreed_length(&[upload.length, append.length, end]) {
        Ok(length) if length.is_none_or(|length| length.get() >= append.at.get()) => length,
        Ok(_) | Err(Contradiction) => return refuse(Reason::InconsistentLength),
    };
    let upload = Upload { length, ..upload.clone() };
    match plan(&upload, append.at, append.content, &policy.limits, false) {
        Ok(plan) => Decision::Receive(upload, plan),
        // The length comes from this request and contradicts its content, so the upload stays valid.
        Err(Refusal { reason: Reason::LengthExceeded(_), .. }) => refuse(Reason::InconsistentLength),
        Err(refusal) => Decision::Refuse(refusal),
    }
}

struct Contradiction;

/// Returns the length on which all sources that give one agree.
fn agreed_length(lengths: &[Option<Length>]) -> Result<Option<Length>, Contradiction> {
    let mut known = lengths.iter().flatten();
    let first = known.next();
    if known.all(|other| Some(other) == first) { Ok(first.copied()) } else { Err(Contradiction) }
}

/// Decides on an append at the end of a complete upload, whose client may have lost the response to the last append.
//= TOK-APP-06, IETF-APP-14, IETF-APP-15, IETF-CMP-02
fn append_to_complete(upload: &Upload, append: &Append) -> Decision {
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
        // The target failed without a response. It will be asked again, so the client should retry.
        Phase::Received if is_replay && append.when_complete == AppendToComplete::Replays => {
            Decision::Refuse(Reason::Busy.into())
        }
        _ => Decision::Refuse(match append.when_complete {
            AppendToComplete::Replays => Reason::InconsistentLength.with_state(state),
            //= TUS1-PATCH-13
            AppendToComplete::Admits => Reason::LengthExceeded(upload.length).into(),
            AppendToComplete::Conflicts | AppendToComplete::Rejects => {
                Reason::AlreadyComplete.with_state(state)
            }
        }),
    }
}

/// Turns a refusal into that of a request whose upload does not exist after it.
fn without_upload(refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::TooLarge { .. } | Reason::TooSmall { .. } => Refusal { state: None, ..refusal },
        Reason::LengthExceeded(_) => Reason::InconsistentLength.into(),
        _ => refusal,
    }
}

#[cfg(test)]
mod tests;
