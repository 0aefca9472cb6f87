//! One upload's content while it is written: an append file, and how much of it is durable.
//!
//! Owns the file's end, the first sync that makes an upload exist for good, and what becomes of bytes the disk would not
//! promise. Leaves which bytes come when to [`lane`](super::lane).

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
}

struct Progress {
    /// Every byte before this one is durable.
    durable: u64,
    /// The directory, as long as the record in it is a draft.
    draft: Option<Place>,
    /// The directory above has yet to be synced for the upload to be found after a crash.
    is_shelf_due: bool,
    failure: Option<Failure>,
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
            written: AtomicU64::new(0),
            tellable: AtomicU64::new(UNKNOWN),
            pen: Mutex::new(Pen { broken: None }),
            progress: Mutex::new(Progress {
                durable: 0,
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
            written: AtomicU64::new(bytes),
            tellable: AtomicU64::new(if is_shelf_due { UNKNOWN } else { bytes }),
            pen: Mutex::new(Pen { broken: None }),
            progress: Mutex::new(Progress { durable: bytes, draft: None, is_shelf_due, failure: None }),
        }
    }

    /// Where the file ends.
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
        let at = self.written.load(Ordering::Acquire);
        let (bytes, written) = sys::write_all(&self.file, at, &mut buffers);
        self.written.store(at + bytes, Ordering::Release);
        drop(pen);
        written.map_err(|errno| self.failed("writing the content of", errno))
    }

    /// How far everything is durable already, if no sync is needed to say so.
    pub(super) fn settled(&self) -> Option<u64> {
        let progress = locked(&self.progress);
        let written = self.written();
        let is_settled = progress.failure.is_none()
            && progress.draft.is_none()
            && !progress.is_shelf_due
            && (progress.durable >= written || !self.is_disk);
        is_settled.then_some(written)
    }

    /// What is known to be durable for good; `None` when the next one to ask has to sync.
    pub(super) fn known(&self) -> Option<u64> {
        let progress = locked(&self.progress);
        (progress.draft.is_none() && !progress.is_shelf_due).then_some(progress.durable)
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

    /// Makes durable what is written, and the first time the upload itself.
    ///
    /// Four steps the first time: the draft's bytes, its name, the content's bytes, the directory. A journaling file
    /// system commits twice for them, since the third commits the names as well and the last finds nothing to do.
    //= TOK-OFF-03
    pub(super) fn settle(&self) -> Result<Settled, Failure> {
        let mut progress = locked(&self.progress);
        if let Some(failure) = &progress.failure {
            return Err(failure.clone());
        }
        if let Some(place) = &progress.draft
            && let Err(error) = place.name_draft()
        {
            // Whether a second sync would tell the truth is not known, so there is none.
            let failure = Failure::from(error);
            progress.failure = Some(failure.clone());
            return Err(failure);
        }
        let written = self.written();
        if self.is_disk
            && written > progress.durable
            && let Err(errno) = sys::sync_data(&self.file)
        {
            return Err(self.cut_back(&mut progress, errno));
        }
        if written > progress.durable {
            sys::note_promised(&self.file, written);
        }
        progress.durable = progress.durable.max(written);
        if let Some(place) = progress.draft.take()
            && let Err(error) = place.sync()
        {
            let failure = Failure::from(error);
            progress.failure = Some(failure.clone());
            return Err(failure);
        }
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

    /// Cuts the file at `to`, and goes on from there. Nobody was told of the bytes behind it.
    pub(super) fn take_back(&self, to: u64) -> Result<(), Failure> {
        let mut progress = locked(&self.progress);
        let pen = locked(&self.pen);
        if let Some(failure) = &pen.broken {
            return Err(failure.clone());
        }
        if to < self.written() {
            sys::cut(&self.file, to).map_err(|errno| self.failed("cutting back the content of", errno))?;
            self.written.store(to, Ordering::Release);
            progress.durable = progress.durable.min(to);
            sys::note_promised(&self.file, to);
            self.note(&progress);
            // Or a crash could bring back what its sender was told is gone.
            if self.is_disk {
                sys::sync_data(&self.file)
                    .map_err(|errno| self.failed("cutting back the content of", errno))?;
            }
        }
        Ok(())
    }

    /// Cuts off what the disk would not promise, and takes no more.
    fn cut_back(&self, progress: &mut Progress, errno: Errno) -> Failure {
        let mut pen = locked(&self.pen);
        let failure = cut_back(self.id, &self.file, Some(progress.durable), errno);
        if !matches!(failure, Failure::Damaged(_)) {
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
