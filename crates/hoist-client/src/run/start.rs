//! The start of an upload: the dialect to use, and whether to create the upload or resume it.

use hoist_proto::client::{Failure, Opening, Uploader};
use hoist_proto::dialect::client::ClientDialect;
use hoist_proto::dialect::tus1::client::{Capabilities, Concat};
use hoist_proto::types::{Length, Token};
use hoist_proto::upload::Origin;
use http::{HeaderMap, Method, Uri};

use super::journal_slot::{JournalRecord, Previous};
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::negotiate;
use crate::origin_cache::ServerSupport;
use crate::progress::Start;
use crate::random::random_token;
use crate::source::OpenSource;
use crate::upload::{Put, StartFrom};

pub(super) struct Started {
    pub(super) uploader: Uploader,
    /// The dialect of the last request that the server did not refuse for its version.
    pub(super) dialect: Dialect,
    pub(super) start: Start,
    /// True if the server may send an interim response before it receives content.
    pub(super) sends_interim: bool,
}

impl Started {
    /// Creates an upload at the URL that the caller gave.
    pub(super) fn create(put: &Put, dialect: ClientDialect, origin: Origin, length: Option<u64>) -> Self {
        let (name, url, retries) = (Dialect::of(&dialect), put.url.clone(), put.client.settings.retries);
        let uploader = Uploader::create(dialect, url, origin, length.map(Length::new), retries);
        Self { uploader, dialect: name, start: Start::Fresh, sends_interim: false }
    }

    /// Resumes the upload with the token in `dialect`, used at `url`, or the one whose own URL that is.
    pub(super) fn resume(
        put: &Put,
        dialect: ClientDialect,
        url: Uri,
        origin: Origin,
        length: Option<u64>,
    ) -> Self {
        let (name, retries) = (Dialect::of(&dialect), put.client.settings.retries);
        let uploader = Uploader::resume(dialect, url, origin, length.map(Length::new), retries);
        Self { uploader, dialect: name, start: Start::Resumed, sends_interim: false }
    }

    /// Limits the content of one request to the caller's limit, and to what is kept of a stream for a retry. Allows
    /// another interop version if the server refuses the first, unless the caller has chosen one.
    pub(super) fn with_settings(mut self, put: &Put, source: &OpenSource) -> Self {
        let settings = &put.client.settings;
        let kept = (!source.rewinds() && source.length().is_some()).then_some(settings.rewind_bytes_max);
        if let Some(bytes) = settings.content_max.into_iter().chain(kept).min() {
            self.uploader = self.uploader.with_content_max(bytes);
        }
        if settings.dialect == Dialect::Auto {
            self.uploader = self.uploader.negotiating();
        }
        self
    }
}

/// Creates or resumes an upload that is sent in one piece.
pub(super) async fn start(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let (handle, start) = match (&put.start_from, record.previous()) {
        (StartFrom::Handle(handle), _) => (Some(handle.clone()), Start::Resumed),
        (StartFrom::ExistingUrl(handle), _) => (Some(handle.clone()), Start::Found),
        (StartFrom::NewToken(_), _) | (StartFrom::Journal, Previous::None) => (None, Start::Fresh),
        (StartFrom::Journal, Previous::Changed(_)) => (None, Start::Changed),
        // The upload in parts cannot be resumed with the current settings or server.
        (StartFrom::Journal, Previous::Same(handle @ (Handle::Parts { .. } | Handle::Numbered { .. }))) => {
            put.client.abandon(&handle).await;
            (None, Start::Forgotten)
        }
        (StartFrom::Journal, Previous::Same(handle)) => (Some(handle), Start::Resumed),
    };
    let mut started = match (handle, &put.start_from) {
        (Some(handle), _) => resume(put, source, handle, connection).await?,
        (None, StartFrom::NewToken(token)) => {
            let origin = put.origin()?;
            put.note_handle(&Handle::Token { url: put.url.clone(), token: token.clone() });
            Started::create(put, in_token(put, token), origin, source.length()).with_settings(put, source)
        }
        (None, _) => create(put, source, record, connection).await?,
    };
    started.start = start;
    put.reporter.update(|progress| progress.start = start);
    Ok(started)
}

/// Resumes the upload that a handle names.
async fn resume(
    put: &Put,
    source: &OpenSource,
    handle: Handle,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    put.note_handle(&handle);
    let (dialect, url, origin) = match handle {
        Handle::Parts { .. } | Handle::Numbered { .. } => return Err(Error::Upload(Failure::Gone)),
        Handle::Token { url, token } => (in_token(put, &token), url, put.origin()?),
        Handle::Url { url, dialect, .. } => {
            let dialect = match server_support(put, dialect, connection).await? {
                ServerSupport::Tus1(capabilities) => in_tus1(put, capabilities, Concat::None),
                ServerSupport::Ietf(version) | ServerSupport::Unknown(version) => {
                    ClientDialect::Ietf(version)
                }
            };
            // An upload with a URL is never created again under another request, so this one is not sent.
            let target = url.path().to_owned();
            (dialect, url, Origin { method: Method::POST, target, fields: HeaderMap::new() })
        }
    };
    Ok(Started::resume(put, dialect, url, origin, source.length()).with_settings(put, source))
}

pub(super) async fn create(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let (settings, origin, length) = (&put.client.settings, put.origin()?, source.length());
    match settings.dialect {
        Dialect::Token(_) => {
            let token = random_token()?;
            let handle = Handle::Token { url: put.url.clone(), token: token.clone() };
            put.note_handle(&handle);
            record.save_handle(handle).await?;
            return Ok(Started::create(put, in_token(put, &token), origin, length).with_settings(put, source));
        }
        Dialect::Conventional => {
            return Ok(Started::create(put, ClientDialect::Conventional, origin, length));
        }
        Dialect::Auto | Dialect::Ietf(_) | Dialect::Tus1 => {}
    }
    let support = server_support(put, settings.dialect, connection).await?;
    let dialect = match support {
        ServerSupport::Tus1(capabilities) => in_tus1(put, capabilities, Concat::None),
        // A server without resumable uploads would take the first of several requests for the whole representation.
        ServerSupport::Unknown(_) if length.is_none() && !settings.requires_resumable => {
            ClientDialect::Conventional
        }
        ServerSupport::Unknown(version) | ServerSupport::Ietf(version) => ClientDialect::Ietf(version),
    };
    let mut started = Started::create(put, dialect, origin, length).with_settings(put, source);
    started.sends_interim = matches!(support, ServerSupport::Ietf(_));
    if matches!(support, ServerSupport::Unknown(_)) && settings.requires_resumable {
        started.uploader = started.uploader.with_opening(Opening::Careful);
    }
    let is_chosen = settings.dialect != Dialect::Auto;
    tracing::debug!(dialect = %started.dialect, is_chosen, "creating an upload");
    Ok(started)
}

/// Returns what the server supports, if the dialect leaves that open.
pub(super) async fn server_support(
    put: &Put,
    dialect: Dialect,
    connection: &mut ReusedConnection,
) -> Result<ServerSupport, Error> {
    match dialect {
        Dialect::Ietf(version) => Ok(ServerSupport::Ietf(version)),
        Dialect::Tus1 => negotiate::tus_capabilities(put, connection).await.map(ServerSupport::Tus1),
        Dialect::Auto | Dialect::Token(_) | Dialect::Conventional => {
            negotiate::server_support(put, connection).await
        }
    }
}

/// Returns the token dialect for the whole upload.
pub(super) fn in_token(put: &Put, token: &Token) -> ClientDialect {
    ClientDialect::Token { token: token.clone(), form: put.form(), part: None }
}

/// Returns tus 1.0 with the capabilities that this upload makes use of. Checksums only if the caller asked to verify: they
/// cost CPU time, and a server discards the whole content of an interrupted request that has one.
pub(super) fn in_tus1(put: &Put, capabilities: Capabilities, concat: Concat) -> ClientDialect {
    let checksum = capabilities.checksum.filter(|_| put.verifies);
    ClientDialect::Tus1 { capabilities: Capabilities { checksum, ..capabilities }, concat }
}
