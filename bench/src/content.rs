//! The content of uploads, and its comparison with what a server stored.
//!
//! The bytes repeat with a period that no size of a buffer divides, so a buffer that is lost, swapped or repeated
//! changes the content.

use bytes::Bytes;
use hoist_proto::testing::SeededRng;
use sha2::{Digest as _, Sha256};

/// A prime, in bytes.
const PERIOD: u64 = 1_052_641;

/// The endless content that every upload begins.
#[derive(Clone)]
pub(crate) struct Content {
    /// Two periods, so that a piece of up to one period is a slice, wherever it begins.
    bytes: Bytes,
}

impl Content {
    /// The largest piece, in bytes.
    pub(crate) const PIECE_MAX: u64 = 1 << 20;

    pub(crate) fn new() -> Self {
        let period = SeededRng(12).bytes(usize::try_from(PERIOD).expect("about a million"));
        Self { bytes: Bytes::from([period.as_slice(), period.as_slice()].concat()) }
    }

    /// Returns the bytes from `at` on, at most [`PIECE_MAX`](Self::PIECE_MAX) of them.
    pub(crate) fn piece(&self, at: u64, count: u64) -> Bytes {
        assert!(count <= Self::PIECE_MAX, "a piece of {count} bytes");
        let start = usize::try_from(at % PERIOD).expect("below the period");
        self.bytes.slice(start..start + usize::try_from(count).expect("below the period"))
    }

    /// Returns the pieces between two offsets, in order, with the offset of each.
    pub(crate) fn pieces(&self, from: u64, until: u64, count: u64) -> impl Iterator<Item = Bytes> {
        let step = usize::try_from(count).expect("at most a piece");
        (from..until).step_by(step).map(move |at| self.piece(at, count.min(until - at)))
    }

    /// Returns whether these are the bytes from `at` on.
    pub(crate) fn is_at(&self, at: u64, bytes: &[u8]) -> bool {
        let mut position = at;
        bytes.chunks(1 << 20).all(|chunk| {
            let expected = self.piece(position, chunk.len() as u64);
            position += chunk.len() as u64;
            expected == chunk
        })
    }

    /// Returns the SHA-256 of the first bytes.
    pub(crate) fn sha256(&self, length: u64) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for piece in self.pieces(0, length, Self::PIECE_MAX) {
            hasher.update(&piece);
        }
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_and_repeated_buffers_are_found() {
        let content = Content::new();
        let buffers: Vec<Bytes> = content.pieces(0, 3 << 20, 1 << 18).collect();
        assert!(content.is_at(0, &buffers.concat()));
        assert!(content.is_at(7, &content.piece(7, 100)));
        for (at, other) in [(1, 2), (0, 4), (5, 1)] {
            let mut wrong = buffers.clone();
            wrong[at] = buffers[other].clone();
            assert!(!content.is_at(0, &wrong.concat()), "{at} replaced by {other}");
        }
    }
}
