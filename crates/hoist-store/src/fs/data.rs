//! One upload's content while it is written: an append file, and how much of it is durable.
//!
//! Owns the file's end, the first sync that makes an upload exist for good, what becomes of bytes the disk would not
//! promise, and which bytes are in doubt. Leaves which bytes come when to [`lane`](super::lane).
//!
//! # Locks
//!
//! `progress` and `pen` are held over system calls, so only the store's own threads take them, in this order. `facts` is
//! held for moments and never over a system call: threads of an async runtime ask it and nothing else.
//!
//! # Doubt
//!
//! Content in doubt lies in the file like any other, and a note in the directory says where it begins
//! ([`place`](super::place)). Each step is durable before the next one begins, so a crash finds one of these:
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

use super::crew::locked;
use super::failure::{Failure, Repair};
use super::place::Place;
use super::tree::{Shelf, Shelves};
use super::{note, sys};
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
    progress: Mutex<Progress>,
    pen: Mutex<Pen>,
    facts: Mutex<Facts>,
}

/// The right to sync the file.
struct Progress {
    /// Every byte before this one is on the disk, in doubt or not.
    synced: u64,
    /// The directory, as long as the record in it is a draft.
    draft: Option<Place>,
}

/// The right to change the file; broken once bytes had to be cut off.
struct Pen {
    broken: Option<Failure>,
    doubt: Option<Doubt>,
}

/// Doubted bytes, which do not count yet.
struct Doubt {
    /// The offset of the first of them.
    from: u64,
    /// The place of the note on them.
    place: Place,
}

/// The facts about the content that can be read without waiting for the disk. Only the holder of `progress` changes
/// them, except for `is_shelf_due`.
struct Facts {
    /// Every byte before this one is durable, and counts.
    durable: u64,
    /// The record is still a draft.
    is_draft: bool,
    /// The directory above has yet to be synced for the upload to be found after a crash.
    is_shelf_due: bool,
    is_doubted: bool,
    /// The failure after which the content makes no further promise of durability.
    failure: Option<Failure>,
    repair: Option<Repair>,
}

impl Facts {
    /// Returns `true` if the upload itself is durable, so that its durable bytes survive a crash.
    fn is_lasting(&self) -> bool {
        !self.is_draft && !self.is_shelf_due
    }
}

/// The result of a sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Every byte before this one is durable, once `shelves` are.
    pub(super) durable: u64,
    /// The directories that have yet to be synced.
    pub(super) shelves: Shelves,
}

impl Content {
    /// The content of an upload just created at `place`.
    pub(super) fn created(place: Place, file: OwnedFd) -> Self {
        if let Err(errno) = note::set(&file, 0) {
            tracing::debug!(upload = %place.id.short(), %errno, "could not note that no byte was told");
        }
        Self::new(place.id, place.is_disk(), file, 0, Some(place), true)
    }

    /// The content of an upload whose `bytes` bytes are known to be durable, once the directory above is if that is due.
    pub(super) fn durable(place: &Place, file: OwnedFd, bytes: u64, is_shelf_due: bool) -> Self {
        Self::new(place.id, place.is_disk(), file, bytes, None, is_shelf_due)
    }

    fn new(
        id: UploadId,
        is_disk: bool,
        file: OwnedFd,
        bytes: u64,
        draft: Option<Place>,
        is_shelf_due: bool,
    ) -> Self {
        Self {
            id,
            file,
            is_disk,
            end: AtomicU64::new(bytes),
            written: AtomicU64::new(bytes),
            facts: Mutex::new(Facts {
                durable: bytes,
                is_draft: draft.is_some(),
                is_shelf_due,
                is_doubted: false,
                failure: None,
                repair: None,
            }),
            pen: Mutex::new(Pen { broken: None, doubt: None }),
            progress: Mutex::new(Progress { synced: bytes, draft }),
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
        let pen = locked(&self.pen);
        if let Some(failure) = &pen.broken {
            return Err(failure.clone());
        }
        let mut buffers = pieces.map(|bytes| IoSlice::new(bytes)).collect::<Vec<_>>();
        let at = self.end();
        let (bytes, written) = sys::write_all(&self.file, at, &mut buffers);
        self.end.store(at + bytes, Ordering::Release);
        if pen.doubt.is_none() {
            self.written.store(at + bytes, Ordering::Release);
        }
        drop(pen);
        written.map_err(|errno| self.failed("writing the content of", errno))
    }

    /// How far everything is durable already, if no sync is needed to say so.
    pub(super) fn settled(&self) -> Option<u64> {
        let (facts, written) = (locked(&self.facts), self.written());
        let is_settled = facts.failure.is_none()
            && !facts.is_doubted
            && facts.is_lasting()
            && (facts.durable >= written || !self.is_disk);
        is_settled.then_some(written)
    }

    /// The number of bytes known to be durable; `None` if the next caller has to sync or to check for doubted bytes.
    pub(super) fn known(&self) -> Option<u64> {
        let facts = locked(&self.facts);
        (facts.is_lasting() && !facts.is_doubted).then_some(facts.durable)
    }

    /// Returns the number of leading bytes that may be acknowledged, without waiting for a running sync.
    pub(super) fn tellable(&self) -> u64 {
        let facts = locked(&self.facts);
        match facts.is_lasting() {
            false => 0,
            true if self.is_disk => facts.durable,
            true => self.written(),
        }
    }

    /// The work that a failing disk left undone.
    pub(super) fn repair(&self) -> Option<Repair> {
        locked(&self.facts).repair
    }

    /// Returns `true` if an earlier failure keeps the content from promising durability.
    pub(super) fn is_failed(&self) -> bool {
        locked(&self.facts).failure.is_some()
    }

    /// Makes durable what is written, and the first time the upload itself. What is in doubt stays so.
    pub(super) fn settle(&self) -> Result<Settled, Failure> {
        self.make_durable(false)
    }

    /// Makes durable what is written and lets it count, in this order.
    pub(super) fn confirm(&self) -> Result<Settled, Failure> {
        self.make_durable(true)
    }

    /// Four steps the first time: the draft's bytes, its name, the content's bytes, the directory. A journaling file
    /// system commits twice for them, since the third commits the names as well and the last finds nothing to do.
    //= TOK-OFF-03
    fn make_durable(&self, is_confirmed: bool) -> Result<Settled, Failure> {
        let mut progress = self.sound()?;
        if let Some(place) = &progress.draft {
            // Whether a second sync would tell the truth is not known, so there is none.
            place.name_draft().map_err(|error| self.fail(error, Repair::default()))?;
        }
        // In this order: the first is never larger then, and doubt neither begins nor ends meanwhile.
        let (written, end) = (self.written(), self.end());
        if self.is_disk
            && end > progress.synced
            && let Err(errno) = sys::sync_data(&self.file)
        {
            return Err(self.truncate(errno));
        }
        progress.synced = progress.synced.max(end);
        let doubt = if is_confirmed { locked(&self.pen).doubt.take() } else { None };
        if let Some(Doubt { from, place }) = &doubt
            && let Err(error) = place.unlink_doubt(*from)
        {
            locked(&self.pen).doubt = doubt;
            return Err(self.fail(error, Repair::default()));
        }
        let draft = progress.draft.take();
        if let Some(place) = draft.as_ref().or(doubt.as_ref().map(|doubt| &doubt.place)) {
            let from = doubt.as_ref().map(|doubt| doubt.from);
            let repair = Repair { cut_to: from, doubt: from };
            place.sync().map_err(|error| self.fail(error, repair))?;
        }
        let written = if doubt.is_some() { end } else { written };
        // Not before the note is gone for good: behind it this would be a promise that was not kept.
        if written > self.durable_now() {
            // Or a byte would be told of which the note knows nothing.
            note::set(&self.file, written)
                .map_err(|errno| self.fail(self.failed("noting the bytes of", errno), Repair::default()))?;
        }
        if doubt.is_some() {
            self.written.store(end, Ordering::Release);
        }
        let mut facts = locked(&self.facts);
        facts.is_draft = false;
        facts.is_doubted &= doubt.is_none();
        facts.durable = facts.durable.max(written);
        let shelves = if facts.is_shelf_due { Shelf::Open.into() } else { Shelves::NONE };
        Ok(Settled { durable: facts.durable, shelves })
    }

    /// The right to sync the file, if it is still to be trusted.
    fn sound(&self) -> Result<MutexGuard<'_, Progress>, Failure> {
        let progress = locked(&self.progress);
        match &locked(&self.facts).failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(progress),
        }
    }

    fn durable_now(&self) -> u64 {
        locked(&self.facts).durable
    }

    /// Records a failure. The content promises no durability until the next operation on the upload has repaired it.
    fn fail(&self, error: impl Into<Failure>, repair: Repair) -> Failure {
        let mut facts = locked(&self.facts);
        facts.repair = Some(repair);
        facts.failure.insert(error.into()).clone()
    }

    /// Notes that the directory above has been synced.
    pub(super) fn shelf_synced(&self) {
        locked(&self.facts).is_shelf_due = false;
    }

    /// Has a record put in place of the old one, or of the draft, while no sync is giving that its name.
    pub(super) fn with_record(&self, replace: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut progress = locked(&self.progress);
        replace()?;
        progress.draft = None;
        locked(&self.facts).is_draft = false;
        Ok(())
    }

    /// Waits for a running change and prevents later ones, because another owner takes over the files.
    pub(super) fn close(&self) {
        let _progress = locked(&self.progress);
        let ended = claim_ended();
        locked(&self.pen).broken.get_or_insert(ended.clone());
        locked(&self.facts).failure.get_or_insert(ended);
    }

    /// Puts what is written from here on in doubt; `place` is where the upload lies.
    //= TUS1-CHK-03
    pub(super) fn mark_unverified(&self, place: Place) -> Result<(), Failure> {
        let _progress = self.sound()?;
        let mut pen = locked(&self.pen);
        if let Some(failure) = &pen.broken {
            return Err(failure.clone());
        }
        if pen.doubt.is_some() {
            return Ok(());
        }
        let from = self.end();
        place.note_doubt(from)?;
        let synced = place.sync();
        pen.doubt = Some(Doubt { from, place });
        locked(&self.facts).is_doubted = true;
        // The note is there and may be gone after a crash. It stays, so that the next claim removes it for good.
        synced.map_err(|error| self.fail(error, Repair::default()))
    }

    /// Truncates the file to `to` and continues there. No client was told of the bytes after it.
    pub(super) fn take_back(&self, to: u64) -> Result<(), Failure> {
        let mut progress = self.sound()?;
        let mut pen = locked(&self.pen);
        if let Some(failure) = &pen.broken {
            return Err(failure.clone());
        }
        self.cut(&mut progress, &mut pen, to)
    }

    /// Takes back what is in doubt, and takes no more then: its claim has ended.
    pub(super) fn revoke(&self) -> Result<(), Failure> {
        let mut progress = locked(&self.progress);
        let mut pen = locked(&self.pen);
        let Some(from) = pen.doubt.as_ref().map(|doubt| doubt.from) else { return Ok(()) };
        if let Some(failure) = &locked(&self.facts).failure {
            return Err(failure.clone());
        }
        pen.broken.get_or_insert(claim_ended());
        self.cut(&mut progress, &mut pen, from)
    }

    fn cut(&self, progress: &mut Progress, pen: &mut Pen, to: u64) -> Result<(), Failure> {
        let doing = |errno| self.failed("cutting back the content of", errno);
        if to < self.end() {
            let durable = {
                let mut facts = locked(&self.facts);
                facts.durable = facts.durable.min(to);
                facts.durable
            };
            // The note first: a crash in between must not leave a file that is shorter than its note.
            note::lower(&self.file, to)
                .and_then(|()| sys::cut(&self.file, to))
                .map_err(|errno| self.fail(doing(errno), Repair::cut_to(to)))?;
            self.end.store(to, Ordering::Release);
            self.written.store(self.written().min(to), Ordering::Release);
            progress.synced = progress.synced.min(to);
            // Or a crash could bring back what its sender was told is gone.
            if self.is_disk {
                sys::sync_data(&self.file)
                    .map_err(|errno| self.fail(doing(errno), Repair::cut_to(durable)))?;
            }
        }
        if let Some(Doubt { from, place }) = pen.doubt.take_if(|doubt| to <= doubt.from) {
            place
                .unlink_doubt(from)
                .and_then(|()| place.sync())
                .map_err(|error| self.fail(error, Repair { cut_to: Some(to), doubt: Some(from) }))?;
            locked(&self.facts).is_doubted = false;
        }
        Ok(())
    }

    /// Truncates the bytes that the disk failed to sync and accepts no more. After a failed sync the system marks the
    /// pages as clean, so another sync would succeed without writing anything. These bytes must never be synced
    /// again.
    fn truncate(&self, errno: Errno) -> Failure {
        let mut pen = locked(&self.pen);
        let durable = self.durable_now();
        let failure = self.fail(self.failed("syncing the content of", errno), Repair::cut_to(durable));
        pen.broken = Some(failure.clone());
        if cut_unsynced(self.id, &self.file, durable, errno) {
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
pub(super) fn cut_unsynced(id: UploadId, file: &OwnedFd, durable: u64, errno: Errno) -> bool {
    tracing::error!(
        upload = %id.short(), durable, %errno,
        "the disk failed to sync an upload's content; what it did not confirm before is cut off"
    );
    let cut = note::lower(file, durable).and_then(|()| sys::cut(file, durable));
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
