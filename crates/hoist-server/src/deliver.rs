//! What happens to an upload that is whole, and how one goes: the target, the answer that is kept, the end.
//!
//! Owns the order in which the store learns of it, so that a crash in between is finished and nothing is done twice that
//! somebody outside could see. What whole means is the engine's.

use std::time::Duration;

use hoist_proto::digest::{self, REPR_DIGEST};
use hoist_proto::engine;
use hoist_proto::operation::Reply;
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Fence, UploadId};
use hoist_proto::upload::{Composition, Phase, TargetResponse, Upload};
use hoist_store::store::{Error, UploadGroup};

use crate::claim::Claim;
use crate::digest::{Hashes, Outcome};
use crate::shared::Shared;
use crate::targets::{self, Representation};
use crate::{answer, error};

impl Shared {
    /// Hands a whole representation to the target and records its answer. After failures, attempts are made less and less
    /// often, and without a client too.
    //= IETF-APP-17
    pub(crate) async fn deliver(
        &self,
        claim: &Claim,
        upload: Upload,
        created: bool,
        length_is_stored: bool,
        hashes: Option<Hashes>,
    ) -> Result<Reply, Refusal> {
        let fence = claim.fence();
        let id = claim.id();
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        if upload.composition == Composition::Part {
            let answer = targets::of_part();
            let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.clock.now());
            self.store.commit(&upload, fence).await.map_err(failed("commit"))?;
            self.ledger.record(&upload);
            self.lifetimes.note(UploadGroup::Complete, upload.lifetime);
            return Ok(reply);
        }
        if let Some(wait) = self.backlog.wait(id) {
            return Err(Refusal::Unavailable(Duration::from_secs(wait.as_secs() + 1)));
        }
        let delivered = self.deliver_now(claim, upload, created, length_is_stored, hashes).await;
        match &delivered {
            Ok(_) => self.backlog.done(id),
            Err(_) => self.backlog.failed(id),
        }
        delivered
    }

    async fn deliver_now(
        &self,
        claim: &Claim,
        upload: Upload,
        created: bool,
        length_is_stored: bool,
        hashes: Option<Hashes>,
    ) -> Result<Reply, Refusal> {
        let (id, fence) = (claim.id(), claim.fence());
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        let outcome = self.digests.finish(&upload, hashes, &*self.store).await.map_err(failed("digest"))?;
        let (answer, keeps_content) = match outcome {
            Outcome::Wrong => (answer::kept(&Refusal::Digest((&upload).into())), false),
            Outcome::Right(digest) => {
                let mut answer =
                    self.hand_over(&upload, fence, length_is_stored).await.map_err(failed("deliver"))?;
                if let Some(digest) = digest {
                    answer.fields.insert(REPR_DIGEST, digest::value(&digest));
                }
                (answer, self.target.leaves_content())
            }
        };
        let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.clock.now());
        self.record_end(&upload, fence, keeps_content).await.map_err(failed("commit"))?;
        self.ledger.record(&upload);
        tracing::info!(upload = %upload.id.short(), bytes = %upload.offset, "complete");
        Ok(reply)
    }

    /// Records an upload's last answer, and frees its content in the same step unless that stays: between two steps a crash
    /// would leave content that no later run knows to be superfluous.
    async fn record_end(&self, upload: &Upload, fence: Fence, keeps_content: bool) -> Result<(), Error> {
        if keeps_content {
            self.store.commit(upload, fence).await
        } else {
            self.store.commit_and_discard(upload, fence).await
        }
    }

    async fn hand_over(
        &self,
        upload: &Upload,
        fence: Fence,
        length_is_stored: bool,
    ) -> Result<TargetResponse, Error> {
        // The record alone must tell a crash's survivor that the upload is whole, before anybody outside sees it.
        if !self.target.leaves_content() && !length_is_stored {
            self.store.commit(upload, fence).await?;
        }
        let representation = Representation { upload, store: &*self.store, fence, endpoint: &self.endpoint };
        self.target.deliver(representation).await
    }

    /// Ends an upload whose target has seen enough of it. Nothing where more is to come.
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
        let (id, fence) = (claim.id(), claim.fence());
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        let representation =
            Representation { upload: &upload, store: &*self.store, fence, endpoint: &self.endpoint };
        let answer = match self.target.answer_early(representation).await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(None),
            Err(failure) => {
                error::refusal("ask the target", id, &failure);
                return Ok(None);
            }
        };
        let goes_well = answer.status.is_success();
        let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.clock.now());
        let keeps_content = goes_well && self.target.leaves_content();
        self.record_end(&upload, fence, keeps_content).await.map_err(failed("commit"))?;
        self.ledger.record(&upload);
        self.digests.forget(id);
        Ok(Some(reply))
    }

    /// Delivers an upload that is whole and was not, for a crash or a cut in between.
    pub(crate) async fn deliver_due(&self, claim: &Claim, upload: Upload) -> Result<Upload, Refusal> {
        let mut upload = upload;
        let length_is_stored = upload.length.is_some();
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        self.deliver(claim, upload, false, length_is_stored, None).await?;
        self.fetch(claim).await?.ok_or(Refusal::NotFound)
    }

    /// Frees everything of an upload.
    //= IETF-DEL-01, IETF-DEL-06
    pub(crate) async fn remove(&self, claim: &Claim) -> Result<(), Refusal> {
        let id: UploadId = claim.id();
        let removed = self.store.remove(id, claim.fence()).await;
        removed.map_err(|failure| error::refusal("remove", id, &failure))?;
        self.ledger.forget(id);
        self.digests.forget(id);
        self.backlog.done(id);
        tracing::debug!(upload = %id.short(), "removed");
        Ok(())
    }
}
