//! `mutate TARGET SECONDS [SEED]`: runs a target on mutations of its seeds, with any compiler.
//!
//! It is not guided by coverage, and meant for machines without libFuzzer. The same seed gives the same inputs. An
//! input that makes the target panic, or that takes longer than ten seconds, is written to `artifacts/TARGET/`.

#![forbid(unsafe_code)]

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hoist_fuzz::TARGETS;

const HANG: Duration = Duration::from_secs(10);
const BYTES_MAX: usize = 64 * 1024;

/// Byte strings at which decoders branch.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b": ",
    b":",
    b" ",
    b"\t",
    b"\0",
    b"\x7f",
    b"\xff",
    b",",
    b";",
    b"\"",
    b"\\\"",
    b"?0",
    b"?1",
    b"0",
    b"-0",
    b"-1",
    b"+1",
    b"1.0",
    b"1e3",
    b"00",
    b"999999999999999",
    b"1000000000000000",
    b"18446744073709551615",
    b"18446744073709551616",
    b"ffffffffffffffff",
    b"FFFFFFFFFFFFFFFFF",
    b"a;b=c\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"GET",
    b"HEAD",
    b"PATCH",
    b"POST",
    b"DELETE",
    b"OPTIONS",
    b"PRI * HTTP/2.0",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"Upload-Token: :YWJjZGVm:\r\n",
    b"Upload-Token: abcdef\r\n",
    b"Upload-Offset: 10\r\n",
    b"Upload-Length: 10\r\n",
    b"Upload-Complete: ?0\r\n",
    b"Upload-Incomplete: ?1\r\n",
    b"Upload-Index: 7;last\r\n",
    b"Upload-Draft-Interop-Version: 1\r\n",
    b"Upload-Draft-Interop-Version: 2\r\n",
    b"Upload-Draft-Version: 1\r\n",
    b"Tus-Resumable: 1.0.0\r\n",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"{\"hex\": \"00ff\"}",
    b"..",
    b"/",
    b"%2e%2e%2f",
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Option<Vec<u64>> = words.iter().skip(1).map(|word| word.parse().ok()).collect();
    let target = words.first().and_then(|name| TARGETS.iter().find(|(known, _)| known == name));
    let (Some((name, run)), Some([seconds, seed @ ..])) = (target, numbers.as_deref()) else {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        eprintln!("mutate TARGET SECONDS [SEED]; targets: {}", names.join(" "));
        return ExitCode::FAILURE;
    };
    let seed = seed.first().copied().unwrap_or(0x0068_6f69_7374);
    let seeds = seeds(name);
    if seeds.is_empty() {
        eprintln!("{name}: no seeds in fuzz/seeds/{name}/");
        return ExitCode::FAILURE;
    }
    let runner = Runner::new(name, *run);
    for input in &seeds {
        runner.run(input, "a checked-in seed");
    }
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(*seconds);
    let mut runs = seeds.len() as u64;
    while Instant::now() < end {
        let input = random.mutation(&seeds);
        runner.run(&input, &format!("run {runs} of seed {seed}"));
        runs += 1;
    }
    eprintln!("{name}: {runs} runs from {} seeds in {seconds} s, nothing found", seeds.len());
    ExitCode::SUCCESS
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns the contents of the target's seed files, sorted by name so that a seed has the same effect everywhere.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(root().join("seeds").join(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Runs inputs, and reports the first one that fails.
struct Runner {
    target: &'static str,
    run: fn(&[u8]),
    now: Arc<Mutex<Running>>,
}

/// The running input and its start time.
type Running = Option<(Instant, Vec<u8>)>;

impl Runner {
    fn new(target: &'static str, run: fn(&[u8])) -> Self {
        let now = Arc::new(Mutex::new(Running::None));
        let watched = Arc::clone(&now);
        // The thread ends with the process.
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let running = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((since, input)) = running.as_ref()
                    && Instant::elapsed(since) > HANG
                {
                    report(target, "it takes longer than ten seconds", input);
                }
            }
        });
        Self { target, run, now }
    }

    fn run(&self, input: &[u8], what: &str) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), input.to_vec()));
        let failed = panic::catch_unwind(|| (self.run)(input)).is_err();
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if failed {
            report(self.target, what, input);
        }
    }
}

/// Writes the input to a file and ends the process.
fn report(target: &str, what: &str, input: &[u8]) -> ! {
    let folder = root().join("artifacts").join(target);
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let path = folder.join(format!("crash-{name:016x}"));
    let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input));
    eprintln!("{target} failed: {what}: {}", input.escape_ascii());
    match written {
        Ok(()) => eprintln!("written to {}", path.display()),
        Err(error) => eprintln!("could not write the input: {error}"),
    }
    exit(1)
}

/// A seeded random number generator (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, or zero if `end` is zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Returns a seed with one to eight random changes.
    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(seeds).clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input, seeds);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let to = (at + 1 + self.below(16)).min(input.len());
        match self.below(8) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = u8::try_from(self.below(256)).unwrap_or(0),
            2 if at < to => drop(input.drain(at..to)),
            3 if at < to => {
                let again = input[at..to].to_vec();
                input.splice(at..at, again);
            }
            4 => input.truncate(at),
            5 => {
                let other = self.pick(seeds);
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            6 if at < to => drop(input.splice(at..to, self.pick(TOKENS).iter().copied())),
            _ => drop(input.splice(at..at, self.pick(TOKENS).iter().copied())),
        }
    }
}
