//! What the operator has a say in: questions asked at fixed points in the life of an upload.

pub mod command;

use hoist_proto::refusal::Refusal;
use hoist_proto::upload::Upload;
use hoist_store::store::BoxFuture;

/// Decides what the protocol leaves open.
pub trait Hook: Send + Sync + 'static {
    /// Asked after every check of the protocol's own and before anything is stored. `upload` is what would be created.
    ///
    /// # Errors
    /// A refusal that goes to the peer as it is, usually [`Refusal::Rejected`].
    ///
    /// # Cancellation
    /// Not dropped when the peer vanishes: a question once asked gets its answer.
    fn before_create<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>>;
}

/// Has no objections. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn before_create<'a>(&'a self, _: &'a Upload) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
