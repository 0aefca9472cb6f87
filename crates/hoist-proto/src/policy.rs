//! The numbers that bound everything a peer can ask for.
//!
//! Owns the limits of single uploads and their life times; the bounds of a connection are the transport's, those over
//! many uploads together are the server's.

use std::time::Duration;

/// What this server allows one upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Sizes.
    pub limits: Limits,
    /// How long an unfinished upload lives after its last byte; for ever when absent. Default: seven days.
    pub lifetime: Option<Duration>,
    /// How long a complete upload's record (and its content, where the target leaves it in the store) is kept; for ever
    /// when absent. Default: for ever.
    pub retention: Option<Duration>,
    /// The fewest octets a token may have. Default 1, so that the draft's own example works.
    pub token_octets_min: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lifetime: Some(Duration::from_hours(7 * 24)),
            retention: None,
            token_octets_min: 1,
        }
    }
}

/// Sizes of uploads and of single requests, in bytes. By default there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest representation.
    pub size_max: Option<u64>,
    /// The smallest representation for which resuming is offered; smaller ones are accepted all the same.
    pub size_min: u64,
    /// The largest content of one request.
    pub append_max: Option<u64>,
    /// The smallest content of one request that is not the last and not an empty creation.
    pub append_min: u64,
}

impl Limits {
    /// Those that bind, under their names in `Upload-Limit`; `min-size` always, so that the list is never empty.
    pub fn members(&self) -> Vec<(&'static str, u64)> {
        let members = [
            ("max-size", self.size_max),
            ("min-size", Some(self.size_min)),
            ("max-append-size", self.append_max),
            ("min-append-size", Some(self.append_min).filter(|least| *least > 0)),
        ];
        members.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
    }
}
