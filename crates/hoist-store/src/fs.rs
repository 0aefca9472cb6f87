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

use self::crew::Hands;
use self::data::Content;
use self::entry::Entries;
use self::export::Sharing;
use self::lane::{Lane, Pool, Rest};
use self::listing::LocalListing;
pub use self::options::{Durability, Headroom, NotADurability, Options};
pub use self::root::make_directory;
use self::sync::Syncs;
use self::tree::{Shelf, Shelves, Tree};
use self::turn::Turn;
use self::write::LocalWriter;
use crate::record::Record;
use crate::store::{Among, Error, Listing, Pending, Reader, Seen, Store, Writer};

mod crew;
mod data;
mod entry;
mod export;
mod failure;
mod join;
mod lane;
mod listing;
mod note;
mod options;
mod place;
mod read;
mod room;
mod root;
mod seen;
mod sync;
mod sys;
#[cfg(test)]
mod tests;
mod tree;
mod turn;
mod write;

/// Uploads in a directory of a local file system.
///
/// Dropping it writes what was accepted, ends its threads and lets go of the directory. A [`Writer`] or [`Reader`] that
/// is still about then fails.
pub struct LocalStore {
    tree: Arc<Tree>,
    entries: Arc<Entries>,
    pool: Arc<Pool>,
    /// For what takes a moment.
    desk: Hands,
    /// For what may take minutes: a listing, a copy to another file system.
    haul: Hands,
    background: Hands,
    syncs: Syncs,
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
        let tree = Arc::new(Tree::open(directory, options)?);
        let mut threads = Threads { write: vec![], background: vec![], rest: vec![], sync: vec![] };
        let background = Hands::start("hoist-flush", 2, &mut threads.background)?;
        let pool = Pool::start(
            Arc::clone(tree.room()),
            options.write_threads,
            options.queue_bytes_max,
            options.budget_bytes_max,
            options.sync_bytes,
            background.clone(),
            &mut threads.write,
        )?;
        Ok(Self {
            entries: Arc::new(Entries::new(options.fences_max)),
            desk: Hands::start("hoist-files", options.other_threads, &mut threads.rest)?,
            haul: Hands::start("hoist-haul", 2, &mut threads.rest)?,
            syncs: Syncs::start(&tree, options.sync_threads, &mut threads.sync)?,
            background,
            pool,
            tree,
            threads,
        })
    }

    /// Takes a fence and the upload's turn. What an older claim accepted is written when this returns, or forgotten, and
    /// nothing of it can be written later.
    //= TOK-APP-04
    async fn enter(&self, id: UploadId, fence: Fence, rest: Rest) -> Result<Turn, Error> {
        let entry = self.entries.of(id);
        if let Some(older) = entry.admit(fence)? {
            older.end(rest);
        }
        let guard = Arc::clone(&entry.turn).lock_owned().await;
        // Another claim may have come while this one waited.
        if let Some(older) = entry.admit(fence)? {
            older.end(rest);
            older.idle().await;
        }
        if let Some(dropped) = entry.lane().filter(|lane| lane.is_orphaned()) {
            dropped.idle().await;
        }
        Ok(Turn::new(id, entry, guard))
    }

    //= TOK-CRE-05
    async fn begin(&self, upload: &Upload, fence: Fence) -> Result<Box<dyn Writer>, Error> {
        // No fence is taken yet: the transfer of an upload that exists goes on.
        let entry = self.entries.of(upload.id);
        let guard = Arc::clone(&entry.turn).lock_owned().await;
        let turn = Turn::new(upload.id, entry, guard);
        let upload = bare(upload);
        let (tree, pool, syncs) = (Arc::clone(&self.tree), Arc::clone(&self.pool), self.syncs.clone());
        let job = move || {
            tree.clear_for(upload.id)?;
            turn.entry().admit(fence)?;
            let (place, file) = tree.create(&Record { upload, discarded: None })?;
            turn.entry().reset();
            let content = Arc::new(Content::created(place, file));
            let lane = Arc::new(Lane::new(pool, content, fence));
            Ok(LocalWriter::new(lane, Arc::clone(turn.entry()), tree, syncs))
        };
        Ok(Box::new(self.desk.call(job).await?))
    }

    async fn resume(&self, id: UploadId, at: Offset, fence: Fence) -> Result<Box<dyn Writer>, Error> {
        let turn = self.enter(id, fence, Rest::Write).await?;
        turn.end_lane(Rest::Write).await;
        let (tree, pool, syncs) = (Arc::clone(&self.tree), Arc::clone(&self.pool), self.syncs.clone());
        let job = move || {
            let (place, found) = turn.visit(&tree)?.ok_or(Error::Missing)?;
            if found.record.upload.is_complete() {
                return Err(Error::Missing);
            }
            let (stored, shelves) = turn.settle(&tree, &place, &found)?;
            // Its file may be a part's as well.
            if found.record.upload.composition.is_composed() && stored != Offset::ZERO {
                return Err(Error::Missing);
            }
            if stored != at {
                return Err(Error::Damaged(format!("it ends at {stored}, and was to go on at {at}")));
            }
            turn.retire();
            let file = place.content(OFlags::WRONLY)?.ok_or_else(|| place.lost())?;
            let content = Arc::new(Content::durable(&place, file, stored.get(), !shelves.is_empty()));
            let lane = Arc::new(Lane::new(pool, content, fence));
            let writer = LocalWriter::new(lane, Arc::clone(turn.entry()), tree, syncs);
            Ok(((writer, turn), shelves))
        };
        let (writer, _turn) = self.syncs.call(job).await?;
        writer.shelf_synced();
        Ok(Box::new(writer))
    }

    //= TOK-OFF-03
    async fn fetch(&self, id: UploadId, fence: Fence) -> Result<Option<Upload>, Error> {
        let turn = self.enter(id, fence, Rest::Write).await?;
        self.look(turn).await
    }

    /// Neither takes a fence nor ends a writer. Waits for the disk alone: while another operation has the turn for longer,
    /// what is durable of the upload is known.
    async fn glance(&self, id: UploadId) -> Result<Option<Upload>, Error> {
        let entry = self.entries.of(id);
        let guard = if let Ok(guard) = Arc::clone(&entry.turn).try_lock_owned() {
            guard
        } else {
            let one = Arc::clone(&entry.aside).lock_owned().await;
            let (tree, beside) = (Arc::clone(&self.tree), Arc::clone(&entry));
            let job = move || {
                let seen = read::aside(&tree, id, &beside);
                drop(one);
                seen
            };
            if let Some(seen) = self.syncs.call(job).await? {
                return Ok(Some(seen));
            }
            Arc::clone(&entry.turn).lock_owned().await
        };
        self.look(Turn::new(id, entry, guard)).await
    }

    async fn look(&self, turn: Turn) -> Result<Option<Upload>, Error> {
        let tree = Arc::clone(&self.tree);
        let job = move || {
            let Some((mut place, found)) = turn.visit(&tree)? else {
                return Ok(((None, turn), Shelves::NONE));
            };
            let (offset, mut shelves) = turn.settle(&tree, &place, &found)?;
            let mut upload = found.record.upload;
            if upload.is_complete() {
                // A crash came between a commit and the move that belongs to it.
                shelves = shelves.and(tree.finish(&mut place)?);
            }
            upload.touched = read::touched(&place, upload.touched)?;
            Ok(((Some((upload, offset)), turn), shelves))
        };
        let (loaded, turn) = self.syncs.call(job).await?;
        Ok(loaded.map(|(upload, offset)| Upload { offset: turn.attest(offset), ..upload }))
    }

    async fn replace(&self, upload: &Upload, fence: Fence, content: Afterwards) -> Result<(), Error> {
        let turn = self.enter(upload.id, fence, Rest::Write).await?;
        let is_complete = upload.is_complete();
        if is_complete {
            turn.end_lane(Rest::Write).await;
        }
        let tree = Arc::clone(&self.tree);
        let upload = bare(upload);
        let job = move || {
            let (mut place, old) = turn.visit(&tree)?.ok_or(Error::Missing)?;
            let mut discarded = old.record.discarded;
            if content == Afterwards::Freed && !is_complete {
                return Err(place.failed("concluding the incomplete", place::CONTENT, Errno::INVAL));
            }
            let mut shelves = turn.shelf_due(&place);
            if is_complete {
                // A complete upload whose bytes are not durable must not be found after a crash.
                let (stored, due) = turn.settle(&tree, &place, &old)?;
                shelves = shelves.and(due);
                if content == Afterwards::Freed {
                    discarded = discarded.or(Some(stored));
                }
            }
            turn.replace_record(&place, &Record { upload, discarded })?;
            if is_complete {
                shelves = shelves.and(tree.finish(&mut place)?);
            }
            place.sync()?;
            if content == Afterwards::Freed {
                place.remove_content()?;
            }
            Ok((turn, shelves))
        };
        self.syncs.call(job).await?.committed();
        Ok(())
    }

    async fn compose(&self, id: UploadId, parts: &[UploadId], fence: Fence) -> Result<Durable, Error> {
        let turn = self.enter(id, fence, Rest::Write).await?;
        turn.end_lane(Rest::Write).await;
        let (parts, tree) = (parts.to_owned(), Arc::clone(&self.tree));
        let job = move || {
            let (place, found) = turn.visit(&tree)?.ok_or(Error::Missing)?;
            let upload = &found.record.upload;
            if upload.is_complete() {
                return Err(Error::Missing);
            }
            let (stored, shelves) = turn.settle(&tree, &place, &found)?;
            if !upload.composition.is_composed() || stored != Offset::ZERO {
                return Err(place.failed(
                    "joining parts onto what has content",
                    place::CONTENT,
                    Errno::INVAL,
                ));
            }
            tree.sync_shelves(shelves)?;
            // What others are told while this goes on.
            let nothing = turn.attest(stored);
            turn.retire();
            let bytes = join::build(&tree, &place, &parts)?;
            if bytes == 0 {
                return Ok(nothing);
            }
            turn.entry().unlearn();
            join::install(&place)?;
            place.sync()?;
            Ok(turn.attest(Offset::new(bytes)))
        };
        self.haul.call(job).await
    }

    async fn forget_content(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let turn = self.enter(id, fence, Rest::Write).await?;
        let tree = Arc::clone(&self.tree);
        let job = move || {
            let (place, found) = turn.visit(&tree)?.ok_or(Error::Missing)?;
            if !found.record.upload.is_complete() {
                return Err(place.failed("discarding the incomplete", place::CONTENT, Errno::INVAL));
            }
            let (stored, shelves) = turn.settle(&tree, &place, &found)?;
            if found.record.discarded.is_none() {
                turn.replace_record(&place, &Record { discarded: Some(stored), ..found.record })?;
                place.sync()?;
            }
            place.remove_content()?;
            Ok(((), shelves))
        };
        self.syncs.call(job).await
    }

    //= TOK-CAN-01
    async fn erase(&self, id: UploadId, fence: Fence) -> Result<(), Error> {
        let turn = self.enter(id, fence, Rest::Forget).await?;
        turn.end_lane(Rest::Forget).await;
        let tree = Arc::clone(&self.tree);
        let job = move || {
            // Or a sync could name the draft in the directory while that is being removed.
            turn.retire();
            let mut shelves = Shelves::NONE;
            let mut was_upload = false;
            while let Some(place) = tree.find(id)? {
                was_upload |= !matches!(place.record(), Ok(None));
                tree.remove(&place)?;
                shelves = shelves.and(place.shelf.into());
            }
            turn.entry().reset();
            if was_upload { Ok(((), shelves)) } else { Err(Error::Missing) }
        };
        self.syncs.call(job).await
    }

    async fn publish(
        &self,
        id: UploadId,
        directory: &Path,
        name: &str,
        fence: Fence,
    ) -> Result<String, Error> {
        let turn = self.enter(id, fence, Rest::Write).await?;
        let (directory, name, tree) = (directory.to_owned(), name.to_owned(), Arc::clone(&self.tree));
        let job = move || {
            let (place, found) = turn.visit(&tree)?.ok_or(Error::Missing)?;
            if found.record.discarded.is_some() {
                return Err(Error::Missing);
            }
            let (stored, shelves) = turn.settle(&tree, &place, &found)?;
            tree.sync_shelves(shelves)?;
            // What others are told while this goes on.
            turn.attest(stored);
            let sharing = match found.record.upload.composition {
                Composition::Direct => Sharing::Alone,
                Composition::Part | Composition::Concatenated(_) | Composition::Indexed(_) => Sharing::Shared,
            };
            export::export(&tree, &place, sharing, &directory, &name)
        };
        self.haul.call(job).await
    }
}

/// The fate of an upload's content once a new record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Afterwards {
    Kept,
    /// The content is removed; the record states its length.
    Freed,
}

/// An upload as records have it: without an offset.
fn bare(upload: &Upload) -> Upload {
    Upload { offset: Durable::ZERO, ..upload.clone() }
}

impl Store for LocalStore {
    fn create<'a>(&'a self, upload: &'a Upload, fence: Fence) -> Pending<'a, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.begin(upload, fence))
    }

    fn load(&self, id: UploadId, fence: Fence) -> Pending<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.fetch(id, fence))
    }

    fn peek(&self, id: UploadId) -> Pending<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.glance(id))
    }

    fn join<'a>(
        &'a self,
        id: UploadId,
        parts: &'a [UploadId],
        fence: Fence,
    ) -> Pending<'a, Result<Durable, Error>> {
        Box::pin(self.compose(id, parts, fence))
    }

    fn append(&self, id: UploadId, at: Offset, fence: Fence) -> Pending<'_, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.resume(id, at, fence))
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> Pending<'a, Result<(), Error>> {
        Box::pin(self.replace(upload, fence, Afterwards::Kept))
    }

    fn conclude<'a>(&'a self, upload: &'a Upload, fence: Fence) -> Pending<'a, Result<(), Error>> {
        Box::pin(self.replace(upload, fence, Afterwards::Freed))
    }

    fn read(&self, id: UploadId, from: Offset) -> Pending<'_, Result<Box<dyn Reader>, Error>> {
        let (tree, desk) = (Arc::clone(&self.tree), self.desk.clone());
        Box::pin(async move {
            let hands = desk.clone();
            desk.call(move || read::open(&tree, id, from, hands)).await
        })
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> Pending<'a, Result<String, Error>> {
        Box::pin(self.publish(id, directory, name, fence))
    }

    fn discard(&self, id: UploadId, fence: Fence) -> Pending<'_, Result<(), Error>> {
        Box::pin(self.forget_content(id, fence))
    }

    fn remove(&self, id: UploadId, fence: Fence) -> Pending<'_, Result<(), Error>> {
        Box::pin(self.erase(id, fence))
    }

    fn list(
        &self,
        among: Among,
        quiet_since: Option<Timestamp>,
    ) -> Pending<'_, Result<Box<dyn Listing>, Error>> {
        let on = match among {
            Among::Open => Shelf::Open,
            Among::Complete => Shelf::Done,
        };
        let (tree, entries, hands) = (Arc::clone(&self.tree), Arc::clone(&self.entries), self.haul.clone());
        Box::pin(self.haul.call(move || {
            let listing = LocalListing::begin(tree, entries, on, quiet_since, hands)?;
            Ok(Box::new(listing) as Box<dyn Listing>)
        }))
    }

    fn seen(&self) -> Pending<'_, Result<Option<Seen>, Error>> {
        let tree = Arc::clone(&self.tree);
        Box::pin(self.desk.call(move || seen::read(&tree)))
    }

    fn note_seen<'a>(&'a self, seen: &'a Seen) -> Pending<'a, Result<(), Error>> {
        let (tree, seen) = (Arc::clone(&self.tree), seen.clone());
        Box::pin(self.desk.call(move || seen::write(&tree, &seen)))
    }

    fn check_health(&self) -> Pending<'_, Result<(), Error>> {
        let tree = Arc::clone(&self.tree);
        Box::pin(self.syncs.call(move || tree.check_health().map(|()| ((), Shelves::NONE))))
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
        self.desk.close();
        self.haul.close();
        join(&mut self.threads.rest);
        self.syncs.close();
        let directories = self.threads.sync.pop();
        join(&mut self.threads.sync);
        self.syncs.close_shelves();
        join(&mut directories.into_iter().collect());
        self.tree.unlock();
    }
}
