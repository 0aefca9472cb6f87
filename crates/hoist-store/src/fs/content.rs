//! The content file of an upload while it is written, and how much of it is durable.
//!
//! Owns the end of the file, the first sync (which makes a new upload durable), the truncation of bytes that the disk
//! failed to sync, and unverified bytes. Leaves the order of the bytes to [`write_queue`](super::write_queue).
//!
//! # Locks
//!
//! `syncing` and `writing` are held during system calls, so only threads of the store take them, in this order.
//! `status` is held for moments and never during a system call: it is the only lock that threads of an async runtime
//! take.
//!
//! # Unverified bytes
//!
//! Unverified bytes are written to the content file like any other. An empty file beside it, the marker, states in its
//! name where they begin ([`upload_dir`](super::upload_dir)). Each step is durable before the next one begins, so a
//! crash leaves one of these states:
//!
//! | step                             | after a crash                                                           |
//! |----------------------------------|-------------------------------------------------------------------------|
//! | the marker is created            | marker or none, no byte behind it: the content as it was                |
//! | bytes are written and synced     | marker: the bytes behind it are truncated                               |
//! | to verify: the bytes are synced  | marker: the bytes are truncated, and none of them was acknowledged      |
//! | … and the marker is removed      | marker or none: the bytes are truncated, or all of them are on the disk |
//! | to drop: the file is truncated   | marker: some bytes or none are left to truncate                         |
//! | … and the marker is removed      | marker or none, no byte behind it                                       |
//!
//! No other bytes are written before the removal is durable. Otherwise a marker that reappears after a crash would
//! truncate acknowledged bytes.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use rustix::io::Errno;

use super::failure::{Failure, Repair};
use super::layout::{ParentDir, ParentDirs};
use super::record_cache::End;
use super::thread_pool::lock;
use super::upload_dir::UploadDir;
use super::{acknowledged, pipe, sys};
use crate::store::Error;

/// An upload's content file, open for writing.
pub(super) struct Content {
    pub(super) id: UploadId,
    file: OwnedFd,
    pub(super) is_disk: bool,
    /// The length of the file, with unverified bytes. Only changed under the lock of `writing`.
    end: AtomicU64,
    /// The number of bytes without the unverified ones. Only changed under the lock of `writing`.
    written: AtomicU64,
    syncing: Mutex<SyncState>,
    writing: Mutex<WriteState>,
    status: Mutex<Status>,
}

/// The state that a sync needs. Its lock is the right to sync the file.
struct SyncState {
    /// Every byte before this one is on the disk, verified or not.
    synced: u64,
    /// The upload's directory, while the record in it is a draft.
    draft: Option<UploadDir>,
}

/// The state that a write needs. Its lock is the right to change the file.
#[derive(Default)]
struct WriteState {
    failure: Option<Failure>,
    unverified: Option<Unverified>,
}

/// Bytes that are not part of the content until their digest has been compared.
struct Unverified {
    /// The offset of the first unverified byte.
    from: u64,
    /// The directory with the marker.
    dir: UploadDir,
}

/// The status that can be read without waiting for the disk. Only changed under the lock of `syncing`, except for
/// `is_parent_unsynced`.
#[derive(Default)]
struct Status {
    /// Every byte before this one is durable and verified.
    durable: u64,
    /// True while the record is a draft.
    is_draft: bool,
    /// True if the upload may be lost in a crash because its parent directory has not been synced.
    is_parent_unsynced: bool,
    is_unverified: bool,
    /// The time of the last byte, as of the last sync; unknown if the file was opened or truncated after it.
    changed: Option<Timestamp>,
    /// The failure after which the content confirms nothing more.
    failure: Option<Failure>,
    repair: Option<Repair>,
}

impl Status {
    /// Returns whether the upload itself survives a crash, and its durable bytes with it.
    fn is_lasting(&self) -> bool {
        !self.is_draft && !self.is_parent_unsynced
    }
}

/// The result of a sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Synced {
    /// Every byte before this one is durable, once `parents` are synced.
    pub(super) durable: u64,
    /// The parent directories that remain to be synced.
    pub(super) parents: ParentDirs,
}

impl Content {
    /// The content of an upload that was just created in `dir`.
    pub(super) fn created(dir: UploadDir, file: OwnedFd) -> Self {
        if let Err(errno) = acknowledged::set(&file, 0) {
            tracing::debug!(upload = %dir.id.short(), %errno, "could not store the acknowledged offset");
        }
        Self::new(dir.id, dir.is_disk, file, 0, Some(dir), true)
    }

    /// The content of an upload of which `bytes` bytes are durable, once its parent directory is synced if it is not.
    pub(super) fn durable(dir: &UploadDir, file: OwnedFd, bytes: u64, is_parent_unsynced: bool) -> Self {
        Self::new(dir.id, dir.is_disk, file, bytes, None, is_parent_unsynced)
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
                ..Status::default()
            }),
            writing: Mutex::default(),
            syncing: Mutex::new(SyncState { synced: bytes, draft }),
        }
    }

    /// Returns the length of the file, with unverified bytes.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Returns the number of written bytes without the unverified ones.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Appends bytes. If they do not all fit, the ones that do are kept.
    //= TOK-CRE-01
    //= TOK-APP-05
    pub(super) fn append<'a>(&self, pieces: impl Iterator<Item = &'a Bytes>) -> Result<(), Failure> {
        let mut buffers = pieces.map(|bytes| IoSlice::new(bytes)).collect::<Vec<_>>();
        self.extend(|file, at| sys::write_all(file, at, &mut buffers))
    }

    /// Appends bytes from a pipe. If they do not all fit, the ones that do are kept, and the rest stays in the pipe.
    pub(super) fn append_from_pipe(&self, pipe: BorrowedFd<'_>, bytes: usize) -> Result<(), Failure> {
        self.extend(|file, at| pipe::splice_all(pipe, file, at, bytes))
    }

    /// Appends by a call that writes at the end and returns the number of bytes written, and the error that prevented more.
    fn extend(&self, write: impl FnOnce(&OwnedFd, u64) -> (u64, Result<(), Errno>)) -> Result<(), Failure> {
        let writing = lock(&self.writing);
        check(writing.failure.as_ref())?;
        let at = self.end();
        let (bytes, written) = write(&self.file, at);
        self.end.store(at + bytes, Ordering::Release);
        if writing.unverified.is_none() {
            self.written.store(at + bytes, Ordering::Release);
        }
        drop(writing);
        written.map_err(|errno| self.failed("writing the content of", errno))
    }

    /// Returns the number of written bytes if all of them are known to be durable, so that no sync is needed.
    pub(super) fn end_if_durable(&self) -> Option<u64> {
        let (status, written) = (lock(&self.status), self.written());
        let is_durable = status.failure.is_none()
            && !status.is_unverified
            && status.is_lasting()
            && status.durable >= written;
        is_durable.then_some(written)
    }

    /// Returns the number of bytes known to be durable; `None` if the upload itself is not, or has unverified bytes.
    pub(super) fn known_durable(&self) -> Option<u64> {
        let status = lock(&self.status);
        (status.is_lasting() && !status.is_unverified).then_some(status.durable)
    }

    /// Returns the end of the file, if all of it is durable and verified.
    pub(super) fn durable_end(&self) -> Option<End> {
        let status = lock(&self.status);
        let is_known = status.failure.is_none() && status.is_lasting() && !status.is_unverified;
        if !is_known || status.durable != self.end() || (status.durable > 0 && status.changed.is_none()) {
            return None;
        }
        #[expect(clippy::disallowed_methods, reason = "a store; the content reports what it has synced")]
        let offset = Durable::attest(Offset::new(status.durable));
        Some(End { offset, changed: status.changed })
    }

    /// Returns the number of bytes that may be acknowledged, without waiting for a running sync.
    pub(super) fn acknowledgeable(&self) -> u64 {
        let status = lock(&self.status);
        match status.is_lasting() {
            false => 0,
            true if self.is_disk => status.durable,
            true => self.written(),
        }
    }

    pub(super) fn repair(&self) -> Option<Repair> {
        lock(&self.status).repair
    }

    /// Returns whether a failure keeps the content from confirming anything.
    pub(super) fn is_failed(&self) -> bool {
        lock(&self.status).failure.is_some()
    }

    /// Makes the verified bytes durable, and the upload itself if it is new. Unverified bytes stay unverified.
    pub(super) fn sync(&self) -> Result<Synced, Failure> {
        self.make_durable(false)
    }

    /// Makes all bytes durable and then verifies the unverified ones.
    pub(super) fn sync_and_verify(&self) -> Result<Synced, Failure> {
        self.make_durable(true)
    }

    /// A new upload takes four steps: syncing the draft, renaming it, syncing the content, syncing the directory. A
    /// journaling file system needs two commits for them: the third step commits the names as well, and the last one
    /// finds nothing to do.
    //= TOK-OFF-03
    fn make_durable(&self, verifies: bool) -> Result<Synced, Failure> {
        let mut syncing = self.lock_syncing()?;
        if let Some(dir) = &syncing.draft {
            // After a failure the content is given up: the system may report success for a second sync that wrote
            // nothing.
            dir.rename_draft().map_err(|error| self.fail(error, Repair::default()))?;
        }
        // `written` first, so that it is never larger than `end`. Unverified bytes neither begin nor end here.
        let (written, end) = (self.written(), self.end());
        if self.is_disk
            && end > syncing.synced
            && let Err(errno) = sys::sync_data(&self.file)
        {
            return Err(self.fail_sync(errno));
        }
        syncing.synced = syncing.synced.max(end);
        let unverified = if verifies { lock(&self.writing).unverified.take() } else { None };
        if let Some(Unverified { from, dir }) = &unverified
            && let Err(error) = dir.remove_unverified_marker(*from)
        {
            lock(&self.writing).unverified = unverified;
            return Err(self.fail(error, Repair::default()));
        }
        let draft = syncing.draft.take();
        if let Some(dir) = draft.as_ref().or(unverified.as_ref().map(|unverified| &unverified.dir)) {
            let from = unverified.as_ref().map(|unverified| unverified.from);
            let repair = Repair { truncate_to: from, marker: from };
            dir.sync().map_err(|error| self.fail(error, repair))?;
        }
        let written = if unverified.is_some() { end } else { written };
        // Only once the marker is gone for good: a marker that reappears would truncate acknowledged bytes.
        if written > self.durable_bytes() {
            // Before the bytes are acknowledged, so that the attribute covers every acknowledged byte.
            acknowledged::set(&self.file, written).map_err(|errno| {
                self.fail(self.failed("storing the acknowledged offset of", errno), Repair::default())
            })?;
        }
        if unverified.is_some() {
            self.written.store(end, Ordering::Release);
        }
        let changed = self.changed();
        let mut status = lock(&self.status);
        status.changed = changed;
        status.is_draft = false;
        status.is_unverified &= unverified.is_none();
        status.durable = status.durable.max(written);
        let parents = if status.is_parent_unsynced { ParentDir::Open.into() } else { ParentDirs::NONE };
        Ok(Synced { durable: status.durable, parents })
    }

    /// Returns the time of the last byte, if there is one.
    fn changed(&self) -> Option<Timestamp> {
        rustix::fs::fstat(&self.file).ok().as_ref().and_then(sys::last_byte_at)
    }

    /// Takes the right to sync the file, unless it has failed.
    fn lock_syncing(&self) -> Result<MutexGuard<'_, SyncState>, Failure> {
        let syncing = lock(&self.syncing);
        check(lock(&self.status).failure.as_ref())?;
        Ok(syncing)
    }

    fn durable_bytes(&self) -> u64 {
        lock(&self.status).durable
    }

    /// Records a failure. The content confirms nothing until the next operation on the upload has repaired it.
    fn fail(&self, error: impl Into<Failure>, repair: Repair) -> Failure {
        let mut status = lock(&self.status);
        status.repair = Some(repair);
        status.failure.insert(error.into()).clone()
    }

    /// Records that the parent directory has been synced.
    pub(super) fn parents_synced(&self) {
        lock(&self.status).is_parent_unsynced = false;
    }

    /// Runs `replace`, which puts a record in the place of the old one or of the draft, while no sync renames the
    /// draft.
    pub(super) fn with_record(&self, replace: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut syncing = lock(&self.syncing);
        replace()?;
        syncing.draft = None;
        lock(&self.status).is_draft = false;
        Ok(())
    }

    /// Waits for a running change and prevents later ones, because another operation takes over the files.
    pub(super) fn close(&self) {
        let _progress = lock(&self.syncing);
        let ended = claim_ended();
        lock(&self.writing).failure.get_or_insert(ended.clone());
        lock(&self.status).failure.get_or_insert(ended);
    }

    /// Marks the bytes written from now on as unverified, with a marker in `dir`.
    //= TUS1-CHK-03
    pub(super) fn mark_unverified(&self, dir: UploadDir) -> Result<(), Failure> {
        let _progress = self.lock_syncing()?;
        let mut writing = lock(&self.writing);
        check(writing.failure.as_ref())?;
        if writing.unverified.is_some() {
            return Ok(());
        }
        let from = self.end();
        dir.add_unverified_marker(from)?;
        let synced = dir.sync();
        writing.unverified = Some(Unverified { from, dir });
        lock(&self.status).is_unverified = true;
        // The marker may be lost in a crash. The file stays, so that the next claim removes it for good.
        synced.map_err(|error| self.fail(error, Repair::default()))
    }

    /// Truncates the file to `to`, after which writing continues there. No byte behind `to` was acknowledged.
    pub(super) fn truncate_to(&self, to: u64) -> Result<(), Failure> {
        let mut syncing = self.lock_syncing()?;
        let mut writing = lock(&self.writing);
        check(writing.failure.as_ref())?;
        self.truncate_file(&mut syncing, &mut writing, to)
    }

    /// Truncates unverified bytes, and accepts no more bytes then: the claim has ended.
    pub(super) fn drop_unverified(&self) -> Result<(), Failure> {
        let mut syncing = lock(&self.syncing);
        let mut writing = lock(&self.writing);
        let Some(from) = writing.unverified.as_ref().map(|unverified| unverified.from) else { return Ok(()) };
        check(lock(&self.status).failure.as_ref())?;
        writing.failure.get_or_insert(claim_ended());
        self.truncate_file(&mut syncing, &mut writing, from)
    }

    fn truncate_file(
        &self,
        syncing: &mut SyncState,
        writing: &mut WriteState,
        to: u64,
    ) -> Result<(), Failure> {
        let doing = |errno| self.failed("truncating the content of", errno);
        if to < self.end() {
            let durable = {
                let mut status = lock(&self.status);
                status.durable = status.durable.min(to);
                status.changed = None;
                status.durable
            };
            // The attribute first: a crash in between must not leave a file shorter than its acknowledged offset.
            acknowledged::lower(&self.file, to)
                .and_then(|()| sys::truncate(&self.file, to))
                .map_err(|errno| self.fail(doing(errno), Repair::truncate_to(to)))?;
            self.end.store(to, Ordering::Release);
            self.written.store(self.written().min(to), Ordering::Release);
            syncing.synced = syncing.synced.min(to);
            // Otherwise a crash could bring back bytes that the client was told are gone.
            if self.is_disk {
                sys::sync_data(&self.file)
                    .map_err(|errno| self.fail(doing(errno), Repair::truncate_to(durable)))?;
            }
        }
        if let Some(Unverified { from, dir }) = writing.unverified.take_if(|unverified| to <= unverified.from)
        {
            dir.remove_unverified_marker(from)
                .and_then(|()| dir.sync())
                .map_err(|error| self.fail(error, Repair { truncate_to: Some(to), marker: Some(from) }))?;
            lock(&self.status).is_unverified = false;
        }
        Ok(())
    }

    /// Handles a failed sync: truncates the bytes that the disk did not confirm, and accepts no more. After a failed
    /// sync the system marks the pages clean, so another sync would succeed without writing anything. The bytes must
    /// therefore never be synced again.
    fn fail_sync(&self, errno: Errno) -> Failure {
        let mut writing = lock(&self.writing);
        let durable = self.durable_bytes();
        let failure = self.fail(self.failed("syncing the content of", errno), Repair::truncate_to(durable));
        writing.failure = Some(failure.clone());
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

fn check(failure: Option<&Failure>) -> Result<(), Failure> {
    failure.cloned().map_or(Ok(()), Err)
}

fn claim_ended() -> Failure {
    Failure::Other("the claim on the upload has ended".into())
}

/// Truncates a file to its durable bytes after a failed sync, and returns whether that succeeded. The next operation on
/// the upload makes the truncation durable, when the disk may work again.
pub(super) fn truncate_unsynced(id: UploadId, file: &OwnedFd, durable: u64, errno: Errno) -> bool {
    tracing::error!(
        upload = %id.short(), durable, %errno,
        "the disk failed to sync the content of an upload; the bytes that it did not confirm are truncated"
    );
    let cut = acknowledged::lower(file, durable).and_then(|()| sys::truncate(file, durable));
    if let Err(errno) = cut {
        tracing::error!(upload = %id.short(), %errno, "could not truncate the unconfirmed bytes yet");
    }
    cut.is_ok()
}

#[cfg(test)]
impl Content {
    /// Returns the number of written bytes that a power cut could lose.
    pub(super) fn unsynced(&self) -> u64 {
        self.written().saturating_sub(self.durable_bytes())
    }
}
