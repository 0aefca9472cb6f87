//! The latency of an offset query while an append to the same upload hangs.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::watch;

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::{Metric, Sample, milliseconds, percentile};
use crate::target::{Connection, Target};

/// The content that each append has sent before it hangs.
const BYTES: u64 = 1 << 20;
/// The length of each upload that keeps the server busy.
const BUSY_BYTES: u64 = 256 << 20;

/// Appends that hang, and one query for each.
#[derive(Clone)]
pub(crate) struct TakeOver {
    pub(crate) queries: u64,
    /// True to measure while another client uploads at full speed.
    pub(crate) is_busy: bool,
}

impl TakeOver {
    pub(super) fn bytes(&self) -> u64 {
        self.queries * BYTES + BUSY_BYTES
    }

    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let mut hanging = Vec::new();
        for number in 0..self.queries {
            hanging.push(hang(target, number).await?);
        }
        // The last content is still on its way.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (stop, stopped) = watch::channel(false);
        let busy = self.is_busy.then(|| {
            let target = Arc::clone(target);
            thread::spawn(move || upload_until(&target, &stopped))
        });
        let latencies = query_all(target, &hanging).await;
        stop.send_replace(true);
        if let Some(busy) = busy {
            busy.join().expect("no panic")?;
        }
        let mut latencies = latencies?;
        latencies.sort_by(f64::total_cmp);
        Ok(vec![
            (Metric::MedianLatency, percentile(&latencies, 0.5)),
            (Metric::HighLatency, percentile(&latencies, 0.99)),
        ])
    }
}

/// Returns an upload with an append that hangs.
async fn hang(target: &Target, number: u64) -> Result<(H1, String)> {
    let mut h1 = target.connect_h1(0).await?;
    let length = 2 * BYTES;
    let path = target.create_empty(&mut h1, &format!("hanging-{number}"), length).await?;
    h1.send(&target.protocol.append(&path, Part::whole(length))).await?;
    h1.send_content(target.pieces(Part { from: 0, until: BYTES, length })).await?;
    Ok((h1, path))
}

async fn query_all(target: &Target, hanging: &[(H1, String)]) -> Result<Vec<f64>> {
    let mut h1 = target.connect_h1(0).await?;
    let mut latencies = Vec::new();
    for (_, path) in hanging {
        let began = Instant::now();
        h1.send(&target.protocol.offset(path)).await?;
        let answer = h1.answer().await?;
        latencies.push(milliseconds(began.elapsed()));
        ensure!((200..300).contains(&answer.status), "an offset query was answered with {}", answer.status);
        target.protocol.check_offset(&answer, BYTES)?;
    }
    Ok(latencies)
}

/// Uploads from a thread of its own, so that the client's work delays no query.
fn upload_until(target: &Target, stopped: &watch::Receiver<bool>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut connection: Connection = target.connect().await?;
        for number in 0.. {
            if *stopped.borrow() {
                break;
            }
            target.upload(&mut connection, &format!("busy-{number}"), BUSY_BYTES).await?;
        }
        Ok(())
    })
}
