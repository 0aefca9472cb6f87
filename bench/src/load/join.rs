//! The join of parts into one upload, by the concatenation of tus.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::client::h1::H1;
use crate::protocol::Part;
use crate::sample::Sample;
use crate::target::Target;

/// Parts of one upload. Only their join is measured.
#[derive(Clone)]
pub(crate) struct Join {
    pub(crate) parts: u64,
    /// The length of each.
    pub(crate) bytes: u64,
}

impl Join {
    pub(super) async fn run(&self, target: &Arc<Target>) -> Result<Sample> {
        let mut h1 = target.connect_h1(0).await?;
        let mut parts = Vec::new();
        for number in 0..self.parts {
            parts.push(self.upload(target, &mut h1, number).await?);
        }
        let length = self.parts * self.bytes;
        let (cost, whole) = target.cost(join(target, &mut h1, &parts)).await?;
        target.verify(&whole, length).await?;
        target.with_peak(cost.per_gib(length))
    }

    /// Uploads a part, which begins where the one before it ends.
    async fn upload(&self, target: &Target, h1: &mut H1, number: u64) -> Result<String> {
        let name = format!("part-{number}");
        let create = target.protocol.create(target.endpoint, &name, Part::whole(self.bytes));
        let create = target.protocol.partial(create);
        let from = number * self.bytes;
        h1.send(&create).await?;
        h1.send_content(target.pieces(Part { from, until: from + self.bytes, length: 0 })).await?;
        let answer = h1.answer_with_content().await?;
        target.protocol.check(&answer, self.bytes)?;
        target.protocol.location(&create, &answer)
    }
}

async fn join(target: &Target, h1: &mut H1, parts: &[String]) -> Result<String> {
    let request = target.protocol.join(target.endpoint, "whole", parts);
    h1.send(&request).await?;
    let answer = h1.answer_with_content().await?;
    ensure!((200..300).contains(&answer.status), "a join was answered with {}", answer.status);
    target.protocol.location(&request, &answer)
}
