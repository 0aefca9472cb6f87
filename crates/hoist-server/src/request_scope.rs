//! A request, as the operations on its upload see it: the facts for hooks and events, and what its response has beyond the
//! reply.
//!
//! Belongs to the claim of an upload, which is passed to every operation.

use std::sync::{Arc, Mutex};

use hoist_proto::amendment::Amendment;
use hoist_proto::refusal::Refusal;

use crate::locked;
use crate::request_facts::RequestFacts;

/// A request. The default is that of work without one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestScope {
    pub(crate) facts: RequestFacts,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    amendment: Amendment,
    alias: Option<String>,
    refused_finish: Option<Refusal>,
}

impl RequestScope {
    pub(crate) fn new(facts: RequestFacts) -> Self {
        Self { facts, ..Self::default() }
    }

    /// Adds changes to the response, unless it is a refusal.
    pub(crate) fn amend(&self, amendment: Amendment) {
        let mut outcome = locked(&self.outcome);
        outcome.amendment = std::mem::take(&mut outcome.amendment).and(amendment);
    }

    pub(crate) fn amendment(&self) -> Amendment {
        locked(&self.outcome).amendment.clone()
    }

    /// Sets the path below the endpoint of the upload that the request is about, if it is not the id.
    pub(crate) fn set_alias(&self, alias: Option<&str>) {
        locked(&self.outcome).alias = alias.map(ToOwned::to_owned);
    }

    pub(crate) fn alias(&self) -> Option<String> {
        locked(&self.outcome).alias.clone()
    }

    /// Notes that a hook has refused to finish the upload. It is not asked again in this request.
    pub(crate) fn refuse_finish(&self, refusal: Refusal) {
        locked(&self.outcome).refused_finish = Some(refusal);
    }

    pub(crate) fn refused_finish(&self) -> Option<Refusal> {
        locked(&self.outcome).refused_finish.clone()
    }
}
