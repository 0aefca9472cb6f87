//! Offset queries on connections that stay open.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::Sample;
use crate::target::Target;

/// The content of each unfinished upload.
const BYTES: u64 = 1024;

/// Queries for the offset of unfinished uploads, one upload for each connection.
#[derive(Clone)]
pub(crate) struct Offsets {
    pub(crate) queries: u64,
    pub(crate) connections: u64,
}

impl Offsets {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let mut clients = Vec::new();
        for number in 0..self.connections {
            let mut h1 = target.connect_h1(0).await?;
            let part = Part { from: 0, until: BYTES, length: 2 * BYTES };
            let create = target.protocol.create(target.endpoint, &format!("open-{number}"), part);
            h1.send_with(&create, &target.content.piece(0, BYTES)).await?;
            let answer = h1.answer_with_content().await?;
            target.protocol.check(&answer, BYTES)?;
            let path = target.protocol.location(&create, &answer)?;
            query(target, &mut h1, &path).await?;
            clients.push((h1, path));
        }
        let each = self.queries / self.connections;
        let (cost, ()) = target.cost(query_all(target, clients, each)).await?;
        target.with_peak(cost.per_operation(each * self.connections))
    }
}

async fn query_all(target: &Arc<Target>, clients: Vec<(H1, String)>, each: u64) -> Result<()> {
    let mut queries = JoinSet::new();
    for (mut h1, path) in clients {
        let target = Arc::clone(target);
        queries.spawn(async move {
            for _ in 0..each {
                query(&target, &mut h1, &path).await?;
            }
            Ok(())
        });
    }
    super::all(queries).await.map(drop)
}

async fn query(target: &Target, h1: &mut H1, path: &str) -> Result<()> {
    h1.send(&target.protocol.offset(path)).await?;
    let answer = h1.answer().await?;
    ensure!((200..300).contains(&answer.status), "an offset query was answered with {}", answer.status);
    target.protocol.check_offset(&answer, BYTES)
}
