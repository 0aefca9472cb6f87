//! Requests on a part of an indexed upload: they create its parent, extend it and complete it.

use std::net::IpAddr;

use hoist_proto::engine::{Decision, UploadRequest, composition};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{PartNumber, UploadId};
use hoist_proto::upload::{Composition, IndexedParts, Part, Phase, State, Upload};

use crate::claim::{Claim, Occupied};
use crate::error;
use crate::pending_parts::PartRequest;
use crate::request_scope::RequestScope;
use crate::shared::Shared;
use crate::transition::Removal;

/// A part of an indexed upload, as a request names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexedPart {
    pub(crate) parent: UploadId,
    pub(crate) part: Part,
}

/// The parent of a part, claimed until the request on the part is decided.
pub(crate) struct ClaimedParent {
    part: IndexedPart,
    claim: Claim,
    known: Option<Upload>,
    /// The parts of the parent once the request is carried out.
    parts: Option<IndexedParts>,
    request: PartRequest,
}

/// The parent of a part whose request is carried out.
pub(crate) struct RegisteredPart {
    part: IndexedPart,
    request: PartRequest,
    /// True if the request created the parent.
    created: bool,
    scope: RequestScope,
}

impl ClaimedParent {
    /// Claims the parent of a part, and checks that it may have this part.
    //= TOK-IDX-01, TOK-IDX-02, TOK-IDX-04b, TOK-IDX-05, TOK-IDX-06
    pub(crate) async fn claim(
        shared: &Shared,
        part: IndexedPart,
        request: &UploadRequest,
        scope: &RequestScope,
    ) -> Result<Self, Refusal> {
        let claim = shared.claims.take_idle(part.parent).await.map_err(|occupied| match occupied {
            // The token names an upload that receives content of its own.
            Occupied::Transferring(transfer) => Reason::ConflictingParts.with_state(transfer.state),
            Occupied::Busy => Reason::Busy.into(),
        })?;
        let claim = claim.of(scope);
        let mut known = match shared.fetch(&claim).await? {
            Some(parent) => Some(shared.refreshed(parent).await?),
            None => None,
        };
        if let Some(expired) = known.take_if(|parent| parent.is_expired(shared.clock.now())) {
            shared.remove(&claim, &expired, Removal::Expired).await?;
        }
        let parts = match (&known, &request.operation) {
            (None, Operation::Create(_)) => None,
            (None, _) => return Err(Reason::NotFound.into()),
            (Some(parent), operation) => {
                let Composition::Indexed(parts) = &parent.composition else {
                    return Err(
                        Reason::ConflictingParts.with_state(State { part: Some(part.part), ..parent.into() })
                    );
                };
                Some(match operation {
                    Operation::Cancel | Operation::Reject(_) => parts.clone(),
                    Operation::Create(_) | Operation::Append(_) | Operation::Retrieve => {
                        let highest = shared.highest_part(part, parts).await?;
                        composition::add_part(parent, part.part, highest)?
                    }
                })
            }
        };
        let request = shared.pending_parts.enter(part.parent);
        Ok(Self { part, claim, known, parts, request })
    }

    /// Returns whether the parent exists already.
    pub(crate) fn exists(&self) -> bool {
        self.known.is_some()
    }

    pub(crate) fn require_open(&self, decision: &Decision) -> Result<(), Refusal> {
        match (&self.known, decision) {
            (Some(parent), Decision::Create(..)) if parent.is_complete() => {
                Err(Reason::UploadExists.with_state(parent))
            }
            _ => Ok(()),
        }
    }

    /// Records in the parent what the request on the part says of it, before the part changes, and releases its claim.
    //= TOK-IDX-03, TOK-CRE-07
    pub(crate) async fn register(
        self,
        shared: &Shared,
        request: &UploadRequest,
        decision: &Decision,
        client: Option<IpAddr>,
    ) -> Result<RegisteredPart, Refusal> {
        let Self { part, claim, known, parts, request: part_request } = self;
        let (mut created, scope) = (false, claim.scope.clone());
        match (known, parts, decision) {
            (_, _, Decision::Cancel | Decision::Refuse(_) | Decision::Invalidate(_)) => {}
            (Some(parent), Some(parts), _) => {
                shared.update_parent(&claim, parent, parts, part, request).await?;
            }
            _ => created = shared.create_parent(claim, part, request, client).await?,
        }
        Ok(RegisteredPart { part, request: part_request, created, scope })
    }
}

impl RegisteredPart {
    /// Completes the parent if its last part has become complete, and rewrites the outcome of the request to state the
    /// parent's completeness. Removes a parent that the request created in vain.
    //= TOK-IDX-03, TOK-IDX-04a
    pub(crate) async fn conclude(
        self,
        shared: &Shared,
        mut outcome: Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let Self { part: IndexedPart { parent: id, part }, request, created, scope } = self;
        if created && outcome.is_err() {
            shared.retract_parent(id, &request).await;
        }
        drop(request);
        let state = match &outcome {
            Ok(reply) => reply.state(),
            Err(refusal) => refusal.state,
        };
        let parent = match state {
            Some(state) if state.complete => shared.finish_composed(id, &scope).await?,
            Some(_) | None => None,
        };
        let complete = parent.as_ref().is_some_and(Upload::is_complete);
        let state = match &mut outcome {
            Ok(reply) => reply.state_mut(),
            Err(refusal) => refusal.state.as_mut(),
        };
        if let Some(state) = state {
            (state.part, state.complete) = (Some(part), complete);
        }
        if let Ok(Reply::Complete { answer, .. }) = &mut outcome
            && let Some(Phase::Delivered(last) | Phase::Failed(last)) = parent.map(|parent| parent.phase)
        {
            *answer = last;
        }
        outcome
    }
}

impl Shared {
    /// Returns the number of the highest stored part. Parts are removed one by one, so it may be lower than the recorded
    /// one. The store is asked only if the request declares its part the last and a higher one is recorded.
    async fn highest_part(&self, named: IndexedPart, parts: &IndexedParts) -> Result<PartNumber, Refusal> {
        let IndexedPart { parent, part } = named;
        let highest = parts.started.highest();
        if !part.last || parts.last.is_some() || highest <= part.number {
            return Ok(highest);
        }
        for number in parts.started.iter().rev() {
            if number <= part.number || self.peek(self.ids.of_part(parent, number)).await?.is_some() {
                return Ok(number);
            }
        }
        Ok(part.number)
    }

    /// Creates the parent of the first part. Returns whether the request creates anything.
    async fn create_parent(
        &self,
        claim: Claim,
        part: IndexedPart,
        request: &UploadRequest,
        client: Option<IpAddr>,
    ) -> Result<bool, Refusal> {
        let Operation::Create(create) = &request.operation else { return Ok(false) };
        let request = UploadRequest { id: part.parent, ..request.clone() };
        let mut parent =
            composition::create_indexed(create, &request, part.part, &self.policy, self.clock.now());
        self.ledger.ready().await?;
        let claim = self.pre_create(claim, &mut parent).await?;
        let reservation = self.ledger.admit(&parent, Some(0), client)?;
        self.create_empty(&claim, &mut parent, reservation).await?;
        Ok(true)
    }

    async fn update_parent(
        &self,
        claim: &Claim,
        mut parent: Upload,
        parts: IndexedParts,
        named: IndexedPart,
        request: &UploadRequest,
    ) -> Result<(), Refusal> {
        let before = parent.clone();
        parent.composition = Composition::Indexed(parts);
        // The first part describes the parent.
        if let Operation::Create(create) = &request.operation
            && named.part.number == PartNumber::FIRST
        {
            parent.origin = create.origin.clone();
        }
        if parent != before && !parent.is_complete() {
            let committed = self.store.commit(&parent, claim.fence()).await;
            committed.map_err(error::during("commit", parent.id))?;
        }
        Ok(())
    }

    /// Removes a parent that the first request on one of its parts created, if that part was not stored.
    async fn retract_parent(&self, id: UploadId, request: &PartRequest) {
        let Ok(claim) = self.claims.take_idle(id).await else { return };
        // Another request has found the parent and may be about to create a part of it.
        if !request.is_alone() {
            return;
        }
        let Ok(Some(parent)) = self.fetch(&claim).await else { return };
        let Composition::Indexed(parts) = &parent.composition else { return };
        for number in parts.started.iter() {
            if !matches!(self.peek(self.ids.of_part(id, number)).await, Ok(None)) {
                return;
            }
        }
        // A removal that fails has been logged, and the upload expires.
        let _ = self.remove(&claim, &parent, Removal::Discarded).await;
    }
}
