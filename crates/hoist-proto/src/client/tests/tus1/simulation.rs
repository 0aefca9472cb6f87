//! The machine against a server of tus 1.0: a link that interrupts, delays and loses requests, a client with a small
//! buffer, a server that restarts, expires uploads, stores part of what it is sent, and fails in bursts. A run is determined
//! by its seed, which the panic of a failing run names.

use std::collections::HashMap;

use super::super::simulation::{BusyLoopCheck, SeededRng};
use super::*;

const SEEDS: u64 = 10_000;

/// An upload on the server.
struct StoredUpload {
    length: Option<u64>,
    bytes: Vec<u8>,
    /// The highest offset that was acknowledged.
    acknowledged: u64,
    /// True if it has reached its length.
    is_delivered: bool,
}

struct Server {
    uploads: HashMap<u64, StoredUpload>,
    created: u64,
    append_max: u64,
    with_upload: bool,
    /// The complete uploads, in the order of their completion.
    delivered: Vec<Vec<u8>>,
    /// The probability that an upload expires between two requests, in percent.
    expires: u64,
    expired_some: bool,
}

type Response = (u16, String);

impl Server {
    /// Handles a request of which `content` arrives, which may be all of it.
    fn handle(
        &mut self,
        transmit: &Transmit,
        content: &[u8],
        is_whole: bool,
        dice: &mut SeededRng,
    ) -> Response {
        let text = |name: &str| transmit.head.headers().get(name).map(|value| value.to_str().expect("ASCII"));
        let number = |name: &str| text(name).map(|text| text.parse::<u64>().expect("a number"));
        let length = number("upload-length");
        let name = transmit
            .head
            .uri()
            .path()
            .strip_prefix("/files/")
            .map(|name| name.parse().expect("an id of this server"));
        let Some(name) = name else {
            assert_eq!(
                (transmit.head.method(), length.is_some()),
                (&Method::POST, text("upload-defer-length").is_none())
            );
            assert!(self.with_upload || transmit.content.is_none());
            self.created += 1;
            self.uploads.insert(
                self.created,
                StoredUpload { length, bytes: Vec::new(), acknowledged: 0, is_delivered: false },
            );
            let offset = self.store(self.created, content, is_whole, dice);
            let offset_field =
                if transmit.content.is_some() { format!("|Upload-Offset: {offset}") } else { String::new() };
            return (201, format!("Location: /files/{}{offset_field}", self.created));
        };
        if self.uploads.contains_key(&name) && dice.in_percent(self.expires) {
            self.uploads.remove(&name);
            self.expired_some = true;
        }
        let Some(stored) = self.uploads.get_mut(&name) else { return (404, String::new()) };
        if *transmit.head.method() == Method::HEAD {
            stored.acknowledged = stored.bytes.len() as u64;
            let length = stored.length.map(|length| format!("|Upload-Length: {length}")).unwrap_or_default();
            return (200, format!("Upload-Offset: {}{length}", stored.acknowledged));
        }
        assert_eq!(transmit.head.method(), Method::PATCH);
        let offset = number("upload-offset").expect("an offset");
        if offset != stored.bytes.len() as u64 {
            stored.acknowledged = stored.bytes.len() as u64;
            return (
                409,
                if dice.in_percent(50) {
                    format!("Upload-Offset: {}", stored.bytes.len())
                } else {
                    String::new()
                },
            );
        }
        if content.len() as u64 > self.append_max {
            return (413, String::new());
        }
        if let Some(length) = length {
            assert!(stored.length.is_none_or(|known| known == length), "a length never changes");
            stored.length = Some(length);
        }
        let offset = self.store(name, content, is_whole, dice);
        (204, format!("Upload-Offset: {offset}"))
    }

    /// Stores what arrived. Of a complete request it may store less.
    fn store(&mut self, name: u64, content: &[u8], is_whole: bool, dice: &mut SeededRng) -> usize {
        let stored = self.uploads.get_mut(&name).expect("a known upload");
        assert!(!stored.is_delivered || content.is_empty(), "no content is sent after the end");
        let takes = if is_whole && dice.in_percent(10) {
            usize::try_from(dice.up_to(content.len() as u64)).expect("small")
        } else {
            content.len()
        };
        stored.bytes.extend_from_slice(&content[..takes]);
        if is_whole {
            // Content is synced before it is acknowledged.
            stored.acknowledged = stored.bytes.len() as u64;
        }
        if stored.length == Some(stored.bytes.len() as u64) && !stored.is_delivered {
            stored.is_delivered = true;
            self.delivered.push(stored.bytes.clone());
        }
        stored.bytes.len()
    }

    /// Restarts the server. Bytes that were not acknowledged may be lost.
    fn restart(&mut self, dice: &mut SeededRng) {
        for stored in self.uploads.values_mut() {
            let lucky = stored.acknowledged + dice.up_to(stored.bytes.len() as u64 - stored.acknowledged);
            if stored.length != Some(stored.bytes.len() as u64) {
                stored.bytes.truncate(usize::try_from(lucky).expect("small"));
            }
        }
    }
}

struct Run {
    dice: SeededRng,
    /// The probability of faults, in percent.
    faults: u64,
    source: Vec<u8>,
    /// True if the source can be read again before the acknowledged offset.
    rewinds: bool,
    server: Server,
    uploader: Uploader,
    elapsed: Duration,
    /// The number of further 5xx answers.
    burst: u64,
    requests: u32,
    late: Option<(Transmit, Vec<u8>)>,
}

/// The end of a run.
enum RunEnd {
    Ended(Result<(), Failure>),
    /// A source that cannot rewind was needed from an earlier offset.
    Spent,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = SeededRng(seed);
        let length = if dice.in_percent(10) { 0 } else { dice.up_to(700) };
        let source: Vec<u8> = (0..length).map(|_| dice.next().to_be_bytes()[0]).collect();
        let rewinds = !dice.in_percent(30);
        let with_upload = dice.in_percent(50);
        let extensions = if with_upload {
            Extensions::ALL
        } else {
            Extensions::ALL.without(Extension::CreationWithUpload)
        };
        let dialect = in_tus1(Capabilities { extensions, ..ALL }, Concat::None);
        let server = Server {
            uploads: HashMap::new(),
            created: 0,
            append_max: if dice.in_percent(30) { 40 + dice.up_to(300) } else { u64::MAX },
            with_upload,
            delivered: Vec::new(),
            expires: if dice.in_percent(20) { 5 } else { 0 },
            expired_some: false,
        };
        let retries = Retries { attempts: 40, budget: Duration::from_hours(10), ..Retries::default() };
        let target = Uri::from_static("https://h.example/files");
        let known = rewinds.then_some(Length::new(length));
        let uploader = Uploader::create(dialect, target, origin(), known, retries);
        let uploader =
            if dice.in_percent(30) { uploader.with_content_max(20 + dice.up_to(200)) } else { uploader };
        let faults = [0, 10, 20, 35][usize::try_from(dice.up_to(3)).expect("small")];
        let (elapsed, burst, requests, late) = (Duration::ZERO, 0, 0, None);
        Self { dice, faults, source, rewinds, server, uploader, elapsed, burst, requests, late }
    }

    fn play(&mut self) -> RunEnd {
        let (mut freed, mut busy) = (0, BusyLoopCheck::default());
        for _ in 0..20_000 {
            match self.uploader.step() {
                Step::Wait(wait) => {
                    self.elapsed += wait;
                    busy.paused();
                }
                Step::Send(transmit) => {
                    if !self.rewinds && transmit.content.as_ref().is_some_and(|range| range.start < freed) {
                        return RunEnd::Spent;
                    }
                    busy.asked(self.uploader.acknowledged());
                    self.send(*transmit);
                }
                Step::Done => return RunEnd::Ended(Ok(())),
                Step::Failed(failure) => return RunEnd::Ended(Err(failure)),
            }
            freed = freed.max(self.uploader.acknowledged().get());
        }
        panic!("the upload does not end");
    }

    fn send(&mut self, transmit: Transmit) {
        self.elapsed += Duration::from_millis(50);
        self.requests += 1;
        let moment = Moment { elapsed: self.elapsed, random: self.dice.next() };
        let mut range = transmit.content.clone().unwrap_or(0..0);
        if transmit.is_open {
            let stored = 1 + self.dice.up_to(300);
            range.end = range.end.min(self.source.len() as u64).min(range.start + stored);
        }
        let declared = range.end - range.start;
        let cut = self.dice.in_percent(self.faults);
        let arrives = if cut { self.dice.up_to(declared) } else { declared };
        let within = |at: u64| usize::try_from(at).expect("small");
        let content = self.source[within(range.start)..within(range.start + arrives)].to_vec();
        if self.dice.in_percent(self.faults / 4) {
            return self.uploader.on_lost(false, moment);
        }
        self.uploader.on_sent(if cut { self.dice.up_to(declared - arrives) + arrives } else { declared });
        let is_at_end = transmit.is_open && !cut;
        if is_at_end {
            self.uploader.on_content_end(declared);
            if range.end == self.source.len() as u64 {
                self.uploader.on_source_end(Length::new(range.end));
            }
        }
        if self.burst == 0 && self.dice.in_percent(self.faults / 4) {
            self.burst = 1 + self.dice.up_to(4);
        }
        if self.burst > 0 {
            self.burst -= 1;
            let status =
                [StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE]
                    [usize::try_from(self.dice.up_to(2)).expect("small")];
            // A server that answers 503 has not begun.
            if status != StatusCode::SERVICE_UNAVAILABLE && self.dice.in_percent(50) {
                self.server.handle(&transmit, &content, !cut, &mut self.dice);
            }
            return self.uploader.on_response(status, &fields("Retry-After: 1"), moment);
        }
        if cut && transmit.content.is_some() && self.dice.in_percent(20) {
            // The connection is lost, but part of the request arrives after the next one.
            self.late = Some((transmit, content));
            return self.uploader.on_lost(true, moment);
        }
        let (status, text) = self.server.handle(&transmit, &content, !cut, &mut self.dice);
        if let Some((transmit, content)) = self.late.take() {
            self.server.handle(&transmit, &content, false, &mut self.dice);
        }
        if self.dice.in_percent(self.faults / 4) {
            self.server.restart(&mut self.dice);
        }
        if cut || self.dice.in_percent(self.faults / 2) {
            return self.uploader.on_lost(true, moment);
        }
        let fields = fields(&text);
        self.uploader.on_response(StatusCode::from_u16(status).expect("a status"), &fields, moment);
    }
}

// proves: TUS1-CRE-01, TUS1-PATCH-06, TUS1-PATCH-09, TUS1-HEAD-01, TUS1-CDL-02
#[test]
fn uploads_complete_over_a_lossy_link_to_a_server_that_restarts() {
    let (mut given_up, mut unanswered, mut spent, mut requests_most) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed);
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.play()));
        let end = end.unwrap_or_else(|_| panic!("seed {seed}"));
        requests_most = requests_most.max(run.requests);
        let delivered = &run.server.delivered;
        assert!(delivered.iter().all(|bytes| *bytes == run.source), "seed {seed}: the bytes differ");
        match end {
            RunEnd::Ended(Ok(())) => {
                assert!(!delivered.is_empty(), "seed {seed}: the client believes it is complete");
            }
            RunEnd::Ended(Err(Failure::Exhausted { .. })) => given_up += 1,
            RunEnd::Ended(Err(Failure::Unanswered)) => unanswered += 1,
            RunEnd::Ended(Err(Failure::Gone)) => assert!(run.server.expired_some, "seed {seed}"),
            RunEnd::Ended(Err(failure)) => panic!("seed {seed}: {failure:?}"),
            RunEnd::Spent => {
                assert!(
                    run.server.expired_some,
                    "seed {seed}: only a server that expires uploads needs dropped bytes"
                );
                spent += 1;
            }
        }
        let is_empty = run.source.is_empty();
        assert!(
            delivered.len() <= 1 || is_empty || run.server.expired_some,
            "seed {seed}: it is complete once"
        );
    }
    assert!(given_up < SEEDS / 100, "{given_up} of {SEEDS} gave up");
    assert!(
        unanswered < SEEDS / 10 && spent < SEEDS / 20,
        "{unanswered} have an unknown outcome, {spent} could not rewind"
    );
    assert!(requests_most < 1000, "{requests_most} requests for one upload");
}
