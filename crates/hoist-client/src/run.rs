//! What happens between the beginning and the end of an upload: the loop that does what `Uploader` decides.
//!
//! `begin` finds out where to begin; here requests are made, and their ends reported.

mod begin;
mod found;
mod parts;
mod record;

use std::sync::Arc;

use hoist_proto::client::{Ask, Checksum, Failure, Heard, Moment, Step, Uploader};
use hoist_proto::dialect::answer;
use hoist_proto::dialect::ietf::client::refuses_version;
use hoist_proto::digest::{self, Algorithm};
use hoist_proto::types::Length;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::Instant;

use self::begin::Begun;
use self::record::{Keeper, Record};
use crate::client::Client;
use crate::dialect::{Dialect, Spoken};
use crate::error::Error;
use crate::http::{Answer, Awaited, Broken, Ended, Hearing, Hears, Line, Outgoing};
use crate::location;
use crate::negotiate;
use crate::origin::Origin;
use crate::problem;
use crate::progress::{Doing, Flow, Reporter, Start};
use crate::redirect::{self, Hops};
use crate::source::{Gate, Opened};
use crate::upload::{self, Known, Outcome, Put};

/// Content below this many bytes is not held back until the server has given a sign: it costs less than the wait.
const AWAITED_BYTES: u64 = 256 * 1024;
/// Permanent redirections that are remembered.
const MOVED_MAX: usize = 16;

/// Carries an upload out.
pub(crate) async fn send(mut put: Put) -> Result<Outcome, Error> {
    let settings = put.client.settings;
    let keeps = settings.rewind_bytes_max;
    let path = put.source.path().map(ToOwned::to_owned);
    let mut source = std::mem::replace(&mut put.source, crate::Source::bytes("")).open(keeps).await?;
    source.bytes_per_second = settings.bytes_per_second;
    put.reporter.tell(|progress| progress.length = source.length());
    if put.verifies {
        match (put.sha256, source.length().filter(|_| source.rewinds())) {
            (None, Some(length)) => {
                let found = source.checksum(Checksum::Sha256, 0..length).await?;
                put.sha256 = found.and_then(|found| found.try_into().ok());
            }
            _ => source.hash(),
        }
    }
    // A later run cannot go on in the middle of what can be read once.
    let path = path.filter(|_| source.rewinds());
    let mut record = match (put.journal.take(), path, &put.known) {
        (Some(journal), Some(path), Known::Nothing) => Record::open(journal, path, &put.url).await?,
        _ => Record::none(),
    };
    let mut line = Line::default();
    found::look(&mut put, &source, &record, &mut line).await?;
    if let Some(plan) = parts::plan(&put, &source, &mut record, &mut line).await? {
        return parts::send(&put, &source, record, plan).await;
    }
    let begun = begin::begin(&put, &source, &mut record, &mut line).await?;
    Run::new(&put, &source, Keeper::Own(record), line, begun).carried_out().await
}

/// An upload under way.
struct Run<'a> {
    put: &'a Put,
    source: &'a Opened,
    /// Where in the source it begins: not at the beginning, when it is a part.
    base: u64,
    reporter: &'a Reporter,
    keeper: Keeper<'a>,
    line: Line,
    begun: Begun,
    start: Instant,
    last: Last,
    /// Whether content may still be held back for a sign. The first that is much is, and no other.
    may_wait: bool,
    /// URLs that the server has moved for good, and where to.
    moved: Vec<(Uri, Uri)>,
    /// Set when the server has shown that it speaks an upload protocol.
    is_resumable: bool,
}

/// One request that has ended.
struct Attempt {
    result: Result<Ended, Broken>,
    flow: Arc<Flow>,
    /// True if its content was held back until a sign came.
    was_awaited: bool,
}

/// How the last request ended.
#[derive(Default)]
struct Last {
    answer: Option<Answer>,
    error: Option<Error>,
}

impl<'a> Run<'a> {
    fn new(put: &'a Put, source: &'a Opened, keeper: Keeper<'a>, line: Line, begun: Begun) -> Self {
        let (start, last, reporter) = (upload::now(), Last::default(), &put.reporter);
        Self {
            put,
            source,
            base: 0,
            reporter,
            keeper,
            line,
            begun,
            start,
            last,
            may_wait: true,
            moved: Vec::new(),
            is_resumable: false,
        }
    }

    fn client(&self) -> &Client {
        &self.put.client
    }

    /// Goes on until there is an outcome, afresh where an earlier run's upload is gone.
    async fn carried_out(mut self) -> Result<Outcome, Error> {
        loop {
            match self.work().await {
                Err(Error::Upload(Failure::Gone)) if self.can_begin_afresh() => self.begin_afresh().await?,
                ended => return self.finish(ended).await,
            }
        }
    }

    /// Does what is to be done until the server has it all.
    async fn work(&mut self) -> Result<(), Error> {
        loop {
            match self.begun.uploader.step() {
                Step::Wait(wait) => {
                    let offset = self.begun.uploader.acknowledged().get();
                    tracing::debug!(?wait, offset, "waiting before the next attempt");
                    self.reporter.tell(|progress| progress.doing = Doing::Waiting(wait));
                    tokio::time::sleep(wait).await;
                }
                Step::Send(ask) => self.attempt(*ask).await?,
                Step::Done => return Ok(()),
                Step::Failed(failure) => {
                    let answer = self.last.answer.as_ref();
                    let precise = match failure {
                        Failure::Rejected(_) => answer.and_then(redirect::error),
                        Failure::NotResumable => {
                            answer.and_then(|answer| redirect::unreadable(answer, &self.put.url))
                        }
                        _ => None,
                    };
                    if let Some(error) = precise {
                        return Err(error);
                    }
                    let detail = answer.and_then(problem::detail);
                    return Err(Error::of(failure, detail, self.last.error.take()));
                }
            }
        }
    }

    /// One request. An error ends the upload; what ends only the attempt is reported to the machine.
    async fn attempt(&mut self, ask: Ask) -> Result<(), Error> {
        let Attempt { result, flow, was_awaited } = self.followed(&ask).await?;
        let moment = self.moment()?;
        let uploader = &mut self.begun.uploader;
        let sent = match &result {
            Ok(Ended::Answered(Answer { sent, .. }) | Ended::Stopped { sent }) | Err(Broken { sent, .. }) => {
                *sent
            }
        };
        uploader.on_sent(sent);
        if ask.is_open && flow.has_ended() {
            uploader.on_content_end(sent);
        }
        if let Some(length) = self.source.ended_at() {
            uploader.on_source_end(Length::new(length));
        }
        match result {
            // The request is made again as it was, only without waiting.
            Ok(Ended::Answered(answer)) if was_awaited && answer::is_unexpected(answer.status) => {}
            Ok(Ended::Answered(answer)) => {
                self.is_resumable |= negotiate::shows_a_protocol(&answer.fields);
                uploader.on_response(answer.status, &answer.fields, moment);
                if !refuses_version(answer.status, &answer.fields) {
                    self.note_version()?;
                }
                self.last = Last { answer: Some(answer), error: None };
            }
            Ok(Ended::Stopped { .. }) => {}
            Err(Broken { error, .. }) if !error.ends_an_attempt() => return Err(error),
            Err(Broken { error, reached, sent }) => {
                tracing::debug!(%error, reached, sent, "an attempt was interrupted");
                uploader.on_lost(reached, moment);
                self.last = Last { answer: None, error: Some(error) };
            }
        }
        note(&self.begun.uploader, self.reporter, self.source);
        usable(&self.put.url, &self.begun.uploader)?;
        self.keeper.keep(self.begun.uploader.url(), self.begun.dialect).await
    }

    /// Makes a request, and makes it again where the server leads with 307 or 308.
    async fn followed(&mut self, ask: &Ask) -> Result<Attempt, Error> {
        let (mut hops, mut to) = (Hops::default(), None);
        loop {
            let mut outgoing = self.outgoing(ask.clone()).await?;
            let (from, head) = (self.url(&mut outgoing, to.take())?, outgoing.head.clone());
            let attempt = self.exchanged(&from, outgoing, ask.content.is_some()).await?;
            let Ok(Ended::Answered(answer)) = &attempt.result else { return Ok(attempt) };
            to = hops.next(&head, &from, answer)?;
            let Some(next) = &to else { return Ok(attempt) };
            self.may_wait |= attempt.was_awaited;
            if redirect::is_permanent(answer) && self.moved.len() < MOVED_MAX {
                self.moved.push((from, next.clone()));
            }
        }
    }

    /// The URL a request goes to, which leaves the request with the path alone.
    fn url(&self, outgoing: &mut Outgoing, redirected: Option<Uri>) -> Result<Uri, Error> {
        let named = outgoing.head.uri();
        let mut url = match redirected {
            Some(url) => url,
            None if named.authority().is_none() => self.put.url.clone(),
            None => location::followed(&self.put.url, named)?,
        };
        for (from, to) in &self.moved {
            if *from == url {
                url = to.clone();
            }
        }
        *outgoing.head.uri_mut() = redirect::target(&url);
        Ok(url)
    }

    /// Sends a request, and looks at what became of the source meanwhile.
    async fn exchanged(&mut self, url: &Uri, outgoing: Outgoing, transfers: bool) -> Result<Attempt, Error> {
        let (flow, trip) = (outgoing.content.meter().flow(), outgoing.content.failure());
        let was_awaited = outgoing.awaited.is_some();
        let (result, saw_sign) = self.exchange(url, outgoing).await;
        if let Some(error) = trip.take() {
            return Err(self.source.failed(error));
        }
        if transfers {
            self.source.unchanged().await?;
        }
        let is_redirection =
            matches!(&result, Ok(Ended::Answered(answer)) if redirect::error(answer).is_some());
        if was_awaited && !saw_sign && !is_redirection {
            let origin = Origin::of(&self.put.url)?;
            self.client().habits.learn(&origin, |habit| habit.gives_no_sign = true);
        }
        Ok(Attempt { result, flow, was_awaited })
    }

    /// Remembers the version that the server made the client turn to.
    //= IETF-VER-11
    fn note_version(&mut self) -> Result<(), Error> {
        let dialect = self.begun.spoken();
        if dialect == self.begun.dialect {
            return Ok(());
        }
        tracing::debug!(%dialect, refused = %self.begun.dialect, "the server refused a version, and took another");
        self.begun.dialect = dialect;
        let Dialect::Ietf(version) = dialect else { return Ok(()) };
        let origin = Origin::of(&self.put.url)?;
        self.client().habits.learn(&origin, |habit| {
            habit.spoken = match habit.spoken {
                Some(Spoken::Ietf(_)) => Some(Spoken::Ietf(version)),
                Some(Spoken::Unknown(_)) | None => Some(Spoken::Unknown(version)),
                Some(Spoken::Tus1(offers)) => Some(Spoken::Tus1(offers)),
            };
        });
        Ok(())
    }

    fn moment(&self) -> Result<Moment, Error> {
        Ok(Moment { elapsed: self.start.elapsed(), random: upload::random()? })
    }

    /// The request as it goes out.
    async fn outgoing(&mut self, mut ask: Ask) -> Result<Outgoing, Error> {
        let Some(range) = ask.content.take() else {
            self.reporter.tell(|progress| progress.doing = Doing::Asking);
            if matches!(*ask.head.method(), Method::POST | Method::PATCH | Method::PUT) {
                ask.head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            }
            return Ok(Outgoing::question(ask.head, Origin::of(&self.put.url)?));
        };
        self.reporter.tell(|progress| progress.doing = Doing::Sending);
        let fields = ask.head.headers_mut();
        if !ask.is_open {
            // Spelled out, because nothing would be said of content that is empty.
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        }
        if let Some(kind) = ask.checksum
            && let Some(digest) =
                self.source.checksum(kind, self.base + range.start..self.base + range.end).await?
        {
            let (name, value) = kind.field(&digest);
            fields.insert(name, value);
        }
        let is_much = ask.is_open || range.end - range.start >= AWAITED_BYTES;
        let meter = self.reporter.meter(range.start);
        let range = self.base + range.start..self.base.saturating_add(range.end);
        let content = self.source.content(range, ask.is_open, meter).await?;
        let given = Origin::of(&self.put.url)?;
        let habit = self.client().habits.of(&given);
        let waits = is_much && self.begun.gives_signs && self.may_wait && !habit.gives_no_sign;
        self.may_wait &= !is_much;
        if waits {
            ask.head.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            let gate = Gate::default();
            let limit = self.client().settings.expect_timeout;
            let awaited = Some(Awaited { gate: gate.clone(), limit });
            return Ok(Outgoing { head: ask.head, content: content.behind(gate), awaited, given });
        }
        Ok(Outgoing { head: ask.head, content, awaited: None, given })
    }

    /// Sends a request, hears what comes before its answer, and says whether anything did.
    async fn exchange(&mut self, url: &Uri, outgoing: Outgoing) -> (Result<Ended, Broken>, bool) {
        let Self { put, source, reporter, keeper, line, begun, start, is_resumable, .. } = self;
        let dialect = begun.spoken();
        let uploader = &mut begun.uploader;
        let mut ears = Ears {
            target: &put.url,
            url,
            uploader,
            dialect,
            keeper,
            reporter,
            source,
            start: *start,
            is_resumable,
            heard_any: false,
            broken: None,
        };
        let mut ended = line.exchange(&put.client.connector, url, outgoing, upload::now(), &mut ears).await;
        let Ears { heard_any, broken, .. } = ears;
        if let Ok(Ended::Answered(answer)) = &mut ended
            && *url != put.url
        {
            redirect::rebase(&mut answer.fields, url);
        }
        match broken {
            Some(error) => (Err(Broken { error, reached: true, sent: 0 }), heard_any),
            None => (ended, heard_any),
        }
    }

    /// Returns `true` if a new upload may replace this one. It must have been resumed from the journal and its source
    /// must rewind. An upload that was requested by its own URL is never replaced.
    fn can_begin_afresh(&self) -> bool {
        let is_at_its_own_url =
            self.begun.dialect_has_urls() && self.begun.uploader.url() == Some(&self.put.url);
        let is_left = self.begun.start == Start::Resumed && self.keeper.is_kept();
        is_left && self.source.rewinds() && !is_at_its_own_url
    }

    async fn begin_afresh(&mut self) -> Result<(), Error> {
        let Keeper::Own(record) = &mut self.keeper else { return Err(Error::Upload(Failure::Gone)) };
        self.begun = begin::create(self.put, self.source, record, &mut self.line).await?;
        self.begun.start = Start::Forgotten;
        self.reporter.tell(|progress| progress.start = Start::Forgotten);
        Ok(())
    }

    async fn finish(mut self, ended: Result<(), Error>) -> Result<Outcome, Error> {
        self.resumable(&ended)?;
        ended?;
        let uploader = &self.begun.uploader;
        let bytes = uploader.acknowledged().get();
        let answer = self.last.answer.take().expect("an upload ends well with an answer");
        let sha256 = self.put.sha256.or_else(|| self.source.sha256());
        let theirs = digest::said(&answer.fields, &digest::REPR_DIGEST);
        let theirs = theirs.into_iter().find(|digest| digest.algorithm == Algorithm::Sha256);
        let verified = match (&sha256, theirs) {
            (Some(ours), Some(theirs)) if theirs.octets == ours => true,
            (Some(_), Some(theirs)) => {
                return Err(Error::Digest { theirs: crate::digest::hex(&theirs.octets) });
            }
            (Some(_) | None, _) => false,
        };
        self.keeper.remove().await?;
        self.reporter.tell(|progress| {
            (progress.doing, progress.length) = (Doing::Done, Some(bytes));
            progress.eta = None;
        });
        // A server that has never heard of the dialect took an ordinary request.
        //= IETF-CLI-18
        let dialect = match self.begun.dialect {
            Dialect::Ietf(_) if !self.is_resumable => Dialect::Conventional,
            dialect => dialect,
        };
        let url = match dialect {
            Dialect::Ietf(_) | Dialect::Tus1 => uploader.url().cloned(),
            Dialect::Auto | Dialect::Token(_) | Dialect::Conventional => None,
        };
        let Answer { status, version, fields, content, .. } = answer;
        Ok(Outcome {
            bytes,
            resumed_bytes: uploader.resumed_at().get(),
            retries: uploader.attempts_repeated(),
            status,
            fields,
            content,
            url,
            version,
            dialect,
            resumable: self.is_resumable,
            start: self.begun.start,
            sha256,
            verified,
        })
    }
}

impl Run<'_> {
    /// Refuses a server that has shown no upload protocol in its answers, where the caller wants one that has.
    fn resumable(&self, ended: &Result<(), Error>) -> Result<(), Error> {
        let is_over = matches!(ended, Ok(()) | Err(Error::Upload(Failure::NotResumable)));
        match &self.last.answer {
            Some(answer) if is_over && !self.is_resumable && self.put.client.settings.requires_resumable => {
                Err(Error::Unresumable { status: answer.status })
            }
            _ => Ok(()),
        }
    }
}

/// Hears interim responses for the machine.
struct Ears<'r, 'a> {
    /// The URL the upload is sent to.
    target: &'r Uri,
    /// The URL this request goes to.
    url: &'r Uri,
    uploader: &'r mut Uploader,
    dialect: Dialect,
    keeper: &'r mut Keeper<'a>,
    reporter: &'r Reporter,
    source: &'r Opened,
    start: Instant,
    is_resumable: &'r mut bool,
    heard_any: bool,
    /// Why the upload cannot go on.
    broken: Option<Error>,
}

impl Hears for Ears<'_, '_> {
    fn hear<'h>(&'h mut self, status: StatusCode, fields: &'h HeaderMap, sent: u64) -> Hearing<'h> {
        Box::pin(async move {
            self.heard_any = true;
            *self.is_resumable |= status.as_u16() == 104;
            let Ok(random) = upload::random() else { return Heard::GoOn };
            self.uploader.on_sent(sent);
            let moment = Moment { elapsed: self.start.elapsed(), random };
            let rebased = (self.url != self.target).then(|| {
                let mut fields = fields.clone();
                redirect::rebase(&mut fields, self.url);
                fields
            });
            let heard = self.uploader.on_interim(status, rebased.as_ref().unwrap_or(fields), moment);
            // At once: whatever happens to this process, the upload is found again.
            let kept = match usable(self.target, self.uploader) {
                Ok(()) => self.keeper.keep(self.uploader.url(), self.dialect).await,
                Err(error) => Err(error),
            };
            note(self.uploader, self.reporter, self.source);
            match kept {
                Ok(()) => heard,
                Err(error) => {
                    self.broken = Some(error);
                    Heard::Stop
                }
            }
        })
    }
}

/// Tells watchers and source what the server has said.
fn note(uploader: &Uploader, reporter: &Reporter, source: &Opened) {
    let acknowledged = uploader.acknowledged().get();
    source.release(acknowledged);
    reporter.tell(|progress| {
        progress.acknowledged = acknowledged;
        progress.retries = uploader.attempts_repeated();
        progress.resumed_bytes = uploader.resumed_at().get();
        progress.length = uploader.length().map(Length::get);
    });
}

/// Makes sure that the URL the server gave the upload can be used before anything is kept of it.
fn usable(target: &Uri, uploader: &Uploader) -> Result<(), Error> {
    match uploader.url() {
        Some(url) if !uploader.is_answered() => location::followed(target, url).map(drop),
        Some(_) | None => Ok(()),
    }
}
