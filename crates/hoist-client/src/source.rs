//! The source of an upload: bytes, a file, a reader or a stream.
//!
//! A file is read while it is sent. The bytes that the server has must belong to those that follow, so an upload fails if
//! they change in the file: see `guarded_file`. A stream cannot be read again, so the bytes that the server has not
//! acknowledged are kept in memory: see `rewind_buffer`.

mod body;
mod file_reader;
mod guarded_file;
mod read_checksums;
mod rewind_buffer;

use std::fmt;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hoist_proto::dialect::tus1::client::Checksum;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeek, AsyncSeekExt};

use self::body::{BodyReader, ReadSeek};
pub(crate) use self::body::{Gate, RequestBody};
use self::file_reader::FileReader;
use self::guarded_file::{GuardedFile, OpenedFile};
use self::rewind_buffer::RewindBuffer;
use crate::digest;
use crate::error::Error;
use crate::lock::lock;
use crate::progress::Meter;
use crate::rate_limiter::{RateLimiter, Turns};

/// The bytes to upload.
pub struct Source(Kind);

enum Kind {
    Bytes(Bytes),
    File(PathBuf),
    // The mutexes are never contended. They make the source `Sync` although the readers are only `Send`.
    Seek(Mutex<Box<dyn ReadSeek>>),
    Stream { reader: Mutex<Box<dyn AsyncRead + Send + Unpin>>, length: Option<u64> },
}

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
    /// Uploads bytes in memory.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// Uploads a file, which is opened when the upload starts. Bytes appended to it later are not uploaded. A file whose
    /// length differs from what the file system says, as in procfs and sysfs, is uploaded as a [stream](Self::stream).
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into()))
    }

    /// Uploads a seekable reader, from its beginning to its end.
    pub fn reader(reader: impl AsyncRead + AsyncSeek + Send + Unpin + 'static) -> Self {
        Self(Kind::Seek(Mutex::new(Box::new(reader))))
    }

    /// Uploads a stream to its end, for example standard input. Bytes that the server has not acknowledged are kept in
    /// memory, up to [a limit](crate::ClientBuilder::rewind_bytes_max).
    pub fn stream(reader: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Kind::Stream { reader: Mutex::new(Box::new(reader)), length: None })
    }

    /// Sets the length of a stream, if it is known. Has no effect on other sources.
    pub fn with_length(mut self, bytes: u64) -> Self {
        if let Kind::Stream { length, .. } = &mut self.0 {
            *length = Some(bytes);
        }
        self
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        if let Kind::File(path) = &self.0 { Some(path) } else { None }
    }

    /// Opens the source. `rewind_bytes_max` limits how many bytes of a stream are kept.
    pub(crate) async fn open(self, rewind_bytes_max: u64) -> Result<OpenSource, Error> {
        let stream = |reader, length| {
            OpenKind::Stream(Arc::new(Mutex::new(RewindBuffer::new(reader, length, rewind_bytes_max))))
        };
        let (kind, length) = match self.0 {
            Kind::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (OpenKind::Bytes(bytes), Some(length))
            }
            Kind::File(path) => {
                let failed = |source| Error::Source { path: path.clone(), source };
                match GuardedFile::open(path.clone()).await.map_err(failed)? {
                    OpenedFile::File(file) => {
                        let length = file.length;
                        (OpenKind::File(file), Some(length))
                    }
                    OpenedFile::Stream(first, rest) => {
                        let all = io::Cursor::new(first).chain(tokio::fs::File::from_std(rest));
                        (stream(Box::new(all), None), None)
                    }
                }
            }
            Kind::Seek(reader) => {
                let failed = |source| Error::Source { path: PathBuf::new(), source };
                let mut reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                let length = reader.seek(SeekFrom::End(0)).await.map_err(failed)?;
                (OpenKind::Seek(Arc::new(Mutex::new(reader))), Some(length))
            }
            Kind::Stream { reader, length } => {
                let reader = reader.into_inner().unwrap_or_else(PoisonError::into_inner);
                (stream(reader, length), length)
            }
        };
        Ok(OpenSource { kind, length, rate_limiter: None })
    }
}

/// A source that is being uploaded.
pub(crate) struct OpenSource {
    kind: OpenKind,
    length: Option<u64>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
}

enum OpenKind {
    Bytes(Bytes),
    File(Arc<GuardedFile>),
    Seek(Arc<Mutex<Box<dyn ReadSeek>>>),
    Stream(Arc<Mutex<RewindBuffer>>),
}

impl OpenSource {
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns whether any byte can be read again at any time.
    pub(crate) fn rewinds(&self) -> bool {
        !matches!(self.kind, OpenKind::Stream(_))
    }

    /// Returns whether several ranges can be read at the same time.
    pub(crate) fn splits(&self) -> bool {
        matches!(self.kind, OpenKind::Bytes(_) | OpenKind::File(_))
    }

    /// Returns the source if it is a stream.
    pub(crate) fn stream(&self) -> Option<MutexGuard<'_, RewindBuffer>> {
        if let OpenKind::Stream(stream) = &self.kind { Some(lock(stream)) } else { None }
    }

    /// Returns the content of one request. If `is_open`, it may end before the end of the range: where a stream ends or
    /// no more of it may be kept.
    pub(crate) async fn content(
        &self,
        range: Range<u64>,
        is_open: bool,
        meter: Meter,
    ) -> Result<RequestBody, Error> {
        let reader = match &self.kind {
            OpenKind::Bytes(bytes) => BodyReader::Bytes(bytes.slice(in_memory(&range))),
            OpenKind::File(file) => {
                self.check_unchanged().await?;
                let reader = FileReader::open(Arc::clone(file), range.clone()).await;
                BodyReader::File(reader.map_err(|error| self.failed(error))?)
            }
            OpenKind::Seek(reader) => {
                BodyReader::Seek { reader: reader.clone(), at: range.start, has_sought: false }
            }
            OpenKind::Stream(rewind) => {
                if !lock(rewind).reaches_back_to(range.start) {
                    return Err(Error::NotRewindable { offset: range.start });
                }
                BodyReader::Stream { rewind: rewind.clone(), at: range.start, is_open }
            }
        };
        let turns = self.rate_limiter.clone().map(Turns::new);
        Ok(RequestBody::new(reader, range.end - range.start, is_open, meter, turns))
    }

    /// Returns the digest of a range, if it can be computed before the range is sent.
    pub(crate) async fn checksum(&self, kind: Checksum, range: Range<u64>) -> Result<Option<Vec<u8>>, Error> {
        match &self.kind {
            OpenKind::Bytes(bytes) => Ok(Some(digest::digest(kind, &bytes[in_memory(&range)]))),
            OpenKind::File(file) => {
                let path = file.path.clone();
                let read = tokio::task::spawn_blocking(move || digest::digest_of_file(kind, &path, range));
                let read = read.await.map_err(io::Error::other).flatten();
                read.map(Some).map_err(|error| self.failed(error))
            }
            OpenKind::Seek(_) | OpenKind::Stream(_) => Ok(None),
        }
    }

    /// Returns [`Error::SourceChanged`] unless the file still holds the bytes that have been read from it.
    pub(crate) async fn check_unchanged(&self) -> Result<(), Error> {
        let OpenKind::File(file) = &self.kind else { return Ok(()) };
        let is_unchanged = file.is_unchanged().await.map_err(|error| self.failed(error))?;
        if is_unchanged { Ok(()) } else { Err(Error::SourceChanged { path: file.path.clone() }) }
    }

    pub(crate) fn failed(&self, source: io::Error) -> Error {
        let path = if let OpenKind::File(file) = &self.kind { file.path.clone() } else { PathBuf::new() };
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::SourceChanged { path },
            _ => Error::Source { path, source },
        }
    }
}

fn in_memory(range: &Range<u64>) -> Range<usize> {
    let index = |at: u64| usize::try_from(at).expect("an offset within bytes in memory");
    index(range.start)..index(range.end)
}
