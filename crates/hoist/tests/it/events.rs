//! Events of the real server, with receivers that fail or hang, and with servers that are killed at random moments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child_process::{TIMEOUT, run, spin_until};
use crate::harness::{SeededRng, Server, ServerDir, print_note, seeds};

const SECRET: &str = "s3cret-of-a-client";

/// An HTTP server that remembers the events it got, in the order in which it answered.
struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The id of each event that was taken.
    taken: Mutex<Vec<String>>,
    requests: AtomicUsize,
    /// True if no request is answered.
    hangs: AtomicBool,
    /// The number of requests of which one fails; none if zero.
    fails_one_in: AtomicUsize,
}

impl Receiver {
    /// Starts a receiver. Its threads end with the process.
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serving.serve(&connection));
            }
        });
        Self { address, shared }
    }

    fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().expect("no panic").clone()
    }
}

impl Shared {
    /// Answers the requests on a connection, until its peer closes it.
    fn serve(&self, connection: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(connection.try_clone().ok()?);
        loop {
            let (id, content) = read_event(&mut reader)?;
            let event: Value = serde_json::from_slice(&content).expect("JSON");
            assert_eq!(event["id"], id.as_str(), "the id of the event is that of the delivery");
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            if self.hangs.load(Ordering::Relaxed) {
                std::thread::park();
            }
            let fails = match self.fails_one_in.load(Ordering::Relaxed) {
                0 => false,
                one_in => number.is_multiple_of(one_in),
            };
            if !fails {
                self.taken.lock().expect("no panic").push(id);
            }
            let status = if fails { "500 Internal Server Error" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            (&*connection).write_all(answer.as_bytes()).ok()?;
        }
    }
}

/// Reads a request. Returns its `webhook-id` and its content.
fn read_event(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut id, mut bytes) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            if line.trim_end().is_empty() {
                break;
            }
            continue; // the request line
        };
        match name.to_ascii_lowercase().as_str() {
            "webhook-id" => value.clone_into(&mut id),
            "content-length" => bytes = value.parse().ok()?,
            _ => {}
        }
    }
    let mut content = vec![0; bytes];
    reader.read_exact(&mut content).ok()?;
    Some((id, content))
}

/// A response: its status, and its `Location`.
struct Answer {
    status: u16,
    location: Option<String>,
}

/// Sends a request on a new connection. Returns `None` if there is no whole response head.
fn send(to: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)], content: &[u8]) -> Option<Answer> {
    let mut connection = TcpStream::connect_timeout(&to, TIMEOUT).ok()?;
    connection.set_read_timeout(Some(TIMEOUT)).ok()?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\nauthorization: \
         Bearer {SECRET}\r\ncookie: {SECRET}\r\n",
        content.len()
    );
    for (name, value) in fields {
        write!(head, "{name}: {value}\r\n").expect("writing to a string");
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes()).ok()?;
    connection.write_all(content).ok()?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let mut heads = answer.split("\r\n\r\n").filter(|head| !head.starts_with("HTTP/1.1 1"));
    let mut lines = heads.next()?.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut fields = lines.filter_map(|line| line.split_once(": "));
    let location = fields.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    let location = location.map(|(_, url)| url.find("/uploads").map_or(url, |at| &url[at..]).to_owned());
    Some(Answer { status, location })
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const OFFSET_TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");

/// The outcomes that clients know for certain.
#[derive(Default)]
struct Known {
    uploads: usize,
    finished: usize,
    /// The ids of uploads whose removal was acknowledged.
    terminated: Vec<String>,
}

/// Makes an upload of a random dialect, in one request or several. Returns `None` if a request has no response.
fn upload(to: SocketAddr, number: usize, rng: &mut SeededRng, known: &Mutex<Known>) -> Option<()> {
    let finished = |answer: &Answer| {
        assert!((200..300).contains(&answer.status), "status {}", answer.status);
        known.lock().expect("no panic").finished += 1;
    };
    let content = rng.bytes(rng.clone().below(3) * 9000 + 10);
    let half = content.len() / 2;
    let token = format!("token-of-upload-{number}");
    known.lock().expect("no panic").uploads += 1;
    match rng.below(6) {
        0 => finished(&send(to, "POST", "/uploads?from=here", &[("upload-token", &token)], &content)?),
        1 => {
            let fields = [("upload-token", token.as_str()), ("upload-complete", "?0")];
            send(to, "POST", "/uploads", &fields, &content[..half])?;
            let offset = half.to_string();
            let fields =
                [("upload-token", token.as_str()), ("upload-offset", &offset), ("upload-complete", "?1")];
            finished(&send(to, "PATCH", "/uploads", &fields, &content[half..])?);
        }
        2 => finished(&send(to, "POST", "/uploads", &[("content-type", "text/plain")], &content)?),
        3 => {
            let fields = [("upload-draft-interop-version", "8"), ("upload-complete", "?1")];
            finished(&send(to, "POST", "/uploads", &fields, &content)?);
        }
        kind => {
            let length = content.len().to_string();
            let fields = [TUS, OFFSET_TYPE, ("upload-length", &length)];
            let path = send(to, "POST", "/uploads", &fields, &content[..half])?.location?;
            if kind == 4 {
                let offset = half.to_string();
                let fields = [TUS, OFFSET_TYPE, ("upload-offset", &offset)];
                finished(&send(to, "PATCH", &path, &fields, &content[half..])?);
            } else {
                let answer = send(to, "DELETE", &path, &[TUS], b"")?;
                assert_eq!(answer.status, 204);
                let id = path.rsplit('/').next().expect("a segment").to_owned();
                known.lock().expect("no panic").terminated.push(id);
            }
        }
    }
    Some(())
}

/// Uploads from several threads to a server that may be another one for each upload.
struct Clients {
    target: Arc<Mutex<Option<SocketAddr>>>,
    known: Arc<Mutex<Known>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(count: u64, seed: u64) -> Self {
        let (target, known) = (Arc::<Mutex<Option<SocketAddr>>>::default(), Arc::<Mutex<Known>>::default());
        let is_over = Arc::<AtomicBool>::default();
        let numbers = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|client| {
            let (target, known, is_over) = (Arc::clone(&target), Arc::clone(&known), Arc::clone(&is_over));
            let (numbers, mut rng) = (Arc::clone(&numbers), SeededRng(seed ^ client << 32));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let to = *target.lock().expect("no panic");
                    let made = to
                        .and_then(|to| upload(to, numbers.fetch_add(1, Ordering::Relaxed), &mut rng, &known));
                    if made.is_none() {
                        std::thread::yield_now();
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { target, known, is_over, threads }
    }

    fn go_to(&self, address: Option<SocketAddr>) {
        *self.target.lock().expect("no panic") = address;
    }

    fn end(self) -> Known {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        std::mem::take(&mut *self.known.lock().expect("no panic"))
    }
}

/// Returns the ids of the uploads in `open` or `done`.
fn ids(home: &ServerDir, group: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(home.data().join(group)).expect("the shelf");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}

/// Returns the ids of the finished uploads. A kill may have come before their move to `done`.
fn finished_ids(home: &ServerDir) -> BTreeSet<String> {
    let is_finished = |group: &str, id: &String| {
        let record = fs::read_to_string(home.data().join(group).join(id).join("record"));
        record.is_ok_and(|record| record.contains("\"phase\": \"delivered\""))
    };
    let of = |group| ids(home, group).into_iter().filter(move |id| is_finished(group, id));
    of("open").chain(of("done")).collect()
}

/// Returns the position of the first event of each type, by upload and type.
fn firsts(taken: &[String]) -> BTreeMap<(&str, &str), usize> {
    let mut firsts = BTreeMap::new();
    for (at, id) in taken.iter().enumerate() {
        firsts.entry(id.split_once('.').expect("an id and a type")).or_insert(at);
    }
    firsts
}

fn of_kind(taken: &[String], kind: &str) -> BTreeSet<String> {
    firsts(taken).into_keys().filter(|(_, of)| *of == kind).map(|(id, _)| id.to_owned()).collect()
}

fn assert_contains_no_secret(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_contains_no_secret(&path);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            for secret in [SECRET, "token-of-upload-"] {
                assert!(!text.contains(secret), "{} contains {secret}", path.display());
            }
        }
    }
}

/// The time in which everything must be delivered after the last start, and that in which a recovery finishes uploads.
const SETTLED_IN: Duration = Duration::from_secs(30);
const RECOVERED_IN: Duration = Duration::from_secs(2);

/// Kills a server at random moments while clients upload, and checks the events that were received.
fn kill_at_random(seed: u64, kills: usize) {
    let mut rng = SeededRng(seed);
    let (receiver, home) = (Receiver::new(), ServerDir::new());
    receiver.shared.fails_one_in.store(7, Ordering::Relaxed);
    let url = receiver.url();
    let flags = ["--events", &url, "--drain-timeout", "1s"];
    let clients = Clients::start(3, seed);
    for _ in 0..kills {
        let server = Server::start(&home, &flags);
        clients.go_to(Some(server.addr));
        // time itself is tested: the server is killed at a random moment
        std::thread::sleep(Duration::from_millis(200 + rng.up_to(500)));
        clients.go_to(None);
        server.kill();
    }
    let known = clients.end();
    receiver.shared.fails_one_in.store(0, Ordering::Relaxed);
    let server = Server::start(&home, &flags);
    // An upload that was complete when the server was killed is finished a second after the next start.
    let (begun, mut finished_elsewhere) = (Instant::now(), BTreeSet::new());
    while begun.elapsed() < SETTLED_IN {
        let listed = run(&["events", "ls", "--json", "--data", &home.text("data")]);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        let finished = of_kind(&receiver.taken(), "finished");
        finished_elsewhere = finished.symmetric_difference(&finished_ids(&home)).cloned().collect();
        if listed.stdout.is_empty() && finished_elsewhere.is_empty() && begun.elapsed() > RECOVERED_IN {
            break;
        }
    }
    let wrong = format!("seed {seed}: finished and not told, or the reverse: {finished_elsewhere:?}");
    assert!(finished_elsewhere.is_empty(), "{wrong}");
    let taken = receiver.taken();
    let (created, finished) = (of_kind(&taken, "created"), of_kind(&taken, "finished"));
    let (open, done) = (ids(&home, "open"), ids(&home, "done"));
    assert!(known.finished <= finished.len(), "seed {seed}");
    let terminated = of_kind(&taken, "terminated");
    for id in &known.terminated {
        assert!(terminated.contains(id), "seed {seed}: {id} was removed");
    }
    let ended = terminated.union(&of_kind(&taken, "failed")).cloned().collect::<BTreeSet<_>>();
    for id in &created {
        let is_real = open.contains(id) || done.contains(id) || ended.contains(id);
        assert!(is_real, "seed {seed}: {id} was never created");
    }
    let firsts = firsts(&taken);
    for (id, kind) in firsts.keys().filter(|(_, kind)| *kind != "created") {
        let (at, before) = (firsts[&(*id, *kind)], firsts.get(&(*id, "created")));
        assert!(before.is_some_and(|before| *before < at), "seed {seed}: {id}.{kind} before its creation");
        assert!(*kind != "finished" || !ended.contains(*id), "seed {seed}: {id} has two ends");
    }
    assert_contains_no_secret(&home.data());
    let (uploads, distinct) = (known.uploads, firsts.len());
    print_note(format_args!(
        "seed {seed}: {uploads} uploads, {kills} kills, {} events received, {distinct} distinct, {} finished",
        taken.len(),
        finished.len()
    ));
    drop(server);
}

#[test]
fn events_are_complete_and_true_however_often_the_server_is_killed() {
    for seed in seeds(1..2) {
        kill_at_random(seed, 12);
    }
}

/// A receiver that takes requests and never answers delays no upload, and its events are listed and kept.
#[test]
fn a_receiver_that_hangs_delays_no_upload() {
    const UPLOADS: usize = 60;
    let (receiver, home) = (Receiver::new(), ServerDir::new());
    receiver.shared.hangs.store(true, Ordering::Relaxed);
    let url = receiver.url();
    let server = Server::start(&home, &["--events", &url, "--drain-timeout", "1s"]);
    let begun = Instant::now();
    for number in 0..UPLOADS {
        let token = format!("token-of-upload-{number}");
        let answer = send(server.addr, "POST", "/uploads", &[("upload-token", &token)], b"hello");
        assert!(answer.is_some_and(|answer| answer.status < 300));
    }
    // The receiver has 15 seconds for each answer.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let listed = run(&["events", "ls", "--json", "--data", &home.text("data")]);
    assert_eq!(listed.stdout.lines().count(), 2 * UPLOADS, "{listed:?}");
    let first: Value = serde_json::from_str(listed.stdout.lines().next().expect("a line")).expect("JSON");
    let id = first["id"].as_str().expect("text").to_owned();
    let shown = run(&["events", "show", &id, "--json", "--data", &home.text("data")]);
    let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!((&shown["state"], &shown["event"]["id"]), (&"pending".into(), &id.as_str().into()));
    let data = home.text("data");
    for refused in
        [&["events", "retry", "--all", "--data", &data][..], &["events", "drop", &id, "--data", &data]]
    {
        let refused = run(refused);
        assert_eq!(refused.code, Some(11), "{refused:?}");
        assert!(refused.stderr.contains("stop it first"), "{refused:?}");
    }
    server.kill();
    let dropped = run(&["events", "drop", &id, "--data", &data]);
    assert_eq!(dropped.code, Some(0), "{dropped:?}");
    let listed = run(&["events", "ls", "--data", &data]);
    assert_eq!(listed.stdout.lines().count(), 2 * UPLOADS, "one less, and a heading: {listed:?}");
    assert!(!listed.stdout.contains(&id), "{listed:?}");
    let unknown = run(&["events", "drop", &id, "--data", &data]);
    assert_eq!(unknown.code, Some(6), "{unknown:?}");
}

#[test]
fn a_program_receives_events_and_its_failure_repeats_them() {
    let home = ServerDir::new();
    let (program, out) = (home.text("tell"), home.text("told"));
    // Fails the first time.
    let script = format!(
        "#!/bin/sh\nif [ ! -e {out}.failed ]; then touch {out}.failed; echo not yet >&2; exit 3; fi\necho \"$WEBHOOK_ID $1\" >> \
         {out}\ncat >> {out}.json\n"
    );
    fs::write(&program, script).expect("is written");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("is set");
    let server = Server::start(&home, &["--events", &format!("exec:{program} 'a b'")]);
    let answer = send(server.addr, "POST", "/uploads", &[("upload-token", "abcdef")], b"hello");
    assert!(answer.is_some_and(|answer| answer.status < 300));
    let told = || fs::read_to_string(&out).unwrap_or_default();
    spin_until(Instant::now(), || told().lines().count() == 2);
    let told = told();
    let lines = told.lines().collect::<Vec<_>>();
    assert!(lines[0].ends_with(".created a b") && lines[1].ends_with(".finished a b"), "{lines:?}");
    assert!(server.log().contains("not yet"), "{}", server.log());
}

#[test]
fn sinks_that_cannot_work_are_reported_at_the_start() {
    let home = ServerDir::new();
    let data = home.text("data");
    fs::write(home.path("bad"), "not-a-secret\n").expect("is written");
    let bad = home.text("bad");
    for (flags, expected) in [
        (&["--events", "ftp://e.example"][..], "not a sink of events"),
        (&["--events", "exec:/no/such/program"], "not found"),
        (&["--events", "http://127.0.0.1:1/", "--events-secret-file", &bad], "line 1"),
        (&["--events", "http://127.0.0.1:1/", "--events-secret-file", "/no/such/file"], "cannot read"),
        (&["--events", "http://a:1/", "--events", "http://b@a:1/"], "given twice"),
    ] {
        let words = [&["serve", "--listen", "127.0.0.1:0", "--data", &data], flags].concat();
        let failed = run(&words);
        assert_eq!(failed.code, Some(3), "{flags:?}: {failed:?}");
        assert!(failed.stderr.contains(expected) && !failed.stderr.contains("not-a-secret"), "{failed:?}");
    }
}
