//! What one operation on one upload holds, and the steps operations share.
//!
//! Owns the question "how much of this is durable, and what must be synced to be able to say so", for uploads with a
//! writer, without one, and just found after a crash. Leaves the order of the operations to [`fs`](super).

use std::sync::Arc;

use hoist_proto::types::{Durable, Offset, UploadId};
use rustix::fs::OFlags;
use tokio::sync::OwnedMutexGuard;

use super::entry::Entry;
use super::failure::Repair;
use super::lane::{Lane, Rest};
use super::place::{CONTENT, Found, Place};
use super::tree::{Shelves, Tree};
use super::{data, note, sys};
use crate::record::Record;
use crate::store::Error;

/// The right to work on an upload. Moves into the work itself, so that it lasts as long as that, waited for or not.
///
/// Its fields are private for a reason beyond habit: a closure that named one would capture that one alone, and leave
/// the guard in a future that can be dropped.
pub(super) struct Turn {
    id: UploadId,
    entry: Arc<Entry>,
    /// The writer there was when the turn began: of this claim, or of an older one that has come to its end.
    lane: Option<Arc<Lane>>,
    _guard: OwnedMutexGuard<()>,
}

impl Turn {
    pub(super) fn new(id: UploadId, entry: Arc<Entry>, guard: OwnedMutexGuard<()>) -> Self {
        Self { id, lane: entry.lane(), entry, _guard: guard }
    }

    pub(super) fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// Ends the current writer, whichever claim it has.
    pub(super) async fn end_lane(&self, rest: Rest) {
        if let Some(lane) = &self.lane {
            lane.end(rest);
            lane.idle().await;
        }
    }

    /// Makes the upload forget its writer, if that has ended, as soon as none of its jobs is left. Does not wait.
    fn let_go(&self) {
        if let Some(lane) = &self.lane
            && lane.is_over()
        {
            lane.orphan(Arc::clone(&self.entry));
        }
    }

    /// Waits for the running job of a writer that has ended, and forgets the writer. It changes none of the upload's
    /// files afterwards. Blocks, so it must not be called on a thread of the runtime.
    pub(super) fn retire(&self) {
        if let Some(lane) = &self.lane
            && lane.is_over()
        {
            lane.content().close();
            self.entry.let_go(lane);
        }
    }

    /// Where the upload lies and what its record says, if it exists and can be believed.
    pub(super) fn visit(&self, tree: &Tree) -> Result<Option<(Place, Found)>, Error> {
        let Some(place) = tree.find(self.id)? else { return Ok(None) };
        place.trusted()?;
        Ok(place.record()?.map(|found| (place, found)))
    }

    /// Makes an upload durable as far as it is written. The answer holds once the shelves it names are synced too.
    pub(super) fn settle(
        &self,
        tree: &Tree,
        place: &Place,
        found: &Found,
    ) -> Result<(Offset, Shelves), Error> {
        if let Some(offset) = found.record.discarded {
            return Ok((offset, self.settle_record(place, found)?));
        }
        if let Some(lane) = &self.lane {
            let content = lane.content();
            // A claim that has ended confirms nothing any more.
            let revoked = if lane.is_ended() { content.revoke() } else { Ok(()) };
            match revoked.and_then(|()| content.settle()) {
                Ok(settled) => return Ok((Offset::new(settled.durable), settled.shelves)),
                Err(failure) if !lane.is_over() => return Err(failure.into()),
                // The writer was told, and what it could not be promised is cut off. The rest is good.
                Err(_) => self.entry.let_go(lane),
            }
        }
        self.settle_file(tree, place, found)
    }

    /// The same of a content that no writer has open.
    fn settle_file(&self, tree: &Tree, place: &Place, found: &Found) -> Result<(Offset, Shelves), Error> {
        // For writing, to be able to cut it; on a file system that has become read-only it can still be asked for.
        let (file, is_writable) = match place.content(OFlags::WRONLY) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                (place.content(OFlags::RDONLY)?, false)
            }
            content => (content?, true),
        };
        let file = file.ok_or_else(|| place.lost())?;
        let doing = |doing| move |errno| place.failed(doing, CONTENT, errno);
        let stat = rustix::fs::fstat(&file).map_err(doing("looking at"))?;
        let (end, known, doubt) = (sys::bytes_of(&stat), self.entry.known(), place.unverified_from()?);
        let (told, repair) = (note::of(&file), self.entry.repair());
        let cut_to = repair.and_then(|repair| repair.cut_to);
        let bytes = [doubt, cut_to].into_iter().flatten().chain([end]).min().unwrap_or(end);
        //= IETF-OFF-02
        let promised = known.or(told.map(|told| told.bytes)).unwrap_or(0);
        if promised > bytes {
            let why = format!("it had {promised} bytes and has {bytes}");
            return Err(Error::Damaged(why));
        }
        let shelves = self.settle_record(place, found)?;
        let is_cut = bytes < end && is_writable;
        if is_cut {
            let cut = note::lower(&file, bytes).and_then(|()| sys::cut(&file, bytes));
            cut.map_err(doing("cutting doubtful bytes off"))?;
        }
        if tree.is_disk()
            && (known != Some(bytes) || is_cut || repair.is_some())
            && let Err(errno) = sys::sync_data(&file)
        {
            // Without either, none of its bytes can be told from those that were durable before.
            let durable = known.or(told.filter(|told| told.is_exact).map(|told| told.bytes));
            if let Some(durable) = durable.filter(|&durable| durable < bytes) {
                self.entry.set_repair(Repair { cut_to: Some(durable), ..repair.unwrap_or_default() });
                data::cut_unsynced(self.id, &file, durable, errno);
            }
            return Err(place.failed("syncing", CONTENT, errno));
        }
        if is_writable {
            self.remove_doubts(place, doubt.or(repair.and_then(|repair| repair.doubt)))?;
            if known != Some(bytes) || told.is_none_or(|told| told.bytes != bytes) {
                note::set(&file, bytes).map_err(doing("noting the bytes of"))?;
            }
            self.entry.repaired();
        }
        Ok((Offset::new(bytes), shelves))
    }

    /// Removes for good the notes of doubts whose bytes have been cut off for good. `from` is one of them, and made again
    /// if it is not there: a name that was removed and not synced may come back.
    fn remove_doubts(&self, place: &Place, from: Option<u64>) -> Result<(), Error> {
        let Some(from) = from else { return Ok(()) };
        let removed = place.note_doubt(from).and_then(|()| {
            while let Some(from) = place.unverified_from()? {
                place.unlink_doubt(from)?;
            }
            place.sync()
        });
        removed.inspect_err(|_| {
            self.entry.set_repair(Repair { doubt: Some(from), ..self.entry.repair().unwrap_or_default() });
        })
    }

    /// What a commit has to sync so that the upload is found after a crash.
    pub(super) fn shelf_due(&self, place: &Place) -> Shelves {
        let known = match &self.lane {
            Some(lane) => lane.content().known(),
            None => self.entry.known(),
        };
        if known.is_some() { Shelves::NONE } else { place.shelf.into() }
    }

    /// Puts a record in the place of the old one.
    pub(super) fn replace_record(&self, place: &Place, record: &Record) -> Result<(), Error> {
        match &self.lane {
            Some(lane) => lane.content().with_record(|| place.replace_record(record)),
            None => place.replace_record(record),
        }
    }

    /// Notes that what `settle` found is durable, shelves and all, and says so to the caller.
    pub(super) fn attest(&self, offset: Offset) -> Durable {
        match self.entry.lane() {
            Some(lane) => {
                lane.content().shelf_synced();
                self.let_go();
            }
            // The writer there was has come to its end meanwhile, and what it left is newer.
            None if self.lane.as_ref().is_some_and(|lane| !lane.content().is_failed()) => {}
            None => self.entry.learn(offset.get()),
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and everything before it has been synced"
        )]
        Durable::attest(offset)
    }

    /// Notes that a commit and the shelves it changed are durable.
    pub(super) fn committed(&self) {
        if let Some(lane) = &self.lane {
            lane.content().shelf_synced();
            self.let_go();
        }
    }

    fn settle_record(&self, place: &Place, found: &Found) -> Result<Shelves, Error> {
        if self.entry.known().is_some() {
            return Ok(Shelves::NONE);
        }
        if found.is_draft || self.entry.repair().is_some() {
            // Written anew: whether the old one's bytes and name reached the disk cannot be asked twice.
            place.replace_record(&found.record)?;
        }
        place.sync().inspect_err(|_| self.entry.set_repair(self.entry.repair().unwrap_or_default()))?;
        Ok(place.shelf.into())
    }
}
