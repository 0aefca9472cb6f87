//! Who may touch an upload now. A new request ends the running one; nobody waits for a stalled peer.
//!
//! One [`Claim`] per upload at a time, in the order they were asked for. Asking for one tells the present holder to stop as
//! soon as it transfers content, and only if the transfer is one that the new request may know of; a holder that was
//! overtaken while it still waited is told when it begins to transfer. There are no lock files and nothing to time out by
//! hand: a claim is released when it is dropped, however its request ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_proto::engine::UploadRequest;
use hoist_proto::types::{Durable, Fence, Principal, UploadId};
use hoist_proto::upload::{Family, State, Upload};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// All claims of this process.
#[derive(Clone, Default)]
pub(crate) struct Claims(Arc<Shared>);

#[derive(Default)]
struct Shared {
    entries: Mutex<HashMap<UploadId, Entry>>,
    fences: AtomicU64,
    pushers: AtomicU64,
}

/// A transfer that is running.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transfer {
    /// Whose upload it is.
    pub(crate) owner: Option<Principal>,
    /// The family of dialects that may touch it.
    pub(crate) family: Family,
    /// The upload's state when the transfer began, with the largest offset that its peer was told since.
    pub(crate) state: State,
}

/// Who wants an upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    /// By what authentication tells.
    pub(crate) principal: Option<&'a Principal>,
    /// The family of its request, where that says so.
    pub(crate) family: Option<Family>,
}

impl<'a> Asker<'a> {
    /// The sender of a request.
    pub(crate) fn of(request: &'a UploadRequest) -> Self {
        Self { principal: request.principal.as_ref(), family: Some(request.family) }
    }

    /// Whether the upload of a transfer is the asker's, and of its family.
    pub(crate) fn may_see(self, transfer: &Transfer) -> bool {
        transfer.owner.as_ref() == self.principal
            && self.family.is_none_or(|family| family == transfer.family)
    }
}

/// One upload that somebody holds or waits for.
struct Entry {
    /// One permit; fair, so that turns come in order.
    gate: Arc<Semaphore>,
    /// The present holder and all who wait.
    contenders: usize,
    /// The requests that wait and want the one before them to stop.
    pushing: Vec<Pusher>,
    /// Tells the present holder to stop.
    stop: CancellationToken,
    /// What is known of the content that the present holder receives.
    transfer: watch::Sender<Option<Transfer>>,
}

/// A request that wants the one before it to stop, if it may know of that one's transfer.
struct Pusher {
    number: u64,
    principal: Option<Principal>,
    family: Option<Family>,
}

impl Pusher {
    fn may_see(&self, transfer: &Transfer) -> bool {
        Asker { principal: self.principal.as_ref(), family: self.family }.may_see(transfer)
    }
}

/// The right to touch one upload, until dropped.
pub(crate) struct Claim {
    contender: Contender,
    fence: Fence,
    stop: CancellationToken,
    // Behind `contender`: an entry is forgotten before its permit could admit somebody to it.
    _permit: OwnedSemaphorePermit,
}

/// Why a claim was not given.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The present holder did not yield in time.
    Busy,
    /// The upload is somebody else's.
    Stranger,
}

/// Why a claim for a creation was not given.
#[derive(Debug)]
pub(crate) enum Occupied {
    /// A transfer is running; this is what is known to be stored.
    Transferring(Transfer),
    /// Somebody holds the upload for too long.
    Busy,
}

impl Claims {
    /// Ends what is running on the upload and takes its place.
    ///
    /// # Cancellation
    /// Safe to drop: the place in the queue is given up. What was running ends all the same.
    //= TOK-OFF-02, TOK-APP-04, TDR-OFF-07, IETF-CON-02, IETF-CON-04, IETF-DEL-03, TUS1-CON-01
    pub(crate) async fn take(
        &self,
        id: UploadId,
        asker: Asker<'_>,
        patience: Duration,
    ) -> Result<Claim, Denied> {
        let contender = self.contend(id, Some(asker));
        let (gate, mut transfer) = contender.entry(|entry| {
            entry.push();
            (Arc::clone(&entry.gate), entry.transfer.subscribe())
        });
        let is_strangers =
            |transfer: &Option<Transfer>| transfer.as_ref().is_some_and(|transfer| !asker.may_see(transfer));
        let turn = async {
            tokio::select! {
                biased;
                _ = transfer.wait_for(is_strangers) => Err(Denied::Stranger),
                permit = gate.acquire_owned() => Ok(permit.expect("gates are never closed")),
            }
        };
        let permit = tokio::time::timeout(patience, turn).await.map_err(|_| Denied::Busy)??;
        Ok(self.seat(contender, permit))
    }

    /// Takes the upload without ending a transfer that is running on it.
    ///
    /// # Cancellation
    /// Safe to drop.
    //= TOK-CRE-05
    pub(crate) async fn take_idle(&self, id: UploadId, patience: Duration) -> Result<Claim, Occupied> {
        let contender = self.contend(id, None);
        let (gate, mut transfer) =
            contender.entry(|entry| (Arc::clone(&entry.gate), entry.transfer.subscribe()));
        let turn = async {
            tokio::select! {
                biased;
                running = transfer.wait_for(Option::is_some) => {
                    let transfer = running.ok().and_then(|transfer| transfer.clone());
                    Err(transfer.map_or(Occupied::Busy, Occupied::Transferring))
                }
                permit = gate.acquire_owned() => Ok(permit.expect("gates are never closed")),
            }
        };
        let permit = tokio::time::timeout(patience, turn).await.map_err(|_| Occupied::Busy)??;
        Ok(self.seat(contender, permit))
    }

    /// Takes the upload if nobody else wants it.
    pub(crate) fn take_unwanted(&self, id: UploadId) -> Option<Claim> {
        let contender = self.contend(id, None);
        let gate = contender.entry(|entry| Arc::clone(&entry.gate));
        let permit = gate.try_acquire_owned().ok()?;
        Some(self.seat(contender, permit))
    }

    fn contend(&self, id: UploadId, pushes: Option<Asker<'_>>) -> Contender {
        let number = self.0.pushers.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.0.entries();
        let entry = entries.entry(id).or_insert_with(|| Entry {
            gate: Arc::new(Semaphore::new(1)),
            contenders: 0,
            pushing: Vec::new(),
            stop: CancellationToken::new(),
            transfer: watch::Sender::new(None),
        });
        entry.contenders += 1;
        if let Some(Asker { principal, family }) = pushes {
            entry.pushing.push(Pusher { number, principal: principal.cloned(), family });
        }
        drop(entries);
        Contender { claims: self.clone(), id, pusher: pushes.map(|_| number) }
    }

    fn seat(&self, mut contender: Contender, permit: OwnedSemaphorePermit) -> Claim {
        let stop = CancellationToken::new();
        let pusher = contender.pusher.take();
        contender.entry(|entry| {
            entry.forget(pusher);
            entry.stop = stop.clone();
            entry.transfer.send_replace(None);
        });
        let fence = Fence::new(self.0.fences.fetch_add(1, Ordering::Relaxed) + 1);
        Claim { contender, fence, stop, _permit: permit }
    }
}

impl Entry {
    /// Tells the present holder to stop, if it transfers and a request that may know of it waits. Turns come in order, so
    /// every request that pushes is newer than the holder.
    fn push(&self) {
        let transfer = self.transfer.borrow();
        if transfer
            .as_ref()
            .is_some_and(|transfer| self.pushing.iter().any(|pusher| pusher.may_see(transfer)))
        {
            self.stop.cancel();
        }
    }

    fn forget(&mut self, pusher: Option<u64>) {
        if let Some(number) = pusher {
            self.pushing.retain(|pusher| pusher.number != number);
        }
    }
}

impl Shared {
    fn entries(&self) -> MutexGuard<'_, HashMap<UploadId, Entry>> {
        // Nothing between lock and unlock can leave the map half changed.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The upload.
    pub(crate) fn id(&self) -> UploadId {
        self.contender.id
    }

    /// The epoch to write under.
    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// Completes when a newer request wants the upload, once this one [transfers](Self::transfers).
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Says that content is being received from here on, so that a creation under the same name is refused at once, and a
    /// newer request that may know of it can end it.
    pub(crate) fn transfers(&self, upload: &Upload) {
        let transfer = Transfer { owner: upload.owner.clone(), family: upload.family, state: upload.into() };
        self.contender.entry(|entry| {
            entry.transfer.send_replace(Some(transfer));
            entry.push();
        });
    }

    /// Says how much is stored, before the peer is told so: nobody may be told less from here on.
    //= IETF-OFF-01
    pub(crate) fn tells(&self, offset: Durable) {
        self.contender.entry(|entry| {
            entry.transfer.send_modify(|transfer| {
                if let Some(transfer) = transfer {
                    transfer.state.offset = offset;
                }
            });
        });
    }
}

/// One who holds an upload or waits for it.
struct Contender {
    claims: Claims,
    id: UploadId,
    pusher: Option<u64>,
}

impl Contender {
    fn entry<T>(&self, act: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.claims.0.entries();
        act(entries.get_mut(&self.id).expect("an entry stays as long as it has a contender"))
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        let mut entries = self.claims.0.entries();
        let Some(entry) = entries.get_mut(&self.id) else { return };
        entry.contenders -= 1;
        entry.forget(self.pusher);
        if entry.contenders == 0 {
            entries.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use hoist_proto::types::Timestamp;
    use hoist_proto::upload::{Completion, Composition, Excess, Interruption, Origin, Phase, Semantics};

    use super::*;

    const ID: UploadId = UploadId::from_bits([1; 16]);
    const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
    const ANYONE: Asker<'_> = Asker { principal: None, family: Some(Family::Conventional) };

    fn upload(owner: Option<Principal>) -> Upload {
        let (completion, excess) = (Completion::AtLength, Excess::Keeps);
        Upload {
            id: ID,
            family: Family::Conventional,
            semantics: Semantics { completion, excess, interruption: Interruption::Resumes },
            owner,
            composition: Composition::Direct,
            origin: Origin { method: http::Method::POST, target: "/".into(), fields: http::HeaderMap::new() },
            created: Timestamp::from_millis(0),
            touched: Timestamp::from_millis(0),
            lifetime: None,
            length: None,
            offset: Durable::ZERO,
            phase: Phase::Open,
        }
    }

    // proves: TOK-OFF-02, TOK-APP-04
    #[tokio::test]
    async fn a_newer_request_stops_the_holder_and_follows_it() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        first.transfers(&upload(None));
        let mut second = Box::pin(claims.take(ID, ANYONE, CLAIM_TIMEOUT));
        assert!(is_pending(&mut second).await);
        first.stopped().await;
        let older = first.fence();
        drop(first);
        let second = second.await.expect("yielded");
        assert!(second.fence() > older);
        drop(second);
        assert!(claims.0.entries().is_empty(), "nothing is remembered of a free upload");
    }

    #[tokio::test]
    async fn whoever_is_overtaken_while_waiting_is_stopped_when_its_turn_comes() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        let mut second = Box::pin(claims.take(ID, ANYONE, CLAIM_TIMEOUT));
        let mut third = Box::pin(claims.take(ID, ANYONE, CLAIM_TIMEOUT));
        assert!(is_pending(&mut second).await && is_pending(&mut third).await);
        drop(first);
        let second = second.await.expect("its turn");
        second.transfers(&upload(None));
        second.stopped().await;
        assert!(is_pending(&mut third).await);
        drop(second);
        let third = third.await.expect("its turn");
        assert!(!third.stop.is_cancelled());
    }

    // proves: TOK-CRE-05
    #[tokio::test]
    async fn a_creation_disturbs_no_transfer_and_outwaits_everything_else() {
        let claims = Claims::default();
        let asking = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        let mut creation = Box::pin(claims.take_idle(ID, CLAIM_TIMEOUT));
        assert!(is_pending(&mut creation).await);
        assert!(!asking.stop.is_cancelled());
        drop(asking);
        let creating = creation.await.expect("its turn");
        creating.transfers(&upload(None));
        let refused = claims.take_idle(ID, CLAIM_TIMEOUT).await.map(|_| ());
        assert!(matches!(refused, Err(Occupied::Transferring(_))));
        assert!(!creating.stop.is_cancelled());
        assert!(claims.take_unwanted(ID).is_none());
    }

    #[tokio::test]
    async fn a_stranger_ends_no_transfer() {
        let (claims, anna) = (Claims::default(), Principal::new("anna"));
        let transfer =
            claims.take(ID, Asker { principal: Some(&anna), ..ANYONE }, CLAIM_TIMEOUT).await.expect("free");
        transfer.transfers(&upload(Some(anna.clone())));
        let ben = Principal::new("ben");
        let of_anna = |family| Asker { principal: Some(&anna), family };
        for stranger in [ANYONE, Asker { principal: Some(&ben), ..ANYONE }, of_anna(Some(Family::Tus1))] {
            assert!(matches!(claims.take(ID, stranger, CLAIM_TIMEOUT).await, Err(Denied::Stranger)));
        }
        assert!(!transfer.stop.is_cancelled());
        drop(transfer);
        // Nor one that begins while the stranger waits.
        let holder =
            claims.take(ID, Asker { principal: Some(&anna), ..ANYONE }, CLAIM_TIMEOUT).await.expect("free");
        let mut early = Box::pin(claims.take(ID, Asker { principal: Some(&ben), ..ANYONE }, CLAIM_TIMEOUT));
        assert!(is_pending(&mut early).await);
        holder.transfers(&upload(Some(anna.clone())));
        assert!(matches!(early.await, Err(Denied::Stranger)));
        assert!(!holder.stop.is_cancelled());
        let transfer = holder;
        let mut newer = Box::pin(claims.take(ID, of_anna(None), CLAIM_TIMEOUT));
        assert!(is_pending(&mut newer).await && transfer.stop.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_does_not_yield_is_not_waited_for_for_ever() {
        let claims = Claims::default();
        let stuck = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        assert!(claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.is_err());
        assert!(matches!(claims.take_idle(ID, CLAIM_TIMEOUT).await.map(|_| ()), Err(Occupied::Busy)));
        drop(stuck);
        assert!(claims.take_unwanted(ID).is_some());
        assert!(claims.0.entries().is_empty());
    }

    #[tokio::test]
    async fn giving_up_waiting_leaves_nothing_behind() {
        let claims = Claims::default();
        let first = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        let mut second = Box::pin(claims.take(ID, ANYONE, CLAIM_TIMEOUT));
        assert!(is_pending(&mut second).await);
        drop(second);
        drop(first);
        assert!(claims.0.entries().is_empty());
        let third = claims.take(ID, ANYONE, CLAIM_TIMEOUT).await.expect("free");
        assert!(!third.stop.is_cancelled(), "who gave up does not push any more");
    }

    /// Whether a future is not ready after one poll.
    async fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
