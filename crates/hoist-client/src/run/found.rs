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

use super::record::{Left, Record};
use crate::dialect::{Dialect, Spoken};
use crate::error::Error;
use crate::handle::{Handle, Question, Status};
use crate::http::{Answer, Line};
use crate::negotiate;
use crate::source::Opened;
use crate::upload::{Known, Put};

/// A field of every answer of a tus server.
const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");

/// Goes on with the upload at the URL, if the caller allows it and there is one. What the journal knows comes first.
pub(super) async fn look(
    put: &mut Put,
    source: &Opened,
    record: &Record,
    line: &mut Line,
) -> Result<(), Error> {
    let left = record.left();
    let is_open = put.continues && matches!(put.known, Known::Nothing) && !matches!(left, Left::Same(_));
    if !is_open {
        return Ok(());
    }
    let Some((handle, status)) = find(put, line).await? else { return Ok(()) };
    tracing::debug!(url = %put.url, ?status, "the URL is that of an upload");
    if let (Left::Changed, 1..) = (left, status.offset) {
        let path = record.file().map(ToOwned::to_owned).unwrap_or_default();
        return Err(Error::SourceChanged { path });
    }
    fits(status, source).map_err(Error::Upload)?;
    put.known = Known::Found(handle);
    Ok(())
}

/// Refuses a source that cannot be what an upload is of.
fn fits(status: Status, source: &Opened) -> Result<(), Failure> {
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
async fn find(put: &Put, line: &mut Line) -> Result<Option<(Handle, Status)>, Error> {
    let spoken = match put.client.settings.dialect {
        Dialect::Auto => negotiate::spoken(&put.client, line, &put.url).await?,
        Dialect::Ietf(version) => return ask(put, line, &Question::Ietf(&put.url, version)).await,
        Dialect::Tus1 => return ask(put, line, &Question::Tus1(&put.url)).await,
        Dialect::Token(_) | Dialect::Conventional => return Ok(None),
    };
    let questions = match spoken {
        Spoken::Ietf(version) | Spoken::Unknown(version) => {
            vec![Question::Ietf(&put.url, version), Question::Tus1(&put.url)]
        }
        Spoken::Tus1(_) => vec![Question::Tus1(&put.url)],
    };
    for question in questions {
        if let Some(found) = ask(put, line, &question).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

async fn ask(put: &Put, line: &mut Line, question: &Question<'_>) -> Result<Option<(Handle, Status)>, Error> {
    let answer = negotiate::retrieved(&put.client, line, &put.url, || question.head(&Operation::Retrieve));
    let answer = answer.await?;
    let status = question.status(&answer).filter(|_| answer.status.is_success());
    Ok(status.map(|status| (Handle::at(put.url.clone(), dialect(question, &answer)), status)))
}

/// The dialect of an answer, which tells more than that of the question.
fn dialect(question: &Question<'_>, answer: &Answer) -> Dialect {
    match question {
        Question::Ietf(_, version) if !answer.fields.contains_key(TUS_RESUMABLE) => {
            let number = field::integer(&answer.fields, &INTEROP_VERSION).ignoring_malformed();
            Dialect::Ietf(number.and_then(Interop::of_number).unwrap_or(*version))
        }
        Question::Ietf(..) | Question::Tus1(_) | Question::Token(..) => Dialect::Tus1,
    }
}
