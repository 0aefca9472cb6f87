//! Exclusive claims on uploads. A new request ends the transfer that is running, so that no request waits for a stalled peer.
//!
//! There is one [`Claim`] per upload at a time, granted in the order of asking. Asking for a claim stops the present holder
//! as soon as it transfers content, but only if the new request may see that transfer. A holder that was superseded while
//! it still waited is stopped when it begins to transfer. A claim is released when it is dropped, however its request ended;
//! there are no lock files.

use std::collections::{BinaryHeap, HashMap, hash_map};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::engine::UploadRequest;
use hoist_proto::refusal::InterruptCause;
use hoist_proto::types::{Durable, Fence, Principal, UploadId};
use hoist_proto::upload::{Family, State, Upload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::gauge::Gauge;
use crate::locked;
use crate::request_scope::RequestScope;
use crate::stopwatch::Stopwatch;

/// The time a request waits for the previous holder of its upload. Only a slow disk or target takes this long.
//= IETF-CON-05
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Registry>);

#[derive(Default)]
struct Registry {
    entries: Mutex<HashMap<UploadId, Entry>>,
    fences: AtomicU64,
    waiters: AtomicU64,
}

#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) owner: Option<Principal>,
    pub(crate) family: Family,
    pub(crate) gauge: Arc<Gauge>,
    /// The upload's state when the transfer began, with the largest offset reported to its peer since.
    pub(crate) state: State,
}

/// The sender of a request for a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requester<'a> {
    pub(crate) principal: Option<&'a Principal>,
    pub(crate) family: Option<Family>,
}

impl<'a> Requester<'a> {
    pub(crate) fn of(request: &'a UploadRequest) -> Self {
        Self { principal: request.principal.as_ref(), family: Some(request.family) }
    }

    /// Returns whether a transfer's upload belongs to the requester, and is of its family.
    pub(crate) fn may_see(self, transfer: &Transfer) -> bool {
        transfer.owner.as_ref() == self.principal
            && self.family.is_none_or(|family| family == transfer.family)
    }
}

/// One upload that is claimed or waited for.
struct Entry {
    /// A semaphore with one permit. It is fair, so that claims are granted in order.
    gate: Arc<Semaphore>,
    /// The number of requests that hold or wait for the claim.
    contenders: usize,
    /// The waiting requests that end the transfer of the holder.
    superseding: Vec<Superseding>,
    stop: Stop,
    /// The transfer of the present holder, if it receives content.
    transfer: watch::Sender<Option<Transfer>>,
}

/// The order to a holder to end its transfer.
#[derive(Clone, Default)]
struct Stop {
    ordered: CancellationToken,
    /// True if the order is the operator's. Otherwise a newer request supersedes the holder.
    by_operator: Arc<AtomicBool>,
}

/// A waiting request that ends the transfer of the holder, if it may see it.
struct Superseding {
    number: u64,
    principal: Option<Principal>,
    family: Option<Family>,
}

/// The right to read and change one upload, until dropped.
pub(crate) struct Claim {
    /// The request that holds it. Work without a request has the default.
    pub(crate) scope: RequestScope,
    contender: Contender,
    fence: Fence,
    stop: Stop,
    /// The time for which the request waited for a transfer that was ended for it.
    took_over: Option<Duration>,
    // After `contender`: an unused entry is removed before the permit could admit another request to it.
    _permit: OwnedSemaphorePermit,
}

/// The reason why a claim was not granted: its holder keeps it too long, or the upload is of another principal or family.
#[derive(Debug)]
pub(crate) enum Denied {
    Busy,
    NotOwner,
}

/// The reason why a claim was not granted: a transfer is running, or its holder keeps it too long.
#[derive(Debug)]
pub(crate) enum Occupied {
    Transferring(Transfer),
    Busy,
}

impl Claims {
    /// Claims an upload, and ends the transfer that is running on it.
    ///
    /// # Cancellation
    /// Safe to drop: the place in the queue is lost. The transfer that was running still ends.
    //= TOK-OFF-02, TOK-APP-04, TDR-OFF-07, IETF-CON-02, IETF-CON-04, IETF-DEL-03, TUS1-CON-01
    pub(crate) async fn take(&self, id: UploadId, requester: Requester<'_>) -> Result<Claim, Denied> {
        match self.take_free(id) {
            Some(claim) => Ok(claim),
            None => Box::pin(self.take_over(id, requester)).await,
        }
    }

    async fn take_over(&self, id: UploadId, requester: Requester<'_>) -> Result<Claim, Denied> {
        let began = Stopwatch::start();
        let contender = self.contend(id, Some(requester));
        let (gate, mut transfer, holder) = contender.entry(|entry| {
            entry.supersede();
            (Arc::clone(&entry.gate), entry.transfer.subscribe(), entry.stop.clone())
        });
        let is_foreign = |transfer: &Option<Transfer>| {
            transfer.as_ref().is_some_and(|transfer| !requester.may_see(transfer))
        };
        let granted = async {
            tokio::select! {
                biased;
                _ = transfer.wait_for(is_foreign) => Err(Denied::NotOwner),
                permit = gate.acquire_owned() => Ok(permit.expect("gates are never closed")),
            }
        };
        let permit = tokio::time::timeout(CLAIM_TIMEOUT, granted).await.map_err(|_| Denied::Busy)??;
        let claim = self.grant(contender, permit);
        let was_superseded = holder.ordered.is_cancelled() && !holder.by_operator.load(Ordering::Acquire);
        Ok(Claim { took_over: was_superseded.then(|| began.elapsed()), ..claim })
    }

    /// Claims an upload unless a transfer is running on it.
    //= TOK-CRE-05
    pub(crate) async fn take_idle(&self, id: UploadId) -> Result<Claim, Occupied> {
        match self.take_free(id) {
            Some(claim) => Ok(claim),
            None => Box::pin(self.wait_idle(id)).await,
        }
    }

    async fn wait_idle(&self, id: UploadId) -> Result<Claim, Occupied> {
        let contender = self.contend(id, None);
        let (gate, mut transfer) =
            contender.entry(|entry| (Arc::clone(&entry.gate), entry.transfer.subscribe()));
        let granted = async {
            tokio::select! {
                biased;
                running = transfer.wait_for(Option::is_some) => {
                    let transfer = running.ok().and_then(|transfer| transfer.clone());
                    Err(transfer.map_or(Occupied::Busy, Occupied::Transferring))
                }
                permit = gate.acquire_owned() => Ok(permit.expect("gates are never closed")),
            }
        };
        let permit = tokio::time::timeout(CLAIM_TIMEOUT, granted).await.map_err(|_| Occupied::Busy)??;
        Ok(self.grant(contender, permit))
    }

    /// Claims an upload if no other request holds or waits for its claim.
    pub(crate) fn take_unwanted(&self, id: UploadId) -> Option<Claim> {
        self.take_free(id)
    }

    /// Calls `read` if no request holds or waits for the claim of an upload. Until it returns, none can take it. It must not
    /// block.
    pub(crate) fn while_free<T>(&self, id: UploadId, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let entries = locked(&self.0.entries);
        if entries.contains_key(&id) { None } else { read() }
    }

    /// Returns whether no request holds or waits for the claim of an upload.
    pub(crate) fn is_free(&self, id: UploadId) -> bool {
        !locked(&self.0.entries).contains_key(&id)
    }

    /// Returns the transfer that is running on an upload.
    pub(crate) fn transfer(&self, id: UploadId) -> Option<Transfer> {
        let entries = locked(&self.0.entries);
        entries.get(&id).and_then(|entry| entry.transfer.borrow().clone())
    }

    /// Returns at most `most` running transfers with an id after `after`: those with the lowest ids, in order.
    pub(crate) fn transfers(&self, after: Option<UploadId>, most: usize) -> Vec<(UploadId, Transfer)> {
        let entries = locked(&self.0.entries);
        let mut lowest = BinaryHeap::new();
        for (id, entry) in &*entries {
            let is_next = Some(*id) > after && (lowest.len() < most || lowest.peek() > Some(id));
            if is_next && entry.transfer.borrow().is_some() {
                lowest.push(*id);
                if lowest.len() > most {
                    lowest.pop();
                }
            }
        }
        let transfer = |id: UploadId| Some((id, entries.get(&id)?.transfer.borrow().clone()?));
        lowest.into_sorted_vec().into_iter().filter_map(transfer).collect()
    }

    /// Returns the number of running transfers.
    pub(crate) fn transfers_running(&self) -> usize {
        let entries = locked(&self.0.entries);
        entries.values().filter(|entry| entry.transfer.borrow().is_some()).count()
    }

    /// Orders the end of the transfer that is running on an upload, and waits until its content is stored and its claim
    /// released, or for the longest time that a request would wait. Returns false if no transfer is running.
    pub(crate) async fn end_transfer(&self, id: UploadId) -> bool {
        let (ended, mut transfer) = {
            let entries = locked(&self.0.entries);
            let Some(entry) = entries.get(&id) else { return false };
            let Some(running) = entry.transfer.borrow().clone() else { return false };
            if !entry.stop.ordered.is_cancelled() {
                entry.stop.by_operator.store(true, Ordering::Release);
                entry.stop.ordered.cancel();
            }
            (running.gauge, entry.transfer.subscribe())
        };
        let is_another = |transfer: &Option<Transfer>| {
            transfer.as_ref().is_none_or(|transfer| !Arc::ptr_eq(&transfer.gauge, &ended))
        };
        // An error means that the entry is gone, and the transfer with it.
        let _ = tokio::time::timeout(CLAIM_TIMEOUT, transfer.wait_for(is_another)).await;
        true
    }

    /// Claims an upload that no other request holds or waits for.
    fn take_free(&self, id: UploadId) -> Option<Claim> {
        let mut entries = locked(&self.0.entries);
        let hash_map::Entry::Vacant(vacant) = entries.entry(id) else { return None };
        let entry = vacant.insert(Entry { contenders: 1, ..Entry::default() });
        let permit = Arc::clone(&entry.gate).try_acquire_owned().expect("a new gate is open");
        let stop = entry.stop.clone();
        drop(entries);
        Some(self.claim(Contender { claims: self.clone(), id, number: None }, stop, permit))
    }

    fn contend(&self, id: UploadId, supersedes: Option<Requester<'_>>) -> Contender {
        let number = self.0.waiters.fetch_add(1, Ordering::Relaxed);
        let mut entries = locked(&self.0.entries);
        let entry = entries.entry(id).or_default();
        entry.contenders += 1;
        if let Some(Requester { principal, family }) = supersedes {
            entry.superseding.push(Superseding { number, principal: principal.cloned(), family });
        }
        drop(entries);
        Contender { claims: self.clone(), id, number: supersedes.map(|_| number) }
    }

    fn grant(&self, mut contender: Contender, permit: OwnedSemaphorePermit) -> Claim {
        let stop = Stop::default();
        let number = contender.number.take();
        contender.entry(|entry| {
            entry.forget(number);
            entry.stop = stop.clone();
            entry.transfer.send_replace(None);
        });
        self.claim(contender, stop, permit)
    }

    fn claim(&self, contender: Contender, stop: Stop, permit: OwnedSemaphorePermit) -> Claim {
        let fence = Fence::new(self.0.fences.fetch_add(1, Ordering::Relaxed) + 1);
        let scope = RequestScope::default();
        Claim { scope, contender, fence, stop, took_over: None, _permit: permit }
    }
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            gate: Arc::new(Semaphore::new(1)),
            contenders: 0,
            superseding: Vec::new(),
            stop: Stop::default(),
            transfer: watch::Sender::new(None),
        }
    }
}

impl Entry {
    /// Stops the present holder if it transfers content and a waiting request may see that. Claims are granted in order, so
    /// every waiting request is newer than the holder.
    fn supersede(&self) {
        if let Some(transfer) = &*self.transfer.borrow()
            && self.superseding.iter().any(|Superseding { principal, family, .. }| {
                Requester { principal: principal.as_ref(), family: *family }.may_see(transfer)
            })
        {
            self.stop.ordered.cancel();
        }
    }

    fn forget(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.superseding.retain(|request| request.number != number);
        }
    }
}

impl Claim {
    pub(crate) fn id(&self) -> UploadId {
        self.contender.id
    }

    /// Returns the claim as that of a request.
    pub(crate) fn of(self, scope: &RequestScope) -> Self {
        Self { scope: scope.clone(), ..self }
    }

    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the time for which the request waited for a transfer that was ended for it, if there was one.
    pub(crate) fn took_over(&self) -> Option<Duration> {
        self.took_over
    }

    /// Completes when a newer request or the operator ends this one, which [transfers](Self::begin_transfer) content.
    /// Returns the cause.
    pub(crate) async fn stopped(&self) -> InterruptCause {
        self.stop.ordered.cancelled().await;
        if self.stop.by_operator.load(Ordering::Acquire) {
            InterruptCause::ByOperator
        } else {
            InterruptCause::Superseded
        }
    }

    /// Marks the start of a transfer. From here on a creation of the same upload is refused at once, and a newer request that
    /// may see the transfer ends it.
    pub(crate) fn begin_transfer(&self, upload: &Upload, gauge: Arc<Gauge>) {
        let transfer =
            Transfer { owner: upload.owner.clone(), family: upload.family, gauge, state: upload.into() };
        self.contender.entry(|entry| {
            entry.transfer.send_replace(Some(transfer));
            entry.supersede();
        });
    }

    /// Records an offset before it is reported to the peer. No later answer may report less.
    //= IETF-OFF-01
    pub(crate) fn set_reported(&self, offset: Durable) {
        self.contender.entry(|entry| {
            entry.transfer.send_modify(|transfer| {
                if let Some(transfer) = transfer {
                    transfer.state.offset = offset;
                }
            });
        });
    }
}

/// A request that holds or waits for a claim.
struct Contender {
    claims: Claims,
    id: UploadId,
    number: Option<u64>,
}

impl Contender {
    fn entry<T>(&self, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = locked(&self.claims.0.entries);
        act(entries.get_mut(&self.id).expect("an entry stays as long as it has a contender"))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let mut entries = locked(&self.claims.0.entries);
        let Some(entry) = entries.get_mut(&self.id) else { return };
        entry.contenders -= 1;
        entry.forget(self.number);
        if entry.contenders == 0 {
            entries.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {

    use hoist_proto::upload::{Completion, Excess, Interruption, Semantics};

    use super::*;

    const ID: UploadId = UploadId::from_bits([1; 16]);
    const ANYONE: Requester<'_> = Requester { principal: None, family: Some(Family::Conventional) };

    fn upload(owner: Option<Principal>) -> Upload {
        let (completion, excess) = (Completion::AtLength, Excess::Keeps);
        Upload {
            family: Family::Conventional,
            semantics: Semantics { completion, excess, interruption: Interruption::Resumes },
            owner,
            ..hoist_proto::testing::upload(ID)
        }
    }

    // proves: TOK-OFF-02, TOK-APP-04
    #[tokio::test]
    async fn a_newer_request_stops_the_holder_and_follows_it() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE).await.expect("free");
        first.begin_transfer(&upload(None), Arc::default());
        let mut second = Box::pin(claims.take(ID, ANYONE));
        assert!(is_pending(&mut second).await);
        first.stopped().await;
        let older = first.fence();
        drop(first);
        let second = second.await.expect("yielded");
        assert!(second.fence() > older);
        drop(second);
        assert!(locked(&claims.0.entries).is_empty(), "the entry of a free upload is removed");
    }

    #[tokio::test]
    async fn a_request_superseded_while_it_waits_is_stopped_once_it_transfers() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE).await.expect("free");
        let mut second = Box::pin(claims.take(ID, ANYONE));
        let mut third = Box::pin(claims.take(ID, ANYONE));
        assert!(is_pending(&mut second).await && is_pending(&mut third).await);
        drop(first);
        let second = second.await.expect("its turn");
        second.begin_transfer(&upload(None), Arc::default());
        second.stopped().await;
        assert!(is_pending(&mut third).await);
        drop(second);
        let third = third.await.expect("its turn");
        assert!(!third.stop.ordered.is_cancelled());
    }

    #[tokio::test]
    async fn an_upload_is_read_without_a_claim_only_while_it_has_none() {
        let claims = Claims::default();
        assert_eq!(claims.while_free(ID, || Some(1)), Some(1));
        let claim = claims.take(ID, ANYONE).await.expect("free");
        assert_eq!(claims.while_free(ID, || Some(2)), None);
        let mut waiting = Box::pin(claims.take(ID, ANYONE));
        assert!(is_pending(&mut waiting).await);
        drop(claim);
        assert_eq!(claims.while_free(ID, || Some(3)), None, "it is promised to the one that waits");
        drop(waiting);
        assert_eq!(claims.while_free(ID, || Some(4)), Some(4));
    }

    // proves: TOK-CRE-05
    #[tokio::test]
    async fn a_creation_ends_no_transfer_and_waits_for_other_requests() {
        let claims = Claims::default();
        let asking = claims.take(ID, ANYONE).await.expect("free");
        let mut creation = Box::pin(claims.take_idle(ID));
        assert!(is_pending(&mut creation).await);
        assert!(!asking.stop.ordered.is_cancelled());
        drop(asking);
        let creating = creation.await.expect("its turn");
        creating.begin_transfer(&upload(None), Arc::default());
        let refused = claims.take_idle(ID).await.map(|_| ());
        assert!(matches!(refused, Err(Occupied::Transferring(_))));
        assert!(!creating.stop.ordered.is_cancelled());
        assert!(claims.take_unwanted(ID).is_none());
    }

    #[tokio::test]
    async fn a_request_of_another_principal_ends_no_transfer() {
        let (claims, anna) = (Claims::default(), Principal::new("anna"));
        let transfer = claims.take(ID, Requester { principal: Some(&anna), ..ANYONE }).await.expect("free");
        transfer.begin_transfer(&upload(Some(anna.clone())), Arc::default());
        let ben = Principal::new("ben");
        let of_anna = |family| Requester { principal: Some(&anna), family };
        for other in [ANYONE, Requester { principal: Some(&ben), ..ANYONE }, of_anna(Some(Family::Tus1))] {
            assert!(matches!(claims.take(ID, other).await, Err(Denied::NotOwner)));
        }
        assert!(!transfer.stop.ordered.is_cancelled());
        drop(transfer);
        // Nor a transfer that begins while the other principal waits.
        let holder = claims.take(ID, Requester { principal: Some(&anna), ..ANYONE }).await.expect("free");
        let mut early = Box::pin(claims.take(ID, Requester { principal: Some(&ben), ..ANYONE }));
        assert!(is_pending(&mut early).await);
        holder.begin_transfer(&upload(Some(anna.clone())), Arc::default());
        assert!(matches!(early.await, Err(Denied::NotOwner)));
        assert!(!holder.stop.ordered.is_cancelled());
        let transfer = holder;
        let mut newer = Box::pin(claims.take(ID, of_anna(None)));
        assert!(is_pending(&mut newer).await && transfer.stop.ordered.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_holder_that_does_not_yield_times_out() {
        let claims = Claims::default();
        let stuck = claims.take(ID, ANYONE).await.expect("free");
        assert!(claims.take(ID, ANYONE).await.is_err());
        assert!(matches!(claims.take_idle(ID).await.map(|_| ()), Err(Occupied::Busy)));
        drop(stuck);
        assert!(claims.take_unwanted(ID).is_some());
        assert!(locked(&claims.0.entries).is_empty());
    }

    #[tokio::test]
    async fn the_operator_ends_a_transfer_and_waits_for_its_end() {
        let claims = Claims::default();
        assert!(!claims.end_transfer(ID).await, "nothing runs");
        let first = claims.take(ID, ANYONE).await.expect("free");
        assert!(!claims.end_transfer(ID).await, "a claim alone is no transfer");
        first.begin_transfer(&upload(None), Arc::default());
        let mut ending = Box::pin(claims.end_transfer(ID));
        assert!(is_pending(&mut ending).await);
        assert_eq!(first.stopped().await, InterruptCause::ByOperator);
        let mut second = Box::pin(claims.take(ID, ANYONE));
        assert!(is_pending(&mut second).await);
        drop(first);
        let second = second.await.expect("its turn");
        // The resumption does not hide the end of the transfer before.
        second.begin_transfer(&upload(None), Arc::default());
        assert!(ending.await);
        assert!(!second.stop.ordered.is_cancelled());
        drop(second);
        assert!(locked(&claims.0.entries).is_empty());
    }

    #[tokio::test]
    async fn running_transfers_are_listed_by_id() {
        let claims = Claims::default();
        let id = |number| UploadId::from_bits([number; 16]);
        let mut held = Vec::new();
        for number in [5, 1, 4, 2, 3] {
            let claim = claims.take(id(number), ANYONE).await.expect("free");
            if number != 4 {
                claim.begin_transfer(&upload(None), Arc::default());
            }
            held.push(claim);
        }
        let listed = |after: Option<u8>, most| {
            let transfers = claims.transfers(after.map(id), most);
            transfers.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(listed(None, 10), [id(1), id(2), id(3), id(5)]);
        assert_eq!(listed(None, 2), [id(1), id(2)]);
        assert_eq!(listed(Some(2), 1), [id(3)]);
        assert_eq!(listed(Some(5), 10), []);
        assert_eq!(listed(None, 0), []);
        assert_eq!((claims.transfers_running(), claims.transfer(id(4)).is_some()), (4, false));
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_no_entry() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE).await.expect("free");
        let mut second = Box::pin(claims.take(ID, ANYONE));
        assert!(is_pending(&mut second).await);
        drop(second);
        drop(first);
        assert!(locked(&claims.0.entries).is_empty());
        let third = claims.take(ID, ANYONE).await.expect("free");
        assert!(!third.stop.ordered.is_cancelled(), "a dropped request supersedes no other");
    }

    /// Returns whether a future is pending after one poll.
    async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
