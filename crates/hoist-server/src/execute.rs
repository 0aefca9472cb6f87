//! The second half of the life of a request: doing what was decided.
//!
//! Owns the order of the quotas, the hook, the store and the announcement before the content of a request, which
//! [`intake`](crate::intake) receives.

use std::time::Duration;

use hoist_proto::engine::{Decision, Plan};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Offset;
use hoist_proto::upload::{Composition, Interruption, Upload};
use hoist_store::store::Writer;
use http_body_util::Empty;

use crate::claim::Claim;
use crate::engage::Claimed;
use crate::intake::{Content, Intake};
use crate::shared::Shared;
use crate::transition::Removal;
use crate::transport_handles::TransportHandles;
use crate::{admission, digest, error, progress, unverified};

impl Claimed {
    /// Returns whether the request changes nothing, so that [`answer`](Self::answer) needs no task of its own.
    pub(crate) fn is_answered(&self) -> bool {
        self.parent.is_none() && matches!(self.decision, Decision::Answer(_) | Decision::Refuse(_))
    }

    /// Completes a request that brings no content.
    pub(crate) async fn answer(self, shared: &Shared) -> Result<Reply, Refusal> {
        match (self.decision, self.known) {
            (Decision::Answer(Reply::State { id, described, .. }), Some(known)) => {
                Ok(Reply::State { id, state: Box::pin(shared.state_of(&known)).await?, described })
            }
            (Decision::Answer(reply), _) => Ok(reply),
            (Decision::Refuse(refusal), _) => Err(refusal),
            (Decision::Cancel, Some(known)) => {
                let removed = Box::pin(shared.remove(&self.claim, &known, Removal::Cancelled)).await;
                removed.map(|()| Reply::Cancelled)
            }
            (Decision::Invalidate(refusal), Some(known)) => {
                Box::pin(shared.remove(&self.claim, &known, Removal::Discarded)).await?;
                Err(refusal)
            }
            (Decision::Cancel | Decision::Invalidate(_), None) => Err(Reason::NotFound.into()),
            (Decision::Create(..) | Decision::Receive(..), _) => Err(Reason::Internal.into()),
        }
    }

    /// Does what was decided, and what follows from it for uploads composed of this one.
    ///
    /// # Cancellation
    /// Must run in a task of the server.
    pub(crate) async fn execute<B: Content>(
        mut self,
        shared: &Shared,
        transport: TransportHandles,
        body: B,
    ) -> Result<Reply, Refusal> {
        if let Some(parent) = self.parent.take() {
            // Releases the claim of the parent in any case, because `conclude` may want it.
            let part = parent.register(shared, &self.request, &self.decision, transport.client).await?;
            let outcome = self.perform(shared, transport, body).await;
            return part.conclude(shared, outcome).await;
        }
        let part =
            self.known.as_ref().filter(|known| known.composition == Composition::Part).map(|part| part.id);
        let outcome = self.perform(shared, transport, body).await;
        if let Some(part) = part {
            shared.wake(part).await;
        }
        outcome
    }

    async fn perform<B: Content>(
        self,
        shared: &Shared,
        mut transport: TransportHandles,
        body: B,
    ) -> Result<Reply, Refusal> {
        let content_bytes = body.size_hint().exact();
        match self.decision {
            Decision::Create(ref upload, _) if upload.composition.is_composed() => {
                shared.compose(&self.claim, &self.request, transport.client).await
            }
            Decision::Create(..) | Decision::Receive(..) if shared.draining.is_cancelled() => {
                Err(Reason::Unavailable(Duration::from_secs(1)).into())
            }
            Decision::Create(upload, plan) => {
                let is_empty = matches!(&self.request.operation, Operation::Create(create) if create.content.bytes == Some(0));
                let content_bytes = if is_empty { Some(0) } else { content_bytes };
                shared.ledger.ready().await?;
                shared.hook.before_create(&upload).await?;
                if let Some(known) = &self.known {
                    shared.remove(&self.claim, known, Removal::Expired).await?; // not yet swept
                }
                let mut reservation = shared.ledger.admit(&upload, content_bytes, transport.client)?;
                let body = match shared.take_whole(&upload, &plan, &mut transport, body).await {
                    Ok(whole) => {
                        let claim = &self.claim;
                        return shared
                            .create_whole(claim, upload, &plan, whole, reservation, transport)
                            .await;
                    }
                    Err(body) => body,
                };
                let writer = shared.create(&self.claim, &upload, &mut reservation).await?;
                let intake = prepare(shared, self.claim, upload, plan, writer, reservation, transport);
                if is_empty {
                    //= TUS1-CRE-08
                    drop(body);
                    intake.receive(shared, Empty::new()).await
                } else {
                    intake.receive(shared, body).await
                }
            }
            Decision::Receive(mut upload, plan) => {
                let (id, fence) = (upload.id, self.claim.fence());
                let failed = |doing| error::during(doing, id);
                if shared.ledger.counts_bytes() {
                    shared.ledger.ready().await?;
                }
                let mut reservation = shared.ledger.admit(&upload, content_bytes, transport.client)?;
                let was_interrupted = !shared.orderly_ends.take(id);
                let is_resumed = was_interrupted && plan.at > Offset::ZERO;
                upload.resumes = upload.resumes.saturating_add(u32::from(is_resumed));
                if self.known.is_some_and(|known| known.length != upload.length) {
                    shared.store.commit(&upload, fence).await.map_err(failed("commit"))?;
                } else if is_resumed {
                    // If this fails, a resumption is not counted; a store that cannot take the content says so below.
                    let _ = shared.store.commit(&upload, fence).await;
                }
                let writer = shared.store.append(id, plan.at, fence).await.map_err(failed("append"))?;
                reservation.stored();
                let intake = prepare(shared, self.claim, upload, plan, writer, reservation, transport);
                intake.receive(shared, body).await
            }
            Decision::Answer(_) | Decision::Refuse(_) | Decision::Cancel | Decision::Invalidate(_) => {
                self.answer(shared).await
            }
        }
    }
}

/// Announces the upload, and returns what receives its content.
fn prepare(
    shared: &Shared,
    claim: Claim,
    upload: Upload,
    plan: Plan,
    writer: Box<dyn Writer>,
    reservation: admission::Reservation,
    transport: TransportHandles,
) -> Intake {
    let TransportHandles { dialect, interim, announcement, abort, fields, spliced, .. } = transport;
    // Not earlier: from here on there is an upload to resume.
    //= IETF-INT-10, IETF-INT-12, IETF-INT-15
    if let (Some(interim), Some(announcement)) = (&interim, announcement) {
        // A peer that cannot be reached is gone. Its content, if any, ends in the intake.
        let _ = interim.send(announcement);
    }
    let check = digest::Check::of(dialect, &fields, plan.at, shared.digests.begin(&upload));
    let content = unverified::UnverifiedContent::new(check, plan.at);
    // No progress responses for content that may still be discarded, nor for an upload whose URL was not announced.
    //= IETF-LIM-07
    let reports = upload.semantics.interruption == Interruption::Resumes
        && dialect.progress(upload.offset).is_some()
        && !content.check.is_pending();
    let interim = interim.filter(|_| reports);
    let progress = interim.map(|interim| progress::Progress::new(dialect, interim, upload.offset));
    let spliced = spliced.filter(|_| !content.check.is_hashed());
    Intake { reservation, claim, upload, plan, writer, abort, progress, content, spliced }
}
