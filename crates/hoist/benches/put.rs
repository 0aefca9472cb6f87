//! The cost of sending: `hoist put` compared with `curl -T`, the same file to the same server.
//!
//! `cargo bench -p hoist --bench put`. `HOIST_BENCH_GIB` is the size of the file (4), `HOIST_BENCH_PAIRS` the number of
//! measurements (5), `TMPDIR` the place of file and data. The two take turns in going first, and the medians are
//! compared. Ratios are comparable between machines, absolute numbers are not.

#[allow(dead_code, unused_imports, reason = "the harness of the tests has more than is needed here")]
#[path = "../tests/it/harness.rs"]
mod harness;

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::{SeededRng, Server, ServerDir, print_note};

/// Seconds of wall time and of processor time.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

fn main() {
    let number = |name: &str, default: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (gib, pairs) = (number("HOIST_BENCH_GIB", 4), number("HOIST_BENCH_PAIRS", 5));
    let home = ServerDir::new();
    let film = home.text("film");
    fill(&film, gib);
    let (mut curl, mut hoist) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        for first in [true, false] {
            // The second one runs on a warmer machine.
            if first == (pair % 2 == 0) {
                curl.push(sent(&["curl", "--silent", "--fail", "-T", &film], "/"));
            } else {
                hoist.push(sent(&[env!("CARGO_BIN_EXE_hoist"), "put", "--no-resume", "--quiet", &film], ""));
            }
        }
    }
    print_note(format_args!("{gib} GiB over loopback, medians of {pairs} pairs"));
    for (name, of) in [("wall s", (|cost| cost.wall) as fn(&Cost) -> f64), ("CPU s", |cost| cost.cpu)] {
        let (curl, hoist) = (median(&curl, of), median(&hoist, of));
        print_note(format_args!(
            "{name:7} curl -T {curl:6.2}  hoist put {hoist:6.2}  ratio {:5.2}",
            hoist / curl
        ));
    }
}

fn fill(path: &str, gib: usize) {
    let piece = SeededRng(1).bytes(1 << 20);
    let mut file = File::create(path).expect("a file");
    for _ in 0..gib << 10 {
        file.write_all(&piece).expect("room");
    }
}

/// Measures a command that sends the file to a new server.
fn sent(words: &[&str], behind: &str) -> Cost {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", "os"]);
    let before = cpu_of_children();
    let began = Instant::now();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(format!("{}{behind}", server.url));
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("it runs");
    let wall = began.elapsed().as_secs_f64();
    assert!(status.success(), "{words:?}: {status}");
    Cost { wall, cpu: cpu_of_children() - before }
}

/// Returns the processor time of ended children in seconds, user and system, with ticks of 10 ms. The server is not
/// among them.
fn cpu_of_children() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("it runs");
    // The name in parentheses may contain any character.
    let behind = text.rsplit_once(')').expect("a name").1;
    let ticks =
        behind.split_whitespace().skip(13).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

fn median(costs: &[Cost], of: fn(&Cost) -> f64) -> f64 {
    let mut values: Vec<_> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
