//! The builder of an endpoint.

use std::sync::Arc;

use hoist_proto::policy::Policy;
use hoist_store::store::Store;
use http::HeaderName;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{Ledger, Quotas};
use crate::auth::{Anyone, Authenticator};
use crate::clock::{Clock, SystemClocks, TimeSource};
use crate::cors::{self, Cors};
use crate::hook::Hooks;
use crate::observe::{Log, Observer, Observers};
use crate::outbox::Outbox;
use crate::proxy::{Network, Proxies};
use crate::shared::{Hoist, Settings, Shared};
use crate::targets::{Keep, Target};
use crate::{claim, route, upload_id};

/// Builds a [`Hoist`].
pub struct Builder(Shared);

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
        let (endpoint, policy) = ("/uploads".to_owned(), Policy::default());
        Builder(Shared {
            store,
            target: Arc::new(Keep),
            auth: Arc::new(Anyone),
            hooks: Hooks::default(),
            hook_queue: Arc::default(),
            settings: Settings::default(),
            cors: Cors::default(),
            cors_headers: cors::allowed(&[]),
            proxies: Proxies::default(),
            clock: Arc::new(Clock::new(Box::<SystemClocks>::default())),
            ids: upload_id::IdDerivation { key: [0; 32], endpoint: endpoint.clone() },
            endpoint,
            ledger: Ledger::new(Quotas::default()),
            mode: Arc::default(),
            claims: claim::Claims::default(),
            digests: Arc::default(),
            pending_parts: Arc::default(),
            tombstones: Arc::default(),
            backlog: Arc::default(),
            expiries: Arc::default(),
            orderly_ends: Arc::default(),
            outbox: None,
            observers: Observers::new(vec![Arc::new(Log::default())]),
            policy,
            health: Arc::default(),
            sweep_asked_for: Arc::new(Semaphore::new(1)),
            free_space: Arc::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        })
    }

    /// Replaces the settings for requests that begin from now on. Requests that are running keep the settings they began
    /// with.
    ///
    /// Takes over the policy, settings, target, authentication, hooks, observers, CORS, trusted proxies and quotas of
    /// `builder`; its store, endpoint, key, clocks and sinks of events are ignored. Lifetimes apply to uploads that are created from now on.
    /// A quota of bytes takes effect only if the endpoint was built with one, because bytes are not counted otherwise.
    pub fn reconfigure(&self, builder: Builder) {
        self.replace(builder.0);
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
        if route::RESERVED.contains(&trimmed) {
            return Err(BadEndpoint::Reserved(path.to_owned()));
        }
        let endpoint = if trimmed.is_empty() { "/" } else { trimmed };
        (self.0.endpoint, self.0.ids.endpoint) = (endpoint.to_owned(), endpoint.to_owned());
        Ok(self)
    }

    /// Sets the limits and the lifetime of an upload.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.0.policy = policy;
        self
    }

    /// Sets the options that are plain values.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.0.settings = settings;
        self
    }

    /// Sets the recipients of events. Default: none. The store must keep events ([`Store::outbox`]). They are delivered
    /// while the endpoint is [running](Hoist::start).
    pub fn events(mut self, outbox: Outbox) -> Self {
        self.0.outbox = Some(Arc::new(outbox));
        self
    }

    /// Sets the target of complete representations. Default: they stay in the store.
    pub fn target(mut self, target: impl Target) -> Self {
        self.0.target = Arc::new(target);
        self
    }

    /// Sets the authentication. Default: every request is accepted, without a principal.
    pub fn auth(mut self, auth: Arc<dyn Authenticator>) -> Self {
        self.0.auth = auth;
        self
    }

    /// Sets the receivers that are asked and told at fixed points in the life of an upload. Default: none.
    pub fn hooks(mut self, hooks: Hooks) -> Self {
        self.0.hooks = hooks;
        self
    }

    /// Sets the origins whose pages may use the endpoint. Default: all.
    pub fn cors(mut self, cors: Cors) -> Self {
        self.0.cors = cors;
        self
    }

    /// Allows pages to send these fields besides those of the protocols, such as one that a proxy in front reads.
    /// Default: none.
    pub fn cors_headers(mut self, names: &[HeaderName]) -> Self {
        self.0.cors_headers = cors::allowed(names);
        self
    }

    /// Sets the limits on all uploads together.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.0.ledger = Ledger::new(quotas);
        self
    }

    /// Sets the secret from which the ids of token uploads are derived, so that a list of ids is no oracle for tokens. It
    /// must not change as long as the store is used. Default: all zeros.
    pub fn key(mut self, key: [u8; 32]) -> Self {
        self.0.ids.key = key;
        self
    }

    /// Sets the peers whose `Forwarded` and `X-Forwarded-*` fields are trusted for the host, scheme and client of a
    /// request. Requires a server that reports its peers' addresses, as [`hoist_http`] does. Default: none.
    pub fn trusted_proxies(mut self, networks: Vec<Network>) -> Self {
        self.0.proxies = Proxies(networks);
        self
    }

    /// Sets the clocks. Default: those of the operating system.
    pub fn clocks(mut self, clocks: impl TimeSource) -> Self {
        self.0.clock = Arc::new(Clock::new(Box::new(clocks)));
        self
    }

    /// Sets the recipients of what happens to uploads and requests. Default: [`Log`], without a line for every request.
    pub fn observers(mut self, observers: Vec<Arc<dyn Observer>>) -> Self {
        self.0.observers = Observers::new(observers);
        self
    }

    /// Builds the endpoint.
    pub fn build(self) -> Hoist {
        Hoist::new(self.0)
    }
}
