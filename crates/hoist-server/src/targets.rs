//! What a whole representation is for.
//!
//! The target sees each representation once, when all of it is durable, and its answer is what the client is told in the
//! end. Two are ready made: [`Keep`] leaves the content in the store, [`Files`] puts it into a directory.

mod files;

use hoist_proto::types::Fence;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;

pub use files::{BadTemplate, Files};

/// Takes whole representations.
pub trait Target: Send + Sync + 'static {
    /// Takes one. May be called again for the same upload after a crash, and then has to find what it did before.
    ///
    /// # Errors
    /// When the target cannot take it now. The upload stays received, and is delivered when it is asked for again or the
    /// server restarts.
    ///
    /// # Cancellation
    /// Not dropped while it runs, unless the process ends.
    fn deliver<'a>(
        &'a self,
        representation: Representation<'a>,
    ) -> BoxFuture<'a, Result<TargetResponse, Error>>;

    /// Asked whenever content has been stored and more is to come, whether the answer is clear already, as when what is
    /// there cannot be read, or is not wanted. An answer given here is the last one: the upload ends with it, and takes no
    /// more content. By default no target answers early.
    ///
    /// # Errors
    /// When the target cannot tell now. The upload goes on.
    ///
    /// # Cancellation
    /// As [`deliver`](Self::deliver).
    fn answer_early<'a>(
        &'a self,
        _: Representation<'a>,
    ) -> BoxFuture<'a, Result<Option<TargetResponse>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether the content stays in the store once it is delivered.
    fn leaves_content(&self) -> bool;
}

/// A whole representation, and where its bytes are.
pub struct Representation<'a> {
    /// The upload, complete, with the request that created it.
    pub upload: &'a Upload,
    /// The store that has the content.
    pub store: &'a dyn Store,
    /// The epoch under which the store may be changed.
    pub fence: Fence,
    /// The path of the upload URL.
    pub endpoint: &'a str,
}

/// The answer to a part, which no target sees: no more than that it went well.
pub(crate) fn of_part() -> TargetResponse {
    TargetResponse::of(StatusCode::NO_CONTENT)
}

/// Leaves the content where it is: in the store, under the upload's id. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep;

impl Target for Keep {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<TargetResponse, Error>> {
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED))))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}
