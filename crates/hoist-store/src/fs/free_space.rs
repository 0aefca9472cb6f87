//! The space that uploads may take on the volume of the data directory.
//!
//! Owns the headroom that stays free, and the checks that bytes fit. Reserves nothing: the declared length of an upload
//! takes no space from others before its bytes arrive.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::data_dir::DataDir;
use super::options::Headroom;
use super::sys::{self, Volume};
use crate::store::Error;

impl DataDir {
    /// Returns the number of bytes that uploads may still take; `None` if the file system does not report it.
    pub(super) fn free_bytes(&self) -> Option<u64> {
        let volume = sys::volume(&self.root.0).ok().flatten()?;
        Some(volume.available.saturating_sub(self.headroom_bytes(volume)))
    }

    /// Returns whether the space for uploads is used up, or so nearly that the store is not ready for new ones. Once that is
    /// so, it takes twice the space to be ready again, so that the answer does not alternate.
    pub(super) fn is_nearly_full(&self) -> bool {
        /// The most space that has to be left.
        const FLOOR_BYTES_MAX: u64 = 64 * 1024 * 1024;
        let Some(volume) = sys::volume(&self.root.0).ok().flatten() else { return false };
        let left = volume.available.saturating_sub(self.headroom_bytes(volume));
        let floor = (volume.bytes / 100).min(FLOOR_BYTES_MAX);
        let limit = if self.was_nearly_full.load(Ordering::Relaxed) { 2 * floor } else { floor };
        let is_nearly_full = left <= limit;
        self.was_nearly_full.store(is_nearly_full, Ordering::Relaxed);
        is_nearly_full
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
        if matches!(self.headroom(), Headroom::Bytes(0) | Headroom::Percent(0)) {
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

    /// Changes the headroom.
    pub(super) fn set_headroom(&self, headroom: Headroom) {
        *self.headroom.lock().unwrap_or_else(PoisonError::into_inner) = headroom;
        self.granted.store(0, Ordering::Release);
    }

    fn headroom(&self) -> Headroom {
        *self.headroom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headroom_bytes(&self, volume: Volume) -> u64 {
        /// The most that a percentage amounts to. On a large volume it would be more than other programs need.
        const SHARE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
        match self.headroom() {
            Headroom::Bytes(bytes) => bytes,
            Headroom::Percent(percent) => (volume.bytes / 100 * u64::from(percent)).min(SHARE_BYTES_MAX),
        }
    }
}
