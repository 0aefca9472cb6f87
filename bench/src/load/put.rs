//! The cost of a client that sends a file. Here the client is measured, not the server.

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::content::Content;
use crate::launch::Launch;
use crate::sample::{Cost, Sample};

/// A program that sends a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Client {
    /// `curl -T`.
    Curl,
    HoistPut,
}

/// A file of this length, sent by the client of the contender.
#[derive(Clone)]
pub(crate) struct Put {
    pub(crate) bytes: u64,
}

impl Put {
    pub(super) fn run(&self, launch: &Launch) -> Result<Sample> {
        let target = launch.start(&[])?;
        let path = launch.file();
        let mut file = File::create(&path)?;
        for piece in target.content.pieces(0, self.bytes, Content::PIECE_MAX) {
            file.write_all(&piece)?;
        }
        drop(file);
        let url = format!("http://{}{}", target.address.addr, target.endpoint);
        let mut command = match launch.client() {
            Client::Curl => {
                let mut curl = Command::new("curl");
                curl.args(["--silent", "--fail", "-T"]).arg(&path).arg(format!("{url}/"));
                curl
            }
            Client::HoistPut => {
                let mut hoist = Command::new(launch.executable());
                hoist.args(["put", "--no-resume", "--quiet"]).arg(&path).arg(url);
                hoist
            }
        };
        let (before, began) = (children_cpu()?, Instant::now());
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let wall = began.elapsed();
        // The server runs on, so the command is the only child that has ended meanwhile.
        let cpu = children_cpu()?.saturating_sub(before);
        ensure!(output.status.success(), "{command:?} ended with {}", output.status);
        Ok(Cost { wall, cpu }.per_gib(self.bytes))
    }
}

/// Returns the processor time of the children that have ended.
fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: TimeVal| -> Result<Duration> {
        Ok(Duration::from_secs(time.tv_sec().try_into()?) + Duration::from_micros(time.tv_usec().try_into()?))
    };
    Ok(duration(usage.user_time())? + duration(usage.system_time())?)
}
