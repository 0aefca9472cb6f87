//! What goes wrong on a [`MemoryStore`](super::MemoryStore), and the dice that say when.
//!
//! Owns the seeded numbers. Leaves what a fault does to the store.

use std::pin::Pin;
use std::task::{Context, Poll};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// How likely each operation is to fail with [`Error::Io`](crate::store::Error::Io) and to change nothing: from 0,
    /// never, to 1.
    pub error: f64,
    /// How many bytes fit in all, for ever. By the seed, the write that does not fit is told so, or only the next one.
    pub full_after: Option<u64>,
    /// How often an operation lets others run before and after it acts, at most.
    pub yields_max: u32,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self { error: 0.0, full_after: None, yields_max: 0 };
}

impl Default for Faults {
    fn default() -> Self {
        Self::NONE
    }
}

/// Numbers by a seed (SplitMix64): the same everywhere, and quite enough for a simulation.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; zero when there is none.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// Whether something of this likelihood happens now.
    pub(super) fn hits(&mut self, likelihood: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits of it are kept, and 32 are asked for")]
        let roll = (self.next() >> 32) as f64 / f64::from(u32::MAX);
        likelihood > 0.0 && roll <= likelihood
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A future that lets others run this many times.
pub(super) struct Yields(pub(super) u64);

impl Future for Yields {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.0.checked_sub(1) {
            None => Poll::Ready(()),
            Some(left) => {
                self.0 = left;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}
