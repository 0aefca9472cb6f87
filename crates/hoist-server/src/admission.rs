//! Bounds over many uploads together: how many, and how many bytes, one peer and all of them may have.
//!
//! Owns a ledger of what is stored. It is filled from the store after the start and kept by the requests since; a request
//! reserves before it writes, so that requests that run at once cannot exceed a bound together. What a request has
//! reserved is given back when its `Reservation` is dropped, unless it was kept. Bounds on one upload are the policy's,
//! those on connections the transport's.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Offset, Principal, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::UploadSummary;
use tokio::sync::watch;

/// Content of unknown length is reserved in steps of this size, as long as a quota leaves so much.
const STEP_BYTES: u64 = 1 << 20;

/// The longest time a creation waits for the ledger to be filled.
const FILLING_PATIENCE: Duration = Duration::from_secs(5);

/// Bounds over many uploads together. Absent ones do not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Unfinished uploads of all. Default 10,000.
    pub open_max: Option<usize>,
    /// Unfinished uploads of one principal. Default 1,000.
    pub open_max_each: Option<usize>,
    /// Unfinished uploads of one address, of peers without a principal. An address of IPv6 counts by its first 64 bits.
    /// Counts since the start, because no address is stored. Default 1,000.
    pub open_max_address: Option<usize>,
    /// Complete uploads of all that are remembered. Default 1,000,000.
    pub complete_max: Option<usize>,
    /// Bytes of all, declared or stored, whichever is more, with the fields kept of their creation.
    pub bytes_max: Option<u64>,
    /// Bytes of one principal, as above.
    pub bytes_max_each: Option<u64>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            open_max: Some(10_000),
            open_max_each: Some(1_000),
            open_max_address: Some(1_000),
            complete_max: Some(1_000_000),
            bytes_max: None,
            bytes_max_each: None,
        }
    }
}

/// The party that an upload is counted for, besides all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Payer {
    Principal(Principal),
    /// The bits of an address that stay the same for one peer.
    Address(u128),
}

impl Payer {
    fn of(upload: &Upload, client: Option<IpAddr>) -> Option<Self> {
        if let Some(owner) = &upload.owner {
            return Some(Self::Principal(owner.clone()));
        }
        Some(Self::Address(match client?.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() >> 64 << 64,
        }))
    }
}

/// The accounts of stored uploads, in total and for each payer.
#[derive(Clone)]
pub(crate) struct Ledger {
    quotas: Quotas,
    books: Arc<Mutex<Books>>,
    filled: Arc<watch::Sender<Filled>>,
}

/// The share of the uploads stored at the start that the ledger has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filled {
    Nothing,
    /// The open uploads.
    Open,
    All,
}

#[derive(Default)]
struct Books {
    /// Open uploads, and complete ones where their bytes count.
    uploads: HashMap<UploadId, Account>,
    payers: HashMap<Payer, Sum>,
    all: Sum,
    /// While the ledger is being filled: the uploads that requests have entered or struck out meanwhile, of which a listing
    /// that began earlier knows nothing.
    entered: HashSet<UploadId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    payer: Option<Payer>,
    open: bool,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    open: usize,
    complete: usize,
    bytes: u64,
}

impl Ledger {
    /// An empty ledger, filled already: that of an empty store.
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self { quotas, books: Arc::default(), filled: Arc::new(watch::Sender::new(Filled::All)) }
    }

    /// Begins to fill the ledger from what is stored.
    pub(crate) fn fill(&self) {
        *self.books() = Books::default();
        self.filled.send_replace(Filled::Nothing);
    }

    /// So much of what is stored has been [found](Ledger::found).
    pub(crate) fn filled(&self, filled: Filled) {
        if filled == Filled::All {
            self.books().entered = HashSet::new();
        }
        self.filled.send_replace(filled);
    }

    /// Waits until the ledger knows enough to bind a new upload, or more content for one: the open uploads, and the
    /// complete ones where their bytes count.
    ///
    /// # Errors
    /// A refusal when it takes too long; the peer should ask again.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn ready(&self) -> Result<(), Refusal> {
        let needed = if self.counts_bytes() { Filled::All } else { Filled::Open };
        let mut filled = self.filled.subscribe();
        let enough = filled.wait_for(|filled| *filled >= needed);
        match tokio::time::timeout(FILLING_PATIENCE, enough).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::Unavailable(FILLING_PATIENCE)),
        }
    }

    /// Reserves a new upload, or more content for one, unless that breaks a quota.
    //= TOK-SEC-04, IETF-SEC-07
    pub(crate) fn admit(
        &self,
        upload: &Upload,
        content_bytes: Option<u64>,
        client: Option<IpAddr>,
    ) -> Result<Reservation, Refusal> {
        let end = upload.offset.offset().get().saturating_add(content_bytes.unwrap_or(0));
        let bytes = upload.length.map_or(end, |length| length.get().max(end));
        let mut books = self.books();
        let before = books.uploads.get(&upload.id).cloned();
        let kept_bytes = upload.record_bytes();
        let account = Account {
            payer: before.as_ref().map_or_else(|| Payer::of(upload, client), |account| account.payer.clone()),
            open: true,
            bytes: kept_bytes.saturating_add(bytes),
        };
        if before.as_ref().is_none_or(|before| !before.open) {
            self.require_place(&books, account.payer.as_ref())?;
        }
        let held = before.as_ref().map_or(0, |before| before.bytes);
        if account.bytes > held {
            let (most, bytes_max) = self.most_bytes(&books, before.as_ref(), account.payer.as_ref());
            if account.bytes > most {
                return Err(Refusal::Quota { bytes_max });
            }
        }
        books.enter(upload.id, Some(account));
        drop(books);
        let falls_back_to = before.map_or(Fallback::Absent, Fallback::Account);
        Ok(Reservation { ledger: self.clone(), id: upload.id, kept_bytes, falls_back_to })
    }

    /// Enters an upload as it is now. To be called under its claim.
    pub(crate) fn record(&self, upload: &Upload) {
        let stored = upload.offset.offset().get();
        let bytes = upload.length.map_or(stored, |length| length.get().max(stored));
        let mut books = self.books();
        let payer = books.uploads.get(&upload.id).map(|account| account.payer.clone());
        let account = Account {
            payer: payer.unwrap_or_else(|| upload.owner.clone().map(Payer::Principal)),
            open: !upload.is_complete(),
            bytes: upload.record_bytes().saturating_add(if upload.is_complete() { stored } else { bytes }),
        };
        self.settle(&mut books, upload.id, account, self.is_filled());
    }

    /// Enters an upload that was there before the start.
    pub(crate) fn found(&self, summary: &UploadSummary) {
        let stored = summary.stored.get();
        let bytes = summary.length.map_or(stored, |length| length.get().max(stored));
        let account = Account {
            payer: summary.owner.clone().map(Payer::Principal),
            open: summary.is_open,
            bytes: summary.record_bytes.saturating_add(if summary.is_open { bytes } else { stored }),
        };
        let mut books = self.books();
        // A request knows better, and an upload that moves while it is surveyed is met twice.
        if !books.entered.contains(&summary.id) {
            self.settle(&mut books, summary.id, account, false);
        }
    }

    /// Strikes out what a request has left of an upload that is not there. To be called under its claim.
    pub(crate) fn absent(&self, id: UploadId) {
        self.books().enter(id, None);
    }

    /// Strikes out an upload that was stored. To be called under its claim.
    pub(crate) fn forget(&self, id: UploadId) {
        let mut books = self.books();
        let is_counted = self.is_filled() || books.entered.contains(&id);
        if !books.uploads.contains_key(&id) && is_counted {
            books.all.complete = books.all.complete.saturating_sub(1);
        }
        books.enter(id, None);
        self.note(&mut books, id);
    }

    /// Enters an upload that is stored. `is_counted` says whether it has been counted already, in case it is complete.
    fn settle(&self, books: &mut Books, id: UploadId, account: Account, is_counted: bool) {
        let is_counted = is_counted || books.entered.contains(&id);
        self.note(books, id);
        if account.open || self.counts_bytes() {
            books.enter(id, Some(account));
        } else if books.uploads.contains_key(&id) || !is_counted {
            // A complete upload costs memory here only where its bytes count.
            books.enter(id, None);
            books.all.complete += 1;
        }
    }

    fn note(&self, books: &mut Books, id: UploadId) {
        if !self.is_filled() {
            books.entered.insert(id);
        }
    }

    /// Checks that the quotas allow one more open upload.
    fn require_place(&self, books: &Books, payer: Option<&Payer>) -> Result<(), Refusal> {
        let open_of = |payer| books.payers.get(payer).map_or(0, |sum| sum.open);
        let each = match payer {
            Some(payer @ Payer::Principal(_)) => Some((open_of(payer), self.quotas.open_max_each)),
            Some(payer @ Payer::Address(_)) => Some((open_of(payer), self.quotas.open_max_address)),
            None => None,
        };
        for (open, most) in [Some((books.all.open, self.quotas.open_max)), each].into_iter().flatten() {
            if let Some(uploads_max) = most
                && open >= uploads_max
            {
                return Err(Refusal::TooMany { uploads_max });
            }
        }
        if let Some(uploads_max) = self.quotas.complete_max
            && books.all.complete >= uploads_max
        {
            tracing::warn!(
                uploads_max,
                "as many complete uploads are kept as may be; set --retain, or raise --max-complete-uploads"
            );
            return Err(Refusal::Full(None));
        }
        Ok(())
    }

    /// The most bytes an upload may have within the quotas, and the quota that says so.
    fn most_bytes(&self, books: &Books, before: Option<&Account>, payer: Option<&Payer>) -> (u64, u64) {
        let held = before.map_or(0, |before| before.bytes);
        let each = match payer {
            Some(payer @ Payer::Principal(_)) => self
                .quotas
                .bytes_max_each
                .map(|most| (books.payers.get(payer).map_or(0, |sum| sum.bytes), most)),
            Some(Payer::Address(_)) | None => None,
        };
        let all = self.quotas.bytes_max.map(|most| (books.all.bytes, most));
        let bounds = [all, each].into_iter().flatten();
        let bounds = bounds.map(|(taken, most)| (most.saturating_sub(taken.saturating_sub(held)), most));
        bounds.min().unwrap_or((u64::MAX, u64::MAX))
    }

    /// Returns `true` if a quota limits the stored bytes.
    pub(crate) fn counts_bytes(&self) -> bool {
        self.quotas.bytes_max.is_some() || self.quotas.bytes_max_each.is_some()
    }

    /// Returns `true` if all uploads stored at the start have been counted.
    pub(crate) fn is_filled(&self) -> bool {
        *self.filled.borrow() == Filled::All
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The quota that a request has reserved for the upload whose claim it holds. Releases the unused part when dropped.
#[must_use = "a reservation that is dropped is given back"]
pub(crate) struct Reservation {
    ledger: Ledger,
    id: UploadId,
    /// Bytes of the record.
    kept_bytes: u64,
    falls_back_to: Fallback,
}

/// The account that an upload has when its reservation is dropped.
enum Fallback {
    /// None: the upload is not stored.
    Absent,
    /// The one before the request, or before its content.
    Account(Account),
    /// The one it has by then.
    Settled,
}

impl Reservation {
    /// The upload is stored: from here on a failure leaves it there, with what was reserved.
    pub(crate) fn stored(&mut self) {
        let mut books = self.ledger.books();
        let account = books.uploads.get(&self.id).cloned();
        self.falls_back_to = account.map_or(Fallback::Settled, Fallback::Account);
        self.ledger.note(&mut books, self.id);
    }

    /// Reserves content up to `end`, and says up to where it may go. Less than `end` is what a quota leaves.
    pub(crate) fn extend(&mut self, end: Offset) -> Offset {
        let mut books = self.ledger.books();
        let Some(account) = books.uploads.get(&self.id).cloned() else { return end };
        let wanted = self.kept_bytes.saturating_add(end.get());
        if wanted <= account.bytes {
            return end;
        }
        let (most, _) = self.ledger.most_bytes(&books, Some(&account), account.payer.as_ref());
        let bytes = wanted.saturating_add(STEP_BYTES).min(most).max(account.bytes);
        books.enter(self.id, Some(Account { bytes, ..account }));
        end.min(Offset::new(bytes.saturating_sub(self.kept_bytes)))
    }

    /// The content has ended, and the upload is as it is now.
    pub(crate) fn settle(mut self, upload: &Upload) {
        self.falls_back_to = Fallback::Settled;
        self.ledger.record(upload);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let account = match std::mem::replace(&mut self.falls_back_to, Fallback::Settled) {
            Fallback::Absent => None,
            Fallback::Account(account) => Some(account),
            Fallback::Settled => return,
        };
        let mut books = self.ledger.books();
        // It may have been removed meanwhile, or have become complete.
        if books.uploads.get(&self.id).is_some_and(|account| account.open) {
            books.enter(self.id, account);
        }
    }
}

impl Account {
    fn sum(&self) -> Sum {
        Sum { open: usize::from(self.open), complete: usize::from(!self.open), bytes: self.bytes }
    }
}

impl Books {
    /// Replaces an upload's account, and keeps the sums true.
    fn enter(&mut self, id: UploadId, account: Option<Account>) {
        let before = match &account {
            Some(account) => self.uploads.insert(id, account.clone()),
            None => self.uploads.remove(&id),
        };
        if let Some(before) = before {
            let sum = before.sum();
            self.all.subtract(sum);
            if let Some(payer) = &before.payer
                && let Some(of_payer) = self.payers.get_mut(payer)
            {
                of_payer.subtract(sum);
                if *of_payer == Sum::default() {
                    self.payers.remove(payer);
                }
            }
        }
        if let Some(account) = account {
            let sum = account.sum();
            self.all.add(sum);
            if let Some(payer) = account.payer {
                self.payers.entry(payer).or_default().add(sum);
            }
        }
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.open += other.open;
        self.complete += other.complete;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn subtract(&mut self, other: Self) {
        self.open = self.open.saturating_sub(other.open);
        self.complete = self.complete.saturating_sub(other.complete);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}
