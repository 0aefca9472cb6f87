//! One upload's content while it is written: an append file, and how much of it is durable.
//!
//! Owns the file's end, the first sync that makes an upload exist for good, what becomes of bytes the disk would not
//! promise, and which bytes are in doubt. Leaves which bytes come when to [`lane`](super::lane).
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
//! | confirmed: bytes are synced | the note still: cut off, and nobody was told that they count      |
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
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hoist_proto::types::UploadId;
use rustix::io::Errno;

use super::crew::locked;
use super::place::Place;
use super::sys;
use super::tree::{Shelf, Shelves};
use crate::store::Error;

/// An [`Error`] that can be told to several.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Full,
    Damaged(Arc<str>),
    Io { doing: Arc<str>, source: Arc<std::io::Error> },
    Other(Arc<str>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::Full,
            Error::Damaged(why) => Self::Damaged(why.into()),
            Error::Io { doing, source } => Self::Io { doing: doing.into(), source: Arc::new(source) },
            other => Self::Other(other.to_string().into()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Damaged(why) => Self::Damaged(why.to_string()),
            Failure::Io { doing, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => std::io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { doing: doing.to_string(), source }
            }
            Failure::Other(what) => {
                Self::Io { doing: what.to_string(), source: std::io::ErrorKind::Other.into() }
            }
        }
    }
}

/// The content file of an upload, open for writing.
pub(super) struct Content {
    id: UploadId,
    file: OwnedFd,
    is_disk: bool,
    /// Where the file ends. Changed by the holder of `pen` alone.
    end: AtomicU64,
    /// How many of its bytes count: all but those in doubt. Changed by the holder of `pen` alone.
    written: AtomicU64,
    /// `durable` of `progress` for those who must not wait for a sync, as soon as it holds for good.
    tellable: AtomicU64,
    pen: Mutex<Pen>,
    progress: Mutex<Progress>,
}

/// Nothing is durable for good yet.
const UNKNOWN: u64 = u64::MAX;

/// The right to change the file; broken once bytes had to be cut off.
struct Pen {
    broken: Option<Failure>,
    doubt: Option<Doubt>,
}

/// Bytes that do not count yet.
struct Doubt {
    /// Where they begin.
    from: u64,
    /// Where the note of it lies.
    place: Place,
}

struct Progress {
    /// Every byte before this one is durable, and counts.
    durable: u64,
    /// Every byte before this one is on the disk, in doubt or not.
    synced: u64,
    /// The directory, as long as the record in it is a draft.
    draft: Option<Place>,
    /// The directory above has yet to be synced for the upload to be found after a crash.
    is_shelf_due: bool,
    failure: Option<Failure>,
}

impl Progress {
    /// From here on nothing is promised any more.
    fn fail(&mut self, error: impl Into<Failure>) -> Failure {
        self.failure.insert(error.into()).clone()
    }

    /// The note of a doubt was removed, and a power cut may bring it back.
    fn note_stays(&mut self, error: &Error) -> Failure {
        self.fail(note_stays(error))
    }
}

/// Why a content cannot be trusted whose note of a doubt may come back: with it, later bytes would go.
pub(super) fn note_stays(error: &Error) -> Failure {
    Failure::Damaged(format!("which of its bytes count could not be made to last: {error}").into())
}

/// What a sync reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Every byte before this one is durable, once `shelves` are.
    pub(super) durable: u64,
    /// What has yet to be synced.
    pub(super) shelves: Shelves,
}

impl Content {
    /// The content of an upload just created at `place`.
    pub(super) fn created(place: Place, file: OwnedFd, is_disk: bool) -> Self {
        Self {
            id: place.id,
            file,
            is_disk,
            end: AtomicU64::new(0),
            written: AtomicU64::new(0),
            tellable: AtomicU64::new(UNKNOWN),
            pen: Mutex::new(Pen { broken: None, doubt: None }),
            progress: Mutex::new(Progress {
                durable: 0,
                synced: 0,
                draft: Some(place),
                is_shelf_due: true,
                failure: None,
            }),
        }
    }

    /// The content of an upload whose `bytes` bytes are known to be durable, once the directory above is if that is due.
    pub(super) fn durable(place: &Place, file: OwnedFd, bytes: u64, is_shelf_due: bool) -> Self {
        Self {
            id: place.id,
            file,
            is_disk: place.is_disk(),
            end: AtomicU64::new(bytes),
            written: AtomicU64::new(bytes),
            tellable: AtomicU64::new(if is_shelf_due { UNKNOWN } else { bytes }),
            pen: Mutex::new(Pen { broken: None, doubt: None }),
            progress: Mutex::new(Progress {
                durable: bytes,
                synced: bytes,
                draft: None,
                is_shelf_due,
                failure: None,
            }),
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
        let progress = locked(&self.progress);
        let written = self.written();
        let is_settled = progress.failure.is_none()
            && locked(&self.pen).doubt.is_none()
            && progress.draft.is_none()
            && !progress.is_shelf_due
            && (progress.durable >= written || !self.is_disk);
        is_settled.then_some(written)
    }

    /// What is known to be durable for good; `None` when the next one to ask has to sync, or to look for doubt.
    pub(super) fn known(&self) -> Option<u64> {
        let progress = locked(&self.progress);
        let is_known =
            progress.draft.is_none() && !progress.is_shelf_due && locked(&self.pen).doubt.is_none();
        is_known.then_some(progress.durable)
    }

    /// How far everything is durable for good, as far as can be said without waiting for a sync that is running.
    pub(super) fn tellable(&self) -> u64 {
        match self.tellable.load(Ordering::Acquire) {
            UNKNOWN => 0,
            _ if !self.is_disk => self.written(),
            durable => durable,
        }
    }

    fn note(&self, progress: &Progress) {
        if progress.draft.is_none() && !progress.is_shelf_due {
            self.tellable.store(progress.durable, Ordering::Release);
        }
    }

    /// Why the content cannot be trusted any more, if so.
    pub(super) fn damage(&self) -> Option<String> {
        match &locked(&self.progress).failure {
            Some(Failure::Damaged(why)) => Some(why.to_string()),
            _ => None,
        }
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
        let mut progress = locked(&self.progress);
        if let Some(failure) = &progress.failure {
            return Err(failure.clone());
        }
        if let Some(place) = &progress.draft
            && let Err(error) = place.name_draft()
        {
            // Whether a second sync would tell the truth is not known, so there is none.
            return Err(progress.fail(error));
        }
        // In this order: the first is never larger then, and doubt neither begins nor ends meanwhile.
        let (written, end) = (self.written(), self.end());
        if self.is_disk
            && end > progress.synced
            && let Err(errno) = sys::sync_data(&self.file)
        {
            return Err(self.cut_back(&mut progress, errno));
        }
        progress.synced = progress.synced.max(end);
        let doubt = if is_confirmed { locked(&self.pen).doubt.take() } else { None };
        if let Some(Doubt { from, place }) = &doubt
            && let Err(error) = place.unlink_doubt(*from)
        {
            locked(&self.pen).doubt = doubt;
            return Err(progress.fail(error));
        }
        let draft = progress.draft.take();
        if let Some(place) = draft.as_ref().or(doubt.as_ref().map(|doubt| &doubt.place))
            && let Err(error) = place.sync()
        {
            return Err(if doubt.is_some() { progress.note_stays(&error) } else { progress.fail(error) });
        }
        let written = if doubt.is_some() { end } else { written };
        if doubt.is_some() {
            self.written.store(end, Ordering::Release);
        }
        // Not before the note is gone for good: behind it this would be a promise that was not kept.
        if written > progress.durable {
            sys::note_promised(&self.file, written);
        }
        progress.durable = progress.durable.max(written);
        self.note(&progress);
        let shelves = if progress.is_shelf_due { Shelf::Open.into() } else { Shelves::NONE };
        Ok(Settled { durable: progress.durable, shelves })
    }

    /// Notes that the directory above has been synced.
    pub(super) fn shelf_synced(&self) {
        let mut progress = locked(&self.progress);
        progress.is_shelf_due = false;
        self.note(&progress);
    }

    /// Has a record put in place of the old one, or of the draft, while no sync is giving that its name.
    pub(super) fn with_record(&self, replace: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let mut progress = locked(&self.progress);
        replace()?;
        progress.draft = None;
        Ok(())
    }

    /// Puts what is written from here on in doubt; `place` is where the upload lies.
    //= TUS1-CHK-03
    pub(super) fn doubt(&self, place: Place) -> Result<(), Failure> {
        let mut progress = locked(&self.progress);
        let mut pen = locked(&self.pen);
        if let Some(failure) = progress.failure.as_ref().or(pen.broken.as_ref()) {
            return Err(failure.clone());
        }
        if pen.doubt.is_some() {
            return Ok(());
        }
        let from = self.end();
        place.note_doubt(from)?;
        let synced = place.sync();
        pen.doubt = Some(Doubt { from, place });
        // The note is there and may be gone after a crash. It stays, so that the next claim removes it for good.
        synced.map_err(|error| progress.fail(error))
    }

    /// Cuts the file at `to`, and goes on from there. Nobody was told of the bytes behind it.
    pub(super) fn take_back(&self, to: u64) -> Result<(), Failure> {
        let mut progress = locked(&self.progress);
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
        if let Some(failure) = &progress.failure {
            return Err(failure.clone());
        }
        pen.broken.get_or_insert(Failure::Other("the claim on the upload has ended".into()));
        self.cut(&mut progress, &mut pen, from)
    }

    fn cut(&self, progress: &mut Progress, pen: &mut Pen, to: u64) -> Result<(), Failure> {
        let doing = |errno| self.failed("cutting back the content of", errno);
        if to < self.end() {
            sys::cut(&self.file, to).map_err(doing)?;
            self.end.store(to, Ordering::Release);
            let written = self.written().min(to);
            self.written.store(written, Ordering::Release);
            progress.durable = progress.durable.min(to);
            progress.synced = progress.synced.min(to);
            sys::note_promised(&self.file, written);
            self.note(progress);
            // Or a crash could bring back what its sender was told is gone.
            if self.is_disk {
                sys::sync_data(&self.file).map_err(doing)?;
            }
        }
        if let Some(doubt) = pen.doubt.take_if(|doubt| to <= doubt.from) {
            doubt.place.unlink_doubt(doubt.from)?;
            doubt.place.sync().map_err(|error| progress.note_stays(&error))?;
        }
        Ok(())
    }

    /// Cuts off what the disk would not promise, and takes no more.
    fn cut_back(&self, progress: &mut Progress, errno: Errno) -> Failure {
        let mut pen = locked(&self.pen);
        let failure = cut_back(self.id, &self.file, Some(progress.durable), errno);
        if !matches!(failure, Failure::Damaged(_)) {
            self.end.store(progress.durable, Ordering::Release);
            self.written.store(progress.durable, Ordering::Release);
        }
        pen.broken = Some(failure.clone());
        progress.failure = Some(failure.clone());
        failure
    }

    fn failed(&self, doing: &str, errno: Errno) -> Failure {
        sys::failed(format!("{doing} {}…", self.id.short()), errno).into()
    }
}

/// Cuts a content off where a failed sync leaves it in doubt. After a failed sync the system takes the pages for clean,
/// so another sync would succeed without having written anything: it must never be asked.
pub(super) fn cut_back(id: UploadId, file: &OwnedFd, known: Option<u64>, errno: Errno) -> Failure {
    let failure = sys::failed(format!("syncing the content of {}…", id.short()), errno);
    tracing::error!(upload = %id.short(), known, %errno, "the disk failed to sync an upload's content");
    let cut = match known {
        Some(durable) => sys::cut(file, durable).and_then(|()| sys::sync_data(file)),
        None => Err(errno),
    };
    match cut {
        Ok(()) => failure.into(),
        Err(errno) => {
            let errno = std::io::Error::from(errno);
            let what = match known {
                Some(durable) => {
                    format!("the bytes behind {durable} could not be synced, nor cut off: {errno}")
                }
                None => {
                    format!("its bytes could not be synced, and which of them were is not known: {errno}")
                }
            };
            Failure::Damaged(what.into())
        }
    }
}

#[cfg(test)]
impl Content {
    /// Bytes written that a crash of the machine would take.
    pub(super) fn unsynced(&self) -> u64 {
        let durable = locked(&self.progress).durable;
        self.written().saturating_sub(durable)
    }
}
