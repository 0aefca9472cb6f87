//! The cost of joining parts, compared with `cat part* > whole` in the same run on the same disk.
//!
//! `cargo bench -p hoist-store --bench join` joins 1 GiB of 20 parts in the temporary directory. `HOIST_BENCH_DIR` sets
//! another directory, `HOIST_BENCH_JOIN_GIB` and `HOIST_BENCH_JOIN_PARTS` other sizes. The benchmark needs three times
//! the space. Ratios are comparable between machines, absolute numbers are not.
//!
//! Newer versions of `cat` let the kernel copy (`copy_file_range`), as the store does. When their output is appended
//! with `>>`, they read and write. Both are measured.

#![expect(clippy::print_stdout, reason = "the results of a benchmark are its output")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hoist_proto::testing;
use hoist_proto::types::{Fence, Length, UploadId};
use hoist_proto::upload::{
    Completion, Composition, Excess, Family, Interruption, Phase, Semantics, TargetResponse, Upload,
};
use hoist_store::fs::{Durability, LocalStore, Options};
use hoist_store::store::Store;
use http::StatusCode;

const BUFFER_BYTES: u64 = 256 * 1024;
const ONE: Fence = Fence::new(1);

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let parent = std::env::var_os("HOIST_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).expect("a directory");
    let number = |name, default| {
        std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok()).unwrap_or(default)
    };
    let (gib, parts) = (number("HOIST_BENCH_JOIN_GIB", 1), number("HOIST_BENCH_JOIN_PARTS", 20).max(2));
    println!("{gib} GiB of {parts} parts below {}", directory.path().display());
    let aligned = ((gib << 30) / parts) & !0xffff;
    runtime.block_on(async {
        for (what, bytes) in [("of whole blocks", aligned), ("of odd sizes", aligned - 1)] {
            println!("\n{what:<38} wall s  cpu s   wall×  cpu×");
            for durability in [Durability::Os, Durability::Disk] {
                compare(directory.path(), durability, parts, bytes).await;
            }
        }
    });
}

async fn compare(directory: &Path, durability: Durability, parts: u64, bytes: u64) {
    let mut options = Options::default();
    options.durability = durability;
    let data = directory.join("store");
    let store = LocalStore::open(&data, &options).expect("the store opens");
    let mut ids = Vec::new();
    for number in 0..parts {
        ids.push(stored(&store, number, bytes).await);
    }
    let contents =
        ids.iter().map(|id| data.join("done").join(id.to_string()).join("content")).collect::<Vec<_>>();
    // Waits until the parts are written to the disk, so that this is not measured.
    sync(&data);
    let is_disk = durability == Durability::Disk;
    let copied = cat(directory, &contents, ">", is_disk);
    let after = if is_disk { ", synced" } else { "" };
    row(&format!("cat part* > whole{after}"), copied, copied);
    row(&format!("cat part* >> whole{after}"), cat(directory, &contents, ">>", is_disk), copied);
    row(&format!("the store at {durability}"), join(&store, &ids).await, copied);
    row(&format!("the store at {durability}, one part"), join(&store, &ids[..1]).await, copied);
    for id in ids {
        store.remove(id, ONE).await.expect("removes");
    }
}

/// Creates a complete part of this many bytes, with different content for each number.
async fn stored(store: &LocalStore, number: u64, bytes: u64) -> UploadId {
    let part = upload(number, Composition::Part, Some(bytes));
    let mut writer = store.create(&part, ONE).await.expect("creates");
    let buffer = (0..BUFFER_BYTES).map(|at| u8::try_from((at * 31 + number) % 251).expect("small"));
    let buffer = buffer.collect::<Bytes>();
    let mut left = bytes;
    while left > 0 {
        let piece = buffer.slice(..usize::try_from(left.min(BUFFER_BYTES)).expect("small"));
        left -= piece.len() as u64;
        writer.write(piece).await.expect("writes");
    }
    writer.sync().await.expect("syncs");
    let done = Upload { phase: Phase::Delivered(TargetResponse::of(StatusCode::NO_CONTENT)), ..part.clone() };
    store.commit(&done, ONE).await.expect("commits");
    part.id
}

async fn join(store: &LocalStore, parts: &[UploadId]) -> Cost {
    let whole = upload(u64::MAX, Composition::Concatenated(parts.to_vec()), None);
    drop(store.create(&whole, ONE).await.expect("creates"));
    let (start, cpu) = (Instant::now(), cpu_time());
    store.join(whole.id, parts, ONE).await.expect("joins");
    let cost = Cost { wall: start.elapsed(), cpu: cpu_time().saturating_sub(cpu) };
    store.remove(whole.id, ONE).await.expect("removes");
    cost
}

fn cat(directory: &Path, parts: &[PathBuf], how: &str, is_synced: bool) -> Cost {
    let whole = directory.join("whole");
    let sync = if is_synced { " && sync \"$whole\"" } else { "" };
    let (start, cpu) = (Instant::now(), children_cpu_time());
    let status = Command::new("sh")
        .args(["-c", &format!("whole=$0; cat \"$@\" {how} \"$whole\"{sync}")])
        .arg(&whole)
        .args(parts)
        .status()
        .expect("there is a shell");
    assert!(status.success(), "{status}");
    let cost = Cost { wall: start.elapsed(), cpu: children_cpu_time().saturating_sub(cpu) };
    fs::remove_file(whole).expect("it is there");
    cost
}

fn sync(path: &Path) {
    let status = Command::new("sync").arg("-f").arg(path).status().expect("there is a `sync`");
    assert!(status.success(), "{status}");
}

#[derive(Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn row(what: &str, cost: Cost, baseline: Cost) {
    let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
    let (walls, cpus) = (wall / baseline.wall.as_secs_f64(), cpu / baseline.cpu.as_secs_f64());
    println!("{what:<38} {wall:>6.3} {cpu:>6.3}  {walls:>6.3} {cpus:>6.3}");
}

/// Returns the CPU time of all threads of this process, in user and system mode.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).expect("a process has used more than no time")
}

/// Returns the CPU time of the child processes that have ended, in clock ticks of the system.
fn children_cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The process name may contain anything, so the fields are counted from behind it. The first of them is the third.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    let ticks = fields.get(13..15).unwrap_or_default().iter().filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 1000 / rustix::param::clock_ticks_per_second())
}

fn upload(number: u64, composition: Composition, length: Option<u64>) -> Upload {
    let mut bits = [7; 16];
    bits[..8].copy_from_slice(&number.to_be_bytes());
    Upload {
        family: Family::Tus1,
        semantics: Semantics {
            completion: Completion::AtLength,
            excess: Excess::Keeps,
            interruption: Interruption::Resumes,
        },
        composition,
        lifetime: None,
        length: length.map(Length::new),
        ..testing::upload(UploadId::from_bits(bits))
    }
}
