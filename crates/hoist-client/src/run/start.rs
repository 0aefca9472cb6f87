//! Where an upload begins: in which dialect, and whether as a new one or where an earlier run has left it.

use hoist_proto::client::{Failure, Offers, Opening, Role, Uploader};
use hoist_proto::dialect::token::Form;
use hoist_proto::types::{Length, Token};

use super::journal_slot::{JournalRecord, Previous};
use crate::dialect::{Dialect, ServerSupport};
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::negotiate;
use crate::progress::Start;
use crate::source::OpenSource;
use crate::upload::{Put, StartFrom, random_token};

/// An upload that can begin.
pub(super) struct Started {
    pub(super) uploader: Uploader,
    pub(super) dialect: Dialect,
    pub(super) start: Start,
    /// True if the server may send an interim response before it receives content.
    pub(super) sends_interim: bool,
}

impl Started {
    /// The dialect in which the next request is made.
    pub(super) fn spoken(&self) -> Dialect {
        self.uploader.version().map_or(self.dialect, Dialect::Ietf)
    }

    /// Returns `true` if uploads have a URL of their own in this dialect.
    pub(super) fn dialect_has_urls(&self) -> bool {
        matches!(self.dialect, Dialect::Ietf(_) | Dialect::Tus1)
    }
}

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
        StartFrom::NewToken(token) => named(put, source, token),
        StartFrom::Journal => match record.left() {
            Previous::None => create(put, source, record, connection).await,
            // In parts it is not to be had any more.
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

/// Goes on where an earlier run has left it.
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
            let form = put.form();
            let uploader = Uploader::resume(url.clone(), token.clone(), put.origin()?, length, retries);
            (uploader.in_form(form), Dialect::Token(form))
        }
        Handle::Url { url, dialect, .. } => {
            let spoken = match dialect {
                Dialect::Ietf(version) => ServerSupport::Ietf(*version),
                Dialect::Tus1 => {
                    ServerSupport::Tus1(negotiate::offers(&put.client, connection, &put.url).await?)
                }
                Dialect::Auto | Dialect::Token(_) | Dialect::Conventional => {
                    negotiate::spoken(&put.client, connection, &put.url).await?
                }
            };
            match spoken {
                ServerSupport::Tus1(offers) => {
                    let offers = used(put, offers);
                    let uploader = Uploader::resume_tus1(url.clone(), offers, Role::Whole, length, retries);
                    (uploader, Dialect::Tus1)
                }
                ServerSupport::Ietf(version) | ServerSupport::Unknown(version) => {
                    let uploader = Uploader::resume_in(url.clone(), version, length, retries);
                    (negotiating(put, uploader), Dialect::Ietf(version))
                }
            }
        }
    };
    Ok(Started {
        uploader: bounded(put, source, uploader),
        dialect,
        start: Start::Resumed,
        sends_interim: false,
    })
}

/// Begins a new upload.
pub(super) async fn create(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Started, Error> {
    let settings = &put.client.settings;
    let (length, retries) = (source.length().map(Length::new), settings.retries);
    let (target, origin) = (put.url.clone(), put.origin()?);
    let is_chosen = settings.dialect != Dialect::Auto;
    let spoken = match settings.dialect {
        Dialect::Auto => negotiate::spoken(&put.client, connection, &put.url).await?,
        Dialect::Ietf(version) => ServerSupport::Ietf(version),
        Dialect::Tus1 => ServerSupport::Tus1(negotiate::offers(&put.client, connection, &put.url).await?),
        Dialect::Token(_) => {
            let token = random_token()?;
            record.keep_handle(Handle::Token { url: target, token: token.clone() }).await?;
            return named(put, source, &token);
        }
        Dialect::Conventional => {
            let uploader = Uploader::create_plainly(target, origin, length, retries);
            return Ok(Started {
                uploader,
                dialect: Dialect::Conventional,
                start: Start::Fresh,
                sends_interim: false,
            });
        }
    };
    let (uploader, dialect, sends_interim) = match spoken {
        ServerSupport::Tus1(offers) => {
            let offers = used(put, offers);
            let uploader = Uploader::create_tus1(target, offers, Role::Whole, origin, length, retries);
            (uploader, Dialect::Tus1, false)
        }
        ServerSupport::Unknown(version) if settings.requires_resumable => {
            let opening = Opening::Careful;
            let uploader = Uploader::create_in(target, version, opening, origin, length, retries);
            (negotiating(put, uploader), Dialect::Ietf(version), false)
        }
        // Without a length, a server that does not resume would take the first request for the whole.
        ServerSupport::Unknown(_) if length.is_none() => {
            (Uploader::create_plainly(target, origin, length, retries), Dialect::Conventional, false)
        }
        ServerSupport::Unknown(version) | ServerSupport::Ietf(version) => {
            let uploader = Uploader::create_in(target, version, Opening::AtOnce, origin, length, retries);
            (negotiating(put, uploader), Dialect::Ietf(version), matches!(spoken, ServerSupport::Ietf(_)))
        }
    };
    tracing::debug!(%dialect, is_chosen, "an upload begins");
    Ok(Started { uploader: bounded(put, source, uploader), dialect, start: Start::Fresh, sends_interim })
}

/// A new upload with a token that never named one.
fn named(put: &Put, source: &OpenSource, token: &Token) -> Result<Started, Error> {
    let (length, form): (_, Form) = (source.length().map(Length::new), put.form());
    let origin = put.origin()?;
    let uploader =
        Uploader::create(put.url.clone(), token.clone(), origin, length, put.client.settings.retries);
    let uploader = bounded(put, source, uploader.in_form(form));
    Ok(Started { uploader, dialect: Dialect::Token(form), start: Start::Fresh, sends_interim: false })
}

/// What of it is made use of. A digest makes a server discard what it was sent when a request is cut, and the client
/// compute what it may not need, so it is for those who want it.
pub(super) fn used(put: &Put, offers: Offers) -> Offers {
    Offers { checksum: offers.checksum.filter(|_| put.verifies), ..offers }
}

/// Lets the version be one that the server accepts, unless the caller has chosen one.
fn negotiating(put: &Put, uploader: Uploader) -> Uploader {
    if put.client.settings.dialect == Dialect::Auto { uploader.negotiating() } else { uploader }
}

/// Keeps requests within what the caller wants, and within what can be kept of a stream.
fn bounded(put: &Put, source: &OpenSource, uploader: Uploader) -> Uploader {
    let settings = &put.client.settings;
    let kept = (!source.rewinds() && source.length().is_some()).then_some(settings.rewind_bytes_max);
    let most = settings.content_max.into_iter().chain(kept).min();
    match most {
        Some(bytes) => uploader.with_content_max(bytes),
        None => uploader,
    }
}
