//! Who makes a request.
//!
//! Owns the question and its ready-made answers; leaves to the engine what a principal may see (its own uploads).

use hoist_proto::refusal::Refusal;
use hoist_proto::types::Principal;
use hoist_store::store::Pending;
use http::request::Parts;

/// Says who makes a request, from its header section.
pub trait Authenticator: Send + Sync + 'static {
    /// The principal of a request, or `None` for anonymous peers where they are welcome.
    ///
    /// # Errors
    /// A refusal, 401 or 403, that goes to the peer as it is.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn admit<'a>(&'a self, head: &'a Parts) -> Pending<'a, Result<Option<Principal>, Refusal>>;
}

/// Lets anybody in and tells nobody apart. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authenticator for Anyone {
    fn admit<'a>(&'a self, _: &'a Parts) -> Pending<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
