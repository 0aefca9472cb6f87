//! `hoist serve` as a child process, with a data directory that outlives it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    Exchange, TIMEOUT, TestRequest, TestResponse, Transport, poll_until, print_note, within_timeout,
};

/// A temporary directory with the data directory and other files of a test.
pub(crate) struct ServerDir(TempDir);

impl ServerDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns the content of all complete uploads that still have it.
    pub(crate) fn done(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.data().join("done")).expect("the shelf");
        let contents = entries.map(|entry| entry.expect("an entry").path().join("content"));
        contents
            .filter(|content| content.exists())
            .map(|content| fs::read(content).expect("content"))
            .collect()
    }

    /// Returns the content of the only complete upload.
    ///
    /// # Panics
    /// If any other upload is stored.
    pub(crate) fn only_complete(&self) -> Vec<u8> {
        assert_eq!(self.uploads("open"), 0, "an upload is still open");
        let mut all = self.done();
        assert_eq!(all.len(), 1, "one upload, one directory");
        all.remove(0)
    }

    /// Returns the number of uploads in `open` or `done`.
    pub(crate) fn uploads(&self, on: &str) -> usize {
        fs::read_dir(self.data().join(on)).expect("the shelf").count()
    }

    /// Returns the content of all unfinished uploads, as far as it is in files.
    pub(crate) fn open(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.data().join("open")).into_iter().flatten().flatten();
        // An upload may be moving to `done`.
        entries.filter_map(|entry| fs::read(entry.path().join("content")).ok()).collect()
    }

    /// Waits until the unfinished uploads hold this many bytes together.
    pub(crate) async fn holds(&self, bytes: usize) {
        let open = self.data().join("open");
        let held = || {
            let entries = fs::read_dir(&open).into_iter().flatten().flatten();
            let lengths = entries.filter_map(|entry| fs::metadata(entry.path().join("content")).ok());
            lengths.map(|content| content.len()).sum::<u64>()
        };
        poll_until(&format!("{bytes} bytes in the data directory"), || {
            (held() >= bytes as u64).then_some(())
        })
        .await;
    }

    /// Returns the standard error of all servers in this directory.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }
}

/// The result of a server that could not start.
#[derive(Debug)]
pub(crate) struct ExitReport {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running server, killed on drop.
pub(crate) struct Server {
    child: Child,
    lines: Mutex<mpsc::Receiver<String>>,
    log: PathBuf,
    pub(crate) addr: SocketAddr,
    pub(crate) url: String,
    pub(crate) tls: Option<tokio_rustls::TlsConnector>,
}

impl Server {
    pub(crate) fn start(home: &ServerDir, flags: &[&str]) -> Self {
        Self::at(home, &home.data(), flags)
    }

    /// Starts a server on another data directory.
    pub(crate) fn at(home: &ServerDir, data: &Path, flags: &[&str]) -> Self {
        Self::spawn(home, command(data, flags))
    }

    /// Starts a server through another program, given with its arguments.
    pub(crate) fn under(home: &ServerDir, program: &[String], flags: &[&str]) -> Self {
        let server = command(&home.data(), flags);
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]).arg(server.get_program()).args(server.get_args());
        for (name, _) in server.get_envs() {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self::spawn(home, command)
    }

    fn spawn(home: &ServerDir, mut command: Command) -> Self {
        let log = home.path("log");
        let stderr = OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = command.stderr(stderr).spawn().expect("a process");
        Self::adopt(home, child)
    }

    /// Takes over a server that was started with its standard output as a pipe. Its log is the file in `home`, if any.
    pub(crate) fn adopt(home: &ServerDir, mut child: Child) -> Self {
        let log = home.path("log");
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        let lines = Mutex::new(lines);
        // The thread ends with the process, whose output it reads.
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut server =
            Self { child, lines, log, addr: ([0, 0, 0, 0], 0).into(), url: String::new(), tls: None };
        let Ok(line) = server.lines.get_mut().expect("unlocked").recv_timeout(TIMEOUT) else {
            panic!("the server did not start: {}", fs::read_to_string(&server.log).unwrap_or_default())
        };
        let url = line.strip_prefix("hoist listening on ").expect("the agreed line");
        let authority = url.split_once("://").expect("a scheme").1;
        server.addr = authority.split('/').next().expect("an authority").parse().expect("an address");
        url.clone_into(&mut server.url);
        server
    }

    /// Runs a server that is expected to fail to start.
    pub(crate) async fn fail(home: &ServerDir, data: &Path, flags: &[&str]) -> ExitReport {
        let (out, err) = (home.path("failed.out"), home.path("failed.err"));
        let mut command = command(data, flags);
        command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
        let mut child = KillOnDrop(command.spawn().expect("a process"));
        let status = poll_until("the server to give up", || child.0.try_wait().expect("a child")).await;
        let text = |path| fs::read_to_string(path).expect("text");
        ExitReport { code: status.code(), stdout: text(out), stderr: text(err) }
    }

    /// Sends SIGTERM to a server that is still starting, and returns its exit code.
    pub(crate) async fn stop_starting(home: &ServerDir) -> Option<i32> {
        let mut command = command(&home.data(), &[]);
        let mut child = KillOnDrop(command.stdout(Stdio::null()).spawn().expect("a process"));
        let status = format!("/proc/{}/status", child.0.id());
        let listens = || {
            let status = fs::read_to_string(&status).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
            (caught >> (Signal::TERM.as_raw() - 1) & 1 == 1).then_some(())
        };
        poll_until("the server to listen to signals", listens).await;
        let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a process id")).expect("not zero");
        kill_process(pid, Signal::TERM).expect("it runs");
        poll_until("the server to stop", || child.0.try_wait().expect("a child")).await.code()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a process id")).expect("not zero");
        kill_process(pid, signal).expect("it runs");
    }

    /// Stops the server with SIGTERM and asserts a graceful shutdown.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let child = &mut self.child;
        let status = poll_until("the server to stop", || child.try_wait().expect("a child")).await;
        assert_eq!(status.code(), Some(0), "SIGTERM: {}", self.log());
        assert!(
            self.lines.get_mut().expect("unlocked").try_recv().is_err(),
            "one line on stdout, and no more"
        );
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// Returns the peak resident memory in bytes.
    pub(crate) fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("a line");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    }

    /// Sends a request on a new connection.
    ///
    /// # Panics
    /// If there is no response.
    pub(crate) async fn request(&self, transport: Transport, request: TestRequest) -> TestResponse {
        let what = format!("{transport:?} {request:?}");
        let got = self.try_request(transport, request).await;
        got.unwrap_or_else(|lost| panic!("{what}: {lost:?}"))
    }

    pub(crate) async fn try_request(
        &self,
        transport: Transport,
        request: TestRequest,
    ) -> Result<TestResponse, super::TransportError> {
        let what = format!("{transport:?} {request:?}");
        let mut exchange = Exchange::begin(self, transport, request, u64::MAX).await?;
        within_timeout(&what, exchange.answer()).await
    }

    /// Returns the offset of an upload, or the status if there is none.
    pub(crate) async fn offset(&self, transport: Transport, token: &str) -> Result<usize, u16> {
        let got = self.request(transport, TestRequest::new("HEAD", token)).await;
        got.offset().filter(|_| got.status == 204).ok_or(got.status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let log = self.log();
            for bug in ["panicked at", "ended in a bug"] {
                assert!(!log.contains(bug), "the server had a bug: {log}");
            }
        } else if std::env::var_os("HOIST_LOG").is_some() {
            print_note(format_args!("{}", self.log()));
        }
    }
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn command(data: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hoist"));
    // Removes all settings and the seed from the environment.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOIST_")) {
        command.env_remove(name);
    }
    command.args(["serve", "--data"]).arg(data).args(flags);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
