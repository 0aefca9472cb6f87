//! A range of a file, read as fast as the connection accepts it.
//!
//! Data in the page cache is read on the spot; data that has to come from the disk is read on a blocking thread. Buffers
//! are reused: three of them for a file of any length.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::guarded_file::GuardedFile;

/// Bytes read at a time.
const READ_BYTES: u64 = 512 * 1024;
/// Buffers that are remembered for reuse.
const BUFFERS_MAX: usize = 3;

/// The file, and the bytes that were read from it.
type Read = io::Result<(File, Vec<u8>)>;

pub(super) struct FileReader {
    /// `None` while a blocking thread reads from it.
    file: Option<File>,
    range: Range<u64>,
    reading: Option<JoinHandle<Read>>,
    /// Buffers that were handed over, the oldest first.
    handed: VecDeque<Bytes>,
    source: Arc<GuardedFile>,
}

impl FileReader {
    pub(super) async fn open(source: Arc<GuardedFile>, range: Range<u64>) -> io::Result<Self> {
        let path = source.path.clone();
        let opened = tokio::task::spawn_blocking(move || File::open(path));
        let file = opened.await.map_err(io::Error::other)??;
        Ok(Self { file: Some(file), range, reading: None, handed: VecDeque::new(), source })
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.reading.is_none() {
            let Some(file) = self.file.take() else {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            };
            let bytes = (self.range.end - self.range.start).min(READ_BYTES);
            let mut buffer = self.buffer();
            buffer.resize(usize::try_from(bytes).unwrap_or_default(), 0);
            let is_last = self.range.start + bytes == self.source.length;
            if is_last {
                // Compared first: the upload must not become complete with the bytes of two versions of the file.
                self.reading = Some(read(file, buffer, self.range.start, Some(Arc::clone(&self.source))));
                return self.poll_reading(cx);
            }
            match read_cached(&file, &mut buffer, self.range.start) {
                Some(read) => {
                    buffer.truncate(read);
                    self.file = Some(file);
                    return Poll::Ready(Ok(self.hand_over(buffer)));
                }
                None => self.reading = Some(read(file, buffer, self.range.start, None)),
            }
        }
        self.poll_reading(cx)
    }

    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(reading) = &mut self.reading else { return Poll::Pending };
        let (file, buffer) = ready!(Pin::new(reading).poll(cx)).map_err(io::Error::other)??;
        self.reading = None;
        self.file = Some(file);
        if buffer.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(self.hand_over(buffer)))
    }

    fn hand_over(&mut self, buffer: Vec<u8>) -> Bytes {
        self.source.note(self.range.start, &buffer);
        self.range.start = (self.range.start + buffer.len() as u64).min(self.range.end);
        let piece = Bytes::from(buffer);
        self.handed.push_back(piece.clone());
        piece
    }

    /// Returns the oldest buffer if the connection has dropped it, or a new one.
    fn buffer(&mut self) -> Vec<u8> {
        let is_free = self.handed.front().is_some_and(Bytes::is_unique);
        if !is_free && self.handed.len() < BUFFERS_MAX {
            return Vec::new();
        }
        let oldest = self.handed.pop_front().map(Bytes::try_into_mut);
        oldest.and_then(Result::ok).map(Vec::from).unwrap_or_default()
    }
}

/// Reads from the page cache, without blocking. Returns the number of bytes, or `None` if there are none or the file
/// system does not support such reads.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, buffer: &mut [u8], at: u64) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let read = preadv2(file, &mut [io::IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT);
    // Zero bytes may mean the end of the file. The blocking read decides that.
    read.ok().filter(|bytes| *bytes > 0)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

/// Reads on a blocking thread. With a source, fails with `UnexpectedEof` if the source has changed since it was opened.
fn read(mut file: File, mut buffer: Vec<u8>, at: u64, source: Option<Arc<GuardedFile>>) -> JoinHandle<Read> {
    tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(at))?;
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        if source.is_some_and(|source| !source.is_unchanged_blocking().unwrap_or(false)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((file, buffer))
    })
}
