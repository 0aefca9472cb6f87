//! The local store: its threads, and the steps of each operation.
//!
//! Owns the order of fences, locks and threads in each operation. Leaves files to [`data_dir`](super::data_dir),
//! [`upload_dir`](super::upload_dir) and [`content`](super::content), queues to [`write_queue`](super::write_queue),
//! and the batching of syncs to [`sync`](super::sync).
//!
//! Every operation that changes an upload takes the fence, which ends older claims from that moment on; waits for the
//! upload's lock, and until the writer of an older claim has written its accepted bytes; and then does its work on a
//! thread of the store. Dropping the future ends the waiting, not the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset, UploadId};
use hoist_proto::upload::{Composition, Phase, Upload};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::content::Content;
use super::data_dir::DataDir;
use super::entry::Entries;
use super::layout::{CONTENT, CONTENT_NEW, ParentDir, ParentDirs, RECORD};
use super::listing::LocalListing;
use super::options::{Headroom, Options};
use super::sender::Sender;
use super::sync::Syncer;
use super::task::Tasks;
use super::thread_pool::ThreadPool;
use super::upload_lock::UploadLock;
use super::write_queue::{Queued, WritePool, WriteQueue};
use super::writer::LocalWriter;
use super::{export, join, last_used, read, record_cache, sys};
use crate::record::Record;
use crate::store::{
    BoxFuture, Error, LastUsed, Listing, Outbox, Reader, Store, StoreFuture, UploadGroup, UploadPaths, Writer,
};

/// Uploads in a directory of a local file system.
///
/// Dropping the store writes all accepted bytes, ends its threads and unlocks the directory. Its writers and readers
/// then fail.
pub struct LocalStore {
    pub(super) data_dir: Arc<DataDir>,
    /// The absolute path of the data directory.
    path: PathBuf,
    pub(super) entries: Arc<Entries>,
    pool: Arc<WritePool>,
    /// Runs the tasks, and jobs that write and sync.
    disk_pool: ThreadPool,
    tasks: Tasks,
    /// Runs jobs that are short.
    pub(super) io_pool: ThreadPool,
    /// Sends content to sockets.
    sender: Sender,
    /// Runs jobs that may take minutes, such as a listing or a copy to another file system.
    pub(super) bulk_pool: ThreadPool,
    background: ThreadPool,
    pub(super) syncer: Syncer,
}

impl LocalStore {
    /// Opens the store in `directory`, which is created if necessary. Blocks.
    ///
    /// The first [`list`](crate::store::Store::list) removes what a crash left of uploads that were never
    /// acknowledged.
    ///
    /// # Errors
    /// - [`Error::Busy`] if another process, or another store of this one, uses the directory.
    /// - [`Error::Io`] if the directory cannot be created, opened or written to.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        let data_dir = Arc::new(DataDir::open(directory, options)?);
        let background = ThreadPool::start("hoist-flush", 2)?;
        let disk_pool = ThreadPool::start("hoist-disk", options.disk_threads)?;
        let path = std::path::absolute(directory).map_err(|source| Error::Io {
            doing: format!("finding the full path of {}", directory.display()),
            source,
        })?;
        Ok(Self {
            path,
            entries: Arc::new(Entries::new(options)),
            io_pool: ThreadPool::start("hoist-files", options.other_threads)?,
            sender: Sender::start(options.other_threads)?,
            bulk_pool: ThreadPool::start("hoist-bulk", 2)?,
            syncer: Syncer::start(&data_dir, disk_pool.clone())?,
            pool: WritePool::new(Arc::clone(&data_dir), options, disk_pool.clone(), background.clone()),
            tasks: Tasks::new(disk_pool.clone()),
            disk_pool,
            background,
            data_dir,
        })
    }

    /// Changes the space on the volume that uploads leave free.
    pub fn set_headroom(&self, headroom: Headroom) {
        self.data_dir.set_headroom(headroom);
    }

    /// Takes a fence and the upload's lock. When it returns, the bytes that an older claim has accepted are written or
    /// dropped, and the older claim writes nothing more.
    //= TOK-APP-04
    pub(super) async fn lock(&self, id: UploadId, fence: Fence, queued: Queued) -> Result<UploadLock, Error> {
        let entry = self.entries.of(id);
        if let Some(older) = entry.admit(fence)? {
            older.close(queued);
        }
        let guard = Arc::clone(&entry.lock).lock_owned().await;
        // A newer claim may have taken over while this one waited.
        if let Some(older) = entry.admit(fence)? {
            older.close(queued);
            older.idle().await;
        }
        if let Some(dropped) = entry.queue().filter(|queue| queue.is_detached()) {
            dropped.idle().await;
        }
        Ok(UploadLock::new(id, entry, guard))
    }

    async fn read_upload(&self, lock: UploadLock) -> Result<Option<Upload>, Error> {
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let Some((mut dir, found)) = lock.open(&data_dir)? else {
                return Ok(((None, lock), ParentDirs::NONE));
            };
            let (offset, mut parents) = lock.sync(&data_dir, &dir, &found)?;
            if found.record.upload.is_complete() {
                // A crash may have come between the commit and its move to `done`.
                parents = parents.and(data_dir.move_to_done(&mut dir)?);
            }
            let changed = dir.content_stat()?.as_ref().and_then(sys::last_byte_at);
            Ok(((Some((found.record, offset, changed)), lock), parents))
        };
        let (loaded, lock) = self.syncer.call(job).await?;
        Ok(loaded.map(|(record, offset, changed)| lock.loaded(record, offset, changed)))
    }

    async fn commit_record(&self, upload: &Upload, fence: Fence, fate: ContentFate) -> Result<(), Error> {
        let lock = self.lock(upload.id, fence, Queued::Write).await?;
        let is_complete = upload.is_complete();
        if is_complete {
            lock.close_queue(Queued::Write).await;
        }
        let data_dir = Arc::clone(&self.data_dir);
        let upload = without_offset(upload);
        let job = move || {
            let (mut dir, old) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
            let mut discarded = old.record.discarded;
            if fate == ContentFate::Discarded && !is_complete {
                return Err(dir.failed("discarding incomplete", CONTENT, Errno::INVAL));
            }
            let (mut parents, mut end) = (lock.unsynced_parents(&dir), None);
            if is_complete {
                // After a crash a complete upload must not be found without its bytes.
                let (stored, unsynced) = lock.sync(&data_dir, &dir, &old)?;
                parents = parents.and(unsynced);
                if fate == ContentFate::Discarded {
                    discarded = discarded.or(Some(stored));
                }
                end = lock.end_without_writer(&dir, stored)?;
            }
            let record = Record { upload, discarded };
            lock.replace_record(&dir, &old, &record)?;
            if is_complete {
                parents = parents.and(data_dir.move_to_done(&mut dir)?);
            }
            dir.sync()?;
            if fate == ContentFate::Discarded {
                dir.remove_file(CONTENT)?;
            }
            Ok(((lock, record, end), parents))
        };
        let (lock, record, end) = self.syncer.call(job).await?;
        lock.committed(record, end);
        Ok(())
    }
}

impl Store for LocalStore {
    //= TOK-CRE-05
    fn create<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, Box<dyn Writer>> {
        Box::pin(async move {
            // No fence is taken yet: if the upload exists, its transfer continues.
            let entry = self.entries.of(upload.id);
            let guard = Arc::clone(&entry.lock).lock_owned().await;
            let lock = UploadLock::new(upload.id, entry, guard);
            let upload = without_offset(upload);
            let (data_dir, pool, syncer) =
                (Arc::clone(&self.data_dir), Arc::clone(&self.pool), self.syncer.clone());
            let job = move || {
                let record = Record { upload, discarded: None };
                let (dir, file) = data_dir.create(&record, || lock.entry().admit(fence).map(drop))?;
                lock.entry().reset();
                lock.entry().set_record(Arc::new(record));
                let content = Arc::new(Content::created(dir, file));
                let queue = Arc::new(WriteQueue::new(pool, content, fence));
                Ok(LocalWriter::new(queue, lock.entry().clone(), data_dir, syncer))
            };
            Ok(Box::new(self.disk_pool.call(job).await?) as Box<dyn Writer>)
        })
    }

    //= TOK-CRE-05, TOK-OFF-03
    fn create_whole<'a>(
        &'a self,
        upload: &'a Upload,
        content: Vec<Bytes>,
        fence: Fence,
    ) -> StoreFuture<'a, Durable> {
        Box::pin(async move {
            let entry = self.entries.of(upload.id);
            let guard = Arc::clone(&entry.lock).lock_owned().await;
            let lock = UploadLock::new(upload.id, entry, guard);
            let (upload, data_dir) = (without_offset(upload), Arc::clone(&self.data_dir));
            let job = move || {
                let (record, admit) =
                    (Record { upload, discarded: None }, || lock.entry().admit(fence).map(drop));
                let bytes = data_dir.create_whole(&record, &content, admit)?;
                lock.entry().reset();
                Ok(((Offset::new(bytes), lock), ParentDir::Done.into()))
            };
            let (end, lock) = self.syncer.call(job).await?;
            Ok(lock.attest(end))
        })
    }

    // From memory if possible, without another thread.
    //= TOK-OFF-03
    fn load(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, Option<Upload>> {
        if let Some(loaded) = self.entries.cached(id, Some(fence)) {
            return Box::pin(std::future::ready(loaded.map(Some)));
        }
        Box::pin(async move { self.read_upload(self.lock(id, fence, Queued::Write).await?).await })
    }

    fn paths(&self, upload: &Upload) -> Option<UploadPaths> {
        let parent = if upload.is_complete() { ParentDir::Done } else { ParentDir::Open };
        let directory = self.path.join(parent.to_string()).join(upload.id.to_string());
        Some(UploadPaths { content: directory.join(CONTENT), record: directory.join(RECORD) })
    }

    fn recall(&self, id: UploadId) -> Option<Upload> {
        self.entries.cached(id, None)?.ok()
    }

    // Waits for the disk only: if another operation holds the lock for longer, the offset that is known to be durable is
    // returned.
    fn peek(&self, id: UploadId) -> StoreFuture<'_, Option<Upload>> {
        if let Some(seen) = self.entries.cached(id, None) {
            return Box::pin(std::future::ready(seen.map(Some)));
        }
        Box::pin(async move {
            let entry = self.entries.of(id);
            let guard = if let Ok(guard) = Arc::clone(&entry.lock).try_lock_owned() {
                guard
            } else {
                let peek_guard = Arc::clone(&entry.peek_lock).lock_owned().await;
                let (data_dir, peeked_entry) = (Arc::clone(&self.data_dir), entry.clone());
                let job = move || {
                    let peeked = read::peek_beside(&data_dir, id, &peeked_entry);
                    drop(peek_guard);
                    peeked
                };
                if let Some(upload) = self.syncer.call(job).await? {
                    return Ok(Some(upload));
                }
                Arc::clone(&entry.lock).lock_owned().await
            };
            self.read_upload(UploadLock::new(id, entry, guard)).await
        })
    }

    fn append(&self, id: UploadId, at: Offset, fence: Fence) -> StoreFuture<'_, Box<dyn Writer>> {
        Box::pin(async move {
            let lock = self.lock(id, fence, Queued::Write).await?;
            lock.close_queue(Queued::Write).await;
            let (data_dir, pool, syncer) =
                (Arc::clone(&self.data_dir), Arc::clone(&self.pool), self.syncer.clone());
            let job = move || {
                let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
                if found.record.upload.is_complete() {
                    return Err(Error::Missing);
                }
                let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
                // A joined content may share its file with a part.
                if found.record.upload.composition.is_composed() && stored != Offset::ZERO {
                    return Err(Error::Missing);
                }
                if stored != at {
                    return Err(Error::Damaged(format!("its content ends at {stored}, not at {at}")));
                }
                lock.close_content();
                let file = dir.content(OFlags::WRONLY)?.ok_or_else(|| dir.content_missing())?;
                lock.check_end(&dir, &file)?;
                let content = Arc::new(Content::durable(&dir, file, stored.get(), !parents.is_empty()));
                let queue = Arc::new(WriteQueue::new(pool, content, fence));
                let writer = LocalWriter::new(queue, lock.entry().clone(), data_dir, syncer);
                lock.entry().set_record(found.record);
                Ok(((writer, lock), parents))
            };
            let (writer, _lock) = self.syncer.call(job).await?;
            writer.parents_synced();
            Ok(Box::new(writer) as Box<dyn Writer>)
        })
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        Box::pin(self.commit_record(upload, fence, ContentFate::Kept))
    }

    fn commit_and_discard<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()> {
        Box::pin(self.commit_record(upload, fence, ContentFate::Discarded))
    }

    fn join<'a>(&'a self, id: UploadId, parts: &'a [UploadId], fence: Fence) -> StoreFuture<'a, Durable> {
        Box::pin(async move {
            let lock = self.lock(id, fence, Queued::Write).await?;
            lock.close_queue(Queued::Write).await;
            let (parts, data_dir) = (parts.to_owned(), Arc::clone(&self.data_dir));
            let job = move || {
                let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
                let upload = &found.record.upload;
                if upload.is_complete() {
                    return Err(Error::Missing);
                }
                let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
                if !upload.composition.is_composed() || stored != Offset::ZERO {
                    return Err(dir.failed("joining parts onto existing", CONTENT, Errno::INVAL));
                }
                data_dir.sync_parents(parents)?;
                // The offset that `peek` returns while the join runs.
                let empty = lock.attest(stored);
                lock.close_content();
                let bytes = join::build(&data_dir, &dir, &parts)?;
                if bytes == 0 {
                    return Ok(empty);
                }
                lock.entry().clear_durable_bytes();
                // Replaces the empty content. Durable once the directory is synced.
                dir.rename(CONTENT_NEW, CONTENT)?;
                dir.sync()?;
                Ok(lock.attest(Offset::new(bytes)))
            };
            self.bulk_pool.call(job).await
        })
    }

    fn read(&self, id: UploadId, from: Offset) -> StoreFuture<'_, Box<dyn Reader>> {
        let (data_dir, pool) = (Arc::clone(&self.data_dir), self.io_pool.clone());
        let sender = self.sender.clone();
        Box::pin(self.io_pool.call(move || read::open(&data_dir, id, from, pool, sender)))
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> StoreFuture<'a, String> {
        Box::pin(async move {
            let lock = self.lock(id, fence, Queued::Write).await?;
            let (directory, name, data_dir) =
                (directory.to_owned(), name.to_owned(), Arc::clone(&self.data_dir));
            let job = move || {
                let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
                if found.record.discarded.is_some() {
                    return Err(Error::Missing);
                }
                let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
                data_dir.sync_parents(parents)?;
                // The offset that `peek` returns while the export runs.
                lock.attest(stored);
                let is_shared = found.record.upload.composition != Composition::Direct;
                export::export(&data_dir, &dir, is_shared, &directory, &name)
            };
            self.bulk_pool.call(job).await
        })
    }

    fn discard(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let lock = self.lock(id, fence, Queued::Write).await?;
            let data_dir = Arc::clone(&self.data_dir);
            let job = move || {
                let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
                if !found.record.upload.is_complete() {
                    return Err(dir.failed("discarding incomplete", CONTENT, Errno::INVAL));
                }
                let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
                let end = lock.end_without_writer(&dir, stored)?;
                let mut record = (*found.record).clone();
                if record.discarded.is_none() {
                    record.discarded = Some(stored);
                    lock.replace_record(&dir, &found, &record)?;
                    dir.sync()?;
                }
                dir.remove_file(CONTENT)?;
                Ok(((lock, record, end), parents))
            };
            let (lock, record, end) = self.syncer.call(job).await?;
            lock.committed(record, end);
            Ok(())
        })
    }

    //= TOK-CAN-01
    fn remove(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            let lock = self.lock(id, fence, Queued::Drop).await?;
            lock.close_queue(Queued::Drop).await;
            let data_dir = Arc::clone(&self.data_dir);
            let job = move || {
                // Otherwise a running sync could rename the draft in a directory that is being deleted.
                lock.close_content();
                lock.remove(&data_dir).map(|parents| ((), parents))
            };
            self.syncer.call(job).await
        })
    }

    fn list(&self, group: UploadGroup) -> StoreFuture<'_, Box<dyn Listing>> {
        let (data_dir, entries) = (Arc::clone(&self.data_dir), Arc::clone(&self.entries));
        let pool = self.bulk_pool.clone();
        Box::pin(self.bulk_pool.call(move || {
            let listing = LocalListing::begin(data_dir, entries, group, pool)?;
            Ok(Box::new(listing) as Box<dyn Listing>)
        }))
    }

    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    fn page<'a>(
        &'a self,
        group: UploadGroup,
        from: Option<&'a crate::store::Position>,
        reads_max: usize,
    ) -> StoreFuture<'a, crate::store::Page> {
        let (data_dir, from) = (Arc::clone(&self.data_dir), from.cloned());
        let read = move || super::page::read_page(&data_dir, group, from.as_ref(), reads_max);
        Box::pin(self.io_pool.call(read))
    }

    fn last_used(&self) -> StoreFuture<'_, Option<LastUsed>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.io_pool.call(move || last_used::read(&data_dir)))
    }

    fn set_last_used<'a>(&'a self, last_used: &'a LastUsed) -> StoreFuture<'a, ()> {
        let (data_dir, last_used) = (Arc::clone(&self.data_dir), last_used.clone());
        Box::pin(self.io_pool.call(move || last_used::write(&data_dir, &last_used)))
    }

    fn outbox(&self) -> Option<&dyn Outbox> {
        Some(self)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) -> Option<BoxFuture<'static, ()>> {
        self.tasks.spawn(task);
        None
    }

    fn check_health(&self) -> StoreFuture<'_, ()> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.syncer.call(move || data_dir.check_health().map(|()| ((), ParentDirs::NONE))))
    }

    fn free_bytes(&self) -> BoxFuture<'_, Option<u64>> {
        let data_dir = Arc::clone(&self.data_dir);
        let asked = self.syncer.call(move || Ok((data_dir.free_bytes(), ParentDirs::NONE)));
        Box::pin(async move { asked.await.ok().flatten() })
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        // In the order in which the threads can end.
        self.disk_pool.close();
        self.background.close();
        self.io_pool.close();
        self.sender.close();
        self.bulk_pool.close();
        self.syncer.close();
        self.data_dir.unlock();
    }
}

/// The fate of an upload's content when a record is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentFate {
    Kept,
    /// The content is removed, and the record states its length.
    Discarded,
}

/// Returns the upload as a record contains it. Shares no buffer with the request that brought the fields.
pub(super) fn without_offset(upload: &Upload) -> Upload {
    let mut upload = Upload { offset: Durable::ZERO, ..upload.clone() };
    record_cache::copy_values(&mut upload.origin.fields);
    if let Phase::Delivered(answer) | Phase::Failed(answer) = &mut upload.phase {
        record_cache::copy_values(&mut answer.fields);
    }
    upload
}
