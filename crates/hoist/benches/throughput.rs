//! The cost of receiving: `hoist serve` compared with a baseline, in the same run on the same machine.
//!
//! `cargo bench -p hoist --bench throughput`. `HOIST_BENCH_GIB` is the size of the large upload (2), `TMPDIR` the place
//! of the data. The baseline of large uploads is a thread that copies from a socket to a file, 256 KiB at a time, and
//! syncs at the end if the server does. The baseline of small uploads is the server with data in memory and without
//! syncs. Ratios are comparable between machines, absolute numbers are not.

#[allow(dead_code, unused_imports, reason = "the harness of the tests has more than is needed here")]
#[path = "../tests/it/harness.rs"]
mod harness;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use harness::{H2, Server, ServerDir, TestRequest, Transport, h2_send, print_note};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

const BUFFER_BYTES: usize = 256 << 10;
const ROUNDS: usize = 3;
const SMALL_BYTES: usize = 16 << 10;
const SMALL_UPLOADS: u32 = 6400;
const CONNECTIONS: u32 = 64;

/// Seconds of wall time and of processor time.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn less(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
}

fn main() {
    let gib = std::env::var("HOIST_BENCH_GIB").ok().and_then(|text| text.parse().ok()).unwrap_or(2_usize);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    large(&runtime, gib << 30);
    small(&runtime);
}

fn large(runtime: &tokio::runtime::Runtime, length: usize) {
    print_note(format_args!("{} GiB in one upload, the best of {ROUNDS} rounds", length >> 30));
    print_note(format_args!(
        "{:28} {:>7} {:>7} {:>11} {:>10}",
        "", "wall s", "CPU s", "wall ratio", "CPU ratio"
    ));
    for durability in ["os", "disk"] {
        let raw = best(|| raw(length, durability == "disk"));
        let name = if durability == "disk" { "raw recv+write+fdatasync" } else { "raw recv+write" };
        row(name, raw, raw);
        row(&format!("hoist h1, durability {durability}"), best(|| served(length, durability, over_h1)), raw);
        let over_h2 = |addr, length| runtime.block_on(over_h2(addr, length));
        row(&format!("hoist h2, durability {durability}"), best(|| served(length, durability, over_h2)), raw);
    }
}

fn row(name: &str, cost: Cost, baseline: Cost) {
    let (wall, cpu) = (cost.wall / baseline.wall, cost.cpu / baseline.cpu);
    print_note(format_args!("{name:28} {:7.2} {:7.2} {wall:11.2} {cpu:10.2}", cost.wall, cost.cpu));
}

fn best(mut run: impl FnMut() -> Cost) -> Cost {
    (1..ROUNDS).fold(run(), |best, _| best.less(run()))
}

/// Measures the baseline: a thread that copies from a socket to a file.
fn raw(length: usize, syncs: bool) -> Cost {
    let home = ServerDir::new();
    let path = home.path("raw");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let receiver = thread::spawn(move || {
        let (mut tcp, _) = listener.accept().expect("a connection");
        let before = cpu("/proc/thread-self/stat");
        let mut file = File::create(path).expect("a file");
        let mut buf = vec![0; BUFFER_BYTES];
        let mut left = length;
        while left > 0 {
            let count = tcp.read(&mut buf).expect("bytes");
            file.write_all(&buf[..count]).expect("a write");
            left -= count;
        }
        if syncs {
            file.sync_data().expect("a sync");
        }
        tcp.write_all(b"!").expect("an answer");
        cpu("/proc/thread-self/stat") - before
    });
    let began = Instant::now();
    let mut tcp = TcpStream::connect(addr).expect("a connection");
    send(&mut tcp, length);
    tcp.read_exact(&mut [0]).expect("an answer");
    let wall = began.elapsed().as_secs_f64();
    Cost { wall, cpu: receiver.join().expect("no panic") }
}

fn send(tcp: &mut TcpStream, length: usize) {
    let buf = vec![0x5a; BUFFER_BYTES];
    for _ in 0..length / BUFFER_BYTES {
        tcp.write_all(&buf).expect("room");
    }
}

/// Measures the server with one upload.
fn served(length: usize, durability: &str, upload: impl Fn(SocketAddr, usize)) -> Cost {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--durability", durability]);
    let stat = format!("/proc/{}/stat", server.pid());
    let before = cpu(&stat);
    let began = Instant::now();
    upload(server.addr, length);
    let wall = began.elapsed().as_secs_f64();
    Cost { wall, cpu: cpu(&stat) - before }
}

fn over_h1(addr: SocketAddr, length: usize) {
    let mut tcp = TcpStream::connect(addr).expect("a connection");
    tcp.set_nodelay(true).expect("a socket");
    let head = format!(
        "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: large\r\nContent-Length: {length}\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).expect("room");
    send(&mut tcp, length);
    let mut answer = [0; 12];
    tcp.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 204");
}

async fn over_h2(addr: SocketAddr, length: usize) {
    let tcp = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    tcp.set_nodelay(true).expect("a socket");
    let h2 = H2::on(tcp).await.expect("an h2 connection");
    let mut streams = h2.streams.clone().ready().await.expect("room for a stream");
    let request = TestRequest::new("POST", "large").h2();
    let (response, mut stream) = streams.send_request(request, false).expect("sent");
    let buf = Bytes::from(vec![0x5a; BUFFER_BYTES]);
    for left in (0..length / BUFFER_BYTES).rev() {
        h2_send(&mut stream, buf.clone(), left == 0).await.expect("sent");
    }
    assert_eq!(response.await.expect("an answer").status().as_u16(), 204);
}

/// Returns the processor time of a process or thread in seconds, user and system, with ticks of 10 ms.
fn cpu(stat: &str) -> f64 {
    let text = fs::read_to_string(stat).expect("it runs");
    // The name in parentheses may contain any character.
    let behind = text.rsplit_once(')').expect("a name").1;
    let ticks =
        behind.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

fn small(runtime: &tokio::runtime::Runtime) {
    print_note(format_args!(
        "\n{SMALL_UPLOADS} uploads of {} KiB over {CONNECTIONS} connections, the best of {ROUNDS} rounds",
        SMALL_BYTES >> 10
    ));
    let disk = std::env::temp_dir();
    let memory = Path::new("/dev/shm");
    let cases = [("os, data in memory", memory, "os"), ("os", &*disk, "os"), ("disk", &*disk, "disk")];
    let mut baseline = None;
    for (name, place, durability) in cases {
        let cost = best(|| runtime.block_on(many(place, durability)));
        let baseline = *baseline.get_or_insert(cost);
        print_note(format_args!(
            "hoist h1, durability {name:20} {:8.0} a second ({:.2} of the first), {:.0} us CPU each ({:.2})",
            f64::from(SMALL_UPLOADS) / cost.wall,
            baseline.wall / cost.wall,
            cost.cpu / f64::from(SMALL_UPLOADS) * 1e6,
            cost.cpu / baseline.cpu,
        ));
    }
}

async fn many(place: &Path, durability: &str) -> Cost {
    let home = ServerDir::new();
    let data = tempfile::tempdir_in(place).expect("a directory");
    let server = Server::at(&home, &data.path().join("data"), &["--durability", durability]);
    let warm = server.request(Transport::H1, TestRequest::new("POST", "first").sized(b"hello")).await;
    assert!(warm.is_complete(), "{warm:?}");
    let stat = format!("/proc/{}/stat", server.pid());
    let before = cpu(&stat);
    let began = Instant::now();
    let mut all = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let addr = server.addr;
        all.spawn(async move {
            let mut tcp = tokio::net::TcpStream::connect(addr).await.expect("a connection");
            tcp.set_nodelay(true).expect("a socket");
            let content = [0x5a; SMALL_BYTES];
            let mut answer = Vec::with_capacity(4096);
            for number in 0..SMALL_UPLOADS / CONNECTIONS {
                let request =
                    TestRequest::new("POST", &format!("small-{connection}-{number}")).sized(content);
                tcp.write_all(&request.h1()).await.expect("room");
                answer.clear();
                while !answer.ends_with(b"\r\n\r\n") {
                    assert!(tcp.read_buf(&mut answer).await.expect("an answer") > 0);
                }
                assert!(answer.starts_with(b"HTTP/1.1 204"));
            }
        });
    }
    all.join_all().await;
    let wall = began.elapsed().as_secs_f64();
    Cost { wall, cpu: cpu(&stat) - before }
}
