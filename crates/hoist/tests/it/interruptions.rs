//! Interruptions of every kind, at any byte and in any number, by a seed: nothing acknowledged is lost, and the content
//! that ends up stored is the content that was meant.

use rustix::process::Signal;

use crate::harness::{Ask, Cut, Dice, Exchange, Got, Home, Lost, Server, V2, WIRES, Wire, say, seeds, soon};

const STEPS_MAX: usize = 16;
const TOKEN: &str = "schedule";

/// What happens to a transfer when it has come as far as it may.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Cut(Cut),
    /// It stays as it is, and somebody else asks for the upload.
    Stalls,
    /// The server dies on the spot.
    Killed,
    /// The server is told to stop.
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

/// A client, a server that may die, and what the client was promised.
struct Schedule {
    seed: u64,
    dice: Dice,
    content: Vec<u8>,
    home: Home,
    flags: Vec<String>,
    server: Option<Server>,
    stalled: Vec<Exchange>,
    /// The most that any answer acknowledged.
    acknowledged: usize,
    /// Whether anything said that the upload exists.
    exists: bool,
    complete: bool,
    log: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let length = [0, 1, 5000, 300_000, 2_000_000][dice.below(5)] + dice.below(3000);
        let home = Home::new();
        let mut flags = vec!["--drain-timeout".to_owned(), "1s".to_owned()];
        if dice.one_in(4) {
            flags.extend(["--target", "files", "--files-dir", &home.text("files")].map(str::to_owned));
        }
        let mut schedule = Self {
            seed,
            content: dice.bytes(length),
            dice,
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

    fn wire(&mut self) -> Wire {
        WIRES[self.dice.below(2)]
    }

    /// Notes an answer and holds it to what was promised before.
    fn note(&mut self, what: &str, got: &Result<Got, Lost>) {
        let got = match got {
            Ok(got) => got,
            Err(Lost(why)) => return self.log.push(format!("{what} -> {why}")),
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

    /// One transfer, at `at` or as a creation, which sooner or later meets its fate.
    async fn transfer(&mut self, at: Option<usize>) {
        let wire = self.wire();
        let from = at.unwrap_or(0);
        let rest = self.content.len() - from;
        // Sometimes a request carries only some of what is left, and says so.
        let carried = if rest > 0 && self.dice.one_in(3) { 1 + self.dice.below(rest) } else { rest };
        let part = self.content[from..from + carried].to_vec();
        let mut ask = at.map_or_else(|| Ask::new("POST", TOKEN), |at| Ask::append(TOKEN, at));
        if self.dice.one_in(2) {
            ask = ask.with(V2);
        }
        if carried < rest {
            ask = ask.with([("upload-incomplete", "?1"), ("upload-complete", "?0")][self.dice.below(2)]);
        }
        if at.is_none() && self.dice.one_in(3) {
            ask = ask.field("upload-length", self.content.len());
        }
        let ask = if self.dice.one_in(2) { ask.sized(part) } else { ask.chunked(part) };

        let whole = ask.h1().len();
        let limit = match self.dice.below(5) {
            0 => self.dice.below(400.min(whole)),
            1 => whole - self.dice.below(40.min(whole)),
            2 => usize::MAX,
            _ => self.dice.below(whole),
        };
        let mut fate = FATES[self.dice.below(FATES.len())];
        if let (Wire::H1, Fate::Cut(Cut::Stream)) = (wire, fate) {
            fate = Fate::Cut(Cut::Rst);
        }
        let what = format!("{wire:?} {ask:?}, {fate:?} after {limit} of {whole}");
        let begun = Exchange::begin(self.server(), wire, ask, limit as u64).await;
        let mut exchange = begun.expect("the server listens");
        if let Some(got) = soon(&what, exchange.reached()).await {
            return self.note(&what, &got);
        }
        match fate {
            Fate::Cut(how) => {
                let got = exchange.cut(how).await.unwrap_or_else(|| Err(Lost("cut".into())));
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
        let wire = self.wire();
        let ask = Ask::new("HEAD", TOKEN);
        let ask = if self.dice.one_in(2) { ask.with(V2) } else { ask };
        let got = self.server().ask(wire, ask).await;
        let offset = got.offset().filter(|_| got.status == 204);
        assert!(matches!(got.status, 204 | 404), "{got:?}");
        self.note(&format!("{wire:?} HEAD"), &Ok(got));
        offset
    }

    async fn step(&mut self) {
        match self.dice.below(12) {
            0 => {
                // Beyond the end, since what a stalled transfer has stored by now is anybody's guess.
                let wire = self.wire();
                let wrong = self.content.len() + 1 + self.dice.below(10);
                let ask = Ask::append(TOKEN, wrong).sized("never to be stored");
                let got = self.server().ask(wire, ask).await;
                assert!(matches!(got.status, 404 | 409), "an append at a wrong offset: {got:?}");
                self.note("PATCH at a wrong offset", &Ok(got));
            }
            1 => self.transfer(None).await,
            2 => {
                let signal = [Signal::KILL, Signal::TERM][self.dice.below(2)];
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

    /// No more interruptions: what is left is sent, and the whole is compared.
    async fn finish(&mut self) {
        for _ in 0..10 {
            let offset = self.retrieve().await;
            if self.complete {
                break;
            }
            let wire = self.wire();
            let from = offset.unwrap_or(0);
            let ask = offset.map_or_else(|| Ask::new("POST", TOKEN), |at| Ask::append(TOKEN, at));
            let got = self.server().ask(wire, ask.sized(&self.content[from..])).await;
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
            self.home.sole()
        };
        assert!(stored == self.content, "other bytes are stored than were sent");
        self.server.take().expect("it runs").stop().await;
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(format_args!("seed {} (alone: HOIST_SEED={0}):\n{}", self.seed, self.log.join("\n")));
        }
    }
}

async fn run(range: std::ops::Range<u64>) {
    for seed in seeds(range) {
        let mut schedule = Schedule::new(seed);
        for _ in 0..schedule.dice.below(STEPS_MAX) {
            schedule.step().await;
        }
        schedule.finish().await;
    }
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn whatever_happens_nothing_acknowledged_is_lost_and_the_content_is_right() {
    run(0..20).await;
}

// Four of a kind, so that they run beside each other.
// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn whatever_else_happens_nothing_acknowledged_is_lost_and_the_content_is_right() {
    run(20..40).await;
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn come_what_may_nothing_acknowledged_is_lost_and_the_content_is_right() {
    run(40..60).await;
}

// proves: TOK-OFF-03, TOK-APP-05, TOK-APP-05a, TOK-CRE-01, TOK-CRE-04
#[tokio::test]
async fn in_the_end_nothing_acknowledged_is_lost_and_the_content_is_right() {
    run(60..80).await;
}
