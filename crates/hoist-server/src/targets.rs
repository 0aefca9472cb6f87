//! Targets: the consumers of complete uploads.
//!
//! A target sees each representation when all of it is durable, and its response is the final response to the client. Two
//! are included: [`Keep`] leaves the content in the store, [`Files`] puts it into a directory.
//!
//! A target of your own needs this crate only:
//!
//! ```
//! use hoist_server::http::StatusCode;
//! use hoist_server::store::{BoxFuture, Error};
//! use hoist_server::targets::{Delivery, Representation, Target};
//! use hoist_server::types::Offset;
//! use hoist_server::upload::TargetResponse;
//!
//! /// Answers with the number of lines.
//! struct CountLines;
//!
//! impl Target for CountLines {
//!     fn deliver<'a>(&'a self, whole: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
//!         Box::pin(async move {
//!             let mut content = whole.store.read(whole.upload.id, Offset::ZERO).await?;
//!             let mut lines = 0;
//!             while let Some(bytes) = content.next().await? {
//!                 lines += bytes.split(|byte| *byte == b'\n').count() - 1;
//!             }
//!             let mut response = TargetResponse::of(StatusCode::CREATED);
//!             response.content = format!("{lines} lines\n").into_bytes();
//!             Ok(response.into())
//!         })
//!     }
//!
//!     fn leaves_content(&self) -> bool {
//!         true
//!     }
//! }
//! ```

mod files;

use std::path::PathBuf;

use hoist_proto::types::Fence;
use hoist_proto::upload::{TargetResponse, Upload};
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;

pub use files::{BadTemplate, Files};

/// A consumer of complete representations.
pub trait Target: Send + Sync + 'static {
    /// Takes a complete representation, and returns the final response to its client. Must be idempotent, because it is
    /// called again for the same upload after a crash.
    ///
    /// # Errors
    /// Returns an error if the target cannot take it now. A resumable upload stays stored, and delivery is
    /// tried again later. An ordinary one is removed, and its client is told to send it again.
    ///
    /// # Cancellation
    /// Not dropped while it runs, unless the process ends.
    fn deliver<'a>(&'a self, representation: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>>;

    /// Called when a request has ended, its content has been stored, and more is to come. A response ends the upload early, which then accepts no
    /// more content; for example if the content has the wrong format. The default returns `None`.
    ///
    /// # Errors
    /// Returns an error if the target cannot decide now. The upload continues.
    ///
    /// # Cancellation
    /// Like [`deliver`](Self::deliver).
    fn answer_early<'a>(
        &'a self,
        _: Representation<'a>,
    ) -> BoxFuture<'a, Result<Option<TargetResponse>, Error>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Returns whether the target puts an upload at the path in [`Upload::file`]. The default returns `false`.
    fn takes_paths(&self) -> bool {
        false
    }

    /// Returns the path of the file of a delivered upload, if the target has put it into one. The default returns `None`.
    fn file(&self, upload: &Upload) -> Option<PathBuf> {
        let _ = upload;
        None
    }

    /// Returns whether the content stays in the store after its delivery.
    fn leaves_content(&self) -> bool;

    /// Returns the answer to every representation, if there is only one and [`deliver`](Self::deliver) does nothing else. It
    /// is then not called for small uploads, which are created with their answer. The default returns `None`.
    fn constant_answer(&self) -> Option<TargetResponse> {
        None
    }
}

/// The result of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The final response to the client.
    pub response: TargetResponse,
    /// The path of the file below the directory of the target, if it has one.
    pub file: Option<String>,
}

impl From<TargetResponse> for Delivery {
    fn from(response: TargetResponse) -> Self {
        Self { response, file: None }
    }
}

/// A representation, and the store that has its bytes.
pub struct Representation<'a> {
    /// The upload, with the request that created it.
    pub upload: &'a Upload,
    /// The store that has the content.
    pub store: &'a dyn Store,
    /// The fence for changes to the upload in the store.
    pub fence: Fence,
    /// The path of the upload URL.
    pub endpoint: &'a str,
}

/// Returns the answer to a complete part, which no target sees.
pub(crate) fn of_part() -> TargetResponse {
    TargetResponse::of(StatusCode::NO_CONTENT)
}

/// Leaves the content in the store, under the upload's id. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keep;

impl Target for Keep {
    fn constant_answer(&self) -> Option<TargetResponse> {
        Some(TargetResponse::of(StatusCode::CREATED))
    }

    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED).into())))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}
