//! What one operation on one upload holds, and the steps operations share.
//!
//! Owns the question "how much of this is durable, and what must be synced to be able to say so", for uploads with a
//! writer, without one, and just found after a crash. Leaves the order of the operations to [`fs`](super).

use std::sync::Arc;

use hoist_proto::types::{Durable, Offset, UploadId};
use rustix::fs::OFlags;
use tokio::sync::OwnedMutexGuard;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::failure::Repair;
use super::layout::CONTENT;
use super::layout::ParentDirs;
use super::upload_dir::{StoredRecord, UploadDir};
use super::write_queue::{Queued, WriteQueue};
use super::{acknowledged, content, sys};
use crate::record::Record;
use crate::store::Error;

/// The right to work on an upload. Moves into the work itself, so that it lasts as long as that, waited for or not.
///
/// Its fields are private for a reason beyond habit: a closure that named one would capture that one alone, and leave
/// the guard in a future that can be dropped.
pub(super) struct UploadLock {
    id: UploadId,
    entry: Arc<Entry>,
    /// The writer there was when the turn began: of this claim, or of an older one that has come to its end.
    queue: Option<Arc<WriteQueue>>,
    _guard: OwnedMutexGuard<()>,
}

impl UploadLock {
    pub(super) fn new(id: UploadId, entry: Arc<Entry>, guard: OwnedMutexGuard<()>) -> Self {
        Self { id, queue: entry.queue(), entry, _guard: guard }
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Ends the current writer, whichever claim it has.
    pub(super) async fn end_queue(&self, rest: Queued) {
        if let Some(queue) = &self.queue {
            queue.end(rest);
            queue.idle().await;
        }
    }

    /// Makes the upload forget its writer, if that has ended, as soon as none of its jobs is left. Does not wait.
    fn release_queue(&self) {
        if let Some(queue) = &self.queue
            && queue.is_over()
        {
            self.entry.detach(queue);
        }
    }

    /// Waits for the running job of a writer that has ended, and forgets the writer. It changes none of the upload's
    /// files afterwards. Blocks, so it must not be called on a thread of the runtime.
    pub(super) fn retire(&self) {
        if let Some(queue) = &self.queue
            && queue.is_over()
        {
            queue.content().close();
            self.entry.release_queue(queue);
        }
    }

    /// Where the upload lies and what its record says, if it exists and can be believed.
    pub(super) fn visit(&self, data_dir: &DataDir) -> Result<Option<(UploadDir, StoredRecord)>, Error> {
        let Some(upload_dir) = data_dir.find(self.id)? else { return Ok(None) };
        upload_dir.trusted()?;
        Ok(upload_dir.record()?.map(|found| (upload_dir, found)))
    }

    /// Makes an upload durable as far as it is written. The answer holds once the shelves it names are synced too.
    pub(super) fn settle(
        &self,
        data_dir: &DataDir,
        upload_dir: &UploadDir,
        found: &StoredRecord,
    ) -> Result<(Offset, ParentDirs), Error> {
        if let Some(offset) = found.record.discarded {
            return Ok((offset, self.settle_record(upload_dir, found)?));
        }
        if let Some(queue) = &self.queue {
            let content = queue.content();
            // A claim that has ended confirms nothing any more.
            let revoked = if queue.is_ended() { content.drop_unverified() } else { Ok(()) };
            match revoked.and_then(|()| content.settle()) {
                Ok(settled) => return Ok((Offset::new(settled.durable), settled.parents)),
                Err(failure) if !queue.is_over() => return Err(failure.into()),
                // The writer was told, and what it could not be promised is cut off. The rest is good.
                Err(_) => self.entry.release_queue(queue),
            }
        }
        self.settle_file(data_dir, upload_dir, found)
    }

    /// The same of a content that no writer has open.
    fn settle_file(
        &self,
        data_dir: &DataDir,
        upload_dir: &UploadDir,
        found: &StoredRecord,
    ) -> Result<(Offset, ParentDirs), Error> {
        // For writing, to be able to cut it; on a file system that has become read-only it can still be asked for.
        let (file, is_writable) = match upload_dir.content(OFlags::WRONLY) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                (upload_dir.content(OFlags::RDONLY)?, false)
            }
            content => (content?, true),
        };
        let file = file.ok_or_else(|| upload_dir.lost())?;
        let doing = |doing| move |errno| upload_dir.failed(doing, CONTENT, errno);
        let stat = rustix::fs::fstat(&file).map_err(doing("looking at"))?;
        let (end, known, unverified) =
            (sys::bytes_of(&stat), self.entry.known(), upload_dir.unverified_from()?);
        let (told, repair) = (acknowledged::read(&file), self.entry.repair());
        let cut_to = repair.and_then(|repair| repair.cut_to);
        let bytes = [unverified, cut_to].into_iter().flatten().chain([end]).min().unwrap_or(end);
        //= IETF-OFF-02
        let promised = known.or(told.map(|told| told.bytes)).unwrap_or(0);
        if promised > bytes {
            let why = format!("it had {promised} bytes and has {bytes}");
            return Err(Error::Damaged(why));
        }
        let parents = self.settle_record(upload_dir, found)?;
        let is_cut = bytes < end && is_writable;
        if is_cut {
            let cut = acknowledged::lower(&file, bytes).and_then(|()| sys::cut(&file, bytes));
            cut.map_err(doing("cutting doubtful bytes off"))?;
        }
        if data_dir.is_disk()
            && (known != Some(bytes) || is_cut || repair.is_some())
            && let Err(errno) = sys::sync_data(&file)
        {
            // Without either, none of its bytes can be told from those that were durable before.
            let durable = known.or(told.filter(|told| told.is_exact).map(|told| told.bytes));
            if let Some(durable) = durable.filter(|&durable| durable < bytes) {
                self.entry.set_repair(Repair { cut_to: Some(durable), ..repair.unwrap_or_default() });
                content::truncate_unsynced(self.id, &file, durable, errno);
            }
            return Err(upload_dir.failed("syncing", CONTENT, errno));
        }
        if is_writable {
            self.remove_unverified_markers(
                upload_dir,
                unverified.or(repair.and_then(|repair| repair.marker)),
            )?;
            if known != Some(bytes) || told.is_none_or(|told| told.bytes != bytes) {
                acknowledged::set(&file, bytes).map_err(doing("noting the bytes of"))?;
            }
            self.entry.clear_repair();
        }
        Ok((Offset::new(bytes), parents))
    }

    /// Removes for good the notes of doubts whose bytes have been cut off for good. `from` is one of them, and made again
    /// if it is not there: a name that was removed and not synced may come back.
    fn remove_unverified_markers(&self, upload_dir: &UploadDir, from: Option<u64>) -> Result<(), Error> {
        let Some(from) = from else { return Ok(()) };
        let removed = upload_dir.add_unverified_marker(from).and_then(|()| {
            while let Some(from) = upload_dir.unverified_from()? {
                upload_dir.remove_unverified_marker(from)?;
            }
            upload_dir.sync()
        });
        removed.inspect_err(|_| {
            self.entry.set_repair(Repair { marker: Some(from), ..self.entry.repair().unwrap_or_default() });
        })
    }

    /// What a commit has to sync so that the upload is found after a crash.
    pub(super) fn unsynced_parents(&self, upload_dir: &UploadDir) -> ParentDirs {
        let known = match &self.queue {
            Some(queue) => queue.content().known(),
            None => self.entry.known(),
        };
        if known.is_some() { ParentDirs::NONE } else { upload_dir.parent.into() }
    }

    /// Puts a record in the place of the old one.
    pub(super) fn replace_record(&self, upload_dir: &UploadDir, record: &Record) -> Result<(), Error> {
        match &self.queue {
            Some(queue) => queue.content().with_record(|| upload_dir.replace_record(record)),
            None => upload_dir.replace_record(record),
        }
    }

    /// Notes that what `settle` found is durable, shelves and all, and says so to the caller.
    pub(super) fn attest(&self, offset: Offset) -> Durable {
        match self.entry.queue() {
            Some(queue) => {
                queue.content().parents_synced();
                self.release_queue();
            }
            // The writer there was has come to its end meanwhile, and what it left is newer.
            None if self.queue.as_ref().is_some_and(|queue| !queue.content().is_failed()) => {}
            None => self.entry.raise_durable_bytes(offset.get()),
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and everything before it has been synced"
        )]
        Durable::attest(offset)
    }

    /// Notes that a commit and the shelves it changed are durable.
    pub(super) fn committed(&self) {
        if let Some(queue) = &self.queue {
            queue.content().parents_synced();
            self.release_queue();
        }
    }

    fn settle_record(&self, upload_dir: &UploadDir, found: &StoredRecord) -> Result<ParentDirs, Error> {
        if self.entry.known().is_some() {
            return Ok(ParentDirs::NONE);
        }
        if found.is_draft || self.entry.repair().is_some() {
            // Written anew: whether the old one's bytes and name reached the disk cannot be asked twice.
            upload_dir.replace_record(&found.record)?;
        }
        upload_dir.sync().inspect_err(|_| self.entry.set_repair(self.entry.repair().unwrap_or_default()))?;
        Ok(upload_dir.parent.into())
    }
}
