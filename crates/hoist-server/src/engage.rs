//! The first half of the life of a request: admit, name, claim, load, size, decide.
//!
//! Every request passes through [`Hoist::engage`], in a dialect or in none. It ends with a [`Decision`] about an upload
//! whose claim the request holds.

use hoist_proto::dialect::tus1;
use hoist_proto::engine::{self, Decision, UploadRequest};
use hoist_proto::operation::{Decoded, Operation, Reply, Subject};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::{Composition, Family, State, Upload};
use http::Method;
use http::request::Parts;

use crate::claim::{Claim, Denied, Occupied, Requester, Transfer};
use crate::intake::{self, Content};
use crate::parts::{ClaimedParent, IndexedPart};
use crate::shared::{CLAIM_TIMEOUT, Hoist, Shared};
use crate::upload_id;

/// A request that has been decided.
pub(crate) enum Engaged {
    /// The request holds the claim of its upload.
    Claimed(Box<Claimed>),
    /// Another request keeps the claim, and the answer does not depend on it.
    Answered(Reply),
}

/// A request that holds the claim of its upload, and the decision about it.
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    /// The upload as it is stored.
    pub(crate) known: Option<Upload>,
    pub(crate) request: UploadRequest,
    pub(crate) decision: Decision,
    /// The parent, if the upload is a part of an indexed one.
    pub(crate) parent: Option<ClaimedParent>,
}

/// A request refused before it was decided.
pub(crate) struct Refused {
    /// The family of the upload, if that decides the dialect of the answer.
    pub(crate) family: Option<Family>,
    pub(crate) refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { family: None, refusal }
    }
}

/// The source of the family of dialects that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilyFrom {
    /// The dialect of the request.
    Dialect,
    /// The upload: the request is in no dialect.
    Upload,
}

impl Hoist {
    /// Admits a request, claims and loads its upload, and decides what to do.
    ///
    /// # Errors
    /// Returns the refusal of a request that is not admitted, or whose upload cannot be claimed or loaded.
    ///
    /// # Cancellation
    /// Safe to drop. The transfer that the claim ended stays ended.
    pub(crate) async fn engage<B: Content>(
        &self,
        family_from: FamilyFrom,
        decoded: Decoded,
        head: &Parts,
        body: &mut B,
    ) -> Result<Engaged, Refused> {
        let shared = self.shared();
        let principal = shared.auth.admit(head).await?; // first: an unauthorized request must not end a transfer
        let (mut request, part) = shared.name(decoded, principal)?;
        let parent = match part {
            Some(part) => Some(ClaimedParent::claim(shared, part, &request).await?),
            None => None,
        };
        let claim = match family_from {
            FamilyFrom::Upload => shared.claim_by_url(&request, &head.method).await?,
            FamilyFrom::Dialect => match shared.claim(&request).await {
                Err(Refusal { reason: Reason::Busy, .. }) if parent.is_none() => {
                    return Ok(Engaged::Answered(shared.answer_unclaimed(&request).await?));
                }
                claim => claim?, // ends the transfer of the request before this one
            },
        };
        let (claim, known) = self.load(claim).await?; // after the claim, so never stale
        if family_from == FamilyFrom::Upload {
            request.family = shared.family_of(known.as_ref(), &request)?;
        }
        intake::know_size(&claim, shared, &mut request, known.as_ref(), body).await?;
        let mut decision = shared.decide(known.as_ref(), &request);
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
        match self.shared().fetch(&claim).await? {
            // A target that fails now may succeed later; meanwhile the stored state can be told.
            Some(upload) if upload.awaits_delivery() => {
                self.own(move |shared| async move {
                    let delivered = shared.deliver_due(&claim, upload.clone()).await;
                    Ok((claim, Some(delivered.unwrap_or(upload))))
                })
                .await
            }
            Some(upload) if upload.composition.is_composed() && !upload.is_complete() => {
                self.own(move |shared| async move {
                    let upload = shared.refreshed(upload).await?;
                    let joined = shared.try_join(&claim, upload).await?;
                    Ok((claim, Some(joined)))
                })
                .await
            }
            known => Ok((claim, known)),
        }
    }
}

impl Shared {
    fn decide(&self, known: Option<&Upload>, request: &UploadRequest) -> Decision {
        engine::decide(known, request, &self.policy, self.clock.now())
    }

    /// Determines the upload of a request, and the indexed upload if that is a part of one.
    fn name(
        &self,
        decoded: Decoded,
        principal: Option<Principal>,
    ) -> Result<(UploadRequest, Option<IndexedPart>), Refusal> {
        let Decoded { subject, family, mut operation } = decoded;
        let mut indexed = None;
        let id = match subject {
            //= TOK-TOKEN-05
            Subject::Token(token) | Subject::Part(token, _)
                if token.octets() < self.policy.token_octets_min =>
            {
                let least = self.policy.token_octets_min;
                return Err(Refusal::field(
                    "Upload-Token",
                    format!("must have at least {least} octets here"),
                ));
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

    /// Claims the upload of a request in a dialect. Ends the transfer that is running on it, unless the request would be
    /// refused in any state of the upload.
    async fn claim(&self, request: &UploadRequest) -> Result<Claim, Refusal> {
        let limits = &self.policy.limits;
        match &request.operation {
            // A creation never ends a transfer.
            Operation::Create(_) => {
                self.claim_idle(request, |state| Reason::UploadExists.with_state(state)).await
            }
            Operation::Reject(refusal) => {
                self.claim_idle(request, |state| Refusal { state: Some(state), ..refusal.clone() }).await
            }
            Operation::Append(append) if engine::exceeds_limits(append, limits, None).is_some() => {
                let beyond = |state| engine::exceeds_limits(append, limits, Some(state));
                self.claim_idle(request, |state| {
                    beyond(state).unwrap_or(Reason::UploadExists.with_state(state))
                })
                .await
            }
            Operation::Append(_) | Operation::Retrieve | Operation::Cancel => {
                self.claim_and_end(request.id, Requester::of(request)).await
            }
        }
    }

    /// Claims the upload of a request in no dialect, as [`claim`](Self::claim) does. A running transfer tells the family of
    /// the upload, and a request that is refused in that family does not end it.
    async fn claim_by_url(&self, request: &UploadRequest, method: &Method) -> Result<Claim, Refused> {
        let requester = Requester { principal: request.principal.as_ref(), family: None };
        match self.claims.take_idle(request.id, CLAIM_TIMEOUT).await {
            Ok(claim) => return Ok(claim),
            Err(Occupied::Busy) => return Err(Refusal::from(Reason::Busy).into()),
            Err(Occupied::Transferring(transfer)) if !requester.may_see(&transfer) => {
                return Err(Refusal::from(Reason::NotFound).into());
            }
            Err(Occupied::Transferring(Transfer { family, .. })) => {
                let incomplete = || {
                    Reason::Forbidden("the content of this upload can be fetched once it is complete".into())
                        .into()
                };
                let fetches = self.settings.downloads && method == Method::GET;
                let refusal = unsupported(family, method).or_else(|| fetches.then(incomplete));
                if let Some(refusal) = refusal {
                    return Err(Refused { family: Some(family), refusal });
                }
            }
        }
        Ok(self.claim_and_end(request.id, requester).await?)
    }

    /// Claims an upload, and ends the transfer that is running on it.
    async fn claim_and_end(&self, id: UploadId, requester: Requester<'_>) -> Result<Claim, Refusal> {
        let taken = self.claims.take(id, requester, CLAIM_TIMEOUT).await;
        taken.map_err(|denied| match denied {
            Denied::Busy => Reason::Busy.into(),
            Denied::NotOwner => Reason::NotFound.into(),
        })
    }

    /// Claims the upload of a request if no transfer is running on it. Otherwise the request gets `refusal`.
    async fn claim_idle(
        &self,
        request: &UploadRequest,
        refusal: impl FnOnce(State) -> Refusal,
    ) -> Result<Claim, Refusal> {
        let taken = self.claims.take_idle(request.id, CLAIM_TIMEOUT).await;
        taken.map_err(|occupied| match occupied {
            Occupied::Transferring(transfer) if Requester::of(request).may_see(&transfer) => {
                refusal(transfer.state)
            }
            Occupied::Transferring(_) => Reason::NotFound.into(),
            Occupied::Busy => Reason::Busy.into(),
        })
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
            Decision::Answer(Reply::State { id, state, described })
                if state.length.is_some_and(|length| length.is_reached(state.offset.offset())) =>
            {
                Ok(Reply::State { id, state, described })
            }
            _ => Err(Reason::Busy.into()),
        }
    }

    /// Returns the family of the upload of a request in no dialect.
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
    match (family, method) {
        (Family::Tus1, &Method::DELETE) => Some(Reason::UnsupportedTusVersion.into()),
        (Family::Tus1, &Method::GET) => {
            Some(Reason::MethodNotAllowed { allow: tus1::METHODS_OF_UPLOAD }.into())
        }
        (Family::Conventional, &Method::GET | &Method::HEAD) => {
            Some(Reason::Forbidden("the content of uploads cannot be downloaded from here".into()).into())
        }
        (Family::Token, _) => Some(Reason::NotFound.into()),
        _ => None,
    }
}
