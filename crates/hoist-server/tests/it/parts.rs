//! Composed uploads under random orders and interruptions, decided by a seed: the stored content is the parts in their order,
//! each once, and no acknowledged byte of a part is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoist_proto::upload::{Composition, TargetResponse};
use hoist_server::Hoist;
use hoist_server::targets::{Delivery, Representation, Target};
use hoist_store::memory::{Faults, MemoryStore};
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;
use tower_service::Service;

use crate::harness::{Content, Ends, Got, SeededRng, hoist, request, request_to, send};
use crate::schedules::read;

const SCHEDULES: u64 = 400;
/// The time a request waits for the previous holder of its upload, as in the server.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);

/// A target that counts deliveries and leaves the content in the store.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Counting {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Target for Counting {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::ready(Ok(TargetResponse::of(StatusCode::CREATED).into())))
    }

    fn leaves_content(&self) -> bool {
        true
    }
}

fn counted(store: &MemoryStore, target: &Counting) -> Hoist {
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).target(target.clone()).build()
}

/// Starts a process. Dropping it ends every task at its next await point, as a power failure does.
fn start_process() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

const TOKEN: (&str, &str) = ("upload-token", "in-parts");

/// A client that uploads indexed parts, and what it has been acknowledged of each.
struct Schedule {
    dice: SeededRng,
    store: MemoryStore,
    hoist: Hoist,
    parts: Vec<Vec<u8>>,
    acknowledged: Vec<usize>,
    complete: bool,
    log: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut dice = SeededRng(seed);
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

    async fn retrieve(&mut self, part: usize) -> Option<usize> {
        let index = self.index(part, false);
        let fields = [TOKEN, ("upload-index", index.as_str())];
        let got = send(&self.hoist, request("HEAD", &fields, Content::none())).await;
        self.note(part, "HEAD", &got);
        (got.status == StatusCode::NO_CONTENT).then(|| got.offset()).flatten()
    }

    async fn transfer(&mut self, part: usize, whole: bool) {
        let at = self.retrieve(part).await;
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
            // It stalls until another request ends it. The other parts go on meanwhile.
            let mut service = self.hoist.clone();
            tokio::spawn(async move { service.call(request).await });
            self.log.push(format!("{method} {part} stalls"));
            return;
        }
        let got = send(&self.hoist, request).await;
        self.note(part, method, &got);
    }

    /// Checks that the offset of the composed upload is no more than was sent and no less than was acknowledged.
    async fn check_composed(&mut self) {
        let got = send(&self.hoist, request("HEAD", &[TOKEN], Content::none())).await;
        self.log.push(format!("HEAD the composed upload -> {} {:?}", got.status, got.offset()));
        let Some(offset) = got.offset() else { return };
        let first_gap =
            self.parts.iter().zip(&self.acknowledged).position(|(part, known)| *known < part.len());
        let acknowledged: usize =
            self.acknowledged.iter().take(first_gap.map_or(usize::MAX, |gap| gap + 1)).sum();
        // An empty part counts once it is created, even if the answer was lost.
        let has_empty = self.parts.iter().any(Vec::is_empty);
        assert!(offset >= acknowledged || has_empty, "{offset} is less than {acknowledged}");
        assert!(offset <= self.parts.iter().map(Vec::len).sum());
        if got.field("upload-complete") == Some("?1") {
            self.complete = true;
            assert_eq!(offset, self.parts.iter().map(Vec::len).sum::<usize>());
        }
    }

    async fn step(&mut self) {
        if self.dice.one_in(6) {
            self.check_composed().await;
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
        self.check_composed().await;
        assert!(self.complete, "it never became complete");
        let summaries = self.store.list_all().await.expect("no faults any more");
        let composed: Vec<_> = summaries
            .iter()
            .filter(|summary| matches!(summary.composition, Composition::Indexed(_)))
            .collect();
        assert_eq!(composed.len(), 1, "one upload");
        assert_eq!(
            read(&self.store, composed[0].id).await,
            self.parts.concat(),
            "other bytes than were sent"
        );
        let got = send(&self.hoist, request("DELETE", &[TOKEN], Content::none())).await;
        assert_eq!(got.status, StatusCode::NO_CONTENT);
        assert_eq!(self.store.list_all().await.expect("no faults"), [], "something of it is left");
    }
}

fn run(schedule: &mut Schedule) {
    let mut process = start_process();
    for _ in 0..schedule.dice.below(30) {
        if schedule.dice.one_in(12) {
            drop(process);
            process = start_process();
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
fn indexed_parts_make_one_upload_under_any_interruptions() {
    let only = std::env::var("HOIST_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..SCHEDULES, |seed| seed..seed + 1) {
        let started = std::time::Instant::now();
        let mut schedule = Schedule::new(seed);
        let passed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut schedule)));
        let log = schedule.log.join("\n");
        assert!(passed.is_ok(), "seed {seed} (run it alone with HOIST_SEED={seed}):\n{log}");
        // Takes milliseconds, unless two requests wait for each other until the claim times out.
        assert!(started.elapsed() < CLAIM_TIMEOUT, "seed {seed}: two requests wait for each other:\n{log}");
    }
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const CONTENT: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// Creates a partial upload and returns its path.
async fn partial(hoist: &Hoist, length: &str, content: &[u8]) -> String {
    let fields = [TUS, CONTENT, ("upload-length", length), ("upload-concat", "partial")];
    let got = send(hoist, request("POST", &fields, Content::sized(content))).await;
    assert_eq!(got.status, StatusCode::CREATED, "{got:?}");
    got.field("location").expect("a location").to_owned()
}

async fn concatenate(hoist: &Hoist, parts: &str) -> Got {
    let concat = format!("final;{parts}");
    send(hoist, request("POST", &[TUS, ("upload-concat", &concat)], Content::none())).await
}

async fn append(hoist: &Hoist, path: &str, at: &str, content: &[u8]) -> Got {
    let fields = [TUS, CONTENT, ("upload-offset", at)];
    send(hoist, request_to(path, "PATCH", &fields, Content::sized(content))).await
}

async fn head(hoist: &Hoist, path: &str) -> Got {
    send(hoist, request_to(path, "HEAD", &[TUS], Content::none())).await
}

// proves: TUS1-CAT-04, TUS1-CAT-10, TUS1-CAT-12, TUS1-CAT-13, TUS1-PATCH-15
#[tokio::test]
async fn a_concatenated_upload_waits_for_its_parts_and_is_delivered_once() {
    let (store, target) = (MemoryStore::new(), Counting::default());
    let hoist = counted(&store, &target);
    let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"d").await);
    let waiting = concatenate(&hoist, &format!("{second} {first}")).await;
    assert_eq!(waiting.status, StatusCode::CREATED, "{waiting:?}");
    let path = waiting.field("location").expect("a location").to_owned();
    let state = head(&hoist, &path).await;
    assert_eq!((state.field("upload-offset"), state.field("upload-length")), (None, Some("7")));
    assert_eq!(target.count(), 0, "a part is not delivered");
    let patched = append(&hoist, &path, "0", b"x").await;
    assert_eq!(patched.status, StatusCode::FORBIDDEN);
    assert_eq!(append(&hoist, &second, "1", b"efg").await.status, StatusCode::NO_CONTENT);
    assert_eq!(target.count(), 1);
    let state = head(&hoist, &path).await;
    assert_eq!((state.field("upload-offset"), state.field("upload-length")), (Some("7"), Some("7")));
    assert_eq!(append(&hoist, &path, "7", b"").await.status, StatusCode::FORBIDDEN);
    let id = path.rsplit('/').next().expect("a name").parse().expect("an id");
    assert_eq!(read(&store, id).await, b"defgabc");
    // The parts can be used again, and their removal changes nothing.
    assert_eq!(concatenate(&hoist, &first).await.status, StatusCode::CREATED);
    for part in [&first, &second] {
        let gone = send(&hoist, request_to(part, "DELETE", &[TUS], Content::none())).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(read(&store, id).await, b"defgabc");
    assert_eq!(target.count(), 2);
}

// proves: TUS1-CAT-13, TUS1-CAT-06, TUS1-TRM-02
#[tokio::test]
async fn a_concatenated_upload_is_gone_when_a_part_is_removed() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"d").await);
    let path = concatenate(&hoist, &format!("{first} {second}"))
        .await
        .field("location")
        .expect("a location")
        .to_owned();
    let gone = send(&hoist, request_to(&second, "DELETE", &[TUS], Content::none())).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    for path in [&path, &second] {
        assert_eq!(head(&hoist, path).await.status, StatusCode::GONE);
    }
    assert_eq!(concatenate(&hoist, &format!("{first} {second}")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(store.list_all().await.expect("no faults").len(), 1, "only the first part is left");
}

/// The power fails at a random moment of the concatenation.
// proves: TUS1-CAT-13
#[test]
fn a_power_failure_leaves_a_concatenated_upload_complete_or_absent() {
    let mut outcomes = [0_usize; 2];
    for seed in 0..200 {
        let mut dice = SeededRng(seed);
        let store = MemoryStore::with_faults(seed, Faults { yields_max: 4, ..Faults::NONE });
        let target = Counting::default();
        let process = start_process();
        let parts = process.block_on(async {
            let hoist = counted(&store, &target);
            let (first, second) = (partial(&hoist, "3", b"abc").await, partial(&hoist, "4", b"defg").await);
            let parts = format!("{first} {second}");
            let mut service = hoist.clone();
            let concat = format!("final;{parts}");
            let request = request("POST", &[TUS, ("upload-concat", &concat)], Content::none());
            let concatenation = tokio::spawn(async move { service.call(request).await });
            for _ in 0..dice.below(60) {
                tokio::task::yield_now().await;
            }
            drop(concatenation);
            parts
        });
        drop(process);
        store.crash();
        store.set_faults(Faults::NONE);
        start_process().block_on(async {
            let hoist = counted(&store, &target);
            hoist.recover().await.expect("readable");
            let mut finals = 0;
            for summary in store.list_all().await.expect("readable") {
                if matches!(summary.composition, Composition::Concatenated(_)) {
                    finals += 1;
                    assert!(!summary.is_open, "seed {seed}: an upload with complete parts is open");
                    assert_eq!(read(&store, summary.id).await, b"abcdefg", "seed {seed}");
                }
            }
            outcomes[finals] += 1;
            let again = concatenate(&hoist, &parts).await;
            assert_eq!(again.status, StatusCode::CREATED, "seed {seed}: {again:?}");
        });
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both happen: {outcomes:?}");
}

/// A number costs its sender four octets, so the server must not read the store for each number below it.
// proves: TOK-IDX-05
#[tokio::test]
async fn a_high_part_number_costs_no_more_reads_than_a_low_one() {
    let mut reads = Vec::new();
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
        assert!(store.list_all().await.expect("readable").is_empty(), "all parts are removed");
        reads.push(store.counts().lookups);
    }
    assert_eq!(reads[0], reads[1]);
}
