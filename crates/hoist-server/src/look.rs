//! Looking at uploads in the store.
//!
//! Owns what every look has in common: the time of the last change is corrected for steps of the clock, and the ledger of
//! the quotas is corrected where an earlier request failed half-way.

use hoist_proto::refusal::Refusal;
use hoist_proto::types::UploadId;
use hoist_proto::upload::Upload;

use crate::claim::Claim;
use crate::error;
use crate::shared::Shared;

impl Shared {
    /// The claimed upload, as the store has it.
    pub(crate) async fn fetch(&self, claim: &Claim) -> Result<Option<Upload>, Refusal> {
        let id = claim.id();
        let loaded = self.store.load(id, claim.fence()).await;
        let loaded = loaded.map_err(|failure| error::refusal("load", id, &failure))?;
        // Whatever became of the request before, the quotas are right from here on.
        match &loaded {
            Some(upload) => self.ledger.record(upload),
            None => self.ledger.absent(id),
        }
        Ok(loaded.map(|upload| self.clock.correct(upload)))
    }

    /// An upload as it is at this moment, without a claim on it.
    pub(crate) async fn peek(&self, id: UploadId) -> Result<Option<Upload>, Refusal> {
        let seen = self.store.peek(id).await;
        let seen = seen.map_err(|failure| error::refusal("peek", id, &failure))?;
        Ok(seen.map(|upload| self.clock.correct(upload)))
    }
}
