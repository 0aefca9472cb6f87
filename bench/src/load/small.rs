//! Many small uploads over a few connections.

use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::Sample;
use crate::target::Target;

/// Small uploads, one after the other on each connection.
#[derive(Clone)]
pub(crate) struct Small {
    pub(crate) uploads: u64,
    /// The length of each.
    pub(crate) bytes: u64,
    pub(crate) connections: u64,
    /// True to create each without content, and to append the content in a second request.
    pub(crate) is_appended: bool,
}

impl Small {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let mut connections = Vec::new();
        for number in 0..self.connections {
            let mut h1 = target.connect_h1(0).await?;
            self.upload(target, &mut h1, &format!("first-{number}")).await?;
            connections.push(h1);
        }
        let each = self.uploads / self.connections;
        let (cost, paths) = target.cost(self.upload_all(target, connections, each)).await?;
        target.verify_some(&paths, self.bytes).await?;
        target.with_peak(cost.per_operation(each * self.connections))
    }

    async fn upload_all(&self, target: &Arc<Target>, connections: Vec<H1>, each: u64) -> Result<Vec<String>> {
        let mut clients = JoinSet::new();
        for (client, mut h1) in connections.into_iter().enumerate() {
            let (target, load) = (Arc::clone(target), self.clone());
            clients.spawn(async move {
                let mut paths = Vec::new();
                for number in 0..each {
                    paths.push(load.upload(&target, &mut h1, &format!("small-{client}-{number}")).await?);
                }
                Ok(paths)
            });
        }
        Ok(super::all(clients).await?.concat())
    }

    async fn upload(&self, target: &Target, h1: &mut H1, name: &str) -> Result<String> {
        let whole = Part::whole(self.bytes);
        let content = target.content.piece(0, self.bytes);
        if self.is_appended {
            let path = target.create_empty(h1, name, self.bytes).await?;
            h1.send_with(&target.protocol.append(&path, whole), &content).await?;
            target.protocol.check(&h1.answer_with_content().await?, self.bytes)?;
            return Ok(path);
        }
        let create = target.protocol.create(target.endpoint, name, whole);
        h1.send_with(&create, &content).await?;
        let answer = h1.answer_with_content().await?;
        target.protocol.check(&answer, self.bytes)?;
        target.protocol.location(&create, &answer)
    }
}
