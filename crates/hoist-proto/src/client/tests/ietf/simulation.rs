//! The machine against engine and dialect, all versions: a link that cuts, delays and loses, interim responses that do
//! not all come through, limits that are not all told, and a disk that forgets what was not synced. Every run follows
//! from its seed; a failing seed is in the panic.

use std::collections::HashMap;

use super::super::simulation::{Dice, Haste};
use super::*;
use crate::dialect::ietf::IetfCodec;
use crate::dialect::{Context, Detected, Dialect, DialectOptions, Resource, detect};
use crate::engine::{self, Decision, End, Ending, Plan, Verdict};
use crate::operation::{Decoded, Reply, Subject};
use crate::policy::{Limits, Policy};
use crate::refusal::{Interrupted, Refusal};
use crate::types::{Durable, Timestamp, UploadId};
use crate::upload::{Phase, TargetResponse, Upload};

const SEEDS: u64 = 10_000;
const BASE: &str = "https://h.example/uploads";

/// One upload on the server: its record, its bytes, how many of them a crash leaves, and the furthest it ever told.
#[derive(Default)]
struct Kept {
    record: Option<Upload>,
    bytes: Vec<u8>,
    synced: usize,
    told: u64,
}

impl Kept {
    fn sync(&mut self) -> Durable {
        self.synced = self.bytes.len();
        Durable::attest(Offset::new(self.synced as u64))
    }

    /// Power fails. Any part of what was not synced may be on the disk all the same.
    fn crash(&mut self, dice: &mut Dice) {
        let lucky = dice.up_to((self.bytes.len() - self.synced) as u64);
        self.bytes.truncate(self.synced + usize::try_from(lucky).expect("small"));
    }

    /// An offset that was told holds for ever.
    fn tells(&mut self, fields: &HeaderMap, speaker: IetfCodec) {
        let Some(offset) = speaker.told(fields).offset else { return };
        assert!(offset.get() >= self.told, "the offset went back from {} to {offset}", self.told);
        assert!(offset.get() <= self.synced as u64, "{offset} was told, {} is safe", self.synced);
        self.told = offset.get();
    }
}

struct Server {
    policy: Policy,
    uploads: HashMap<UploadId, Kept>,
    minted: u8,
    /// What the target was given, upload by upload.
    delivered: Vec<Vec<u8>>,
    answer: StatusCode,
    now: Timestamp,
    /// How often it dies between the last byte and the answer, in percent.
    dies: u64,
    /// How often it drops a complete upload between two requests, in percent.
    drops: u64,
}

/// A request whose content the server receives.
struct Intake {
    id: UploadId,
    upload: Upload,
    plan: Plan,
    dialect: Dialect,
    speaker: IetfCodec,
}

/// Status and fields.
type Response = (StatusCode, HeaderMap);

impl Intake {
    /// How much of the content is stored, and how that ends.
    fn fits(&self, arrives: u64, range: &Range<u64>) -> (u64, End) {
        match self.plan.room.bytes {
            room if arrives > room => (room, End::OverLimit),
            _ if arrives < range.end - range.start => (arrives, End::Interrupted(Interrupted::Cut)),
            _ => (arrives, End::AllReceived),
        }
    }
}

enum Begun {
    Answered(Response),
    /// The announcement, if there is one, and what receives.
    Receives(Option<Response>, Box<Intake>),
}

fn heads(head: http::Response<()>) -> Response {
    let (parts, ()) = head.into_parts();
    (parts.status, parts.headers)
}

impl Server {
    fn kept(&mut self, id: UploadId) -> &mut Kept {
        self.uploads.entry(id).or_default()
    }

    /// What a request finds: earlier ones have ended, their bytes are safe, and what is due is finished.
    fn load(&mut self, id: UploadId) -> Option<Upload> {
        let kept = self.uploads.get_mut(&id)?;
        let mut upload = Upload { offset: kept.sync(), ..kept.record.clone()? };
        if upload.awaits_delivery() {
            upload.length = Some(upload.offset.offset().into());
            upload.phase = Phase::Received;
            self.finish(upload, false);
            return self.uploads[&id].record.clone();
        }
        Some(upload)
    }

    fn finish(&mut self, upload: Upload, created: bool) -> Reply {
        let id = upload.id;
        let bytes = self.uploads[&id].bytes.clone();
        assert_eq!(upload.length, Some(Length::new(bytes.len() as u64)));
        self.delivered.push(bytes);
        let answer = TargetResponse::of(self.answer);
        let (upload, reply) = engine::deliver(upload, answer, created, &self.policy, self.now);
        self.kept(id).record = Some(upload);
        reply
    }

    /// Decides about a request by its head.
    fn begin(&mut self, head: &Request<()>, declared: Option<u64>, dice: &mut Dice) -> Begun {
        let (parts, ()) = head.clone().into_parts();
        let below =
            parts.uri.path().strip_prefix("/uploads/").map(|name| name.parse().expect("an id it gave"));
        let place = below.map_or(Resource::Endpoint, Resource::Upload);
        let dialect =
            match detect(&parts, place, DialectOptions { rfc_interim: true, ..DialectOptions::default() }) {
                Detected::Dialect(dialect) => dialect,
                Detected::ByUpload => Dialect::Ietf(IetfCodec::unversioned()),
                other => panic!("no dialect: {other:?} {parts:?}"),
            };
        let Dialect::Ietf(speaker) = dialect else { panic!("another dialect: {parts:?}") };
        let decoded = dialect.decode(&parts, place, declared).expect("the client makes sense");
        let Decoded { subject, family, operation } = decoded;
        let id = match subject {
            Subject::Id(id) => id,
            Subject::Fresh => {
                self.minted += 1;
                UploadId::from_bits([self.minted; 16])
            }
            Subject::Token(_) | Subject::Part(..) => panic!("nobody has a token"),
        };
        assert!(!matches!(operation, Operation::Reject(_)), "the client makes sense: {parts:?}");
        let is_complete = self.load(id).is_some_and(|upload| upload.is_complete());
        if is_complete && dice.in_percent(self.drops) {
            self.uploads.remove(&id);
        }
        let known = self.load(id);
        let policy = self.policy.clone();
        let around = Context { base: BASE, limits: &policy.limits, now: self.now, lifetime: None };
        let request = engine::UploadRequest { id, principal: None, family, operation };
        let (upload, plan) = match engine::decide(known.as_ref(), &request, &policy, self.now) {
            Decision::Create(upload, plan) | Decision::Receive(upload, plan) => (upload, plan),
            Decision::Cancel => {
                self.uploads.remove(&id);
                return Begun::Answered(heads(dialect.encode(&Reply::Cancelled, &around)));
            }
            Decision::Answer(reply) => {
                let answer = heads(dialect.encode(&reply, &around));
                self.kept(id).tells(&answer.1, speaker);
                return Begun::Answered(answer);
            }
            Decision::Refuse(refusal) => {
                let answer = heads(dialect.refuse(&refusal, &around));
                if self.uploads.contains_key(&id) {
                    self.kept(id).tells(&answer.1, speaker);
                }
                return Begun::Answered(answer);
            }
            Decision::Invalidate(refusal) => panic!("nothing is wrong with the upload: {refusal:?}"),
        };
        assert!(declared.is_none_or(|bytes| bytes <= plan.room.bytes));
        assert_eq!(plan.at, Offset::new(self.kept(id).bytes.len() as u64));
        self.kept(id).record = Some(upload.clone());
        let announced = dialect.announcement(&request.operation, &parts, &upload, &around).map(heads);
        Begun::Receives(announced, Box::new(Intake { id, upload, plan, dialect, speaker }))
    }

    /// Content arrives, and may be made safe and told.
    fn feed(&mut self, intake: &Intake, content: &[u8], tells: bool) -> Option<Response> {
        let kept = self.kept(intake.id);
        kept.bytes.extend_from_slice(content);
        if !tells {
            return None;
        }
        let safe = kept.sync();
        let told = intake.dialect.progress(safe).map(heads)?;
        assert!(!told.1.contains_key("location"));
        kept.tells(&told.1, intake.speaker);
        Some(told)
    }

    /// The content ends, and if the server lives it answers.
    fn end(&mut self, intake: Intake, how: End, dice: &mut Dice) -> Option<Response> {
        let Intake { id, upload, plan, dialect, speaker } = intake;
        if dice.in_percent(if how == End::AllReceived { self.dies } else { 30 }) {
            // Nobody is there to settle it: the next request finds the bytes as the disk has them.
            self.kept(id).crash(dice);
            return None;
        }
        let ending = Ending { stored: self.kept(id).sync(), how };
        let (upload, verdict) = engine::settle(upload, &plan, &ending, self.now);
        if dice.in_percent(self.dies) && !matches!(verdict, Verdict::Remove(_)) {
            // Between the record of the last byte and its delivery.
            self.kept(id).record = Some(upload);
            return None;
        }
        let limits = self.policy.limits;
        let around = Context { base: BASE, limits: &limits, now: self.now, lifetime: None };
        let answer = match verdict {
            Verdict::Deliver { .. } => heads(dialect.encode(&self.finish(upload, plan.created), &around)),
            Verdict::Acknowledge(reply) => {
                self.kept(id).record = Some(upload);
                heads(dialect.encode(&reply, &around))
            }
            Verdict::Refuse(refusal) => {
                // A client that has not heard of the limits may send too little without saying how much it is.
                let is_little = matches!(refusal, Refusal::TooSmall { .. });
                assert!(
                    how != End::AllReceived || is_little,
                    "nothing is wrong with the upload: {refusal:?}"
                );
                self.kept(id).record = Some(upload);
                heads(dialect.refuse(&refusal, &around))
            }
            Verdict::Remove(refusal) => {
                assert!(how != End::AllReceived, "nothing is wrong with the upload: {refusal:?}");
                self.uploads.remove(&id);
                return Some(heads(dialect.refuse(&refusal, &around)));
            }
        };
        self.kept(id).tells(&answer.1, speaker);
        Some(answer)
    }
}

/// How bad a run is, in percent of requests.
struct Weather {
    unconnected: u64,
    cut: u64,
    late: u64,
    unheard: u64,
    refused: u64,
    /// Of interim responses.
    deaf: u64,
}

impl Weather {
    const FAIR: Self = Self { unconnected: 0, cut: 0, late: 0, unheard: 0, refused: 0, deaf: 0 };

    fn any(dice: &mut Dice) -> Self {
        let most = [0, 10, 25, 40][usize::try_from(dice.up_to(3)).expect("small")];
        Self {
            unconnected: dice.up_to(most),
            cut: dice.up_to(most),
            late: dice.up_to(most),
            unheard: dice.up_to(most),
            refused: dice.up_to(most),
            // Some networks let no interim response through.
            deaf: if dice.in_percent(20) { 100 } else { dice.up_to(most) },
        }
    }
}

struct Run {
    dice: Dice,
    weather: Weather,
    version: Interop,
    method: Method,
    source: Vec<u8>,
    server: Server,
    uploader: Uploader,
    elapsed: Duration,
    last: Option<StatusCode>,
    /// Whether requests say how much they carry.
    declares: bool,
    /// How many requests to come meet the same trouble.
    burst: u64,
    /// A transfer that is still on its way when the client has long given it up.
    late: Option<(Request<()>, Range<u64>, u64)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let version = Interop::ALL[usize::try_from(seed % 8).expect("small")];
        let weather = Weather::any(&mut dice);
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.roll().to_be_bytes()[0]).collect();
        let tells_limits = version >= Interop::V6;
        let append_max = dice.in_percent(30).then(|| 40 + dice.up_to(300));
        let limits = Limits {
            size_max: dice.in_percent(30).then(|| length + dice.up_to(100)),
            size_min: if dice.in_percent(20) { dice.up_to(400) } else { 0 },
            append_max,
            append_min: if tells_limits && dice.in_percent(20) { dice.up_to(40) } else { 0 },
        };
        let answer = [
            StatusCode::OK,
            StatusCode::CREATED,
            StatusCode::NO_CONTENT,
            StatusCode::OK,
            StatusCode::CREATED,
        ][usize::try_from(dice.up_to(4)).expect("small")];
        let answer = if dice.in_percent(15) { StatusCode::UNPROCESSABLE_ENTITY } else { answer };
        let method = if dice.in_percent(30) { Method::PUT } else { Method::POST };
        let opening = if dice.in_percent(30) { Opening::Careful } else { Opening::AtOnce };
        let server = Server {
            policy: Policy { limits, ..Policy::default() },
            uploads: HashMap::new(),
            minted: 0,
            delivered: Vec::new(),
            answer,
            now: Timestamp::from_millis(0),
            dies: 5,
            drops: if dice.in_percent(20) { 20 } else { 0 },
        };
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let target = Uri::from_static(BASE);
        let origin = Origin { method: method.clone(), target: "/uploads".into(), fields: HeaderMap::new() };
        let known = (!dice.in_percent(25)).then_some(Length::new(length));
        let uploader = Uploader::create_in(target, version, opening, origin, known, retries);
        let uploader =
            if dice.in_percent(30) { uploader.with_content_max(1 + dice.up_to(200)) } else { uploader };
        let (elapsed, declares) = (Duration::ZERO, dice.in_percent(85));
        Self {
            declares,
            dice,
            weather,
            version,
            method,
            source,
            server,
            uploader,
            elapsed,
            last: None,
            burst: 0,
            late: None,
        }
    }

    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let within = |at: u64| usize::try_from(at).expect("small");
        self.source[within(range.start)..within(range.end)].to_vec()
    }

    fn moment(&mut self) -> Moment {
        Moment { elapsed: self.elapsed, random: self.dice.roll() }
    }

    /// Runs to its end, which is `Ok` when the upload is complete.
    fn play(&mut self) -> Result<(), Failure> {
        let mut acknowledged = (None, Offset::ZERO);
        let mut haste = Haste::default();
        for _ in 0..20_000 {
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
            // What is acknowledged stays so, and bytes before it may be forgotten.
            let now = (self.uploader.url().cloned(), self.uploader.acknowledged());
            assert!(now.0 != acknowledged.0 || now.1 >= acknowledged.1, "{acknowledged:?} became {now:?}");
            acknowledged = now;
        }
        panic!("it never ends");
    }

    fn send(&mut self, ask: Ask) {
        self.elapsed += Duration::from_millis(50);
        self.server.now = Timestamp::from_millis(u64::try_from(self.elapsed.as_millis()).expect("short"));
        let mut range = ask.content.clone().unwrap_or(0..0);
        if ask.is_open {
            // Its sender keeps no more than this, or comes to the end of what there is.
            let kept = 1 + self.server.policy.limits.append_min + self.dice.up_to(300);
            range.end = range.end.min(self.source.len() as u64).min(range.start + kept);
        }
        let declared = range.end - range.start;
        if self.dice.in_percent(self.weather.unconnected) {
            let moment = self.moment();
            return self.uploader.on_lost(false, moment);
        }
        let cut = declared > 0 && self.dice.in_percent(self.weather.cut);
        let arrives = if cut { self.dice.up_to(declared - 1) } else { declared };
        let sent = arrives + self.dice.up_to(declared - arrives);
        if ask.content.is_some() && self.dice.in_percent(self.weather.late) {
            // The connection is lost, but not before the network has taken something along.
            self.sent(ask.is_open, &range, sent);
            self.late = Some((ask.head, range, arrives));
            let moment = self.moment();
            return self.uploader.on_lost(true, moment);
        }
        if self.burst > 0 || self.dice.in_percent(self.weather.refused) {
            // Trouble seldom comes alone.
            self.burst = if self.burst == 0 { self.dice.up_to(3) } else { self.burst - 1 };
            return self.refuse(&ask, &range, arrives, sent);
        }
        let answer = match self.server.begin(&ask.head, self.declared(&ask, declared), &mut self.dice) {
            Begun::Answered(answer) => Some(answer),
            Begun::Receives(announced, intake) => match self.transfer(announced, *intake, &range, arrives) {
                Ended::Stopped => return self.arrive_late(),
                Ended::By(answer) => answer,
            },
        };
        self.arrive_late();
        self.sent(ask.is_open, &range, sent);
        // Of a request that was cut no answer is heard.
        let moment = self.moment();
        match answer.filter(|_| !cut) {
            Some((status, fields)) if !self.dice.in_percent(self.weather.unheard) => {
                self.last = Some(status);
                self.uploader.on_response(status, &fields, moment);
            }
            _ => self.uploader.on_lost(true, moment),
        }
    }

    /// This much content has left, which may have been all of it.
    fn sent(&mut self, is_open: bool, range: &Range<u64>, sent: u64) {
        self.uploader.on_sent(sent);
        if is_open && range.start + sent == range.end {
            self.uploader.on_content_end(sent);
            if range.end == self.source.len() as u64 {
                self.uploader.on_source_end(Length::new(range.end));
            }
        }
    }

    /// What the server can know of the size of a request's content. That there is none is always known.
    fn declared(&self, ask: &Ask, bytes: u64) -> Option<u64> {
        let declares = self.declares && !ask.is_open;
        Some(bytes).filter(|bytes| ask.content.is_some() && (declares || *bytes == 0))
    }

    /// Something in between answers, with or without having passed the request on.
    fn refuse(&mut self, ask: &Ask, range: &Range<u64>, arrives: u64, sent: u64) {
        let statuses =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        let status = statuses[usize::try_from(self.dice.up_to(2)).expect("small")];
        // Who has too much to do has not passed it on.
        if status == StatusCode::BAD_GATEWAY && self.dice.in_percent(50) {
            self.deliver_blindly(&ask.head, range, arrives);
        }
        self.sent(ask.is_open, range, sent);
        let moment = self.moment();
        self.last = Some(status);
        self.uploader.on_response(status, &fields("Retry-After: 3"), moment);
    }

    /// A request that nobody hears the answer of.
    fn deliver_blindly(&mut self, head: &Request<()>, range: &Range<u64>, arrives: u64) {
        let declared = Some(range.end - range.start).filter(|bytes| self.declares || *bytes == 0);
        if let Begun::Receives(_, intake) = self.server.begin(head, declared, &mut self.dice) {
            let (fits, how) = intake.fits(arrives, range);
            let content = self.bytes(range.start..range.start + fits);
            self.server.feed(&intake, &content, false);
            self.server.end(*intake, how, &mut self.dice);
        }
    }

    /// Content flows, with interim responses against it.
    fn transfer(
        &mut self,
        announced: Option<Response>,
        intake: Intake,
        range: &Range<u64>,
        arrives: u64,
    ) -> Ended {
        let (arrives, how) = intake.fits(arrives, range);
        let mut stored = 0;
        let mut interim = announced;
        loop {
            let heard = interim.take().filter(|_| !self.dice.in_percent(self.weather.deaf));
            if let Some((status, fields)) = heard {
                self.uploader.on_sent(stored);
                let moment = self.moment();
                if self.uploader.on_interim(status, &fields, moment) == Heard::Stop {
                    self.server.end(intake, End::Interrupted(Interrupted::Cut), &mut self.dice);
                    return Ended::Stopped;
                }
            }
            if stored == arrives {
                break;
            }
            let more = 1 + self.dice.up_to(arrives - stored - 1);
            let content = self.bytes(range.start + stored..range.start + stored + more);
            stored += more;
            let tells = self.dice.in_percent(50);
            interim = self.server.feed(&intake, &content, tells);
        }
        Ended::By(self.server.end(intake, how, &mut self.dice))
    }

    /// The transfer that was given up arrives after all, behind a later request.
    fn arrive_late(&mut self) {
        if let Some((head, range, arrives)) = self.late.take() {
            self.deliver_blindly(&head, &range, arrives);
        }
    }
}

enum Ended {
    /// The client wanted it to end.
    Stopped,
    /// By an answer, unless the server died.
    By(Option<Response>),
}

/// Plays a run to its end and checks all that must hold.
fn check(seed: u64) -> Result<(), Failure> {
    let mut run = Run::new(seed);
    let end = run.play();
    let ids: Vec<_> = run.server.uploads.keys().copied().collect();
    for id in ids {
        run.server.load(id);
    }
    let answer = run.server.answer;
    let delivered = &run.server.delivered;
    assert!(delivered.iter().all(|bytes| *bytes == run.source), "the target sees the representation");
    for kept in run.server.uploads.values() {
        assert!(run.source.starts_with(&kept.bytes), "what is there is the beginning");
    }
    assert!(delivered.len() <= 1 || run.method == Method::PUT, "the target sees it once");
    if run.uploader.is_answered() {
        assert_eq!(run.last, Some(answer), "the last answer is the target's");
    }
    match end {
        Ok(()) => {
            assert!(!delivered.is_empty(), "the client believes it is complete");
            let is_told = run.uploader.is_answered() && answer.is_success();
            assert!(is_told || run.version < Interop::V8 || run.server.drops > 0, "it was there to be had");
        }
        Err(Failure::Rejected(status)) => {
            assert_eq!(status, answer);
            assert!(run.uploader.is_answered() && !answer.is_success() && !delivered.is_empty());
        }
        Err(Failure::Unanswered) => assert!(run.uploader.url().is_none() && run.method == Method::POST),
        Err(Failure::Gone) => assert!(run.server.drops > 0 && !delivered.is_empty()),
        Err(Failure::Exhausted { .. }) => {}
        Err(failure) => panic!("{failure:?}"),
    }
    end
}

// proves: IETF-RES-01, IETF-OFF-01, IETF-OFF-03, IETF-CMP-03, IETF-CMP-04, IETF-RET-09, IETF-CON-02, IETF-CON-03, IETF-APP-09, IETF-APP-14, IETF-APP-17, IETF-CRE-12, IETF-INT-04, IETF-LIM-03, IETF-CLI-04, IETF-CLI-10, IETF-CLI-15, IETF-CLI-20
#[test]
fn uploads_arrive_whole_over_a_lossy_link_to_a_forgetful_disk_in_every_version() {
    let (mut given_up, mut unanswered) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| check(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        given_up += u64::from(matches!(outcome, Err(Failure::Exhausted { .. })));
        unanswered += u64::from(outcome == Err(Failure::Unanswered));
    }
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
    // Where no URL came through and the answer was lost there is nothing to be known.
    assert!(unanswered < SEEDS / 10, "{unanswered} of {SEEDS} do not know");
}

#[test]
fn in_fair_weather_nothing_is_repeated_in_any_version() {
    for seed in 0..800 {
        let mut run = Run::new(seed);
        run.weather = Weather::FAIR;
        run.server.dies = 0;
        run.server.policy.limits = Limits::default();
        let end = run.play();
        let expected =
            if run.server.answer.is_success() { Ok(()) } else { Err(Failure::Rejected(run.server.answer)) };
        assert_eq!((end, run.uploader.attempts_repeated()), (expected, 0), "seed {seed}");
        assert_eq!(run.server.delivered, [run.source], "seed {seed}");
    }
}
