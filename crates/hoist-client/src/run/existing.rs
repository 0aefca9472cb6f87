//! An upload that was made elsewhere, by an API for one, and whose own URL the caller gives.
//!
//! A server that answers `HEAD` with an offset tells that the URL is that of an upload. Nothing but the caller's word binds
//! the source to what that upload holds already, so it is refused where the two cannot belong together, and is never ended.

use hoist_proto::client::Failure;
use hoist_proto::dialect::INTEROP_VERSION;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::field;
use hoist_proto::operation::Operation;
use hoist_proto::types::{Length, Offset};
use http::header::HeaderName;

use super::journal_slot::{JournalRecord, Previous};
use crate::dialect::{Dialect, ServerSupport};
use crate::error::Error;
use crate::handle::{Handle, Query, Status};
use crate::http::{FinalResponse, ReusedConnection};
use crate::negotiate;
use crate::source::OpenSource;
use crate::upload::{Put, StartFrom};

/// A field of every answer of a tus server.
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");

/// Goes on with the upload at the URL, if the caller allows it and there is one. What the journal knows comes first.
pub(super) async fn detect(
    put: &mut Put,
    source: &OpenSource,
    record: &JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<(), Error> {
    let left = record.left();
    let is_open =
        put.continues && matches!(put.start_from, StartFrom::Journal) && !matches!(left, Previous::Same(_));
    if !is_open {
        return Ok(());
    }
    let Some((handle, status)) = find(put, connection).await? else { return Ok(()) };
    tracing::debug!(url = %put.url, ?status, "the URL is that of an upload");
    if let (Previous::Changed, 1..) = (left, status.offset) {
        let path = record.file().map(ToOwned::to_owned).unwrap_or_default();
        return Err(Error::SourceChanged { path });
    }
    fits(status, source).map_err(Error::Upload)?;
    put.start_from = StartFrom::ExistingUrl(handle);
    Ok(())
}

/// Refuses a source that cannot be what an upload is of.
fn fits(status: Status, source: &OpenSource) -> Result<(), Failure> {
    match source.length() {
        Some(length) => {
            let told = status.length.filter(|told| *told != length);
            let told = told.or(Some(status.offset).filter(|offset| *offset > length));
            told.map_or(Ok(()), |told| Err(Failure::Different { told, length: Length::new(length) }))
        }
        None if status.offset > 0 => {
            Err(Failure::Impossible { told: Offset::new(status.offset), sent: Offset::ZERO })
        }
        None => Ok(()),
    }
}

/// Asks in the dialects the server may speak.
async fn find(put: &Put, connection: &mut ReusedConnection) -> Result<Option<(Handle, Status)>, Error> {
    let spoken = match put.client.settings.dialect {
        Dialect::Auto => negotiate::spoken(&put.client, connection, &put.url).await?,
        Dialect::Ietf(version) => return ask(put, connection, &Query::Ietf(&put.url, version)).await,
        Dialect::Tus1 => return ask(put, connection, &Query::Tus1(&put.url)).await,
        Dialect::Token(_) | Dialect::Conventional => return Ok(None),
    };
    let queries = match spoken {
        ServerSupport::Ietf(version) | ServerSupport::Unknown(version) => {
            vec![Query::Ietf(&put.url, version), Query::Tus1(&put.url)]
        }
        ServerSupport::Tus1(_) => vec![Query::Tus1(&put.url)],
    };
    for query in queries {
        if let Some(found) = ask(put, connection, &query).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn ask(
    put: &Put,
    connection: &mut ReusedConnection,
    query: &Query<'_>,
) -> Result<Option<(Handle, Status)>, Error> {
    let answer = negotiate::retrieved(&put.client, connection, &put.url, || query.head(&Operation::Retrieve));
    let answer = answer.await?;
    let status = query.status(&answer).filter(|_| answer.status.is_success());
    Ok(status.map(|status| (Handle::at(put.url.clone(), dialect(query, &answer)), status)))
}

/// The dialect of an answer, which tells more than that of the question.
fn dialect(query: &Query<'_>, answer: &FinalResponse) -> Dialect {
    match query {
        Query::Ietf(_, version) if !answer.fields.contains_key(TUS_RESUMABLE) => {
            let number = field::integer(&answer.fields, &INTEROP_VERSION).ignoring_malformed();
            Dialect::Ietf(number.and_then(Interop::of_number).unwrap_or(*version))
        }
        Query::Ietf(..) | Query::Tus1(_) | Query::Token(..) => Dialect::Tus1,
    }
}
