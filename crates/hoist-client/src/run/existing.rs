//! Detection of an upload at the URL itself: one that was created elsewhere, for example through another API.
//!
//! If the server answers `HEAD` with an offset, the URL is that of an upload. Only the caller vouches that the source
//! matches the bytes the server already has, so the upload is refused where the lengths contradict that, and it is
//! never cancelled or replaced.

use hoist_proto::client::Failure;
use hoist_proto::dialect::TUS_RESUMABLE;
use hoist_proto::dialect::client::{ClientDialect, Intent};
use hoist_proto::types::{Length, Offset};

use super::journal_slot::{JournalRecord, Previous};
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::negotiate;
use crate::origin_cache::ServerSupport;
use crate::response::FinalResponse;
use crate::source::OpenSource;
use crate::status::{Query, Status};
use crate::upload::{Put, StartFrom};

/// Looks for an upload at the URL, if the caller allows it, and makes the upload start from it. A journal entry takes
/// precedence.
pub(super) async fn detect(
    put: &mut Put,
    source: &OpenSource,
    record: &JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<(), Error> {
    let previous = record.previous();
    let is_wanted = put.continues
        && matches!(put.start_from, StartFrom::Journal)
        && !matches!(previous, Previous::Same(_));
    if !is_wanted {
        return Ok(());
    }
    let Some((handle, status)) = query(put, connection).await? else { return Ok(()) };
    tracing::debug!(url = %put.url, ?status, "the url is that of an upload");
    if let (Previous::Changed(_), 1..) = (previous, status.offset) {
        let path = record.file().map(ToOwned::to_owned).unwrap_or_default();
        return Err(Error::SourceChanged { path });
    }
    check_lengths(status, source).map_err(Error::Upload)?;
    put.start_from = StartFrom::ExistingUrl(handle);
    Ok(())
}

/// Refuses a source that cannot be the one the upload was created for.
fn check_lengths(status: Status, source: &OpenSource) -> Result<(), Failure> {
    match source.length() {
        Some(length) => {
            let differs = status.length.filter(|remote| *remote != length);
            let exceeds = Some(status.offset).filter(|offset| *offset > length);
            let different = |remote| Err(Failure::Different { remote, length: Length::new(length) });
            differs.or(exceeds).map_or(Ok(()), different)
        }
        None if status.offset > 0 => {
            Err(Failure::Impossible { offset: Offset::new(status.offset), sent: Offset::ZERO })
        }
        None => Ok(()),
    }
}

/// Queries the URL in the dialects that the server may support.
async fn query(put: &Put, connection: &mut ReusedConnection) -> Result<Option<(Handle, Status)>, Error> {
    let queries = match put.client.settings.dialect {
        Dialect::Auto => match negotiate::server_support(put, connection).await? {
            ServerSupport::Ietf(version) | ServerSupport::Unknown(version) => {
                vec![Query::ietf(&put.url, version), Query::tus1(&put.url)]
            }
            ServerSupport::Tus1(_) => vec![Query::tus1(&put.url)],
        },
        Dialect::Ietf(version) => vec![Query::ietf(&put.url, version)],
        Dialect::Tus1 => vec![Query::tus1(&put.url)],
        Dialect::Token(_) | Dialect::Conventional => Vec::new(),
    };
    for query in queries {
        let head = || query.head(&Intent::Query);
        let response = negotiate::query_upload(put, connection, head).await?;
        if let Some(status) = query.status(&response).filter(|_| response.status.is_success()) {
            return Ok(Some((Handle::at(put.url.clone(), dialect(&query, &response)), status)));
        }
    }
    Ok(None)
}

/// Returns the dialect of a response, which is more specific than that of the query.
fn dialect(query: &Query<'_>, response: &FinalResponse) -> Dialect {
    let ClientDialect::Ietf(version) = query.dialect else { return Dialect::Tus1 };
    if response.fields.contains_key(TUS_RESUMABLE) {
        return Dialect::Tus1;
    }
    Dialect::Ietf(negotiate::version_in(&response.fields).unwrap_or(version))
}
