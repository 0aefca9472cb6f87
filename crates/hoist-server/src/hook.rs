//! Hooks: decisions of the operator at fixed points in the life of an upload.

pub mod command;

use hoist_proto::refusal::Refusal;
use hoist_proto::upload::Upload;
use hoist_store::store::BoxFuture;

/// Accepts or refuses uploads by the operator's own rules.
pub trait Hook: Send + Sync + 'static {
    /// Called after all other checks and before anything is stored. `upload` is the upload to be created.
    ///
    /// # Errors
    /// Returns the refusal that is sent to the peer, usually [`Reason::Rejected`](hoist_proto::refusal::Reason::Rejected).
    ///
    /// # Cancellation
    /// Not dropped when the peer disconnects.
    fn before_create<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>>;
}

/// Accepts every upload. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn before_create<'a>(&'a self, _: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
