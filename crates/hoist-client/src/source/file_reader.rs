//! A file, read as the connection takes it.
//!
//! What the system has in memory is read where it is needed; what it has to fetch from a disk is read by a thread that may
//! wait for it. The memory of pieces is used again: three of them for however long a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::lock;
use super::read_checksums::ReadChecksums;

/// Bytes read at a time.
const READ_BYTES: u64 = 512 * 1024;
/// How many pieces may wait to be written into again.
const PIECES: usize = 3;

/// The file, and what was read of it.
type Read = io::Result<(File, Vec<u8>)>;

/// A range of a file that is being read.
pub(super) struct FileReader {
    /// Away while a thread reads it.
    file: Option<File>,
    range: Range<u64>,
    waiting: Option<JoinHandle<Read>>,
    /// Pieces that were handed over, the oldest first.
    handed: VecDeque<Bytes>,
    trace: Arc<Mutex<ReadChecksums>>,
}

impl FileReader {
    pub(super) async fn open(
        path: &Path,
        range: Range<u64>,
        trace: Arc<Mutex<ReadChecksums>>,
    ) -> io::Result<Self> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || File::open(path));
        let file = opened.await.map_err(io::Error::other)??;
        Ok(Self { file: Some(file), range, waiting: None, handed: VecDeque::new(), trace })
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.waiting.is_none() {
            let Some(file) = self.file.take() else {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            };
            let bytes = (self.range.end - self.range.start).min(READ_BYTES);
            let mut memory = self.memory();
            memory.resize(usize::try_from(bytes).unwrap_or_default(), 0);
            match at_hand(&file, &mut memory, self.range.start) {
                Some(read) => {
                    memory.truncate(read);
                    self.file = Some(file);
                    return Poll::Ready(Ok(self.hand_over(memory)));
                }
                None => self.waiting = Some(read(file, memory, self.range.start)),
            }
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        let (file, memory) = ready!(Pin::new(waiting).poll(cx)).map_err(io::Error::other)??;
        self.waiting = None;
        self.file = Some(file);
        if memory.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(self.hand_over(memory)))
    }

    fn hand_over(&mut self, memory: Vec<u8>) -> Bytes {
        lock(&self.trace).add(self.range.start, &memory);
        self.range.start = (self.range.start + memory.len() as u64).min(self.range.end);
        let piece = Bytes::from(memory);
        self.handed.push_back(piece.clone());
        piece
    }

    /// The memory of a piece that nobody holds any more, or some that is new.
    fn memory(&mut self) -> Vec<u8> {
        let is_free = self.handed.front().is_some_and(Bytes::is_unique);
        if !is_free && self.handed.len() < PIECES {
            return Vec::new();
        }
        let Some(Ok(memory)) = self.handed.pop_front().map(Bytes::try_into_mut) else {
            return Vec::new();
        };
        <Vec<u8> as From<BytesMut>>::from(memory)
    }
}

/// Reads what needs no waiting: how many bytes that were, if any.
#[cfg(target_os = "linux")]
fn at_hand(file: &File, memory: &mut [u8], at: u64) -> Option<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let read = preadv2(file, &mut [io::IoSliceMut::new(memory)], at, ReadWriteFlags::NOWAIT);
    // Some file systems have no such thing; and whether the file ends here is for somebody to find out who may wait.
    read.ok().filter(|bytes| *bytes > 0)
}

#[cfg(not(target_os = "linux"))]
fn at_hand(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

/// Reads on a thread that may wait.
fn read(mut file: File, mut memory: Vec<u8>, at: u64) -> JoinHandle<Read> {
    tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(at))?;
        let mut filled = 0;
        while filled < memory.len() {
            match file.read(&mut memory[filled..]) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        memory.truncate(filled);
        Ok((file, memory))
    })
}
