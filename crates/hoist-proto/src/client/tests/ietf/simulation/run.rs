//! The simulated client and its link, and the checks of a run.

use super::*;

/// The probabilities of faults, in percent of requests.
struct Faults {
    unconnected: u64,
    cut: u64,
    late: u64,
    unanswered: u64,
    refused: u64,
    /// An interim response is lost.
    interim_lost: u64,
}

impl Faults {
    const NONE: Self = Self { unconnected: 0, cut: 0, late: 0, unanswered: 0, refused: 0, interim_lost: 0 };

    fn random(dice: &mut SeededRng) -> Self {
        let most = [0, 10, 25, 40][usize::try_from(dice.up_to(3)).expect("small")];
        Self {
            unconnected: dice.up_to(most),
            cut: dice.up_to(most),
            late: dice.up_to(most),
            unanswered: dice.up_to(most),
            refused: dice.up_to(most),
            // Some networks drop every interim response.
            interim_lost: if dice.in_percent(20) { 100 } else { dice.up_to(most) },
        }
    }
}

struct Run {
    dice: SeededRng,
    faults: Faults,
    version: Interop,
    method: Method,
    source: Vec<u8>,
    server: Server,
    uploader: Uploader,
    elapsed: Duration,
    last: Option<StatusCode>,
    /// True if requests declare the size of their content.
    declares: bool,
    /// The number of further requests that meet the same fault.
    burst: u64,
    /// A transfer that arrives after the client has given it up.
    late: Option<(Request<()>, Range<u64>, u64)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = SeededRng(seed);
        let version = Interop::ALL[usize::try_from(seed % 8).expect("small")];
        let faults = Faults::random(&mut dice);
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.next().to_be_bytes()[0]).collect();
        let announces_limits = version >= Interop::V6;
        let append_max = dice.in_percent(30).then(|| 40 + dice.up_to(300));
        let limits = Limits {
            size_max: dice.in_percent(30).then(|| length + dice.up_to(100)),
            size_min: if dice.in_percent(20) { dice.up_to(400) } else { 0 },
            append_max,
            append_min: if announces_limits && dice.in_percent(20) { dice.up_to(40) } else { 0 },
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
            created: 0,
            delivered: Vec::new(),
            answer,
            now: Timestamp::from_millis(0),
            crashes: 5,
            drops: if dice.in_percent(20) { 20 } else { 0 },
        };
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let target = Uri::from_static(BASE);
        let origin = Origin { method: method.clone(), target: "/uploads".into(), fields: HeaderMap::new() };
        let known = (!dice.in_percent(25)).then_some(Length::new(length));
        let uploader = Uploader::create(ClientDialect::Ietf(version), target, origin, known, retries)
            .with_opening(opening);
        let uploader =
            if dice.in_percent(30) { uploader.with_content_max(1 + dice.up_to(200)) } else { uploader };
        let (elapsed, declares) = (Duration::ZERO, dice.in_percent(85));
        Self {
            declares,
            dice,
            faults,
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
        Moment { elapsed: self.elapsed, random: self.dice.next() }
    }

    /// Runs to the end. Returns `Ok` if the upload is complete.
    fn play(&mut self) -> Result<(), Failure> {
        let mut acknowledged = (None, Offset::ZERO);
        let mut busy = BusyLoopCheck::default();
        for _ in 0..20_000 {
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
            // The client may forget acknowledged bytes.
            let now = (self.uploader.url().cloned(), self.uploader.acknowledged());
            assert!(now.0 != acknowledged.0 || now.1 >= acknowledged.1, "{acknowledged:?} became {now:?}");
            acknowledged = now;
        }
        panic!("the upload does not end");
    }

    fn send(&mut self, transmit: Transmit) {
        self.elapsed += Duration::from_millis(50);
        self.server.now = Timestamp::from_millis(u64::try_from(self.elapsed.as_millis()).expect("short"));
        let mut range = transmit.content.clone().unwrap_or(0..0);
        if transmit.is_open {
            // The sender buffers no more than this, or reaches the end of the source.
            let buffered = 1 + self.server.policy.limits.append_min + self.dice.up_to(300);
            range.end = range.end.min(self.source.len() as u64).min(range.start + buffered);
        }
        let declared = range.end - range.start;
        if self.dice.in_percent(self.faults.unconnected) {
            let moment = self.moment();
            return self.uploader.on_lost(false, moment);
        }
        let cut = declared > 0 && self.dice.in_percent(self.faults.cut);
        let arrives = if cut { self.dice.up_to(declared - 1) } else { declared };
        let sent = arrives + self.dice.up_to(declared - arrives);
        if transmit.content.is_some() && self.dice.in_percent(self.faults.late) {
            // The connection is lost, but part of the request still arrives.
            self.sent(transmit.is_open, &range, sent);
            self.late = Some((transmit.head, range, arrives));
            let moment = self.moment();
            return self.uploader.on_lost(true, moment);
        }
        if self.burst > 0 || self.dice.in_percent(self.faults.refused) {
            // Faults come in bursts.
            self.burst = if self.burst == 0 { self.dice.up_to(3) } else { self.burst - 1 };
            return self.refuse(&transmit, &range, arrives, sent);
        }
        let answer =
            match self.server.begin(&transmit.head, self.declared(&transmit, declared), &mut self.dice) {
                Decided::Answered(answer) => Some(answer),
                Decided::Receives(announced, intake) => {
                    match self.transfer(announced, *intake, &range, arrives) {
                        Ended::Stopped => return self.arrive_late(),
                        Ended::By(answer) => answer,
                    }
                }
            };
        self.arrive_late();
        self.sent(transmit.is_open, &range, sent);
        // An interrupted request gets no answer.
        let moment = self.moment();
        match answer.filter(|_| !cut) {
            Some((status, fields)) if !self.dice.in_percent(self.faults.unanswered) => {
                self.last = Some(status);
                self.uploader.on_response(status, &fields, moment);
            }
            _ => self.uploader.on_lost(true, moment),
        }
    }

    /// Reports that this much content has left, which may be all of it.
    fn sent(&mut self, is_open: bool, range: &Range<u64>, sent: u64) {
        self.uploader.on_sent(sent);
        if is_open && range.start + sent == range.end {
            self.uploader.on_content_end(sent);
            if range.end == self.source.len() as u64 {
                self.uploader.on_source_end(Length::new(range.end));
            }
        }
    }

    /// Returns the size of the content, as far as the server can know it. It always knows that there is no content.
    fn declared(&self, transmit: &Transmit, bytes: u64) -> Option<u64> {
        let declares = self.declares && !transmit.is_open;
        Some(bytes).filter(|bytes| transmit.content.is_some() && (declares || *bytes == 0))
    }

    /// Lets a proxy answer, with or without having forwarded the request.
    fn refuse(&mut self, transmit: &Transmit, range: &Range<u64>, arrives: u64, sent: u64) {
        let statuses =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        let status = statuses[usize::try_from(self.dice.up_to(2)).expect("small")];
        // An overloaded proxy has not forwarded the request.
        if status == StatusCode::BAD_GATEWAY && self.dice.in_percent(50) {
            self.deliver_blindly(&transmit.head, range, arrives);
        }
        self.sent(transmit.is_open, range, sent);
        let moment = self.moment();
        self.last = Some(status);
        self.uploader.on_response(status, &fields("Retry-After: 3"), moment);
    }

    /// Delivers a request whose answer is lost.
    fn deliver_blindly(&mut self, head: &Request<()>, range: &Range<u64>, arrives: u64) {
        let declared = Some(range.end - range.start).filter(|bytes| self.declares || *bytes == 0);
        if let Decided::Receives(_, intake) = self.server.begin(head, declared, &mut self.dice) {
            let (fits, how) = intake.fits(arrives, range);
            let content = self.bytes(range.start..range.start + fits);
            self.server.feed(&intake, &content, false);
            self.server.end(*intake, how, &mut self.dice);
        }
    }

    /// Sends content while interim responses arrive.
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
            let received = interim.take().filter(|_| !self.dice.in_percent(self.faults.interim_lost));
            if let Some((status, fields)) = received {
                self.uploader.on_sent(stored);
                let moment = self.moment();
                if self.uploader.on_interim(status, &fields, moment) == OnInterim::Stop {
                    self.server.end(intake, End::Interrupted(InterruptCause::Disconnected), &mut self.dice);
                    return Ended::Stopped;
                }
            }
            if stored == arrives {
                break;
            }
            let more = 1 + self.dice.up_to(arrives - stored - 1);
            let content = self.bytes(range.start + stored..range.start + stored + more);
            stored += more;
            let acknowledges = self.dice.in_percent(50);
            interim = self.server.feed(&intake, &content, acknowledges);
        }
        Ended::By(self.server.end(intake, how, &mut self.dice))
    }

    /// Delivers the transfer that was given up, after a later request.
    fn arrive_late(&mut self) {
        if let Some((head, range, arrives)) = self.late.take() {
            self.deliver_blindly(&head, &range, arrives);
        }
    }
}

/// The end of a transfer.
enum Ended {
    /// The client stopped it.
    Stopped,
    /// The server answered, unless it crashed.
    By(Option<Response>),
}

/// Runs a seed to its end and checks the invariants.
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
    for stored in run.server.uploads.values() {
        assert!(run.source.starts_with(&stored.bytes), "the stored bytes are a prefix");
    }
    assert!(delivered.len() <= 1 || run.method == Method::PUT, "the target sees it once");
    if run.uploader.is_answered() {
        assert_eq!(run.last, Some(answer), "the last answer is the target's");
    }
    match end {
        Ok(()) => {
            assert!(!delivered.is_empty(), "the client believes it is complete");
            let has_answer = run.uploader.is_answered() && answer.is_success();
            assert!(
                has_answer || run.version < Interop::V8 || run.server.drops > 0,
                "the server had the answer"
            );
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
fn uploads_complete_in_every_version_over_a_lossy_link_and_a_disk_that_loses_unsynced_bytes() {
    let (mut given_up, mut unanswered) = (0, 0);
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| check(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        given_up += u64::from(matches!(outcome, Err(Failure::Exhausted { .. })));
        unanswered += u64::from(outcome == Err(Failure::Unanswered));
    }
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
    // Without a URL and an answer the client cannot know the outcome.
    assert!(unanswered < SEEDS / 10, "{unanswered} of {SEEDS} have an unknown outcome");
}

#[test]
fn without_faults_no_request_is_repeated_in_any_version() {
    for seed in 0..800 {
        let mut run = Run::new(seed);
        run.faults = Faults::NONE;
        run.server.crashes = 0;
        run.server.policy.limits = Limits::default();
        let end = run.play();
        let expected =
            if run.server.answer.is_success() { Ok(()) } else { Err(Failure::Rejected(run.server.answer)) };
        assert_eq!((end, run.uploader.attempts_repeated()), (expected, 0), "seed {seed}");
        assert_eq!(run.server.delivered, [run.source], "seed {seed}");
    }
}
