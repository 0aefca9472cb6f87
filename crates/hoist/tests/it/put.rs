//! `hoist put` with cut connections, with servers that are killed, and killed itself at any moment.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::child_process::{ChildProcess, ExitReport, hoist};
use crate::faulty_proxy::{Direction, Fault, Proxy};
use crate::harness::{Cut, SeededRng, Server, ServerDir, bytes, poll_until, seeds};

const DIALECTS: [&str; 16] = [
    "auto",
    "ietf-3",
    "ietf-4",
    "ietf-5",
    "ietf-6",
    "ietf-7",
    "ietf-8",
    "ietf-9",
    "ietf-10",
    "ietf-rfc",
    "token",
    "token-draft",
    "token-1",
    "token-2",
    "tus1",
    "ietf",
];

/// Returns the command with a journal in the test's directory.
fn put(home: &ServerDir, words: &[&str]) -> ChildProcess {
    let mut command = hoist(["put"].iter().chain(words).chain(&["--json", "--retry-for", "30s"]));
    command.env("XDG_STATE_HOME", home.path("state"));
    ChildProcess::start(command)
}

async fn ended(put: ChildProcess) -> ExitReport {
    tokio::task::spawn_blocking(move || put.ended()).await.expect("it ends")
}

// proves: TOK-TOKEN-06
#[tokio::test]
async fn a_file_is_uploaded_although_the_server_keeps_crashing() {
    let home = ServerDir::new();
    let content = bytes(1, 48 << 20);
    fs::write(home.path("film"), &content).expect("written");
    let mut server = Server::start(&home, &[]);
    let listen = server.addr.to_string();
    let mut put = Some(put(&home, &[&home.text("film"), &server.url]));
    let mut deaths = 0;
    for (round, signal) in [Signal::KILL, Signal::TERM, Signal::KILL].into_iter().enumerate() {
        let bytes = (round + 1) * (8 << 20);
        let has_ended = || put.as_mut().is_some_and(ChildProcess::has_ended);
        if has_come_to(&home, bytes, has_ended).await {
            break;
        }
        if signal == Signal::KILL {
            server.kill();
        } else {
            server.stop().await;
        }
        server = Server::start(&home, &["--listen", &listen]);
        deaths += 1;
    }
    assert!(deaths > 0, "it was too fast");
    let ended = ended(put.take().expect("running")).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(home.only_complete() == content);
    server.stop().await;
}

/// Waits until the server holds this many bytes. Returns false if the command ends before.
async fn has_come_to(home: &ServerDir, bytes: usize, mut has_ended: impl FnMut() -> bool) -> bool {
    poll_until("bytes or an end", || {
        let held = home.open().iter().map(Vec::len).sum::<usize>();
        if held >= bytes { Some(false) } else { has_ended().then_some(true) }
    })
    .await
}

/// Kills the upload of a file at random moments and restarts it with the same command. Returns the numbers of kills and
/// of resumed runs.
async fn dies_and_goes_on(seed: u64) -> (usize, usize) {
    const LENGTH: usize = 16 << 20;
    const HEADS: u64 = 6000;
    let mut rng = SeededRng(seed);
    let dialect = ["auto", "ietf-6", "token", "tus1", "ietf-3"][rng.below(5)];
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = rng.bytes(LENGTH);
    fs::write(home.path("film"), &content).expect("written");
    // Slow enough to kill it at chosen moments.
    let slow = Fault::Slow { way: Direction::Up, piece: 32 << 10, late: Duration::from_millis(1) };
    let proxy = Proxy::start(&server, vec![Some(slow); 64]).await;
    let (film, url) = (home.text("film"), proxy.url("/uploads"));
    let (mut kills, mut resumed) = (0, 0);
    loop {
        poll_until("the line to be free", || proxy.is_idle().then_some(())).await;
        let (sent, held) = (proxy.up(), home.open().iter().map(Vec::len).max().unwrap_or_default());
        let mut put = put(&home, &[&film, &url, "--dialect", dialect]);
        // Kills happen in heads as well as in content.
        let after = [rng.below(2500), rng.below(LENGTH / 10)][usize::from(!rng.one_in(3))] as u64;
        let is_dead = poll_until("a moment to die", || {
            let ended = put.has_ended();
            (ended || proxy.up() - sent >= after).then_some(!ended)
        })
        .await;
        let dies = is_dead && kills < 7;
        if dies {
            put.signal(Signal::KILL);
        }
        let ended = ended(put).await;
        let what = format!("seed {seed} in {dialect}, after {kills} deaths: {ended:?}");
        let again = proxy.up() - sent;
        if let Some(send) = ended.stdout.lines().find(|line| line.contains("\"event\":\"send\"")) {
            let told: serde_json::Value = serde_json::from_str(send).expect("JSON");
            let offset = told["offset"].as_u64().expect("an offset");
            assert!(again <= LENGTH as u64 - offset + HEADS, "sent again what was acknowledged: {what}");
            if told["start"] == "resumed" {
                resumed += 1;
                assert!(offset >= held as u64, "begun before the server's offset of {held}: {what}");
            }
        }
        if ended.code.is_some() {
            assert_eq!(ended.code, Some(0), "{what}");
            break;
        }
        kills += 1;
    }
    let done = home.done();
    assert!(done.len() == 1 && done[0] == content, "seed {seed}: {} uploads", done.len());
    let journal = fs::read_dir(home.path("state/hoist/uploads")).expect("a journal");
    assert_eq!(journal.count(), 0, "nothing is under way any more");
    (kills, resumed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_command_resumes_without_sending_content_twice() {
    let (mut kills, mut resumed) = (0, 0);
    for seed in seeds(0..6) {
        let (killed, went_on) = dies_and_goes_on(seed).await;
        kills += killed;
        resumed += went_on;
    }
    assert!(kills > 12 && resumed > 6, "it was too fast: {kills} deaths, {resumed} runs went on");
}

/// Uploads over a link that is cut thirty times.
async fn is_cut(dialect: &'static str, seed: u64) {
    const CUTS: usize = 30;
    let mut rng = SeededRng(seed);
    let home = ServerDir::new();
    let server = Server::start(&home, &["--interim", "always"]);
    let length = 600_000 + rng.below(600_000);
    let content = rng.bytes(length);
    fs::write(home.path("film"), &content).expect("written");
    let cut = |rng: &mut SeededRng| {
        let (how, after) = ([Cut::Fin, Cut::Rst][rng.below(2)], rng.below(length / 40) as u64);
        Some(Fault::Cut { way: Direction::Up, after, how })
    };
    let mut script: Vec<_> = (0..CUTS).map(|_| cut(&mut rng)).collect();
    script.push(Some(Fault::Swallow { after: rng.below(length / 2) as u64 }));
    let proxy = Proxy::start(&server, script).await;
    // PUT may be repeated if the response is lost before the upload's URL is known.
    let method = if dialect.starts_with("token") { "post" } else { "put" };
    let (film, url) = (home.text("film"), proxy.url("/uploads"));
    let ended = ended(put(&home, &[&film, &url, "--dialect", dialect, "--method", method])).await;
    assert_eq!(ended.code, Some(0), "seed {seed} in {dialect}: {ended:?}");
    let done = home.done();
    assert!(!done.is_empty() && done.iter().all(|done| *done == content), "seed {seed} in {dialect}");
    assert!(proxy.faults() >= CUTS as u64, "{dialect}: {} cuts: {ended:?}", proxy.faults());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn put_survives_thirty_cuts_in_every_dialect() {
    let mut all = JoinSet::new();
    for (number, dialect) in DIALECTS.into_iter().enumerate() {
        all.spawn(is_cut(dialect, number as u64));
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_parts_of_one_file_survive_cuts() {
    for (seed, dialect) in ["tus1", "token", "auto"].into_iter().enumerate() {
        let mut rng = SeededRng(seed as u64);
        let home = ServerDir::new();
        let server = Server::start(&home, &[]);
        let content = rng.bytes(4 << 20);
        fs::write(home.path("film"), &content).expect("written");
        let cut = |after| Some(Fault::Cut { way: Direction::Up, after, how: Cut::Rst });
        let script: Vec<_> = (0..12).map(|_| cut(rng.below(300_000) as u64)).collect();
        let proxy = Proxy::start(&server, script).await;
        let (film, url) = (home.text("film"), proxy.url("/uploads"));
        let ended = ended(put(&home, &[&film, &url, "--dialect", dialect, "--parts", "3"])).await;
        assert_eq!(ended.code, Some(0), "{dialect}: {ended:?}");
        assert!(proxy.faults() >= 8, "{dialect}: {ended:?}");
        assert!(home.done().contains(&content), "{dialect}: the bytes are the bytes");
    }
}

#[tokio::test]
async fn standard_input_survives_cuts() {
    use std::io::Write as _;
    use std::process::Stdio;

    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(5, 3 << 20);
    let cut = |after| Some(Fault::Cut { way: Direction::Up, after, how: Cut::Rst });
    let proxy = Proxy::start(&server, [cut(200_000), cut(700_000), cut(400_000)]).await;
    let mut command = hoist(["put", "-", &proxy.url("/uploads"), "--name", "from a pipe", "--json"]);
    let mut child = command
        .env("XDG_STATE_HOME", home.path("state"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let writing = content.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&writing).expect("taken"));
    let ended: ExitReport = tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("no panic")
        .expect("a child")
        .into();
    writer.join().expect("no panic");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(home.only_complete() == content);
    let done = ended.event("done");
    assert_eq!((&done["file"], &done["bytes"]), (&"-".into(), &content.len().into()), "{done}");
    assert!(proxy.faults() > 0);
    server.stop().await;
}

#[tokio::test]
async fn a_stopped_command_is_resumed_by_the_command_it_prints() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(6, 8 << 20);
    fs::write(home.path("film"), &content).expect("written");
    let slow = Fault::Slow { way: Direction::Up, piece: 16 << 10, late: Duration::from_millis(2) };
    let proxy = Proxy::start(&server, vec![Some(slow); 3]).await;
    let running = put(&home, &[&home.text("film"), &proxy.url("/uploads")]);
    home.holds(2 << 20).await;
    running.signal(Signal::INT);
    let ended = ended(running).await;
    assert_eq!(ended.code, Some(130), "{ended:?}");
    let again = ended.event("interrupted")["resume"].as_str().expect("a command").to_owned();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &again]).env("XDG_STATE_HOME", home.path("state"));
    let ended: ExitReport =
        tokio::task::spawn_blocking(move || shell.output()).await.expect("no panic").expect("it runs").into();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let send = ended.event("send");
    assert_eq!(send["start"], "resumed");
    assert!(send["offset"].as_u64() >= Some(2 << 20), "{send}");
    assert!(home.only_complete() == content);
    server.stop().await;
}
