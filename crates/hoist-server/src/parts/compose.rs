//! The creation of an upload composed of others.

use std::collections::HashMap;
use std::net::IpAddr;

use hoist_proto::engine::{UploadRequest, composition};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::upload::{Composition, Phase, State};

use crate::claim::Claim;
use crate::shared::Shared;
use crate::transition::Removal;

impl Shared {
    /// Creates an upload from the parts that a request names, and joins them if they are complete.
    //= TUS1-TRM-05
    //= TUS1-CAT-04, TUS1-CAT-12, TUS1-CAT-14, TOK-IDX-07
    pub(crate) async fn compose(
        &self,
        claim: &Claim,
        request: &UploadRequest,
        client: Option<IpAddr>,
    ) -> Result<Reply, Refusal> {
        let Operation::Create(create) = &request.operation else { return Err(Reason::Internal.into()) };
        let Composition::Concatenated(ids) = &create.composition else { return Err(Reason::Internal.into()) };
        let mut seen = HashMap::new();
        for id in ids {
            if !seen.contains_key(id) {
                seen.insert(*id, self.peek(*id).await?);
            }
        }
        let parts: Vec<_> = ids.iter().map(|id| seen.get(id).cloned().flatten()).collect();
        drop(seen);
        let upload = composition::compose(create, request, &parts, &self.policy, self.clock.now())?;
        drop(parts);
        self.ledger.ready().await?;
        self.hook.before_create(&upload).await?;
        let reservation = self.ledger.admit(&upload, Some(0), client)?;
        self.create_empty(claim, &upload, reservation).await?;
        self.pending_parts.add(&upload);
        let id = upload.id;
        let composed = match self.try_join(claim, upload.clone()).await {
            Ok(composed) => composed,
            Err(refusal) => {
                // No client has learned of the upload.
                match self.remove(claim, &upload, Removal::Discarded).await {
                    Ok(()) | Err(Refusal { reason: Reason::NotFound, .. }) => {}
                    Err(failure) => return Err(failure),
                }
                return Err(match refusal.reason {
                    //= TUS1-CAT-06
                    Reason::NotFound | Reason::Gone => {
                        Reason::UnusablePart { detail: "a part is gone".into() }.into()
                    }
                    _ => refusal,
                });
            }
        };
        let state = State::from(&composed);
        Ok(match composed.phase {
            Phase::Delivered(answer) | Phase::Failed(answer) => {
                Reply::Complete { id, created: true, state, answer }
            }
            Phase::Open | Phase::Received => Reply::Stored { id, created: true, state },
        })
    }
}
