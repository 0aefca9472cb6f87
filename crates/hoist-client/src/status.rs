//! Queries about an upload, and its cancellation.

use std::time::Duration;

use hoist_proto::client::Failure;
use hoist_proto::dialect::client::{ClientDialect, Intent};
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::status::StatusClass;
use hoist_proto::dialect::token::Form;
use hoist_proto::dialect::tus1::client::{Capabilities, Concat};
use hoist_proto::types::Length;
use http::{Request, Uri};

use crate::client::Client;
use crate::clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::location::{follow, request_target};
use crate::origin::Origin;
use crate::redirect;
use crate::response::FinalResponse;

/// The time for the cancellation of an upload that is abandoned.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(3);

/// The state of an upload on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Bytes that the server has.
    pub offset: u64,
    /// Bytes of the whole representation, if the server knows.
    pub length: Option<u64>,
    /// True if the upload is complete; `None` if the server does not say.
    pub complete: Option<bool>,
}

impl Client {
    /// Queries the state of an upload. The query ends a transfer of that upload that is still running. The offset of an
    /// upload in parts is the sum of their offsets.
    ///
    /// # Errors
    /// Returns [`Error::Refused`] with 404 if there is no such upload, or the error that the single attempt ended with.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn status(&self, handle: &Handle) -> Result<Status, Error> {
        let Some(parts) = handle.parts() else { return self.status_of_one(handle).await };
        let mut offset = 0;
        for part in &parts {
            offset += self.status_of_one(part).await?.offset;
        }
        Ok(Status { offset, length: None, complete: Some(false) })
    }

    async fn status_of_one(&self, handle: &Handle) -> Result<Status, Error> {
        let (query, response) = self.query(handle, &Intent::Query).await?;
        query.status(&response).ok_or(Error::Upload(Failure::NotResumable))
    }

    /// Cancels an upload: the server deletes all that it has stored of it.
    ///
    /// # Errors
    /// Returns [`Error::Refused`] with 404 if there is no such upload, or the error that the single attempt ended with.
    ///
    /// # Cancellation
    /// If dropped, the server may or may not have cancelled the upload.
    //= TDR-CAN-01
    pub async fn cancel(&self, handle: &Handle) -> Result<(), Error> {
        let Some(parts) = handle.parts() else {
            return self.query(handle, &Intent::Cancel).await.map(drop);
        };
        for part in &parts {
            self.query(part, &Intent::Cancel).await?;
        }
        Ok(())
    }

    /// Cancels an upload that is not going to be resumed. The request is sent once and given up after 3 s, without an
    /// error: the upload then stays on the server until it expires. Does nothing if the caller named the upload by its own
    /// URL, since it was created elsewhere.
    ///
    /// # Cancellation
    /// If dropped, the server may or may not have cancelled the upload.
    pub async fn abandon(&self, handle: &Handle) {
        if handle.is_created_elsewhere() {
            return;
        }
        match tokio::time::timeout(ABANDON_TIMEOUT, self.cancel(handle)).await {
            Ok(Ok(())) => tracing::debug!("cancelled an upload that is not going to be resumed"),
            Ok(Err(error)) => tracing::debug!(%error, "an abandoned upload stays on the server"),
            Err(_) => tracing::debug!("an abandoned upload stays on the server, which does not answer"),
        }
    }

    /// Sends a request in each dialect that the upload may have, until one succeeds. If none does, returns the error
    /// of a server that does not know the upload if there was one, or else the first error.
    async fn query<'a>(
        &self,
        handle: &'a Handle,
        intent: &Intent<'_>,
    ) -> Result<(Query<'a>, FinalResponse), Error> {
        let mut refused: Option<Error> = None;
        for query in Query::of_handle(handle) {
            match self.send_query(handle, query.head(intent)).await {
                Ok(response) => return Ok((query, response)),
                Err(Error::Refused { status, detail }) => {
                    let is_unknown = StatusClass::of(status) == StatusClass::NotFound;
                    // A server that does not support the dialect of the query answers with one of these.
                    if !is_unknown && !matches!(status.as_u16(), 400 | 405 | 412) {
                        return Err(Error::Refused { status, detail });
                    }
                    if is_unknown || refused.is_none() {
                        refused = Some(Error::Refused { status, detail });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or(Error::Upload(Failure::NotResumable)))
    }

    async fn send_query(&self, handle: &Handle, head: Request<()>) -> Result<FinalResponse, Error> {
        let url = follow(handle.target(), handle.url())?;
        let (mut connection, caller_origin) = (ReusedConnection::default(), Origin::of(handle.target())?);
        let response =
            connection.query(&self.connector, &url, head, &caller_origin, clock::now(), Duration::MAX).await;
        let response = response.map_err(|failed| failed.error)?;
        if response.status.is_success() {
            return Ok(response);
        }
        let refused = || Error::Refused { status: response.status, detail: response.problem_detail() };
        Err(redirect::error(&response).unwrap_or_else(refused))
    }
}

pub(crate) struct Query<'a> {
    url: &'a Uri,
    pub(crate) dialect: ClientDialect,
}

impl<'a> Query<'a> {
    /// Returns the queries that may find the upload, the most likely first.
    fn of_handle(handle: &'a Handle) -> Vec<Self> {
        match handle {
            Handle::Token { url, token } | Handle::Numbered { url, token, .. } => {
                let dialect = ClientDialect::Token { token: token.clone(), form: Form::Seed, part: None };
                vec![Query { url, dialect }]
            }
            Handle::Url { url, dialect: Dialect::Ietf(version), .. } => vec![Query::ietf(url, *version)],
            Handle::Url { url, dialect: Dialect::Tus1, .. } => vec![Query::tus1(url)],
            Handle::Url { url, .. } => {
                // Some servers accept only the sixth version of the draft.
                let versions = [Interop::NEWEST, Interop::V6].map(|version| Query::ietf(url, version));
                versions.into_iter().chain([Query::tus1(url)]).collect()
            }
            Handle::Parts { .. } => Vec::new(),
        }
    }

    pub(crate) fn ietf(url: &'a Uri, version: Interop) -> Self {
        Self { url, dialect: ClientDialect::Ietf(version) }
    }

    pub(crate) fn tus1(url: &'a Uri) -> Self {
        let (capabilities, concat) = (Capabilities::assumed(), Concat::None);
        Self { url, dialect: ClientDialect::Tus1 { capabilities, concat } }
    }

    pub(crate) fn head(&self, intent: &Intent<'_>) -> Request<()> {
        self.dialect.request(request_target(self.url), intent).expect("the path of a URL is a URI")
    }

    /// Reads the state of the upload from a response, or returns `None` if it has no offset.
    pub(crate) fn status(&self, response: &FinalResponse) -> Option<Status> {
        let state = self.dialect.response(true, response.status, &response.fields).state;
        let (offset, length) = (state.offset?, state.length);
        let is_tus = matches!(self.dialect, ClientDialect::Tus1 { .. });
        let complete = if is_tus { length.map(|length| length.is_reached(offset)) } else { state.complete };
        Some(Status { offset: offset.get(), length: length.map(Length::get), complete })
    }
}
