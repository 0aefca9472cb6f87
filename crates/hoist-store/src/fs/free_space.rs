//! The space that the volume has for uploads.
//!
//! Owns the headroom that uploads leave free, and the checks that bytes fit. Reserves nothing: the declared length of
//! an upload takes no space from other uploads before its bytes arrive.

use std::sync::atomic::{AtomicU64, Ordering};

use super::options::Headroom;
use super::sys::{self, Dir, Volume};
use crate::store::Error;

/// The volume of the data directory.
pub(super) struct FreeSpace {
    root: Dir,
    headroom: Headroom,
    /// Bytes that may be written before the file system is asked again.
    granted: AtomicU64,
}

impl FreeSpace {
    pub(super) fn new(root: Dir, headroom: Headroom) -> Self {
        Self { root, headroom, granted: AtomicU64::new(0) }
    }

    /// The number of bytes that uploads may still take; `None` if the file system does not report it.
    pub(super) fn left(&self) -> Option<u64> {
        let volume = sys::volume(self.root.fd()).ok().flatten()?;
        Some(volume.available.saturating_sub(self.kept_free(volume)))
    }

    /// Refuses what cannot fit, without touching the disk.
    pub(super) fn require(&self, bytes: u64) -> Result<(), Error> {
        if self.left().is_some_and(|left| bytes > left) { Err(Error::Full) } else { Ok(()) }
    }

    /// Returns how many of `bytes` bytes may be written now. Far from the limit, most calls do not query the file
    /// system.
    pub(super) fn take(&self, bytes: u64) -> u64 {
        /// The most that is written between two looks, so that other programs on the volume are noticed soon.
        const GRANT_MAX: u64 = 64 * 1024 * 1024;
        if self.headroom.is_none() {
            return bytes;
        }
        let granted = |granted: u64| granted.checked_sub(bytes);
        if self.granted.fetch_update(Ordering::AcqRel, Ordering::Acquire, granted).is_ok() {
            return bytes;
        }
        let Some(left) = self.left() else { return bytes };
        // Grants a fraction only, because several uploads may do the same at this moment.
        self.granted.store((left.saturating_sub(bytes) / 8).min(GRANT_MAX), Ordering::Release);
        left.min(bytes)
    }

    fn kept_free(&self, volume: Volume) -> u64 {
        /// A percentage of a large volume would be more than anything needs to go on.
        const SHARE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
        match self.headroom {
            Headroom::Bytes(bytes) => bytes,
            Headroom::Percent(percent) => (volume.bytes / 100 * u64::from(percent)).min(SHARE_BYTES_MAX),
        }
    }
}
