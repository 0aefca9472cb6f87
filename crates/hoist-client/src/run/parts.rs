//! An upload in parts that are sent at the same time and joined by the server: tus 1.0 with concatenation.
//!
//! Each part is an upload of its own, over a connection of its own. They are driven by one future, so that dropping it
//! leaves nothing behind.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;

use hoist_proto::client::{Failure, Offers, Role, Uploader};
use hoist_proto::types::Length;
use http::Uri;
use tokio::sync::Mutex;

use super::Run;
use super::begin::Begun;
use super::record::{Keeper, Left, Record};
use crate::dialect::{Dialect, Spoken};
use crate::error::Error;
use crate::handle::Handle;
use crate::http::Line;
use crate::negotiate;
use crate::progress::{Progress, Reporter, Start};
use crate::source::Opened;
use crate::upload::{self, Known, Outcome, Put};

/// Bytes of the smallest part that is worth a connection of its own.
const PART_BYTES_MIN: u64 = 1024 * 1024;
/// The most parts: each is a connection, and a file that is open.
const PARTS_MAX: usize = 64;

/// How an upload goes in parts.
pub(super) struct Plan {
    offers: Offers,
    length: u64,
    /// The URLs of the parts, as far as an earlier run got them.
    known: Vec<Option<Uri>>,
    start: Start,
}

/// Whether it goes in parts.
pub(super) async fn plan(
    put: &Put,
    source: &Opened,
    record: &mut Record,
    line: &mut Line,
) -> Result<Option<Plan>, Error> {
    let (Some(length), Known::Nothing | Known::Maybe(Handle::Parts { .. })) = (source.length(), &put.known)
    else {
        return Ok(None);
    };
    let left = match &put.known {
        Known::Maybe(handle) => Left::Same(handle.clone()),
        Known::Nothing | Known::Fresh(_) => record.left(),
    };
    let (known, start) = match left {
        Left::Same(Handle::Parts { parts, .. }) => (parts, Start::Resumed),
        // What was begun whole goes on whole.
        Left::Same(Handle::Token { .. } | Handle::Url { .. }) => return Ok(None),
        Left::Nothing => (Vec::new(), Start::Fresh),
        Left::Changed => (Vec::new(), Start::Changed),
    };
    let most = usize::try_from(length / PART_BYTES_MIN).unwrap_or(usize::MAX).min(PARTS_MAX);
    let count = if known.is_empty() { put.client.settings.parts.min(most) } else { known.len() };
    if count < 2 || !source.splits() {
        return Ok(None);
    }
    let offers = match put.client.settings.dialect {
        Dialect::Tus1 => negotiate::offers(&put.client, line, &put.url).await?,
        Dialect::Auto => match negotiate::spoken(&put.client, line, &put.url).await? {
            Spoken::Tus1(offers) => offers,
            Spoken::Ietf(_) | Spoken::Unknown => return Ok(None),
        },
        Dialect::Ietf(_) | Dialect::Token(_) | Dialect::Conventional => return Ok(None),
    };
    if !offers.concatenates {
        return Ok(None);
    }
    let known = if known.is_empty() { vec![None; count] } else { known };
    Ok(Some(Plan { offers, length, known, start }))
}

/// Sends the parts and has them joined.
pub(super) async fn send(
    put: &Put,
    source: &Opened,
    mut record: Record,
    plan: Plan,
) -> Result<Outcome, Error> {
    record.keep_handle(Handle::Parts { url: put.url.clone(), parts: plan.known.clone() }).await?;
    put.reporter.tell(|progress| progress.start = plan.start);
    let ranges = split(plan.length, plan.known.len());
    let reporters: Vec<_> = ranges.iter().map(|_| Reporter::new(upload::now)).collect();
    let record = Mutex::new(record);
    let mut runs = Vec::new();
    for (index, (range, url)) in ranges.iter().zip(&plan.known).enumerate() {
        let begun = begin(put, &plan, range, url.as_ref())?;
        let keeper = Keeper::Part(&record, index);
        let run = Run::new(put, source, keeper, Line::default(), begun);
        let run = Run { base: range.start, reporter: &reporters[index], ..run };
        runs.push(Box::pin(part(run, &plan, range.clone())) as Running<'_, Done>);
    }
    let done = together(runs, || sum(&reporters, &put.reporter)).await?;
    sum(&reporters, &put.reporter);

    let urls = done.iter().map(|done| done.url.clone()).collect();
    let (length, retries) = (Length::new(plan.length), put.client.settings.retries);
    let (target, role) = (put.url.clone(), Role::Joined(urls));
    let uploader = Uploader::create_tus1(target, plan.offers, role, put.origin()?, length, retries);
    let begun = Begun { uploader, dialect: Dialect::Tus1, start: plan.start, gives_signs: false };
    let quiet = Reporter::new(upload::now);
    let joining = Run::new(put, source, Keeper::Part(&record, usize::MAX), Line::default(), begun);
    let outcome = Run { reporter: &quiet, ..joining }.carried_out().await?;
    record.into_inner().remove().await?;
    put.reporter.tell(|progress| (progress.doing, progress.eta) = (crate::Doing::Done, None));
    Ok(Outcome {
        resumed_bytes: done.iter().map(|done| done.resumed_bytes).sum(),
        retries: done.iter().map(|done| done.retries).sum::<u32>() + outcome.retries,
        ..outcome
    })
}

/// A part that is being sent.
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A part the server has.
struct Done {
    url: Uri,
    resumed_bytes: u64,
    retries: u32,
}

fn begin(put: &Put, plan: &Plan, range: &Range<u64>, url: Option<&Uri>) -> Result<Begun, Error> {
    let (length, retries) = (Length::new(range.end - range.start), put.client.settings.retries);
    let (offers, role, origin) = (plan.offers, Role::Part, put.origin()?);
    let (uploader, start) = match url {
        Some(url) => (Uploader::resume_tus1(url.clone(), offers, role, length, retries), Start::Resumed),
        None => (Uploader::create_tus1(put.url.clone(), offers, role, origin, length, retries), Start::Fresh),
    };
    let uploader = match put.client.settings.content_max {
        Some(bytes) => uploader.with_content_max(bytes),
        None => uploader,
    };
    Ok(Begun { uploader, dialect: Dialect::Tus1, start, gives_signs: false })
}

/// Sends one part, afresh where an earlier run's is gone.
async fn part(mut run: Run<'_>, plan: &Plan, range: Range<u64>) -> Result<Done, Error> {
    loop {
        match run.work().await {
            Err(Error::Upload(Failure::Gone)) if run.begun.start == Start::Resumed => {
                run.begun = begin(run.put, plan, &range, None)?;
            }
            ended => {
                ended?;
                let uploader = &run.begun.uploader;
                let url = uploader.url().cloned().ok_or(Error::Upload(Failure::NotResumable))?;
                let (resumed_bytes, retries) = (uploader.resumed_at().get(), uploader.attempts_repeated());
                return Ok(Done { url, resumed_bytes, retries });
            }
        }
    }
}

/// Ranges of about the same size that make up the whole.
fn split(length: u64, count: usize) -> Vec<Range<u64>> {
    let count = count as u64;
    let at = |index: u64| {
        u64::try_from(u128::from(length) * u128::from(index) / u128::from(count)).unwrap_or(length)
    };
    (0..count).map(|index| at(index)..at(index + 1)).collect()
}

/// What the parts have done together.
fn sum(parts: &[Reporter], whole: &Reporter) {
    let parts: Vec<Progress> = parts.iter().map(|part| *part.subscribe().borrow()).collect();
    let add = |of: fn(&Progress) -> u64| parts.iter().map(of).sum::<u64>();
    whole.tell(|progress| {
        (progress.sent, progress.acknowledged) = (add(|part| part.sent), add(|part| part.acknowledged));
        (progress.rate, progress.resumed_bytes) = (add(|part| part.rate), add(|part| part.resumed_bytes));
        progress.retries = parts.iter().map(|part| part.retries).sum();
        progress.doing = parts.first().map(|part| part.doing).unwrap_or_default();
        progress.eta = parts.iter().filter_map(|part| part.eta).max();
    });
}

/// Awaits all of them, or the first that fails; `stirs` is called whenever one may have gone on.
async fn together<T>(runs: Vec<Running<'_, T>>, stirs: impl Fn()) -> Result<Vec<T>, Error> {
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
