//! `Uploader` against `engine`: a link that loses, delays and repeats nothing it should not, and a disk that forgets what
//! was not synced. Every run follows from its seed; a failing seed is in the panic.

use super::*;
use crate::dialect::token::told;
use crate::dialect::{Context, Detected, DialectOptions, Resource, detect};
use crate::engine::{self, Decision, End, Ending, Verdict};
use crate::operation::{Operation, Reply, Subject};
use crate::policy::Policy;
use crate::refusal::Interrupted;
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Phase, TargetResponse, Upload};

const SEEDS: u64 = 10_000;

/// Numbers that follow from a seed (splitmix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`, both included.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        self.roll() % (most + 1)
    }

    pub(super) fn in_percent(&mut self, chance: u64) -> bool {
        self.roll() % 100 < chance
    }
}

/// How many requests there were without a pause, and without a byte more.
#[derive(Default)]
pub(super) struct Haste {
    requests: u32,
    acknowledged: u64,
}

impl Haste {
    /// What a machine may ask for at once: a few questions and every halving, never a loop.
    const MOST: u32 = 25;

    pub(super) fn paused(&mut self) {
        self.requests = 0;
    }

    pub(super) fn asked(&mut self, acknowledged: Offset) {
        if acknowledged.get() > self.acknowledged {
            *self = Self { requests: 0, acknowledged: acknowledged.get() };
        }
        self.requests += 1;
        assert!(self.requests <= Self::MOST, "it hurries and gets nowhere");
    }
}

/// A server with one upload: its record, its bytes, and how many of them a crash leaves.
struct Server {
    policy: Policy,
    record: Option<Upload>,
    bytes: Vec<u8>,
    synced: usize,
    /// The furthest offset it ever told.
    told: u64,
    deliveries: u32,
    now: Timestamp,
    /// How often it dies between the last byte and the answer, in percent.
    dies: u64,
}

impl Server {
    fn new() -> Self {
        let now = Timestamp::from_millis(0);
        let policy = Policy::default();
        Self { policy, record: None, bytes: Vec::new(), synced: 0, told: 0, deliveries: 0, now, dies: 5 }
    }

    fn sync(&mut self) -> Durable {
        self.synced = self.bytes.len();
        Durable::attest(Offset::new(self.synced as u64))
    }

    /// Power fails. Any part of what was not synced may be on the disk all the same.
    fn crash(&mut self, dice: &mut Dice) {
        let lucky = dice.up_to((self.bytes.len() - self.synced) as u64);
        self.bytes.truncate(self.synced + usize::try_from(lucky).expect("small"));
    }

    /// What a request finds: earlier ones have ended, their bytes are safe, and what is due is finished.
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

    /// Handles a request of which `content` arrives. The content is cut when there is less of it than declared.
    fn handle(&mut self, head: &Request<()>, content: &[u8], declared: u64, dice: &mut Dice) -> Response {
        let (parts, ()) = head.clone().into_parts();
        let Detected::Dialect(dialect) = detect(&parts, Resource::Endpoint, DialectOptions::default()) else {
            panic!("no dialect: {parts:?}")
        };
        let decoded = match dialect.decode(&parts, Resource::Endpoint, Some(declared)) {
            Ok(decoded) => decoded,
            Err(refusal) => panic!("the client says what makes no sense: {refusal:?} {parts:?}"),
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
            Decision::Cancel | Decision::Invalidate(_) => panic!("nobody asked for that"),
        };
        let moment = Context { base: "/uploads", limits: &self.policy.limits, now: self.now, lifetime: None };
        let head = match reply {
            Ok(Some(reply)) => dialect.encode(&reply, &moment),
            Ok(None) => return None,
            Err(refusal) => dialect.refuse(&refusal, &moment),
        };
        self.remember(head.headers());
        Some((head.status(), head.headers().clone()))
    }

    /// An offset that was told holds for ever.
    fn remember(&mut self, fields: &HeaderMap) {
        if let Some(offset) = told(fields).offset {
            assert!(offset.get() >= self.told, "the offset went back from {} to {offset}", self.told);
            assert!(offset.get() <= self.synced as u64, "{offset} was told, {} is safe", self.synced);
            self.told = offset.get();
        }
    }

    fn receive(
        &mut self,
        upload: Upload,
        plan: &engine::Plan,
        content: &[u8],
        declared: u64,
        dice: &mut Dice,
    ) -> Option<Reply> {
        assert_eq!(plan.at, Offset::new(self.bytes.len() as u64));
        assert!(declared <= plan.room.bytes);
        self.record = Some(upload.clone());
        self.bytes.extend_from_slice(content);
        if (content.len() as u64) < declared {
            if dice.in_percent(30) {
                // Nobody is there to settle it: the next request finds the bytes as the disk has them.
                self.crash(dice);
                return None;
            }
            let ending = Ending { stored: self.sync(), how: End::Interrupted(Interrupted::Cut) };
            let (upload, verdict) = engine::settle(upload, plan, &ending, self.now);
            self.settled(upload, verdict, plan.created);
            return None;
        }
        if dice.in_percent(self.dies) {
            self.crash(dice);
            return None;
        }
        let ending = Ending { stored: self.sync(), how: End::AllReceived };
        let (upload, verdict) = engine::settle(upload, plan, &ending, self.now);
        if dice.in_percent(self.dies) {
            // Between the record of the last byte and its delivery.
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
            Verdict::Remove(refusal) => panic!("nothing is wrong with the upload: {refusal:?}"),
        }
    }
}

/// Status and fields, unless the server died.
type Response = Option<(StatusCode, HeaderMap)>;

/// How bad a run is, in percent of requests.
struct Weather {
    unconnected: u64,
    cut: u64,
    late: u64,
    unheard: u64,
    refused: u64,
    /// How often the client dies, to be run again with the token it kept.
    restarted: u64,
}

struct Run {
    dice: Dice,
    weather: Weather,
    source: Vec<u8>,
    server: Server,
    uploader: Uploader,
    /// The same upload as a later process would begin it.
    later: Uploader,
    elapsed: Duration,
    /// A creation that is still on its way when the client has long given it up.
    late: Option<(Request<()>, u64, u64)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let most = [0, 10, 25, 40][usize::try_from(dice.up_to(3)).expect("small")];
        let weather = Weather {
            unconnected: dice.up_to(most),
            cut: dice.up_to(most),
            late: dice.up_to(most),
            unheard: dice.up_to(most),
            refused: dice.up_to(most),
            restarted: dice.up_to(5),
        };
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.roll().to_be_bytes()[0]).collect();
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let token = token_of([dice.roll().to_be_bytes()[0]; 32]);
        let content_max = if dice.in_percent(30) { 1 + dice.up_to(200) } else { u64::MAX };
        let begun = |begin: fn(Uri, Token, Origin, Length, Retries) -> Uploader| {
            let target = Uri::from_static("/uploads");
            begin(target, token.clone(), origin(), Length::new(length), retries).with_content_max(content_max)
        };
        let later = begun(Uploader::resume);
        let uploader = if dice.in_percent(20) { later.clone() } else { begun(Uploader::create) };
        Self {
            dice,
            weather,
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

    /// Runs to its end, which is `Ok` when the upload is complete.
    fn play(&mut self) -> Result<(), Failure> {
        let mut haste = Haste::default();
        for _ in 0..20_000 {
            if self.dice.in_percent(self.weather.restarted) {
                self.uploader = self.later.clone();
            }
            match self.uploader.step() {
                Step::Wait(wait) => {
                    self.elapsed += wait;
                    haste.paused();
                }
                Step::Send(ask) => {
                    haste.asked(self.uploader.acknowledged());
                    self.send(*ask);
                }
                Step::Done => return Ok(()),
                Step::Failed(failure) => return Err(failure),
            }
        }
        panic!("it never ends");
    }

    fn send(&mut self, ask: Ask) {
        self.elapsed += Duration::from_millis(50);
        self.server.now = Timestamp::from_millis(u64::try_from(self.elapsed.as_millis()).expect("short"));
        let range = ask.content.clone().unwrap_or(0..0);
        let declared = range.end - range.start;
        let random = self.dice.roll();
        let lost = |run: &mut Self, reached| {
            run.uploader.on_lost(reached, Moment { elapsed: run.elapsed, random });
        };
        if self.dice.in_percent(self.weather.unconnected) {
            return lost(self, false);
        }
        let cut = self.dice.in_percent(self.weather.cut);
        let arrives = if cut { self.dice.up_to(declared.saturating_sub(1)) } else { declared };
        let sent = arrives + self.dice.up_to(declared - arrives);
        if cut && declared > 0 && ask.head.method() == Method::POST && self.dice.in_percent(self.weather.late)
        {
            // The connection is lost, but not before the network has taken something along.
            self.late = Some((ask.head, arrives, declared));
            self.uploader.on_sent(sent);
            return lost(self, true);
        }
        if self.dice.in_percent(self.weather.refused) {
            // Something in between answers, with or without having passed the request on.
            if self.dice.in_percent(50) {
                let content = self.bytes(range.start..range.start + arrives);
                self.server.handle(&ask.head, &content, declared, &mut self.dice);
            }
            self.uploader.on_sent(sent);
            let status =
                [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
            let status = status[usize::try_from(self.dice.up_to(2)).expect("small")];
            let moment = Moment { elapsed: self.elapsed, random };
            return self.uploader.on_response(status, &fields("Retry-After: 3"), moment);
        }
        let content = self.bytes(range.start..range.start + arrives);
        let response = self.server.handle(&ask.head, &content, declared, &mut self.dice);
        self.arrive_late();
        // Of a cut request no answer is heard unless it was refused by its head.
        let unheard = self.dice.in_percent(self.weather.unheard);
        match response {
            Some((status, fields)) if !unheard => {
                self.uploader.on_sent(sent);
                self.uploader.on_response(status, &fields, Moment { elapsed: self.elapsed, random });
            }
            _ => {
                self.uploader.on_sent(sent);
                lost(self, true);
            }
        }
    }

    /// The creation that was given up arrives after all, behind the question about it.
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
            assert!(run.source.starts_with(&run.server.bytes), "what is there is the beginning");
        }
    }
    end
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-APP-06, TOK-CRE-01, TDR-OFF-07
#[test]
fn uploads_arrive_whole_over_a_lossy_link_to_a_forgetful_disk() {
    let mut given_up = 0;
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| check(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        given_up += u64::from(outcome.is_err());
    }
    // Forty attempts without a single byte of progress are rare even in the worst weather.
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
}

#[test]
fn in_fair_weather_nothing_is_repeated() {
    for seed in 0..200 {
        let mut run = Run::new(seed);
        run.weather = Weather { unconnected: 0, cut: 0, late: 0, unheard: 0, refused: 0, restarted: 0 };
        run.server.dies = 0;
        assert_eq!((run.play(), run.uploader.attempts_repeated()), (Ok(()), 0), "seed {seed}");
        assert_eq!((run.server.bytes, run.server.deliveries), (run.source, 1), "seed {seed}");
    }
}
