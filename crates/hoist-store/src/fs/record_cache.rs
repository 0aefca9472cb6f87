//! The records of uploads that are not in use, for queries.
//!
//! Owns the bounds of the cache: a number of uploads and a number of bytes. The least recently used record leaves
//! first. Leaves the validity of records to [`entry`](super::entry).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hoist_proto::types::{Durable, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Phase, Upload};
use http::{HeaderMap, HeaderValue};

use crate::record::Record;

/// The end of a content of which every byte is durable, the upload's names included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) offset: Durable,
    /// The time of the last byte; `None` if there is none.
    pub(super) changed: Option<Timestamp>,
}

/// The stored state of an upload: the record and the end of its content.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) record: Arc<Record>,
    pub(super) end: End,
}

impl Stored {
    /// Returns the upload as a load reads it from the files.
    pub(super) fn upload(&self) -> Upload {
        let Record { upload, discarded } = &*self.record;
        let End { offset, changed } = match *discarded {
            #[expect(clippy::disallowed_methods, reason = "a store; the record that states it is durable")]
            Some(offset) => End { offset: Durable::attest(offset), changed: None },
            None => self.end,
        };
        let touched = changed.map_or(upload.touched, |changed| changed.max(upload.touched));
        Upload { offset, touched, ..upload.clone() }
    }

    /// Returns about how much memory the record takes.
    fn memory_bytes(&self) -> usize {
        let upload = &self.record.upload;
        let origin = &upload.origin;
        let mut bytes = ENTRY_BYTES + origin.target.len() + origin.fields.capacity() * FIELD_BYTES;
        if let Composition::Indexed(parts) = &upload.composition {
            bytes += parts.started.ranges().count() * size_of::<(u16, u16)>();
        }
        for event in &upload.events {
            bytes += size_of_val(event) + size_of_val(&event.sinks[..]);
            if let Some(request) = &event.request {
                let fields = request.fields.iter().map(|(name, value)| name.as_str().len() + value.len());
                bytes += request.uri.len() + request.remote.len() + fields.sum::<usize>();
                bytes += request.fields.capacity() * FIELD_BYTES;
            }
        }
        if let Phase::Delivered(answer) | Phase::Failed(answer) = &upload.phase {
            bytes += answer.content.len() + answer.fields.capacity() * FIELD_BYTES;
        }
        bytes + usize::try_from(upload.record_bytes()).unwrap_or(usize::MAX)
    }
}

/// The memory of an entry without what its upload points to. A map has up to twice as many places as entries.
pub(super) const ENTRY_BYTES: usize = size_of::<Record>() + 2 * (size_of::<(UploadId, Entry)>() + 1) + 64;

/// The memory of a header field without its name and value.
const FIELD_BYTES: usize = 112;

/// Copies the values of fields, which may be slices of the buffer in which a whole request arrived.
pub(super) fn copy_values(fields: &mut HeaderMap) {
    for value in fields.values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

/// A bounded map from ids to records.
pub(super) struct RecordCache {
    entries: HashMap<UploadId, Entry>,
    /// The ids by their last use.
    by_use: BTreeMap<u64, UploadId>,
    uses: u64,
    bytes: usize,
    uploads_max: usize,
    bytes_max: usize,
}

struct Entry {
    used: u64,
    bytes: usize,
    stored: Stored,
}

impl RecordCache {
    pub(super) fn new(uploads_max: usize, bytes_max: usize) -> Self {
        let (entries, by_use) = (HashMap::new(), BTreeMap::new());
        Self { entries, by_use, uses: 0, bytes: 0, uploads_max, bytes_max }
    }

    /// Returns a record, which is the most recently used one from then on.
    pub(super) fn get(&mut self, id: UploadId) -> Option<Stored> {
        let entry = self.entries.get_mut(&id)?;
        self.uses += 1;
        self.by_use.remove(&entry.used);
        self.by_use.insert(self.uses, id);
        entry.used = self.uses;
        Some(entry.stored.clone())
    }

    /// Returns the time at which an upload was created. Does not count as a use.
    pub(super) fn creation(&self, id: UploadId) -> Option<Timestamp> {
        self.entries.get(&id).map(|entry| entry.stored.record.upload.created)
    }

    pub(super) fn take(&mut self, id: UploadId) -> Option<Stored> {
        let entry = self.entries.remove(&id)?;
        self.by_use.remove(&entry.used);
        self.bytes -= entry.bytes;
        Some(entry.stored)
    }

    /// Adds a record, and removes the least recently used ones that no longer fit. A record that does not fit on its
    /// own is not added.
    pub(super) fn insert(&mut self, id: UploadId, stored: Stored) {
        drop(self.take(id));
        let bytes = stored.memory_bytes();
        if bytes > self.bytes_max || self.uploads_max == 0 {
            return;
        }
        while self.entries.len() >= self.uploads_max || self.bytes > self.bytes_max - bytes {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            drop(self.take(oldest));
        }
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, id);
        self.entries.insert(id, Entry { used: self.uses, bytes, stored });
    }
}
