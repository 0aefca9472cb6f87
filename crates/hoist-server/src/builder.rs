//! The builder of an endpoint.

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
use crate::hook::{Hook, NoHook};
use crate::lifetimes::Lifetimes;
use crate::pending_parts::PendingParts;
use crate::proxy::{Network, Proxies};
use crate::readiness::Readiness;
use crate::route::RESERVED;
use crate::shared::{Hoist, Interims, Locations, Settings, Shared};
use crate::targets::{Keep, Target};
use crate::tombstones::Tombstones;
use crate::upload_id::IdDerivation;

/// Builds a [`Hoist`].
pub struct Builder {
    store: Arc<dyn Store>,
    target: Arc<dyn Target>,
    auth: Arc<dyn Authenticator>,
    hook: Arc<dyn Hook>,
    policy: Policy,
    endpoint: String,
    settings: Settings,
    cors: Cors,
    cors_headers: Vec<HeaderName>,
    quotas: Quotas,
    key: [u8; 32],
    proxies: Vec<Network>,
    clocks: Box<dyn TimeSource>,
}

/// The endpoint is not a path that uploads can be under.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// Not an absolute path, or one that clients rewrite before they send it.
    #[error(
        "endpoint {0:?} is not an absolute path of visible ASCII without query, `.` and `..`, like /uploads"
    )]
    NoPath(String),
    /// The path of another resource of the server.
    #[error("endpoint {0:?} is a path of the server's own; choose another one, like /uploads")]
    Reserved(String),
}

impl Hoist {
    /// Returns a builder of an endpoint that keeps its uploads in `store`.
    pub fn builder(store: Arc<dyn Store>) -> Builder {
        Builder {
            store,
            target: Arc::new(Keep),
            auth: Arc::new(Anyone),
            hook: Arc::new(NoHook),
            policy: Policy::default(),
            endpoint: "/uploads".to_owned(),
            settings: Settings::default(),
            cors: Cors::default(),
            cors_headers: Vec::new(),
            quotas: Quotas::default(),
            key: [0; 32],
            proxies: Vec::new(),
            clocks: Box::<SystemClocks>::default(),
        }
    }
}

impl Builder {
    /// Sets the path of the upload URL. Default: `/uploads`.
    ///
    /// # Errors
    /// Returns [`BadEndpoint`] if `path` is not a plain absolute path, or if the server uses it for something else.
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

    /// Sets the limits and the lifetime of an upload.
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Sets the target of complete representations. Default: they stay in the store.
    pub fn target(self, target: impl Target) -> Self {
        Self { target: Arc::new(target), ..self }
    }

    /// Sets the authentication of requests. Default: every request is accepted, without a principal.
    pub fn auth(self, auth: Arc<dyn Authenticator>) -> Self {
        Self { auth, ..self }
    }

    /// Sets the hook that may reject a creation. Default: none.
    pub fn hook(self, hook: Arc<dyn Hook>) -> Self {
        Self { hook, ..self }
    }

    /// Sets the origins whose pages may use the endpoint. Default: all.
    pub fn cors(self, cors: Cors) -> Self {
        Self { cors, ..self }
    }

    /// Allows pages to send these fields besides those of the protocols, such as one that a proxy in front reads.
    /// Default: none.
    pub fn cors_headers(self, names: Vec<HeaderName>) -> Self {
        Self { cors_headers: names, ..self }
    }

    /// Sets the limits on all uploads together.
    pub fn quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Sets the secret from which the ids of token uploads are derived, so that a list of ids is no oracle for tokens. It
    /// must not change as long as the store is used. Default: all zeros.
    pub fn key(self, key: [u8; 32]) -> Self {
        Self { key, ..self }
    }

    /// Sets which peers receive interim responses. Default: those that announce support for them.
    pub fn interims(mut self, interims: Interims) -> Self {
        self.settings.interims = interims;
        self
    }

    /// Sets the extensions of tus 1.0 that are offered. Default: all.
    pub fn tus_extensions(mut self, tus: Extensions) -> Self {
        self.settings.tus = tus;
        self
    }

    /// Sets the interop versions of the IETF draft that are spoken. A request of another version is treated as an ordinary
    /// one, or answered in the newest version and without interim responses. Default: all known versions.
    pub fn ietf_versions(mut self, versions: Versions) -> Self {
        self.settings.versions = versions;
        self
    }

    /// Sets whether an upload in interop version 5 or 6 is also complete when its length is reached. The draft requires the
    /// client to say so, but tus-js-client, which speaks these two, often does not. Default: no.
    pub fn complete_at_length(mut self, completes: bool) -> Self {
        self.settings.completes_at_length = completes;
        self
    }

    /// Sets the scheme and authority under which peers reach the server, like `https://upload.example.org`. Default: those
    /// of each request.
    pub fn public_origin(mut self, origin: impl Into<String>) -> Self {
        self.settings.public_origin = Some(origin.into().trim_end_matches('/').to_owned());
        self
    }

    /// Sets the form of the upload URL in a `Location`. Default: with scheme and host.
    pub fn locations(mut self, locations: Locations) -> Self {
        self.settings.locations = locations;
        self
    }

    /// Sets whether the creator of a complete upload can download its content, if it is in the store, with `GET` on the
    /// upload URL. Default: no.
    pub fn downloads(mut self, downloads: bool) -> Self {
        self.settings.downloads = downloads;
        self
    }

    /// Sets whether an ordinary request may bring its one file in a form (`multipart/form-data`). Default: such a request
    /// is refused.
    pub fn accept_forms(mut self, accepts: bool) -> Self {
        self.settings.accepts_forms = accepts;
        self
    }

    /// Sets the addresses whose `Forwarded` and `X-Forwarded-*` fields are trusted for the host, scheme and client of a
    /// request. Requires a server that reports its peers' addresses, as [`hoist_http`] does. Default: none.
    pub fn trusted_proxies(self, networks: Vec<Network>) -> Self {
        Self { proxies: networks, ..self }
    }

    /// Sets the clocks. Default: those of the operating system.
    pub fn clocks(self, clocks: impl TimeSource) -> Self {
        Self { clocks: Box::new(clocks), ..self }
    }

    /// Builds the endpoint.
    pub fn build(self) -> Hoist {
        Hoist::new(Shared {
            store: self.store,
            target: self.target,
            auth: self.auth,
            hook: self.hook,
            settings: self.settings,
            cors: self.cors,
            cors_headers: cors::allowed(&self.cors_headers),
            proxies: Proxies::new(self.proxies),
            clock: Clock::new(self.clocks),
            ids: IdDerivation::new(self.key, &self.endpoint),
            endpoint: self.endpoint,
            ledger: Ledger::new(self.quotas),
            claims: Claims::default(),
            digests: Digests::default(),
            pending_parts: PendingParts::default(),
            tombstones: Tombstones::default(),
            backlog: Backlog::default(),
            lifetimes: Lifetimes::new(&self.policy),
            policy: self.policy,
            readiness: Readiness::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        })
    }
}
