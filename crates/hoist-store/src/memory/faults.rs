//! The faults of a [`MemoryStore`](super::MemoryStore), and the random numbers that trigger them.

use std::task::Poll;

/// The faults to simulate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// The probability, from 0 to 1, with which an operation fails with
    /// [`Error::Io`](crate::store::Error::Io) and changes nothing.
    pub error: f64,
    /// The number of bytes that fit into the store in all. Removing uploads frees nothing. By the seed, either the
    /// write that does not fit fails, or only the next one.
    pub full_after: Option<u64>,
    /// The number of times that an operation yields before and after it acts, at most.
    pub yields_max: u32,
}

impl Faults {
    /// No faults.
    pub const NONE: Self = Self { error: 0.0, full_after: None, yields_max: 0 };
}

impl Default for Faults {
    fn default() -> Self {
        Self::NONE
    }
}

/// A seeded random number generator (`SplitMix64`).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `bound`, or zero if `bound` is zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Returns true with the given probability.
    pub(super) fn hits(&mut self, probability: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "an f64 holds 53 bits exactly, and 32 are used")]
        let roll = (self.next() >> 32) as f64 / f64::from(u32::MAX);
        probability > 0.0 && roll <= probability
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Yields to other tasks once, on any executor.
pub(crate) async fn yield_now() {
    let mut is_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
