//! Random interruptions at any byte, by seed: no acknowledged byte is lost, and the stored content is correct.

use rustix::process::Signal;

use crate::harness::{
    Cut, Exchange, SeededRng, Server, ServerDir, TRANSPORTS, TestRequest, TestResponse, Transport,
    TransportError, V2, print_note, seeds, within_timeout,
};

const STEPS_MAX: usize = 16;
const TOKEN: &str = "schedule";

/// The fate of a transfer once it reaches its limit.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Cut(Cut),
    /// It stalls, and another request asks for the upload.
    Stalls,
    /// The server is killed.
    Killed,
    /// The server is stopped with SIGTERM.
    Stopped,
}

const FATES: [Fate; 8] = [
    Fate::Cut(Cut::Fin),
    Fate::Cut(Cut::Rst),
    Fate::Cut(Cut::HalfClose),
    Fate::Cut(Cut::Stream),
    Fate::Stalls,
    Fate::Stalls,
    Fate::Killed,
    Fate::Stopped,
];

/// A client, a server that may be killed, and the guarantees given so far.
struct Schedule {
    seed: u64,
    rng: SeededRng,
    content: Vec<u8>,
    home: ServerDir,
    flags: Vec<String>,
    server: Option<Server>,
    stalled: Vec<Exchange>,
    /// The largest acknowledged offset.
    acknowledged: usize,
    /// True once a response has shown that the upload exists.
    exists: bool,
    complete: bool,
    log: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut rng = SeededRng(seed);
        let length = [0, 1, 5000, 300_000, 2_000_000][rng.below(5)] + rng.below(3000);
        let home = ServerDir::new();
        let mut flags = vec!["--drain-timeout".to_owned(), "1s".to_owned()];
        if rng.one_in(4) {
            flags.extend(["--target", "files", "--files-dir", &home.text("files")].map(str::to_owned));
        }
        let mut schedule = Self {
            seed,
            content: rng.bytes(length),
            rng,
            home,
            flags,
            server: None,
            stalled: Vec::new(),
            acknowledged: 0,
            exists: false,
            complete: false,
            log: Vec::new(),
        };
        schedule.start();
        schedule
    }

    fn start(&mut self) {
        let flags: Vec<_> = self.flags.iter().map(String::as_str).collect();
        self.server = Some(Server::start(&self.home, &flags));
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn transport(&mut self) -> Transport {
        TRANSPORTS[self.rng.below(2)]
    }

    /// Records a response and checks it against earlier guarantees.
    fn note(&mut self, what: &str, got: &Result<TestResponse, TransportError>) {
        let got = match got {
            Ok(got) => got,
            Err(TransportError(why)) => return self.log.push(format!("{what} -> {why}")),
        };
        self.log.push(format!("{what} -> {} {:?} {:?}", got.status, got.offset(), got.interims.len()));
        self.exists |= got.interims.iter().any(|(status, _)| *status == 104);
        if let Some(offset) = got.offset() {
            assert!(offset >= self.acknowledged, "the offset went back from {}", self.acknowledged);
            assert!(offset <= self.content.len(), "more was stored than was sent");
            self.acknowledged = offset;
            self.exists = true;
        }
        if got.is_complete() {
            assert_eq!(got.offset(), Some(self.content.len()), "complete before it is");
            self.complete = true;
        }
        if got.status == 404 {
            assert!(!self.exists, "an upload somebody was told of is gone");
        }
    }

    /// Runs one transfer, at `at` or as a creation, until its fate.
    async fn transfer(&mut self, at: Option<usize>) {
        let transport = self.transport();
        let from = at.unwrap_or(0);
        let rest = self.content.len() - from;
        // Some requests carry only part of the rest, with `Upload-Complete: ?0`.
        let carried = if rest > 0 && self.rng.one_in(3) { 1 + self.rng.below(rest) } else { rest };
        let part = self.content[from..from + carried].to_vec();
        let mut request =
            at.map_or_else(|| TestRequest::new("POST", TOKEN), |at| TestRequest::append(TOKEN, at));
        if self.rng.one_in(2) {
            request = request.with(V2);
        }
        if carried < rest {
            request =
                request.with([("upload-incomplete", "?1"), ("upload-complete", "?0")][self.rng.below(2)]);
        }
        if at.is_none() && self.rng.one_in(3) {
            request = request.field("upload-length", self.content.len());
        }
        let request = if self.rng.one_in(2) { request.sized(part) } else { request.chunked(part) };

        let whole = request.h1().len();
        let limit = match self.rng.below(5) {
            0 => self.rng.below(400.min(whole)),
            1 => whole - self.rng.below(40.min(whole)),
            2 => usize::MAX,
            _ => self.rng.below(whole),
        };
        let mut fate = FATES[self.rng.below(FATES.len())];
        if let (Transport::H1, Fate::Cut(Cut::Stream)) = (transport, fate) {
            fate = Fate::Cut(Cut::Rst);
        }
        let what = format!("{transport:?} {request:?}, {fate:?} after {limit} of {whole}");
        let begun = Exchange::begin(self.server(), transport, request, limit as u64).await;
        let mut exchange = begun.expect("the server listens");
        if let Some(got) = within_timeout(&what, exchange.reached()).await {
            return self.note(&what, &got);
        }
        match fate {
            Fate::Cut(how) => {
                let got = exchange.cut(how).await.unwrap_or_else(|| Err(TransportError("cut".into())));
                self.note(&what, &got);
            }
            Fate::Stalls => {
                self.log.push(what);
                self.stalled.push(exchange);
            }
            Fate::Killed => {
                self.log.push(what);
                self.server.take().expect("it runs").kill();
                self.start();
            }
            Fate::Stopped => {
                self.server.take().expect("it runs").stop().await;
                let got = exchange.last().await;
                self.note(&what, &got);
                self.start();
            }
        }
    }

    async fn retrieve(&mut self) -> Option<usize> {
        let transport = self.transport();
        let request = TestRequest::new("HEAD", TOKEN);
        let request = if self.rng.one_in(2) { request.with(V2) } else { request };
        let got = self.server().request(transport, request).await;
        let offset = got.offset().filter(|_| got.status == 204);
        assert!(matches!(got.status, 204 | 404), "{got:?}");
        self.note(&format!("{transport:?} HEAD"), &Ok(got));
        offset
    }

    async fn step(&mut self) {
        match self.rng.below(12) {
            0 => {
                // Beyond the end, because the offset of a stalled transfer is unknown.
                let transport = self.transport();
                let wrong = self.content.len() + 1 + self.rng.below(10);
                let request = TestRequest::append(TOKEN, wrong).sized("never to be stored");
                let got = self.server().request(transport, request).await;
                assert!(matches!(got.status, 404 | 409), "an append at a wrong offset: {got:?}");
                self.note("PATCH at a wrong offset", &Ok(got));
            }
            1 => self.transfer(None).await,
            2 => {
                let signal = [Signal::KILL, Signal::TERM][self.rng.below(2)];
                self.log.push(format!("{signal:?}"));
                let server = self.server.take().expect("it runs");
                if signal == Signal::KILL {
                    server.kill();
                } else {
                    server.stop().await;
                }
                self.start();
            }
            _ => match self.retrieve().await {
                Some(offset) if !self.complete => self.transfer(Some(offset)).await,
                Some(_) => {}
                None => self.transfer(None).await,
            },
        }
    }

    /// Sends the rest without interruptions and compares the content.
    async fn finish(&mut self) {
        for _ in 0..10 {
            let offset = self.retrieve().await;
            if self.complete {
                break;
            }
            let transport = self.transport();
            let from = offset.unwrap_or(0);
            let request =
                offset.map_or_else(|| TestRequest::new("POST", TOKEN), |at| TestRequest::append(TOKEN, at));
            let got = self.server().request(transport, request.sized(&self.content[from..])).await;
            assert!(matches!(got.status, 204 | 409), "the rest is sent: {got:?}");
            self.note("the rest", &Ok(got));
        }
        assert!(self.complete, "it never became complete");
        assert_eq!(self.acknowledged, self.content.len());
        let stored = if self.flags.iter().any(|flag| flag == "--target") {
            let mut files = std::fs::read_dir(self.home.path("files")).expect("the directory");
            let file = files.next().expect("a file").expect("an entry").path();
            assert!(files.next().is_none(), "delivered twice");
            std::fs::read(file).expect("content")
        } else {
            self.home.only_complete()
        };
        assert!(stored == self.content, "other bytes are stored than were sent");
        self.server.take().expect("it runs").stop().await;
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        if std::thread::panicking() {
            print_note(format_args!("seed {} (alone: HOIST_SEED={0}):\n{}", self.seed, self.log.join("\n")));
        }
    }
}

async fn run(range: std::ops::Range<u64>) {
    for seed in seeds(range) {
        let mut schedule = Schedule::new(seed);
        for _ in 0..schedule.rng.below(STEPS_MAX) {
            schedule.step().await;
        }
        schedule.finish().await;
    }
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn no_acknowledged_byte_is_lost_in_the_first_group_of_seeds() {
    run(0..20).await;
}

// Four tests, so that they run in parallel.
// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn no_acknowledged_byte_is_lost_in_the_second_group_of_seeds() {
    run(20..40).await;
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn no_acknowledged_byte_is_lost_in_the_third_group_of_seeds() {
    run(40..60).await;
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn no_acknowledged_byte_is_lost_in_the_fourth_group_of_seeds() {
    run(60..80).await;
}
