//! The first half of the life of a request: admit, name, claim, load, size, decide.
//!
//! Every request passes through [`Shared::admit`] and then [`Hoist::engage`], in a dialect or in none. It ends with a
//! [`Decision`] about an upload whose claim the request holds. An offset query that the memory can answer ends before.

use hoist_proto::dialect::tus1;
use hoist_proto::engine::{self, Decision, UploadRequest};
use hoist_proto::operation::{Append, Decoded, Operation, Reply, Subject};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::{Composition, Family, Upload};
use http::Method;
use http::request::Parts;

use crate::admission::Brings;
use crate::claim::{Claim, Denied, Occupied, Requester};
use crate::intake::{self, Content};
use crate::observe::Event;
use crate::parts::{ClaimedParent, IndexedPart};
use crate::request_scope::RequestScope;
use crate::shared::{Hoist, Shared};
use crate::upload_id;

/// A request of a principal that was admitted, and the id of its upload.
pub(crate) struct Admitted {
    request: UploadRequest,
    /// The part, if the upload is one of an indexed upload.
    part: Option<IndexedPart>,
    /// True if the id was made up for this request.
    is_fresh: bool,
    scope: RequestScope,
}

/// A request that has been decided.
pub(crate) enum Engaged {
    /// The request holds the claim of its upload.
    Claimed(Box<Claimed>),
    /// Another request keeps the claim, and the outcome does not depend on it. Holds the family of the upload.
    Answered(Family, Result<Reply, Refusal>),
}

/// A request that holds the claim of its upload, and the decision about it.
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) known: Option<Upload>,
    pub(crate) request: UploadRequest,
    pub(crate) decision: Decision,
    /// The parent, if the upload is a part of an indexed one.
    pub(crate) parent: Option<ClaimedParent>,
}

/// The source of the family of a request: its dialect, or, if it is in no dialect, its upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyFrom {
    Dialect,
    Upload,
}

impl Hoist {
    /// Claims and loads the upload of a request, and decides what to do.
    ///
    /// # Cancellation
    /// Safe to drop. The transfer that the claim ended stays ended.
    pub(crate) async fn engage<B: Content>(
        &self,
        family_from: FamilyFrom,
        admitted: Admitted,
        method: &Method,
        body: &mut B,
    ) -> Result<Engaged, Refusal> {
        let shared = self.shared();
        let Admitted { mut request, part, is_fresh, scope } = admitted;
        let parent = match part {
            Some(part) => Some(Box::pin(ClaimedParent::claim(shared, part, &request, &scope)).await?),
            None => None,
        };
        let claim = match family_from {
            FamilyFrom::Upload => match Box::pin(shared.claim_by_url(&request, method)).await? {
                Ok(claim) => claim,
                Err((family, refusal)) => return Ok(Engaged::Answered(family, Err(refusal))),
            },
            FamilyFrom::Dialect => match shared.claim(&request).await {
                Err(Refusal { reason: Reason::Busy, .. }) if parent.is_none() => {
                    let outcome = Box::pin(shared.answer_unclaimed(&request)).await;
                    return Ok(Engaged::Answered(request.family, outcome));
                }
                claim => claim?, // ends the transfer of the request before this one
            },
        };
        let claim = claim.of(&scope);
        // After the claim, so never stale. No upload has an id that was made up for this request; if one did, the store would
        // refuse to create it.
        let (claim, known) = if is_fresh { (claim, None) } else { self.load(claim).await? };
        if let Some(known) = &known {
            scope.set_alias(known.alias.as_deref());
        }
        if family_from == FamilyFrom::Upload {
            request.family = shared.family_of(known.as_ref(), &request)?;
        }
        Box::pin(intake::know_size(&claim, shared, &mut request, known.as_ref(), body)).await?;
        let mut decision = shared.decide(known.as_ref(), &request);
        if let (Some(refusal), Some(known)) = (scope.refused_finish(), &known) {
            decision = unfinished(decision, refusal, known, &request.operation);
        }
        if let Decision::Refuse(refusal) = &mut decision
            && refusal.reason == Reason::NotFound
            && shared.tombstones.knows(request.id, request.principal.as_ref())
        {
            //= TUS1-HEAD-05, TUS1-PATCH-07, TUS1-TRM-02
            *refusal = Reason::Gone.into();
        }
        if let Some(parent) = &parent {
            parent.require_open(&decision)?;
        }
        Ok(Engaged::Claimed(Box::new(Claimed { claim, known, request, decision, parent })))
    }

    /// Loads the claimed upload. Content that is complete is delivered first, so that no request finds an upload in
    /// between.
    //= IETF-RES-01, IETF-RET-09, IETF-CON-03, IETF-CON-07
    async fn load(&self, claim: Claim) -> Result<(Claim, Option<Upload>), Refusal> {
        let mut known = self.shared().fetch(&claim).await?;
        let is_due = |upload: &mut Upload| {
            upload.awaits_delivery() || upload.composition.is_composed() && !upload.is_complete()
        };
        let Some(upload) = known.take_if(is_due) else { return Ok((claim, known)) };
        let settled = self.own(move |shared| async move {
            let upload = if upload.awaits_delivery() {
                // A target that fails now may succeed later; meanwhile the stored state is reported.
                shared.deliver_due(&claim, upload.clone()).await.unwrap_or(upload)
            } else {
                shared.try_join(&claim, shared.refreshed(upload).await?).await?
            };
            Ok((claim, Some(upload)))
        });
        Box::pin(settled).await
    }
}

/// Returns a decision about an upload that has all its content, and of which a hook has just refused that it is complete. A
/// request that would complete it gets the hook's refusal, and others learn that it is not complete.
fn unfinished(mut decision: Decision, refusal: Refusal, upload: &Upload, operation: &Operation) -> Decision {
    let completes = |append: &Append| append.at == upload.offset.offset() && append.content.bytes == Some(0);
    if matches!(operation, Operation::Append(append) if completes(append)) {
        decision = Decision::Refuse(Refusal { state: Some(upload.into()), ..refusal });
    }
    match &mut decision {
        Decision::Refuse(Refusal { state: Some(state), .. })
        | Decision::Answer(Reply::State { state, .. }) => state.complete = false,
        _ => {}
    }
    decision
}

impl Shared {
    /// Admits and names a request. The first step: an unauthorized request must not end a transfer.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn admit(
        &self,
        decoded: Decoded,
        head: &Parts,
        scope: RequestScope,
    ) -> Result<Admitted, Refusal> {
        let principal = self.auth.admit(head).await?;
        let is_fresh = decoded.subject == Subject::Fresh;
        let (request, part) = self.name(decoded, principal)?;
        Ok(Admitted { request, part, is_fresh, scope })
    }

    /// Answers an offset query from memory: the answer is that of a claim, a load and a decision at this moment. Returns it
    /// with the family of the upload.
    ///
    /// Returns `None`, without an effect, for any other request, if a request holds or waits for the claim, if the state is
    /// not in memory, or if the answer takes more than the state.
    pub(crate) fn answer_from_memory(
        &self,
        admitted: &mut Admitted,
        family_from: FamilyFrom,
    ) -> Option<(Family, Reply)> {
        let Admitted { request, part: None, .. } = admitted else { return None };
        if request.operation != Operation::Retrieve {
            return None;
        }
        let upload = self.claims.while_free(request.id, || self.store.recall(request.id))?;
        let is_plain = match upload.composition {
            Composition::Direct | Composition::Part => !upload.awaits_delivery(),
            Composition::Concatenated(_) | Composition::Indexed(_) => false,
        };
        if !is_plain {
            return None;
        }
        if family_from == FamilyFrom::Upload {
            request.family = self.family_of(Some(&upload), request).ok()?;
        }
        self.ledger.record(&upload);
        match self.decide(Some(&self.clock.correct(upload)), request) {
            Decision::Answer(reply @ Reply::State { .. }) => Some((request.family, reply)),
            _ => None,
        }
    }

    fn decide(&self, known: Option<&Upload>, request: &UploadRequest) -> Decision {
        engine::decide(known, request, &self.policy, self.clock.now())
    }

    fn name(
        &self,
        decoded: Decoded,
        principal: Option<Principal>,
    ) -> Result<(UploadRequest, Option<IndexedPart>), Refusal> {
        let Decoded { subject, family, mut operation } = decoded;
        let (mut indexed, least) = (None, self.policy.token_octets_min);
        let id = match subject {
            //= TOK-TOKEN-05
            Subject::Token(token) | Subject::Part(token, _) if token.octets() < least => {
                let problem = format!("must have at least {least} octets here");
                return Err(Refusal::field("Upload-Token", problem));
            }
            Subject::Token(token) => self.ids.of_token(principal.as_ref(), &token),
            Subject::Part(token, part) => {
                let parent = self.ids.of_token(principal.as_ref(), &token);
                indexed = Some(IndexedPart { parent, part });
                if let Operation::Create(create) = &mut operation {
                    create.composition = Composition::Part;
                }
                self.ids.of_part(parent, part.number)
            }
            Subject::Id(id) => id,
            Subject::Fresh => upload_id::random_id().map_err(|failure| {
                tracing::error!(error = %failure, "the operating system provides no random numbers");
                Reason::Internal
            })?,
        };
        Ok((UploadRequest { id, principal, family, operation }, indexed))
    }

    /// Claims the upload of a request in a dialect. Ends the transfer that is running on it, unless the request is a
    /// creation, or would be refused in any state of the upload.
    async fn claim(&self, request: &UploadRequest) -> Result<Claim, Refusal> {
        let limits = &self.policy.limits;
        let ends_transfer = match &request.operation {
            Operation::Create(_) | Operation::Reject(_) => false,
            Operation::Append(append) => {
                self.mode.refuses(Brings::Content).is_none()
                    && engine::exceeds_limits(append, limits, None).is_none()
            }
            Operation::Retrieve | Operation::Cancel => true,
        };
        if ends_transfer {
            return self.claim_and_end(request.id, Requester::of(request)).await;
        }
        let claimed = self.claims.take_idle(request.id).await;
        claimed.map_err(|occupied| match occupied {
            Occupied::Transferring(transfer) if Requester::of(request).may_see(&transfer) => {
                let state = transfer.state;
                let refusal = match &request.operation {
                    Operation::Reject(refusal) => Some(Refusal { state: Some(state), ..refusal.clone() }),
                    Operation::Append(append) => {
                        let refused = self.mode.refuses(Brings::Content);
                        let refused = refused.map(|reason| reason.with_state(state));
                        refused.or_else(|| engine::exceeds_limits(append, limits, Some(state)))
                    }
                    Operation::Create(_) | Operation::Retrieve | Operation::Cancel => None,
                };
                refusal.unwrap_or(Reason::UploadExists.with_state(state))
            }
            Occupied::Transferring(_) => Reason::NotFound.into(),
            Occupied::Busy => Reason::Busy.into(),
        })
    }

    /// Claims the upload of a request in no dialect, as [`claim`](Self::claim) does. A running transfer tells the family of
    /// the upload. A request that is refused in that family does not end it, and gets the refusal in that family.
    async fn claim_by_url(
        &self,
        request: &UploadRequest,
        method: &Method,
    ) -> Result<Result<Claim, (Family, Refusal)>, Refusal> {
        let requester = Requester { principal: request.principal.as_ref(), family: None };
        let family = match self.claims.take_idle(request.id).await {
            Ok(claim) => return Ok(Ok(claim)),
            Err(Occupied::Busy) => return Err(Reason::Busy.into()),
            Err(Occupied::Transferring(transfer)) if requester.may_see(&transfer) => transfer.family,
            Err(Occupied::Transferring(_)) => return Err(Reason::NotFound.into()),
        };
        if let Some(refusal) = unsupported(family, method) {
            return Ok(Err((family, refusal)));
        }
        if self.settings.downloads && method == Method::GET {
            let incomplete = "the content of this upload can be fetched once it is complete";
            return Ok(Err((family, Reason::Forbidden(incomplete.into()).into())));
        }
        self.claim_and_end(request.id, requester).await.map(Ok)
    }

    async fn claim_and_end(&self, id: UploadId, requester: Requester<'_>) -> Result<Claim, Refusal> {
        let claim = self.claims.take(id, requester).await.map_err(|denied| match denied {
            Denied::Busy => Reason::Busy,
            Denied::NotOwner => Reason::NotFound,
        })?;
        if let Some(waited) = claim.took_over() {
            self.observers.tell(&Event::TookOver(waited));
        }
        Ok(claim)
    }

    /// Answers an offset query while another request keeps the claim. Only for a full upload, whose offset cannot change:
    /// its target is at work.
    //= IETF-CON-07
    async fn answer_unclaimed(&self, request: &UploadRequest) -> Result<Reply, Refusal> {
        if request.operation != Operation::Retrieve {
            return Err(Reason::Busy.into());
        }
        let known = self.peek(request.id).await?;
        match self.decide(known.as_ref(), request) {
            Decision::Answer(reply @ Reply::State { state, .. })
                if state.length.is_some_and(|length| length.is_reached(state.offset.offset())) =>
            {
                Ok(reply)
            }
            _ => Err(Reason::Busy.into()),
        }
    }

    fn family_of(&self, known: Option<&Upload>, request: &UploadRequest) -> Result<Family, Refusal> {
        match known {
            // A token upload has no URL.
            Some(upload) if upload.family == Family::Token => Err(Reason::NotFound.into()),
            Some(upload) => Ok(upload.family),
            //= TUS1-HEAD-05, TUS1-TRM-02
            None if self.tombstones.knows(request.id, request.principal.as_ref()) => Ok(Family::Tus1),
            None => Err(Reason::NotFound.into()),
        }
    }
}

/// Returns the refusal of a request in no dialect whose method an upload of this family does not support.
//= TUS1-DF-16, IETF-SEC-09
pub(crate) fn unsupported(family: Family, method: &Method) -> Option<Refusal> {
    let reason = match (family, method) {
        (Family::Tus1, &Method::DELETE) => Reason::UnsupportedTusVersion,
        (Family::Tus1, &Method::GET) => Reason::MethodNotAllowed { allow: tus1::METHODS_OF_UPLOAD },
        (Family::Conventional, &Method::GET | &Method::HEAD) => {
            Reason::Forbidden("the content of uploads cannot be downloaded from here".into())
        }
        (Family::Token, _) => Reason::NotFound,
        _ => return None,
    };
    Some(reason.into())
}

#[cfg(test)]
mod tests;
