//! Reads of an upload's record from the store.
//!
//! Every read corrects the time of the last change for steps of the clock. A read under the claim also corrects the ledger
//! of the quotas, which a request that failed half-way may have left wrong.

use hoist_proto::refusal::Refusal;
use hoist_proto::types::UploadId;
use hoist_proto::upload::Upload;

use crate::claim::Claim;
use crate::error;
use crate::shared::Shared;

impl Shared {
    /// Loads the claimed upload.
    pub(crate) async fn fetch(&self, claim: &Claim) -> Result<Option<Upload>, Refusal> {
        let id = claim.id();
        let loaded = self.store.load(id, claim.fence()).await;
        let loaded = loaded.map_err(|failure| error::refusal("load", id, &failure))?;
        match &loaded {
            Some(upload) => self.ledger.record(upload),
            None => self.ledger.absent(id),
        }
        Ok(loaded.map(|upload| self.clock.correct(upload)))
    }

    /// Reads an upload without its claim, so that it may change at any time.
    pub(crate) async fn peek(&self, id: UploadId) -> Result<Option<Upload>, Refusal> {
        let seen = self.store.peek(id).await;
        let seen = seen.map_err(|failure| error::refusal("peek", id, &failure))?;
        Ok(seen.map(|upload| self.clock.correct(upload)))
    }
}
