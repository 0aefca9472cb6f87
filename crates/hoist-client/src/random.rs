//! Random numbers of the operating system.

use hoist_proto::client::token_of;
use hoist_proto::types::Token;

use crate::error::Error;

/// Returns a new token for one upload, with 256 bits from the operating system's random source.
///
/// # Errors
/// Returns [`Error::Random`] if that source fails, which no system does after it has booted.
//= TOK-TOKEN-06
pub fn random_token() -> Result<Token, Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(failed)?;
    Ok(token_of(bits))
}

/// Returns a uniformly distributed, unpredictable number.
pub(crate) fn number() -> Result<u64, Error> {
    getrandom::u64().map_err(failed)
}

fn failed(error: getrandom::Error) -> Error {
    Error::Random { source: std::io::Error::other(error) }
}
