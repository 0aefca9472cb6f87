//! The facts that a client remembers of origins: their upload protocols, and how their uploads get on.

use std::collections::HashMap;
use std::sync::Mutex;

use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::tus1::client::Capabilities;
use tokio::time::Instant;

use crate::lock::lock;
use crate::origin::Origin;

/// Origins remembered at a time.
const ORIGINS_MAX: usize = 64;

/// The upload protocol that a server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerSupport {
    Ietf(Interop),
    Tus1(Capabilities),
    /// The server announced no upload protocol. It did not refuse a request in this version.
    Unknown(Interop),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OriginFacts {
    pub(crate) support: Option<ServerSupport>,
    /// The capabilities for clients of tus 1.0, even if another dialect is preferred.
    pub(crate) tus: Option<Capabilities>,
    /// True if the server sent no interim response to `Expect: 100-continue`.
    pub(crate) ignores_expect: bool,
    /// True once the origin has sent a response.
    pub(crate) has_responded: bool,
    /// True once the client has tried whether the origin speaks the protocol of the other scheme.
    pub(crate) was_diagnosed: bool,
    /// The time since which no upload to the origin has made progress, if attempts have failed since.
    pub(crate) failing_since: Option<Instant>,
    /// The time of the last progress of an upload to the origin.
    pub(crate) progressed_at: Option<Instant>,
}

/// The facts known about the origins in use.
#[derive(Debug, Default)]
pub(crate) struct OriginCache(Mutex<HashMap<Origin, OriginFacts>>);

impl OriginCache {
    pub(crate) fn get(&self, origin: &Origin) -> OriginFacts {
        lock(&self.0).get(origin).copied().unwrap_or_default()
    }

    /// Changes the facts known about an origin, unless the cache is full of others.
    pub(crate) fn update(&self, origin: &Origin, change: impl FnOnce(&mut OriginFacts)) {
        let mut known = lock(&self.0);
        if known.len() < ORIGINS_MAX || known.contains_key(origin) {
            change(known.entry(origin.clone()).or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_holds_a_bounded_number_of_origins() {
        let cache = OriginCache::default();
        let origin =
            |number: u8| Origin::of(&format!("http://{number}").parse().expect("a URL")).expect("an origin");
        for number in 0..100 {
            cache.update(&origin(number), |facts| facts.ignores_expect = true);
        }
        assert!(cache.get(&origin(0)).ignores_expect && !cache.get(&origin(99)).ignores_expect);
        cache.update(&origin(0), |facts| facts.support = Some(ServerSupport::Unknown(Interop::V6)));
        let known = cache.get(&origin(0));
        assert_eq!((known.support, known.ignores_expect), (Some(ServerSupport::Unknown(Interop::V6)), true));
    }
}
