//! A server's process: its start, and the processor time and memory it uses.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

/// The time limit for a server to listen. A million retained uploads may have to be read before.
const START_MAX: Duration = Duration::from_mins(5);

/// A running server. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    /// The time from the start of the process to the first connection that it accepted.
    pub(crate) start_up: Duration,
}

/// Returns an address of this machine with a free port.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}

impl Process {
    /// Starts a server and waits until it listens at `addr`. Its output goes to the file `log`.
    pub(crate) fn start(command: &mut Command, addr: SocketAddr, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let began = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let mut process = Self { child, start_up: Duration::ZERO };
        while TcpStream::connect(addr).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{command:?} ended with {status}:\n{}", last_lines(log));
            }
            if began.elapsed() > START_MAX {
                bail!("{command:?} does not listen after {START_MAX:?}:\n{}", last_lines(log));
            }
            thread::sleep(Duration::from_micros(200));
        }
        process.start_up = began.elapsed();
        Ok(process)
    }

    /// Returns whether the server has not ended.
    pub(crate) fn is_running(&self) -> Result<bool> {
        Ok(self.cpu().is_ok()
            && !fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?.contains(") Z "))
    }

    /// Returns the processor time that the process and its children have used, user and system, of all threads that run
    /// or have ended. The resolution is a nanosecond.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for pid in self.pids() {
            let clock = clock_getcpuclockid(Pid::from_raw(pid)).context("the server has ended")?;
            total += Duration::from(clock.now()?);
        }
        Ok(total)
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn rss(&self) -> Result<u64> {
        self.pids().into_iter().map(|pid| kib(&format!("/proc/{pid}/smaps_rollup"), "Rss:")).sum()
    }

    /// Returns the largest resident memory so far, in bytes.
    pub(crate) fn peak_rss(&self) -> Result<u64> {
        self.pids().into_iter().map(|pid| kib(&format!("/proc/{pid}/status"), "VmHWM:")).sum()
    }

    /// Returns the ids of the process and all processes below it.
    fn pids(&self) -> Vec<i32> {
        let mut pids = vec![i32::try_from(self.child.id()).expect("Linux has 2^22 ids")];
        let mut at = 0;
        while let Some(pid) = pids.get(at).copied() {
            at += 1;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            }
        }
        pids
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.pids().into_iter().rev() {
            // A process that has ended by itself cannot be killed, which is as good.
            let _ = rustix::process::Pid::from_raw(pid)
                .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let _ = self.child.wait();
    }
}

/// Returns a number of a file in `/proc`, which gives it in KiB, in bytes.
fn kib(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("no {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let number = line.split_whitespace().next().context("no number")?;
    Ok(number.parse::<u64>()? << 10)
}

/// Returns the last lines of a log.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
