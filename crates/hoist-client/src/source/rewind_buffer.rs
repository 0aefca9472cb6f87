//! A stream whose unacknowledged bytes are kept in memory, so that a request can be repeated.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// The result of reading at an offset.
pub(super) enum Piece {
    Bytes(Bytes),
    /// No more bytes may be kept, so no more are read.
    Full,
    /// The stream has ended.
    End,
}

pub(crate) struct RewindBuffer {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    length: Option<u64>,
    memory: Vec<u8>,
    kept: VecDeque<Bytes>,
    /// The offset of the first byte kept.
    start: u64,
    /// The offset after the last byte read.
    end: u64,
    kept_bytes_max: u64,
    ended: bool,
    hash: Option<Sha256>,
}

impl RewindBuffer {
    pub(super) fn new(
        reader: Box<dyn AsyncRead + Send + Unpin>,
        length: Option<u64>,
        kept_bytes_max: u64,
    ) -> Self {
        let (memory, kept) = (vec![0; READ_BYTES], VecDeque::new());
        Self { reader, length, memory, kept, start: 0, end: 0, kept_bytes_max, ended: false, hash: None }
    }

    /// Hashes all bytes from now on. Called before the first read.
    pub(crate) fn hash(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// Returns the digest of all bytes, if they were hashed and the stream has ended.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        let is_over = self.ended || self.length == Some(self.end);
        self.hash.clone().filter(|_| is_over).map(|hash| hash.finalize().into())
    }

    pub(crate) fn ended_at(&self) -> Option<u64> {
        self.ended.then_some(self.end)
    }

    /// Returns whether the byte at `offset` is kept or still to be read.
    pub(super) fn reaches_back_to(&self, offset: u64) -> bool {
        offset >= self.start
    }

    pub(crate) fn release(&mut self, offset: u64) {
        while let Some(first) = self.kept.front() {
            let end = self.start + first.len() as u64;
            if end > offset {
                break;
            }
            self.start = end;
            self.kept.pop_front();
        }
    }

    /// Returns bytes from `at` on. If `may_stop`, returns [`Piece::Full`] when no more bytes may be kept; a request that
    /// has declared its length gets all of it. Bytes before `at` that were never read are skipped: the server has them
    /// from a previous run.
    pub(super) fn poll_at(
        &mut self,
        cx: &mut Context<'_>,
        at: u64,
        may_stop: bool,
    ) -> Poll<io::Result<Piece>> {
        loop {
            if at < self.end {
                return Poll::Ready(Ok(Piece::Bytes(self.kept_at(at))));
            }
            let is_skipping = at > self.end;
            if self.ended {
                let at_end = Ok(Piece::End);
                return Poll::Ready(if is_skipping {
                    Err(io::ErrorKind::UnexpectedEof.into())
                } else {
                    at_end
                });
            }
            if is_skipping {
                self.kept.clear();
                self.start = self.end;
            }
            if may_stop && self.end - self.start >= self.kept_bytes_max {
                return Poll::Ready(Ok(Piece::Full));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Reads more bytes, or the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.memory);
        ready!(Pin::new(&mut self.reader).poll_read(cx, &mut buffer))?;
        let read = Bytes::copy_from_slice(buffer.filled());
        self.ended = read.is_empty();
        if let Some(hash) = &mut self.hash {
            hash.update(&read);
        }
        self.end += read.len() as u64;
        if !read.is_empty() {
            self.kept.push_back(read);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns the rest of the piece that contains the byte at `at`.
    fn kept_at(&self, at: u64) -> Bytes {
        let mut start = self.start;
        for piece in &self.kept {
            let end = start + piece.len() as u64;
            if at < end {
                return piece.slice(usize::try_from(at - start).expect("within bytes in memory")..);
            }
            start = end;
        }
        Bytes::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(rewind: &mut RewindBuffer, at: u64) -> Option<Vec<u8>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match rewind.poll_at(&mut cx, at, true) {
            Poll::Ready(Ok(Piece::Bytes(bytes))) => Some(bytes.to_vec()),
            Poll::Ready(Ok(Piece::Full)) => Some(Vec::new()),
            Poll::Ready(Ok(Piece::End)) => None,
            other => panic!("{}", other.is_pending()),
        }
    }

    #[test]
    fn bytes_that_the_server_has_from_a_previous_run_are_skipped() {
        let content: Vec<u8> = (0..400_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        for at in [1, READ_BYTES, READ_BYTES + 1, 399_999] {
            let mut rewind = RewindBuffer::new(Box::new(io::Cursor::new(content.clone())), Some(400_000), 1);
            let first = next(&mut rewind, at as u64).expect("bytes");
            assert_eq!(first, content[at..at + first.len()], "{at}");
        }
        let mut rewind = RewindBuffer::new(Box::new(io::Cursor::new(content)), None, 200_000);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let beyond = rewind.poll_at(&mut cx, 400_001, true);
        assert!(matches!(beyond, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn unacknowledged_bytes_are_kept_up_to_a_limit_and_can_be_read_again() {
        let content: Vec<u8> = (0..400_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let mut rewind = RewindBuffer::new(Box::new(io::Cursor::new(content.clone())), None, 200_000);
        rewind.hash();
        let mut read = Vec::new();
        while let Some(piece) = next(&mut rewind, read.len() as u64) {
            if piece.is_empty() {
                break;
            }
            read.extend(piece);
        }
        assert_eq!(read.len(), 2 * READ_BYTES, "it stops when it is full");
        assert_eq!(next(&mut rewind, 100), Some(content[100..READ_BYTES].to_vec()));
        rewind.release(READ_BYTES as u64 + 5);
        assert!(rewind.reaches_back_to(READ_BYTES as u64 + 5) && !rewind.reaches_back_to(100));
        while let Some(piece) = next(&mut rewind, read.len() as u64) {
            read.extend(piece);
            rewind.release(read.len() as u64);
        }
        assert!(read == content);
        assert_eq!(rewind.ended_at(), Some(400_000));
        assert_eq!(rewind.sha256(), Some(Sha256::digest(&content).into()));
    }
}
