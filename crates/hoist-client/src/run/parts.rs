//! An upload in parts that are sent at the same time and joined by the server: numbered ones under one token, or partial
//! uploads of tus 1.0 that are concatenated.
//!
//! Each part is an upload of its own, over a connection of its own. They are driven by one future, so that dropping it
//! leaves nothing behind.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use hoist_proto::client::{Failure, Offers, Role, Uploader};
use hoist_proto::types::{Length, PartNumber, Token};
use hoist_proto::upload::Part;
use http::Uri;
use tokio::sync::Mutex;

use super::Transfer;
use super::journal_slot::{JournalRecord, JournalSlot, Previous};
use super::start::{Started, used};
use crate::dialect::{Dialect, ServerSupport};
use crate::error::Error;
use crate::handle::Handle;
use crate::http::ReusedConnection;
use crate::negotiate;
use crate::origin::Origin;
use crate::progress::{Progress, Reporter, Start};
use crate::source::OpenSource;
use crate::upload::{self, Outcome, Put, StartFrom, random_token};

/// Bytes of the smallest part that is worth a connection of its own.
const PART_BYTES_MIN: u64 = 1024 * 1024;
/// The most parts: each is a connection, and a file that is open.
const PARTS_MAX: usize = 64;

/// How an upload goes in parts.
pub(super) struct PartsPlan {
    way: PartDialect,
    length: u64,
    count: usize,
    start: Start,
}

/// In which dialect.
enum PartDialect {
    /// With the URLs of the parts, as far as an earlier run got them.
    Tus1(Offers, Vec<Option<Uri>>),
    /// Under one token.
    Token(Token),
}

/// What an earlier run has left of parts, or what a new one is to make of them.
enum PreviousParts {
    None,
    Urls(Vec<Option<Uri>>),
    Numbered(Token, usize),
}

/// Whether it goes in parts.
pub(super) async fn plan(
    put: &Put,
    source: &OpenSource,
    record: &mut JournalRecord,
    connection: &mut ReusedConnection,
) -> Result<Option<PartsPlan>, Error> {
    let left = match &put.start_from {
        StartFrom::Handle(handle) => Previous::Same(handle.clone()),
        StartFrom::Journal => record.left(),
        StartFrom::NewToken(_) => Previous::None,
        StartFrom::ExistingUrl(_) => return Ok(None),
    };
    let (wish, start) = match left {
        Previous::Same(Handle::Parts { parts, .. }) => (PreviousParts::Urls(parts), Start::Resumed),
        Previous::Same(Handle::Numbered { token, parts, .. }) => {
            (PreviousParts::Numbered(token, parts), Start::Resumed)
        }
        // What was begun whole goes on whole.
        Previous::Same(Handle::Token { .. } | Handle::Url { .. }) => return Ok(None),
        Previous::None => (PreviousParts::None, Start::Fresh),
        Previous::Changed => (PreviousParts::None, Start::Changed),
    };
    let Some(length) = source.length().filter(|_| source.splits()) else { return Ok(None) };
    let most = usize::try_from(length / PART_BYTES_MIN).unwrap_or(usize::MAX).min(PARTS_MAX);
    let count = match &wish {
        PreviousParts::None => put.client.settings.parts.min(most),
        PreviousParts::Urls(urls) => urls.len(),
        PreviousParts::Numbered(_, parts) => *parts,
    };
    if !(2..=PARTS_MAX).contains(&count) {
        return Ok(None);
    }
    let named = matches!(put.client.settings.dialect, Dialect::Token(_))
        || matches!(put.start_from, StartFrom::NewToken(_));
    let way = match (wish, &put.start_from) {
        (PreviousParts::Numbered(token, _), _) => PartDialect::Token(token),
        (PreviousParts::None, StartFrom::NewToken(token)) => PartDialect::Token(token.clone()),
        (PreviousParts::None, _) if named => PartDialect::Token(random_token()?),
        (wish, _) => {
            let Some(offers) = offers(put, connection).await? else { return Ok(None) };
            PartDialect::Tus1(
                offers,
                if let PreviousParts::Urls(urls) = wish { urls } else { vec![None; count] },
            )
        }
    };
    Ok(Some(PartsPlan { way, length, count, start }))
}

/// What a server of tus 1.0 offers that joins parts.
async fn offers(put: &Put, connection: &mut ReusedConnection) -> Result<Option<Offers>, Error> {
    let offers = match put.client.settings.dialect {
        Dialect::Tus1 => negotiate::offers(&put.client, connection, &put.url).await?,
        Dialect::Auto => match negotiate::spoken(&put.client, connection, &put.url).await? {
            ServerSupport::Tus1(offers) => offers,
            // It has no parts. A server that has them for clients of tus may be spoken to as one.
            ServerSupport::Ietf(_) => match put.client.origins.of(&Origin::of(&put.url)?).tus {
                Some(offers) => offers,
                None => return Ok(None),
            },
            ServerSupport::Unknown(_) => return Ok(None),
        },
        Dialect::Ietf(_) | Dialect::Token(_) | Dialect::Conventional => return Ok(None),
    };
    Ok(Some(used(put, offers)).filter(|offers| offers.concatenates))
}

/// Sends the parts and has them joined.
pub(super) async fn send(
    put: &Put,
    source: &OpenSource,
    mut record: JournalRecord,
    plan: PartsPlan,
) -> Result<Outcome, Error> {
    record.keep_handle(plan.handle(put)).await?;
    put.reporter.update(|progress| progress.start = plan.start);
    let ranges = split(plan.length, plan.count);
    let reporters: Vec<_> = ranges.iter().map(|_| Reporter::new(upload::now)).collect();
    let record = Mutex::new(record);
    let mut runs = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        let started = plan.begin(put, index, range, true)?;
        let journal = match &plan.way {
            PartDialect::Tus1(..) => JournalSlot::Part(&record, index),
            // The token names them all.
            PartDialect::Token(_) => JournalSlot::Own(JournalRecord::none()),
        };
        let run = Transfer::new(put, source, journal, ReusedConnection::default(), started);
        let run = Transfer { base: range.start, reporter: &reporters[index], ..run };
        runs.push(Box::pin(part(run, &plan, index, range.clone())) as PartFuture<'_, FinishedPart>);
    }
    let done = join_all(runs, || report_sum(&reporters, &put.reporter)).await?;
    report_sum(&reporters, &put.reporter);

    let resumed_bytes = done.iter().map(|done| done.outcome.resumed_bytes).sum();
    let retries = done.iter().map(|done| done.outcome.retries).sum::<u32>();
    let outcome = match plan.joining(put, &done)? {
        None => done.into_iter().find(|done| done.is_last).map(|done| done.outcome),
        Some(started) => {
            let quiet = Reporter::new(upload::now);
            let joining = Transfer::new(
                put,
                source,
                JournalSlot::Own(JournalRecord::none()),
                ReusedConnection::default(),
                started,
            );
            Some(Transfer { reporter: &quiet, ..joining }.run().await?)
        }
    };
    let outcome = outcome.ok_or(Error::Upload(Failure::NotResumable))?;
    record.into_inner().remove().await?;
    put.reporter.update(|progress| (progress.activity, progress.eta) = (crate::Activity::Done, None));
    let retries = retries + if outcome.bytes == plan.length { outcome.retries } else { 0 };
    Ok(Outcome { bytes: plan.length, start: plan.start, resumed_bytes, retries, ..outcome })
}

impl PartsPlan {
    /// What a later run has to know.
    fn handle(&self, put: &Put) -> Handle {
        let url = put.url.clone();
        match &self.way {
            PartDialect::Tus1(_, parts) => Handle::Parts { url, parts: parts.clone() },
            PartDialect::Token(token) => Handle::Numbered { url, token: token.clone(), parts: self.count },
        }
    }

    /// Begins a part, where an earlier run has left it unless it `may_resume` nothing.
    fn begin(&self, put: &Put, index: usize, range: &Range<u64>, may_resume: bool) -> Result<Started, Error> {
        let (length, retries) = (Length::new(range.end - range.start), put.client.settings.retries);
        let (url, origin) = (put.url.clone(), put.origin()?);
        let is_new = (Start::Fresh, Dialect::Tus1);
        let (uploader, (start, dialect)) = match &self.way {
            PartDialect::Tus1(offers, known) => {
                match known.get(index).cloned().flatten().filter(|_| may_resume) {
                    Some(url) => {
                        let uploader = Uploader::resume_tus1(url, *offers, Role::Part, length, retries);
                        (uploader, (Start::Resumed, Dialect::Tus1))
                    }
                    None => {
                        (Uploader::create_tus1(url, *offers, Role::Part, origin, length, retries), is_new)
                    }
                }
            }
            PartDialect::Token(token) => {
                let is_known = self.start == Start::Resumed;
                let begin = if is_known { Uploader::resume } else { Uploader::create };
                let number = u64::try_from(index).ok().and_then(PartNumber::new);
                let number = number.ok_or(Error::Upload(Failure::NotResumable))?;
                let part = Part { number, last: index + 1 == self.count };
                let uploader = begin(url, token.clone(), origin, Some(length), retries);
                let start = if is_known { Start::Resumed } else { Start::Fresh };
                (uploader.in_form(put.form()).as_part(part), (start, Dialect::Token(put.form())))
            }
        };
        let uploader = match put.client.settings.content_max {
            Some(bytes) => uploader.with_content_max(bytes),
            None => uploader,
        };
        Ok(Started { uploader, dialect, start, sends_interim: false })
    }

    /// What is left to do when the server has all parts. Nothing, where one of the answers was to the whole.
    fn joining(&self, put: &Put, done: &[FinishedPart]) -> Result<Option<Started>, Error> {
        let (length, retries) = (Length::new(self.length), put.client.settings.retries);
        let (url, origin) = (put.url.clone(), put.origin()?);
        let (uploader, dialect) = match &self.way {
            PartDialect::Tus1(offers, _) => {
                let urls = done.iter().map(|done| done.url.clone()).collect();
                let role = Role::Joined(urls);
                (Uploader::create_tus1(url, *offers, role, origin, length, retries), Dialect::Tus1)
            }
            PartDialect::Token(_) if done.iter().any(|done| done.is_last) => return Ok(None),
            // Its answer was lost, or an earlier run heard it: the whole is asked for it.
            PartDialect::Token(token) => {
                let uploader = Uploader::resume(url, token.clone(), origin, length, retries);
                (uploader.in_form(put.form()), Dialect::Token(put.form()))
            }
        };
        Ok(Some(Started { uploader, dialect, start: self.start, sends_interim: false }))
    }
}

/// A part the server has.
struct FinishedPart {
    url: Uri,
    outcome: Outcome,
    /// Whether the answer was to the whole.
    is_last: bool,
}

/// Sends one part, afresh where an earlier run's is gone.
async fn part(
    mut run: Transfer<'_>,
    plan: &PartsPlan,
    index: usize,
    range: Range<u64>,
) -> Result<FinishedPart, Error> {
    loop {
        match run.drive().await {
            Err(Error::Upload(Failure::Gone)) if run.started.start == Start::Resumed => {
                run.started = plan.begin(run.put, index, &range, false)?;
                run.started.start = Start::Fresh;
            }
            ended => {
                ended?;
                let uploader = &run.started.uploader;
                let url = uploader.url().cloned().ok_or(Error::Upload(Failure::NotResumable))?;
                let is_last = matches!(plan.way, PartDialect::Token(_)) && uploader.is_answered();
                return Ok(FinishedPart { url, is_last, outcome: run.finish(Ok(())).await? });
            }
        }
    }
}

/// A part that is being sent.
type PartFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Ranges of about the same size that make up the whole.
fn split(length: u64, count: usize) -> Vec<Range<u64>> {
    let count = count as u64;
    let at = |index: u64| {
        u64::try_from(u128::from(length) * u128::from(index) / u128::from(count)).unwrap_or(length)
    };
    (0..count).map(|index| at(index)..at(index + 1)).collect()
}

/// What the parts have done together.
fn report_sum(parts: &[Reporter], whole: &Reporter) {
    let parts: Vec<Progress> = parts.iter().map(|part| *part.subscribe().borrow()).collect();
    let add = |of: fn(&Progress) -> u64| parts.iter().map(of).sum::<u64>();
    whole.update(|progress| {
        (progress.sent, progress.acknowledged) = (add(|part| part.sent), add(|part| part.acknowledged));
        (progress.rate, progress.resumed_bytes) = (add(|part| part.rate), add(|part| part.resumed_bytes));
        progress.retries = parts.iter().map(|part| part.retries).sum();
        progress.activity = parts.first().map(|part| part.activity).unwrap_or_default();
        progress.eta = parts.iter().filter_map(|part| part.eta).max();
    });
}

/// Awaits all of them, or the first that fails; `stirs` is called whenever one may have gone on.
async fn join_all<T>(runs: Vec<PartFuture<'_, T>>, stirs: impl Fn()) -> Result<Vec<T>, Error> {
    let mut runs: Vec<_> = runs.into_iter().map(|run| (Some(run), None)).collect();
    poll_fn(|cx| {
        let mut are_done = true;
        for (run, done) in &mut runs {
            let Some(running) = run else { continue };
            match running.as_mut().poll(cx) {
                Poll::Ready(Ok(ended)) => (*run, *done) = (None, Some(ended)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => are_done = false,
            }
        }
        stirs();
        if !are_done {
            return Poll::Pending;
        }
        Poll::Ready(Ok(runs.iter_mut().filter_map(|(_, done)| done.take()).collect()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole() {
        for (length, count) in [(10, 3), (7, 7), (u64::MAX, 64), (1_000_003, 2)] {
            let ranges = split(length, count);
            assert_eq!((ranges.len(), ranges[0].start, ranges[count - 1].end), (count, 0, length));
            assert!(ranges.windows(2).all(|two| two[0].end == two[1].start && two[0].start < two[0].end));
        }
    }
}
