//! The views of uploads and transfers that the operator gets. They own their values, and hold no claim.

use std::net::IpAddr;
use std::time::Duration;

use hoist_proto::types::{Length, Offset, Principal, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Family, Phase, Upload};
use hoist_store::store::UploadSummary;

use crate::claim::Transfer;
use crate::clock::Clock;
use crate::filename;

/// The state of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadState {
    /// More content can be appended.
    Open,
    /// All content is stored, and the target has not answered yet.
    Received,
    /// The target has accepted the content, or the upload is a part that waits for the others.
    Complete,
    /// The target has rejected the content, or it did not match its digest.
    Failed,
}

impl UploadState {
    /// Returns the name. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Received => "received",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// The content that an upload is part of, or consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadKind {
    /// An upload with content of its own.
    Single,
    /// A part of other uploads.
    Part,
    /// An upload that consists of parts.
    Whole,
}

impl UploadKind {
    /// Returns the name. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Part => "part",
            Self::Whole => "whole",
        }
    }

    fn of(composition: &Composition) -> Self {
        match composition {
            Composition::Direct => Self::Single,
            Composition::Part => Self::Part,
            Composition::Concatenated(_) | Composition::Indexed(_) => Self::Whole,
        }
    }
}

/// An upload at a moment.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UploadView {
    /// The id within the server. A capability in some configurations: show it to operators only.
    pub id: UploadId,
    /// The state.
    pub state: UploadState,
    /// The kind.
    pub kind: UploadKind,
    /// The family of the dialect that created it.
    pub family: Family,
    /// The principal that created it.
    pub owner: Option<Principal>,
    /// The name that the client gave the content, made safe for file systems.
    pub name: Option<String>,
    /// The number of stored bytes. In a listing some of them may not be durable yet.
    pub offset: Offset,
    /// The length of the representation, if known.
    pub length: Option<Length>,
    /// The time of the creation.
    pub created: Timestamp,
    /// The time of the last change.
    pub touched: Timestamp,
    /// The time at which it expires, if it does.
    pub expires: Option<Timestamp>,
    /// The transfer that is running on it.
    pub transfer: Option<TransferView>,
}

/// A running transfer at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferView {
    /// The address of the client, as far as trusted proxies know it.
    pub client: Option<IpAddr>,
    /// The time since the transfer began.
    pub duration: Duration,
    /// The bytes of this transfer that the store has accepted.
    pub bytes: u64,
    /// The rate of the last one to two seconds.
    pub bytes_per_second: u64,
}

impl From<&Transfer> for TransferView {
    fn from(Transfer { gauge, .. }: &Transfer) -> Self {
        Self {
            client: gauge.client,
            duration: gauge.duration(),
            bytes: gauge.bytes(),
            bytes_per_second: gauge.bytes_per_second(),
        }
    }
}

impl UploadView {
    /// Returns the path of the upload URL below an endpoint; `None` for a token upload, which has none.
    pub fn path(&self, endpoint: &str) -> Option<String> {
        (self.family != Family::Token).then(|| format!("{}/{}", endpoint.trim_end_matches('/'), self.id))
    }

    /// Returns the view of an upload whose times are right for the present clock.
    pub(crate) fn of(upload: &Upload, endpoint: &str) -> Self {
        let state = match upload.phase {
            _ if upload.awaits_delivery() => UploadState::Received,
            Phase::Open => UploadState::Open,
            Phase::Received => UploadState::Received,
            Phase::Delivered(_) => UploadState::Complete,
            Phase::Failed(_) => UploadState::Failed,
        };
        Self {
            id: upload.id,
            state,
            kind: UploadKind::of(&upload.composition),
            family: upload.family,
            owner: upload.owner.clone(),
            name: filename::of(&upload.origin, endpoint),
            offset: upload.offset.offset(),
            length: upload.length,
            created: upload.created,
            touched: upload.touched,
            expires: upload.expires(),
            transfer: None,
        }
    }

    /// Returns the view of an upload as a store lists it.
    pub(crate) fn listed(summary: UploadSummary, clock: &Clock, endpoint: &str) -> Self {
        let touched = clock.present(summary.touched);
        Self {
            id: summary.id,
            state: state_listed(&summary),
            kind: UploadKind::of(&summary.composition),
            family: summary.family,
            name: filename::of(&summary.origin, endpoint),
            owner: summary.owner,
            offset: summary.stored,
            length: summary.length,
            created: summary.created,
            touched,
            expires: summary.expires.map(|expires| touched.plus(expires.until(summary.touched))),
            transfer: None,
        }
    }
}

/// Returns the state of an upload as a store lists it.
pub(crate) fn state_listed(summary: &UploadSummary) -> UploadState {
    match summary {
        UploadSummary { awaits_delivery: true, .. } => UploadState::Received,
        UploadSummary { is_open: true, .. } => UploadState::Open,
        UploadSummary { has_failed: true, .. } => UploadState::Failed,
        UploadSummary { .. } => UploadState::Complete,
    }
}
