//! The source of the bytes of an upload.
//!
//! A file is read as it is sent, never as a whole. The bytes the server has must belong to those that follow, so a file in
//! which they change ends the upload: `watched`. A stream cannot be read again, so what the server has not acknowledged is
//! kept: `rewind`.

mod body;
mod file_reader;
mod guarded_file;
mod read_checksums;
mod rewind_buffer;

use std::fmt;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hoist_proto::client::Checksum;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt};

use self::body::{BodyReader, RateLimit};
pub(crate) use self::body::{Gate, RequestBody};
use self::guarded_file::{GuardedFile, OpenedFile};
use self::rewind_buffer::RewindBuffer;
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

    /// The content of a file, which is opened when the upload begins. Bytes that are added to it later are left out. A file
    /// whose length is not what the file system says, as in procfs and sysfs, is uploaded as a [stream](Self::stream).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    /// All that a reader has which can go back, from its beginning to its end.
    pub fn reader(reader: impl AsyncRead + AsyncSeek + Send + Unpin + 'static) -> Self {
        Self(Kind::Seek(Mutex::new(Box::new(reader))))
    }

    /// What a stream gives until it ends, standard input for one. What the server has not acknowledged is kept in memory,
    /// up to [a bound](crate::ClientBuilder::rewind_bytes_max).
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
    pub(crate) async fn open(self, keeps: u64) -> Result<OpenSource, Error> {
        let nowhere = |source| Error::Source { path: PathBuf::new(), source };
        let (kind, length) = match self.0 {
            Kind::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (OpenKind::Bytes(bytes), Some(length))
            }
            Kind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                match GuardedFile::find(path.clone()).await.map_err(failed)? {
                    OpenedFile::File(file) => {
                        let length = file.length();
                        (OpenKind::File(file), Some(length))
                    }
                    OpenedFile::Stream(first, rest) => {
                        let all = io::Cursor::new(first).chain(tokio::fs::File::from_std(rest));
                        let rewind = RewindBuffer::new(Box::new(all), None, keeps);
                        (OpenKind::Stream(Arc::new(Mutex::new(rewind))), None)
                    }
                }
            }
            Kind::Seek(reader) => {
                let mut reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                let length = reader.seek(SeekFrom::End(0)).await.map_err(nowhere)?;
                (OpenKind::Seek(Arc::new(Mutex::new(reader))), Some(length))
            }
            Kind::Stream { reader, length } => {
                let reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                let rewind = RewindBuffer::new(reader, length, keeps);
                (OpenKind::Stream(Arc::new(Mutex::new(rewind))), length)
            }
        };
        Ok(OpenSource { kind, length, bytes_per_second: None })
    }
}

/// A source that is being uploaded.
pub(crate) struct OpenSource {
    kind: OpenKind,
    length: Option<u64>,
    pub(crate) bytes_per_second: Option<u64>,
}

enum OpenKind {
    Bytes(Bytes),
    File(GuardedFile),
    Seek(Arc<Mutex<Box<dyn ReadSeek>>>),
    Stream(Arc<Mutex<RewindBuffer>>),
}

impl OpenSource {
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether any byte can be read again at any time.
    pub(crate) fn rewinds(&self) -> bool {
        !matches!(self.kind, OpenKind::Stream(_))
    }

    /// Whether parts of it can be read at the same time.
    pub(crate) fn splits(&self) -> bool {
        matches!(self.kind, OpenKind::Bytes(_) | OpenKind::File(_))
    }

    /// Where a stream ended, when it has.
    pub(crate) fn ended_at(&self) -> Option<u64> {
        match &self.kind {
            OpenKind::Stream(rewind) => lock(rewind).ended_at(),
            OpenKind::Bytes(_) | OpenKind::File(_) | OpenKind::Seek(_) => None,
        }
    }

    /// The digest of all that a stream gave.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        match &self.kind {
            OpenKind::Stream(rewind) => lock(rewind).sha256(),
            OpenKind::Bytes(_) | OpenKind::File(_) | OpenKind::Seek(_) => None,
        }
    }

    /// Has a stream's bytes hashed as they are read.
    pub(crate) fn hash(&self) {
        if let OpenKind::Stream(rewind) = &self.kind {
            lock(rewind).hash();
        }
    }

    /// What lies before `offset` will not be asked for again.
    pub(crate) fn release(&self, offset: u64) {
        if let OpenKind::Stream(rewind) = &self.kind {
            lock(rewind).release(offset);
        }
    }

    /// The content of one request; `is_open` when it may end wherever the source has to stop.
    pub(crate) async fn content(
        &self,
        range: Range<u64>,
        is_open: bool,
        meter: Meter,
    ) -> Result<RequestBody, Error> {
        let reader = match &self.kind {
            OpenKind::Bytes(bytes) => {
                let within = |at: u64| usize::try_from(at).expect("a range of bytes in memory");
                BodyReader::Bytes(bytes.slice(within(range.start)..within(range.end)))
            }
            OpenKind::File(file) => {
                self.unchanged().await?;
                BodyReader::File(file.reading(range.clone()).await.map_err(|error| self.failed(error))?)
            }
            OpenKind::Seek(reader) => {
                BodyReader::Seek { reader: reader.clone(), at: range.start, is_there: false }
            }
            OpenKind::Stream(rewind) => {
                if !lock(rewind).reaches_back_to(range.start) {
                    return Err(Error::NotRewindable { offset: range.start });
                }
                BodyReader::Stream { rewind: rewind.clone(), at: range.start, is_open }
            }
        };
        let pace = self.bytes_per_second.map(RateLimit::new);
        Ok(RequestBody::new(reader, range.end - range.start, is_open, meter, pace))
    }

    /// The digest of a range, where it can be had before the range is sent.
    pub(crate) async fn checksum(&self, kind: Checksum, range: Range<u64>) -> Result<Option<Vec<u8>>, Error> {
        match &self.kind {
            OpenKind::Bytes(bytes) => {
                let within = |at: u64| usize::try_from(at).expect("a range of bytes in memory");
                Ok(Some(digest::of(kind, &bytes[within(range.start)..within(range.end)])))
            }
            OpenKind::File(file) => {
                let of = file.path().to_owned();
                let read = tokio::task::spawn_blocking(move || digest::of_file(kind, &of, range));
                let read = read.await.map_err(io::Error::other).flatten();
                read.map(Some).map_err(|error| self.failed(error))
            }
            OpenKind::Seek(_) | OpenKind::Stream(_) => Ok(None),
        }
    }

    /// Refuses a file that does not hold any more what was read of it since the upload began.
    pub(crate) async fn unchanged(&self) -> Result<(), Error> {
        let OpenKind::File(file) = &self.kind else { return Ok(()) };
        let is_unchanged = file.is_unchanged().await.map_err(|error| self.failed(error))?;
        if is_unchanged { Ok(()) } else { Err(Error::SourceChanged { path: file.path().to_owned() }) }
    }

    /// An error of reading, as one of the source.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        let path = match &self.kind {
            OpenKind::File(file) => file.path().to_owned(),
            OpenKind::Bytes(_) | OpenKind::Seek(_) | OpenKind::Stream(_) => PathBuf::new(),
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
