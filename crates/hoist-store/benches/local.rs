//! The cost of the local store, each figure compared with a named baseline in the same run on the same disk.
//!
//! `cargo bench -p hoist-store` runs in the temporary directory. `HOIST_BENCH_DIR` sets another directory,
//! `HOIST_BENCH_DISK_THREADS` sets the number of threads that write and sync. Ratios are comparable between machines,
//! absolute numbers are not.

#![expect(clippy::print_stdout, reason = "the results of a benchmark are its output")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoist_proto::testing;
use hoist_proto::types::{Fence, Length, UploadId};
use hoist_proto::upload::{Phase, TargetResponse, Upload};
use hoist_store::fs::{Durability, LocalStore, Options};
use hoist_store::record::{self, Record};
use hoist_store::store::Store;
use http::StatusCode;
use tokio::task::JoinSet;

const GIB: u64 = 1 << 30;
const BUFFER_BYTES: usize = 256 * 1024;
const SMALL_BYTES: usize = 16 * 1024;
const SMALL_UPLOADS: u64 = 1024;
const CONCURRENT: u64 = 64;
const ROUNDS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let parent = std::env::var_os("HOIST_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    println!("below {}, the best of {ROUNDS} rounds each\n", directory.path().display());
    runtime.block_on(async {
        // Arguments select parts by name. cargo adds flags, which are ignored.
        let asked =
            std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect::<Vec<_>>();
        let wants = |part: &str| asked.is_empty() || asked.iter().any(|argument| argument == part);
        // First, because the system reports the peak of the whole process.
        if wants("memory") {
            memory(directory.path()).await;
        }
        if wants("preempt") {
            preempt(directory.path()).await;
        }
        if wants("writing") {
            writing(directory.path()).await;
        }
        if wants("small") {
            small_uploads(directory.path()).await;
        }
    });
}

/// The peak memory of a hundred uploads that are faster than the disk. Each buffer is an allocation of its own.
async fn memory(directory: &Path) {
    let store = Arc::new(open(directory, Durability::Disk));
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let upload = upload(number, None);
            let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
            for _ in 0..64 {
                writer.write(Bytes::from(vec![7; BUFFER_BYTES])).await.expect("writes");
            }
            writer.sync().await.expect("syncs");
            drop(writer);
            store.remove(upload.id, Fence::new(1)).await.expect("removes");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown here");
    println!("100 uploads of 16 MiB at once: {}\n", peak.split_whitespace().collect::<Vec<_>>().join(" "));
}

/// The time a new claim waits for the offset during an upload of 4 GiB, compared with one sync after a loop of `write`.
async fn preempt(directory: &Path) {
    let path = directory.join("raw");
    let mut file = File::create(&path).expect("a file");
    for buffer in Buffers::new().gib(1) {
        file.write_all(&buffer).expect("a write");
    }
    let start = Instant::now();
    file.sync_data().expect("a sync");
    println!("time to load the offset while an upload runs at full speed");
    println!("a loop of write: one sync after 1 GiB  {:>6.3} s", start.elapsed().as_secs_f64());
    fs::remove_file(&path).expect("it is there");
    let store = open(directory, Durability::Disk);
    let upload = upload(0, None);
    let mut writer = store.create(&upload, Fence::new(0)).await.expect("creates");
    let mut worst = Duration::ZERO;
    for round in 1..=16 {
        for buffer in Buffers::new().gib(4) {
            writer.write(buffer).await.expect("writes");
        }
        let start = Instant::now();
        let found = store.load(upload.id, Fence::new(round)).await.expect("loads").expect("is there");
        worst = worst.max(start.elapsed());
        writer = store.append(upload.id, found.offset.offset(), Fence::new(round)).await.expect("appends");
    }
    println!("the store: the slowest of 16 in 4 GiB  {:>6.3} s\n", worst.as_secs_f64());
    store.remove(upload.id, Fence::new(99)).await.expect("removes");
}

/// (a) A large upload: 1 GiB in buffers of 256 KiB, compared with a loop of `write`.
async fn writing(directory: &Path) {
    let contenders: [Contender<'_>; 5] = [
        ("a loop of write, no sync", Box::new(|| Box::pin(raw(directory, false)))),
        ("the store at os", Box::new(|| Box::pin(store_gib(directory, Durability::Os, 1)))),
        (
            "the store at os, four uploads at once",
            Box::new(|| Box::pin(store_gib(directory, Durability::Os, 4))),
        ),
        ("a loop of write, one sync at the end", Box::new(|| Box::pin(raw(directory, true)))),
        ("the store at disk", Box::new(|| Box::pin(store_gib(directory, Durability::Disk, 1)))),
    ];
    let costs = best(&contenders).await;
    println!("1 GiB in buffers of 256 KiB          wall s  CPU s   wall   CPU");
    for (at, (what, _)) in contenders.iter().enumerate() {
        // The first three are compared with the loop without a sync, the last two with the loop that syncs.
        row(what, costs[at], costs[at / 3 * 3]);
    }
    println!();
}

async fn raw(directory: &Path, is_synced: bool) -> Cost {
    let path = directory.join("raw");
    let cost = timed(async {
        let mut file = File::create(&path).expect("a file");
        for buffer in Buffers::new().gib(1) {
            file.write_all(&buffer).expect("a write");
        }
        if is_synced {
            file.sync_data().expect("a sync");
        }
    })
    .await;
    fs::remove_file(&path).expect("it is there");
    cost
}

/// Buffers in rotation, as the network side reuses them, so that allocation is not measured.
struct Buffers(Vec<Bytes>);

impl Buffers {
    fn new() -> Self {
        Self((0..8).map(|fill| Bytes::from(vec![fill; BUFFER_BYTES])).collect())
    }

    fn gib(&self, share: u64) -> impl Iterator<Item = Bytes> {
        let count = GIB / BUFFER_BYTES as u64 / share;
        self.0.iter().cycle().take(usize::try_from(count).expect("small")).cloned()
    }
}

async fn store_gib(directory: &Path, durability: Durability, uploads: u64) -> Cost {
    let store = Arc::new(open(directory, durability));
    let cost = timed(async {
        let mut tasks = JoinSet::new();
        for number in 0..uploads {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let upload = upload(number, None);
                let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
                for buffer in Buffers::new().gib(uploads) {
                    writer.write(buffer).await.expect("writes");
                }
                writer.sync().await.expect("syncs");
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
    })
    .await;
    for number in 0..uploads {
        store.remove(upload(number, None).id, Fence::new(1)).await.expect("removes");
    }
    cost
}

/// (b) Small uploads in one request each: create, 16 KiB, sync, commit the answer.
async fn small_uploads(directory: &Path) {
    let contenders: [Contender<'_>; 4] = [
        ("every fsync, one after the other", Box::new(|| Box::pin(naive(directory, 1)))),
        ("every fsync, a thread for each upload", Box::new(|| Box::pin(naive(directory, CONCURRENT)))),
        ("the store at disk", Box::new(|| Box::pin(small(directory, Durability::Disk)))),
        ("the store at os", Box::new(|| Box::pin(small(directory, Durability::Os)))),
    ];
    let costs = best(&contenders).await;
    println!("{SMALL_UPLOADS} uploads of 16 KiB, {CONCURRENT} at once      per s   times   CPU ms each");
    for ((what, _), cost) in contenders.iter().zip(&costs) {
        small_row(what, *cost, costs[0]);
    }
}

async fn small(directory: &Path, durability: Durability) -> Cost {
    let store = Arc::new(open(directory, durability));
    let cost = timed(async {
        let mut tasks = JoinSet::new();
        for worker in 0..CONCURRENT {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for number in (worker..SMALL_UPLOADS).step_by(usize::try_from(CONCURRENT).expect("small")) {
                    let mut upload = upload(number, Some(SMALL_BYTES as u64));
                    let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
                    writer.write(Bytes::from(vec![7; SMALL_BYTES])).await.expect("writes");
                    writer.sync().await.expect("syncs");
                    upload.phase = Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT));
                    store.commit(&upload, Fence::new(1)).await.expect("commits");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
    })
    .await;
    let mut tasks = JoinSet::new();
    for number in 0..SMALL_UPLOADS {
        let store = Arc::clone(&store);
        tasks.spawn(
            async move { store.remove(upload(number, None).id, Fence::new(1)).await.expect("removes") },
        );
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    cost
}

/// Writes the same files, and syncs every file and directory as soon as it has changed.
async fn naive(directory: &Path, threads: u64) -> Cost {
    let data = directory.join("naive");
    for parent in ["open", "done"] {
        fs::create_dir_all(data.join(parent)).expect("a directory");
    }
    let cost = timed(async {
        let mut tasks = JoinSet::new();
        for worker in 0..threads {
            let data = data.clone();
            tasks.spawn_blocking(move || {
                for number in (worker..SMALL_UPLOADS).step_by(usize::try_from(threads).expect("small")) {
                    by_the_book(&data, upload(number, Some(SMALL_BYTES as u64))).expect("the disk works");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
    })
    .await;
    fs::remove_dir_all(&data).expect("it is there");
    cost
}

fn by_the_book(data: &Path, mut upload: Upload) -> std::io::Result<()> {
    let sync_dir = |path: &Path| File::open(path)?.sync_all();
    let (open, done) = (data.join("open"), data.join("done"));
    let here = open.join(upload.id.to_string());
    fs::create_dir(&here)?;
    sync_dir(&open)?;
    let mut content = File::create(here.join("content"))?;
    let write_record = |upload: &Upload| {
        let record = record::to_bytes(&Record { upload: upload.clone(), discarded: None }).expect("a record");
        let mut file = File::create(here.join("record.new"))?;
        file.write_all(&record)?;
        file.sync_all()?;
        fs::rename(here.join("record.new"), here.join("record"))?;
        sync_dir(&here)
    };
    write_record(&upload)?;
    content.write_all(&[7; SMALL_BYTES])?;
    content.sync_all()?;
    upload.phase = Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT));
    write_record(&upload)?;
    fs::rename(&here, done.join(upload.id.to_string()))?;
    sync_dir(&open)?;
    sync_dir(&done)
}

fn open(directory: &Path, durability: Durability) -> LocalStore {
    let mut options = Options::default();
    options.durability = durability;
    let threads = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    options.disk_threads = threads("HOIST_BENCH_DISK_THREADS").unwrap_or(options.disk_threads);
    LocalStore::open(&directory.join("store"), &options).expect("the store opens")
}

fn upload(number: u64, length: Option<u64>) -> Upload {
    let mut bits = [7; 16];
    bits[..8].copy_from_slice(&number.to_be_bytes());
    let length = length.map(Length::new);
    Upload { length, lifetime: None, ..testing::upload(UploadId::from_bits(bits)) }
}

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// A way to do the measured work, and its name.
type Contender<'a> = (&'static str, Box<dyn Fn() -> Pin<Box<dyn Future<Output = Cost> + 'a>> + 'a>);

/// Returns the best result of each contender. They take turns, so that a busy disk affects all of them.
async fn best(contenders: &[Contender<'_>]) -> Vec<Cost> {
    let mut best = vec![Cost { wall: Duration::MAX, cpu: Duration::MAX }; contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, run), best) in contenders.iter().zip(&mut best) {
            let cost = run().await;
            *best = Cost { wall: best.wall.min(cost.wall), cpu: best.cpu.min(cost.cpu) };
        }
    }
    best
}

async fn timed(work: impl Future<Output = ()>) -> Cost {
    let (start, cpu) = (Instant::now(), cpu_time());
    work.await;
    Cost { wall: start.elapsed(), cpu: cpu_time().saturating_sub(cpu) }
}

/// Returns the CPU time of all threads of this process, in user and system mode.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("a process has used more than no time")
}

fn row(what: &str, cost: Cost, baseline: Cost) {
    let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
    let times = (wall / baseline.wall.as_secs_f64(), cpu / baseline.cpu.as_secs_f64());
    println!("{what:<38} {wall:>4.2}   {cpu:>4.2}   {:>4.2}   {:>4.2}", times.0, times.1);
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn small_row(what: &str, cost: Cost, baseline: Cost) {
    let rate = SMALL_UPLOADS as f64 / cost.wall.as_secs_f64();
    let times = baseline.wall.as_secs_f64() / cost.wall.as_secs_f64();
    let cpu = cost.cpu.as_secs_f64() * 1000.0 / SMALL_UPLOADS as f64;
    println!("{what:<38} {rate:>5.0}   {times:>5.2}   {cpu:>5.2}");
}
