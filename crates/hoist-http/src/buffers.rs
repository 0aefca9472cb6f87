//! The read buffers of a server's connections.
//!
//! Owns the buffers that wait to be used again. On the first touch of a page the system has to find and clear it, which
//! costs more than to receive the bytes.

use std::sync::Mutex;

use crate::sync::lock;

/// Large read buffers that no connection uses.
#[derive(Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

/// The most buffers that are kept.
const KEPT_MAX: usize = 16;

/// The capacity from which on a buffer is kept. The allocator is as good for smaller ones.
const KEPT_BYTES_MIN: usize = 128 << 10;

impl Buffers {
    /// Returns an empty buffer with room for at least `bytes` bytes.
    pub(crate) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes >= KEPT_BYTES_MIN
            && let Some(buffer) = lock(&self.0).pop_if(|buffer| buffer.capacity() >= bytes)
        {
            return buffer;
        }
        Vec::with_capacity(bytes)
    }

    /// Keeps a buffer that is not needed, or frees it.
    pub(crate) fn give_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < KEPT_BYTES_MIN {
            return;
        }
        buffer.clear();
        let mut kept = lock(&self.0);
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_used_again_and_their_number_is_bounded() {
        let buffers = Buffers::default();
        let mut large = buffers.take(256 << 10);
        large.extend_from_slice(b"bytes");
        let address = large.as_ptr();
        buffers.give_back(large);
        buffers.give_back(Vec::with_capacity(8 << 10));
        let small = buffers.take(8 << 10);
        assert_ne!(small.as_ptr(), address);
        let larger = buffers.take(512 << 10);
        assert_ne!(larger.as_ptr(), address, "it is too small");
        let again = buffers.take(256 << 10);
        assert!(again.is_empty() && again.as_ptr() == address);
        for _ in 0..2 * KEPT_MAX {
            buffers.give_back(Vec::with_capacity(256 << 10));
        }
        assert_eq!(lock(&buffers.0).len(), KEPT_MAX);
    }
}
