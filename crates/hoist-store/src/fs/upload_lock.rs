//! The lock that an operation on an upload holds, and the steps that operations share.
//!
//! Owns how an upload is made durable: one with a writer, one without, and one just found after a crash. Leaves the
//! order of an operation's steps to [`local_store`](super::local_store).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use hoist_proto::types::{Durable, Length, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Phase, Upload};
use rustix::fs::OFlags;
use tokio::sync::OwnedMutexGuard;

use super::data_dir::DataDir;
use super::entry::EntryRef;
use super::failure::Repair;
use super::layout::{CONTENT, ParentDir, ParentDirs};
use super::record_cache::{End, Stored};
use super::upload_dir::{StoredRecord, UploadDir};
use super::write_queue::{Queued, WriteQueue};
use super::{acknowledged, content, sys};
use crate::record::{self, Record};
use crate::store::Error;

/// The exclusive right to operate on an upload. Moves into the job that does the work, and lasts as long as the job,
/// even if its caller has stopped waiting.
///
/// The fields are private because a closure captures single fields: one that used a public field would leave the guard
/// in the caller's future, which can be dropped.
pub(super) struct UploadLock {
    id: UploadId,
    /// The writer's queue when the lock was taken: of this claim, or of an older one, whose queue is then closed.
    queue: Option<Arc<WriteQueue>>,
    /// The record when the lock was taken; `None` if it is unknown.
    record: Option<Arc<Record>>,
    /// The end of the content when the lock was taken; `None` if it is unknown, or there is a writer.
    end: Option<End>,
    // Released before the entry, which forgets its lock with the last use.
    _guard: OwnedMutexGuard<()>,
    entry: EntryRef,
}

/// The record that an operation finds, in memory or in the files.
pub(super) struct Found {
    pub(super) record: Arc<Record>,
    /// True if it may be a draft.
    is_draft: bool,
}

impl Found {
    /// Returns the number of bytes that a complete upload has by its record; zero for other uploads.
    fn bytes_of_complete(&self) -> u64 {
        let Upload { phase, length, composition, .. } = &self.record.upload;
        let has_all = matches!(phase, Phase::Received | Phase::Delivered(_));
        let length = length.filter(|_| has_all && *composition == Composition::Direct);
        length.map_or(0, Length::get)
    }
}

impl UploadLock {
    /// Until the operation puts them back, queries cannot be answered from the entry's record and end.
    pub(super) fn new(id: UploadId, entry: EntryRef, guard: OwnedMutexGuard<()>) -> Self {
        let (record, end) = entry.take_stored();
        Self { id, queue: entry.queue(), record, end, _guard: guard, entry }
    }

    pub(super) fn entry(&self) -> &EntryRef {
        &self.entry
    }

    /// Closes the queue of the current writer, whatever its claim, and waits until it is idle.
    pub(super) async fn close_queue(&self, queued: Queued) {
        if let Some(queue) = &self.queue {
            queue.close(queued);
            queue.idle().await;
        }
    }

    /// Removes the queue of a writer that has ended from the entry, once no job of the writer is left. Does not wait.
    fn release_queue(&self) {
        if let Some(queue) = &self.queue
            && queue.is_finished()
        {
            self.entry.detach(queue);
        }
    }

    /// Waits for the running job of a writer that has ended, and removes its queue. The writer changes none of the
    /// upload's files afterwards. Blocks, so it must not be called on a thread of the runtime.
    pub(super) fn close_content(&self) {
        if let Some(queue) = &self.queue
            && queue.is_finished()
        {
            queue.content.close();
            self.entry.release_queue(queue);
        }
    }

    /// Opens the upload's directory, and reads its record if it is not known. Returns `None` if there is no such upload.
    pub(super) fn open(&self, data_dir: &DataDir) -> Result<Option<(UploadDir, Found)>, Error> {
        if let Some(record) = self.lasting_record() {
            let parent = if record.upload.is_complete() { ParentDir::Done } else { ParentDir::Open };
            if let Some(dir) = data_dir.find_in(parent, self.id)? {
                return Ok(Some((dir, Found { record: Arc::clone(record), is_draft: false })));
            }
        }
        let Some(dir) = data_dir.find(self.id)? else { return Ok(None) };
        dir.check_trusted()?;
        let found = dir.record()?;
        Ok(found.map(|StoredRecord { record, is_draft }| (dir, Found { record: Arc::new(record), is_draft })))
    }

    /// Returns the record, if it is known to survive a crash under its final name.
    fn lasting_record(&self) -> Option<&Arc<Record>> {
        let is_lasting = match &self.queue {
            Some(queue) => queue.content.known_durable().is_some(),
            None => self.known_end().is_some(),
        };
        self.record.as_ref().filter(|_| is_lasting)
    }

    /// Returns the end of the content, if no byte of it needs a sync or a repair.
    pub(super) fn known_end(&self) -> Option<End> {
        self.end.filter(|_| self.queue.is_none() && self.entry.repair().is_none())
    }

    /// Fails if the content does not end where it is known to, because another program has changed it.
    pub(super) fn check_end(&self, dir: &UploadDir, file: &OwnedFd) -> Result<(), Error> {
        let Some(End { offset, .. }) = self.known_end() else { return Ok(()) };
        let stat =
            rustix::fs::fstat(file).map_err(|errno| dir.failed("reading the metadata of", CONTENT, errno))?;
        let (known, end) = (offset.offset(), Offset::new(sys::bytes_of(&stat)));
        if end == known {
            return Ok(());
        }
        Err(Error::Damaged(format!("its content ends at {end}, not at {known}")))
    }

    /// Makes the written bytes durable and returns their number, which holds once the returned directories are synced.
    pub(super) fn sync(
        &self,
        data_dir: &DataDir,
        dir: &UploadDir,
        found: &Found,
    ) -> Result<(Offset, ParentDirs), Error> {
        if let Some(offset) = found.record.discarded {
            return Ok((offset, self.sync_record(dir, found)?));
        }
        if let Some(end) = self.known_end() {
            return Ok((end.offset.offset(), ParentDirs::NONE));
        }
        if let Some(queue) = &self.queue {
            let content = &queue.content;
            // A claim that has ended verifies nothing any more.
            let dropped = if queue.is_closed() { content.drop_unverified() } else { Ok(()) };
            match dropped.and_then(|()| content.sync()) {
                Ok(synced) => return Ok((Offset::new(synced.durable), synced.parents)),
                Err(failure) if !queue.is_finished() => return Err(failure.into()),
                // The writer received the error, and the bytes that were not confirmed are truncated. The rest is good.
                Err(_) => self.entry.release_queue(queue),
            }
        }
        self.sync_file(data_dir, dir, found)
    }

    /// Does the same for a content that no writer has open.
    fn sync_file(
        &self,
        data_dir: &DataDir,
        dir: &UploadDir,
        found: &Found,
    ) -> Result<(Offset, ParentDirs), Error> {
        // For writing, to be able to truncate it. On a file system that has become read-only, the offset can still be
        // read.
        let (file, is_writable) = match dir.content(OFlags::WRONLY) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                (dir.content(OFlags::RDONLY)?, false)
            }
            content => (content?, true),
        };
        let Some(file) = file else {
            let bytes = record::bytes_moved_away(&found.record).ok_or_else(|| dir.content_missing())?;
            return Ok((bytes, self.sync_record(dir, found)?));
        };
        let doing = |doing| move |errno| dir.failed(doing, CONTENT, errno);
        let stat = rustix::fs::fstat(&file).map_err(doing("reading the metadata of"))?;
        let (end, known_durable, unverified) =
            (sys::bytes_of(&stat), self.entry.durable_bytes(), dir.unverified_from()?);
        let (attribute, repair) = (acknowledged::read(&file), self.entry.repair());
        let truncate_to = repair.and_then(|repair| repair.truncate_to);
        let bytes = [unverified, truncate_to].into_iter().flatten().chain([end]).min().unwrap_or(end);
        //= IETF-OFF-02
        let acknowledged_bytes = known_durable
            .or(attribute.map(|attribute| attribute.bytes))
            .unwrap_or_else(|| found.bytes_of_complete());
        if acknowledged_bytes > bytes {
            let why =
                format!("{acknowledged_bytes} bytes of it were acknowledged, but only {bytes} are left");
            return Err(Error::Damaged(why));
        }
        let parents = self.sync_record(dir, found)?;
        let is_truncated = bytes < end && is_writable;
        if is_truncated {
            let truncated = acknowledged::lower(&file, bytes).and_then(|()| sys::truncate(&file, bytes));
            truncated.map_err(doing("truncating unsynced or unverified bytes of"))?;
        }
        if data_dir.is_disk
            && (known_durable != Some(bytes) || is_truncated || repair.is_some())
            && let Err(errno) = sys::sync_data(&file)
        {
            // Without either number, unsynced bytes cannot be told from those that were durable before.
            let durable = known_durable
                .or(attribute.filter(|attribute| attribute.is_exact).map(|attribute| attribute.bytes));
            if let Some(durable) = durable.filter(|&durable| durable < bytes) {
                self.entry.set_repair(Repair { truncate_to: Some(durable), ..repair.unwrap_or_default() });
                content::truncate_unsynced(self.id, &file, durable, errno);
            }
            return Err(dir.failed("syncing", CONTENT, errno));
        }
        if is_writable {
            self.remove_unverified_markers(dir, unverified.or(repair.and_then(|repair| repair.marker)))?;
            if known_durable != Some(bytes) || attribute.is_none_or(|attribute| attribute.bytes != bytes) {
                acknowledged::set(&file, bytes).map_err(doing("storing the acknowledged offset of"))?;
            }
            self.entry.clear_repair();
        }
        Ok((Offset::new(bytes), parents))
    }

    /// Removes the markers of unverified bytes that are truncated for good. `from` is one of the markers. It is created
    /// again if it is missing, because a name whose removal was not synced may reappear after a crash.
    fn remove_unverified_markers(&self, dir: &UploadDir, from: Option<u64>) -> Result<(), Error> {
        let Some(from) = from else { return Ok(()) };
        let removed = dir.add_unverified_marker(from).and_then(|()| {
            while let Some(from) = dir.unverified_from()? {
                dir.remove_unverified_marker(from)?;
            }
            dir.sync()
        });
        removed.inspect_err(|_| {
            self.entry.set_repair(Repair { marker: Some(from), ..self.entry.repair().unwrap_or_default() });
        })
    }

    /// Removes the upload, and returns the directories to sync. The writer has ended.
    pub(super) fn remove(&self, data_dir: &DataDir) -> Result<ParentDirs, Error> {
        let mut parents = ParentDirs::NONE;
        let mut was_upload = false;
        while let Some(dir) = data_dir.find(self.id)? {
            was_upload |= !matches!(dir.record(), Ok(None));
            data_dir.remove(&dir)?;
            parents = parents.and(dir.parent.into());
        }
        self.entry.reset();
        if was_upload { Ok(parents) } else { Err(Error::Missing) }
    }

    /// Returns the directories that a commit has to sync so that the upload is found after a crash.
    pub(super) fn unsynced_parents(&self, dir: &UploadDir) -> ParentDirs {
        let known_durable = match &self.queue {
            Some(queue) => queue.content.known_durable(),
            None => self.entry.durable_bytes(),
        };
        if known_durable.is_some() { ParentDirs::NONE } else { dir.parent.into() }
    }

    /// Replaces the record `old`. The new one is durable once the directory is synced.
    pub(super) fn replace_record(&self, dir: &UploadDir, old: &Found, record: &Record) -> Result<(), Error> {
        let replace = || if old.is_draft { dir.replace_draft(record) } else { dir.write_record(record) };
        match &self.queue {
            Some(queue) => queue.content.with_record(replace),
            None => replace(),
        }
    }

    /// Records that the offset returned by `sync` is durable, directories and all, and returns it as such.
    pub(super) fn attest(&self, offset: Offset) -> Durable {
        match self.entry.queue() {
            Some(queue) => {
                queue.content.parents_synced();
                self.release_queue();
            }
            // The writer has ended meanwhile, and the state it left is newer.
            None if self.queue.as_ref().is_some_and(|queue| !queue.content.is_failed()) => {}
            None => self.entry.raise_durable_bytes(offset.get()),
        }
        #[expect(clippy::disallowed_methods, reason = "a store; everything before the offset is synced")]
        Durable::attest(offset)
    }

    /// Records the result of a load once the directories are synced: the record, the offset returned by `sync`, and the
    /// time of the content's last byte.
    pub(super) fn loaded(&self, record: Arc<Record>, offset: Offset, changed: Option<Timestamp>) -> Upload {
        let end = End { offset: self.attest(offset), changed };
        let stored = Stored { record, end };
        let upload = stored.upload();
        // Of a writer, its content knows more: bytes may be unsynced or unverified.
        if let Some(end) = self.queue.as_ref().map_or(Some(end), |queue| queue.content.durable_end()) {
            self.entry.set_end(end);
        }
        self.entry.set_record(stored.record);
        upload
    }

    /// Records that a commit and the directories it changed are durable. `end` is the end of the content, if the commit
    /// has determined it.
    pub(super) fn committed(&self, record: Record, end: Option<End>) {
        if let Some(queue) = &self.queue {
            queue.content.parents_synced();
            self.release_queue();
        }
        if let Some(end) = end.or(self.end) {
            self.entry.set_end(end);
        }
        self.entry.set_record(Arc::new(record));
    }

    /// Returns the end of the content, which has `stored` durable bytes, if there is no writer that knows it.
    pub(super) fn end_without_writer(&self, dir: &UploadDir, stored: Offset) -> Result<Option<End>, Error> {
        if self.queue.is_some() || self.known_end().is_some() {
            return Ok(self.known_end());
        }
        let changed = dir.content_stat()?.as_ref().and_then(sys::last_byte_at);
        #[expect(clippy::disallowed_methods, reason = "a store; used once the commit is durable")]
        Ok(Some(End { offset: Durable::attest(stored), changed }))
    }

    fn sync_record(&self, dir: &UploadDir, found: &Found) -> Result<ParentDirs, Error> {
        if self.entry.durable_bytes().is_some() {
            return Ok(ParentDirs::NONE);
        }
        if found.is_draft || self.entry.repair().is_some() {
            // Written anew, because a failed sync of the old file is reported only once.
            dir.replace_draft(&found.record)?;
        }
        dir.sync().inspect_err(|_| self.entry.set_repair(self.entry.repair().unwrap_or_default()))?;
        Ok(dir.parent.into())
    }
}
