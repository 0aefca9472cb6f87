//! An upload composed of others: its creation, its state while its parts arrive, and the joining of these once all are
//! complete.

use std::collections::HashMap;
use std::net::IpAddr;

use hoist_proto::engine::{UploadRequest, composition};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Durable, Length, UploadId};
use hoist_proto::upload::{Composition, IndexedParts, Phase, State, Upload};

use crate::claim::Claim;
use crate::finish::{Finished, Received};
use crate::request_scope::RequestScope;
use crate::shared::Shared;
use crate::transition::Removal;
use crate::{answer, error};

impl Shared {
    //= TUS1-TRM-05
    //= TUS1-CAT-04, TUS1-CAT-12, TUS1-CAT-14, TOK-IDX-07
    pub(crate) async fn compose(
        &self,
        claim: Claim,
        request: &UploadRequest,
        client: Option<IpAddr>,
    ) -> Result<Reply, Refusal> {
        let Operation::Create(create) = &request.operation else { return Err(Reason::Internal.into()) };
        let Composition::Concatenated(ids) = &create.composition else { return Err(Reason::Internal.into()) };
        let mut seen = HashMap::new();
        for id in ids {
            if !seen.contains_key(id) {
                seen.insert(*id, self.peek(*id).await?);
            }
        }
        let parts: Vec<_> = ids.iter().map(|id| seen.get(id).cloned().flatten()).collect();
        drop(seen);
        let mut upload = composition::compose(create, request, &parts, &self.policy, self.clock.now())?;
        drop(parts);
        self.ledger.ready().await?;
        let claim = &self.pre_create(claim, &mut upload).await?;
        let reservation = self.ledger.admit(&upload, Some(0), client)?;
        self.create_empty(claim, &mut upload, reservation).await?;
        self.pending_parts.add(&upload);
        let id = upload.id;
        let composed = match self.try_join(claim, upload.clone()).await {
            Ok(composed) => composed,
            Err(refusal) => {
                // No client has learned of the upload.
                match self.remove(claim, &upload, Removal::Discarded).await {
                    Ok(()) | Err(Refusal { reason: Reason::NotFound, .. }) => {}
                    Err(failure) => return Err(failure),
                }
                return Err(match refusal.reason {
                    //= TUS1-CAT-06
                    Reason::NotFound | Reason::Gone => {
                        Reason::UnusablePart { detail: "a part is gone".into() }.into()
                    }
                    _ => refusal,
                });
            }
        };
        let state = State::from(&composed);
        Ok(match composed.phase {
            Phase::Delivered(answer) | Phase::Failed(answer) => {
                Reply::Complete { id, created: true, state, answer }
            }
            Phase::Open | Phase::Received => Reply::Stored { id, created: true, state },
        })
    }

    /// Returns the state of an upload. That of an incomplete composed upload is computed from its parts.
    //= TOK-IDX-04, TUS1-CAT-10, TUS1-CAT-13
    pub(crate) async fn state_of(&self, upload: &Upload) -> Result<State, Refusal> {
        let mut state = State::from(upload);
        let (highest, last) = match &upload.composition {
            _ if upload.is_complete() => return Ok(state),
            Composition::Direct | Composition::Part => return Ok(state),
            Composition::Concatenated(parts) => {
                if state.length.is_none() {
                    state.length = self.declared_length(parts).await?;
                }
                return Ok(state);
            }
            Composition::Indexed(IndexedParts { started, last }) => (started.highest(), *last),
        };
        let mut parts = Vec::new();
        for number in last.unwrap_or(highest).up_to() {
            let part = self.peek(self.ids.of_part(upload.id, number)).await?;
            // Parts after an incomplete one contribute their length alone, and that only if the last part is known.
            let goes_on = part.as_ref().is_some_and(|part| last.is_some() || part.is_complete());
            parts.push(part);
            if !goes_on {
                break;
            }
        }
        let gathered = composition::progress(parts.iter().map(Option::as_ref));
        state.offset = gathered.offset;
        state.length = gathered.length.filter(|_| last.is_some());
        Ok(state)
    }

    /// Returns the total of the parts' lengths, if the length of each is known.
    async fn declared_length(&self, parts: &[UploadId]) -> Result<Option<Length>, Refusal> {
        let mut known: HashMap<UploadId, Length> = HashMap::new();
        let mut sum = 0_u64;
        for id in parts {
            if !known.contains_key(id) {
                let Some(length) = self.peek(*id).await?.and_then(|part| part.length) else {
                    return Ok(None);
                };
                known.insert(*id, length);
            }
            sum = sum.saturating_add(known[id].get());
        }
        Ok(Some(Length::new(sum)))
    }

    /// Extends the life of an expired indexed upload to that of a part that has not expired.
    pub(crate) async fn refreshed(&self, upload: Upload) -> Result<Upload, Refusal> {
        let Composition::Indexed(IndexedParts { started, .. }) = &upload.composition else {
            return Ok(upload);
        };
        if upload.is_complete() || !upload.is_expired(self.clock.now()) {
            return Ok(upload);
        }
        let mut renewed = upload.touched;
        for number in started.iter() {
            let part = self.peek(self.ids.of_part(upload.id, number)).await?;
            if let Some(part) = part.filter(|part| !part.is_expired(self.clock.now())) {
                renewed = renewed.max(part.touched);
                break;
            }
        }
        Ok(Upload { touched: renewed, ..upload })
    }

    /// Joins the uploads that wait for a part, after it has become complete or has been removed.
    //= TUS1-CAT-13
    pub(crate) async fn wake(&self, part: UploadId, scope: &RequestScope) {
        for composed in self.pending_parts.of(part) {
            // The response is about the part.
            let scope = RequestScope::new(scope.facts.clone());
            if let Err(refusal) = self.finish_composed(composed, &scope).await {
                // Joined when a client next asks for the upload, and at the next start.
                let upload = composed.short();
                tracing::debug!(%upload, refusal = refusal.title(), "cannot join the parts yet");
            }
        }
    }

    /// Joins and delivers a composed upload if its parts are complete. Returns `None` if it is gone, or if another request
    /// keeps its claim too long; the sweep then joins it.
    pub(super) async fn finish_composed(
        &self,
        id: UploadId,
        scope: &RequestScope,
    ) -> Result<Option<Upload>, Refusal> {
        let Ok(claim) = self.claims.take_idle(id).await else {
            self.backlog.add(id);
            return Ok(None);
        };
        let claim = claim.of(scope);
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
        let received =
            Received { upload, created: false, length_is_stored: false, end_is_stored: false, hashes: None };
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
                let Ok(claim) = claims.take_idle(part).await else { continue };
                if let Err(failure) = store.discard(part, claim.fence()).await {
                    error::refusal("discard", part, &failure);
                }
            }
        });
    }
}
