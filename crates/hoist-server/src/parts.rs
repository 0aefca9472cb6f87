//! Uploads made of others: finding their parts, joining them once all are complete, taking them along when they go.
//!
//! Owns the order of claims, without which two requests could wait for each other: who holds the claim of a whole may ask
//! for those of its parts, never the other way round. What parts must be is the engine's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hoist_proto::dialect::Dialect;
use hoist_proto::engine::{self, Decision, UploadRequest, composition};
use hoist_proto::operation::{Create, Operation, Reply};
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Durable, Length, PartNumber, UploadId};
use hoist_proto::upload::{Composition, IndexedParts, Part, Phase, State, Upload};
use hoist_store::store::Error;
use http::request::Parts;

use crate::admission::Reservation;
use crate::claim::{Asker, Claim, Occupied};
use crate::execute::Execution;
use crate::intake::{self, Content};
use crate::pending_parts::Present;
use crate::shared::Hoist;
use crate::shared::{CLAIM_TIMEOUT, Shared};
use crate::{answer, error};

/// A numbered part of an upload, as a request names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbered {
    /// The upload it is a part of.
    pub(crate) whole: UploadId,
    /// Which part.
    pub(crate) part: Part,
}

/// The claim of a whole while one of its parts is decided about.
struct Outer {
    claim: Claim,
    whole: Option<Upload>,
    /// The numbers as they are when the request is carried out.
    numbers: Option<IndexedParts>,
}

impl Hoist {
    /// The life of a request on a numbered part: as that of any other, with the whole held until it is decided.
    //= TOK-IDX-01, TOK-IDX-02, TOK-IDX-04b, TOK-IDX-05, TOK-IDX-06
    pub(crate) async fn run_part<B: Content>(
        &self,
        numbered: Numbered,
        mut request: UploadRequest,
        dialect: Dialect,
        base: &str,
        head: Parts,
        mut body: B,
    ) -> Result<Reply, Refusal> {
        let shared = self.shared();
        let outer = shared.claim_whole(&numbered, &request).await?;
        let present = shared.pending_parts.enter(numbered.whole);
        let claim = shared.claim(&request).await?;
        let (claim, known) = self.load(claim).await?;
        intake::know_size(&claim, shared, &mut request, known.as_ref(), &mut body).await?;
        let decision = engine::decide(known.as_ref(), &request, &shared.policy, shared.clock.now());
        if let (Decision::Create(..), Some(whole)) = (&decision, &outer.whole)
            && whole.is_complete()
        {
            return Err(Refusal::Taken(whole.into()));
        }
        let channels = shared.channels(dialect, &request.operation, &decision, base, &head);
        let work = Execution { claim, known, channels, content_bytes: body.size_hint().exact() };
        self.own(move |shared| async move {
            // The whole is given back here in any case: what follows may want it.
            let began = match decision {
                Decision::Create(..) | Decision::Receive(..) | Decision::Answer(_) => {
                    shared.number(outer, &numbered, &request, work.channels.client).await?
                }
                Decision::Cancel | Decision::Refuse(_) | Decision::Invalidate(_) => {
                    drop(outer);
                    false
                }
            };
            let outcome = work.carry_out(&shared, decision, body).await;
            if began && outcome.is_err() {
                shared.retract_whole(numbered.whole, &present).await;
            }
            drop(present);
            shared.speak_of_whole(&numbered, outcome).await
        })
        .await
    }
}

impl Shared {
    /// Takes the upload that a part belongs to, and sees whether it may have that part.
    async fn claim_whole(&self, numbered: &Numbered, request: &UploadRequest) -> Result<Outer, Refusal> {
        let Numbered { whole: id, part } = *numbered;
        let claim = self.claims.take_idle(id, CLAIM_TIMEOUT).await.map_err(|occupied| match occupied {
            // The token names an upload that receives content of its own.
            Occupied::Transferring(transfer) => Refusal::Mixed(transfer.state),
            Occupied::Busy => Refusal::Busy,
        })?;
        let whole = match self.fetch(&claim).await? {
            Some(whole) => {
                let whole = self.refreshed(whole).await?;
                if whole.is_expired(self.clock.now()) {
                    self.erase(&claim, &whole).await?;
                    None
                } else {
                    Some(whole)
                }
            }
            None => None,
        };
        let creates = matches!(request.operation, Operation::Create(_));
        let Some(known) = &whole else {
            return if creates { Ok(Outer { claim, whole, numbers: None }) } else { Err(Refusal::NotFound) };
        };
        let Composition::Indexed(numbers) = &known.composition else {
            return Err(Refusal::Mixed(State { part: Some(part), ..known.into() }));
        };
        let numbers = match request.operation {
            Operation::Cancel | Operation::Reject(_) => numbers.clone(),
            Operation::Create(_) | Operation::Append(_) | Operation::Retrieve => {
                let highest = self.highest(id, numbers, part).await?;
                composition::number(known, part, highest)?
            }
        };
        Ok(Outer { claim, whole, numbers: Some(numbers) })
    }

    /// The highest part of which there is anything. Parts go one by one, so it may be lower than it was; only who claims to
    /// be the last below it needs to know.
    async fn highest(
        &self,
        whole: UploadId,
        numbers: &IndexedParts,
        part: Part,
    ) -> Result<PartNumber, Refusal> {
        let highest = numbers.started.highest();
        if !part.last || numbers.last.is_some() || highest <= part.number {
            return Ok(highest);
        }
        for number in numbers.started.iter().rev() {
            if number <= part.number || self.peek(self.ids.of_part(whole, number)).await?.is_some() {
                return Ok(number);
            }
        }
        Ok(part.number)
    }

    /// Records what a request on a part says of the whole, before the part changes. Says whether that created the whole.
    //= TOK-IDX-03, TOK-CRE-07
    async fn number(
        &self,
        outer: Outer,
        numbered: &Numbered,
        request: &UploadRequest,
        client: Option<IpAddr>,
    ) -> Result<bool, Refusal> {
        let Outer { claim, whole, numbers } = outer;
        let (id, part) = (numbered.whole, numbered.part);
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        let (mut whole, numbers) = match (whole, numbers, &request.operation) {
            (Some(whole), Some(numbers), _) => (whole, numbers),
            (_, _, Operation::Create(create)) => {
                let named = UploadRequest { id, ..request.clone() };
                let whole = composition::number_first(create, &named, part, &self.policy, self.clock.now());
                self.ledger.ready().await?;
                let reservation = self.ledger.admit(&whole, Some(0), client)?;
                self.establish(&claim, &whole, reservation).await?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let before = whole.clone();
        whole.composition = Composition::Indexed(numbers);
        // The first part speaks for the whole.
        if let Operation::Create(create) = &request.operation
            && part.number == PartNumber::FIRST
        {
            whole.origin = create.origin.clone();
        }
        if whole != before && !whole.is_complete() {
            self.store.commit(&whole, claim.fence()).await.map_err(failed("commit"))?;
        }
        Ok(false)
    }

    /// Stores a new upload that receives no content of its own. When that fails nothing is left of it.
    async fn establish(
        &self,
        claim: &Claim,
        upload: &Upload,
        mut reservation: Reservation,
    ) -> Result<(), Refusal> {
        let (id, fence) = (upload.id, claim.fence());
        let mut writer = self
            .store
            .create(upload, fence)
            .await
            .map_err(|failure| error::refusal("create", id, &failure))?;
        reservation.stored();
        let Err(failure) = writer.sync().await else { return Ok(()) };
        drop(writer);
        let refusal = error::refusal("sync", id, &failure);
        // No client has heard of it. A removal that fails has been logged, and the upload expires.
        let _ = self.remove(claim).await;
        Err(refusal)
    }

    /// Removes a whole that the first request on one of its parts created, when nothing came of that part.
    async fn retract_whole(&self, id: UploadId, present: &Present) {
        let Ok(claim) = self.claims.take_idle(id, CLAIM_TIMEOUT).await else { return };
        // Another request has found the whole and may be about to create a part of it.
        if !present.is_alone() {
            return;
        }
        let Ok(Some(whole)) = self.fetch(&claim).await else { return };
        let Composition::Indexed(numbers) = &whole.composition else { return };
        for number in numbers.started.iter() {
            if !matches!(self.peek(self.ids.of_part(id, number)).await, Ok(None)) {
                return;
            }
        }
        // A removal that fails has been logged, and the upload expires.
        let _ = self.erase(&claim, &whole).await;
    }

    /// Makes the answer to a request on a part speak of the whole, which it may have completed.
    //= TOK-IDX-03, TOK-IDX-04a
    async fn speak_of_whole(
        &self,
        numbered: &Numbered,
        outcome: Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let state = match &outcome {
            Ok(reply) => reply.state(),
            Err(refusal) => refusal.state(),
        };
        let whole = match state {
            Some(state) if state.complete => self.finish_whole(numbered.whole).await?,
            Some(_) | None => None,
        };
        let complete = whole.as_ref().is_some_and(Upload::is_complete);
        let speak = |state: &mut State| {
            state.part = Some(numbered.part);
            state.complete = complete;
        };
        match outcome {
            Ok(mut reply) => {
                reply.state_mut().map(speak);
                let last = whole.and_then(|whole| match whole.phase {
                    Phase::Delivered(answer) | Phase::Failed(answer) => Some(answer),
                    Phase::Open | Phase::Received => None,
                });
                if let (Reply::Complete { answer, .. }, Some(last)) = (&mut reply, last) {
                    *answer = last;
                }
                Ok(reply)
            }
            Err(mut refusal) => {
                refusal.state_mut().map(speak);
                Err(refusal)
            }
        }
    }

    /// Makes an upload of its parts if they are complete. `None` when it is gone, or when another request has its claim for
    /// too long; it is made then as soon as the claim is free.
    async fn finish_whole(&self, id: UploadId) -> Result<Option<Upload>, Refusal> {
        let Ok(claim) = self.claims.take_idle(id, CLAIM_TIMEOUT).await else {
            self.backlog.add(id);
            return Ok(None);
        };
        match self.fetch(&claim).await? {
            Some(whole) if !whole.is_complete() => self.try_join(&claim, whole).await.map(Some),
            whole => Ok(whole),
        }
    }

    /// Looks after the uploads that a part is for, when it has become complete or has gone.
    //= TUS1-CAT-13
    pub(crate) async fn wake(&self, part: UploadId) {
        for whole in self.pending_parts.of(part) {
            if let Err(refusal) = self.finish_whole(whole).await {
                // It is tried again when somebody asks for it, and at the next start.
                tracing::debug!(upload = %whole.short(), refusal = refusal.problem().title, "not made of its parts yet");
            }
        }
    }

    /// Creates an upload that is made of others.
    //= TUS1-TRM-05
    //= TUS1-CAT-04, TUS1-CAT-12, TUS1-CAT-14, TOK-IDX-07
    pub(crate) async fn compose(
        &self,
        claim: &Claim,
        request: &UploadRequest,
        create: &Create,
        client: Option<IpAddr>,
    ) -> Result<Reply, Refusal> {
        let Composition::Concatenated(ids) = &create.composition else { return Err(Refusal::Internal) };
        let mut seen = HashMap::new();
        for id in ids {
            if !seen.contains_key(id) {
                seen.insert(*id, self.peek(*id).await?);
            }
        }
        let parts: Vec<_> = ids.iter().map(|id| seen.get(id).cloned().flatten()).collect();
        drop(seen);
        let upload = composition::compose(create, request, &parts, &self.policy, self.clock.now())?;
        drop(parts);
        self.ledger.ready().await?;
        self.hook.before_create(&upload).await?;
        let reservation = self.ledger.admit(&upload, Some(0), client)?;
        self.establish(claim, &upload, reservation).await?;
        self.pending_parts.add(&upload);
        let id = upload.id;
        let made = match self.try_join(claim, upload.clone()).await {
            Ok(made) => made,
            Err(refusal) => {
                // Nobody knows yet that it exists.
                match self.erase(claim, &upload).await {
                    Ok(()) | Err(Refusal::NotFound) => {}
                    Err(failure) => return Err(failure),
                }
                return Err(match refusal {
                    //= TUS1-CAT-06
                    Refusal::NotFound | Refusal::Gone => Refusal::NoPart { wrong: "a part is gone".into() },
                    other => other,
                });
            }
        };
        let state = State::from(&made);
        Ok(match made.phase {
            Phase::Delivered(answer) | Phase::Failed(answer) => {
                Reply::Complete { id, created: true, state, answer }
            }
            Phase::Open | Phase::Received => Reply::Stored { id, created: true, state },
        })
    }

    /// Makes an open upload of its parts and delivers it, if all of them are complete; otherwise it stays as it is.
    //= TOK-IDX-03, TUS1-CAT-13
    pub(crate) async fn try_join(&self, claim: &Claim, upload: Upload) -> Result<Upload, Refusal> {
        let id = upload.id;
        let failed = |doing| move |failure: Error| error::refusal(doing, id, &failure);
        let Some(parts) = self.parts_of(&upload) else { return Ok(upload) };
        let mut upload = upload;
        if self.backlog.wait(id).is_some() {
            return Ok(upload);
        }
        // A crash may have come behind the joining, which is all or nothing.
        if upload.offset == Durable::ZERO {
            let Some(length) = self.length_of(claim, &upload, &parts).await? else { return Ok(upload) };
            if let Err(refusal) = composition::require_room(Some(length), &self.policy.limits) {
                let answer = answer::kept(&refusal);
                let (upload, _) = engine::deliver(upload, answer, false, &self.policy, self.clock.now());
                self.store.commit(&upload, claim.fence()).await.map_err(failed("commit"))?;
                self.release_parts(&upload, parts);
                return Ok(upload);
            }
            let joined =
                self.store.join(id, &parts, claim.fence()).await.inspect_err(|_| self.backlog.failed(id));
            upload.offset = joined.map_err(failed("join"))?;
        }
        upload.length = Some(upload.offset.offset().into());
        upload.phase = Phase::Received;
        let reply = self.deliver(claim, upload.clone(), false, false, None).await?;
        self.pending_parts.forget(&upload);
        self.release_parts(&upload, parts);
        if let Reply::Complete { answer, .. } = reply {
            (upload, _) = engine::deliver(upload, answer, false, &self.policy, self.clock.now());
        }
        Ok(upload)
    }

    /// The parts an upload is made of, in order; `None` when it is made of none, or when it is not known which is the last
    /// or not all of them have begun.
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

    /// How long parts are together, if all of them are complete.
    async fn length_of(
        &self,
        claim: &Claim,
        upload: &Upload,
        parts: &[UploadId],
    ) -> Result<Option<Length>, Refusal> {
        let is_numbered = matches!(upload.composition, Composition::Indexed(_));
        let gap = self.pending_parts.gap(upload.id).filter(|_| is_numbered);
        if let Some(part) = gap.and_then(|gap| parts.get(gap))
            && !self.peek(*part).await?.is_some_and(|part| part.is_complete())
        {
            return Ok(None);
        }
        let mut known: HashMap<UploadId, u64> = HashMap::new();
        let mut sum = 0_u64;
        for (place, part) in parts.iter().enumerate() {
            let length = match known.get(part) {
                Some(length) => *length,
                None => match (self.peek(*part).await?, &upload.composition) {
                    (Some(part), _) if part.is_complete() => part.offset.offset().get(),
                    // It was there when the upload was created, and cannot come back.
                    (None, Composition::Concatenated(_)) => {
                        self.erase(claim, upload).await?;
                        return Err(Refusal::Gone);
                    }
                    (Some(_) | None, _) => {
                        self.pending_parts.note_gap(upload.id, place);
                        return Ok(None);
                    }
                },
            };
            known.insert(*part, length);
            sum = sum.saturating_add(length);
        }
        Ok(Some(Length::new(sum)))
    }

    /// How long parts will be together, once each of them has been told how long it is.
    async fn length_told(&self, parts: &[UploadId]) -> Result<Option<Length>, Refusal> {
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

    /// Frees the content of numbered parts, which nobody can name otherwise, and keeps what they have to say. Other parts
    /// may be used again.
    fn release_parts(&self, whole: &Upload, parts: Vec<UploadId>) {
        if !matches!(whole.composition, Composition::Indexed(_)) {
            return;
        }
        let (claims, store) = (self.claims.clone(), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            for part in parts {
                let Ok(claim) = claims.take_idle(part, CLAIM_TIMEOUT).await else { continue };
                if let Err(failure) = store.discard(part, claim.fence()).await {
                    error::refusal("discard", part, &failure);
                }
            }
        });
    }

    /// How far an upload made of others is while they come.
    //= TOK-IDX-04, TUS1-CAT-10, TUS1-CAT-13
    pub(crate) async fn state_of_parts(&self, whole: &Upload) -> Result<State, Refusal> {
        let mut state = State::from(whole);
        let (highest, last) = match &whole.composition {
            Composition::Direct | Composition::Part => return Ok(state),
            Composition::Concatenated(_) | Composition::Indexed(_) if whole.is_complete() => {
                return Ok(state);
            }
            Composition::Concatenated(parts) => {
                if state.length.is_none() {
                    state.length = self.length_told(parts).await?;
                }
                return Ok(state);
            }
            Composition::Indexed(IndexedParts { started, last }) => (started.highest(), *last),
        };
        let mut parts = Vec::new();
        for number in last.unwrap_or(highest).up_to() {
            let part = self.peek(self.ids.of_part(whole.id, number)).await?;
            // Behind an incomplete part there is only its length to learn, and behind a missing one not even that.
            let goes_on = part.as_ref().is_some_and(|part| last.is_some() || part.is_complete());
            parts.push(part);
            if !goes_on {
                break;
            }
        }
        let gathered = composition::gather(parts.iter().map(Option::as_ref));
        state.offset = gathered.offset;
        state.length = gathered.length.filter(|_| last.is_some());
        Ok(state)
    }

    /// An upload, its time renewed by that of its parts: as long as one of them lives, it does.
    pub(crate) async fn refreshed(&self, whole: Upload) -> Result<Upload, Refusal> {
        let Composition::Indexed(IndexedParts { started, .. }) = &whole.composition else { return Ok(whole) };
        if whole.is_complete() || !whole.is_expired(self.clock.now()) {
            return Ok(whole);
        }
        let mut renewed = whole.touched;
        for number in started.iter() {
            if let Some(part) = self.peek(self.ids.of_part(whole.id, number)).await?
                && !part.is_expired(self.clock.now())
            {
                renewed = renewed.max(part.touched);
                break;
            }
        }
        Ok(Upload { touched: renewed, ..whole })
    }

    /// Frees everything of an upload, its numbered parts first: a crash in between leaves a whole that can be asked for again.
    //= TOK-IDX-05, TOK-CAN-01, TUS1-TRM-05
    pub(crate) async fn erase(&self, claim: &Claim, upload: &Upload) -> Result<(), Refusal> {
        if let Composition::Indexed(IndexedParts { started, .. }) = &upload.composition {
            let asker = Asker { principal: upload.owner.as_ref(), family: None };
            for number in started.iter() {
                let part = self.ids.of_part(upload.id, number);
                let taken = self.claims.take(part, asker, CLAIM_TIMEOUT).await;
                let claim = taken.map_err(|_| Refusal::Busy)?;
                match self.store.remove(part, claim.fence()).await {
                    Ok(()) => self.ledger.forget(part),
                    Err(Error::Missing) => {}
                    Err(failure) => return Err(error::refusal("remove", part, &failure)),
                }
            }
        }
        self.remove(claim).await?;
        self.pending_parts.forget(upload);
        self.tombstones.note(upload);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
