//! The completion of an upload: the target, the answer that is kept for replays, the end of the content.
//!
//! Owns the order in which the store learns of it, so that a later run can finish what a crash interrupts and does nothing
//! twice that a client or a target could observe. When an upload is complete is decided by the engine.

use std::time::Duration;

use hoist_proto::amendment::Amendment;
use hoist_proto::digest::{self, REPR_DIGEST};
use hoist_proto::engine;
use hoist_proto::operation::Reply;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::{Composition, Interruption, Phase, TargetResponse, Upload};
use hoist_store::store::Error;

use crate::claim::Claim;
use crate::digest::{Hashes, ReprCheck};
use crate::observe::{Event, TargetOutcome};
use crate::shared::Shared;
use crate::stopwatch::Stopwatch;
use crate::targets::{self, Delivery, Representation};
use crate::transition::{Removal, Stage, Transition};
use crate::{answer, error};

pub(crate) struct Received {
    pub(crate) upload: Upload,
    pub(crate) created: bool,
    /// True if the stored record alone shows that the content is complete.
    pub(crate) length_is_stored: bool,
    /// True if the stored record says that the content is complete.
    pub(crate) end_is_stored: bool,
    /// The hashes of the representation, unless they have to be computed from the stored content.
    pub(crate) hashes: Option<Hashes>,
}

/// An upload with its final answer, and the reply to the request that completed it.
pub(crate) struct Finished {
    pub(crate) upload: Upload,
    pub(crate) reply: Reply,
}

impl Shared {
    /// Delivers a complete representation to the target and records its answer. After a few failures attempts are spaced
    /// out, and are also made without a client. An upload that cannot be resumed is removed if its delivery fails.
    //= IETF-APP-17
    pub(crate) async fn deliver(&self, claim: &Claim, received: Received) -> Result<Finished, Refusal> {
        let Received { upload, created, end_is_stored, .. } = received;
        if upload.composition == Composition::Part {
            let amendment = self.ask_to_finish(claim, &upload, end_is_stored).await?;
            let answer = amended(targets::of_part(), amendment);
            return self.finish(claim, upload, answer, created, true).await;
        }
        if let Some(wait) = self.backlog.wait(upload.id) {
            return Err(Reason::Unavailable(Duration::from_secs(wait.as_secs() + 1)).into());
        }
        let is_resumable = upload.semantics.interruption == Interruption::Resumes;
        let unresumable = (!is_resumable).then(|| upload.clone());
        let delivered = self.deliver_now(claim, Received { upload, ..received }).await;
        match (&delivered, unresumable) {
            (Ok(_), _) => {}
            // A hook is asked again when the client asks again.
            (Err(_), None) if claim.scope.refused_finish().is_some() => {}
            (Err(_), None) => self.backlog.failed(claim.id()),
            // Its client can only send it again, which would deliver it twice. A removal that fails has been logged.
            (Err(_), Some(upload)) => drop(self.remove_alone(claim, &upload, Removal::Discarded).await),
        }
        delivered
    }

    async fn deliver_now(&self, claim: &Claim, received: Received) -> Result<Finished, Refusal> {
        let Received { mut upload, created, length_is_stored, end_is_stored, hashes } = received;
        let failed = |doing| error::during(doing, claim.id());
        let outcome = self.digests.finish(&upload, hashes, &*self.store).await.map_err(failed("digest"))?;
        let (answer, keeps_content) = match outcome {
            ReprCheck::Mismatch => (answer::kept(&Reason::DigestMismatch.with_state(&upload)), false),
            ReprCheck::Match(digest) => {
                let amendment = self.ask_to_finish(claim, &upload, end_is_stored).await?;
                let end_is_stored = end_is_stored || self.asks_before_finish(&upload);
                // The record alone must show after a crash that the content is complete, before the target sees it.
                if !self.target.leaves_content() && !length_is_stored && !end_is_stored {
                    self.receive(claim, &upload).await?;
                }
                let delivered = self.deliver_to_target(claim, &upload).await;
                let Delivery { response, file } = delivered.map_err(failed("deliver"))?;
                upload.file = file.or(upload.file);
                let mut answer = amended(response, amendment);
                if let Some(digest) = digest {
                    answer.fields.insert(REPR_DIGEST, digest::value(&digest));
                }
                (answer, self.target.leaves_content())
            }
        };
        self.finish(claim, upload, answer, created, keeps_content).await
    }

    /// Hands an upload to the target, and reports how long it takes.
    async fn deliver_to_target(&self, claim: &Claim, upload: &Upload) -> Result<Delivery, Error> {
        let began = Stopwatch::start();
        let delivered = self.target.deliver(self.representation(claim, upload)).await;
        let outcome = match &delivered {
            Ok(delivery) if delivery.response.status.is_success() => TargetOutcome::Accepted,
            Ok(_) => TargetOutcome::Rejected,
            Err(_) => TargetOutcome::Failed,
        };
        // A target that always answers the same does nothing, and is not even asked about small uploads.
        if self.target.constant_answer().is_none() {
            self.observers.tell(&Event::Targeted(outcome, began.elapsed()));
        }
        delivered
    }

    /// Asks the hooks whether the upload may become complete. The record says before that its content is, so that they find
    /// it where it stays.
    async fn ask_to_finish(
        &self,
        claim: &Claim,
        upload: &Upload,
        end_is_stored: bool,
    ) -> Result<Amendment, Refusal> {
        if self.asks_before_finish(upload) && !end_is_stored {
            self.receive(claim, upload).await?;
        }
        self.pre_finish(claim, upload).await
    }

    /// Records that all content is stored.
    async fn receive(&self, claim: &Claim, upload: &Upload) -> Result<(), Refusal> {
        let (from, to) = (Some(Stage::Open), Stage::Received);
        let received = Transition { upload, from, to, keeps_content: true, request: &claim.scope.facts };
        self.apply(claim, received).await.map_err(error::during("deliver", upload.id))
    }

    /// Asks the target for an early answer, which ends the upload. Does nothing if the target waits for more content.
    //= IETF-CMP-05
    pub(crate) async fn end_early(
        &self,
        claim: &Claim,
        upload: Upload,
        created: bool,
    ) -> Result<Option<Reply>, Refusal> {
        if upload.composition != Composition::Direct {
            return Ok(None);
        }
        let answer = match self.target.answer_early(self.representation(claim, &upload)).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(None),
            Err(failure) => {
                error::refusal("ask the target", upload.id, &failure);
                return Ok(None);
            }
        };
        let keeps_content = answer.status.is_success() && self.target.leaves_content();
        self.finish(claim, upload, answer, created, keeps_content).await.map(|finished| Some(finished.reply))
    }

    /// Delivers an upload whose content was complete when a crash or an interruption came in between.
    pub(crate) async fn deliver_due(&self, claim: &Claim, mut upload: Upload) -> Result<Upload, Refusal> {
        let (length_is_stored, end_is_stored) = (upload.length.is_some(), upload.phase == Phase::Received);
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        let received = Received { upload, created: false, length_is_stored, end_is_stored, hashes: None };
        self.deliver(claim, received).await.map(|finished| finished.upload)
    }

    /// Records the final answer of an upload. Every completion ends here.
    pub(crate) async fn finish(
        &self,
        claim: &Claim,
        upload: Upload,
        answer: TargetResponse,
        created: bool,
        keeps_content: bool,
    ) -> Result<Finished, Refusal> {
        let from = Some(Stage::of(&upload));
        let (mut upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.clock.now());
        let (to, request) = (Stage::of(&upload), &claim.scope.facts);
        if let Some(kind) = to.event() {
            self.tell(claim, &mut upload, kind);
        }
        let transition = Transition { upload: &upload, from, to, keeps_content, request };
        self.apply(claim, transition).await.map_err(error::during("commit", upload.id))?;
        Ok(Finished { upload, reply })
    }

    fn representation<'a>(&'a self, claim: &Claim, upload: &'a Upload) -> Representation<'a> {
        Representation { upload, store: &*self.store, fence: claim.fence(), endpoint: &self.endpoint }
    }
}

/// Returns the answer that is kept for replays, with the changes of a hook. A status that would make a failure of a success is
/// in the first response alone.
fn amended(mut answer: TargetResponse, amendment: Amendment) -> TargetResponse {
    if let Some(status) = amendment.status
        && status.is_success()
    {
        answer.status = status;
    }
    for name in amendment.fields.keys() {
        answer.fields.remove(name);
    }
    answer.fields.extend(amendment.fields);
    if let Some(content) = amendment.content {
        answer.content = content.into_bytes();
    }
    answer
}
