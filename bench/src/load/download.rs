//! Downloads of one upload by many clients at once.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::h1::H1;
use crate::protocol;
use crate::sample::Sample;
use crate::target::Target;

/// Downloads at the same time.
#[derive(Clone)]
pub(crate) struct Downloads {
    pub(crate) clients: u64,
    /// The length of the upload.
    pub(crate) bytes: u64,
}

impl Downloads {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let path = target.upload(&mut target.connect().await?, "downloaded", self.bytes).await?;
        let mut connections = Vec::new();
        for _ in 0..self.clients {
            connections.push(target.connect_h1(0).await?);
        }
        target.verify(&path, self.bytes).await?;
        let (cost, ()) = target.cost(self.download_all(target, connections, &path)).await?;
        target.with_peak(cost.per_gib(self.clients * self.bytes))
    }

    async fn download_all(&self, target: &Arc<Target>, connections: Vec<H1>, path: &str) -> Result<()> {
        let mut downloads = JoinSet::new();
        for mut h1 in connections {
            let (target, path, bytes) = (Arc::clone(target), path.to_owned(), self.bytes);
            downloads.spawn(async move {
                h1.send(&protocol::download(&path)).await?;
                let answer = h1.answer().await?;
                ensure!(answer.status == 200, "a download was answered with {}", answer.status);
                ensure!(answer.content_length()? == bytes, "a download of another length");
                h1.receive(&target.content, bytes).await
            });
        }
        super::all(downloads).await.map(drop)
    }
}
