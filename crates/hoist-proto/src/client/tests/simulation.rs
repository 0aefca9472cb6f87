//! `Uploader` against `engine`: a link that loses and delays requests, and a disk that forgets what was not synced. A run
//! is determined by its seed, which the panic of a failing run names.

use super::*;
use crate::dialect::token::client::state;
use crate::dialect::{Context, Detected, DialectOptions, Resource, detect};
use crate::engine::{self, Decision, End, Ending, Verdict};
use crate::operation::{Operation, Reply, Subject};
use crate::policy::Policy;
use crate::refusal::InterruptCause;
pub(super) use crate::testing::SeededRng;
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Phase, TargetResponse, Upload};

const SEEDS: u64 = 10_000;

/// The number of requests since the last pause and the last progress.
#[derive(Default)]
pub(super) struct BusyLoopCheck {
    requests: u32,
    acknowledged: u64,
}

impl BusyLoopCheck {
    /// The most requests without a pause: a few queries and every halving, never a loop.
    const MOST: u32 = 25;

    pub(super) fn paused(&mut self) {
        self.requests = 0;
    }

    pub(super) fn asked(&mut self, acknowledged: Offset) {
        if acknowledged.get() > self.acknowledged {
            *self = Self { requests: 0, acknowledged: acknowledged.get() };
        }
        self.requests += 1;
        assert!(self.requests <= Self::MOST, "a busy loop without progress");
    }
}

/// A server with one upload: its record, its bytes, and the number of bytes that survive a crash.
struct Server {
    policy: Policy,
    record: Option<Upload>,
    bytes: Vec<u8>,
    synced: usize,
    /// The highest offset that it acknowledged.
    acknowledged: u64,
    deliveries: u32,
    now: Timestamp,
    /// The probability of a crash between the last byte and the answer, in percent.
    crashes: u64,
}

impl Server {
    fn new() -> Self {
        let now = Timestamp::from_millis(0);
        let policy = Policy::default();
        Self {
            policy,
            record: None,
            bytes: Vec::new(),
            synced: 0,
            acknowledged: 0,
            deliveries: 0,
            now,
            crashes: 5,
        }
    }

    fn sync(&mut self) -> Durable {
        self.synced = self.bytes.len();
        Durable::attest(Offset::new(self.synced as u64))
    }

    /// Loses power. Any part of what was not synced may be on the disk nevertheless.
    fn crash(&mut self, dice: &mut SeededRng) {
        let lucky = dice.up_to((self.bytes.len() - self.synced) as u64);
        self.bytes.truncate(self.synced + usize::try_from(lucky).expect("small"));
    }

    /// Loads the upload for a request: earlier requests have ended, their bytes are synced, and a due delivery is done.
    fn load(&mut self) -> Option<Upload> {
        let offset = self.sync();
        let mut upload = Upload { offset, ..self.record.clone()? };
        if upload.awaits_delivery() {
            upload.length = Some(upload.offset.offset().into());
            upload.phase = Phase::Received;
            self.finish(upload, false);
            return self.record.clone();
        }
        Some(upload)
    }

    fn finish(&mut self, upload: Upload, created: bool) -> Reply {
        self.deliveries += 1;
        let answer = TargetResponse::of(StatusCode::NO_CONTENT);
        let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.now);
        self.record = Some(upload);
        reply
    }

    /// Handles a request of which `content` arrives. The request was interrupted if that is less than declared.
    fn handle(
        &mut self,
        head: &Request<()>,
        content: &[u8],
        declared: u64,
        dice: &mut SeededRng,
    ) -> Response {
        let (parts, ()) = head.clone().into_parts();
        let Detected::Dialect(dialect) = detect(&parts, Resource::Endpoint, DialectOptions::default()) else {
            panic!("no dialect: {parts:?}")
        };
        let decoded = match dialect.decode(&parts, Resource::Endpoint, Some(declared)) {
            Ok(decoded) => decoded,
            Err(refusal) => panic!("a malformed request: {refusal:?} {parts:?}"),
        };
        assert!(matches!(decoded.subject, Subject::Token(_)));
        let known = self.load();
        let id = UploadId::from_bits([1; 16]);
        let operation = decoded.operation;
        assert!(operation != Operation::Cancel);
        let request = engine::UploadRequest { id, principal: None, family: decoded.family, operation };
        let reply = match engine::decide(known.as_ref(), &request, &self.policy, self.now) {
            Decision::Create(upload, plan) => {
                (self.bytes, self.synced) = (Vec::new(), 0);
                Ok(self.receive(upload, &plan, content, declared, dice))
            }
            Decision::Receive(upload, plan) => Ok(self.receive(upload, &plan, content, declared, dice)),
            Decision::Answer(reply) => Ok(Some(reply)),
            Decision::Refuse(refusal) => Err(refusal),
            Decision::Cancel | Decision::Invalidate(_) => panic!("an unexpected decision"),
        };
        let moment = Context {
            base: "/uploads",
            alias: None,
            limits: &self.policy.limits,
            now: self.now,
            lifetime: None,
        };
        let head = match reply {
            Ok(Some(reply)) => dialect.encode(&reply, &moment),
            Ok(None) => return None,
            Err(refusal) => dialect.refuse(&refusal, &moment),
        };
        self.remember(head.headers());
        Some((head.status(), head.headers().clone()))
    }

    /// Checks that acknowledged offsets never decrease and are synced.
    fn remember(&mut self, fields: &HeaderMap) {
        if let Some(offset) = state(fields).offset {
            assert!(
                offset.get() >= self.acknowledged,
                "the offset went back from {} to {offset}",
                self.acknowledged
            );
            assert!(
                offset.get() <= self.synced as u64,
                "{offset} was acknowledged, {} is synced",
                self.synced
            );
            self.acknowledged = offset.get();
        }
    }

    fn receive(
        &mut self,
        upload: Upload,
        plan: &engine::Plan,
        content: &[u8],
        declared: u64,
        dice: &mut SeededRng,
    ) -> Option<Reply> {
        assert_eq!(plan.at, Offset::new(self.bytes.len() as u64));
        assert!(declared <= plan.room.bytes);
        self.record = Some(upload.clone());
        self.bytes.extend_from_slice(content);
        if (content.len() as u64) < declared {
            if dice.in_percent(30) {
                // The request is never settled: the next one finds the bytes that are on the disk.
                self.crash(dice);
                return None;
            }
            let ending = Ending { stored: self.sync(), how: End::Interrupted(InterruptCause::Disconnected) };
            let (upload, verdict) = engine::settle(upload, plan, &ending, self.now);
            self.settled(upload, verdict, plan.created);
            return None;
        }
        if dice.in_percent(self.crashes) {
            self.crash(dice);
            return None;
        }
        let ending = Ending { stored: self.sync(), how: End::AllReceived };
        let (upload, verdict) = engine::settle(upload, plan, &ending, self.now);
        if dice.in_percent(self.crashes) {
            // A crash between the record of the last byte and its delivery.
            self.record = Some(upload);
            return None;
        }
        self.settled(upload, verdict, plan.created)
    }

    fn settled(&mut self, upload: Upload, verdict: Verdict, created: bool) -> Option<Reply> {
        match verdict {
            Verdict::Deliver { .. } => Some(self.finish(upload, created)),
            Verdict::Acknowledge(reply) => {
                self.record = Some(upload);
                Some(reply)
            }
            Verdict::Refuse(_) => {
                self.record = Some(upload);
                None
            }
            Verdict::Remove(refusal) => panic!("an unexpected refusal: {refusal:?}"),
        }
    }
}

/// Status and fields; `None` if the server crashed.
type Response = Option<(StatusCode, HeaderMap)>;

/// The probabilities of faults, in percent of requests.
struct Faults {
    unconnected: u64,
    cut: u64,
    late: u64,
    unanswered: u64,
    refused: u64,
    /// The client crashes, and a later process resumes with the stored token.
    restarted: u64,
}

struct Run {
    dice: SeededRng,
    faults: Faults,
    source: Vec<u8>,
    server: Server,
    uploader: Uploader,
    /// The same upload, as a later process resumes it.
    later: Uploader,
    elapsed: Duration,
    /// A creation that arrives after the client has given it up.
    late: Option<(Request<()>, u64, u64)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = SeededRng(seed);
        let most = [0, 10, 25, 40][usize::try_from(dice.up_to(3)).expect("small")];
        let faults = Faults {
            unconnected: dice.up_to(most),
            cut: dice.up_to(most),
            late: dice.up_to(most),
            unanswered: dice.up_to(most),
            refused: dice.up_to(most),
            restarted: dice.up_to(5),
        };
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.next().to_be_bytes()[0]).collect();
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let token = token_of([dice.next().to_be_bytes()[0]; 32]);
        let content_max = if dice.in_percent(30) { 1 + dice.up_to(200) } else { u64::MAX };
        let begun = |begin: fn(ClientDialect, Uri, Origin, Length, Retries) -> Uploader| {
            let target = Uri::from_static("/uploads");
            let dialect = ClientDialect::Token { token: token.clone(), form: Form::Seed, part: None };
            begin(dialect, target, origin(), Length::new(length), retries).with_content_max(content_max)
        };
        let later = begun(Uploader::resume);
        let uploader = if dice.in_percent(20) { later.clone() } else { begun(Uploader::create) };
        Self {
            dice,
            faults,
            source,
            server: Server::new(),
            uploader,
            later,
            elapsed: Duration::ZERO,
            late: None,
        }
    }

    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let within = |at: u64| usize::try_from(at).expect("small");
        self.source[within(range.start)..within(range.end)].to_vec()
    }

    /// Runs to the end. Returns `Ok` if the upload is complete.
    fn play(&mut self) -> Result<(), Failure> {
        let mut busy = BusyLoopCheck::default();
        for _ in 0..20_000 {
            if self.dice.in_percent(self.faults.restarted) {
                self.uploader = self.later.clone();
            }
            match self.uploader.step() {
                Step::Wait(wait) => {
                    self.elapsed += wait;
                    busy.paused();
                }
                Step::Send(transmit) => {
                    busy.asked(self.uploader.acknowledged());
                    self.send(*transmit);
                }
                Step::Done => return Ok(()),
                Step::Failed(failure) => return Err(failure),
            }
        }
        panic!("the upload does not end");
    }

    fn send(&mut self, transmit: Transmit) {
        self.elapsed += Duration::from_millis(50);
        self.server.now = Timestamp::from_millis(u64::try_from(self.elapsed.as_millis()).expect("short"));
        let range = transmit.content.clone().unwrap_or(0..0);
        let declared = range.end - range.start;
        let random = self.dice.next();
        let lost = |run: &mut Self, reached| {
            run.uploader.on_lost(reached, Moment { elapsed: run.elapsed, random });
        };
        if self.dice.in_percent(self.faults.unconnected) {
            return lost(self, false);
        }
        let cut = self.dice.in_percent(self.faults.cut);
        let arrives = if cut { self.dice.up_to(declared.saturating_sub(1)) } else { declared };
        let sent = arrives + self.dice.up_to(declared - arrives);
        if cut
            && declared > 0
            && transmit.head.method() == Method::POST
            && self.dice.in_percent(self.faults.late)
        {
            // The connection is lost, but part of the request still arrives.
            self.late = Some((transmit.head, arrives, declared));
            self.uploader.on_sent(sent);
            return lost(self, true);
        }
        if self.dice.in_percent(self.faults.refused) {
            // A proxy answers, with or without having forwarded the request.
            if self.dice.in_percent(50) {
                let content = self.bytes(range.start..range.start + arrives);
                self.server.handle(&transmit.head, &content, declared, &mut self.dice);
            }
            self.uploader.on_sent(sent);
            let status =
                [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
            let status = status[usize::try_from(self.dice.up_to(2)).expect("small")];
            let moment = Moment { elapsed: self.elapsed, random };
            return self.uploader.on_response(status, &fields("Retry-After: 3"), moment);
        }
        let content = self.bytes(range.start..range.start + arrives);
        let response = self.server.handle(&transmit.head, &content, declared, &mut self.dice);
        self.arrive_late();
        // An interrupted request is only answered if its head was refused.
        let is_unanswered = self.dice.in_percent(self.faults.unanswered);
        match response {
            Some((status, fields)) if !is_unanswered => {
                self.uploader.on_sent(sent);
                self.uploader.on_response(status, &fields, Moment { elapsed: self.elapsed, random });
            }
            _ => {
                self.uploader.on_sent(sent);
                lost(self, true);
            }
        }
    }

    /// Delivers the creation that was given up, after the query about it.
    fn arrive_late(&mut self) {
        if let Some((head, arrives, declared)) = self.late.take() {
            let content = self.bytes(0..arrives);
            self.server.handle(&head, &content, declared, &mut self.dice);
        }
    }
}

fn check(seed: u64) -> Result<(), Failure> {
    let mut run = Run::new(seed);
    let end = run.play();
    let record = run.server.load();
    match end {
        Ok(()) => {
            assert_eq!(run.server.bytes, run.source, "the bytes differ");
            assert!(record.is_some_and(|upload| upload.is_complete()), "the client believes it is complete");
            assert_eq!(run.server.deliveries, 1, "the target sees the representation once");
        }
        Err(failure) => {
            assert!(matches!(failure, Failure::Exhausted { .. }), "{failure:?}");
            assert!(run.source.starts_with(&run.server.bytes), "the stored bytes are a prefix");
        }
    }
    end
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-APP-06, TOK-CRE-01, TDR-OFF-07
#[test]
fn uploads_complete_over_a_lossy_link_and_a_disk_that_loses_unsynced_bytes() {
    let mut given_up = 0;
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| check(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        given_up += u64::from(outcome.is_err());
    }
    // Forty attempts without a single byte of progress are rare even at the highest rate of faults.
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
}

#[test]
fn without_faults_no_request_is_repeated() {
    for seed in 0..200 {
        let mut run = Run::new(seed);
        run.faults = Faults { unconnected: 0, cut: 0, late: 0, unanswered: 0, refused: 0, restarted: 0 };
        run.server.crashes = 0;
        assert_eq!((run.play(), run.uploader.attempts_repeated()), (Ok(()), 0), "seed {seed}");
        assert_eq!((run.server.bytes, run.server.deliveries), (run.source, 1), "seed {seed}");
    }
}
