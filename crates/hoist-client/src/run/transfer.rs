//! The loop that does what the uploader asks for, until the server has the whole upload.

use std::time::Duration;

use hoist_proto::client::{Failure, Step, Transmit};
use hoist_proto::dialect::ietf::client::refuses_version;
use hoist_proto::dialect::status;
use hoist_proto::digest::{self, Algorithm};
use hoist_proto::hex;
use hoist_proto::types::Length;
use http::{StatusCode, Uri};
use tokio::time::Instant;

use super::journal_slot::JournalSlot;
use super::sender::{Attempt, Sender};
use super::start;
use super::state::UploadState;
use crate::clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::http::{ExchangeEnd, ExchangeError, ReusedConnection};
use crate::location;
use crate::negotiate;
use crate::origin::Origin;
use crate::progress::{Activity, Start};
use crate::redirect;
use crate::response::FinalResponse;
use crate::retry::silent_since;
use crate::upload::{Outcome, Put, StartFrom};

pub(super) struct Transfer<'a> {
    pub(super) state: UploadState<'a>,
    sender: Sender,
    last: LastResult,
    /// True once content of the current upload may have been sent in this run.
    has_sent: bool,
}

#[derive(Default)]
struct LastResult {
    response: Option<FinalResponse>,
    error: Option<Error>,
    /// The time since which no byte had moved when the attempt ended.
    silent_since: Option<Instant>,
    /// True if the request was one that creates the upload.
    creates: bool,
}

impl<'a> Transfer<'a> {
    /// Prepares a transfer of the source, or of the part of it that begins at `base`.
    pub(super) fn new(state: UploadState<'a>, connection: ReusedConnection, base: u64) -> Self {
        Self { state, sender: Sender::new(connection, base), last: LastResult::default(), has_sent: false }
    }

    /// Transfers the upload. Creates a new one if the server has lost the one that a previous run began.
    pub(super) async fn run(mut self) -> Result<Outcome, Error> {
        loop {
            match self.drive().await {
                Err(Error::Upload(Failure::Gone)) if self.can_restart() => self.restart().await?,
                ended => return self.finish(ended).await,
            }
        }
    }

    /// Does what the uploader asks for until it is done or has failed.
    pub(super) async fn drive(&mut self) -> Result<(), Error> {
        loop {
            match self.state.started.uploader.step() {
                Step::Wait(pause) => self.wait(pause).await?,
                Step::Send(transmit) => self.attempt(*transmit).await?,
                Step::Done => return Ok(()),
                Step::Failed(failure) => return Err(self.error_of(failure)),
            }
        }
    }

    /// Reports the attempt that has failed, and pauses before the next one if the retry budget allows it.
    async fn wait(&mut self, pause: Duration) -> Result<(), Error> {
        let error = self.take_error();
        let since = self.last.silent_since.unwrap_or_else(clock::now);
        let UploadState { put, retry_clock, .. } = &mut self.state;
        let pause = retry_clock.fail(&put.retry_context()?, error, since, pause)?;
        self.state.reporter.update(|progress| progress.activity = Activity::Waiting(pause));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Takes the error that the last attempt ended with. A response that makes the uploader pause is one, whatever its
    /// status.
    fn take_error(&mut self) -> Error {
        let LastResult { response, error, .. } = &mut self.last;
        match (error.take(), response) {
            (Some(error), _) => error,
            (None, Some(response)) => {
                Error::Refused { status: response.status, detail: response.problem_detail() }
            }
            (None, None) => Error::Lost { source: "the request was ended early".into() },
        }
    }

    /// Sends one request and reports its end to the uploader. An error ends the upload, not only this attempt.
    async fn attempt(&mut self, transmit: Transmit) -> Result<(), Error> {
        let (began, creates) = (clock::now(), transmit.creates);
        if creates {
            self.note_creation();
        }
        self.has_sent |= transmit.content.as_ref().is_some_and(|range| !range.is_empty());
        let Attempt { result, flow, expected_continue } =
            self.sender.send(&mut self.state, &transmit).await?;
        let moment = self.state.moment()?;
        let uploader = &mut self.state.started.uploader;
        let sent = match &result {
            Ok(ExchangeEnd::Response(FinalResponse { sent, .. }) | ExchangeEnd::Stopped { sent })
            | Err(ExchangeError { sent, .. }) => *sent,
        };
        uploader.on_sent(sent);
        if transmit.is_open && flow.has_ended() {
            uploader.on_content_end(sent);
        }
        if let Some(length) = self.state.source.stream().and_then(|stream| stream.ended_at()) {
            uploader.on_source_end(Length::new(length));
        }
        match result {
            // The uploader repeats the request, and this time the content is not held back.
            Ok(ExchangeEnd::Response(response))
                if expected_continue && status::is_failed_expectation(response.status) => {}
            Ok(ExchangeEnd::Response(response)) => {
                uploader.on_response(response.status, &response.fields, moment);
                self.state.is_resumable |= negotiate::has_protocol_fields(&response.fields);
                if !refuses_version(response.status, &response.fields) {
                    self.state.note_version()?;
                }
                let silent_since = Some(clock::now());
                self.last = LastResult { response: Some(response), error: None, silent_since, creates };
            }
            Ok(ExchangeEnd::Stopped { .. }) => {}
            Err(ExchangeError { error, .. }) if !error.ends_an_attempt() => return Err(error),
            Err(ExchangeError { error, reached, sent }) => {
                tracing::debug!(%error, reached, sent, "the request was interrupted");
                let silent_since = Some(silent_since(&error, began));
                uploader.on_lost(reached, moment);
                self.last = LastResult { response: None, error: Some(error), silent_since, creates };
            }
        }
        self.state.publish().await
    }

    /// Returns the error for a failure of the uploader, with details from the last request.
    fn error_of(&mut self, failure: Failure) -> Error {
        let response = self.last.response.as_ref();
        let Put { url, reporter, .. } = self.state.put;
        let specific = match failure {
            Failure::Rejected(status) => {
                let redirected = response.and_then(redirect::error);
                // The request that joins parts also creates an upload, but then the URL has taken some already.
                let takes_uploads = !self.last.creates || reporter.subscribe().borrow().acknowledged > 0;
                redirected.or_else(|| no_endpoint(url, status, response).filter(|_| !takes_uploads))
            }
            Failure::NotResumable => {
                response.and_then(|response| location::malformed_location(&response.fields, url))
            }
            _ => None,
        };
        specific.unwrap_or_else(|| {
            let detail = response.and_then(FinalResponse::problem_detail);
            Error::of(failure, detail, self.last.error.take())
        })
    }

    /// Notes that an upload which was to be resumed by its token is created instead: the server does not know the token.
    fn note_creation(&mut self) {
        let UploadState { put, reporter, started, .. } = &mut self.state;
        if started.start == Start::Resumed {
            let is_from_caller = matches!(put.start_from, StartFrom::Handle(_));
            started.start = if is_from_caller { Start::Fresh } else { Start::Forgotten };
            reporter.update(|progress| progress.start = started.start);
        }
    }

    /// Returns whether a new upload may replace this one. It must have been resumed from the journal and its source
    /// must rewind. An upload that the caller named by its own URL is never replaced, and neither is one that this run has
    /// sent content of: the server may have completed and forgotten it.
    fn can_restart(&self) -> bool {
        let UploadState { put, source, journal, started, .. } = &self.state;
        let is_at_own_url = started.dialect.has_urls() && started.uploader.url() == Some(&put.url);
        let is_from_journal = started.start == Start::Resumed && journal.is_recorded();
        is_from_journal && source.rewinds() && !is_at_own_url && !self.has_sent
    }

    async fn restart(&mut self) -> Result<(), Error> {
        let UploadState { put, source, reporter, journal, started, .. } = &mut self.state;
        let JournalSlot::Own(record) = journal else { return Err(Error::Upload(Failure::Gone)) };
        *started = start::create(put, source, record, &mut self.sender.connection).await?;
        started.start = Start::Forgotten;
        reporter.update(|progress| progress.start = Start::Forgotten);
        Ok(())
    }

    /// Turns the end of the loop into an outcome, and removes the upload from the journal.
    pub(super) async fn finish(mut self, ended: Result<(), Error>) -> Result<Outcome, Error> {
        self.check_resumable(&ended)?;
        ended?;
        let UploadState { put, source, reporter, journal, started, is_resumable, .. } = self.state;
        put.client.origins.note_progress(&Origin::of(&put.url)?);
        let uploader = &started.uploader;
        let bytes = uploader.acknowledged().get();
        let response = self.last.response.take().expect("an upload is complete only after a response");
        let sha256 = put.sha256.or_else(|| source.stream()?.sha256());
        let verified = verify(sha256.as_ref(), &response)?;
        journal.remove().await?;
        reporter.update(|progress| {
            (progress.activity, progress.length, progress.eta) = (Activity::Done, Some(bytes), None);
        });
        // A server without the dialect has accepted an ordinary request.
        //= IETF-CLI-18
        let dialect = match started.dialect {
            Dialect::Ietf(_) if !is_resumable => Dialect::Conventional,
            dialect => dialect,
        };
        let url = uploader.url().filter(|_| dialect.has_urls()).cloned();
        let FinalResponse { status, version, fields, content, .. } = response;
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
            resumable: is_resumable,
            start: started.start,
            sha256,
            verified,
        })
    }

    /// Refuses a server that has shown no upload protocol, if the caller requires one.
    fn check_resumable(&self, ended: &Result<(), Error>) -> Result<(), Error> {
        let is_over = matches!(ended, Ok(()) | Err(Error::Upload(Failure::NotResumable)));
        let requires_resumable = self.state.put.client.settings.requires_resumable;
        match &self.last.response {
            Some(response) if is_over && !self.state.is_resumable && requires_resumable => {
                Err(Error::Unresumable { status: response.status })
            }
            _ => Ok(()),
        }
    }
}

/// Returns the error for a creation that was refused because the server has nothing at the upload URL, or something that
/// is not for uploads.
fn no_endpoint(url: &Uri, status: StatusCode, response: Option<&FinalResponse>) -> Option<Error> {
    let detail = match status.as_u16() {
        404 | 410 => None,
        405 | 501 => response.and_then(FinalResponse::problem_detail),
        _ => return None,
    };
    Some(Error::NoEndpoint { url: url.to_string(), status, detail })
}

/// Compares our digest with the one in the response. Returns false if there is nothing to compare.
fn verify(ours: Option<&[u8; 32]>, response: &FinalResponse) -> Result<bool, Error> {
    let theirs = digest::parse(&response.fields, &digest::REPR_DIGEST);
    let theirs = theirs.into_iter().find(|digest| digest.algorithm == Algorithm::Sha256);
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if theirs.octets == ours => Ok(true),
        (Some(_), Some(theirs)) => Err(Error::Digest { theirs: hex::encode(&theirs.octets) }),
        (Some(_) | None, _) => Ok(false),
    }
}
