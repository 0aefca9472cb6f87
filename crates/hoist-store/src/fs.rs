//! The default store: plain files in one directory, which an operator can read.
//!
//! Owns the order of locks, fences and threads around each operation. Leaves the files to `fs/tree.rs` and
//! `fs/place.rs` (names, records) and `fs/data.rs` (content), the queues to `fs/lane.rs`, the batching of syncs to `fs/sync.rs`.
//!
//! Every operation has the same shape: take the fence, which refuses older claims from that moment on; wait for the
//! upload's turn; end an older claim's writer, whose accepted bytes are still written; then do the work on a thread of
//! the store. Dropping the future abandons the waiting, never the work.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Upload};
use rustix::fs::OFlags;
use rustix::io::Errno;

use self::content::Content;
use self::data_dir::DataDir;
use self::entry::Entries;
use self::export::Sharing;
use self::layout::{ParentDir, ParentDirs};
use self::listing::LocalListing;
pub use self::options::{Durability, Headroom, NotADurability, Options};
pub use self::setup::make_directory;
use self::sync::Syncer;
use self::thread_pool::ThreadPool;
use self::upload_lock::UploadLock;
use self::write_queue::{Queued, WritePool, WriteQueue};
use self::writer::LocalWriter;
use crate::record::Record;
use crate::store::{BoxFuture, Error, LastUsed, Listing, Reader, Store, UploadGroup, Writer};

mod acknowledged;
mod content;
mod data_dir;
mod entry;
mod export;
mod failure;
mod free_space;
mod join;
mod last_used;
mod layout;
mod listing;
mod mutex;
mod options;
mod read;
mod setup;
mod sync;
mod sys;
#[cfg(test)]
mod tests;
mod thread_pool;
mod upload_dir;
mod upload_lock;
mod write_queue;
mod writer;

/// Uploads in a directory of a local file system.
///
/// Dropping it writes what was accepted, ends its threads and lets go of the directory. A [`Writer`] or [`Reader`] that
/// is still about then fails.
pub struct LocalStore {
    data_dir: Arc<DataDir>,
    entries: Arc<Entries>,
    pool: Arc<WritePool>,
    /// For what takes a moment.
    io_pool: ThreadPool,
    /// For what may take minutes: a listing, a copy to another file system.
    bulk_pool: ThreadPool,
    background: ThreadPool,
    syncer: Syncer,
    threads: Threads,
}

/// The threads, by the order in which they can end.
struct Threads {
    write: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    rest: Vec<JoinHandle<()>>,
    sync: Vec<JoinHandle<()>>,
}

impl LocalStore {
    /// Opens the store in `directory`, which is made if need be, and clears away what a crash left of uploads that were
    /// never acknowledged. Blocks for as long as that takes.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process, or another store of this one, uses the directory; else what the system says.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        let data_dir = Arc::new(DataDir::open(directory, options)?);
        let mut threads = Threads { write: vec![], background: vec![], rest: vec![], sync: vec![] };
        let background = ThreadPool::start("hoist-flush", 2, &mut threads.background)?;
        let pool = WritePool::start(
            Arc::clone(data_dir.room()),
            options.write_threads,
            options.queue_bytes_max,
            options.budget_bytes_max,
            options.sync_bytes,
            background.clone(),
            &mut threads.write,
        )?;
        Ok(Self {
            entries: Arc::new(Entries::new(options.fences_max)),
            io_pool: ThreadPool::start("hoist-files", options.other_threads, &mut threads.rest)?,
            bulk_pool: ThreadPool::start("hoist-haul", 2, &mut threads.rest)?,
            syncer: Syncer::start(&data_dir, options.sync_threads, &mut threads.sync)?,
            background,
            pool,
            data_dir,
            threads,
        })
    }

    /// Takes a fence and the upload's turn. What an older claim accepted is written when this returns, or forgotten, and
    /// nothing of it can be written later.
    //= TOK-APP-04
    async fn enter(&self, id: UploadId, fence: Fence, rest: Queued) -> Result<UploadLock, Error> {
        let entry = self.entries.of(id);
        if let Some(older) = entry.admit(fence)? {
            older.end(rest);
        }
        let guard = Arc::clone(&entry.lock).lock_owned().await;
        // Another claim may have come while this one waited.
        if let Some(older) = entry.admit(fence)? {
            older.end(rest);
            older.idle().await;
        }
        if let Some(dropped) = entry.queue().filter(|queue| queue.is_detached()) {
            dropped.idle().await;
        }
        Ok(UploadLock::new(id, entry, guard))
    }

    //= TOK-CRE-05
    async fn begin(&self, upload: &Upload, fence: Fence) -> Result<Box<dyn Writer>, Error> {
        // No fence is taken yet: the transfer of an upload that exists goes on.
        let entry = self.entries.of(upload.id);
        let guard = Arc::clone(&entry.lock).lock_owned().await;
        let lock = UploadLock::new(upload.id, entry, guard);
        let upload = bare(upload);
        let (data_dir, pool, syncer) =
            (Arc::clone(&self.data_dir), Arc::clone(&self.pool), self.syncer.clone());
        let job = move || {
            data_dir.clear_for(upload.id)?;
            lock.entry().admit(fence)?;
            let (upload_dir, file) = data_dir.create(&Record { upload, discarded: None })?;
            lock.entry().reset();
            let content = Arc::new(Content::created(upload_dir, file));
            let queue = Arc::new(WriteQueue::new(pool, content, fence));
            Ok(LocalWriter::new(queue, Arc::clone(lock.entry()), data_dir, syncer))
        };
        Ok(Box::new(self.io_pool.call(job).await?))
    }

    async fn resume(&self, id: UploadId, at: Offset, fence: Fence) -> Result<Box<dyn Writer>, Error> {
        let lock = self.enter(id, fence, Queued::Write).await?;
        lock.end_queue(Queued::Write).await;
        let (data_dir, pool, syncer) =
            (Arc::clone(&self.data_dir), Arc::clone(&self.pool), self.syncer.clone());
        let job = move || {
            let (upload_dir, found) = lock.visit(&data_dir)?.ok_or(Error::Missing)?;
            if found.record.upload.is_complete() {
                return Err(Error::Missing);
            }
            let (stored, parents) = lock.settle(&data_dir, &upload_dir, &found)?;
            // Its file may be a part's as well.
            if found.record.upload.composition.is_composed() && stored != Offset::ZERO {
                return Err(Error::Missing);
            }
            if stored != at {
                return Err(Error::Damaged(format!("it ends at {stored}, and was to go on at {at}")));
            }
            lock.retire();
            let file = upload_dir.content(OFlags::WRONLY)?.ok_or_else(|| upload_dir.lost())?;
            let content = Arc::new(Content::durable(&upload_dir, file, stored.get(), !parents.is_empty()));
            let queue = Arc::new(WriteQueue::new(pool, content, fence));
            let writer = LocalWriter::new(queue, Arc::clone(lock.entry()), data_dir, syncer);
            Ok(((writer, lock), parents))
        };
        let (writer, _lock) = self.syncer.call(job).await?;
        writer.parents_synced();
        Ok(Box::new(writer))
    }

    //= TOK-OFF-03
    async fn fetch(&self, id: UploadId, fence: Fence) -> Result<Option<Upload>, Error> {
        let lock = self.enter(id, fence, Queued::Write).await?;
        self.look(lock).await
    }

    /// Neither takes a fence nor ends a writer. Waits for the disk alone: while another operation has the turn for longer,
    /// what is durable of the upload is known.
    async fn glance(&self, id: UploadId) -> Result<Option<Upload>, Error> {
        let entry = self.entries.of(id);
        let guard = if let Ok(guard) = Arc::clone(&entry.lock).try_lock_owned() {
            guard
        } else {
            let one = Arc::clone(&entry.peek_beside).lock_owned().await;
            let (data_dir, beside) = (Arc::clone(&self.data_dir), Arc::clone(&entry));
            let job = move || {
                let seen = read::peek_beside(&data_dir, id, &beside);
                drop(one);
                seen
            };
            if let Some(seen) = self.syncer.call(job).await? {
                return Ok(Some(seen));
            }
            Arc::clone(&entry.lock).lock_owned().await
        };
        self.look(UploadLock::new(id, entry, guard)).await
    }

    async fn look(&self, lock: UploadLock) -> Result<Option<Upload>, Error> {
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let Some((mut upload_dir, found)) = lock.visit(&data_dir)? else {
                return Ok(((None, lock), ParentDirs::NONE));
            };
            let (offset, mut parents) = lock.settle(&data_dir, &upload_dir, &found)?;
            let mut upload = found.record.upload;
            if upload.is_complete() {
                // A crash came between a commit and the move that belongs to it.
                parents = parents.and(data_dir.finish(&mut upload_dir)?);
            }
            upload.touched = read::touched(&upload_dir, upload.touched)?;
            Ok(((Some((upload, offset)), lock), parents))
        };
        let (loaded, lock) = self.syncer.call(job).await?;
        Ok(loaded.map(|(upload, offset)| Upload { offset: lock.attest(offset), ..upload }))
    }

    async fn replace(&self, upload: &Upload, fence: Fence, content: ContentFate) -> Result<(), Error> {
        let lock = self.enter(upload.id, fence, Queued::Write).await?;
        let is_complete = upload.is_complete();
        if is_complete {
            lock.end_queue(Queued::Write).await;
        }
        let data_dir = Arc::clone(&self.data_dir);
        let upload = bare(upload);
        let job = move || {
            let (mut upload_dir, old) = lock.visit(&data_dir)?.ok_or(Error::Missing)?;
            let mut discarded = old.record.discarded;
            if content == ContentFate::Discarded && !is_complete {
                return Err(upload_dir.failed("concluding the incomplete", layout::CONTENT, Errno::INVAL));
            }
            let mut parents = lock.unsynced_parents(&upload_dir);
            if is_complete {
                // A complete upload whose bytes are not durable must not be found after a crash.
                let (stored, due) = lock.settle(&data_dir, &upload_dir, &old)?;
                parents = parents.and(due);
                if content == ContentFate::Discarded {
                    discarded = discarded.or(Some(stored));
                }
            }
            lock.replace_record(&upload_dir, &Record { upload, discarded })?;
            if is_complete {
                parents = parents.and(data_dir.finish(&mut upload_dir)?);
            }
            upload_dir.sync()?;
            if content == ContentFate::Discarded {
                upload_dir.remove_content()?;
            }
            Ok((lock, parents))
        };
        self.syncer.call(job).await?.committed();
        Ok(())
    }

    async fn compose(&self, id: UploadId, parts: &[UploadId], fence: Fence) -> Result<Durable, Error> {
        let lock = self.enter(id, fence, Queued::Write).await?;
        lock.end_queue(Queued::Write).await;
        let (parts, data_dir) = (parts.to_owned(), Arc::clone(&self.data_dir));
        let job = move || {
            let (upload_dir, found) = lock.visit(&data_dir)?.ok_or(Error::Missing)?;
            let upload = &found.record.upload;
            if upload.is_complete() {
                return Err(Error::Missing);
            }
            let (stored, parents) = lock.settle(&data_dir, &upload_dir, &found)?;
            if !upload.composition.is_composed() || stored != Offset::ZERO {
                return Err(upload_dir.failed(
                    "joining parts onto what has content",
                    layout::CONTENT,
                    Errno::INVAL,
                ));
            }
            data_dir.sync_parents(parents)?;
            // What others are told while this goes on.
            let nothing = lock.attest(stored);
            lock.retire();
            let bytes = join::build(&data_dir, &upload_dir, &parts)?;
            if bytes == 0 {
                return Ok(nothing);
            }
            lock.entry().clear_durable_bytes();
            join::install(&upload_dir)?;
            upload_dir.sync()?;
            Ok(lock.attest(Offset::new(bytes)))
        };
        self.bulk_pool.call(job).await
    }

    async fn forget_content(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let lock = self.enter(id, fence, Queued::Write).await?;
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let (upload_dir, found) = lock.visit(&data_dir)?.ok_or(Error::Missing)?;
            if !found.record.upload.is_complete() {
                return Err(upload_dir.failed("discarding the incomplete", layout::CONTENT, Errno::INVAL));
            }
            let (stored, parents) = lock.settle(&data_dir, &upload_dir, &found)?;
            if found.record.discarded.is_none() {
                lock.replace_record(&upload_dir, &Record { discarded: Some(stored), ..found.record })?;
                upload_dir.sync()?;
            }
            upload_dir.remove_content()?;
            Ok(((), parents))
        };
        self.syncer.call(job).await
    }

    //= TOK-CAN-01
    async fn erase(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let lock = self.enter(id, fence, Queued::Drop).await?;
        lock.end_queue(Queued::Drop).await;
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            // Or a sync could name the draft in the directory while that is being removed.
            lock.retire();
            let mut parents = ParentDirs::NONE;
            let mut was_upload = false;
            while let Some(upload_dir) = data_dir.find(id)? {
                was_upload |= !matches!(upload_dir.record(), Ok(None));
                data_dir.remove(&upload_dir)?;
                parents = parents.and(upload_dir.parent.into());
            }
            lock.entry().reset();
            if was_upload { Ok(((), parents)) } else { Err(Error::Missing) }
        };
        self.syncer.call(job).await
    }

    async fn publish(
        &self,
        id: UploadId,
        directory: &Path,
        name: &str,
        fence: Fence,
    ) -> Result<String, Error> {
        let lock = self.enter(id, fence, Queued::Write).await?;
        let (directory, name, data_dir) = (directory.to_owned(), name.to_owned(), Arc::clone(&self.data_dir));
        let job = move || {
            let (upload_dir, found) = lock.visit(&data_dir)?.ok_or(Error::Missing)?;
            if found.record.discarded.is_some() {
                return Err(Error::Missing);
            }
            let (stored, parents) = lock.settle(&data_dir, &upload_dir, &found)?;
            data_dir.sync_parents(parents)?;
            // What others are told while this goes on.
            lock.attest(stored);
            let sharing = match found.record.upload.composition {
                Composition::Direct => Sharing::Alone,
                Composition::Part | Composition::Concatenated(_) | Composition::Indexed(_) => Sharing::Shared,
            };
            export::export(&data_dir, &upload_dir, sharing, &directory, &name)
        };
        self.bulk_pool.call(job).await
    }
}

/// The fate of an upload's content once a new record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentFate {
    StoredUpload,
    /// The content is removed; the record states its length.
    Discarded,
}

/// An upload as records have it: without an offset.
fn bare(upload: &Upload) -> Upload {
    Upload { offset: Durable::ZERO, ..upload.clone() }
}

impl Store for LocalStore {
    fn create<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> BoxFuture<'a, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.begin(upload, fence))
    }

    fn load(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.fetch(id, fence))
    }

    fn peek(&self, id: UploadId) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.glance(id))
    }

    fn join<'a>(
        &'a self,
        id: UploadId,
        parts: &'a [UploadId],
        fence: Fence,
    ) -> BoxFuture<'a, Result<Durable, Error>> {
        Box::pin(self.compose(id, parts, fence))
    }

    fn append(
        &self,
        id: UploadId,
        at: Offset,
        fence: Fence,
    ) -> BoxFuture<'_, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.resume(id, at, fence))
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.replace(upload, fence, ContentFate::StoredUpload))
    }

    fn conclude<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.replace(upload, fence, ContentFate::Discarded))
    }

    fn read(&self, id: UploadId, from: Offset) -> BoxFuture<'_, Result<Box<dyn Reader>, Error>> {
        let (data_dir, io_pool) = (Arc::clone(&self.data_dir), self.io_pool.clone());
        Box::pin(async move {
            let pool = io_pool.clone();
            io_pool.call(move || read::open(&data_dir, id, from, pool)).await
        })
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(self.publish(id, directory, name, fence))
    }

    fn discard(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.forget_content(id, fence))
    }

    fn remove(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.erase(id, fence))
    }

    fn list(
        &self,
        group: UploadGroup,
        unchanged_since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<Box<dyn Listing>, Error>> {
        let on = match group {
            UploadGroup::Open => ParentDir::Open,
            UploadGroup::Complete => ParentDir::Done,
        };
        let (data_dir, entries, pool) =
            (Arc::clone(&self.data_dir), Arc::clone(&self.entries), self.bulk_pool.clone());
        Box::pin(self.bulk_pool.call(move || {
            let listing = LocalListing::begin(data_dir, entries, on, unchanged_since, pool)?;
            Ok(Box::new(listing) as Box<dyn Listing>)
        }))
    }

    fn last_used(&self) -> BoxFuture<'_, Result<Option<LastUsed>, Error>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.io_pool.call(move || last_used::read(&data_dir)))
    }

    fn set_last_used<'a>(&'a self, seen: &'a LastUsed) -> BoxFuture<'a, Result<(), Error>> {
        let (data_dir, seen) = (Arc::clone(&self.data_dir), seen.clone());
        Box::pin(self.io_pool.call(move || last_used::write(&data_dir, &seen)))
    }

    fn check_health(&self) -> BoxFuture<'_, Result<(), Error>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.syncer.call(move || data_dir.check_health().map(|()| ((), ParentDirs::NONE))))
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        let join = |threads: &mut Vec<JoinHandle<()>>| {
            for thread in threads.drain(..) {
                // A thread that panicked has said so already.
                let _ = thread.join();
            }
        };
        self.pool.close();
        join(&mut self.threads.write);
        self.background.close();
        join(&mut self.threads.background);
        self.io_pool.close();
        self.bulk_pool.close();
        join(&mut self.threads.rest);
        self.syncer.close();
        let directories = self.threads.sync.pop();
        join(&mut self.threads.sync);
        self.syncer.close_parents();
        join(&mut directories.into_iter().collect());
        self.data_dir.unlock();
    }
}
