//! The client's knowledge of the upload on the server.

use std::time::Duration;

use http::Uri;

use super::{Moment, Opening};
use crate::dialect::client::{ClientProperties, UploadLimits};
use crate::dialect::interop::Interop;
use crate::dialect::tus1::client::Checksum;

/// The most content under one digest at first. An interruption loses all of it, and halves the next.
const CHECKED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The least content under one digest that interruptions lead to.
const CHECKED_BYTES_MIN: u64 = 64 * 1024;

/// The upload on the server, as far as it is known.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, learnt one by one")]
#[derive(Clone, Debug)]
pub(super) struct RemoteUpload {
    pub(super) url: Option<Uri>,
    /// True if the server may have seen a creation.
    pub(super) maybe_created: bool,
    /// True if the server may have received the end of the representation. Never reset: the request may still be on its
    /// way.
    pub(super) maybe_complete: bool,
    pub(super) shows_support: bool,
    pub(super) knows_length: bool,
    pub(super) opening: Opening,
    pub(super) append_max: u64,
    pub(super) append_min: u64,
    expires: Option<Duration>,
    /// The digest that goes with content, and the most content under one digest.
    pub(super) checksum: Option<Checksum>,
    pub(super) checked_max: u64,
    /// Conflicts in a row.
    pub(super) conflicts: u8,
    /// Responses in a row to a query that carried no offset.
    pub(super) unclear: u8,
    /// The versions to try if the server refuses the current one.
    pub(super) alternatives: &'static [Interop],
}

impl RemoteUpload {
    pub(super) fn new(properties: &ClientProperties) -> Self {
        Self {
            url: None,
            maybe_created: false,
            maybe_complete: false,
            shows_support: !properties.degrades,
            knows_length: false,
            opening: Opening::AtOnce,
            append_max: u64::MAX,
            append_min: 0,
            expires: None,
            checksum: properties.checksum,
            checked_max: CHECKED_BYTES_MAX,
            conflicts: 0,
            unclear: 0,
            alternatives: &[],
        }
    }

    pub(super) fn forget(&mut self) {
        (self.url, self.knows_length, self.expires) = (None, false, None);
    }

    //= IETF-LIM-04
    pub(super) fn is_expired(&self, elapsed: Duration) -> bool {
        self.url.is_some() && self.expires.is_some_and(|expires| expires <= elapsed)
    }

    pub(super) fn expire_in(&mut self, lifetime: Duration, moment: Moment) {
        self.expires = Some(moment.elapsed.saturating_add(lifetime));
    }

    pub(super) fn limit(&mut self, limits: UploadLimits, moment: Moment) {
        self.append_max = limits.append_max.unwrap_or(self.append_max);
        self.append_min = limits.append_min.unwrap_or(self.append_min);
        if let Some(seconds) = limits.age_max {
            self.expire_in(Duration::from_secs(seconds), moment);
        }
    }

    pub(super) fn halve_checked(&mut self) {
        self.checked_max = (self.checked_max / 2).max(CHECKED_BYTES_MIN);
    }
}
