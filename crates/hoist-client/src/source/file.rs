//! A file, read ahead of the connection by a thread that may wait for the disk.
//!
//! One piece is on its way while the one before it is sent, and their memory is used again: three pieces for however
//! long a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

/// Bytes read at a time.
const READ_BYTES: u64 = 512 * 1024;
/// How many pieces may wait to be written into again.
const PIECES: usize = 3;

/// The file, and what was read of it.
type Read = io::Result<(File, Vec<u8>)>;

/// A range of a file that is being read.
pub(super) struct Reading {
    file: Option<File>,
    left: u64,
    ahead: Option<JoinHandle<Read>>,
    /// Pieces that were handed over, the oldest first.
    handed: VecDeque<Bytes>,
}

impl Reading {
    pub(super) async fn open(path: &Path, range: Range<u64>) -> io::Result<Self> {
        let path = path.to_owned();
        let start = range.start;
        let opened = tokio::task::spawn_blocking(move || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            Ok::<_, io::Error>(file)
        });
        let file = opened.await.map_err(io::Error::other)??;
        let (left, ahead, handed) = (range.end - range.start, None, VecDeque::new());
        Ok(Self { file: Some(file), left, ahead, handed })
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        self.read_ahead();
        let Some(ahead) = &mut self.ahead else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        let (file, memory) = ready!(Pin::new(ahead).poll(cx)).map_err(io::Error::other)??;
        self.ahead = None;
        if memory.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.file = Some(file);
        self.left -= (memory.len() as u64).min(self.left);
        let piece = Bytes::from(memory);
        self.handed.push_back(piece.clone());
        self.read_ahead();
        Poll::Ready(Ok(piece))
    }

    /// Has the next piece read, unless that is being done.
    fn read_ahead(&mut self) {
        if self.left == 0 {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let mut memory = self.memory();
        let bytes = self.left.min(READ_BYTES);
        self.ahead = Some(tokio::task::spawn_blocking(move || {
            memory.reserve_exact(usize::try_from(bytes).unwrap_or_default());
            file.by_ref().take(bytes).read_to_end(&mut memory)?;
            Ok((file, memory))
        }));
    }

    /// The memory of a piece that nobody holds any more, or some that is new.
    fn memory(&mut self) -> Vec<u8> {
        let is_free = self.handed.front().is_some_and(Bytes::is_unique);
        if !is_free && self.handed.len() < PIECES {
            return Vec::new();
        }
        let Some(Ok(mut memory)) = self.handed.pop_front().map(Bytes::try_into_mut) else {
            return Vec::new();
        };
        memory.clear();
        <Vec<u8> as From<BytesMut>>::from(memory)
    }
}
