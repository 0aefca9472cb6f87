//! How many uploads, and how many bytes, one principal and all together may have.
//!
//! Owns a ledger of what is stored, filled from the store at start and kept by the requests since. Bounds on one upload
//! are the policy's, those on connections the transport's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::Upload;
use hoist_store::store::Sketch;

/// Bounds over many uploads together. Absent ones do not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Unfinished uploads of all. Default 10,000.
    pub open_max: Option<usize>,
    /// Unfinished uploads of one principal. Anonymous peers are not one principal, so this does not bind them.
    /// Default 1,000.
    pub open_max_each: Option<usize>,
    /// Bytes of all, declared or stored, whichever is more. Checked when a request begins.
    pub bytes_max: Option<u64>,
    /// Bytes of one principal, as above.
    pub bytes_max_each: Option<u64>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { open_max: Some(10_000), open_max_each: Some(1_000), bytes_max: None, bytes_max_each: None }
    }
}

/// What is stored, by whom.
#[derive(Clone)]
pub(crate) struct Ledger {
    quotas: Quotas,
    books: Arc<Mutex<Books>>,
}

#[derive(Default)]
struct Books {
    uploads: HashMap<UploadId, Account>,
    principals: HashMap<Principal, Sum>,
    all: Sum,
}

#[derive(Clone)]
struct Account {
    owner: Option<Principal>,
    open: bool,
    bytes: u64,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    open: usize,
    bytes: u64,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self { quotas, books: Arc::default() }
    }

    /// Enters a new upload, or more content for one, unless that breaks a quota.
    //= TOK-SEC-04, IETF-SEC-07
    pub(crate) fn admit(&self, upload: &Upload, content_bytes: Option<u64>) -> Result<(), Refusal> {
        let end = upload.offset.offset().get().saturating_add(content_bytes.unwrap_or(0));
        let account = Account {
            owner: upload.owner.clone(),
            open: true,
            bytes: upload.length.map_or(end, |length| length.get().max(end)),
        };
        let mut books = self.books();
        let before = books.uploads.get(&upload.id).map_or(Sum::default(), Account::sum);
        let after = account.sum();
        let each =
            account.owner.as_ref().map(|owner| books.principals.get(owner).copied().unwrap_or_default());
        let bounds = [
            (Some(books.all), self.quotas.open_max, self.quotas.bytes_max),
            (each, self.quotas.open_max_each, self.quotas.bytes_max_each),
        ];
        for (sum, open_max, bytes_max) in bounds {
            let Some(sum) = sum else { continue };
            if let Some(uploads_max) = open_max
                && after.open > before.open
                && sum.open + 1 > uploads_max
            {
                return Err(Refusal::TooMany { uploads_max });
            }
            if let Some(bytes_max) = bytes_max
                && after.bytes > before.bytes
                && sum.bytes - before.bytes.min(sum.bytes) + after.bytes > bytes_max
            {
                return Err(Refusal::Quota { bytes_max });
            }
        }
        books.enter(upload.id, Some(account));
        Ok(())
    }

    /// Enters an upload as it is now.
    pub(crate) fn record(&self, upload: &Upload) {
        let stored = upload.offset.offset().get();
        let account = Account {
            owner: upload.owner.clone(),
            open: !upload.is_complete(),
            bytes: upload.length.map_or(stored, |length| length.get().max(stored)),
        };
        self.settle(upload.id, account);
    }

    /// Enters an upload that was there before.
    pub(crate) fn found(&self, sketch: &Sketch) {
        let stored = sketch.stored.get();
        let account = Account {
            owner: sketch.owner.clone(),
            open: sketch.is_open,
            bytes: sketch.length.map_or(stored, |length| length.get().max(stored)),
        };
        self.settle(sketch.id, account);
    }

    /// Strikes an upload out.
    pub(crate) fn forget(&self, id: UploadId) {
        self.books().enter(id, None);
    }

    fn settle(&self, id: UploadId, account: Account) {
        // Complete uploads cost memory here, so they are entered only where their bytes count.
        let counts = account.open || self.quotas.bytes_max.is_some() || self.quotas.bytes_max_each.is_some();
        self.books().enter(id, counts.then_some(account));
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn sum(&self) -> Sum {
        Sum { open: usize::from(self.open), bytes: self.bytes }
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
            if let Some(owner) = &before.owner
                && let Some(of_owner) = self.principals.get_mut(owner)
            {
                of_owner.subtract(sum);
                if of_owner.open == 0 && of_owner.bytes == 0 {
                    self.principals.remove(owner);
                }
            }
        }
        if let Some(account) = account {
            let sum = account.sum();
            self.all.add(sum);
            if let Some(owner) = account.owner {
                self.principals.entry(owner).or_default().add(sum);
            }
        }
    }
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.open += other.open;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn subtract(&mut self, other: Self) {
        self.open = self.open.saturating_sub(other.open);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}
