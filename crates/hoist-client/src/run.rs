//! What happens between the beginning and the end of an upload: the loop that does what `Uploader` decides.
//!
//! `begin` finds out where to begin; here requests are made, and their ends reported.

mod existing;
mod journal_slot;
mod parts;
mod start;

use std::sync::Arc;

use hoist_proto::client::{Ask, Checksum, Failure, Heard, Moment, Step, Uploader};
use hoist_proto::dialect::answer;
use hoist_proto::dialect::ietf::client::refuses_version;
use hoist_proto::digest::{self, Algorithm};
use hoist_proto::types::Length;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::Instant;

use self::journal_slot::{JournalRecord, JournalSlot};
use self::start::Started;
use crate::client::Client;
use crate::dialect::{Dialect, ServerSupport};
use crate::error::Error;
use crate::http::{
    ExchangeEnd, ExchangeError, ExpectContinue, FinalResponse, InterimObserver, ObserverFuture,
    OutgoingRequest, ReusedConnection,
};
use crate::location;
use crate::negotiate;
use crate::origin::Origin;
use crate::problem;
use crate::progress::{Activity, ContentFlow, Reporter, Start};
use crate::redirect::{self, Hops};
use crate::source::{Gate, OpenSource};
use crate::upload::{self, Outcome, Put, StartFrom};

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
    put.reporter.update(|progress| progress.length = source.length());
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
    let mut record = match (put.journal.take(), path, &put.start_from) {
        (Some(journal), Some(path), StartFrom::Journal) => {
            JournalRecord::open(journal, path, &put.url).await?
        }
        _ => JournalRecord::none(),
    };
    let mut connection = ReusedConnection::default();
    existing::detect(&mut put, &source, &record, &mut connection).await?;
    if let Some(plan) = parts::plan(&put, &source, &mut record, &mut connection).await? {
        return parts::send(&put, &source, record, plan).await;
    }
    let started = start::start(&put, &source, &mut record, &mut connection).await?;
    Transfer::new(&put, &source, JournalSlot::Own(record), connection, started).run().await
}

/// An upload under way.
struct Transfer<'a> {
    put: &'a Put,
    source: &'a OpenSource,
    /// Where in the source it begins: not at the beginning, when it is a part.
    base: u64,
    reporter: &'a Reporter,
    journal: JournalSlot<'a>,
    connection: ReusedConnection,
    started: Started,
    start: Instant,
    last: LastResult,
    /// Whether content may still be held back for a sign. The first that is much is, and no other.
    may_expect_continue: bool,
    /// URLs that the server has moved for good, and where to.
    moved: Vec<(Uri, Uri)>,
    /// Set when the server has shown that it speaks an upload protocol.
    is_resumable: bool,
}

/// One request that has ended.
struct Attempt {
    result: Result<ExchangeEnd, ExchangeError>,
    flow: Arc<ContentFlow>,
    /// True if its content was held back until a sign came.
    was_awaited: bool,
}

/// How the last request ended.
#[derive(Default)]
struct LastResult {
    answer: Option<FinalResponse>,
    error: Option<Error>,
}

impl<'a> Transfer<'a> {
    fn new(
        put: &'a Put,
        source: &'a OpenSource,
        journal: JournalSlot<'a>,
        connection: ReusedConnection,
        started: Started,
    ) -> Self {
        let (start, last, reporter) = (upload::now(), LastResult::default(), &put.reporter);
        Self {
            put,
            source,
            base: 0,
            reporter,
            journal,
            connection,
            started,
            start,
            last,
            may_expect_continue: true,
            moved: Vec::new(),
            is_resumable: false,
        }
    }

    fn client(&self) -> &Client {
        &self.put.client
    }

    /// Goes on until there is an outcome, afresh where an earlier run's upload is gone.
    async fn run(mut self) -> Result<Outcome, Error> {
        loop {
            match self.drive().await {
                Err(Error::Upload(Failure::Gone)) if self.can_restart() => self.restart().await?,
                ended => return self.finish(ended).await,
            }
        }
    }

    /// Does what is to be done until the server has it all.
    async fn drive(&mut self) -> Result<(), Error> {
        loop {
            match self.started.uploader.step() {
                Step::Wait(wait) => {
                    let offset = self.started.uploader.acknowledged().get();
                    tracing::debug!(?wait, offset, "waiting before the next attempt");
                    self.reporter.update(|progress| progress.activity = Activity::Waiting(wait));
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
        let Attempt { result, flow, was_awaited } = self.send_following_redirects(&ask).await?;
        let moment = self.moment()?;
        let uploader = &mut self.started.uploader;
        let sent = match &result {
            Ok(ExchangeEnd::Response(FinalResponse { sent, .. }) | ExchangeEnd::Stopped { sent })
            | Err(ExchangeError { sent, .. }) => *sent,
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
            Ok(ExchangeEnd::Response(answer)) if was_awaited && answer::is_unexpected(answer.status) => {}
            Ok(ExchangeEnd::Response(answer)) => {
                self.is_resumable |= negotiate::shows_a_protocol(&answer.fields);
                uploader.on_response(answer.status, &answer.fields, moment);
                if !refuses_version(answer.status, &answer.fields) {
                    self.note_version()?;
                }
                self.last = LastResult { answer: Some(answer), error: None };
            }
            Ok(ExchangeEnd::Stopped { .. }) => {}
            Err(ExchangeError { error, .. }) if !error.ends_an_attempt() => return Err(error),
            Err(ExchangeError { error, reached, sent }) => {
                tracing::debug!(%error, reached, sent, "an attempt was interrupted");
                uploader.on_lost(reached, moment);
                self.last = LastResult { answer: None, error: Some(error) };
            }
        }
        note(&self.started.uploader, self.reporter, self.source);
        usable(&self.put.url, &self.started.uploader)?;
        self.journal.keep(self.started.uploader.url(), self.started.dialect).await
    }

    /// Makes a request, and makes it again where the server leads with 307 or 308.
    async fn send_following_redirects(&mut self, ask: &Ask) -> Result<Attempt, Error> {
        let (mut hops, mut to) = (Hops::default(), None);
        loop {
            let mut outgoing = self.outgoing(ask.clone()).await?;
            let (from, head) = (self.url(&mut outgoing, to.take())?, outgoing.head.clone());
            let attempt = self.send_once(&from, outgoing, ask.content.is_some()).await?;
            let Ok(ExchangeEnd::Response(answer)) = &attempt.result else { return Ok(attempt) };
            to = hops.next(&head, &from, answer)?;
            let Some(next) = &to else { return Ok(attempt) };
            self.may_expect_continue |= attempt.was_awaited;
            if redirect::is_permanent(answer) && self.moved.len() < MOVED_MAX {
                self.moved.push((from, next.clone()));
            }
        }
    }

    /// The URL a request goes to, which leaves the request with the path alone.
    fn url(&self, outgoing: &mut OutgoingRequest, redirected: Option<Uri>) -> Result<Uri, Error> {
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
    async fn send_once(
        &mut self,
        url: &Uri,
        outgoing: OutgoingRequest,
        transfers: bool,
    ) -> Result<Attempt, Error> {
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
            matches!(&result, Ok(ExchangeEnd::Response(answer)) if redirect::error(answer).is_some());
        if was_awaited && !saw_sign && !is_redirection {
            let origin = Origin::of(&self.put.url)?;
            self.client().origins.learn(&origin, |facts| facts.ignores_expect = true);
        }
        Ok(Attempt { result, flow, was_awaited })
    }

    /// Remembers the version that the server made the client turn to.
    //= IETF-VER-11
    fn note_version(&mut self) -> Result<(), Error> {
        let dialect = self.started.spoken();
        if dialect == self.started.dialect {
            return Ok(());
        }
        tracing::debug!(%dialect, refused = %self.started.dialect, "the server refused a version, and took another");
        self.started.dialect = dialect;
        let Dialect::Ietf(version) = dialect else { return Ok(()) };
        let origin = Origin::of(&self.put.url)?;
        self.client().origins.learn(&origin, |facts| {
            facts.support = match facts.support {
                Some(ServerSupport::Ietf(_)) => Some(ServerSupport::Ietf(version)),
                Some(ServerSupport::Unknown(_)) | None => Some(ServerSupport::Unknown(version)),
                Some(ServerSupport::Tus1(offers)) => Some(ServerSupport::Tus1(offers)),
            };
        });
        Ok(())
    }

    fn moment(&self) -> Result<Moment, Error> {
        Ok(Moment { elapsed: self.start.elapsed(), random: upload::random()? })
    }

    /// The request as it goes out.
    async fn outgoing(&mut self, mut ask: Ask) -> Result<OutgoingRequest, Error> {
        let Some(range) = ask.content.take() else {
            self.reporter.update(|progress| progress.activity = Activity::Asking);
            if matches!(*ask.head.method(), Method::POST | Method::PATCH | Method::PUT) {
                ask.head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            }
            return Ok(OutgoingRequest::without_content(ask.head, Origin::of(&self.put.url)?));
        };
        self.reporter.update(|progress| progress.activity = Activity::Sending);
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
        let facts = self.client().origins.of(&given);
        let waits =
            is_much && self.started.sends_interim && self.may_expect_continue && !facts.ignores_expect;
        self.may_expect_continue &= !is_much;
        if waits {
            ask.head.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            let gate = Gate::default();
            let limit = self.client().settings.expect_timeout;
            let awaited = Some(ExpectContinue { gate: gate.clone(), limit });
            return Ok(OutgoingRequest { head: ask.head, content: content.behind(gate), awaited, given });
        }
        Ok(OutgoingRequest { head: ask.head, content, awaited: None, given })
    }

    /// Sends a request, observer what comes before its answer, and says whether anything did.
    async fn exchange(
        &mut self,
        url: &Uri,
        outgoing: OutgoingRequest,
    ) -> (Result<ExchangeEnd, ExchangeError>, bool) {
        let Self { put, source, reporter, journal, connection, started, start, is_resumable, .. } = self;
        let dialect = started.spoken();
        let uploader = &mut started.uploader;
        let mut observer = UploadObserver {
            target: &put.url,
            url,
            uploader,
            dialect,
            journal,
            reporter,
            source,
            start: *start,
            is_resumable,
            heard_any: false,
            broken: None,
        };
        let mut ended =
            connection.exchange(&put.client.connector, url, outgoing, upload::now(), &mut observer).await;
        let UploadObserver { heard_any, broken, .. } = observer;
        if let Ok(ExchangeEnd::Response(answer)) = &mut ended
            && *url != put.url
        {
            redirect::rebase(&mut answer.fields, url);
        }
        match broken {
            Some(error) => (Err(ExchangeError { error, reached: true, sent: 0 }), heard_any),
            None => (ended, heard_any),
        }
    }

    /// Returns `true` if a new upload may replace this one. It must have been resumed from the journal and its source
    /// must rewind. An upload that was requested by its own URL is never replaced.
    fn can_restart(&self) -> bool {
        let is_at_its_own_url =
            self.started.dialect_has_urls() && self.started.uploader.url() == Some(&self.put.url);
        let is_left = self.started.start == Start::Resumed && self.journal.is_kept();
        is_left && self.source.rewinds() && !is_at_its_own_url
    }

    async fn restart(&mut self) -> Result<(), Error> {
        let JournalSlot::Own(record) = &mut self.journal else { return Err(Error::Upload(Failure::Gone)) };
        self.started = start::create(self.put, self.source, record, &mut self.connection).await?;
        self.started.start = Start::Forgotten;
        self.reporter.update(|progress| progress.start = Start::Forgotten);
        Ok(())
    }

    async fn finish(mut self, ended: Result<(), Error>) -> Result<Outcome, Error> {
        self.resumable(&ended)?;
        ended?;
        let uploader = &self.started.uploader;
        let bytes = uploader.acknowledged().get();
        let answer = self.last.answer.take().expect("an upload ends well with an answer");
        let sha256 = self.put.sha256.or_else(|| self.source.sha256());
        let theirs = digest::parse(&answer.fields, &digest::REPR_DIGEST);
        let theirs = theirs.into_iter().find(|digest| digest.algorithm == Algorithm::Sha256);
        let verified = match (&sha256, theirs) {
            (Some(ours), Some(theirs)) if theirs.octets == ours => true,
            (Some(_), Some(theirs)) => {
                return Err(Error::Digest { theirs: crate::digest::hex(&theirs.octets) });
            }
            (Some(_) | None, _) => false,
        };
        self.journal.remove().await?;
        self.reporter.update(|progress| {
            (progress.activity, progress.length) = (Activity::Done, Some(bytes));
            progress.eta = None;
        });
        // A server that has never heard of the dialect took an ordinary request.
        //= IETF-CLI-18
        let dialect = match self.started.dialect {
            Dialect::Ietf(_) if !self.is_resumable => Dialect::Conventional,
            dialect => dialect,
        };
        let url = match dialect {
            Dialect::Ietf(_) | Dialect::Tus1 => uploader.url().cloned(),
            Dialect::Auto | Dialect::Token(_) | Dialect::Conventional => None,
        };
        let FinalResponse { status, version, fields, content, .. } = answer;
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
            start: self.started.start,
            sha256,
            verified,
        })
    }
}

impl Transfer<'_> {
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

/// Passes interim responses to the uploader.
struct UploadObserver<'r, 'a> {
    /// The URL the upload is sent to.
    target: &'r Uri,
    /// The URL this request goes to.
    url: &'r Uri,
    uploader: &'r mut Uploader,
    dialect: Dialect,
    journal: &'r mut JournalSlot<'a>,
    reporter: &'r Reporter,
    source: &'r OpenSource,
    start: Instant,
    is_resumable: &'r mut bool,
    heard_any: bool,
    /// Why the upload cannot go on.
    broken: Option<Error>,
}

impl InterimObserver for UploadObserver<'_, '_> {
    fn on_interim<'h>(
        &'h mut self,
        status: StatusCode,
        fields: &'h HeaderMap,
        sent: u64,
    ) -> ObserverFuture<'h> {
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
                Ok(()) => self.journal.keep(self.uploader.url(), self.dialect).await,
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

/// Updates the progress and the source after a response.
fn note(uploader: &Uploader, reporter: &Reporter, source: &OpenSource) {
    let acknowledged = uploader.acknowledged().get();
    source.release(acknowledged);
    reporter.update(|progress| {
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
