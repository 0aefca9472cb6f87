//! Joining uploads of a store in memory.
//!
//! Owns what may be joined onto what. Leaves the moment, which is one, to [`memory`](super).

use hoist_proto::types::{Fence, Offset, UploadId};

use super::Machine;
use crate::store::Error;

impl Machine {
    pub(super) fn join(&mut self, id: UploadId, parts: &[UploadId], fence: Fence) -> Result<Offset, Error> {
        let refused = |doing: &str| Error::Io {
            doing: doing.to_owned(),
            source: std::io::ErrorKind::InvalidInput.into(),
        };
        self.admit(id, fence)?;
        let kept = self.kept(id)?;
        kept.writer = 0;
        kept.drop_unverified();
        if kept.record.upload.is_complete() {
            return Err(Error::Missing);
        }
        if !kept.record.upload.composition.is_composed() || kept.stored() != Offset::ZERO {
            return Err(refused("joining parts onto what has content"));
        }
        let mut whole = Vec::new();
        for &part in parts {
            let part = self.kept(part)?;
            if !part.record.upload.is_complete() {
                return Err(refused("joining what is not complete"));
            }
            whole.extend_from_slice(part.content.as_ref().ok_or(Error::Missing)?);
        }
        let room = self.faults.full_after.map_or(u64::MAX, |most| most.saturating_sub(self.taken));
        let bytes = whole.len() as u64;
        if bytes > room {
            return Err(Error::Full);
        }
        self.taken += bytes;
        self.counts.joins += 1;
        let now = self.now;
        let kept = self.kept(id)?;
        kept.content = Some(whole);
        kept.written = kept.written.max(now);
        kept.sync()
    }
}
