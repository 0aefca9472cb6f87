//! tus-js-client, as people install it, speaking the two versions of the draft it knows: through a proxy that loses what
//! it can, everything arrives.
//!
//! The releases are those of `tests/node/package-lock.json`. They are installed once, below the target directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::harness::{Ask, Dice, Got, Home, PATIENCE, Server, WIRES, Wire, bytes, say, seeds};
use crate::proxy::{Fault, Proxy};

const OS: [&str; 2] = ["--durability", "os"];
const MIB: usize = 1 << 20;

/// For clients that send everything and do not say that it was everything.
const AT_LENGTH: [&str; 2] = ["--ietf-complete-at-length", "v5-v6"];

/// A release of the library and a version of the draft.
#[derive(Clone, Copy, Debug)]
struct Client {
    release: u8,
    protocol: &'static str,
    interop: &'static str,
}

const CLIENTS: [Client; 4] = [
    Client { release: 4, protocol: "ietf-draft-03", interop: "5" },
    Client { release: 4, protocol: "ietf-draft-05", interop: "6" },
    Client { release: 5, protocol: "ietf-draft-03", interop: "5" },
    Client { release: 5, protocol: "ietf-draft-05", interop: "6" },
];

/// Where the library is installed, or nothing where there is no Node to install it with.
fn installed() -> Option<&'static Path> {
    static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
    PLACE.get_or_init(install).as_deref()
}

fn install() -> Option<PathBuf> {
    let version = |tool: &str| {
        let output = std::process::Command::new(tool).arg("--version").stdin(Stdio::null()).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    for tool in ["node", "npm"] {
        if version(tool).is_none() {
            say(format_args!("not tested: there is no {tool} on this machine"));
            return None;
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
    let lock = fs::read(source.join("package-lock.json")).expect("the lock file");
    let print = lock.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tus-js-client-{print:016x}"));
    if !place.exists() {
        // Aside, so that what is there is whole, whoever else installs it at this moment.
        let aside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), aside.path().join(name)).expect("copied");
        }
        let mut npm = std::process::Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(aside.path());
        let output = npm.stdin(Stdio::null()).output().expect("npm runs");
        assert!(output.status.success(), "npm ci: {}", String::from_utf8_lossy(&output.stderr));
        let renamed = fs::rename(aside.path(), &place);
        assert!(renamed.is_ok() || place.exists(), "{renamed:?}");
    }
    // What this repository owns of it may have changed since.
    let script = tempfile::NamedTempFile::new_in(&place).expect("a file");
    fs::copy(source.join("upload.js"), script.path()).expect("copied");
    script.persist(place.join("upload.js")).expect("renamed");
    Some(place)
}

/// What became of a job, as the script says it.
#[derive(Debug)]
struct Done(Value);

impl Done {
    fn outcome(&self) -> &str {
        self.0["outcome"].as_str().expect("an outcome")
    }

    fn requests(&self) -> &[Value] {
        self.0["requests"].as_array().expect("requests")
    }

    /// The path of the upload.
    fn path(&self) -> String {
        let url: http::Uri = self.0["url"].as_str().expect("a URL").parse().expect("a URL");
        url.path().to_owned()
    }

    /// How many requests there were of a method.
    fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|request| request["method"] == method).count()
    }

    fn succeeded(self) -> Self {
        assert_eq!(self.outcome(), "success", "{:#}", self.0);
        self
    }
}

/// One test's server, content, and client.
struct Bench {
    place: &'static Path,
    home: Home,
    server: Server,
    content: Vec<u8>,
    file: String,
}

impl Bench {
    fn new(content: Vec<u8>, flags: &[&str]) -> Option<Self> {
        let place = installed()?;
        let home = Home::new();
        let server = Server::start(&home, &[&OS, flags].concat());
        let file = home.text("content.bin");
        fs::write(&file, &content).expect("written");
        Some(Self { place, home, server, content, file })
    }

    /// Runs a job; what it does not say is as the library has it.
    async fn run(&self, client: Client, proxy: &Proxy, job: Value) -> Done {
        let mut whole = json!({
            "release": client.release,
            "protocol": client.protocol,
            "endpoint": proxy.url("/uploads"),
            "file": self.file,
            "source": "buffer",
        });
        let own = whole.as_object_mut().expect("an object");
        own.extend(job.as_object().expect("an object").clone());
        let mut node = tokio::process::Command::new("node");
        node.arg(self.place.join("upload.js")).arg(whole.to_string());
        node.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = node.spawn().expect("node runs");
        let output = tokio::time::timeout(PATIENCE * 2, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{client:?} does not end: {whole}")).expect("a child");
        let said = String::from_utf8_lossy(&output.stdout);
        let done = serde_json::from_str(&said);
        let done = done.unwrap_or_else(|_| {
            panic!("{client:?} {whole}: {said} {}", String::from_utf8_lossy(&output.stderr))
        });
        Done(done)
    }

    /// What a client of the newest version sees of an upload.
    async fn state(&self, path: &str) -> Got {
        self.server.ask(Wire::H1, Ask::to("HEAD", path).field("upload-draft-interop-version", 8)).await
    }

    /// The upload the client ended with is complete, and everything that is complete is the content.
    async fn holds(&self, done: &Done) {
        let state = self.state(&done.path()).await;
        assert!(state.is_complete(), "{state:?} after {:#}", done.0);
        assert_eq!(state.offset(), Some(self.content.len()));
        let stored = self.home.done();
        assert!(!stored.is_empty() && stored.iter().all(|stored| *stored == self.content), "other bytes");
    }

    /// For the next upload of the same bench.
    async fn clear(&self, done: &Done) {
        for wire in WIRES {
            let ask = Ask::to("DELETE", &done.path()).field("upload-draft-interop-version", 8);
            let status = self.server.ask(wire, ask).await.status;
            assert!(matches!(status, 204 | 404), "{status}");
        }
    }
}

/// A way to upload, and how many appends it takes.
fn ways() -> [(Value, usize); 6] {
    [
        (json!({}), 1),
        (json!({ "during": true }), 0),
        (json!({ "source": "file" }), 1),
        (json!({ "chunk": MIB }), 4),
        (json!({ "chunk": MIB, "source": "file", "during": true }), 3),
        (json!({ "chunk": MIB, "source": "stream", "deferred": true }), 4),
    ]
}

// proves: IETF-CRE-16, IETF-VER-01, IETF-VER-03
#[tokio::test]
async fn tus_js_client_uploads_whole_in_chunks_and_with_a_length_to_come() {
    let Some(bench) = Bench::new(bytes(41, 3 * MIB + 12_345), &AT_LENGTH) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for (job, appends) in ways() {
            let done = bench.run(client, &proxy, job.clone()).await.succeeded();
            bench.holds(&done).await;
            assert!(bench.home.sole() == bench.content, "{client:?} {job}");
            assert_eq!((done.count("POST"), done.count("PATCH")), (1, appends), "{client:?} {job}");
            for request in done.requests() {
                assert_eq!(request["status"], 201, "{client:?} {job}: {request}");
                assert_eq!(request["got"]["Upload-Draft-Interop-Version"], client.interop, "{request}");
            }
            bench.clear(&done).await;
        }
    }
    assert_eq!(proxy.faults(), 0);
    assert!(proxy.up() > 24 * 3 * MIB as u64 && proxy.down() > 0 && proxy.connections() >= 24);
}

/// By the text nothing is complete that nobody said is complete, and there are files of which release 4 never says it: those
/// it reads from disk in chunks. It says that it has uploaded them.
// proves: IETF-CMP-03
#[tokio::test]
async fn tus_js_client_leaves_uploads_incomplete_that_it_calls_done() {
    let Some(bench) = Bench::new(bytes(45, 3 * MIB + 12_345), &[]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        for (job, _) in ways().into_iter().skip(3) {
            let done = bench.run(client, &proxy, job.clone()).await.succeeded();
            let state = bench.state(&done.path()).await;
            let is_said = client.release != 4 || job["source"] != "file";
            assert_eq!(
                (state.offset(), state.is_complete()),
                (Some(bench.content.len()), is_said),
                "{client:?} {job}"
            );
            bench.clear(&done).await;
        }
    }
}

/// Release 4 and 5 create an empty file with `?0`, and that is all, unless they are told to send data with creations.
// proves: IETF-CMP-03
#[tokio::test]
async fn tus_js_client_and_the_empty_file() {
    for flags in [&[][..], &AT_LENGTH] {
        let Some(bench) = Bench::new(Vec::new(), flags) else { return };
        let proxy = Proxy::start(&bench.server, []).await;
        for client in CLIENTS {
            for during in [false, true] {
                let done = bench.run(client, &proxy, json!({ "during": during })).await.succeeded();
                assert_eq!(done.requests().len(), 1, "{:#}", done.0);
                let state = bench.state(&done.path()).await;
                assert_eq!(state.is_complete(), during || !flags.is_empty(), "{client:?} {during} {flags:?}");
                assert_eq!((state.status, state.offset()), (204, Some(0)));
                bench.clear(&done).await;
            }
        }
    }
}

#[tokio::test]
async fn tus_js_client_goes_on_from_a_url_it_has_stored() {
    let Some(bench) = Bench::new(bytes(42, 4 << 20), &AT_LENGTH) else { return };
    for (number, client) in CLIENTS.into_iter().enumerate() {
        let proxy = Proxy::start(&bench.server, []).await;
        let storage = bench.home.text(&format!("storage-{number}"));
        let job = |more: Value| {
            let mut job = json!({ "source": "file", "chunk": 1 << 20, "storage": storage });
            job.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            job
        };
        let first = bench.run(client, &proxy, job(json!({ "abortAfter": 2_500_000 }))).await;
        assert_eq!(first.outcome(), "aborted", "{:#}", first.0);
        let state = bench.state(&first.path()).await;
        assert!(!state.is_complete() && state.offset() >= Some(2 << 20), "{state:?}");
        let sent = proxy.up();
        let second = bench.run(client, &proxy, job(json!({ "resume": true }))).await.succeeded();
        assert_eq!(second.path(), first.path());
        assert_eq!((second.count("POST"), second.count("HEAD")), (0, 1), "{:#}", second.0);
        assert!(proxy.up() - sent < (2 << 20) + 5000, "sent again what was there");
        bench.holds(&second).await;
        bench.clear(&second).await;
    }
}

#[tokio::test]
async fn tus_js_client_terminates() {
    let Some(bench) = Bench::new(bytes(43, 2 << 20), &[]) else { return };
    let proxy = Proxy::start(&bench.server, []).await;
    for client in CLIENTS {
        let job = json!({ "chunk": 256 << 10, "abortAfter": 600_000, "terminate": true });
        let done = bench.run(client, &proxy, job).await;
        assert_eq!((done.outcome(), done.count("DELETE")), ("aborted", 1), "{:#}", done.0);
        assert_eq!(bench.state(&done.path()).await.status, 404);
        assert_eq!(bench.home.uploads("open") + bench.home.uploads("done"), 0, "everything of it is gone");
    }
}

/// An upload whose connections meet faults by a seed, and how it went.
async fn interrupted(client: Client, seed: u64) {
    let mut dice = Dice(seed);
    let length = [100_000, 1 << 20, 3 << 20][dice.below(3)] + dice.below(5000);
    let Some(bench) = Bench::new(dice.bytes(length), &AT_LENGTH) else { return };
    let proxy = Proxy::by_seed(&bench.server, seed, length, 12).await;
    let source = ["buffer", "file"][dice.below(2)];
    let mut job = json!({ "source": source, "retries": 100 });
    if dice.one_in(2) {
        job["chunk"] = (length / (2 + dice.below(4)) + 1).into();
    }
    job["during"] = dice.one_in(2).into();
    let done = bench.run(client, &proxy, job.clone()).await;
    let faults = proxy.faults();
    let requests = done.requests().len();
    say(format_args!("seed {seed} {client:?} {job} {length} bytes: {requests} requests, {faults} faults"));
    bench.holds(&done.succeeded()).await;
}

#[tokio::test]
async fn tus_js_client_4_resumes_whatever_is_lost() {
    for seed in seeds(0..12) {
        interrupted(CLIENTS[usize::from(seed % 2 == 1)], seed).await;
    }
}

#[tokio::test]
async fn tus_js_client_5_resumes_whatever_is_lost() {
    for seed in seeds(12..24) {
        interrupted(CLIENTS[2 + usize::from(seed % 2 == 1)], seed).await;
    }
}

/// How an upload ends whose last request is lost in part: the outcome for the user, and whether it is complete.
fn ending_by_the_text(client: Client, source: &str, fault: Fault) -> (&'static [&'static str], bool) {
    let finds_the_length = client.interop == "6";
    match fault {
        // Everything arrived, only the client does not know. Version 5 has no length in the answer to a retrieval, so the
        // library sends what is missing: nothing, which it cannot read from a file and which is an error to an upload that is
        // complete.
        Fault::Swallow { .. } if finds_the_length => (&["success"], true),
        Fault::Swallow { .. } => (&["error", "crash"], true),
        // All bytes arrived, but not the end. With the length at hand the library thinks that this is all there is to it.
        _ if client.release == 4 => (&["success"], true), // content of a length that is told has no such end
        _ if finds_the_length => (&["success"], false),
        _ if source == "buffer" => (&["success"], true),
        _ => (&["error", "crash"], false),
    }
}

// proves: IETF-CMP-04, IETF-RET-04
#[tokio::test]
async fn tus_js_client_and_the_loss_of_the_last_answer_or_the_last_byte() {
    const LENGTH: usize = 300_000;
    for flags in [&[][..], &AT_LENGTH] {
        let Some(bench) = Bench::new(bytes(44, LENGTH), flags) else { return };
        for client in CLIENTS {
            for source in ["buffer", "file"] {
                let after = LENGTH as u64;
                for fault in [Fault::Swallow { after }, Fault::BeforeEnd { after }] {
                    let proxy = Proxy::start(&bench.server, [Some(fault)]).await;
                    let done = bench.run(client, &proxy, json!({ "source": source, "retries": 3 })).await;
                    let what = format!("{flags:?} {client:?} {source} {fault:?} {:#}", done.0);
                    let (outcomes, is_complete) = match flags {
                        [] => ending_by_the_text(client, source, fault),
                        _ => (&["success"][..], true),
                    };
                    assert!(outcomes.contains(&done.outcome()), "{what}");
                    let state = bench.state(&done.path()).await;
                    assert_eq!((state.offset(), state.is_complete()), (Some(LENGTH), is_complete), "{what}");
                    bench.clear(&done).await;
                }
            }
        }
    }
}
