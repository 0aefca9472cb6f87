//! Where the bytes come from.
//!
//! A file is read as it is sent, never as a whole. What is already with the server must still belong to what follows, so
//! a file whose length or time of change moves during the upload ends it. A stream cannot be read again, so what the
//! server has not acknowledged is kept: `rewind`.

mod content;
mod file;
mod rewind;

use std::fmt;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use hoist_proto::client::Checksum;
use tokio::io::{AsyncRead, AsyncSeek, AsyncSeekExt};

pub(crate) use self::content::{Content, Gate};
use self::content::{Pace, Reader};
use self::rewind::Rewind;
use crate::digest;
use crate::error::Error;
use crate::progress::Meter;

/// What to upload.
pub struct Source(Kind);

enum Kind {
    Bytes(Bytes),
    File(PathBuf),
    // The locks are never contended: they make what may be sent to another thread something that may be looked at there.
    Seek(Mutex<Box<dyn ReadSeek>>),
    Stream { reader: Mutex<Box<dyn AsyncRead + Send + Unpin>>, length: Option<u64> },
}

/// A reader that can go back.
pub(crate) trait ReadSeek: AsyncRead + AsyncSeek + Send + Unpin {}

impl<T: AsyncRead + AsyncSeek + Send + Unpin> ReadSeek for T {}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => write!(f, "Source({} bytes)", bytes.len()),
            Kind::File(path) => write!(f, "Source({})", path.display()),
            Kind::Seek(_) => write!(f, "Source(reader)"),
            Kind::Stream { length, .. } => write!(f, "Source(stream of {length:?} bytes)"),
        }
    }
}

impl Source {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// The content of a file, which is opened when the upload begins. It must be one that can be read from any offset.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    /// All that a reader has which can go back, from its beginning to its end.
    pub fn reader(reader: impl AsyncRead + AsyncSeek + Send + Unpin + 'static) -> Self {
        Self(Kind::Seek(Mutex::new(Box::new(reader))))
    }

    /// What a stream gives until it ends, standard input for one. What the server has not acknowledged is kept in memory,
    /// up to [a bound](crate::Builder::rewind_bytes_max).
    pub fn stream(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Kind::Stream { reader: Mutex::new(Box::new(reader)), length: None })
    }

    /// How many bytes a stream is going to give, when that is known. Without meaning for other sources.
    pub fn with_length(mut self, bytes: u64) -> Self {
        if let Kind::Stream { length, .. } = &mut self.0 {
            *length = Some(bytes);
        }
        self
    }

    /// The file, when it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::File(path) => Some(path),
            Kind::Bytes(_) | Kind::Seek(_) | Kind::Stream { .. } => None,
        }
    }

    /// `keeps` is how many bytes of a stream are kept.
    pub(crate) async fn open(self, keeps: u64) -> Result<Opened, Error> {
        let nowhere = |source| Error::Source { path: PathBuf::new(), source };
        let (kind, facts) = match self.0 {
            Kind::Bytes(bytes) => {
                let facts = Facts { length: Some(bytes.len() as u64), changed: None };
                (OpenedKind::Bytes(bytes), facts)
            }
            Kind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                let facts = facts(&path).await.map_err(failed)?;
                (OpenedKind::File(path), facts)
            }
            Kind::Seek(reader) => {
                let mut reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                let length = reader.seek(SeekFrom::End(0)).await.map_err(nowhere)?;
                let facts = Facts { length: Some(length), changed: None };
                (OpenedKind::Seek(Arc::new(Mutex::new(reader))), facts)
            }
            Kind::Stream { reader, length } => {
                let reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                let rewind = Rewind::new(reader, length, keeps);
                (OpenedKind::Stream(Arc::new(Mutex::new(rewind))), Facts { length, changed: None })
            }
        };
        Ok(Opened { kind, facts, bytes_per_second: None })
    }
}

/// A source that is being uploaded.
pub(crate) struct Opened {
    kind: OpenedKind,
    facts: Facts,
    pub(crate) bytes_per_second: Option<u64>,
}

enum OpenedKind {
    Bytes(Bytes),
    File(PathBuf),
    Seek(Arc<Mutex<Box<dyn ReadSeek>>>),
    Stream(Arc<Mutex<Rewind>>),
}

/// What must not change during an upload.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Facts {
    length: Option<u64>,
    changed: Option<SystemTime>,
}

async fn facts(path: &Path) -> io::Result<Facts> {
    let metadata = tokio::fs::metadata(path).await?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(Facts { length: Some(metadata.len()), changed: metadata.modified().ok() })
}

impl Opened {
    pub(crate) fn length(&self) -> Option<u64> {
        self.facts.length
    }

    /// Whether any byte can be read again at any time.
    pub(crate) fn rewinds(&self) -> bool {
        !matches!(self.kind, OpenedKind::Stream(_))
    }

    /// Whether parts of it can be read at the same time.
    pub(crate) fn splits(&self) -> bool {
        matches!(self.kind, OpenedKind::Bytes(_) | OpenedKind::File(_))
    }

    /// Where a stream ended, when it has.
    pub(crate) fn ended_at(&self) -> Option<u64> {
        match &self.kind {
            OpenedKind::Stream(rewind) => lock(rewind).ended_at(),
            OpenedKind::Bytes(_) | OpenedKind::File(_) | OpenedKind::Seek(_) => None,
        }
    }

    /// The digest of all that a stream gave.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        match &self.kind {
            OpenedKind::Stream(rewind) => lock(rewind).sha256(),
            OpenedKind::Bytes(_) | OpenedKind::File(_) | OpenedKind::Seek(_) => None,
        }
    }

    /// Has a stream's bytes hashed as they are read.
    pub(crate) fn hash(&self) {
        if let OpenedKind::Stream(rewind) = &self.kind {
            lock(rewind).hash();
        }
    }

    /// What lies before `offset` will not be asked for again.
    pub(crate) fn release(&self, offset: u64) {
        if let OpenedKind::Stream(rewind) = &self.kind {
            lock(rewind).release(offset);
        }
    }

    /// The content of one request; `is_open` when it may end wherever the source has to stop.
    pub(crate) async fn content(
        &self,
        range: Range<u64>,
        is_open: bool,
        meter: Meter,
    ) -> Result<Content, Error> {
        let reader = match &self.kind {
            OpenedKind::Bytes(bytes) => {
                let within = |at: u64| usize::try_from(at).expect("a range of bytes in memory");
                Reader::Bytes(bytes.slice(within(range.start)..within(range.end)))
            }
            OpenedKind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                self.unchanged().await?;
                Reader::File(file::Reading::open(path, range.clone()).await.map_err(failed)?)
            }
            OpenedKind::Seek(reader) => {
                Reader::Seek { reader: reader.clone(), at: range.start, is_there: false }
            }
            OpenedKind::Stream(rewind) => {
                if !lock(rewind).reaches_back_to(range.start) {
                    return Err(Error::Spent { offset: range.start });
                }
                Reader::Stream { rewind: rewind.clone(), at: range.start, is_open }
            }
        };
        let pace = self.bytes_per_second.map(Pace::new);
        Ok(Content::new(reader, range.end - range.start, is_open, meter, pace))
    }

    /// The digest of a range, where it can be had before the range is sent.
    pub(crate) async fn checksum(&self, kind: Checksum, range: Range<u64>) -> Result<Option<Vec<u8>>, Error> {
        match &self.kind {
            OpenedKind::Bytes(bytes) => {
                let within = |at: u64| usize::try_from(at).expect("a range of bytes in memory");
                Ok(Some(digest::of(kind, &bytes[within(range.start)..within(range.end)])))
            }
            OpenedKind::File(path) => {
                let of = path.clone();
                let read = tokio::task::spawn_blocking(move || digest::of_file(kind, &of, range));
                let read = read.await.map_err(io::Error::other).flatten();
                read.map(Some).map_err(|error| self.failed(error))
            }
            OpenedKind::Seek(_) | OpenedKind::Stream(_) => Ok(None),
        }
    }

    /// Refuses a file that is not what it was when the upload began.
    pub(crate) async fn unchanged(&self) -> Result<(), Error> {
        let OpenedKind::File(path) = &self.kind else { return Ok(()) };
        let now = facts(path).await.map_err(|source| Error::Source { path: path.clone(), source })?;
        if now == self.facts { Ok(()) } else { Err(Error::SourceChanged { path: path.clone() }) }
    }

    /// An error of reading, as one of the source.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        let path = match &self.kind {
            OpenedKind::File(path) => path.clone(),
            OpenedKind::Bytes(_) | OpenedKind::Seek(_) | OpenedKind::Stream(_) => PathBuf::new(),
        };
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::SourceChanged { path },
            _ => Error::Source { path, source },
        }
    }
}

fn lock<T: ?Sized>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
