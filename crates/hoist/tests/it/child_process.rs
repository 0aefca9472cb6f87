//! The `hoist` command as a child process that ends with the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The time limit of any wait; longer means failure.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

/// Returns the command with these arguments, in an environment without settings.
pub(crate) fn hoist<S: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoist"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOIST_")) {
        command.env_remove(name);
    }
    for small in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(small).env_remove(small.to_ascii_uppercase());
    }
    // A separate journal, so that no test reads that of the user.
    command.env("XDG_STATE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/state"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs the command and returns its output.
pub(crate) fn run(words: &[&str]) -> ExitReport {
    hoist(words).output().expect("it runs").into()
}

/// The exit code and output of a command.
#[derive(Debug)]
pub(crate) struct ExitReport {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl ExitReport {
    /// Returns the events of `hoist put --json`.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Returns the first event of a kind.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn event(&self, kind: &str) -> Value {
        let found = self.events().into_iter().find(|event| event["event"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}: {self:?}"))
    }
}

impl From<Output> for ExitReport {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// A child process, killed on drop.
pub(crate) struct ChildProcess {
    child: Child,
    stdout: mpsc::Receiver<String>,
    readers: Vec<JoinHandle<String>>,
}

impl ChildProcess {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let (lines, stdout) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut err = child.stderr.take().expect("piped");
        let out = std::thread::spawn(move || {
            let mut all = String::new();
            for line in out.lines() {
                let line = line.expect("text");
                all.push_str(&line);
                all.push('\n');
                let _ = lines.send(line);
            }
            all
        });
        let err = std::thread::spawn(move || {
            let mut all = String::new();
            err.read_to_string(&mut all).expect("text");
            all
        });
        Self { child, stdout, readers: vec![out, err] }
    }

    /// Starts a command whose standard input the test writes.
    pub(crate) fn with_stdin(command: Command) -> (Self, std::process::ChildStdin) {
        let mut process = Self::start(command);
        let stdin = process.child.stdin.take().expect("piped");
        (process, stdin)
    }

    /// Waits for the next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.stdout.recv_timeout(TIMEOUT).expect("a line")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signalled");
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Waits for the process to end.
    pub(crate) fn ended(mut self) -> ExitReport {
        // Standard output is closed when the process ends.
        loop {
            match self.stdout.recv_timeout(TIMEOUT) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    self.child.kill().expect("our child");
                    let texts = self.readers.drain(..).map(|reader| reader.join().expect("read"));
                    panic!("it does not end: {:?}", texts.collect::<Vec<_>>());
                }
            }
        }
        let code = self.child.wait().expect("our child").code();
        let mut texts = self.readers.drain(..).map(|reader| reader.join().expect("read"));
        let (stdout, stderr) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        drop(texts);
        ExitReport { code, stdout, stderr }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls a condition until it is true.
pub(crate) fn spin_until(start: Instant, mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        assert!(start.elapsed() < TIMEOUT, "it never came to be");
        std::thread::yield_now();
    }
}

/// A server on a free port.
pub(crate) struct Server {
    process: ChildProcess,
    /// The ready line.
    pub(crate) line: String,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        let data = data.display().to_string();
        let words = ["serve", "--listen", "127.0.0.1:0", "--log-level", "trace", "--data", &data];
        let process = ChildProcess::start(hoist(words.iter().chain(more)));
        let line = process.line();
        let url = line.strip_prefix("hoist listening on ").expect("the contract").to_owned();
        Self { process, line, url }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let (_, rest) = self.url.split_once("://").expect("a URL");
        let (address, _) = rest.split_once('/').expect("a path");
        address.parse().expect("an address")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn ended(self) -> ExitReport {
        self.process.ended()
    }

    /// Stops the server with SIGTERM and checks its exit code.
    pub(crate) fn stop(self) -> ExitReport {
        self.signal(Signal::TERM);
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }

    /// Sends bytes on a new connection.
    pub(crate) fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut connection = TcpStream::connect(self.address()).expect("connected");
        connection.set_read_timeout(Some(TIMEOUT)).expect("set");
        connection.write_all(bytes).expect("sent");
        connection
    }

    /// Sends a request without content and returns the response.
    pub(crate) fn request(&self, head: &str) -> String {
        let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut answer = String::new();
        self.send(head.as_bytes()).read_to_string(&mut answer).expect("an answer");
        answer
    }
}

/// A temporary directory, removed on drop.
pub(crate) struct TestDir(tempfile::TempDir);

impl TestDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("written");
        self.text(name)
    }
}
