//! Appends to one upload, one request after the other on one connection.

use std::sync::Arc;

use anyhow::Result;

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::Sample;
use crate::target::Target;

/// Appends of the same size.
#[derive(Clone)]
pub(crate) struct Appends {
    pub(crate) appends: u64,
    /// The length of each.
    pub(crate) bytes: u64,
}

impl Appends {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let mut h1 = target.connect_h1(0).await?;
        let length = self.appends * self.bytes;
        let path = target.create_empty(&mut h1, "appended", length).await?;
        let (cost, ()) = target.cost(self.append_all(target, &mut h1, &path)).await?;
        target.verify(&path, length).await?;
        target.with_peak(cost.per_gib(length))
    }

    async fn append_all(&self, target: &Target, h1: &mut H1, path: &str) -> Result<()> {
        let length = self.appends * self.bytes;
        for number in 0..self.appends {
            let part = Part { from: number * self.bytes, until: (number + 1) * self.bytes, length };
            h1.send(&target.protocol.append(path, part)).await?;
            h1.send_content(target.pieces(part)).await?;
            target.protocol.check(&h1.answer_with_content().await?, part.until)?;
        }
        Ok(())
    }
}
