//! The machine against a server of tus 1.0: a link that cuts, delays and loses, a client whose buffer is small, a server
//! that restarts, expires uploads, takes part of what it is sent, and answers in bursts that it cannot. Every run follows
//! from its seed; a failing seed is in the panic.

use std::collections::HashMap;

use super::super::simulation::{Dice, Haste};
use super::*;

const SEEDS: u64 = 10_000;

/// One upload on the server.
struct Kept {
    length: Option<u64>,
    bytes: Vec<u8>,
    /// The furthest it told.
    told: u64,
    /// Whether it was found to be whole.
    is_delivered: bool,
}

struct Server {
    uploads: HashMap<u64, Kept>,
    minted: u64,
    append_max: u64,
    with_upload: bool,
    /// What was whole, in the order in which it became so.
    delivered: Vec<Vec<u8>>,
    /// How often an upload expires between two requests, in percent.
    expires: u64,
    expired_some: bool,
}

type Response = (u16, String);

impl Server {
    /// A request of which `content` arrives, whole or not.
    fn handle(&mut self, ask: &Ask, content: &[u8], is_whole: bool, dice: &mut Dice) -> Response {
        let text = |name: &str| ask.head.headers().get(name).map(|value| value.to_str().expect("ASCII"));
        let number = |name: &str| text(name).map(|text| text.parse::<u64>().expect("a number"));
        let length = number("upload-length");
        let name = ask.head.uri().path().strip_prefix("/files/").map(|name| name.parse().expect("its own"));
        let Some(name) = name else {
            assert_eq!(
                (ask.head.method(), length.is_some()),
                (&Method::POST, text("upload-defer-length").is_none())
            );
            assert!(self.with_upload || ask.content.is_none());
            self.minted += 1;
            self.uploads
                .insert(self.minted, Kept { length, bytes: Vec::new(), told: 0, is_delivered: false });
            let offset = self.store(self.minted, content, is_whole, dice);
            let said =
                if ask.content.is_some() { format!("|Upload-Offset: {offset}") } else { String::new() };
            return (201, format!("Location: /files/{}{said}", self.minted));
        };
        if self.uploads.contains_key(&name) && dice.in_percent(self.expires) {
            self.uploads.remove(&name);
            self.expired_some = true;
        }
        let Some(kept) = self.uploads.get_mut(&name) else { return (404, String::new()) };
        if *ask.head.method() == Method::HEAD {
            kept.told = kept.bytes.len() as u64;
            let length = kept.length.map(|length| format!("|Upload-Length: {length}")).unwrap_or_default();
            return (200, format!("Upload-Offset: {}{length}", kept.told));
        }
        assert_eq!(ask.head.method(), Method::PATCH);
        let offset = number("upload-offset").expect("an offset");
        if offset != kept.bytes.len() as u64 {
            kept.told = kept.bytes.len() as u64;
            return (
                409,
                if dice.in_percent(50) {
                    format!("Upload-Offset: {}", kept.bytes.len())
                } else {
                    String::new()
                },
            );
        }
        if content.len() as u64 > self.append_max {
            return (413, String::new());
        }
        if let Some(length) = length {
            assert!(kept.length.is_none_or(|known| known == length), "a length never changes");
            kept.length = Some(length);
        }
        let offset = self.store(name, content, is_whole, dice);
        (204, format!("Upload-Offset: {offset}"))
    }

    /// Keeps what arrived, or, of a request that came whole, perhaps less.
    fn store(&mut self, name: u64, content: &[u8], is_whole: bool, dice: &mut Dice) -> usize {
        let kept = self.uploads.get_mut(&name).expect("it is there");
        assert!(!kept.is_delivered || content.is_empty(), "nothing is sent behind the end");
        let takes = if is_whole && dice.in_percent(10) {
            usize::try_from(dice.up_to(content.len() as u64)).expect("small")
        } else {
            content.len()
        };
        kept.bytes.extend_from_slice(&content[..takes]);
        if is_whole {
            // It is safe before it is told.
            kept.told = kept.bytes.len() as u64;
        }
        if kept.length == Some(kept.bytes.len() as u64) && !kept.is_delivered {
            kept.is_delivered = true;
            self.delivered.push(kept.bytes.clone());
        }
        kept.bytes.len()
    }

    /// The process dies. What it told is safe, what it did not may be gone.
    fn restart(&mut self, dice: &mut Dice) {
        for kept in self.uploads.values_mut() {
            let lucky = kept.told + dice.up_to(kept.bytes.len() as u64 - kept.told);
            if kept.length != Some(kept.bytes.len() as u64) {
                kept.bytes.truncate(usize::try_from(lucky).expect("small"));
            }
        }
    }
}

struct Run {
    dice: Dice,
    bad: u64,
    source: Vec<u8>,
    /// Whether the source can go back behind what was acknowledged.
    rewinds: bool,
    server: Server,
    uploader: Uploader,
    elapsed: Duration,
    /// How many answers to come are 5xx.
    burst: u64,
    requests: u32,
    late: Option<(Ask, Vec<u8>)>,
}

enum Played {
    Ended(Result<(), Failure>),
    /// A source that cannot rewind was asked to.
    Spent,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.roll().to_be_bytes()[0]).collect();
        let rewinds = !dice.in_percent(30);
        let offers = Offers { with_upload: dice.in_percent(50), ..ALL };
        let server = Server {
            uploads: HashMap::new(),
            minted: 0,
            append_max: if dice.in_percent(30) { 40 + dice.up_to(300) } else { u64::MAX },
            with_upload: offers.with_upload,
            delivered: Vec::new(),
            expires: if dice.in_percent(20) { 5 } else { 0 },
            expired_some: false,
        };
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let target = Uri::from_static("https://h.example/files");
        let known = rewinds.then_some(Length::new(length));
        let uploader = Uploader::create_tus1(target, offers, Role::Whole, origin(), known, retries);
        let uploader =
            if dice.in_percent(30) { uploader.with_content_max(20 + dice.up_to(200)) } else { uploader };
        let bad = [0, 10, 20, 35][usize::try_from(dice.up_to(3)).expect("small")];
        let (elapsed, burst, requests, late) = (Duration::ZERO, 0, 0, None);
        Self { dice, bad, source, rewinds, server, uploader, elapsed, burst, requests, late }
    }

    fn play(&mut self) -> Played {
        let (mut freed, mut haste) = (0, Haste::default());
        for _ in 0..20_000 {
            match self.uploader.step() {
                Step::Wait(wait) => {
                    self.elapsed += wait;
                    haste.paused();
                }
                Step::Send(ask) => {
                    if !self.rewinds && ask.content.as_ref().is_some_and(|range| range.start < freed) {
                        return Played::Spent;
                    }
                    haste.asked(self.uploader.acknowledged());
                    self.send(*ask);
                }
                Step::Done => return Played::Ended(Ok(())),
                Step::Failed(failure) => return Played::Ended(Err(failure)),
            }
            freed = freed.max(self.uploader.acknowledged().get());
        }
        panic!("it never ends");
    }

    fn send(&mut self, ask: Ask) {
        self.elapsed += Duration::from_millis(50);
        self.requests += 1;
        let moment = Moment { elapsed: self.elapsed, random: self.dice.roll() };
        let mut range = ask.content.clone().unwrap_or(0..0);
        if ask.is_open {
            let kept = 1 + self.dice.up_to(300);
            range.end = range.end.min(self.source.len() as u64).min(range.start + kept);
        }
        let declared = range.end - range.start;
        let cut = self.dice.in_percent(self.bad);
        let arrives = if cut { self.dice.up_to(declared) } else { declared };
        let within = |at: u64| usize::try_from(at).expect("small");
        let content = self.source[within(range.start)..within(range.start + arrives)].to_vec();
        if self.dice.in_percent(self.bad / 4) {
            return self.uploader.on_lost(false, moment);
        }
        self.uploader.on_sent(if cut { self.dice.up_to(declared - arrives) + arrives } else { declared });
        let is_at_end = ask.is_open && !cut;
        if is_at_end {
            self.uploader.on_content_end(declared);
            if range.end == self.source.len() as u64 {
                self.uploader.on_source_end(Length::new(range.end));
            }
        }
        if self.burst == 0 && self.dice.in_percent(self.bad / 4) {
            self.burst = 1 + self.dice.up_to(4);
        }
        if self.burst > 0 {
            self.burst -= 1;
            let status =
                [StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]
                    [usize::try_from(self.dice.up_to(2)).expect("small")];
            // A server that has no time has not begun.
            if status != StatusCode::SERVICE_UNAVAILABLE && self.dice.in_percent(50) {
                self.server.handle(&ask, &content, !cut, &mut self.dice);
            }
            return self.uploader.on_response(status, &fields("Retry-After: 1"), moment);
        }
        if cut && ask.content.is_some() && self.dice.in_percent(20) {
            // The connection is lost, but the network has taken something along that arrives behind the next request.
            self.late = Some((ask, content));
            return self.uploader.on_lost(true, moment);
        }
        let (status, text) = self.server.handle(&ask, &content, !cut, &mut self.dice);
        if let Some((ask, content)) = self.late.take() {
            self.server.handle(&ask, &content, false, &mut self.dice);
        }
        if self.dice.in_percent(self.bad / 4) {
            self.server.restart(&mut self.dice);
        }
        if cut || self.dice.in_percent(self.bad / 2) {
            return self.uploader.on_lost(true, moment);
        }
        let told = fields(&text);
        self.uploader.on_response(StatusCode::from_u16(status).expect("a status"), &told, moment);
    }
}

// proves: TUS1-CRE-01, TUS1-PATCH-06, TUS1-PATCH-09, TUS1-HEAD-01, TUS1-CDL-02
#[test]
fn uploads_arrive_whole_over_a_lossy_link_from_a_server_that_restarts() {
    let (mut given_up, mut unanswered, mut spent, mut requests_most) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.play()));
        let end = end.unwrap_or_else(|_| panic!("seed {seed}"));
        requests_most = requests_most.max(run.requests);
        let delivered = &run.server.delivered;
        assert!(delivered.iter().all(|bytes| *bytes == run.source), "seed {seed}: the bytes are the bytes");
        match end {
            Played::Ended(Ok(())) => {
                assert!(!delivered.is_empty(), "seed {seed}: the client believes it is whole");
            }
            Played::Ended(Err(Failure::Exhausted { .. })) => given_up += 1,
            Played::Ended(Err(Failure::Unanswered)) => unanswered += 1,
            Played::Ended(Err(Failure::Gone)) => assert!(run.server.expired_some, "seed {seed}"),
            Played::Ended(Err(failure)) => panic!("seed {seed}: {failure:?}"),
            Played::Spent => {
                assert!(
                    run.server.expired_some,
                    "seed {seed}: only a server that forgets asks for what is gone"
                );
                spent += 1;
            }
        }
        let is_empty = run.source.is_empty();
        assert!(delivered.len() <= 1 || is_empty || run.server.expired_some, "seed {seed}: it is whole once");
    }
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
    assert!(
        unanswered < SEEDS / 10 && spent < SEEDS / 20,
        "{unanswered} do not know, {spent} could not go back"
    );
    assert!(requests_most < 1000, "{requests_most} requests for one upload");
}
