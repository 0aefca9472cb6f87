//! The properties of uploads that a listing reports.

use hoist_proto::types::{Length, Offset, Principal, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Family, Interruption, Origin, Phase, SinkKey, Upload};

use super::outbox::sinks_of;

/// One of the two groups that a store lists separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadGroup {
    /// Uploads that accept more bytes. May contain complete ones that a crash left there.
    Open,
    /// Complete uploads.
    Complete,
}

/// The properties of an upload that a listing reports.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct UploadSummary {
    /// The upload's id.
    pub id: UploadId,
    /// The principal that created the upload.
    pub owner: Option<Principal>,
    /// The family of the dialect that created it.
    pub family: Family,
    /// The request that created it.
    pub origin: Origin,
    /// The source of the content: requests of its own, or parts.
    pub composition: Composition,
    /// Bytes stored, durable or not.
    pub stored: Offset,
    /// Bytes of the whole representation, if known.
    pub length: Option<Length>,
    /// Bytes of the creation request's fields and of the part ids in the record. Counted against quotas.
    pub record_bytes: u64,
    /// True if the upload accepts more bytes.
    pub is_open: bool,
    /// True if a later request can resume the upload. An open upload that cannot be resumed ends with its only request.
    pub can_resume: bool,
    /// True if the content is complete and the target has not answered: work that a crash left behind.
    pub awaits_delivery: bool,
    /// True if the upload has failed for good.
    pub has_failed: bool,
    /// The time of the creation.
    pub created: Timestamp,
    /// The time at which the upload expires, if it does.
    pub expires: Option<Timestamp>,
    /// The time of the last change.
    pub touched: Timestamp,
    /// The sinks of its events, once for each event that the sink has not received.
    pub pending_sinks: Vec<SinkKey>,
}

impl From<Upload> for UploadSummary {
    fn from(upload: Upload) -> Self {
        Self {
            id: upload.id,
            stored: upload.offset.offset(),
            is_open: !upload.is_complete(),
            can_resume: upload.semantics.interruption == Interruption::Resumes,
            awaits_delivery: upload.awaits_delivery(),
            has_failed: matches!(upload.phase, Phase::Failed(_)),
            created: upload.created,
            expires: upload.expires(),
            touched: upload.touched,
            pending_sinks: sinks_of(&upload.events),
            length: upload.length,
            record_bytes: upload.record_bytes(),
            family: upload.family,
            owner: upload.owner,
            origin: upload.origin,
            composition: upload.composition,
        }
    }
}
