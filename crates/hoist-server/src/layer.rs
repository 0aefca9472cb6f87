//! The public face: a builder, and the tower service it builds.

use std::sync::Arc;

use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::tus1::Extensions;
use hoist_proto::policy::Policy;
use hoist_store::store::Store;
use http::HeaderName;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Ledger, Quotas};
use crate::auth::{Anyone, Authenticator};
use crate::backlog::Backlog;
use crate::claim::Claims;
use crate::clock::{Clock, SystemClocks, TimeSource};
use crate::cors::{self, Cors};
use crate::digest::Digests;
use crate::discover::Readiness;
use crate::hook::{Hook, NoHook};
use crate::pending_parts::PendingParts;
use crate::proxy::{Network, Proxies};
use crate::route::RESERVED;
use crate::service::Shared;
use crate::sweep::Lifetimes;
use crate::targets::{Keep, Target};
use crate::tombstones::Tombstones;
use crate::transport_handles::{Interims, Locations};
use crate::upload_id::IdDerivation;

/// The upload endpoint as a tower service. Clones are the same endpoint.
///
/// It needs no particular server: under [`hoist_http`] it sends interim responses and ends connections that were
/// overtaken; under any other it works without.
#[derive(Clone)]
pub struct Hoist(Arc<Shared>);

/// Builds a [`Hoist`].
pub struct Builder {
    store: Arc<dyn Store>,
    target: Arc<dyn Target>,
    auth: Arc<dyn Authenticator>,
    hook: Arc<dyn Hook>,
    policy: Policy,
    cors: Cors,
    cors_headers: Vec<HeaderName>,
    quotas: Quotas,
    endpoint: String,
    key: [u8; 32],
    interims: Interims,
    tus: Extensions,
    versions: Versions,
    completes_at_length: bool,
    public_origin: Option<String>,
    locations: Locations,
    proxies: Vec<Network>,
    downloads: bool,
    accepts_forms: bool,
    clocks: Box<dyn TimeSource>,
}

/// The endpoint is not a path uploads can be under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// It is no path, or a client would send another one in its place.
    #[error(
        "endpoint {0:?} is not an absolute path of visible ASCII without query, `.` and `..`, like /uploads"
    )]
    NoPath(String),
    /// The server answers something else there.
    #[error("endpoint {0:?} is a path of the server's own; choose another one, like /uploads")]
    Reserved(String),
}

impl Hoist {
    /// An endpoint whose uploads live in `store`, with defaults for all else.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder {
            store,
            target: Arc::new(Keep),
            auth: Arc::new(Anyone),
            hook: Arc::new(NoHook),
            policy: Policy::default(),
            cors: Cors::default(),
            cors_headers: Vec::new(),
            quotas: Quotas::default(),
            endpoint: "/uploads".to_owned(),
            key: [0; 32],
            interims: Interims::default(),
            tus: Extensions::ALL,
            versions: Versions::default(),
            completes_at_length: false,
            public_origin: None,
            locations: Locations::default(),
            proxies: Vec::new(),
            downloads: false,
            accepts_forms: false,
            clocks: Box::<SystemClocks>::default(),
        }
    }

    /// The path of the upload URL.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// Ends all transfers, keeping their bytes, and waits until every one is stored and settled. From here on no content is
    /// taken; questions are still answered.
    ///
    /// # Cancellation
    /// Dropped, the transfers end all the same and nobody waits for them.
    pub async fn drain(&self) {
        self.0.draining.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }

    pub(crate) fn share(&self) -> Arc<Shared> {
        Arc::clone(&self.0)
    }
}

impl Builder {
    /// The path of the upload URL. Default `/uploads`.
    ///
    /// # Errors
    /// Returns an error if `path` is not a plain absolute path, or is one that the server uses itself.
    pub fn endpoint(mut self, path: &str) -> Result<Self, BadEndpoint> {
        let is_path = path.starts_with('/') && path.bytes().all(|octet| octet.is_ascii_graphic());
        // Clients resolve dot segments before they send a path (RFC 3986, Remove Dot Segments).
        let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
        if !is_path || has_dots || path.contains(['?', '#', '%', '"', '\\']) || path.contains("//") {
            return Err(BadEndpoint::NoPath(path.to_owned()));
        }
        let trimmed = path.trim_end_matches('/');
        if RESERVED.contains(&trimmed) {
            return Err(BadEndpoint::Reserved(path.to_owned()));
        }
        self.endpoint = if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() };
        Ok(self)
    }

    /// What one upload may be and how long it lives.
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Where whole representations go. Default: they stay in the store.
    pub fn target(self, target: impl Target) -> Self {
        Self { target: Arc::new(target), ..self }
    }

    /// Who makes a request. Default: anybody, and all are the same.
    pub fn auth(self, auth: Arc<dyn Authenticator>) -> Self {
        Self { auth, ..self }
    }

    /// Who else has a say. Default: nobody.
    pub fn hook(self, hook: Arc<dyn Hook>) -> Self {
        Self { hook, ..self }
    }

    /// Which browsers may use the endpoint. Default: all.
    pub fn cors(self, cors: Cors) -> Self {
        Self { cors, ..self }
    }

    /// Fields that pages may send besides those of the protocols, such as one that a proxy in front looks at. Default:
    /// none.
    pub fn cors_headers(self, names: Vec<HeaderName>) -> Self {
        Self { cors_headers: names, ..self }
    }

    /// Bounds over many uploads together.
    pub fn quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// A secret that goes into the ids of token uploads, so that who sees a directory of them cannot try tokens against
    /// it. It has to be the same as long as the store is. Default: none.
    pub fn key(self, key: [u8; 32]) -> Self {
        Self { key, ..self }
    }

    /// Who is sent interim responses. Default: who says that it understands them.
    pub fn interims(self, interims: Interims) -> Self {
        Self { interims, ..self }
    }

    /// What the server does for clients of tus 1.0 beyond the core protocol. Default: all there is.
    pub fn tus_extensions(self, tus: Extensions) -> Self {
        Self { tus, ..self }
    }

    /// The interop versions of the IETF draft that are spoken. Requests of any other number are ordinary ones, or are
    /// answered in the newest version and without interim responses. Default: all that are known.
    pub fn ietf_versions(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// Whether an upload of the IETF dialect's versions 5 and 6 is complete, too, when its length is reached. The text
    /// wants it to be said, and tus-js-client, which speaks these two, often does not say it. Default: no.
    pub fn complete_at_length(self, completes: bool) -> Self {
        Self { completes_at_length: completes, ..self }
    }

    /// Scheme and authority under which peers reach the server, as `https://upload.example.org`. Default: what each
    /// request says of its own.
    pub fn public_origin(self, origin: impl Into<String>) -> Self {
        Self { public_origin: Some(origin.into().trim_end_matches('/').to_owned()), ..self }
    }

    /// How uploads are named in a `Location`. Default: with scheme and host.
    pub fn locations(self, locations: Locations) -> Self {
        Self { locations, ..self }
    }

    /// Whether a complete upload whose content is in the store can be fetched with `GET` on its URL, by whoever created it.
    /// Default: no.
    pub fn downloads(self, downloads: bool) -> Self {
        Self { downloads, ..self }
    }

    /// Takes the one file out of a form (`multipart/form-data`) that an ordinary request brings. Default: such a request is
    /// refused.
    pub fn accept_forms(self, accepts: bool) -> Self {
        Self { accepts_forms: accepts, ..self }
    }

    /// Addresses whose `Forwarded` and `X-Forwarded-*` fields are believed about the host and scheme a request was for and
    /// the client it came from. It takes a server that says who its peers are, as [`hoist_http`] does. Default: none.
    pub fn trusted_proxies(self, networks: Vec<Network>) -> Self {
        Self { proxies: networks, ..self }
    }

    /// The clocks that tell the time. Default: those of the operating system.
    pub fn clocks(self, clocks: impl TimeSource) -> Self {
        Self { clocks: Box::new(clocks), ..self }
    }

    /// The service.
    pub fn build(self) -> Hoist {
        Hoist(Arc::new(Shared {
            store: self.store,
            target: self.target,
            auth: self.auth,
            hook: self.hook,
            cors: self.cors,
            sendable: cors::allowed(&self.cors_headers),
            ids: IdDerivation::new(self.key, &self.endpoint),
            endpoint: self.endpoint,
            ledger: Ledger::new(self.quotas),
            claims: Claims::default(),
            interims: self.interims,
            tus: self.tus,
            versions: self.versions,
            pending_parts: PendingParts::default(),
            tombstones: Tombstones::default(),
            completes_at_length: self.completes_at_length,
            public_origin: self.public_origin,
            locations: self.locations,
            proxies: Proxies::new(self.proxies),
            downloads: self.downloads,
            accepts_forms: self.accepts_forms,
            backlog: Backlog::default(),
            lifetimes: Lifetimes::new(&self.policy),
            policy: self.policy,
            clock: Clock::new(self.clocks),
            readiness: Readiness::default(),
            digests: Digests::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        }))
    }
}
