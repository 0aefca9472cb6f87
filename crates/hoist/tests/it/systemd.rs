//! Supervision by systemd: notifications, the watchdog and passed sockets, with sockets that a test plays systemd on; and
//! the unit files in `contrib/`.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{ServerDir, TIMEOUT, command, poll_until, print_note, within_timeout};

/// A server that notifies a socket of the test, killed on drop.
struct Supervised {
    child: Child,
    socket: UnixDatagram,
}

impl Supervised {
    /// Starts the server with these variables. It gets `passed` as the first passed socket.
    fn start(home: &ServerDir, variables: &[(&str, &str)], passed: Option<OwnedFd>, flags: &[&str]) -> Self {
        let path = home.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("set");
        let mut command = command(&home.data(), flags);
        if passed.is_some() {
            let server = command;
            // The shell moves its standard input to the first passed descriptor, and keeps its process id.
            command = Command::new("sh");
            let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
            command.args(["-c", script]).arg(server.get_program()).args(server.get_args());
            for (name, _) in server.get_envs() {
                command.env_remove(name);
            }
        }
        command.env("NOTIFY_SOCKET", &path).envs(variables.iter().copied()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(home.path("log")).expect("a log"));
        if let Some(passed) = passed {
            command.stdin(Stdio::from(passed));
        }
        Self { child: command.spawn().expect("a process"), socket }
    }

    /// Returns the lines of the next notification.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a notification");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// Returns the next notification that contains a line.
    fn until(&self, line: &str) -> Vec<String> {
        loop {
            let notification = self.next();
            if notification.iter().any(|other| other == line) {
                return notification;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id")).expect("not zero");
        kill_process(pid, signal).expect("it runs");
    }

    async fn ended(&mut self) -> Option<i32> {
        poll_until("the server to stop", || self.child.try_wait().expect("a child")).await.code()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn monotonic_microseconds() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().expect("positive"), now.tv_nsec.try_into().expect("positive"))
        .as_micros()
}

#[tokio::test]
async fn the_supervisor_is_told_of_start_reload_and_stop() {
    let home = ServerDir::new();
    let mut server = Supervised::start(&home, &[], None, &[]);
    let ready = server.next();
    assert!(ready.contains(&"READY=1".to_owned()), "{ready:?}");
    assert!(
        ready.iter().any(|line| line.starts_with("STATUS=hoist listening on http://127.0.0.1:")),
        "{ready:?}"
    );

    let before = monotonic_microseconds();
    server.signal(Signal::HUP);
    let reloading = server.next();
    assert!(reloading.contains(&"RELOADING=1".to_owned()), "{reloading:?}");
    let time = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("a time");
    let time: u128 = time.parse().expect("a number");
    assert!((before..=monotonic_microseconds()).contains(&time), "{time}");
    assert!(server.next().contains(&"READY=1".to_owned()));

    server.signal(Signal::TERM);
    let stopping = server.next();
    assert!(stopping.contains(&"STOPPING=1".to_owned()), "{stopping:?}");
    assert_eq!(server.ended().await, Some(0));
}

#[tokio::test]
async fn the_status_says_that_a_reload_has_failed() {
    let home = ServerDir::new();
    let file = home.path("hoist.toml");
    std::fs::write(&file, "max-size = \"1GiB\"\n").expect("written");
    let server = Supervised::start(&home, &[], None, &["--config", &home.text("hoist.toml")]);
    server.until("READY=1");
    std::fs::write(&file, "max-size = \"1GuB\"\n").expect("written");
    server.signal(Signal::HUP);
    let ready = server.until("READY=1");
    assert!(
        ready.iter().any(|line| line.starts_with("STATUS=") && line.contains("reload failed")),
        "{ready:?}"
    );
}

#[tokio::test]
async fn the_watchdog_is_fed() {
    let home = ServerDir::new();
    let server = Supervised::start(&home, &[("WATCHDOG_USEC", "50000")], None, &[]);
    server.until("READY=1");
    for _ in 0..3 {
        server.until("WATCHDOG=1");
    }
}

async fn health(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut seen = String::new();
    within_timeout("a response", stream.read_to_string(&mut seen)).await.expect("read");
    seen
}

#[tokio::test]
async fn passed_sockets_are_served_and_their_files_stay() {
    let home = ServerDir::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = tcp.local_addr().expect("an address");
    let mut server = Supervised::start(&home, &[], Some(tcp.into()), &[]);
    // Before the server is ready, the kernel accepts on its behalf.
    let early = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    let ready = server.until("READY=1");
    let status = format!("STATUS=hoist listening on http://{addr}/uploads");
    assert!(ready.contains(&status), "only the passed socket: {ready:?}");
    assert!(health(early).await.starts_with("HTTP/1.1 200 "));
    let log = std::fs::read_to_string(home.path("log")).expect("a log");
    assert!(log.contains("--listen is ignored"), "{log}");
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));

    let path = home.path("socket");
    let unix = UnixListener::bind(&path).expect("a listener");
    let mut server = Supervised::start(&home, &[], Some(unix.into()), &[]);
    server.until("READY=1");
    let stream = tokio::net::UnixStream::connect(&path).await.expect("a connection");
    assert!(health(stream).await.starts_with("HTTP/1.1 200 "));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    assert!(path.exists(), "the file belongs to systemd");
}

#[tokio::test]
async fn a_passed_socket_that_cannot_be_served_is_an_error() {
    let home = ServerDir::new();
    let datagram = UnixDatagram::unbound().expect("a socket");
    let (connection, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
    for (socket, why) in [
        (OwnedFd::from(datagram), "neither a TCP nor a unix stream socket"),
        (connection.into(), "it does not listen"),
    ] {
        let mut server = Supervised::start(&home, &[], Some(socket), &[]);
        assert_eq!(server.ended().await, Some(4));
        let log = std::fs::read_to_string(home.path("log")).expect("a log");
        assert!(log.contains("socket 1 of LISTEN_FDS") && log.contains(why), "{log}");
    }
}

/// Copies the unit files of `contrib/` into a directory, with the program of this build.
fn units(home: &ServerDir) -> Vec<PathBuf> {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib");
    let units = ["hoist.service", "hoist.socket"].map(|name| {
        let text = std::fs::read_to_string(contrib.join(name)).expect(name);
        let text = text.replace("/usr/bin/hoist", env!("CARGO_BIN_EXE_hoist"));
        std::fs::write(home.path(name), text).expect("written");
        home.path(name)
    });
    units.into()
}

/// Runs `systemd-analyze`, or returns `None` with a note if it is not installed.
fn analyze(words: &[&str], units: &[PathBuf]) -> Option<std::process::Output> {
    let run = Command::new("systemd-analyze").args(words).args(units).stdin(Stdio::null()).output();
    match run {
        Ok(output) => Some(output),
        Err(error) => {
            print_note(format_args!("skipped: systemd-analyze cannot be run: {error}"));
            None
        }
    }
}

#[test]
fn the_unit_files_pass_the_verifier() {
    let home = ServerDir::new();
    let Some(output) = analyze(&["verify", "--man=no"], &units(&home)) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Complaints about the test's own directory, and about units of the machine, are not about these files.
    let about_them = said.lines().filter(|line| line.contains("hoist."));
    assert!(output.status.success() && about_them.count() == 0, "{said}");
}

#[test]
fn the_service_is_confined() {
    let home = ServerDir::new();
    let units = units(&home);
    // Exposure from 0 to 10, times ten.
    let words = ["security", "--offline=true", "--no-pager", "--threshold=20"];
    let Some(output) = analyze(&words, &units[..1]) else { return };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("unrecognized option") {
        return print_note(format_args!("skipped: this systemd-analyze has no offline check"));
    }
    assert!(output.status.success(), "{said}");
}
