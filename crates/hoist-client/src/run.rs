//! An upload from its start to its end.
//!
//! Opens the source and the journal, decides between one transfer and several in parallel, and runs them. The layers
//! below: `start` creates or resumes an upload, `transfer` is the loop that does what proto's `Uploader` asks for,
//! `sender` makes its requests, `state` is what responses change.

mod existing;
mod journal_slot;
mod parts;
mod sender;
mod start;
mod state;
mod transfer;

use hoist_proto::dialect::tus1::client::Checksum;

use self::journal_slot::{JournalRecord, JournalSlot, Previous};
use self::state::UploadState;
use self::transfer::Transfer;
use crate::error::Error;
use crate::http::ReusedConnection;
use crate::source::{OpenSource, Source};
use crate::upload::{Outcome, Put, StartFrom};

impl Put {
    /// Uploads the source, and resumes after every interruption until the server has all of it or the upload fails for
    /// good.
    ///
    /// # Errors
    /// Returns an error if the server refuses the upload, the source cannot be read or changes, or the retry budget is
    /// used up without progress.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. The server keeps what it has received; a later run with the same
    /// [journal](Self::journal), [handle](Self::resume) or [token](Self::token) continues from there.
    pub async fn send(self) -> Result<Outcome, Error> {
        // Boxed, so that the caller's future does not become as large as the state of an upload.
        Box::pin(send(self)).await
    }
}

async fn send(mut put: Put) -> Result<Outcome, Error> {
    let path = put.source.path().map(ToOwned::to_owned);
    let source = open_source(&mut put).await?;
    // A later process cannot resume in the middle of a source that can be read only once.
    let path = path.filter(|_| source.rewinds());
    let mut record = match (put.journal.take(), path, &put.start_from) {
        (Some(journal), Some(path), StartFrom::Journal) => {
            JournalRecord::open(journal, path, &put.url, put.journal_note.take()).await?
        }
        _ => JournalRecord::default(),
    };
    let mut connection = ReusedConnection::default();
    existing::detect(&mut put, &source, &record, &mut connection).await?;
    abandon_previous(&put, &record).await;
    if let Some(plan) = parts::plan(&put, &source, &record, &mut connection).await? {
        return Box::pin(parts::send(&put, &source, record, plan)).await;
    }
    let started = start::start(&put, &source, &mut record, &mut connection).await?;
    let state = UploadState::new(&put, &source, &put.reporter, JournalSlot::Own(record), started);
    Transfer::new(state, connection, 0).run().await
}

/// Cancels the upload of the file before it was changed, which no run will resume.
async fn abandon_previous(put: &Put, record: &JournalRecord) {
    if let (StartFrom::Journal, Previous::Changed(handle)) = (&put.start_from, record.previous()) {
        put.client.abandon(&handle).await;
    }
}

/// Opens the source, and computes its digest if the upload is to be verified.
async fn open_source(put: &mut Put) -> Result<OpenSource, Error> {
    let settings = put.client.settings;
    let mut source =
        std::mem::replace(&mut put.source, Source::bytes("")).open(settings.rewind_bytes_max).await?;
    source.rate_limiter.clone_from(&put.client.rate_limiter);
    put.reporter.update(|progress| progress.length = source.length());
    if !put.verifies {
        return Ok(source);
    }
    if let Some(mut stream) = source.stream() {
        stream.hash();
    } else if let (None, Some(length)) = (put.sha256, source.length()) {
        let digest = source.checksum(Checksum::Sha256, 0..length).await?;
        put.sha256 = digest.and_then(|digest| digest.try_into().ok());
    }
    Ok(source)
}
