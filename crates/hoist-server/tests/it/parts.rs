//! Uploads made of others, in any order and interrupted in any way, by a seed: what ends up stored is the parts in their
//! order, once, and what was acknowledged of a part is never lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoist_proto::upload::{Composition, TargetResponse};
use hoist_server::Hoist;
use hoist_server::targets::{Representation, Target};
use hoist_store::memory::{Faults, MemoryStore};
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;
use tower_service::Service;

use crate::harness::{Content, Dice, Ends, Got, hoist, request, request_to, send};
use crate::schedules::read;

const SCHEDULES: u64 = 400;
/// How long the server has requests wait for each other.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts what it is given and leaves it where it is.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Counting {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Target for Counting {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<TargetResponse, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED))))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

fn counted(store: &MemoryStore, target: &Counting) -> Hoist {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(target.clone()).build()
}

/// One life of the process: dropping it ends every task, wherever it is, as a power cut does.
fn life() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

const TOKEN: (&str, &str) = ("upload-token", "in-parts");

/// A client with numbered parts, and what it was promised of each.
struct Schedule {
    dice: Dice,
    store: MemoryStore,
    hoist: Hoist,
    parts: Vec<Vec<u8>>,
    acknowledged: Vec<usize>,
    complete: bool,
    log: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let faults = Faults {
            error: if dice.one_in(3) { 0.01 } else { 0.0 },
            full_after: None,
            yields_max: u32::try_from(dice.below(3)).expect("small"),
        };
        let store = MemoryStore::with_faults(dice.next(), faults);
        let count = 1 + dice.below(6);
        let mut part = || {
            let bytes = [0, 1, 300, 5000][dice.below(4)];
            dice.bytes(bytes)
        };
        let parts: Vec<Vec<u8>> = (0..count).map(|_| part()).collect();
        let (hoist, acknowledged) = (hoist(&store), vec![0; parts.len()]);
        Self { dice, store, hoist, parts, acknowledged, complete: false, log: Vec::new() }
    }

    fn index(&mut self, part: usize, says_last: bool) -> String {
        let last = part + 1 == self.parts.len() && (says_last || self.dice.one_in(2));
        format!("{part}{}", if last { ";last" } else { "" })
    }

    fn note(&mut self, part: usize, what: &str, got: &Got) {
        self.log.push(format!("{what} {part} -> {} {:?}", got.status, got.offset()));
        if let Some(offset) = got.offset() {
            let known = self.acknowledged[part];
            assert!(offset >= known, "part {part} went back from {known} to {offset}");
            assert!(offset <= self.parts[part].len(), "more was stored than was sent");
            self.acknowledged[part] = offset;
        }
        if got.field("upload-complete") == Some("?1") {
            self.complete = true;
        }
        if got.status == StatusCode::NOT_FOUND {
            assert_eq!(self.acknowledged[part], 0, "an acknowledged part is gone");
            assert!(!self.complete, "a complete upload is gone");
        }
    }

    async fn ask(&mut self, part: usize) -> Option<usize> {
        let index = self.index(part, false);
        let fields = [TOKEN, ("upload-index", index.as_str())];
        let got = send(&self.hoist, request("HEAD", &fields, Content::none())).await;
        self.note(part, "HEAD", &got);
        (got.status == StatusCode::NO_CONTENT).then(|| got.offset()).flatten()
    }

    async fn transfer(&mut self, part: usize, whole: bool) {
        let at = self.ask(part).await;
        let (index, rest) = (self.index(part, whole), self.parts[part][at.unwrap_or(0)..].to_vec());
        let ends =
            if whole { Ends::Whole } else { [Ends::Whole, Ends::Cut, Ends::Never][self.dice.below(3)] };
        let until = if ends == Ends::Whole { rest.len() } else { self.dice.below(rest.len() + 1) };
        let content = Content::new(&rest[..until], 1 + self.dice.below(700), ends, Some(rest.len() as u64));
        let text = at.unwrap_or(0).to_string();
        let mut fields = vec![TOKEN, ("upload-index", index.as_str())];
        fields.extend(at.map(|_| ("upload-offset", text.as_str())));
        let method = if at.is_some() { "PATCH" } else { "POST" };
        let request = request(method, &fields, content);
        if ends == Ends::Never {
            // It stands until something ends it; the others go on beside it.
            let mut service = self.hoist.clone();
            tokio::spawn(async move { service.call(request).await });
            self.log.push(format!("{method} {part} stalls"));
            return;
        }
        let got = send(&self.hoist, request).await;
        self.note(part, method, &got);
    }

    /// What is there of the whole without a gap is no more than was sent, and no less than was promised.
    async fn look(&mut self) {
        let got = send(&self.hoist, request("HEAD", &[TOKEN], Content::none())).await;
        self.log.push(format!("HEAD the whole -> {} {:?}", got.status, got.offset()));
        let Some(offset) = got.offset() else { return };
        let first_gap =
            self.parts.iter().zip(&self.acknowledged).position(|(part, known)| *known < part.len());
        let promised: usize =
            self.acknowledged.iter().take(first_gap.map_or(usize::MAX, |gap| gap + 1)).sum();
        // An empty part counts once somebody created it, which nobody may have been told.
        let has_empty = self.parts.iter().any(Vec::is_empty);
        assert!(offset >= promised || has_empty, "{offset} is less than {promised}");
        assert!(offset <= self.parts.iter().map(Vec::len).sum());
        if got.field("upload-complete") == Some("?1") {
            self.complete = true;
            assert_eq!(offset, self.parts.iter().map(Vec::len).sum::<usize>());
        }
    }

    async fn step(&mut self) {
        if self.dice.one_in(6) {
            self.look().await;
        } else {
            let part = self.dice.below(self.parts.len());
            self.transfer(part, false).await;
        }
    }

    async fn finish(&mut self) {
        self.store.set_faults(Faults::NONE);
        for part in 0..self.parts.len() {
            self.transfer(part, true).await;
            self.transfer(part, true).await;
        }
        self.look().await;
        assert!(self.complete, "it never became complete");
        let summaries = self.store.list_all().await.expect("no faults any more");
        let wholes: Vec<_> = summaries
            .iter()
            .filter(|summary| matches!(summary.composition, Composition::Indexed(_)))
            .collect();
        assert_eq!(wholes.len(), 1, "one upload");
        assert_eq!(read(&self.store, wholes[0].id).await, self.parts.concat(), "other bytes than were sent");
        let got = send(&self.hoist, request("DELETE", &[TOKEN], Content::none())).await;
        assert_eq!(got.status, StatusCode::NO_CONTENT);
        assert_eq!(self.store.list_all().await.expect("no faults"), [], "something of it is left");
    }
}

fn run(schedule: &mut Schedule) {
    let mut process = life();
    for _ in 0..schedule.dice.below(30) {
        if schedule.dice.one_in(12) {
            drop(process);
            process = life();
            process.block_on(async {
                schedule.store.crash();
                schedule.hoist = hoist(&schedule.store);
                let recovered = schedule.hoist.recover().await;
                schedule.log.push(format!("crash -> {recovered:?}"));
            });
        }
        process.block_on(schedule.step());
    }
    process.block_on(schedule.finish());
}

// proves: TOK-IDX-01, TOK-IDX-02, TOK-IDX-03, TOK-IDX-04, TOK-IDX-04a, TOK-IDX-05
#[test]
fn numbered_parts_make_one_upload_whatever_happens_to_them() {
    let only = std::env::var("HOIST_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..SCHEDULES, |seed| seed..seed + 1) {
        let begun = std::time::Instant::now();
        let mut schedule = Schedule::new(seed);
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut schedule)));
        let log = schedule.log.join("\n");
        assert!(passed.is_ok(), "seed {seed} (run it alone with HOIST_SEED={seed}):\n{log}");
        // Milliseconds, unless two requests wait for each other until their patience ends.
        assert!(begun.elapsed() < CLAIM_TIMEOUT, "seed {seed} waits for itself:\n{log}");
    }
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const CONTENT: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// Creates a partial upload and gives its path.
async fn partial(hoist: &Hoist, length: &str, content: &[u8]) -> String {
    let fields = [TUS, CONTENT, ("upload-length", length), ("upload-concat", "partial")];
    let got = send(hoist, request("POST", &fields, Content::sized(content))).await;
    assert_eq!(got.status, StatusCode::CREATED, "{got:?}");
    got.field("location").expect("a place").to_owned()
}

async fn last(hoist: &Hoist, parts: &str) -> Got {
    let concat = format!("final;{parts}");
    send(hoist, request("POST", &[TUS, ("upload-concat", &concat)], Content::none())).await
}

async fn append(hoist: &Hoist, path: &str, at: &str, content: &[u8]) -> Got {
    let fields = [TUS, CONTENT, ("upload-offset", at)];
    send(hoist, request_to(path, "PATCH", &fields, Content::sized(content))).await
}

async fn asked(hoist: &Hoist, path: &str) -> Got {
    send(hoist, request_to(path, "HEAD", &[TUS], Content::none())).await
}

// proves: TUS1-CAT-04, TUS1-CAT-10, TUS1-CAT-12, TUS1-CAT-13, TUS1-PATCH-15
#[tokio::test]
async fn an_upload_waits_for_its_parts_and_is_processed_once() {
    let (store, target) = (MemoryStore::new(), Counting::default());
    let hoist = counted(&store, &target);
    let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"d").await);
    let waiting = last(&hoist, &format!("{second} {first}")).await;
    assert_eq!(waiting.status, StatusCode::CREATED, "{waiting:?}");
    let path = waiting.field("location").expect("a place").to_owned();
    let state = asked(&hoist, &path).await;
    assert_eq!((state.field("upload-offset"), state.field("upload-length")), (None, Some("7")));
    assert_eq!(target.count(), 0, "parts are nobody's representation");
    let patched = append(&hoist, &path, "0", b"x").await;
    assert_eq!(patched.status, StatusCode::FORBIDDEN);
    assert_eq!(append(&hoist, &second, "1", b"efg").await.status, StatusCode::NO_CONTENT);
    assert_eq!(target.count(), 1);
    let state = asked(&hoist, &path).await;
    assert_eq!((state.field("upload-offset"), state.field("upload-length")), (Some("7"), Some("7")));
    assert_eq!(append(&hoist, &path, "7", b"").await.status, StatusCode::FORBIDDEN);
    let id = path.rsplit('/').next().expect("a name").parse().expect("an id");
    assert_eq!(read(&store, id).await, b"defgabc");
    // The parts may serve again, and their going takes nothing away.
    assert_eq!(last(&hoist, &first).await.status, StatusCode::CREATED);
    for part in [&first, &second] {
        let gone = send(&hoist, request_to(part, "DELETE", &[TUS], Content::none())).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(read(&store, id).await, b"defgabc");
    assert_eq!(target.count(), 2);
}

// proves: TUS1-CAT-13, TUS1-CAT-06, TUS1-TRM-02
#[tokio::test]
async fn an_upload_whose_part_has_gone_is_gone() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"d").await);
    let path =
        last(&hoist, &format!("{first} {second}")).await.field("location").expect("a place").to_owned();
    let gone = send(&hoist, request_to(&second, "DELETE", &[TUS], Content::none())).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    for path in [&path, &second] {
        assert_eq!(asked(&hoist, path).await.status, StatusCode::GONE);
    }
    assert_eq!(last(&hoist, &format!("{first} {second}")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(store.list_all().await.expect("no faults").len(), 1, "the first part alone is left");
}

/// The power fails at each moment of the making.
// proves: TUS1-CAT-13
#[test]
fn a_power_cut_leaves_an_upload_made_or_not_made() {
    let mut made = [0_usize; 2];
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let store = MemoryStore::with_faults(seed, Faults { yields_max: 4, ..Faults::NONE });
        let target = Counting::default();
        let process = life();
        let parts = process.block_on(async {
            let hoist = counted(&store, &target);
            let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"defg").await);
            let parts = format!("{first} {second}");
            let mut service = hoist.clone();
            let concat = format!("final;{parts}");
            let request = request("POST", &[TUS, ("upload-concat", &concat)], Content::none());
            let making = tokio::spawn(async move { service.call(request).await });
            for _ in 0..dice.below(60) {
                tokio::task::yield_now().await;
            }
            drop(making);
            parts
        });
        drop(process);
        store.crash();
        store.set_faults(Faults::NONE);
        life().block_on(async {
            let hoist = counted(&store, &target);
            hoist.recover().await.expect("readable");
            let mut finals = 0;
            for summary in store.list_all().await.expect("readable") {
                if matches!(summary.composition, Composition::Concatenated(_)) {
                    finals += 1;
                    assert!(!summary.is_open, "seed {seed}: its parts are complete, and so is it");
                    assert_eq!(read(&store, summary.id).await, b"abcdefg", "seed {seed}");
                }
            }
            made[finals] += 1;
            let again = last(&hoist, &parts).await;
            assert_eq!(again.status, StatusCode::CREATED, "seed {seed}: {again:?}");
        });
    }
    assert!(made.iter().all(|count| *count > 0), "both happen: {made:?}");
}

/// A number costs its sender four octets, so it must not cost the server a look for each number below it.
// proves: TOK-IDX-05
#[tokio::test]
async fn a_high_number_costs_no_more_than_a_low_one() {
    let mut looks = Vec::new();
    for index in ["3", "9999"] {
        let store = MemoryStore::new();
        let hoist = hoist(&store);
        for index in ["1", index] {
            let fields = [TOKEN, ("upload-index", index), ("upload-length", "9")];
            assert_eq!(send(&hoist, request("POST", &fields, Content::none())).await.status.as_u16(), 204);
        }
        assert_eq!(send(&hoist, request("HEAD", &[TOKEN], Content::none())).await.status.as_u16(), 204);
        let last = format!("{index};last");
        let fields = [TOKEN, ("upload-index", last.as_str())];
        assert_eq!(send(&hoist, request("HEAD", &fields, Content::none())).await.status.as_u16(), 204);
        assert_eq!(send(&hoist, request("DELETE", &[TOKEN], Content::none())).await.status.as_u16(), 204);
        assert!(store.list_all().await.expect("readable").is_empty(), "all parts are gone");
        looks.push(store.counts().lookups);
    }
    assert_eq!(looks[0], looks[1]);
}
