//! Sample values for tests, and numbers that follow from a seed.

use std::time::Duration;

use http::{HeaderMap, Method};

use crate::dialect::token::SEMANTICS;
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Composition, Family, Origin, Phase, Upload};

/// A pseudorandom generator (`SplitMix64`) that is the same on every platform. The field is its seed.
#[derive(Clone, Debug)]
pub struct SeededRng(pub u64);

impl SeededRng {
    /// Returns the next number.
    #[expect(clippy::should_implement_trait, reason = "an endless iterator would need adapters at each call")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which must not be zero.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    /// Returns true once in `times` calls, on average.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Returns a number from 0 to `most`, which is included.
    pub fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    /// Returns true in `chance` percent of the calls, on average.
    pub fn in_percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }

    /// Returns as many bytes as `count`.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Returns an open, empty upload of unknown length, created by a token for `/uploads`.
pub fn upload(id: UploadId) -> Upload {
    let created = Timestamp::from_millis(1_700_000_000_000);
    Upload {
        id,
        family: Family::Token,
        semantics: SEMANTICS,
        owner: None,
        composition: Composition::Direct,
        alias: None,
        file: None,
        origin: Origin { method: Method::POST, target: "/uploads".to_owned(), fields: HeaderMap::new() },
        created,
        touched: created,
        lifetime: Some(Duration::from_hours(1)),
        resumes: 0,
        events: Vec::new(),
        length: None,
        offset: Durable::ZERO,
        phase: Phase::Open,
    }
}
