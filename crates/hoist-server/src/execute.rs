//! Doing what was decided about a request: creating, receiving, cancelling.
//!
//! Owns the order of the store, the hook, the quotas and the announcement around the content of a request, which
//! [`intake`](crate::intake) receives.

use std::time::Duration;

use hoist_proto::engine::{Decision, UploadRequest};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::Refusal;
use hoist_proto::upload::{Composition, Interruption, Upload};
use hoist_store::store::Error;
use http_body_util::Empty;

use crate::claim::Claim;
use crate::digest::Check;
use crate::error;
use crate::intake::{Content, Intake};
use crate::progress::Progress;
use crate::shared::Shared;
use crate::transport_handles::TransportHandles;
use crate::unverified::UnverifiedContent;

/// What is decided to be done, with all it needs.
pub(crate) struct Execution {
    pub(crate) claim: Claim,
    pub(crate) known: Option<Upload>,
    pub(crate) channels: TransportHandles,
    pub(crate) content_bytes: Option<u64>,
}

impl Execution {
    /// Does it, and what follows from it for uploads that are made of this one.
    pub(crate) async fn run<B: Content>(
        self,
        shared: &Shared,
        request: UploadRequest,
        decision: Decision,
        body: B,
    ) -> Result<Reply, Refusal> {
        if let (Operation::Create(create), Decision::Create(..)) = (&request.operation, &decision) {
            if create.composition.is_composed() {
                return shared.compose(&self.claim, &request, create, self.channels.client).await;
            }
            if create.content.bytes == Some(0) {
                //= TUS1-CRE-08
                drop(body);
                let work = Self { content_bytes: Some(0), ..self };
                return work.carry_out(shared, decision, Empty::new()).await;
            }
        }
        let part =
            self.known.as_ref().filter(|known| known.composition == Composition::Part).map(|part| part.id);
        let outcome = self.carry_out(shared, decision, body).await;
        if let Some(part) = part {
            shared.wake(part).await;
        }
        outcome
    }

    /// Does it. The claim is given back when this returns.
    pub(crate) async fn carry_out<B: Content>(
        self,
        shared: &Shared,
        decision: Decision,
        body: B,
    ) -> Result<Reply, Refusal> {
        let id = self.claim.id();
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        let (fence, store) = (self.claim.fence(), &shared.store);
        let (upload, plan, writer, reservation) = match decision {
            Decision::Answer(reply) => return Ok(reply),
            Decision::Refuse(refusal) => return Err(refusal),
            Decision::Cancel => {
                let known = self.known.ok_or(Refusal::NotFound)?;
                return shared.erase(&self.claim, &known).await.map(|()| Reply::Cancelled);
            }
            Decision::Invalidate(refusal) => {
                shared.remove(&self.claim).await?;
                return Err(refusal);
            }
            Decision::Create(..) | Decision::Receive(..) if shared.draining.is_cancelled() => {
                return Err(Refusal::Unavailable(Duration::from_secs(1)));
            }
            Decision::Create(upload, plan) => {
                shared.ledger.ready().await?;
                shared.hook.before_create(&upload).await?;
                if let Some(known) = &self.known {
                    shared.erase(&self.claim, known).await?; // expired, and not yet swept
                }
                let client = self.channels.client;
                let mut reservation = shared.ledger.admit(&upload, self.content_bytes, client)?;
                let writer = store.create(&upload, fence).await.map_err(failed("create"))?;
                reservation.stored();
                (upload, plan, writer, reservation)
            }
            Decision::Receive(upload, plan) => {
                if shared.ledger.counts_bytes() {
                    shared.ledger.ready().await?;
                }
                let client = self.channels.client;
                let mut reservation = shared.ledger.admit(&upload, self.content_bytes, client)?;
                if self.known.is_some_and(|known| known.length != upload.length) {
                    store.commit(&upload, fence).await.map_err(failed("commit"))?;
                }
                let writer = store.append(upload.id, plan.at, fence).await.map_err(failed("append"))?;
                reservation.stored();
                (upload, plan, writer, reservation)
            }
        };
        // Only now, when there is something to come back to.
        //= IETF-INT-10, IETF-INT-12, IETF-INT-15
        if let (Some(interim), Some(announcement)) = (&self.channels.interim, self.channels.announcement) {
            // A peer that cannot be told is a peer that is gone; its content, if any, ends in the intake.
            let _ = interim.send(announcement);
        }
        let TransportHandles { interim, abort, dialect, fields, .. } = self.channels;
        let check = Check::of(dialect, &fields, plan.at, shared.digests.begin(&upload));
        let checked = UnverifiedContent::new(check, plan.at);
        // Who was told of no upload is not told how it grows.
        //= IETF-LIM-07
        let tells = upload.semantics.interruption == Interruption::Resumes
            && dialect.progress(upload.offset).is_some();
        let progress =
            interim.filter(|_| tells).map(|interim| Progress::new(dialect, interim, upload.offset));
        let intake =
            Intake { reservation, claim: self.claim, upload, plan, writer, abort, progress, checked };
        intake.receive(shared, body).await
    }
}
