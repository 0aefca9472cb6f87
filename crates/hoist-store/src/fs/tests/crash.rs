//! A process killed at any point: every acknowledged byte is there afterwards.
//!
//! The test runs itself as a second process, which stores uploads and prints what was acknowledged. The process is
//! killed at some moment, and then the acknowledged state is checked. The system's page cache outlives a process. Where
//! permitted, another test therefore has the process work on a file system in a file, and shuts that down without a
//! flush (as `xfs_io` does, for any file system that supports it). Unsynced bytes are then lost, as in a power cut. The
//! memory store simulates the same on every platform.

use std::collections::{HashMap, HashSet};
use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use hoist_proto::types::{Fence, Offset, UploadId};
use hoist_proto::upload::{Composition, EventKind, Phase, TargetResponse, Upload};
use http::StatusCode;

use super::operations::event;
use super::{open, upload};
use crate::store::{Error, Store};

const DIRECTORY: &str = "HOIST_TEST_CRASH_DIRECTORY";
const FIRST: &str = "HOIST_TEST_CRASH_FIRST";
const ROUNDS: u64 = 16;
/// A power cut takes longer: the file system has to be mounted and checked again.
const CUTS: u64 = 6;
const SIZES: [u64; 4] = [16_384, 1, 40_000, 9_000];
const PART_BYTES: u64 = 16_384 + 1 + 40_000 + 9_000;

/// The acknowledged state of an upload: an offset, and the last phase.
#[derive(Clone, Debug, Default)]
struct Promise {
    offset: u64,
    is_complete: bool,
    is_removed: bool,
    is_joined: bool,
}

// proves: TOK-OFF-03
#[tokio::test]
async fn a_killed_process_keeps_acknowledged_bytes() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut promises = HashMap::new();
    for round in 0..ROUNDS {
        run_until(directory.path(), round, &mut promises, || {});
        check(directory.path(), &promises, round * 1000).await;
    }
    assert!(promises.values().any(|promise| promise.is_complete), "some requests were completed");
}

// proves: TOK-OFF-03, TUS1-CHK-03
#[tokio::test]
async fn a_power_cut_keeps_acknowledged_bytes() {
    for (kind, options) in [("ext4", "-qF"), ("xfs", "-qf")] {
        let Some(machine) = Machine::new(kind, options) else { continue };
        let mut promises = HashMap::new();
        for round in 0..CUTS {
            let (first, data) = (round * 3, machine.root().join("data"));
            machine.mount();
            run_until(&data, first, &mut promises, || machine.shut_down());
            machine.unmount();
            machine.mount();
            check(&data, &promises, first * 1000).await;
            machine.unmount();
        }
        assert!(promises.values().any(|promise| promise.is_joined), "some requests were completed");
    }
}

/// A file system in a file that can lose its power.
struct Machine(tempfile::TempDir);

impl Machine {
    /// Returns `None`, after printing the reason, where this is not possible.
    fn new(kind: &str, option: &str) -> Option<Self> {
        let machine = Self(tempfile::tempdir().expect("a directory"));
        std::fs::create_dir(machine.root()).expect("can be made");
        let image = std::fs::File::create(machine.image()).expect("can be made");
        image.set_len(512 << 20).expect("takes no space yet");
        let tried = tried(Command::new(format!("mkfs.{kind}")).arg(option).arg(machine.image()))
            .and_then(|()| tried(Command::new("xfs_io").arg("-V")))
            .and_then(|()| tried(&mut machine.mounting()));
        if let Err(why) = tried {
            println!("{kind} skipped: {why}");
            return None;
        }
        machine.unmount();
        Some(machine)
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    fn mounting(&self) -> Command {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(self.image()).arg(self.root());
        mount
    }

    fn mount(&self) {
        tried(&mut self.mounting()).expect("it could be mounted before");
    }

    fn shut_down(&self) {
        tried(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.root()))
            .expect("can be shut down");
    }

    fn unmount(&self) {
        tried(Command::new("umount").arg(self.root())).expect("it is not in use");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Unmounts after a failed test. Otherwise there is nothing to unmount.
        let _ = Command::new("umount").arg("-l").arg(self.root()).output();
    }
}

/// Runs a command, and returns its output as the error if it fails.
fn tried(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Runs the second process until it has acknowledged enough, then calls `then` and kills the process.
fn run_until(data: &Path, round: u64, promises: &mut HashMap<u64, Promise>, then: impl FnOnce()) {
    let test = "fs::tests::crash::process_to_be_killed";
    let mut child = Command::new(env::current_exe().expect("a test has a file"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, data)
        .env(FIRST, (round * 1000).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test runs again");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // Later in every round, so that the end comes at another step each time.
    let enough = usize::try_from(round * 3 + 1).expect("small");
    let mut seen = 0;
    while seen < enough {
        let line = lines.next().expect("the process runs until it is killed").expect("text");
        seen += usize::from(note(promises, &line));
    }
    then();
    child.kill().expect("it can be killed");
    child.wait().expect("it has ended");
    for line in lines.map_while(Result::ok) {
        note(promises, &line);
    }
}

fn note(promises: &mut HashMap<u64, Promise>, line: &str) -> bool {
    // A line without its end was not acknowledged.
    let mut words = line.split(' ');
    let (Some("promised"), Some(number), Some(what), Some("end")) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let promise = promises.entry(number.parse().expect("a number")).or_default();
    match what {
        "complete" => promise.is_complete = true,
        "removed" => promise.is_removed = true,
        "joined" => promise.is_joined = true,
        offset => promise.offset = offset.parse().expect("an offset"),
    }
    true
}

/// Checks every promise, and the bytes of the uploads from number `first` on.
async fn check(directory: &Path, promises: &HashMap<u64, Promise>, first: u64) {
    let store = open(directory);
    store.list_all().await.expect("lists");
    let removed = removed_with_events(&store).await;
    for (&number, promise) in promises {
        let id = upload(number, None).id;
        let found = store.load(id, Fence::new(1)).await.expect("loads");
        // Events of a removal exist if it happened, and only then.
        assert!(!promise.is_removed || removed.contains(&id), "{number}: its events are gone");
        assert!(
            found.is_none() || !removed.contains(&id),
            "{number} is not removed, though its events say so"
        );
        let Some(found) = found else {
            // Its removal may have been in progress.
            assert!(promise.is_removed || is_removable(number), "{number} is gone: {promise:?}");
            continue;
        };
        assert!(!promise.is_removed, "{number} is back");
        let offset = found.offset.offset();
        assert_eq!(store.peek(id).await.expect("can be peeked at"), Some(found.clone()));
        assert!(offset.get() >= promise.offset, "{number} ends at {offset}: {promise:?}");
        assert!(found.is_complete() || !promise.is_complete, "{number} is open again");
        if number < first {
            continue;
        }
        assert_holds(&store, id, number, offset).await;
        check_composed(&store, number, offset, promise).await;
        if !found.is_complete() {
            let appended = store.append(id, offset, Fence::new(1)).await;
            assert!(appended.is_ok(), "the loaded offset is accepted");
        }
    }
}

async fn removed_with_events(store: &impl Store) -> HashSet<UploadId> {
    let mut listing = store.outbox().expect("has one").list_removed().await.expect("lists");
    let mut ids = HashSet::new();
    while let Some(sources) = listing.next().await.expect("lists") {
        ids.extend(sources.into_iter().map(|pending| pending.source.id()));
    }
    ids
}

/// Checks that the content is that of the upload, repeated in a joined one.
async fn assert_holds(store: &impl Store, id: UploadId, number: u64, end: Offset) {
    let mut reader = store.read(id, Offset::ZERO).await.expect("opens");
    let mut at = 0;
    while let Some(bytes) = reader.next().await.expect("reads") {
        let is_right = |(&byte, at): (&u8, u64)| byte == pattern(number, at % PART_BYTES);
        assert!(bytes.iter().zip(at..).all(is_right), "{number}");
        at += bytes.len() as u64;
    }
    assert_eq!(at, end.get());
}

/// Checks that the upload joined from this one has all of its content or none.
async fn check_composed(store: &impl Store, number: u64, part: Offset, promise: &Promise) {
    let id = composed(number).id;
    let Some(found) = store.load(id, Fence::new(1)).await.expect("loads") else {
        assert!(!promise.is_joined, "{number}: the whole is gone");
        return;
    };
    let end = found.offset.offset();
    assert!(
        end == Offset::ZERO || end.get() == part.get() * parts_of(number).len() as u64,
        "{end} of {part}"
    );
    assert!(end > Offset::ZERO || !promise.is_joined, "{number}: the content of the whole is gone");
    assert_holds(store, id, number, end).await;
}

fn composed(number: u64) -> Upload {
    Upload { composition: Composition::Concatenated(parts_of(number)), ..upload(number | 1 << 32, None) }
}

/// Returns one part for some uploads and several for others, because joining one part works differently.
fn parts_of(number: u64) -> Vec<UploadId> {
    vec![upload(number, None).id; if number.is_multiple_of(2) { 1 } else { 3 }]
}

fn is_removable(number: u64) -> bool {
    number % 5 == 4
}

#[expect(clippy::cast_possible_truncation, reason = "a pattern repeats")]
fn pattern(number: u64, at: u64) -> u8 {
    (number ^ (at % 251)) as u8
}

/// The second process. Does nothing when run as a test.
#[tokio::test]
async fn process_to_be_killed() {
    let (Some(directory), Ok(first)) = (env::var_os(DIRECTORY), env::var(FIRST)) else { return };
    let store = open(Path::new(&directory));
    let first = first.parse::<u64>().expect("a number");
    for number in first..first + 900 {
        exercise(&store, number).await.expect("the disk works");
    }
}

async fn exercise(store: &impl Store, number: u64) -> Result<(), Error> {
    let fence = Fence::new(1);
    let upload = Upload { composition: Composition::Part, ..upload(number, None) };
    let mut writer = store.create(&upload, fence).await?;
    let mut at = 0;
    for (round, size) in (0..).zip(SIZES) {
        if (number + round).is_multiple_of(2) {
            // Bytes that must never be read.
            writer.mark_unverified().await?;
            writer.write((at..at + size * 2).map(|at| !pattern(number, at)).collect()).await?;
            writer.truncate(Offset::new(at)).await?;
        }
        if !(number + round).is_multiple_of(3) {
            writer.mark_unverified().await?;
        }
        let bytes = (at..at + size).map(|at| pattern(number, at)).collect::<Bytes>();
        at += size;
        writer.write(bytes).await?;
        promise(number, &writer.sync().await?.to_string());
    }
    if number.is_multiple_of(7) {
        // Unverified to the end.
        writer.mark_unverified().await?;
        writer.write(vec![!pattern(number, at); 50_000].into()).await?;
    }
    if !number.is_multiple_of(3) {
        let upload = Upload { phase: Phase::Received, ..upload.clone() };
        store.commit(&upload, fence).await?;
        promise(number, "complete");
        drop(store.create(&composed(number), fence).await?);
        store.join(composed(number).id, &parts_of(number), fence).await?;
        promise(number, "joined");
        let answer = TargetResponse::of(StatusCode::NO_CONTENT);
        store.commit(&Upload { phase: Phase::Delivered(answer), ..upload.clone() }, fence).await?;
    }
    if is_removable(number) {
        let last = Upload { events: vec![event(EventKind::Terminated)], ..upload };
        store.outbox().expect("has one").remove_with_events(&last, fence).await?;
        promise(number, "removed");
    }
    Ok(())
}

fn promise(number: u64, what: &str) {
    let line = format!("\npromised {number} {what} end\n");
    std::io::stdout().write_all(line.as_bytes()).expect("the parent process reads");
}
