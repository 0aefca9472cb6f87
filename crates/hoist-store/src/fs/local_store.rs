//! The local store: its threads, and the steps of each operation.
//!
//! Owns the order of fences, locks and threads in each operation. Leaves files to [`data_dir`](super::data_dir),
//! [`upload_dir`](super::upload_dir) and [`content`](super::content), queues to [`write_queue`](super::write_queue),
//! and the batching of syncs to [`sync`](super::sync).
//!
//! Every operation that changes an upload takes the same steps: it takes the fence, which ends older claims from that
//! moment on; waits for the upload's lock; waits until the writer of an older claim has written its accepted bytes; and
//! then does its work on a thread of the store. Dropping the future ends the waiting, not the work.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use hoist_proto::types::{Durable, Fence, Offset, UploadId};
use hoist_proto::upload::{Composition, Upload};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::content::Content;
use super::data_dir::DataDir;
use super::entry::Entries;
use super::export::{self, Sharing};
use super::layout::{CONTENT, ParentDirs};
use super::options::Options;
use super::sync::Syncer;
use super::thread_pool::ThreadPool;
use super::upload_lock::UploadLock;
use super::write_queue::{Queued, WritePool, WriteQueue};
use super::writer::LocalWriter;
use super::{join, read};
use crate::record::Record;
use crate::store::{Error, Writer};

/// Uploads in a directory of a local file system.
///
/// Dropping the store writes all accepted bytes, ends its threads and unlocks the directory. Its writers and readers
/// then fail.
pub struct LocalStore {
    pub(super) data_dir: Arc<DataDir>,
    pub(super) entries: Arc<Entries>,
    pool: Arc<WritePool>,
    /// Runs jobs that are short.
    pub(super) io_pool: ThreadPool,
    /// Runs jobs that may take minutes, such as a listing or a copy to another file system.
    pub(super) bulk_pool: ThreadPool,
    background: ThreadPool,
    pub(super) syncer: Syncer,
    threads: Threads,
}

/// The threads, in the order in which they can end.
struct Threads {
    write: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    jobs: Vec<JoinHandle<()>>,
    sync: Vec<JoinHandle<()>>,
}

impl LocalStore {
    /// Opens the store in `directory`, which is created if necessary. Blocks.
    ///
    /// The first full [`list`](crate::store::Store::list) removes what a crash left of uploads that were never
    /// acknowledged.
    ///
    /// # Errors
    /// - [`Error::Busy`] if another process, or another store of this one, uses the directory.
    /// - [`Error::Io`] if the directory cannot be created, opened or written to.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, Error> {
        let data_dir = Arc::new(DataDir::open(directory, options)?);
        let mut threads = Threads { write: vec![], background: vec![], jobs: vec![], sync: vec![] };
        let background = ThreadPool::start("hoist-flush", 2, &mut threads.background)?;
        let pool = WritePool::start(
            Arc::clone(data_dir.free_space()),
            options.write_threads,
            options.queue_bytes_max,
            options.budget_bytes_max,
            options.sync_bytes,
            background.clone(),
            &mut threads.write,
        )?;
        Ok(Self {
            entries: Arc::new(Entries::new(options.fences_max)),
            io_pool: ThreadPool::start("hoist-files", options.other_threads, &mut threads.jobs)?,
            bulk_pool: ThreadPool::start("hoist-bulk", 2, &mut threads.jobs)?,
            syncer: Syncer::start(&data_dir, options.sync_threads, &mut threads.sync)?,
            background,
            pool,
            data_dir,
            threads,
        })
    }

    /// Takes a fence and the upload's lock. When it returns, the bytes that an older claim has accepted are written or
    /// dropped, and the older claim writes nothing more.
    //= TOK-APP-04
    async fn lock(&self, id: UploadId, fence: Fence, queued: Queued) -> Result<UploadLock, Error> {
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

    //= TOK-CRE-05
    pub(super) async fn create_upload(
        &self,
        upload: &Upload,
        fence: Fence,
    ) -> Result<Box<dyn Writer>, Error> {
        // No fence is taken yet: if the upload exists, its transfer continues.
        let entry = self.entries.of(upload.id);
        let guard = Arc::clone(&entry.lock).lock_owned().await;
        let lock = UploadLock::new(upload.id, entry, guard);
        let upload = without_offset(upload);
        let (data_dir, pool, syncer) =
            (Arc::clone(&self.data_dir), Arc::clone(&self.pool), self.syncer.clone());
        let job = move || {
            data_dir.ensure_free(upload.id)?;
            lock.entry().admit(fence)?;
            let (dir, file) = data_dir.create(&Record { upload, discarded: None })?;
            lock.entry().reset();
            let content = Arc::new(Content::created(dir, file));
            let queue = Arc::new(WriteQueue::new(pool, content, fence));
            Ok(LocalWriter::new(queue, Arc::clone(lock.entry()), data_dir, syncer))
        };
        Ok(Box::new(self.io_pool.call(job).await?))
    }

    pub(super) async fn open_writer(
        &self,
        id: UploadId,
        at: Offset,
        fence: Fence,
    ) -> Result<Box<dyn Writer>, Error> {
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
            let content = Arc::new(Content::durable(&dir, file, stored.get(), !parents.is_empty()));
            let queue = Arc::new(WriteQueue::new(pool, content, fence));
            let writer = LocalWriter::new(queue, Arc::clone(lock.entry()), data_dir, syncer);
            Ok(((writer, lock), parents))
        };
        let (writer, _lock) = self.syncer.call(job).await?;
        writer.parents_synced();
        Ok(Box::new(writer))
    }

    //= TOK-OFF-03
    pub(super) async fn load_upload(&self, id: UploadId, fence: Fence) -> Result<Option<Upload>, Error> {
        let lock = self.lock(id, fence, Queued::Write).await?;
        self.read_upload(lock).await
    }

    /// Reads an upload without taking a fence. Waits for the disk only: if another operation holds the lock for longer,
    /// the offset that is known to be durable is returned.
    pub(super) async fn peek_upload(&self, id: UploadId) -> Result<Option<Upload>, Error> {
        let entry = self.entries.of(id);
        let guard = if let Ok(guard) = Arc::clone(&entry.lock).try_lock_owned() {
            guard
        } else {
            let peek_guard = Arc::clone(&entry.peek_lock).lock_owned().await;
            let (data_dir, peeked_entry) = (Arc::clone(&self.data_dir), Arc::clone(&entry));
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
    }

    async fn read_upload(&self, lock: UploadLock) -> Result<Option<Upload>, Error> {
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let Some((mut dir, found)) = lock.open(&data_dir)? else {
                return Ok(((None, lock), ParentDirs::NONE));
            };
            let (offset, mut parents) = lock.sync(&data_dir, &dir, &found)?;
            let mut upload = found.record.upload;
            if upload.is_complete() {
                // A crash may have come between the commit and its move to `done`.
                parents = parents.and(data_dir.move_to_done(&mut dir)?);
            }
            upload.touched = read::touched(&dir, upload.touched)?;
            Ok(((Some((upload, offset)), lock), parents))
        };
        let (loaded, lock) = self.syncer.call(job).await?;
        Ok(loaded.map(|(upload, offset)| Upload { offset: lock.attest(offset), ..upload }))
    }

    pub(super) async fn commit_record(
        &self,
        upload: &Upload,
        fence: Fence,
        fate: ContentFate,
    ) -> Result<(), Error> {
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
            let mut parents = lock.unsynced_parents(&dir);
            if is_complete {
                // After a crash a complete upload must not be found without its bytes.
                let (stored, unsynced) = lock.sync(&data_dir, &dir, &old)?;
                parents = parents.and(unsynced);
                if fate == ContentFate::Discarded {
                    discarded = discarded.or(Some(stored));
                }
            }
            lock.replace_record(&dir, &Record { upload, discarded })?;
            if is_complete {
                parents = parents.and(data_dir.move_to_done(&mut dir)?);
            }
            dir.sync()?;
            if fate == ContentFate::Discarded {
                dir.remove_content()?;
            }
            Ok((lock, parents))
        };
        self.syncer.call(job).await?.committed();
        Ok(())
    }

    pub(super) async fn join_parts(
        &self,
        id: UploadId,
        parts: &[UploadId],
        fence: Fence,
    ) -> Result<Durable, Error> {
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
            join::install(&dir)?;
            dir.sync()?;
            Ok(lock.attest(Offset::new(bytes)))
        };
        self.bulk_pool.call(job).await
    }

    pub(super) async fn export_content(
        &self,
        id: UploadId,
        directory: &Path,
        name: &str,
        fence: Fence,
    ) -> Result<String, Error> {
        let lock = self.lock(id, fence, Queued::Write).await?;
        let (directory, name, data_dir) = (directory.to_owned(), name.to_owned(), Arc::clone(&self.data_dir));
        let job = move || {
            let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
            if found.record.discarded.is_some() {
                return Err(Error::Missing);
            }
            let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
            data_dir.sync_parents(parents)?;
            // The offset that `peek` returns while the export runs.
            lock.attest(stored);
            let sharing = match found.record.upload.composition {
                Composition::Direct => Sharing::Alone,
                Composition::Part | Composition::Concatenated(_) | Composition::Indexed(_) => Sharing::Shared,
            };
            export::export(&data_dir, &dir, sharing, &directory, &name)
        };
        self.bulk_pool.call(job).await
    }

    pub(super) async fn discard_content(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let lock = self.lock(id, fence, Queued::Write).await?;
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            let (dir, found) = lock.open(&data_dir)?.ok_or(Error::Missing)?;
            if !found.record.upload.is_complete() {
                return Err(dir.failed("discarding incomplete", CONTENT, Errno::INVAL));
            }
            let (stored, parents) = lock.sync(&data_dir, &dir, &found)?;
            if found.record.discarded.is_none() {
                lock.replace_record(&dir, &Record { discarded: Some(stored), ..found.record })?;
                dir.sync()?;
            }
            dir.remove_content()?;
            Ok(((), parents))
        };
        self.syncer.call(job).await
    }

    //= TOK-CAN-01
    pub(super) async fn remove_upload(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let lock = self.lock(id, fence, Queued::Drop).await?;
        lock.close_queue(Queued::Drop).await;
        let data_dir = Arc::clone(&self.data_dir);
        let job = move || {
            // Otherwise a running sync could rename the draft in a directory that is being deleted.
            lock.close_content();
            let mut parents = ParentDirs::NONE;
            let mut was_upload = false;
            while let Some(dir) = data_dir.find(id)? {
                was_upload |= !matches!(dir.record(), Ok(None));
                data_dir.remove(&dir)?;
                parents = parents.and(dir.parent.into());
            }
            lock.entry().reset();
            if was_upload { Ok(((), parents)) } else { Err(Error::Missing) }
        };
        self.syncer.call(job).await
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        let join = |threads: &mut Vec<JoinHandle<()>>| {
            for thread in threads.drain(..) {
                // A panic has been reported when it happened.
                let _ = thread.join();
            }
        };
        self.pool.close();
        join(&mut self.threads.write);
        self.background.close();
        join(&mut self.threads.background);
        self.io_pool.close();
        self.bulk_pool.close();
        join(&mut self.threads.jobs);
        self.syncer.close();
        let directories = self.threads.sync.pop();
        join(&mut self.threads.sync);
        self.syncer.close_parents();
        join(&mut directories.into_iter().collect());
        self.data_dir.unlock();
    }
}

/// The fate of an upload's content when a record is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentFate {
    Kept,
    /// The content is removed, and the record states its length.
    Discarded,
}

/// Returns the upload as a record contains it.
fn without_offset(upload: &Upload) -> Upload {
    Upload { offset: Durable::ZERO, ..upload.clone() }
}
