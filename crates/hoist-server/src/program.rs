//! Programs of the operator, run within bounds: hooks, and recipients of events.
//!
//! Owns the time that a program may take, the bytes that it may write, and the number of programs that run at once.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process;
use tokio::sync::Semaphore;

const STDOUT_BYTES_MAX: usize = 64 << 10;
/// The bytes of its standard error that are kept. The rest is discarded, so that the program is not blocked.
const STDERR_BYTES_MAX: usize = 4 << 10;

/// The time for which the output is still read after the program has ended. All that it wrote is read by then; a program
/// that it started and left behind may keep the pipes open for hours.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// Variables by which a service manager talks to the server and not to the programs it runs.
const SERVICE_MANAGER_VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// Runs programs, a limited number at once and each for a limited time.
pub(crate) struct Programs {
    permits: Semaphore,
    timeout: Duration,
}

/// A program to run: without a shell, in the environment of the server and its user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'a> {
    /// The file, or a name that is looked up in `PATH`.
    pub(crate) file: &'a Path,
    pub(crate) arguments: &'a [String],
    /// The working directory; `None` for that of the server.
    pub(crate) directory: Option<&'a Path>,
    /// Variables besides those of the server.
    pub(crate) variables: &'a [(&'static str, String)],
}

/// A program that has ended by itself.
#[derive(Debug)]
pub(crate) struct Exited {
    pub(crate) status: i32,
    /// All of its standard output.
    pub(crate) stdout: Vec<u8>,
    /// The beginning of its standard error.
    pub(crate) stderr: String,
}

/// The reason why a program has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error("cannot be run: {0}")]
    NotRun(std::io::Error),
    #[error("took longer than {0:?}")]
    TooSlow(Duration),
    #[error("was ended by a signal: {0}")]
    Killed(std::process::ExitStatus),
    #[error("wrote more than {STDOUT_BYTES_MAX} bytes to standard output")]
    TooMuchOutput,
    #[error("cannot be waited for: {0}")]
    Lost(std::io::Error),
}

impl Programs {
    /// Runs at most `running_max` programs at once, each for at most `timeout`. A wait for its turn counts towards the time.
    pub(crate) fn new(running_max: usize, timeout: Duration) -> Self {
        Self { permits: Semaphore::new(running_max), timeout }
    }

    /// Runs a program to its end, with `input` as its standard input.
    ///
    /// # Errors
    /// Returns an error unless the program ends by itself, in time, and without too much output. It is killed otherwise,
    /// with the programs that it has started.
    ///
    /// # Cancellation
    /// If dropped, the program is killed.
    pub(crate) async fn run(&self, program: Program<'_>, input: &[u8]) -> Result<Exited, ProgramError> {
        let run = async {
            let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
            program.run(input).await
        };
        tokio::time::timeout(self.timeout, run).await.unwrap_or(Err(ProgramError::TooSlow(self.timeout)))
    }
}

impl Program<'_> {
    async fn run(self, input: &[u8]) -> Result<Exited, ProgramError> {
        let mut command = process::Command::new(self.file);
        for name in SERVICE_MANAGER_VARIABLES {
            command.env_remove(name);
        }
        if let Some(directory) = self.directory {
            command.current_dir(directory);
        }
        let mut child = command
            .args(self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, to be killed as a whole: a shell leaves behind what it waits for.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(ProgramError::NotRun)?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        let (mut stdin, mut stdout, mut stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut output, mut messages) = (Kept::new(STDOUT_BYTES_MAX), Kept::new(STDERR_BYTES_MAX));
        let write = async {
            if let Some(mut stdin) = stdin.take() {
                // The program may exit without reading its input.
                let _ = stdin.write_all(input).await;
            }
        };
        let mut talk = Box::pin(async {
            tokio::join!(write, output.read(stdout.as_mut()), messages.read(stderr.as_mut()));
        });
        let mut is_silent = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut talk, if !is_silent => is_silent = true,
            }
        };
        let status = status.map_err(ProgramError::Lost)?;
        group.ended();
        if !is_silent {
            let _ = tokio::time::timeout(OUTPUT_GRACE, &mut talk).await;
        }
        drop(talk);
        let Some(status) = status.code() else { return Err(ProgramError::Killed(status)) };
        if output.is_cut {
            return Err(ProgramError::TooMuchOutput);
        }
        let stderr = String::from_utf8_lossy(&messages.bytes).into_owned();
        Ok(Exited { status, stdout: output.bytes, stderr })
    }
}

/// The processes of a program, killed when this is dropped before the program has ended.
struct Group(Option<Pid>);

impl Group {
    /// Leaves the processes alone: after the end of the program its number may be that of another one.
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails if the processes have ended by themselves.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The beginning of an output.
struct Kept {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_cut: bool,
}

impl Kept {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, is_cut: false }
    }

    /// Reads to the end, and keeps the beginning.
    async fn read(&mut self, from: Option<&mut (impl AsyncRead + Unpin)>) {
        let Some(from) = from else { return };
        let mut piece = [0; 4096];
        // A pipe that cannot be read has no more to say.
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let fits = count.min(self.bytes_max - self.bytes.len());
            self.bytes.extend_from_slice(&piece[..fits]);
            self.is_cut |= fits < count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn shell(script: &str, input: &[u8], timeout: Duration) -> Result<Exited, ProgramError> {
        let arguments = ["-c".to_owned(), script.to_owned()];
        let variables = [("GREETING", "hello".to_owned())];
        let program = Program {
            file: Path::new("/bin/sh"),
            arguments: &arguments,
            directory: Some(Path::new("/")),
            variables: &variables,
        };
        Programs::new(2, timeout).run(program, input).await
    }

    #[tokio::test]
    async fn a_program_gets_its_input_variables_and_directory() {
        let ended = shell("pwd; echo $GREETING; cat; echo why >&2; exit 3", b"in", PATIENCE).await;
        let ended = ended.expect("it ends");
        assert_eq!((ended.status, &*ended.stdout, &*ended.stderr), (3, &b"/\nhello\nin"[..], "why\n"));
    }

    #[tokio::test]
    async fn a_program_need_not_read_its_input() {
        let input = vec![b'x'; 1 << 20];
        assert_eq!(shell("exit 0", &input, PATIENCE).await.expect("it ends").status, 0);
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let flood = shell("head -c 100000 /dev/zero", b"", PATIENCE).await;
        assert!(matches!(flood, Err(ProgramError::TooMuchOutput)), "{flood:?}");
        let chatty = shell("head -c 100000 /dev/zero >&2", b"", PATIENCE).await.expect("it ends");
        assert_eq!(chatty.stderr.len(), STDERR_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_killed_has_no_result() {
        let program =
            Program { file: Path::new("/no/such/program"), arguments: &[], directory: None, variables: &[] };
        let missing = Programs::new(1, PATIENCE).run(program, b"").await;
        assert!(matches!(missing, Err(ProgramError::NotRun(_))), "{missing:?}");
        let killed = shell("kill -9 $$", b"", PATIENCE).await;
        assert!(matches!(killed, Err(ProgramError::Killed(_))), "{killed:?}");
    }

    #[tokio::test]
    async fn a_slow_program_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("pid");
        // The shell waits for the sleep, which a kill of the shell alone would leave behind.
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let slow = shell(&script, b"", Duration::from_millis(500)).await;
        assert!(matches!(slow, Err(ProgramError::TooSlow(_))), "{slow:?}");
        let pid = std::fs::read_to_string(&file).expect("the program began");
        let status = format!("/proc/{}/stat", pid.trim());
        let gone = async {
            while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("killed");
    }

    #[tokio::test]
    async fn a_job_that_a_program_leaves_behind_delays_nothing() {
        let ended = shell("echo said; sleep 600 & echo $!", b"", PATIENCE).await.expect("it ends");
        let text = String::from_utf8(ended.stdout).expect("text");
        let pid = text.strip_prefix("said\n").and_then(|pid| pid.trim().parse().ok());
        let pid = Pid::from_raw(pid.expect("the number of the job")).expect("not zero");
        // It is still there, so this succeeds.
        rustix::process::kill_process(pid, Signal::KILL).expect("the job goes on");
    }
}
