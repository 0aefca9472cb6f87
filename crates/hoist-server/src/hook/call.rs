//! A call of a receiver: the point, the upload and the request, and the JSON that tells them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use hoist_proto::amendment::Amendment;
use hoist_proto::upload::Upload;
use tokio_util::sync::CancellationToken;

use super::Point;
use crate::locked;
use crate::request_facts::RequestFacts;
use crate::tusd_event::{self, EventUpload, UploadFiles};

/// A call of a receiver.
#[derive(Debug)]
pub struct Call {
    pub(crate) point: Point,
    pub(crate) upload: Upload,
    /// The path of the upload below the endpoint; empty before its creation.
    pub(crate) id: String,
    pub(crate) offset: u64,
    pub(crate) files: Option<CallFiles>,
    pub(crate) endpoint: String,
    pub(crate) request: RequestFacts,
    /// Ends the transfer that the call reports.
    pub(crate) stop: Option<Arc<Stop>>,
    pub(crate) json: OnceLock<Bytes>,
}

/// The files of an upload.
#[derive(Clone, Debug)]
pub(crate) struct CallFiles {
    pub(crate) content: PathBuf,
    pub(crate) record: PathBuf,
}

impl Call {
    /// Returns the point.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Returns the upload. Its phase and offset are those of the time before the point.
    pub fn upload(&self) -> &Upload {
        &self.upload
    }

    /// Returns the path of the upload's URL below the endpoint; empty before the creation.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the number of bytes that had been received.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the facts of the request.
    pub fn request(&self) -> &RequestFacts {
        &self.request
    }

    /// Returns the call as the JSON of tusd.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let files = self.files.as_ref();
            let files = files.map(|files| UploadFiles { content: &files.content, record: &files.record });
            let Self { upload, id, offset, endpoint, .. } = self;
            let of = EventUpload { upload, id, offset: *offset, files, endpoint };
            tusd_event::event(self.point.name(), of, &self.request).to_string().into()
        })
    }
}

/// Ends the transfer of an upload at the wish of a receiver.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    wished: CancellationToken,
    amendment: Mutex<Option<Amendment>>,
}

impl Stop {
    /// Ends the transfer, with this change to the answer of its request.
    pub(crate) fn stop(&self, amendment: Amendment) {
        locked(&self.amendment).get_or_insert(amendment);
        self.wished.cancel();
    }

    /// Completes when a receiver wishes the end.
    pub(crate) async fn wished(&self) {
        self.wished.cancelled().await;
    }

    pub(crate) fn amendment(&self) -> Amendment {
        locked(&self.amendment).clone().unwrap_or_default()
    }
}
