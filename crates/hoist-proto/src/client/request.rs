//! The content of the next request.

use std::ops::Range;

use super::{Aim, Opening, Uploader};
use crate::dialect::client::{CreationContent, Naming};
use crate::operation::Finish;
use crate::types::{Length, Offset};
use crate::upload::Completion;

/// The content of the request in flight.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight {
    pub(super) range: Range<u64>,
    pub(super) is_open: bool,
    /// `Here` if the request says that its content is the last of the representation.
    pub(super) finish: Finish,
    pub(super) states_length: bool,
    /// True if repeating the request has the same effect as making it once.
    pub(super) is_idempotent: bool,
    pub(super) sent: u64,
}

impl InFlight {
    pub(super) fn bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    pub(super) fn start(&self) -> Offset {
        Offset::new(self.range.start)
    }

    pub(super) fn sent_end(&self) -> Offset {
        Offset::new(self.range.start.saturating_add(self.sent))
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.bytes()
    }

    pub(super) fn is_last(&self) -> bool {
        self.finish == Finish::Here
    }
}

impl Uploader {
    /// Returns whether the next request carries content, which may be empty.
    pub(super) fn has_content(&self) -> bool {
        match (self.aim, self.properties.creation_content) {
            (Aim::Create, CreationContent::Full) | (Aim::Append | Aim::Replay, _) => true,
            (Aim::Create, CreationContent::Small(_) | CreationContent::None) => self.request.bytes() > 0,
            (Aim::Query | Aim::Cancel(_) | Aim::Done | Aim::Failed(_), _) => false,
        }
    }

    pub(super) fn next_request(&self) -> InFlight {
        let range = self.next_range();
        let is_open = self.length.is_none() && !range.is_empty();
        let is_creation = self.aim == Aim::Create;
        let ends_at_length = self.length.is_some_and(|length| range.end == length.get());
        let is_last = match self.properties.completion {
            // No request says that it is the last.
            Completion::AtLength => false,
            _ if self.properties.naming == Naming::Unnamed => true,
            _ => self.aim == Aim::Replay || ends_at_length && !(is_creation && self.opens_carefully()),
        };
        let owes_length = self.properties.completion == Completion::AtLength && !self.remote.knows_length;
        InFlight {
            range,
            is_open,
            finish: if is_last { Finish::Here } else { Finish::Later },
            states_length: self.length.is_some() && (is_creation || owes_length),
            ..InFlight::default()
        }
    }

    fn next_range(&self) -> Range<u64> {
        let start = if self.aim == Aim::Create { 0 } else { self.at.get() };
        let bytes_max = match self.aim {
            Aim::Create if self.opens_carefully() => 0,
            Aim::Create | Aim::Append => self.request_bytes_max(),
            Aim::Query | Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_) => 0,
        };
        let length = self.length.map_or(u64::MAX, Length::get);
        let end = length.min(start.saturating_add(bytes_max)).max(start);
        match self.properties.creation_content {
            CreationContent::Small(most) if self.aim == Aim::Create && end > most => 0..0,
            CreationContent::None if self.aim == Aim::Create => 0..0,
            CreationContent::Full | CreationContent::Small(_) | CreationContent::None => start..end,
        }
    }

    /// Returns the most bytes of content in one request. The server's limits override `content_max`.
    //= IETF-LIM-03, TUS1-PATCH-08
    fn request_bytes_max(&self) -> u64 {
        if self.properties.naming == Naming::Unnamed {
            return u64::MAX;
        }
        let limits = &self.remote;
        let checked_max = limits.checksum.map_or(u64::MAX, |_| limits.checked_max);
        self.content_max.max(limits.append_min).min(limits.append_max).min(checked_max).max(1)
    }

    fn opens_carefully(&self) -> bool {
        self.remote.opening == Opening::Careful
    }
}
