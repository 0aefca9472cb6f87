//! The space that uploads may take on the volume of the data directory.
//!
//! Owns the headroom that stays free, and the checks that bytes fit. Reserves nothing: the declared length of an upload
//! takes no space from others before its bytes arrive.

use std::sync::atomic::{AtomicU64, Ordering};

use super::options::Headroom;
use super::sys::{self, Dir, Volume};
use crate::store::Error;

/// The volume of the data directory, and the space to keep free on it.
pub(super) struct FreeSpace {
    root: Dir,
    headroom: Headroom,
    /// Bytes that may be written before the file system is queried again.
    granted: AtomicU64,
}

impl FreeSpace {
    pub(super) fn new(root: Dir, headroom: Headroom) -> Self {
        Self { root, headroom, granted: AtomicU64::new(0) }
    }

    /// Returns the number of bytes that uploads may still take; `None` if the file system does not report it.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let volume = sys::volume(self.root.fd()).ok().flatten()?;
        Some(volume.available.saturating_sub(self.headroom_bytes(volume)))
    }

    /// Fails if `bytes` bytes do not fit. Writes nothing.
    pub(super) fn require(&self, bytes: u64) -> Result<(), Error> {
        if self.free_bytes().is_some_and(|left| bytes > left) { Err(Error::Full) } else { Ok(()) }
    }

    /// Returns how many of `bytes` bytes may be written now. Far from the limit, most calls do not query the file
    /// system.
    pub(super) fn grant(&self, bytes: u64) -> u64 {
        /// The most bytes written between two queries, so that the use of the volume by other programs is noticed soon.
        const GRANT_MAX: u64 = 64 * 1024 * 1024;
        if self.headroom.is_none() {
            return bytes;
        }
        let granted = |granted: u64| granted.checked_sub(bytes);
        if self.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, granted).is_ok() {
            return bytes;
        }
        let Some(left) = self.free_bytes() else { return bytes };
        // Only a fraction, because several uploads may get a grant at the same time.
        self.granted.store((left.saturating_sub(bytes) / 8).min(GRANT_MAX), Ordering::Release);
        left.min(bytes)
    }

    fn headroom_bytes(&self, volume: Volume) -> u64 {
        /// The most that a percentage amounts to. On a large volume it would be more than other programs need.
        const SHARE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
        match self.headroom {
            Headroom::Bytes(bytes) => bytes,
            Headroom::Percent(percent) => (volume.bytes / 100 * u64::from(percent)).min(SHARE_BYTES_MAX),
        }
    }
}
