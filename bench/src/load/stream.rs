//! Large uploads, each on a connection of its own.

use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::sample::Sample;
use crate::target::{Connection, Target};

/// Uploads at the same time.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) uploads: u64,
    /// The length of each.
    pub(crate) bytes: u64,
}

impl Stream {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        // The first upload of a process prepares much that is not measured.
        target.upload(&mut target.connect().await?, "first", 1).await?;
        let mut connections = Vec::new();
        for _ in 0..self.uploads {
            connections.push(target.connect().await?);
        }
        let (cost, paths) = target.cost(self.upload_all(target, connections)).await?;
        target.verify_some(&paths, self.bytes).await?;
        target.with_peak(cost.per_gib(self.uploads * self.bytes))
    }

    async fn upload_all(&self, target: &Arc<Target>, connections: Vec<Connection>) -> Result<Vec<String>> {
        let mut uploads = JoinSet::new();
        for (number, mut connection) in connections.into_iter().enumerate() {
            let (target, bytes) = (Arc::clone(target), self.bytes);
            uploads.spawn(
                async move { target.upload(&mut connection, &format!("large-{number}"), bytes).await },
            );
        }
        super::all(uploads).await
    }
}
