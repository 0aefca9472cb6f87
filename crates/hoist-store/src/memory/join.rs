//! Joining uploads of a store in memory.

use hoist_proto::types::{Fence, Offset, UploadId};

use super::machine::{Machine, refused};
use crate::store::Error;

impl Machine {
    pub(super) fn join(&mut self, id: UploadId, parts: &[UploadId], fence: Fence) -> Result<Offset, Error> {
        self.admit(id, fence)?;
        let stored = self.stored(id)?;
        stored.writer = 0;
        stored.drop_unverified();
        if stored.record.upload.is_complete() {
            return Err(Error::Missing);
        }
        if !stored.record.upload.composition.is_composed() || stored.offset() != Offset::ZERO {
            return Err(refused("joining parts onto an upload that has content"));
        }
        let mut content = Vec::new();
        for &part in parts {
            let part = self.stored(part)?;
            if !part.record.upload.is_complete() {
                return Err(refused("joining an incomplete part"));
            }
            content.extend_from_slice(part.content.as_ref().ok_or(Error::Missing)?);
        }
        let bytes = content.len() as u64;
        if bytes > self.free_bytes() {
            return Err(Error::Full);
        }
        self.accepted += bytes;
        self.counts.joins += 1;
        let now = self.now;
        let stored = self.stored(id)?;
        stored.content = Some(content);
        stored.written = stored.written.max(now);
        stored.sync()
    }
}
