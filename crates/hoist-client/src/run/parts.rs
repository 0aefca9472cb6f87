//! An upload in parts that are sent in parallel and joined by the server: numbered parts of one token, or partial uploads
//! of tus 1.0 that are concatenated.
//!
//! Each part is an upload with a connection of its own. One future drives them all, so dropping it leaves no task behind.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use hoist_proto::client::Failure;
use hoist_proto::dialect::client::ClientDialect;
use hoist_proto::dialect::tus1::Extension;
use hoist_proto::dialect::tus1::client::{Capabilities, Concat};
use hoist_proto::types::{PartNumber, Token};
use hoist_proto::upload::Part;
use http::Uri;
use tokio::sync::Mutex;

use super::journal_slot::{JournalRecord, JournalSlot, Previous};
use super::start::{Started, in_token, in_tus1, server_support};
use super::state::UploadState;
use super::transfer::Transfer;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::origin::Origin;
use crate::origin_cache::ServerSupport;
use crate::progress::{Activity, Progress, Reporter, Start};
use crate::random::random_token;
use crate::source::OpenSource;
use crate::upload::{Outcome, Put, StartFrom};

/// The smallest part that is worth a connection of its own.
const PART_BYTES_MIN: u64 = 1024 * 1024;
/// The most parts. Each needs a connection and an open file.
const PARTS_MAX: usize = 64;

/// The division of an upload into parts.
pub(super) struct PartsPlan {
    dialect: PartsDialect,
    length: u64,
    ranges: Vec<Range<u64>>,
    start: Start,
}

enum PartsDialect {
    /// Partial uploads, with the URLs of those that a previous run has created.
    Tus1(Capabilities, Vec<Option<Uri>>),
    Token(Token),
}

/// Plans the parts, or returns `None` if the upload goes in one piece.
pub(super) async fn plan(
    put: &Put,
    source: &OpenSource,
    record: &JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Option<PartsPlan>, Error> {
    let previous = match &put.start_from {
        StartFrom::Handle(handle) => Previous::Same(handle.clone()),
        StartFrom::Journal => record.previous(),
        StartFrom::NewToken(_) => Previous::None,
        StartFrom::ExistingUrl(_) => return Ok(None),
    };
    let (handle, start) = match previous {
        Previous::Same(handle @ (Handle::Parts { .. } | Handle::Numbered { .. })) => {
            (Some(handle), Start::Resumed)
        }
        // An upload that was begun in one piece continues in one piece.
        Previous::Same(Handle::Token { .. } | Handle::Url { .. }) => return Ok(None),
        Previous::None => (None, Start::Fresh),
        Previous::Changed(_) => (None, Start::Changed),
    };
    let Some(length) = source.length().filter(|_| source.splits()) else { return Ok(None) };
    let most = usize::try_from(length / PART_BYTES_MIN).unwrap_or(usize::MAX).min(PARTS_MAX);
    let count = match &handle {
        Some(Handle::Parts { parts, .. }) => parts.len(),
        Some(Handle::Numbered { parts, .. }) => *parts,
        _ => put.client.settings.parts.min(most),
    };
    if !(2..=PARTS_MAX).contains(&count) {
        return Ok(None);
    }
    let uses_token = matches!(put.client.settings.dialect, Dialect::Token(_));
    let dialect = match (handle, &put.start_from) {
        (Some(Handle::Numbered { token, .. }), _) => PartsDialect::Token(token),
        (None, StartFrom::NewToken(token)) => PartsDialect::Token(token.clone()),
        (None, _) if uses_token => PartsDialect::Token(random_token()?),
        (handle, _) => {
            let Some(capabilities) = concatenation_capabilities(put, connection).await? else {
                return Ok(None);
            };
            let urls = if let Some(Handle::Parts { parts, .. }) = handle { parts } else { vec![None; count] };
            PartsDialect::Tus1(capabilities, urls)
        }
    };
    Ok(Some(PartsPlan { dialect, length, ranges: split(length, count), start }))
}

/// Returns the capabilities of a tus server that supports concatenation.
async fn concatenation_capabilities(
    put: &Put,
    connection: &mut ReusedConnection,
) -> Result<Option<Capabilities>, Error> {
    let dialect = put.client.settings.dialect;
    if !matches!(dialect, Dialect::Auto | Dialect::Tus1) {
        return Ok(None);
    }
    let capabilities = match server_support(put, dialect, connection).await? {
        ServerSupport::Tus1(capabilities) => Some(capabilities),
        // The IETF dialect has no parts. If the server also supports tus, that is used instead.
        ServerSupport::Ietf(_) => put.client.origins.get(&Origin::of(&put.url)?).tus,
        ServerSupport::Unknown(_) => None,
    };
    Ok(capabilities.filter(|capabilities| capabilities.extensions.has(Extension::Concatenation)))
}

/// Sends the parts and has the server join them.
pub(super) async fn send(
    put: &Put,
    source: &OpenSource,
    mut record: JournalRecord,
    plan: PartsPlan,
) -> Result<Outcome, Error> {
    let handle = plan.handle(put);
    put.note_handle(&handle);
    record.save_handle(handle).await?;
    put.reporter.update(|progress| progress.start = plan.start);
    let reporters: Vec<_> = plan.ranges.iter().map(|_| Reporter::default()).collect();
    let record = Mutex::new(record);
    let mut transfers = Vec::new();
    for (index, range) in plan.ranges.iter().enumerate() {
        let started = plan.start_part(put, source, index, true)?;
        let journal = JournalSlot::Part(&record, index);
        let state = UploadState::new(put, source, &reporters[index], journal, started);
        let transfer = Transfer::new(state, ReusedConnection::default(), range.start);
        transfers.push(Box::pin(send_part(transfer, &plan, index)) as PartFuture<'_, _>);
    }
    let done: Vec<FinishedPart> = join_all(transfers, || report_sum(&reporters, &put.reporter)).await?;
    report_sum(&reporters, &put.reporter);

    let resumed_bytes = done.iter().map(|part| part.outcome.resumed_bytes).sum();
    let retries = done.iter().map(|part| part.outcome.retries).sum::<u32>();
    let outcome = match plan.start_join(put, &done)? {
        None => done.into_iter().find(|part| part.has_final_response).map(|part| part.outcome),
        Some(started) => {
            let unwatched = Reporter::default();
            let journal = JournalSlot::Own(JournalRecord::default());
            let state = UploadState::new(put, source, &unwatched, journal, started);
            Some(Transfer::new(state, ReusedConnection::default(), 0).run().await?)
        }
    };
    let outcome = outcome.ok_or(Error::Upload(Failure::NotResumable))?;
    record.into_inner().remove().await?;
    put.reporter.update(|progress| (progress.activity, progress.eta) = (Activity::Done, None));
    let retries = retries + if outcome.bytes == plan.length { outcome.retries } else { 0 };
    Ok(Outcome { bytes: plan.length, start: plan.start, resumed_bytes, retries, ..outcome })
}

impl PartsPlan {
    /// Returns the handle by which a later run resumes the parts.
    fn handle(&self, put: &Put) -> Handle {
        let url = put.url.clone();
        match &self.dialect {
            PartsDialect::Tus1(_, parts) => Handle::Parts { url, parts: parts.clone() },
            PartsDialect::Token(token) => {
                Handle::Numbered { url, token: token.clone(), parts: self.ranges.len() }
            }
        }
    }

    /// Creates a part, or resumes it if a previous run has created it and `may_resume` is true.
    fn start_part(
        &self,
        put: &Put,
        source: &OpenSource,
        index: usize,
        may_resume: bool,
    ) -> Result<Started, Error> {
        let (range, origin) = (&self.ranges[index], put.origin()?);
        let length = Some(range.end - range.start);
        let (dialect, resumed_url) = match &self.dialect {
            PartsDialect::Tus1(capabilities, urls) => {
                let url = urls.get(index).cloned().flatten().filter(|_| may_resume);
                (in_tus1(put, *capabilities, Concat::Partial), url)
            }
            PartsDialect::Token(token) => {
                let number = u64::try_from(index).ok().and_then(PartNumber::new);
                let number = number.ok_or(Error::Upload(Failure::NotResumable))?;
                let part = Some(Part { number, last: index + 1 == self.ranges.len() });
                let dialect = ClientDialect::Token { token: token.clone(), form: put.form(), part };
                (dialect, (self.start == Start::Resumed).then(|| put.url.clone()))
            }
        };
        let started = match resumed_url {
            Some(url) => Started::resume(put, dialect, url, origin, length),
            None => Started::create(put, dialect, origin, length),
        };
        Ok(started.with_settings(put, source))
    }

    /// Starts the request that joins the parts, or returns `None` if a part was answered with the final response.
    fn start_join(&self, put: &Put, done: &[FinishedPart]) -> Result<Option<Started>, Error> {
        let (origin, length) = (put.origin()?, Some(self.length));
        let started = match &self.dialect {
            PartsDialect::Tus1(capabilities, _) => {
                let urls = done.iter().map(|part| part.url.clone()).collect();
                Started::create(put, in_tus1(put, *capabilities, Concat::Final(urls)), origin, length)
            }
            PartsDialect::Token(_) if done.iter().any(|part| part.has_final_response) => return Ok(None),
            // The final response was lost, or a previous run received it: resuming the whole upload replays it.
            PartsDialect::Token(token) => {
                Started::resume(put, in_token(put, token), put.url.clone(), origin, length)
            }
        };
        Ok(Some(Started { start: self.start, ..started }))
    }
}

struct FinishedPart {
    url: Uri,
    outcome: Outcome,
    /// True if the response to this part is the final response of the whole upload.
    has_final_response: bool,
}

/// Sends one part. Creates it again if the server has lost the one of a previous run.
async fn send_part(
    mut transfer: Transfer<'_>,
    plan: &PartsPlan,
    index: usize,
) -> Result<FinishedPart, Error> {
    let mut ended = transfer.drive().await;
    let state = &mut transfer.state;
    if matches!(ended, Err(Error::Upload(Failure::Gone))) && state.started.start == Start::Resumed {
        state.started = plan.start_part(state.put, state.source, index, false)?;
        state.started.start = Start::Fresh;
        ended = transfer.drive().await;
    }
    ended?;
    let uploader = &transfer.state.started.uploader;
    let url = uploader.url().cloned().ok_or(Error::Upload(Failure::NotResumable))?;
    let has_final_response = matches!(plan.dialect, PartsDialect::Token(_)) && uploader.is_answered();
    let outcome = transfer.finish(Ok(())).await?;
    Ok(FinishedPart { url, outcome, has_final_response })
}

type PartFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Splits `0..length` into ranges of about the same size.
fn split(length: u64, count: usize) -> Vec<Range<u64>> {
    let count = count as u64;
    let at = |index: u64| {
        u64::try_from(u128::from(length) * u128::from(index) / u128::from(count)).unwrap_or(length)
    };
    (0..count).map(|index| at(index)..at(index + 1)).collect()
}

/// Reports the sum of the parts' progress as that of the whole upload.
fn report_sum(parts: &[Reporter], whole: &Reporter) {
    let parts: Vec<Progress> = parts.iter().map(|part| *part.subscribe().borrow()).collect();
    let sum = |of: fn(&Progress) -> u64| parts.iter().map(of).sum::<u64>();
    whole.update(|progress| {
        (progress.sent, progress.acknowledged) = (sum(|part| part.sent), sum(|part| part.acknowledged));
        (progress.rate, progress.resumed_bytes) = (sum(|part| part.rate), sum(|part| part.resumed_bytes));
        progress.retries = parts.iter().map(|part| part.retries).sum();
        progress.activity = parts.first().map(|part| part.activity).unwrap_or_default();
        progress.eta = parts.iter().filter_map(|part| part.eta).max();
    });
}

/// Awaits all futures, or the first that fails. Calls `on_poll` whenever one of them may have made progress.
async fn join_all<T>(futures: Vec<PartFuture<'_, T>>, on_poll: impl Fn()) -> Result<Vec<T>, Error> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|cx| {
        let mut are_done = true;
        for (future, output) in &mut futures {
            let Some(running) = future else { continue };
            match running.as_mut().poll(cx) {
                Poll::Ready(Ok(done)) => (*future, *output) = (None, Some(done)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => are_done = false,
            }
        }
        on_poll();
        if !are_done {
            return Poll::Pending;
        }
        Poll::Ready(Ok(futures.iter_mut().filter_map(|(_, output)| output.take()).collect()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_the_parts_cover_the_whole_upload() {
        for (length, count) in [(10, 3), (7, 7), (u64::MAX, 64), (1_000_003, 2)] {
            let ranges = split(length, count);
            assert_eq!((ranges.len(), ranges[0].start, ranges[count - 1].end), (count, 0, length));
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start && two[0].start < two[0].end));
        }
    }
}
