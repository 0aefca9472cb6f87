//! The joining of parts into the upload composed of them, once all are complete.

use std::collections::HashMap;

use hoist_proto::engine::composition;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Durable, Length, UploadId};
use hoist_proto::upload::{Composition, IndexedParts, Phase, Upload};

use crate::claim::Claim;
use crate::finish::{Finished, Received};
use crate::shared::{CLAIM_TIMEOUT, Shared};
use crate::transition::Removal;
use crate::{answer, error};

impl Shared {
    /// Joins the uploads that wait for a part, after it has become complete or has been removed.
    //= TUS1-CAT-13
    pub(crate) async fn wake(&self, part: UploadId) {
        for composed in self.pending_parts.of(part) {
            if let Err(refusal) = self.finish_composed(composed).await {
                // Joined when a client next asks for the upload, and at the next start.
                let upload = composed.short();
                tracing::debug!(%upload, refusal = refusal.title(), "cannot join the parts yet");
            }
        }
    }

    /// Joins and delivers a composed upload if its parts are complete. Returns `None` if it is gone, or if another request
    /// keeps its claim too long; the sweep then joins it.
    pub(super) async fn finish_composed(&self, id: UploadId) -> Result<Option<Upload>, Refusal> {
        let Ok(claim) = self.claims.take_idle(id, CLAIM_TIMEOUT).await else {
            self.backlog.add(id);
            return Ok(None);
        };
        match self.fetch(&claim).await? {
            Some(composed) if !composed.is_complete() => self.try_join(&claim, composed).await.map(Some),
            composed => Ok(composed),
        }
    }

    /// Joins and delivers an open composed upload if all of its parts are complete. Otherwise returns it unchanged.
    //= TOK-IDX-03, TUS1-CAT-13
    pub(crate) async fn try_join(&self, claim: &Claim, mut upload: Upload) -> Result<Upload, Refusal> {
        let Some(parts) = self.parts_of(&upload) else { return Ok(upload) };
        if self.backlog.wait(upload.id).is_some() {
            return Ok(upload);
        }
        // Joining is all or nothing, so content means that a crash came after it.
        if upload.offset == Durable::ZERO {
            let Some(length) = self.joined_length(claim, &upload, &parts).await? else { return Ok(upload) };
            if let Err(refusal) = composition::check_total_length(Some(length), &self.policy.limits) {
                let Finished { upload, .. } =
                    self.finish(claim, upload, answer::kept(&refusal), false, true).await?;
                self.release_parts(&upload, parts);
                return Ok(upload);
            }
            let joined = self.store.join(upload.id, &parts, claim.fence()).await;
            upload.offset = joined.map_err(|failure| {
                self.backlog.failed(upload.id);
                error::refusal("join", upload.id, &failure)
            })?;
        }
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        let received = Received { upload, created: false, length_is_stored: false, hashes: None };
        let Finished { upload, .. } = self.deliver(claim, received).await?;
        self.release_parts(&upload, parts);
        Ok(upload)
    }

    /// Returns the parts of a composed upload in order, or `None` if the last one is unknown or some have not started.
    fn parts_of(&self, upload: &Upload) -> Option<Vec<UploadId>> {
        match &upload.composition {
            Composition::Direct | Composition::Part => None,
            Composition::Concatenated(parts) => Some(parts.clone()),
            Composition::Indexed(IndexedParts { started, last }) => {
                let last = last.filter(|last| started.covers(*last))?;
                Some(last.up_to().map(|number| self.ids.of_part(upload.id, number)).collect())
            }
        }
    }

    /// Returns the total length of the parts, or `None` if one of them is not complete.
    ///
    /// # Errors
    /// Returns [`Reason::Gone`] after removing an upload that names a part which no longer exists.
    async fn joined_length(
        &self,
        claim: &Claim,
        upload: &Upload,
        parts: &[UploadId],
    ) -> Result<Option<Length>, Refusal> {
        let is_indexed = matches!(upload.composition, Composition::Indexed(_));
        let gap = self.pending_parts.gap(upload.id).filter(|_| is_indexed);
        if let Some(part) = gap.and_then(|gap| parts.get(gap))
            && !self.peek(*part).await?.is_some_and(|part| part.is_complete())
        {
            return Ok(None);
        }
        let mut known: HashMap<UploadId, u64> = HashMap::new();
        let mut sum = 0_u64;
        for (index, part) in parts.iter().enumerate() {
            let length = match known.get(part) {
                Some(length) => *length,
                None => match (self.peek(*part).await?, &upload.composition) {
                    (Some(part), _) if part.is_complete() => part.offset.offset().get(),
                    // It existed when the upload was created, and cannot come back.
                    (None, Composition::Concatenated(_)) => {
                        self.remove(claim, upload, Removal::PartGone).await?;
                        return Err(Reason::Gone.into());
                    }
                    (Some(_) | None, _) => {
                        self.pending_parts.set_gap(upload.id, index);
                        return Ok(None);
                    }
                },
            };
            known.insert(*part, length);
            sum = sum.saturating_add(length);
        }
        Ok(Some(Length::new(sum)))
    }

    /// Frees the content of indexed parts, which no client can use otherwise, and keeps their records. Other parts may be
    /// used again.
    fn release_parts(&self, composed: &Upload, parts: Vec<UploadId>) {
        if !matches!(composed.composition, Composition::Indexed(_)) {
            return;
        }
        let (claims, store) = (self.claims.clone(), self.store.clone());
        self.tasks.spawn(async move {
            for part in parts {
                let Ok(claim) = claims.take_idle(part, CLAIM_TIMEOUT).await else { continue };
                if let Err(failure) = store.discard(part, claim.fence()).await {
                    error::refusal("discard", part, &failure);
                }
            }
        });
    }
}
