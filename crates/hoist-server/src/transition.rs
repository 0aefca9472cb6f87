//! The transitions in the life of an upload, and the one place where a store records them.
//!
//! A [`Transition`] is a value: it is written to the store first, and only then does the process act on it and tell its
//! [observers](crate::observe) and its [hooks](crate::hook). Its event for the [outbox](crate::outbox) is part of the record
//! that is written.

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Offset;
use hoist_proto::upload::{Composition, EventKind, IndexedParts, Phase, Upload};
use hoist_store::store::{Error, UploadGroup, Writer};

use crate::admission::Reservation;
use crate::claim::{Claim, Requester};
use crate::error;
use crate::hook::Point;
use crate::observe::{Event, Outcome, UploadEvent};
use crate::request_facts::RequestFacts;
use crate::shared::Shared;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition<'a> {
    /// The upload after the change. If the change removes it, the upload before.
    pub(crate) upload: &'a Upload,
    /// The stage before, unless the change creates the upload.
    pub(crate) from: Option<Stage>,
    pub(crate) to: Stage,
    /// True if the content stays in the store.
    pub(crate) keeps_content: bool,
    /// The request that causes the change.
    pub(crate) request: &'a RequestFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// The content is complete; the target has not answered.
    Received,
    /// The target has accepted the content.
    Delivered,
    /// The target has rejected the content, or it did not match its digest.
    Failed,
    Removed(Removal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Cancelled,
    Expired,
    /// A part it is made of is gone.
    PartGone,
    /// It can never become complete, or no client has learned that it exists.
    Discarded,
}

impl Removal {
    fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::Expired => Outcome::Expired,
            Self::PartGone => Outcome::Failed,
            Self::Discarded => Outcome::Discarded,
        }
    }
}

impl Removal {
    /// Returns the event that tells of the removal of an upload in a stage. None tells that an upload has expired which had
    /// ended before.
    fn event(self, from: Option<Stage>) -> Option<EventKind> {
        let had_ended = matches!(from, Some(Stage::Delivered | Stage::Failed));
        match self {
            Self::Cancelled => Some(EventKind::Terminated),
            _ if had_ended => None,
            Self::Expired => Some(EventKind::Expired),
            Self::PartGone | Self::Discarded => Some(EventKind::Failed),
        }
    }
}

impl Stage {
    /// Returns the event that tells of the change to this stage, but for those of creations and removals.
    pub(crate) fn event(self) -> Option<EventKind> {
        match self {
            Self::Delivered => Some(EventKind::Finished),
            Self::Failed => Some(EventKind::Failed),
            Self::Open | Self::Received | Self::Removed(_) => None,
        }
    }

    pub(crate) fn of(upload: &Upload) -> Self {
        match upload.phase {
            Phase::Open => Self::Open,
            Phase::Received => Self::Received,
            Phase::Delivered(_) => Self::Delivered,
            Phase::Failed(_) => Self::Failed,
        }
    }
}

impl Shared {
    /// Creates an upload in the store. It is durable once the writer has been synced.
    pub(crate) async fn create(
        &self,
        claim: &Claim,
        upload: &mut Upload,
        reservation: &mut Reservation,
    ) -> Result<Box<dyn Writer>, Refusal> {
        self.tell(claim, upload, EventKind::Created);
        let created = self.store.create(upload, claim.fence()).await;
        let writer = created.map_err(error::during("create", upload.id))?;
        reservation.stored();
        if let Some(outbox) = &self.outbox {
            outbox.created(upload);
        }
        let request = &claim.scope.facts;
        self.follow(&Transition { upload, from: None, to: Stage::Open, keeps_content: true, request });
        Ok(writer)
    }

    /// Creates an upload that receives no content of its own. If that fails, nothing of it is left.
    pub(crate) async fn create_empty(
        &self,
        claim: &Claim,
        upload: &mut Upload,
        mut reservation: Reservation,
    ) -> Result<(), Refusal> {
        let mut writer = self.create(claim, upload, &mut reservation).await?;
        let Err(failure) = writer.sync().await else { return Ok(()) };
        drop(writer);
        let refusal = error::refusal("sync", upload.id, &failure);
        // No client has learned of the upload. A removal that fails has been logged, and the upload expires. Its parts are
        // not asked for: the request on the first of them holds its claim.
        let _ = self.remove_alone(claim, upload, Removal::Discarded).await;
        Err(refusal)
    }

    /// Records a transition in the store, then in this process.
    pub(crate) async fn apply(&self, claim: &Claim, transition: Transition<'_>) -> Result<(), Error> {
        let Transition { upload, from, to, keeps_content, .. } = transition;
        let fence = claim.fence();
        match to {
            Stage::Removed(removal) => self.remove_from_store(claim, upload, removal.event(from)).await?,
            // The answer and the end of the content are one step: after a crash between two steps, no later run would
            // know that the content is superfluous.
            Stage::Delivered | Stage::Failed if !keeps_content => {
                self.store.commit_and_discard(upload, fence).await?;
            }
            Stage::Open | Stage::Received | Stage::Delivered | Stage::Failed => {
                self.store.commit(upload, fence).await?;
            }
        }
        if let (Some(outbox), Some(kind)) = (&self.outbox, to.event()) {
            outbox.committed(upload, kind);
        }
        self.follow(&transition);
        Ok(())
    }

    /// Adds an event to the record of an upload, if a sink wants it.
    pub(crate) fn tell(&self, claim: &Claim, upload: &mut Upload, kind: EventKind) {
        if let Some(outbox) = &self.outbox {
            let offset = if kind == EventKind::Created { Offset::ZERO } else { upload.offset.offset() };
            outbox.tell(upload, kind, offset, self.clock.now(), &claim.scope.facts);
        }
    }

    /// Removes an upload, but for the events that are not delivered.
    async fn remove_from_store(
        &self,
        claim: &Claim,
        upload: &Upload,
        kind: Option<EventKind>,
    ) -> Result<(), Error> {
        let Some(outbox) = &self.outbox else { return self.store.remove(upload.id, claim.fence()).await };
        let mut last = upload.clone();
        if let Some(kind) = kind {
            self.tell(claim, &mut last, kind);
        }
        outbox.remove(&*self.store, last, kind, claim.fence()).await
    }

    /// Reports a transition to the observers.
    fn report(&self, transition: &Transition<'_>) {
        let Transition { upload, from, to, keeps_content, .. } = *transition;
        let event = UploadEvent::new(upload, self.clock.now(), &self.endpoint);
        let had_ended = matches!(from, Some(Stage::Delivered | Stage::Failed));
        self.observers.tell(&match to {
            Stage::Open => Event::Created(event),
            Stage::Received => Event::Received(event),
            Stage::Delivered if keeps_content => Event::Ended(event, Outcome::Complete),
            Stage::Delivered => Event::Ended(event, Outcome::Delivered),
            Stage::Failed => Event::Ended(event, Outcome::Failed),
            Stage::Removed(removal) if had_ended => Event::Removed(event, removal.outcome()),
            Stage::Removed(removal) => Event::Ended(event, removal.outcome()),
        });
    }

    /// Tells the hooks of a transition.
    fn tell_hooks(&self, transition: &Transition<'_>) {
        let Transition { upload, to, request, .. } = *transition;
        let stored = upload.offset.offset().get();
        let (point, offset) = match to {
            Stage::Open => (Point::PostCreate, 0),
            Stage::Delivered => (Point::PostFinish, stored),
            Stage::Removed(Removal::Cancelled) => (Point::PostTerminate, stored),
            Stage::Received
            | Stage::Failed
            | Stage::Removed(Removal::Expired | Removal::PartGone | Removal::Discarded) => return,
        };
        self.notify(point, upload, offset, request);
    }

    /// Updates what this process keeps of an upload after a transition.
    pub(crate) fn follow(&self, transition: &Transition<'_>) {
        let Transition { upload, to, .. } = *transition;
        let id = upload.id;
        self.report(transition);
        self.tell_hooks(transition);
        match to {
            Stage::Open => return self.expiries.created(upload),
            Stage::Received => return,
            Stage::Delivered | Stage::Failed => {
                self.ledger.record(upload);
                if let Some(expires) = upload.expires() {
                    self.expiries.file(UploadGroup::Complete, (expires, id));
                }
            }
            Stage::Removed(removal) => {
                self.ledger.forget(id);
                self.expiries.forget(upload);
                if removal != Removal::Discarded {
                    self.tombstones.note(upload);
                }
            }
        }
        self.digests.forget(id);
        self.orderly_ends.take(id);
        self.backlog.done(id);
        self.pending_parts.forget(upload);
    }

    /// Removes an upload. Its indexed parts go first, so that after a crash in between the removal can be asked for again.
    //= IETF-DEL-01, IETF-DEL-06
    //= TOK-IDX-05, TOK-CAN-01, TUS1-TRM-05
    pub(crate) async fn remove(
        &self,
        claim: &Claim,
        upload: &Upload,
        removal: Removal,
    ) -> Result<(), Refusal> {
        if let Composition::Indexed(IndexedParts { started, .. }) = &upload.composition {
            let requester = Requester { principal: upload.owner.as_ref(), family: None };
            for number in started.iter() {
                let part = self.ids.of_part(upload.id, number);
                let claim = self.claims.take(part, requester).await.map_err(|_| Reason::Busy)?;
                match self.store.remove(part, claim.fence()).await {
                    Ok(()) => self.ledger.forget(part),
                    Err(Error::Missing) => {}
                    Err(failure) => return Err(error::refusal("remove", part, &failure)),
                }
            }
        }
        self.remove_alone(claim, upload, removal).await
    }

    pub(crate) async fn remove_alone(
        &self,
        claim: &Claim,
        upload: &Upload,
        removal: Removal,
    ) -> Result<(), Refusal> {
        let (from, to) = (Some(Stage::of(upload)), Stage::Removed(removal));
        let request = &claim.scope.facts;
        let transition = Transition { upload, from, to, keeps_content: false, request };
        self.apply(claim, transition).await.map_err(error::during("remove", upload.id))
    }
}
