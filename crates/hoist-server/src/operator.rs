//! The operator's handle of an endpoint: to see its uploads and transfers, and to steer it while it runs.
//!
//! [`Hoist::operator`] returns it. Reading disturbs no transfer. A verb that changes an upload claims it, like a request of
//! its client, and runs in a task of the server: dropping its future drops only the result.
//!
//! The handle authenticates no caller. A server that exposes it has to, because an operator sees and ends the uploads of all
//! clients.

mod list;
mod live;

use std::time::Duration;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::UploadId;
use hoist_proto::upload::{Composition, Phase, Upload};
use hoist_store::store::{Error, UploadGroup};
use http::{StatusCode, header};

pub use self::list::{BadCursor, Cursor, Filter, Listed, StateFilter};
pub use self::live::Live;
pub use crate::admission::{AdmissionMode, NotAnAdmissionMode};
pub use crate::observe::{LiveEvent, RefusedRequest};
pub use crate::view::{TransferView, UploadKind, UploadState, UploadView};

use crate::claim::{Claim, Occupied, Requester};
use crate::error;
use crate::shared::{Hoist, Shared};
use crate::sweep::Swept;
use crate::transition::Removal;

/// The operator's handle of an endpoint.
///
/// ```
/// # use std::sync::Arc;
/// # use hoist_server::{Hoist, memory::MemoryStore, operator::{AdmissionMode, Filter}};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hoist = Hoist::builder(Arc::new(MemoryStore::new())).build();
/// let operator = hoist.operator();
/// // Before an update: no new uploads, and running ones may end.
/// operator.set_admission_mode(AdmissionMode::ResumeOnly);
/// let page = operator.list(&Filter::default(), None, 100).await?;
/// assert!(page.uploads.is_empty() && page.next.is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Operator(Hoist);

/// The reason why a verb of the operator did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// There is no such upload.
    #[error("there is no such upload")]
    NoSuchUpload,
    /// The upload is not in a state for this verb. Holds the reason, for the operator.
    #[error("{0}")]
    WrongState(&'static str),
    /// The cursor is not one of this server.
    #[error("the cursor is not one of this server; list from the start")]
    BadCursor,
    /// A request or another operator keeps what the verb needs. Try again.
    #[error("{0}; try again")]
    Busy(&'static str),
    /// The store or the target failed. The cause is in the log too.
    #[error("{0}")]
    Failed(String),
}

impl From<Refusal> for OperatorError {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::NotFound | Reason::Gone => Self::NoSuchUpload,
            Reason::Busy => Self::Busy("a request keeps the upload"),
            _ => Self::Failed(refusal.detail()),
        }
    }
}

impl From<Error> for OperatorError {
    fn from(failure: Error) -> Self {
        match failure {
            Error::Missing => Self::NoSuchUpload,
            Error::BadPosition => Self::BadCursor,
            failure => Self::Failed(error::chain(&failure)),
        }
    }
}

/// An upload in detail.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UploadDetails {
    /// The view of it that a listing has. Its offset is durable.
    pub view: UploadView,
    /// The media type that the client declared.
    pub content_type: Option<String>,
    /// The number of times that a request continued it after an interruption.
    pub resumes: u32,
    /// The status that the target answered with, or that its failure is answered with.
    pub answered: Option<StatusCode>,
    /// The time until the next attempt to deliver it, if the target has failed repeatedly.
    pub next_delivery: Option<Duration>,
    /// The uploads that it is concatenated from, in order, or the number of its indexed parts.
    pub parts: Parts,
}

/// The parts of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parts {
    /// None: its content is its own.
    None,
    /// These uploads, in order.
    Concatenated(Vec<UploadId>),
    /// Numbered parts. Holds how many have begun.
    Indexed(usize),
}

/// The outcome of a redelivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redelivered {
    /// The target has answered.
    Delivered,
    /// The parts of the upload are not complete yet.
    AwaitsParts,
}

impl Hoist {
    /// Returns the operator's handle of this endpoint.
    pub fn operator(&self) -> Operator {
        Operator(self.clone())
    }
}

impl Operator {
    /// Returns one upload, without disturbing it.
    ///
    /// # Errors
    /// - [`OperatorError::NoSuchUpload`]
    /// - [`OperatorError::Failed`] if the store fails, or the upload is damaged.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn show(&self, id: UploadId) -> Result<UploadDetails, OperatorError> {
        let hoist = self.0.latest();
        let shared = hoist.shared();
        let upload = shared.store.peek(id).await?.ok_or(OperatorError::NoSuchUpload)?;
        let upload = shared.clock.correct(upload);
        let mut view = UploadView::of(&upload, &shared.endpoint);
        if upload.composition.is_composed() && !upload.is_complete() {
            let state = shared.state_of(&upload).await?;
            (view.offset, view.length) = (state.offset.offset(), state.length);
        }
        view.transfer = shared.claims.transfer(id).as_ref().map(Into::into);
        let content_type = upload.origin.fields.get(header::CONTENT_TYPE);
        Ok(UploadDetails {
            view,
            content_type: content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            resumes: upload.resumes,
            answered: match &upload.phase {
                Phase::Delivered(answer) | Phase::Failed(answer) => Some(answer.status),
                Phase::Open | Phase::Received => None,
            },
            next_delivery: shared.backlog.wait(id),
            parts: match upload.composition {
                Composition::Direct | Composition::Part => Parts::None,
                Composition::Concatenated(parts) => Parts::Concatenated(parts),
                Composition::Indexed(parts) => Parts::Indexed(parts.started.iter().count()),
            },
        })
    }

    /// Ends the transfer that runs on an upload, and keeps its bytes. Its client can resume at once. Returns when the bytes
    /// are stored, or after a few seconds.
    ///
    /// # Errors
    /// - [`OperatorError::NoSuchUpload`]
    /// - [`OperatorError::WrongState`] if no transfer is running, or if no client could resume it.
    ///
    /// # Cancellation
    /// If dropped, the transfer may still end.
    pub async fn end(&self, id: UploadId) -> Result<UploadDetails, OperatorError> {
        let hoist = self.0.latest();
        let shared = hoist.shared();
        let known = shared.store.peek(id).await?.ok_or(OperatorError::NoSuchUpload)?;
        if known.semantics.interruption == hoist_proto::upload::Interruption::Discards {
            let why = "no request could resume this upload, so its bytes would be lost; delete it instead";
            return Err(OperatorError::WrongState(why));
        }
        if !shared.claims.end_transfer(id).await {
            return Err(OperatorError::WrongState("no transfer is running on this upload"));
        }
        self.show(id).await
    }

    /// Deletes an upload, as its client could: a running transfer ends, and content and record are removed. Works for a
    /// damaged upload too.
    ///
    /// # Errors
    /// - [`OperatorError::NoSuchUpload`]
    /// - [`OperatorError::Busy`] if a request keeps it, such as one whose target is slow.
    /// - [`OperatorError::Failed`] if the store fails.
    ///
    /// # Cancellation
    /// Safe to drop: the deletion goes on.
    pub async fn delete(&self, id: UploadId) -> Result<(), OperatorError> {
        self.remove(id, Removal::Cancelled).await
    }

    /// Removes an upload as if its lifetime were over.
    ///
    /// # Errors
    /// As for [`delete`](Self::delete).
    ///
    /// # Cancellation
    /// Safe to drop: the removal goes on.
    pub async fn expire(&self, id: UploadId) -> Result<(), OperatorError> {
        self.remove(id, Removal::Expired).await
    }

    async fn remove(&self, id: UploadId, removal: Removal) -> Result<(), OperatorError> {
        let hoist = self.0.latest();
        let owner = match hoist.shared().store.peek(id).await {
            Ok(Some(upload)) => upload.owner,
            Ok(None) => return Err(OperatorError::NoSuchUpload),
            Err(Error::Damaged(_)) => None,
            Err(failure) => return Err(failure.into()),
        };
        let removed = hoist.own(move |shared| async move {
            // As its owner, so that a running transfer ends.
            let requester = Requester { principal: owner.as_ref(), family: None };
            let claim = shared.claims.take(id, requester).await.map_err(|_| Reason::Busy)?;
            shared.remove_claimed(claim, removal).await
        });
        removed.await?;
        tracing::info!(upload = %id.short(), verb = if removal == Removal::Expired { "expire" } else { "delete" }, "the operator removed an upload");
        Ok(())
    }

    /// Delivers an upload to the target now, whose last attempts have failed. Joins the parts of an upload first, if that is
    /// what it waits for.
    ///
    /// # Errors
    /// - [`OperatorError::NoSuchUpload`]
    /// - [`OperatorError::WrongState`] if it is not received completely, or was delivered already.
    /// - [`OperatorError::Busy`] if a request keeps it.
    /// - [`OperatorError::Failed`] if the target or the store failed again. Attempts go on by themselves.
    ///
    /// # Cancellation
    /// Safe to drop: the delivery goes on.
    pub async fn redeliver(&self, id: UploadId) -> Result<Redelivered, OperatorError> {
        let hoist = self.0.latest();
        let known = hoist.shared().store.peek(id).await?.ok_or(OperatorError::NoSuchUpload)?;
        if known.is_complete() && !known.awaits_delivery() {
            return Err(OperatorError::WrongState("the target has answered already"));
        }
        if !known.awaits_delivery() && !known.composition.is_composed() {
            return Err(OperatorError::WrongState("its content is not complete yet"));
        }
        let delivered = hoist.own(move |shared| async move {
            let claim = shared.claims.take_idle(id).await.map_err(|occupied| match occupied {
                Occupied::Transferring(_) | Occupied::Busy => Reason::Busy,
            })?;
            let upload = shared.fetch(&claim).await?.ok_or(Reason::NotFound)?;
            // The attempts so far postpone this one no longer.
            shared.backlog.done(id);
            let upload = if upload.awaits_delivery() {
                shared.deliver_due(&claim, upload).await?
            } else if upload.is_complete() {
                upload
            } else {
                shared.try_join(&claim, upload).await?
            };
            Ok(upload.is_complete())
        });
        Ok(if delivered.await? { Redelivered::Delivered } else { Redelivered::AwaitsParts })
    }

    /// Returns the admission mode.
    pub fn admission_mode(&self) -> AdmissionMode {
        self.0.shared().mode.get()
    }

    /// Changes the admission mode, and returns the previous one. It is kept until the process ends.
    pub fn set_admission_mode(&self, mode: AdmissionMode) -> AdmissionMode {
        let previous = self.0.shared().mode.set(mode);
        if previous != mode {
            tracing::info!(from = previous.name(), to = mode.name(), "admission mode changed");
        }
        previous
    }

    /// Removes expired uploads now, and delivers those that are due, as [`Hoist::sweep`] does.
    ///
    /// # Errors
    /// - [`OperatorError::Busy`] if such a sweep is running.
    /// - [`OperatorError::Failed`] if the store cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop: the sweep goes on.
    pub async fn sweep(&self) -> Result<Swept, OperatorError> {
        let hoist = self.0.latest();
        let held = hoist.shared().sweep_asked_for.clone().try_acquire_owned();
        let held = held.map_err(|_| OperatorError::Busy("another sweep is running"))?;
        let sweeping = hoist.clone();
        let swept = hoist.own(move |shared| async move {
            let _held = held;
            // A long sweep must not delay the end of the server.
            let swept = shared.draining.run_until_cancelled(Box::pin(sweeping.sweep())).await;
            Ok(swept.unwrap_or_else(|| Ok(Swept::default())))
        });
        Ok(swept.await??)
    }

    /// Returns what a sweep would do at this moment, without doing it: the uploads that it would remove and deliver.
    ///
    /// # Errors
    /// Returns [`OperatorError::Failed`] if the store cannot be read.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn sweep_dry(&self) -> Result<Swept, OperatorError> {
        let hoist = self.0.latest();
        let shared = hoist.shared();
        let mut swept = Swept::default();
        for group in [UploadGroup::Open, UploadGroup::Complete] {
            let now = shared.clock.now();
            let mut listing = shared.store.list(group).await?;
            while let Some(summaries) = listing.next().await? {
                for summary in summaries {
                    swept.seen += 1;
                    let lifetime = summary.expires.map(|expires| expires.until(summary.touched));
                    let expires =
                        lifetime.map(|lifetime| shared.clock.present(summary.touched).plus(lifetime));
                    if summary.awaits_delivery {
                        swept.delivered += 1;
                    } else if expires.is_some_and(|expires| expires <= now)
                        && shared.claims.is_free(summary.id)
                    {
                        swept.removed += 1;
                    }
                }
            }
        }
        Ok(swept)
    }
}

impl Shared {
    /// Removes a claimed upload, damaged or not, and wakes the uploads that it is a part of.
    async fn remove_claimed(&self, claim: Claim, removal: Removal) -> Result<(), Refusal> {
        let id = claim.id();
        let upload = match self.store.load(id, claim.fence()).await {
            Ok(Some(upload)) => self.clock.correct(upload),
            // The end of its transfer has removed it, because no request could resume it.
            Ok(None) => return Ok(()),
            Err(Error::Damaged(_)) => {
                let removed = self.store.remove(id, claim.fence()).await;
                removed.map_err(error::during("remove", id))?;
                self.ledger.forget(id);
                return Ok(());
            }
            Err(failure) => return Err(error::refusal("load", id, &failure)),
        };
        self.remove(&claim, &upload, removal).await?;
        let scope = claim.scope.clone();
        drop(claim);
        let Upload { composition, .. } = upload;
        if composition == Composition::Part {
            Box::pin(self.wake(id, &scope)).await;
        }
        Ok(())
    }
}
