//! The start of an upload: the dialect to use, and whether to create the upload or resume it.

use hoist_proto::client::{Failure, Opening, Uploader};
use hoist_proto::dialect::client::ClientDialect;
use hoist_proto::dialect::tus1::client::{Capabilities, Concat};
use hoist_proto::types::{Length, Token};
use hoist_proto::upload::Origin;
use http::{HeaderMap, Method};

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

/// An upload that is ready to be sent.
pub(super) struct Started {
    pub(super) uploader: Uploader,
    pub(super) dialect: Dialect,
    pub(super) start: Start,
    /// True if the server may send an interim response before it receives content.
    pub(super) sends_interim: bool,
}

impl Started {
    /// Returns the dialect of the next request.
    pub(super) fn current_dialect(&self) -> Dialect {
        self.uploader.version().map_or(self.dialect, Dialect::Ietf)
    }

    /// Returns whether uploads have a URL of their own in this dialect.
    pub(super) fn dialect_has_urls(&self) -> bool {
        matches!(self.dialect, Dialect::Ietf(_) | Dialect::Tus1)
    }
}

/// Creates or resumes an upload that is sent in one piece.
pub(super) async fn start(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let started = match &put.start_from {
        StartFrom::Handle(handle) => resume(put, source, handle, connection).await,
        StartFrom::ExistingUrl(handle) => {
            let started = resume(put, source, handle, connection).await?;
            Ok(Started { start: Start::Found, ..started })
        }
        StartFrom::NewToken(token) => with_new_token(put, source, token),
        StartFrom::Journal => match record.previous() {
            Previous::None => create(put, source, record, connection).await,
            // The upload in parts cannot be resumed with the current settings or server.
            Previous::Same(Handle::Parts { .. } | Handle::Numbered { .. }) => {
                let started = create(put, source, record, connection).await?;
                Ok(Started { start: Start::Forgotten, ..started })
            }
            Previous::Same(handle) => resume(put, source, &handle, connection).await,
            Previous::Changed => {
                let started = create(put, source, record, connection).await?;
                Ok(Started { start: Start::Changed, ..started })
            }
        },
    }?;
    put.reporter.update(|progress| progress.start = started.start);
    Ok(started)
}

/// Resumes the upload that a handle names.
async fn resume(
    put: &Put,
    source: &OpenSource,
    handle: &Handle,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let (length, retries) = (source.length().map(Length::new), put.client.settings.retries);
    let (uploader, dialect) = match handle {
        Handle::Parts { .. } | Handle::Numbered { .. } => return Err(Error::Upload(Failure::Gone)),
        Handle::Token { url, token } => {
            let dialect = in_token(put, token);
            let uploader = Uploader::resume(dialect, url.clone(), put.origin()?, length, retries);
            (uploader, Dialect::Token(put.form()))
        }
        Handle::Url { url, dialect, .. } => {
            let support = match dialect {
                Dialect::Ietf(version) => ServerSupport::Ietf(*version),
                Dialect::Tus1 => {
                    ServerSupport::Tus1(negotiate::tus_capabilities(&put.client, connection, &put.url).await?)
                }
                Dialect::Auto | Dialect::Token(_) | Dialect::Conventional => {
                    negotiate::server_support(&put.client, connection, &put.url).await?
                }
            };
            // An upload with a URL is never created again under another request, so this one is not sent.
            let origin =
                Origin { method: Method::POST, target: url.path().to_owned(), fields: HeaderMap::new() };
            match support {
                ServerSupport::Tus1(capabilities) => {
                    let dialect = in_tus1(put, capabilities, Concat::None);
                    (Uploader::resume(dialect, url.clone(), origin, length, retries), Dialect::Tus1)
                }
                ServerSupport::Ietf(version) | ServerSupport::Unknown(version) => {
                    let dialect = ClientDialect::Ietf(version);
                    let uploader = Uploader::resume(dialect, url.clone(), origin, length, retries);
                    (negotiating(put, uploader), Dialect::Ietf(version))
                }
            }
        }
    };
    let uploader = with_content_max(put, source, uploader);
    Ok(Started { uploader, dialect, start: Start::Resumed, sends_interim: false })
}

/// Creates an upload.
pub(super) async fn create(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let settings = &put.client.settings;
    let (length, retries) = (source.length().map(Length::new), settings.retries);
    let (target, origin) = (put.url.clone(), put.origin()?);
    let support = match settings.dialect {
        Dialect::Auto => negotiate::server_support(&put.client, connection, &put.url).await?,
        Dialect::Ietf(version) => ServerSupport::Ietf(version),
        Dialect::Tus1 => {
            ServerSupport::Tus1(negotiate::tus_capabilities(&put.client, connection, &put.url).await?)
        }
        Dialect::Token(_) => {
            let token = random_token()?;
            record.save_handle(Handle::Token { url: target, token: token.clone() }).await?;
            return with_new_token(put, source, &token);
        }
        Dialect::Conventional => {
            let uploader = Uploader::create(ClientDialect::Conventional, target, origin, length, retries);
            let (dialect, start) = (Dialect::Conventional, Start::Fresh);
            return Ok(Started { uploader, dialect, start, sends_interim: false });
        }
    };
    let (uploader, dialect, sends_interim) = match support {
        ServerSupport::Tus1(capabilities) => {
            let dialect = in_tus1(put, capabilities, Concat::None);
            (Uploader::create(dialect, target, origin, length, retries), Dialect::Tus1, false)
        }
        ServerSupport::Unknown(version) if settings.requires_resumable => {
            let dialect = ClientDialect::Ietf(version);
            let uploader = Uploader::create(dialect, target, origin, length, retries);
            (negotiating(put, uploader).with_opening(Opening::Careful), Dialect::Ietf(version), false)
        }
        // A server without resumable uploads would take the first of several requests for the whole representation.
        ServerSupport::Unknown(_) if length.is_none() => {
            let uploader = Uploader::create(ClientDialect::Conventional, target, origin, length, retries);
            (uploader, Dialect::Conventional, false)
        }
        ServerSupport::Unknown(version) | ServerSupport::Ietf(version) => {
            let dialect = ClientDialect::Ietf(version);
            let uploader = Uploader::create(dialect, target, origin, length, retries);
            let sends_interim = matches!(support, ServerSupport::Ietf(_));
            (negotiating(put, uploader), Dialect::Ietf(version), sends_interim)
        }
    };
    let is_chosen = settings.dialect != Dialect::Auto;
    tracing::debug!(%dialect, is_chosen, "creating an upload");
    let uploader = with_content_max(put, source, uploader);
    Ok(Started { uploader, dialect, start: Start::Fresh, sends_interim })
}

/// Creates an upload with a token that has never been used.
fn with_new_token(put: &Put, source: &OpenSource, token: &Token) -> Result<Started, Error> {
    let (length, dialect) = (source.length().map(Length::new), Dialect::Token(put.form()));
    let (url, origin, retries) = (put.url.clone(), put.origin()?, put.client.settings.retries);
    let uploader = Uploader::create(in_token(put, token), url, origin, length, retries);
    let uploader = with_content_max(put, source, uploader);
    Ok(Started { uploader, dialect, start: Start::Fresh, sends_interim: false })
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

/// Allows another interop version if the server refuses the first, unless the caller has chosen one.
fn negotiating(put: &Put, uploader: Uploader) -> Uploader {
    if put.client.settings.dialect == Dialect::Auto { uploader.negotiating() } else { uploader }
}

/// Limits the content of one request to the caller's limit, and to what is kept of a stream for a retry.
fn with_content_max(put: &Put, source: &OpenSource, uploader: Uploader) -> Uploader {
    let settings = &put.client.settings;
    let kept = (!source.rewinds() && source.length().is_some()).then_some(settings.rewind_bytes_max);
    match settings.content_max.into_iter().chain(kept).min() {
        Some(bytes) => uploader.with_content_max(bytes),
        None => uploader,
    }
}
