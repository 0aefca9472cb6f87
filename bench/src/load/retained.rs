//! The start and the sweeps of a server that keeps many complete uploads.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Small;
use crate::launch::Launch;
use crate::sample::{Metric, Sample, milliseconds};
use crate::target::Target;

/// The growth of the processor time in a [`QUIET`] below which a server has nothing to do.
const IDLE_CPU: Duration = Duration::from_millis(2);
const QUIET: Duration = Duration::from_millis(300);
/// The time limit of a start or a sweep.
const WORK_MAX: Duration = Duration::from_mins(2);
/// The shortest interval between sweeps.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Complete uploads of one byte that the server finds at its start.
#[derive(Clone)]
pub(crate) struct Retained {
    pub(crate) uploads: u64,
}

impl Retained {
    pub(super) async fn run(&self, launch: &Launch) -> Result<Sample> {
        if launch.is_empty()? {
            let filler = Small {
                uploads: self.uploads,
                bytes: 1,
                connections: 64.min(self.uploads),
                is_appended: false,
            };
            filler.run(&launch.start(&[])?).await?;
        }
        let target = launch.start(&[])?;
        let began = Instant::now();
        let start_up = target.process.start_up;
        let start_cpu = until_idle(&target).await?;
        let interval = INTERVAL_MIN.max(began.elapsed() * 2);
        drop(target);
        let target =
            launch.start(&["--sweep-interval".to_owned(), format!("{}s", interval.as_secs() + 1)])?;
        let swept = tokio::time::Instant::now() + interval + Duration::from_secs(1);
        let before = until_idle(&target).await?;
        tokio::time::sleep_until(swept).await;
        let after = until_idle(&target).await?;
        Ok(vec![
            (Metric::StartUp, milliseconds(start_up)),
            (Metric::StartCpu, milliseconds(start_cpu)),
            (Metric::SweepCpu, milliseconds(after.saturating_sub(before))),
        ])
    }
}

/// Waits until the server uses no processor time, and returns what it has used.
async fn until_idle(target: &Target) -> Result<Duration> {
    let began = Instant::now();
    let mut last = target.process.cpu()?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = target.process.cpu()?;
        if now.saturating_sub(last) < IDLE_CPU || began.elapsed() > WORK_MAX {
            return Ok(now);
        }
        last = now;
    }
}
