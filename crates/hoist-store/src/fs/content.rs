//! One upload's content while it is written: an append file, and how much of it is durable.
//!
//! Owns the file's end, the first sync that makes an upload exist for good, what becomes of bytes the disk would not
//! promise, and which bytes are in doubt. Leaves which bytes come when to [`queue`](super::queue).
//!
//! # Locks
//!
//! `progress` and `pen` are held over system calls, so only the store's own threads take them, in this order. `facts` is
//! held for moments and never over a system call: threads of an async runtime ask it and nothing else.
//!
//! # Unverified
//!
//! Content in doubt lies in the file like any other, and a note in the directory says where it begins
//! ([`upload_dir`](super::upload_dir)). Each step is durable before the next one begins, so a crash finds one of these:
//!
//! | step                        | after a crash                                                     |
//! |-----------------------------|-------------------------------------------------------------------|
//! | the note is made            | the note or none, and no byte behind it: the content as it was     |
//! | bytes are written, synced   | the note: what lies behind it is cut off                          |
//! | confirmed: bytes are synced | the note still: cut off, and no client was told that they count   |
//! | … and the note removed      | the note or none: cut off or whole, as it is whole on the disk     |
//! | taken back: the file is cut | the note still: nothing or something to cut off behind it          |
//! | … and the note removed      | the note or none: nothing lies behind it                           |
//!
//! Only then come other bytes: a note that came back after those were acknowledged would take them too. At `disk` the
//! note costs two syncs of the upload's directory, one before the first byte and one after the last, the latter shared
//! with the record's when the upload is a new one.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use hoist_proto::types::UploadId;
use rustix::io::Errno;

use super::failure::{Failure, Repair};
use super::layout::{ParentDir, ParentDirs};
use super::mutex::lock;
use super::upload_dir::UploadDir;
use super::{acknowledged, sys};
use crate::store::Error;

/// The content file of an upload, open for writing.
pub(super) struct Content {
    id: UploadId,
    file: OwnedFd,
    is_disk: bool,
    /// Where the file ends. Changed by the holder of `pen` alone.
    end: AtomicU64,
    /// How many of its bytes count: all but those in doubt. Changed by the holder of `pen` alone.
    written: AtomicU64,
    syncing: Mutex<SyncState>,
    writing: Mutex<WriteState>,
    status: Mutex<Status>,
}

/// The right to sync the file.
struct SyncState {
    /// Every byte before this one is on the disk, in doubt or not.
    synced: u64,
    /// The directory, as long as the record in it is a draft.
    draft: Option<UploadDir>,
}

/// The right to change the file; broken once bytes had to be cut off.
struct WriteState {
    broken: Option<Failure>,
    unverified: Option<Unverified>,
}

/// Doubted bytes, which do not count yet.
struct Unverified {
    /// The offset of the first of them.
    from: u64,
    /// The place of the note on them.
    upload_dir: UploadDir,
}

/// The facts about the content that can be read without waiting for the disk. Only the holder of `progress` changes
/// them, except for `is_shelf_due`.
struct Status {
    /// Every byte before this one is durable, and counts.
    durable: u64,
    /// The record is still a draft.
    is_draft: bool,
    /// The directory above has yet to be synced for the upload to be found after a crash.
    is_parent_unsynced: bool,
    is_unverified: bool,
    /// The failure after which the content makes no further promise of durability.
    failure: Option<Failure>,
    repair: Option<Repair>,
}

impl Status {
    /// Returns `true` if the upload itself is durable, so that its durable bytes survive a crash.
    fn is_lasting(&self) -> bool {
        !self.is_draft && !self.is_parent_unsynced
    }
}

/// The result of a sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Synced {
    /// Every byte before this one is durable, once `shelves` are.
    pub(super) durable: u64,
    /// The directories that have yet to be synced.
    pub(super) parents: ParentDirs,
}

impl Content {
    /// The content of an upload just created at `place`.
    pub(super) fn created(upload_dir: UploadDir, file: OwnedFd) -> Self {
        if let Err(errno) = acknowledged::set(&file, 0) {
            tracing::debug!(upload = %upload_dir.id.short(), %errno, "could not note that no byte was told");
        }
        Self::new(upload_dir.id, upload_dir.is_disk(), file, 0, Some(upload_dir), true)
    }

    /// The content of an upload whose `bytes` bytes are known to be durable, once the directory above is if that is due.
    pub(super) fn durable(
        upload_dir: &UploadDir,
        file: OwnedFd,
        bytes: u64,
        is_parent_unsynced: bool,
    ) -> Self {
        Self::new(upload_dir.id, upload_dir.is_disk(), file, bytes, None, is_parent_unsynced)
    }

    fn new(
        id: UploadId,
        is_disk: bool,
        file: OwnedFd,
        bytes: u64,
        draft: Option<UploadDir>,
        is_parent_unsynced: bool,
    ) -> Self {
        Self {
            id,
            file,
            is_disk,
            end: AtomicU64::new(bytes),
            written: AtomicU64::new(bytes),
            status: Mutex::new(Status {
                durable: bytes,
                is_draft: draft.is_some(),
                is_parent_unsynced,
                is_unverified: false,
                failure: None,
                repair: None,
            }),
            writing: Mutex::new(WriteState { broken: None, unverified: None }),
            syncing: Mutex::new(SyncState { synced: bytes, draft }),
        }
    }

    pub(super) fn id(&self) -> UploadId {
        self.id
    }

    /// Where the file ends, with what is in doubt.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// How many bytes are written that count.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn is_disk(&self) -> bool {
        self.is_disk
    }

    /// Writes bytes behind the last one. What fits before a failure stays and counts.
    //= TOK-CRE-01
    //= TOK-APP-05
    pub(super) fn append<'a>(&self, pieces: impl Iterator<Item = &'a Bytes>) -> Result<(), Failure> {
        let writing = lock(&self.writing);
        if let Some(failure) = &writing.broken {
            return Err(failure.clone());
        }
        let mut buffers = pieces.map(|bytes| IoSlice::new(bytes)).collect::<Vec<_>>();
        let at = self.end();
        let (bytes, written) = sys::write_all(&self.file, at, &mut buffers);
        self.end.store(at + bytes, Ordering::Release);
        if writing.unverified.is_none() {
            self.written.store(at + bytes, Ordering::Release);
        }
        drop(writing);
        written.map_err(|errno| self.failed("writing the content of", errno))
    }

    /// How far everything is durable already, if no sync is needed to say so.
    pub(super) fn settled(&self) -> Option<u64> {
        let (status, written) = (lock(&self.status), self.written());
        let is_settled = status.failure.is_none()
            && !status.is_unverified
            && status.is_lasting()
            && (status.durable >= written || !self.is_disk);
        is_settled.then_some(written)
    }

    /// The number of bytes known to be durable; `None` if the next caller has to sync or to check for doubted bytes.
    pub(super) fn known(&self) -> Option<u64> {
        let status = lock(&self.status);
        (status.is_lasting() && !status.is_unverified).then_some(status.durable)
    }

    /// Returns the number of leading bytes that may be acknowledged, without waiting for a running sync.
    pub(super) fn acknowledgeable(&self) -> u64 {
        let status = lock(&self.status);
        match status.is_lasting() {
            false => 0,
            true if self.is_disk => status.durable,
            true => self.written(),
        }
    }

    /// The work that a failing disk left undone.
    pub(super) fn repair(&self) -> Option<Repair> {
        lock(&self.status).repair
    }

    /// Returns `true` if an earlier failure keeps the content from promising durability.
    pub(super) fn is_failed(&self) -> bool {
        lock(&self.status).failure.is_some()
    }

    /// Makes durable what is written, and the first time the upload itself. What is in doubt stays so.
    pub(super) fn settle(&self) -> Result<Synced, Failure> {
        self.make_durable(false)
    }

    /// Makes durable what is written and lets it count, in this order.
    pub(super) fn confirm(&self) -> Result<Synced, Failure> {
        self.make_durable(true)
    }

    /// Four steps the first time: the draft's bytes, its name, the content's bytes, the directory. A journaling file
    /// system commits twice for them, since the third commits the names as well and the last finds nothing to do.
    //= TOK-OFF-03
    fn make_durable(&self, is_confirmed: bool) -> Result<Synced, Failure> {
        let mut syncing = self.sound()?;
        if let Some(upload_dir) = &syncing.draft {
            // Whether a second sync would tell the truth is not known, so there is none.
            upload_dir.name_draft().map_err(|error| self.fail(error, Repair::default()))?;
        }
        // In this order: the first is never larger then, and doubt neither begins nor ends meanwhile.
        let (written, end) = (self.written(), self.end());
        if self.is_disk
            && end > syncing.synced
            && let Err(errno) = sys::sync_data(&self.file)
        {
            return Err(self.truncate(errno));
        }
        syncing.synced = syncing.synced.max(end);
        let unverified = if is_confirmed { lock(&self.writing).unverified.take() } else { None };
        if let Some(Unverified { from, upload_dir }) = &unverified
            && let Err(error) = upload_dir.remove_unverified_marker(*from)
        {
            lock(&self.writing).unverified = unverified;
            return Err(self.fail(error, Repair::default()));
        }
        let draft = syncing.draft.take();
        if let Some(upload_dir) =
            draft.as_ref().or(unverified.as_ref().map(|unverified| &unverified.upload_dir))
        {
            let from = unverified.as_ref().map(|unverified| unverified.from);
            let repair = Repair { cut_to: from, marker: from };
            upload_dir.sync().map_err(|error| self.fail(error, repair))?;
        }
        let written = if unverified.is_some() { end } else { written };
        // Not before the note is gone for good: behind it this would be a promise that was not kept.
        if written > self.durable_now() {
            // Or a byte would be told of which the note knows nothing.
            acknowledged::set(&self.file, written)
                .map_err(|errno| self.fail(self.failed("noting the bytes of", errno), Repair::default()))?;
        }
        if unverified.is_some() {
            self.written.store(end, Ordering::Release);
        }
        let mut status = lock(&self.status);
        status.is_draft = false;
        status.is_unverified &= unverified.is_none();
        status.durable = status.durable.max(written);
        let parents = if status.is_parent_unsynced { ParentDir::Open.into() } else { ParentDirs::NONE };
        Ok(Synced { durable: status.durable, parents })
    }

    /// The right to sync the file, if it is still to be trusted.
    fn sound(&self) -> Result<MutexGuard<'_, SyncState>, Failure> {
        let syncing = lock(&self.syncing);
        match &lock(&self.status).failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(syncing),
        }
    }

    fn durable_now(&self) -> u64 {
        lock(&self.status).durable
    }

    /// Records a failure. The content promises no durability until the next operation on the upload has repaired it.
    fn fail(&self, error: impl Into<Failure>, repair: Repair) -> Failure {
        let mut status = lock(&self.status);
        status.repair = Some(repair);
        status.failure.insert(error.into()).clone()
    }

    /// Notes that the directory above has been synced.
    pub(super) fn parents_synced(&self) {
        lock(&self.status).is_parent_unsynced = false;
    }

    /// Has a record put in place of the old one, or of the draft, while no sync is giving that its name.
    pub(super) fn with_record(&self, replace: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut syncing = lock(&self.syncing);
        replace()?;
        syncing.draft = None;
        lock(&self.status).is_draft = false;
        Ok(())
    }

    /// Waits for a running change and prevents later ones, because another owner takes over the files.
    pub(super) fn close(&self) {
        let _progress = lock(&self.syncing);
        let ended = claim_ended();
        lock(&self.writing).broken.get_or_insert(ended.clone());
        lock(&self.status).failure.get_or_insert(ended);
    }

    /// Puts what is written from here on in doubt; `place` is where the upload lies.
    //= TUS1-CHK-03
    pub(super) fn mark_unverified(&self, upload_dir: UploadDir) -> Result<(), Failure> {
        let _progress = self.sound()?;
        let mut writing = lock(&self.writing);
        if let Some(failure) = &writing.broken {
            return Err(failure.clone());
        }
        if writing.unverified.is_some() {
            return Ok(());
        }
        let from = self.end();
        upload_dir.add_unverified_marker(from)?;
        let synced = upload_dir.sync();
        writing.unverified = Some(Unverified { from, upload_dir });
        lock(&self.status).is_unverified = true;
        // The note is there and may be gone after a crash. It stays, so that the next claim removes it for good.
        synced.map_err(|error| self.fail(error, Repair::default()))
    }

    /// Truncates the file to `to` and continues there. No client was told of the bytes after it.
    pub(super) fn truncate_to(&self, to: u64) -> Result<(), Failure> {
        let mut syncing = self.sound()?;
        let mut writing = lock(&self.writing);
        if let Some(failure) = &writing.broken {
            return Err(failure.clone());
        }
        self.cut(&mut syncing, &mut writing, to)
    }

    /// Takes back what is in doubt, and takes no more then: its claim has ended.
    pub(super) fn drop_unverified(&self) -> Result<(), Failure> {
        let mut syncing = lock(&self.syncing);
        let mut writing = lock(&self.writing);
        let Some(from) = writing.unverified.as_ref().map(|unverified| unverified.from) else { return Ok(()) };
        if let Some(failure) = &lock(&self.status).failure {
            return Err(failure.clone());
        }
        writing.broken.get_or_insert(claim_ended());
        self.cut(&mut syncing, &mut writing, from)
    }

    fn cut(&self, syncing: &mut SyncState, writing: &mut WriteState, to: u64) -> Result<(), Failure> {
        let doing = |errno| self.failed("cutting back the content of", errno);
        if to < self.end() {
            let durable = {
                let mut status = lock(&self.status);
                status.durable = status.durable.min(to);
                status.durable
            };
            // The note first: a crash in between must not leave a file that is shorter than its note.
            acknowledged::lower(&self.file, to)
                .and_then(|()| sys::cut(&self.file, to))
                .map_err(|errno| self.fail(doing(errno), Repair::cut_to(to)))?;
            self.end.store(to, Ordering::Release);
            self.written.store(self.written().min(to), Ordering::Release);
            syncing.synced = syncing.synced.min(to);
            // Or a crash could bring back what its sender was told is gone.
            if self.is_disk {
                sys::sync_data(&self.file)
                    .map_err(|errno| self.fail(doing(errno), Repair::cut_to(durable)))?;
            }
        }
        if let Some(Unverified { from, upload_dir }) =
            writing.unverified.take_if(|unverified| to <= unverified.from)
        {
            upload_dir
                .remove_unverified_marker(from)
                .and_then(|()| upload_dir.sync())
                .map_err(|error| self.fail(error, Repair { cut_to: Some(to), marker: Some(from) }))?;
            lock(&self.status).is_unverified = false;
        }
        Ok(())
    }

    /// Truncates the bytes that the disk failed to sync and accepts no more. After a failed sync the system marks the
    /// pages as clean, so another sync would succeed without writing anything. These bytes must never be synced
    /// again.
    fn truncate(&self, errno: Errno) -> Failure {
        let mut writing = lock(&self.writing);
        let durable = self.durable_now();
        let failure = self.fail(self.failed("syncing the content of", errno), Repair::cut_to(durable));
        writing.broken = Some(failure.clone());
        if truncate_unsynced(self.id, &self.file, durable, errno) {
            self.end.store(durable, Ordering::Release);
        }
        self.written.store(durable, Ordering::Release);
        failure
    }

    fn failed(&self, doing: &str, errno: Errno) -> Failure {
        sys::failed(format!("{doing} {}…", self.id.short()), errno).into()
    }
}

fn claim_ended() -> Failure {
    Failure::Other("the claim on the upload has ended".into())
}

/// Truncates content to its durable bytes after a failed sync, and returns whether that succeeded. The next operation
/// on the upload makes the truncation durable, when the disk may work again.
pub(super) fn truncate_unsynced(id: UploadId, file: &OwnedFd, durable: u64, errno: Errno) -> bool {
    tracing::error!(
        upload = %id.short(), durable, %errno,
        "the disk failed to sync an upload's content; what it did not confirm before is cut off"
    );
    let cut = acknowledged::lower(file, durable).and_then(|()| sys::cut(file, durable));
    if let Err(errno) = cut {
        tracing::error!(upload = %id.short(), %errno, "it could not be cut off yet");
    }
    cut.is_ok()
}

#[cfg(test)]
impl Content {
    /// Bytes written that a crash of the machine would take.
    pub(super) fn unsynced(&self) -> u64 {
        self.written().saturating_sub(self.durable_now())
    }
}
