//! [`Policy`] and [`Limits`]: the bounds on one upload.

use std::time::Duration;

/// The sizes and times that a server allows an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The bounds on sizes.
    pub limits: Limits,
    /// The time for which an incomplete upload is kept after its last byte; forever if `None`. Default: seven days.
    pub lifetime: Option<Duration>,
    /// The time for which the record of a complete upload is kept, and its content if that stays in the store; forever
    /// if `None`, the default.
    pub retention: Option<Duration>,
    /// The minimum number of octets of a token. Default 1, so that the draft's own example works.
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

/// Bounds on the sizes of uploads and of single requests, in bytes. By default, only the largest length that the dialects
/// can express is a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The maximum size of a representation.
    pub size_max: Option<u64>,
    /// The minimum size of a representation for which resuming is offered. Smaller ones are accepted.
    pub size_min: u64,
    /// The maximum size of one request's content.
    pub append_max: Option<u64>,
    /// The minimum size of one request's content, unless it is the last or an empty creation.
    pub append_min: u64,
}

impl Limits {
    /// Returns the limits that are set, under their names in `Upload-Limit`. `min-size` is always one, so that the list
    /// is never empty.
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
