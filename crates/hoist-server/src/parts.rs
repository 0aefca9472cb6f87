//! Uploads composed of others: their creation, their parts and the joining of these.
//!
//! The order of claims keeps two requests from waiting for each other: the holder of a composed upload's claim may ask for
//! the claims of its parts, never the reverse. The rules for parts are the engine's.

mod composed;
mod indexed;

pub(crate) use indexed::{ClaimedParent, IndexedPart, RegisteredPart};

#[cfg(test)]
mod tests;
