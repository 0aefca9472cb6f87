//! Runs one case in one version over one transport.
//!
//! Owns the order of steps and the state between them. [`judge`](super::judge) and [`rules`] compare the responses;
//! `runner/setup.rs` creates the given uploads and deletes all uploads afterwards.

mod setup;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::case::{Case, Expect, RequestEnd, RequestSpec, RequestTarget, Rule, StateAfter, Step};
use super::judge::{self, RequestContext};
use super::report::CaseResult;
use super::request_builder::RequestBuilder;
use super::rules;
use super::transcript::Transcript;
use super::uploads::Uploads;
use super::version::{CorpusDialect, Version};
use super::wire::{self, Endpoint, Exchange, Outgoing, PendingRequest, Responses, Transport};

/// The pause before a request is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A run of a case.
pub(crate) struct CaseRun {
    case: Arc<Case>,
    version: Version,
    transport: Transport,
    endpoint: Arc<Endpoint>,
    rules: Vec<(String, Rule)>,
    timeout: Duration,
    /// The token, in the token dialect.
    token: String,
    uploads: Uploads,
    /// The paths of all uploads that responses named, including those of ordinary requests.
    created: BTreeSet<String>,
    pending: Option<(PendingRequest, Outgoing)>,
    transcript: Transcript,
}

/// The name of a created upload.
enum UploadName {
    /// The token chosen by the client.
    ByToken,
    /// The URL assigned by the server.
    At(String),
}

/// The differences between responses and expectations.
type Differences = Vec<String>;

/// Returns a random token.
pub(crate) fn fresh_token() -> String {
    let mut bits = [0; 16];
    // If the system has no random numbers, all runs share one token and fail visibly.
    let _ = getrandom::fill(&mut bits);
    format!("check-{:032x}", u128::from_be_bytes(bits))
}

impl CaseRun {
    pub(crate) fn new(
        case: Arc<Case>,
        version: Version,
        transport: Transport,
        endpoint: Arc<Endpoint>,
        rules: Vec<(String, Rule)>,
    ) -> Self {
        Self {
            case,
            version,
            transport,
            endpoint,
            rules,
            timeout: Duration::ZERO,
            token: fresh_token(),
            uploads: Uploads::default(),
            created: BTreeSet::new(),
            pending: None,
            transcript: Transcript::default(),
        }
    }

    /// Runs the case. `timeout` limits each exchange.
    pub(crate) async fn judge(mut self, timeout: Duration) -> CaseResult {
        self.timeout = timeout;
        let differences = self.steps().await;
        drop(self.pending.take());
        self.clean_up().await;
        match differences {
            Ok(()) => CaseResult::Passed,
            Err(differences) => {
                let mut why = String::new();
                for difference in differences {
                    let _ = writeln!(why, "- {difference}");
                }
                CaseResult::Failed(why + self.transcript.text())
            }
        }
    }

    async fn steps(&mut self) -> Result<(), Differences> {
        let case = Arc::clone(&self.case);
        self.set_up(&case).await?;
        self.step(&case.send, &case.expect).await?;
        self.check_state(case.after.as_ref()).await?;
        for Step { send, stalled, rest, expect, after } in &case.then {
            if *stalled {
                let rest = rest.as_ref().map(super::case::ContentSpec::bytes);
                self.finish_pending(rest, expect).await?;
            }
            if let Some(send) = send {
                self.step(send, expect).await?;
            }
            self.check_state(after.as_ref()).await?;
        }
        Ok(())
    }

    async fn step(&mut self, send: &RequestSpec, expect: &Expect) -> Result<(), Differences> {
        let outgoing = self.outgoing(send).map_err(|why| vec![why])?;
        self.transcript.request(&outgoing);
        if let Some(count) = send.race {
            return self.race(&outgoing, send, expect, count).await;
        }
        let exchange = if send.patiently {
            self.exchange_until(&outgoing, expect).await?
        } else {
            self.exchange(&outgoing).await?
        };
        let responses = match exchange {
            Exchange::Complete(responses) => responses,
            Exchange::Pending(pending) => {
                let responses = pending.responses().clone();
                self.pending = Some((pending, outgoing.clone()));
                responses
            }
        };
        self.transcript.response(&responses, send.ends == RequestEnd::Stall);
        self.judge_responses(&responses, &outgoing, expect, send)
    }

    /// Repeats a request until the expectation is met or the time is over.
    async fn exchange_until(&self, outgoing: &Outgoing, expect: &Expect) -> Result<Exchange, Differences> {
        let times = self.timeout.as_millis() / RETRY_PAUSE.as_millis();
        for _ in 0..times {
            let exchange = self.exchange(outgoing).await?;
            let Exchange::Complete(responses) = &exchange else { return Ok(exchange) };
            if judge::differences(responses, expect, &self.request_context(outgoing), RequestEnd::Whole)
                .is_empty()
            {
                return Ok(exchange);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.exchange(outgoing).await
    }

    async fn exchange(&self, outgoing: &Outgoing) -> Result<Exchange, Differences> {
        match tokio::time::timeout(self.timeout, wire::exchange(self.transport, &self.endpoint, outgoing))
            .await
        {
            Ok(Ok(exchange)) => Ok(exchange),
            Ok(Err(error)) => Err(vec![format!("the request failed: {error}")]),
            Err(_) => Err(vec![format!("no response within {:?}", self.timeout)]),
        }
    }

    /// Sends copies of a request concurrently. One must meet the expectation, the others that of `others`.
    async fn race(
        &mut self,
        outgoing: &Outgoing,
        send: &RequestSpec,
        expect: &Expect,
        count: usize,
    ) -> Result<(), Differences> {
        let mut running = JoinSet::new();
        for _ in 0..count {
            let (outgoing, endpoint) = (outgoing.clone(), Arc::clone(&self.endpoint));
            let (transport, timeout) = (self.transport, self.timeout);
            running.spawn(async move {
                match tokio::time::timeout(timeout, wire::exchange(transport, &endpoint, &outgoing)).await {
                    Ok(Ok(Exchange::Complete(responses))) => responses,
                    _ => Responses::default(),
                }
            });
        }
        let mut all = Vec::new();
        while let Some(responses) = running.join_next().await {
            all.push(responses.map_err(|failure| vec![failure.to_string()])?);
        }
        for responses in &all {
            self.transcript.response(responses, false);
            self.record_created(responses);
        }
        let judged = |responses: &Responses, expect: &Expect| {
            let request = self.request_context(outgoing);
            judge::differences(responses, expect, &request, send.ends)
        };
        let winner = all.iter().position(|responses| judged(responses, expect).is_empty());
        let Some(winner) = winner else { return Err(judged(&all[0], expect)) };
        let others = expect.others.as_deref().cloned().unwrap_or_default();
        let losers = all.iter().enumerate().filter(|(at, _)| *at != winner);
        let differences: Differences = losers.flat_map(|(_, responses)| judged(responses, &others)).collect();
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    async fn finish_pending(&mut self, rest: Option<Vec<u8>>, expect: &Expect) -> Result<(), Differences> {
        let Some((mut pending, outgoing)) = self.pending.take() else {
            return Err(vec!["no request is pending".into()]);
        };
        let known = pending.responses().interims.len();
        self.transcript.note("the pending request");
        let end = async move {
            if let Some(rest) = rest {
                pending.send(rest).await;
            }
            pending.end().await
        };
        let Ok(mut responses) = tokio::time::timeout(self.timeout, end).await else {
            return Err(vec![format!("the pending request did not end within {:?}", self.timeout)]);
        };
        responses.interims.drain(..known);
        self.transcript.response(&responses, false);
        self.judge_responses(&responses, &outgoing, expect, &RequestSpec::of(&outgoing.method))
    }

    /// Compares the responses with the expectation and the rules, and records offsets and created uploads.
    fn judge_responses(
        &mut self,
        responses: &Responses,
        outgoing: &Outgoing,
        expect: &Expect,
        send: &RequestSpec,
    ) -> Result<(), Differences> {
        self.record_created(responses);
        let request = self.request_context(outgoing);
        let mut differences = judge::differences(responses, expect, &request, send.ends);
        let named = self.named(responses, &request);
        let of = self.offsets_of(outgoing, named.as_ref());
        let largest = if named.is_some() { 0 } else { self.uploads.max_offset(&of) };
        for (name, rule) in &self.rules {
            let broken = rules::violations(*rule, responses, expect, &request, largest);
            differences.extend(broken.into_iter().map(|broken| format!("{name}: {broken}")));
        }
        let is_cancelled = outgoing.method == "DELETE" && responses.success().is_some();
        self.uploads.record_offsets(&of, named.is_some(), responses);
        if let Some(UploadName::At(url)) = named {
            self.uploads.add(&url, send.names.as_deref());
        }
        if is_cancelled {
            self.uploads.clear_offsets();
        }
        if differences.is_empty() { Ok(()) } else { Err(differences) }
    }

    /// Returns the key under which offsets are recorded: the path of an upload, or the index of a part.
    fn offsets_of(&self, outgoing: &Outgoing, named: Option<&UploadName>) -> String {
        if let Some(UploadName::At(url)) = named {
            return wire::path_of(url).unwrap_or_default();
        }
        let index = outgoing.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("upload-index"));
        match index {
            Some((_, index)) if self.version.dialect() == CorpusDialect::Token => {
                index.split(';').next().unwrap_or_default().trim().to_owned()
            }
            _ => outgoing.target.clone(),
        }
    }

    /// Returns the name of the upload that a creation began.
    fn named(&self, responses: &Responses, request: &RequestContext<'_>) -> Option<UploadName> {
        if !request.creates {
            return None;
        }
        if self.version.dialect() == CorpusDialect::Token {
            return responses.success().map(|_| UploadName::ByToken);
        }
        let announced = responses.interims.iter().find_map(|head| head.field("location"));
        let location = announced.or_else(|| responses.success()?.field("location"))?;
        wire::path_of(location).map(|_| UploadName::At(location.to_owned()))
    }

    fn request_context<'a>(&'a self, outgoing: &'a Outgoing) -> RequestContext<'a> {
        RequestContext {
            version: self.version,
            outgoing,
            uploads: &self.uploads,
            creates: !self.is_upload(outgoing),
            target: self.endpoint.path(),
        }
    }

    fn is_upload(&self, outgoing: &Outgoing) -> bool {
        self.uploads.paths().any(|path| path == outgoing.target)
            || (self.version.dialect() == CorpusDialect::Token && outgoing.method != "POST")
    }

    /// Sends `HEAD` and compares the upload's state.
    async fn check_state(&mut self, after: Option<&StateAfter>) -> Result<(), Differences> {
        let Some(after) = after else { return Ok(()) };
        let head = RequestSpec { to: RequestTarget::Upload, of: after.of.clone(), ..RequestSpec::of("HEAD") };
        let expect = judge::state_expectation(after, self.version);
        self.step(&head, &expect).await?;
        match (after.offset_max, self.uploads.last_offset()) {
            (Some(most), Some(offset)) if !after.gone && offset > most => {
                Err(vec![format!("the offset is {offset}, more than {most}")])
            }
            _ => Ok(()),
        }
    }

    /// Records the uploads that responses name, to delete them afterwards.
    fn record_created(&mut self, responses: &Responses) {
        let heads = responses.announcements().chain(responses.success());
        let urls = heads.filter_map(|head| head.field("location"));
        self.created.extend(urls.filter_map(wire::path_of));
    }

    fn outgoing(&self, send: &RequestSpec) -> Result<Outgoing, String> {
        let Self { version, endpoint, token, uploads, .. } = self;
        RequestBuilder { version: *version, endpoint, token, uploads }.outgoing(send)
    }
}
