//! Quotas: bounds on the number and the bytes of the uploads of one peer, and of all peers together. The admission mode is in
//! `admission/mode.rs`.
//!
//! Owns a ledger of the stored uploads. It is filled from the store after the start and updated by every request. A
//! request reserves before it writes, so that concurrent requests cannot exceed a quota together. A dropped
//! `Reservation` is released, unless the upload was stored. Bounds on one upload are in the policy, those on
//! connections in the transport.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Length, Offset, Principal, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::UploadSummary;
use tokio::sync::watch;

pub use mode::{AdmissionMode, NotAnAdmissionMode};

pub(crate) use mode::{Brings, ModeInForce};

use crate::locked;

mod mode;

/// Content of unknown length is reserved in steps of this size, as long as a quota leaves so much.
const STEP_BYTES: u64 = 1 << 20;

/// The longest time a creation waits for the ledger to be filled.
const FILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds over many uploads together. `None` means no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// The most unfinished uploads of all peers together. Default 10,000.
    pub open_max: Option<usize>,
    /// The most unfinished uploads of one principal. Default 1,000.
    pub open_max_each: Option<usize>,
    /// The most unfinished uploads of one address, for peers without a principal. An IPv6 address counts by its first 64
    /// bits. Uploads from before the start do not count, because addresses are not stored. Default 1,000.
    pub open_max_address: Option<usize>,
    /// The most complete uploads that are kept. Default 1,000,000.
    pub complete_max: Option<usize>,
    /// The most bytes of all uploads together: for each the larger of its declared length and its stored bytes, and its
    /// record.
    pub bytes_max: Option<u64>,
    /// The most bytes of one principal, counted in the same way.
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

/// The party whose quota an upload counts towards, besides the total.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Payer {
    Principal(Principal),
    /// An IPv6 address, or an IPv4 address mapped into IPv6, without the bits that change for one peer.
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
    /// True if there was a quota of bytes at the start. Otherwise complete uploads have no account.
    counts_bytes: bool,
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
    /// While the ledger is being filled: the uploads that requests have added or removed meanwhile. A listing that began
    /// earlier does not know of them.
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
    pub(crate) fn new(quotas: Quotas) -> Self {
        let counts_bytes = quotas.bytes_max.is_some() || quotas.bytes_max_each.is_some();
        let filled = Arc::new(watch::Sender::new(Filled::All));
        Self { quotas, counts_bytes, books: Arc::default(), filled }
    }

    /// Returns a ledger of the same uploads with the quotas of another one. Quotas of bytes are left out if this ledger
    /// does not count bytes.
    pub(crate) fn with_quotas(&self, other: &Self) -> Self {
        let mut quotas = other.quotas;
        if !self.counts_bytes {
            (quotas.bytes_max, quotas.bytes_max_each) = (None, None);
        }
        Self { quotas, ..self.clone() }
    }

    /// Clears the ledger, to be filled from the store.
    pub(crate) fn fill(&self) {
        *locked(&self.books) = Books::default();
        self.filled.send_replace(Filled::Nothing);
    }

    /// Notes which part of the store has been [counted](Ledger::found).
    pub(crate) fn filled(&self, filled: Filled) {
        if filled == Filled::All {
            locked(&self.books).entered = HashSet::new();
        }
        self.filled.send_replace(filled);
    }

    /// Waits until the ledger has counted all that the quotas need: the open uploads, and the complete ones if there is a
    /// quota of bytes. Refuses with 503 if that takes too long.
    pub(crate) async fn ready(&self) -> Result<(), Refusal> {
        let waited = tokio::time::timeout(FILL_TIMEOUT, self.counted()).await;
        waited.map_err(|_| Reason::Unavailable(FILL_TIMEOUT).into())
    }

    /// Completes when the ledger has counted that.
    pub(crate) async fn counted(&self) {
        let needed = self.needed();
        // The sender is in this ledger, so that the wait does not fail.
        let _ = self.filled.subscribe().wait_for(|filled| *filled >= needed).await;
    }

    /// Returns whether the ledger has counted that.
    pub(crate) fn is_ready(&self) -> bool {
        *self.filled.borrow() >= self.needed()
    }

    fn needed(&self) -> Filled {
        if self.counts_bytes() { Filled::All } else { Filled::Open }
    }

    /// Reserves room for a new upload, or for more content of one, unless that exceeds a quota.
    //= TOK-SEC-04, IETF-SEC-07
    pub(crate) fn admit(
        &self,
        upload: &Upload,
        content_bytes: Option<u64>,
        client: Option<IpAddr>,
    ) -> Result<Reservation, Refusal> {
        let end = upload.offset.offset().get().saturating_add(content_bytes.unwrap_or(0));
        let mut books = locked(&self.books);
        let before = books.uploads.get(&upload.id).cloned();
        let kept_bytes = upload.record_bytes();
        let payer =
            before.as_ref().map_or_else(|| Payer::of(upload, client), |account| account.payer.clone());
        let account = Account::new(payer, true, end, upload.length, kept_bytes);
        if before.as_ref().is_none_or(|before| !before.open) {
            self.require_place(&books, account.payer.as_ref())?;
        }
        let held = before.as_ref().map_or(0, |before| before.bytes);
        if account.bytes > held {
            let (most, bytes_max) = self.most_bytes(&books, before.as_ref(), account.payer.as_ref());
            if account.bytes > most {
                return Err(Reason::QuotaExceeded { bytes_max }.into());
            }
        }
        books.enter(upload.id, Some(account));
        drop(books);
        let falls_back_to = before.map_or(Fallback::Absent, Fallback::Account);
        Ok(Reservation { ledger: self.clone(), id: upload.id, kept_bytes, falls_back_to })
    }

    /// Updates the account of an upload to its present state. Must be called under its claim.
    pub(crate) fn record(&self, upload: &Upload) {
        let (is_open, stored) = (!upload.is_complete(), upload.offset.offset().get());
        let mut books = locked(&self.books);
        let payer = books.uploads.get(&upload.id).map(|account| account.payer.clone());
        let payer = payer.unwrap_or_else(|| upload.owner.clone().map(Payer::Principal));
        let account = Account::new(payer, is_open, stored, upload.length, upload.record_bytes());
        self.settle(&mut books, upload.id, account, self.is_filled());
    }

    /// Counts an upload that was stored before the start.
    pub(crate) fn found(&self, summary: &UploadSummary) {
        let UploadSummary { is_open, stored, length, record_bytes, .. } = *summary;
        let payer = summary.owner.clone().map(Payer::Principal);
        let account = Account::new(payer, is_open, stored.get(), length, record_bytes);
        let mut books = locked(&self.books);
        // The account of a request is newer, and an upload that is completed during the listing is listed twice.
        if !books.entered.contains(&summary.id) {
            self.settle(&mut books, summary.id, account, false);
        }
    }

    /// Drops the account that a request left for an upload that is not stored. Must be called under its claim.
    pub(crate) fn absent(&self, id: UploadId) {
        locked(&self.books).enter(id, None);
    }

    /// Drops the account of an upload that was stored. Must be called under its claim.
    pub(crate) fn forget(&self, id: UploadId) {
        let mut books = locked(&self.books);
        let is_counted = self.is_filled() || books.entered.contains(&id);
        if !books.uploads.contains_key(&id) && is_counted {
            books.all.complete = books.all.complete.saturating_sub(1);
        }
        books.enter(id, None);
        self.note(&mut books, id);
    }

    /// Sets the account of a stored upload. `is_counted` is true if a complete upload has been counted already.
    fn settle(&self, books: &mut Books, id: UploadId, account: Account, is_counted: bool) {
        let is_counted = is_counted || books.entered.contains(&id);
        self.note(books, id);
        if account.open || self.counts_bytes() {
            books.enter(id, Some(account));
        } else if books.uploads.contains_key(&id) || !is_counted {
            // A complete upload takes memory here only if there is a quota of bytes.
            books.enter(id, None);
            books.all.complete += 1;
        }
    }

    fn note(&self, books: &mut Books, id: UploadId) {
        if !self.is_filled() {
            books.entered.insert(id);
        }
    }

    fn require_place(&self, books: &Books, payer: Option<&Payer>) -> Result<(), Refusal> {
        let each = match payer {
            Some(Payer::Principal(_)) => self.quotas.open_max_each,
            Some(Payer::Address(_)) => self.quotas.open_max_address,
            None => None,
        };
        for (open, most) in [(books.all.open, self.quotas.open_max), (books.of(payer).open, each)] {
            if let Some(uploads_max) = most.filter(|most| open >= *most) {
                return Err(Reason::TooManyUploads { uploads_max }.into());
            }
        }
        if let Some(uploads_max) = self.quotas.complete_max.filter(|most| books.all.complete >= *most) {
            tracing::warn!(
                uploads_max,
                "the number of complete uploads is at its quota; set --retain, or raise --max-complete-uploads"
            );
            return Err(Reason::StorageFull.into());
        }
        Ok(())
    }

    /// Returns the most bytes that the upload may have within the quotas, and the quota that decides.
    fn most_bytes(&self, books: &Books, before: Option<&Account>, payer: Option<&Payer>) -> (u64, u64) {
        let held = before.map_or(0, |before| before.bytes);
        let each = self.quotas.bytes_max_each.filter(|_| matches!(payer, Some(Payer::Principal(_))));
        let bounds = [(books.all.bytes, self.quotas.bytes_max), (books.of(payer).bytes, each)];
        let bounds = bounds.into_iter().filter_map(|(taken, most)| Some((taken, most?)));
        let bounds = bounds.map(|(taken, most)| (most.saturating_sub(taken.saturating_sub(held)), most));
        bounds.min().unwrap_or((u64::MAX, u64::MAX))
    }

    /// Returns the number of unfinished uploads, with those that requests are about to create. Until the ledger is filled,
    /// uploads from before the start are missing.
    pub(crate) fn open_uploads(&self) -> usize {
        locked(&self.books).all.open
    }

    pub(crate) fn counts_bytes(&self) -> bool {
        self.counts_bytes
    }

    pub(crate) fn is_filled(&self) -> bool {
        *self.filled.borrow() == Filled::All
    }
}

/// The quota that a request has reserved for the upload whose claim it holds. Releases the unused part when dropped.
#[must_use = "a dropped reservation is released"]
pub(crate) struct Reservation {
    ledger: Ledger,
    id: UploadId,
    /// Bytes of the record.
    kept_bytes: u64,
    falls_back_to: Fallback,
}

/// The account of an upload after its reservation is dropped.
enum Fallback {
    /// None: the upload is not stored.
    Absent,
    /// The one from before the request, or from before its content.
    Account(Account),
    /// The one it has then.
    Settled,
}

impl Reservation {
    /// Notes that the upload is stored. A later failure leaves it stored, with its reservation.
    pub(crate) fn stored(&mut self) {
        let mut books = locked(&self.ledger.books);
        let account = books.uploads.get(&self.id).cloned();
        self.falls_back_to = account.map_or(Fallback::Settled, Fallback::Account);
        self.ledger.note(&mut books, self.id);
    }

    /// Reserves content up to `end`. Returns the offset up to which content may be stored, which is lower than `end` if a
    /// quota leaves less.
    pub(crate) fn extend(&mut self, end: Offset) -> Offset {
        let mut books = locked(&self.ledger.books);
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

    /// Ends the reservation and sets the account to the present state of the upload.
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
        let mut books = locked(&self.ledger.books);
        // The upload may have been removed or completed meanwhile.
        if books.uploads.get(&self.id).is_some_and(|account| account.open) {
            books.enter(self.id, account);
        }
    }
}

impl Account {
    fn new(payer: Option<Payer>, open: bool, stored: u64, length: Option<Length>, record_bytes: u64) -> Self {
        let length = length.filter(|_| open).map_or(0, Length::get);
        Self { payer, open, bytes: record_bytes.saturating_add(stored.max(length)) }
    }

    fn sum(&self) -> Sum {
        Sum { open: usize::from(self.open), complete: usize::from(!self.open), bytes: self.bytes }
    }
}

impl Books {
    fn of(&self, payer: Option<&Payer>) -> Sum {
        payer.and_then(|payer| self.payers.get(payer)).copied().unwrap_or_default()
    }

    /// Replaces the account of an upload, and updates the sums.
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
