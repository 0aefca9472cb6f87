//! The memory of connections that do nothing for a long time.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::{Metric, Sample, to_f64};
use crate::target::Target;

/// Connections that are opened at the same time.
const OPENED_AT_ONCE: u32 = 200;

/// The state in which a connection stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holding {
    /// Between two requests.
    Idle,
    /// In an upload whose content arrives a few bytes at a time.
    Trickling,
    /// In an upload that stopped after some content at full speed.
    Stalled,
}

impl Holding {
    /// Returns the content that is sent at full speed.
    fn bytes(self) -> u64 {
        match self {
            Self::Idle => 0,
            Self::Trickling => 1 << 10,
            Self::Stalled => 1 << 20,
        }
    }
}

/// Connections in the same state.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) connections: u32,
    pub(crate) holding: Holding,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.connections) * self.holding.bytes()
    }

    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        target.upload(&mut target.connect().await?, "first", 1).await?;
        let before = target.settled_rss().await?;
        let mut connections = Vec::new();
        for first in (0..self.connections).step_by(OPENED_AT_ONCE as usize) {
            let mut opening = JoinSet::new();
            for number in first..self.connections.min(first + OPENED_AT_ONCE) {
                opening.spawn(open(Arc::clone(target), self.holding, number));
            }
            connections.extend(super::all(opening).await?);
        }
        if self.holding == Holding::Trickling {
            for at in self.holding.bytes()..self.holding.bytes() + 3 {
                for h1 in &mut connections {
                    h1.send_content(std::iter::once(target.content.piece(at, 1))).await?;
                }
            }
        }
        let after = target.settled_rss().await?;
        ensure!(target.process.is_running()?, "the server has ended");
        let each = to_f64(after.saturating_sub(before)) / 1024.0 / f64::from(self.connections);
        Ok(vec![(Metric::RssPerConnection, each)])
    }
}

/// Opens a connection and brings it into the state.
async fn open(target: Arc<Target>, holding: Holding, number: u32) -> Result<H1> {
    let mut h1 = target.connect_h1(number).await?;
    let name = format!("held-{number}");
    match holding {
        Holding::Idle => {
            // Refused by most servers, and answered by all.
            h1.send(&target.protocol.offset(target.endpoint)).await?;
            h1.answer().await?;
        }
        Holding::Trickling | Holding::Stalled => {
            let create = target.protocol.create(target.endpoint, &name, Part::whole(2 * holding.bytes()));
            h1.send(&create).await?;
            let sent = Part { from: 0, until: holding.bytes(), length: 2 * holding.bytes() };
            h1.send_content(target.pieces(sent)).await?;
        }
    }
    Ok(h1)
}
