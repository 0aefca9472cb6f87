//! The uploads whose last transfer ended in order, by which a resumption is told from the next request of a series.
//!
//! Kept in memory and bounded. An upload that is not known here was interrupted, by a failure or by a restart of the server.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use hoist_proto::types::UploadId;

use crate::locked;

/// More than the default of `--max-open-uploads`.
const REMEMBERED_MAX: usize = 16_384;

#[derive(Default)]
pub(crate) struct OrderlyEnds(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    ids: HashSet<UploadId>,
    /// In the order of their entries. May hold ids that were taken since.
    order: VecDeque<UploadId>,
}

impl OrderlyEnds {
    /// Notes that a transfer to an open upload has ended in order.
    pub(crate) fn note(&self, id: UploadId) {
        let mut memory = locked(&self.0);
        if memory.ids.insert(id) {
            memory.order.push_back(id);
        }
        while memory.order.len() > REMEMBERED_MAX {
            let Some(oldest) = memory.order.pop_front() else { break };
            memory.ids.remove(&oldest);
        }
    }

    /// Returns whether the last transfer to an upload ended in order, and forgets it.
    pub(crate) fn take(&self, id: UploadId) -> bool {
        locked(&self.0).ids.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_taken_once_and_the_oldest_are_dropped() {
        let ends = OrderlyEnds::default();
        let id = |number: u64| {
            let mut bits = [0; 16];
            bits[..8].copy_from_slice(&number.to_be_bytes());
            UploadId::from_bits(bits)
        };
        ends.note(id(1));
        assert!(ends.take(id(1)) && !ends.take(id(1)));
        for number in 0..=REMEMBERED_MAX as u64 {
            ends.note(id(number));
        }
        assert!(!ends.take(id(0)) && ends.take(id(REMEMBERED_MAX as u64)));
        assert!(locked(&ends.0).order.len() <= REMEMBERED_MAX);
    }
}
