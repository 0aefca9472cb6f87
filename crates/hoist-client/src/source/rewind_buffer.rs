//! A stream, of which what the server has not acknowledged is kept.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// What there is at an offset.
pub(super) enum Piece {
    Bytes(Bytes),
    /// No more may be kept, so no more is read.
    Full,
    /// The stream has ended there.
    End,
}

/// A stream, and the bytes of it that may be asked for again.
pub(super) struct RewindBuffer {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is going to give, if that is known.
    length: Option<u64>,
    memory: Vec<u8>,
    kept: VecDeque<Bytes>,
    /// The offset of the first byte kept, and the one behind the last.
    start: u64,
    end: u64,
    keeps: u64,
    ended: bool,
    hash: Option<Sha256>,
}

impl RewindBuffer {
    pub(super) fn new(reader: Box<dyn AsyncRead + Send + Unpin>, length: Option<u64>, keeps: u64) -> Self {
        let (memory, kept) = (vec![0; READ_BYTES], VecDeque::new());
        Self { reader, length, memory, kept, start: 0, end: 0, keeps, ended: false, hash: None }
    }

    pub(super) fn hash(&mut self) {
        self.hash = Some(Sha256::new());
    }

    /// The digest of everything, once it has ended.
    pub(super) fn sha256(&self) -> Option<[u8; 32]> {
        let is_over = self.ended || self.length == Some(self.end);
        self.hash.clone().filter(|_| is_over).map(|hash| hash.finalize().into())
    }

    pub(super) fn ended_at(&self) -> Option<u64> {
        self.ended.then_some(self.end)
    }

    pub(super) fn reaches_back_to(&self, offset: u64) -> bool {
        offset >= self.start
    }

    pub(super) fn release(&mut self, offset: u64) {
        while let Some(first) = self.kept.front() {
            let end = self.start + first.len() as u64;
            if end > offset {
                break;
            }
            self.start = end;
            self.kept.pop_front();
        }
    }

    /// The bytes from `at` on. A request that `may_stop` is told that no more may be kept; one that has declared its length
    /// is given all of it. Bytes before `at` that were never read are skipped: the server has them from an earlier run.
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
            match (self.ended, at > self.end) {
                (true, false) => return Poll::Ready(Ok(Piece::End)),
                (true, true) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                (false, is_skipping) => {
                    if is_skipping {
                        self.kept.clear();
                        self.start = self.end;
                    }
                }
            }
            if may_stop && self.end - self.start >= self.keeps {
                return Poll::Ready(Ok(Piece::Full));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Reads one piece more, or the end.
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

    fn kept_at(&self, at: u64) -> Bytes {
        let mut start = self.start;
        for piece in &self.kept {
            let end = start + piece.len() as u64;
            if at < end {
                return piece.slice(usize::try_from(at - start).expect("within what is in memory")..);
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
    fn what_the_server_has_from_an_earlier_run_is_skipped() {
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
    fn what_is_not_acknowledged_can_be_read_again_and_is_bounded() {
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
        assert_eq!(read.len(), 2 * READ_BYTES, "it stops where it is full");
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
