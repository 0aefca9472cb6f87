//! A request, as the operations on its upload see it.
//!
//! Belongs to the claim of an upload, which is passed to every operation.

use crate::request_facts::RequestFacts;

/// A request. The default is that of work without one. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestScope {
    pub(crate) facts: RequestFacts,
}

impl RequestScope {
    pub(crate) fn new(facts: RequestFacts) -> Self {
        Self { facts }
    }
}
