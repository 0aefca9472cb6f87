//! The state that all requests of an endpoint share, the handle to it, and reads of an upload's record.
//!
//! Sits below every module that serves a request, and imports none of them.

use std::sync::{Arc, Mutex};

use hoist_proto::dialect::Context;
use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::tus1::Extensions;
use hoist_proto::policy::Policy;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::UploadId;
use hoist_proto::upload::Upload;
use hoist_store::store::Store;
use http::HeaderValue;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::claim::{Claim, Claims};
use crate::health::{FreeSpace, Health};
use crate::{admission, auth, backlog, clock, cors, digest, error, expiries, hook, observe, orderly};
use crate::{locked, outbox, pending_parts, proxy, targets, tombstones, upload_id};

/// The upload endpoint as a tower service. Clones share one endpoint, also its [changes](Hoist::reconfigure).
///
/// Works under any server. Under [`hoist_http`] it also sends interim responses and ends connections whose transfer a
/// newer request has superseded.
#[derive(Clone)]
pub struct Hoist {
    /// The state and settings that this handle uses: those of one request, or of one pass of the background work.
    shared: Arc<Shared>,
    /// The state and settings of the requests that begin now.
    current: Arc<Mutex<Arc<Shared>>>,
}

/// The settings of an endpoint, which may be replaced, and its state, which lasts. The state is behind pointers, so that
/// requests with old and with new settings share it.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) target: Arc<dyn targets::Target>,
    pub(crate) auth: Arc<dyn auth::Authenticator>,
    pub(crate) hooks: hook::Hooks,
    pub(crate) policy: Policy,
    pub(crate) endpoint: String,
    pub(crate) settings: Settings,
    pub(crate) cors: cors::Cors,
    pub(crate) cors_headers: HeaderValue,
    pub(crate) proxies: proxy::Proxies,
    pub(crate) clock: Arc<clock::Clock>,
    pub(crate) ids: upload_id::IdDerivation,
    pub(crate) ledger: admission::Ledger,
    pub(crate) mode: Arc<admission::ModeInForce>,
    pub(crate) claims: Claims,
    pub(crate) digests: Arc<digest::Digests>,
    pub(crate) pending_parts: Arc<pending_parts::PendingParts>,
    pub(crate) tombstones: Arc<tombstones::Tombstones>,
    pub(crate) backlog: Arc<backlog::Backlog>,
    pub(crate) expiries: Arc<expiries::Expiries>,
    pub(crate) orderly_ends: Arc<orderly::OrderlyEnds>,
    pub(crate) outbox: Option<Arc<outbox::Outbox>>,
    pub(crate) hook_queue: Arc<hook::queue::Queue>,
    pub(crate) observers: observe::Observers,
    pub(crate) health: Arc<Health>,
    /// Held by the sweep that the operator has asked for.
    pub(crate) sweep_asked_for: Arc<Semaphore>,
    pub(crate) free_space: Arc<FreeSpace>,
    /// The tasks that outlive the request that started them.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the endpoint shuts down.
    pub(crate) draining: CancellationToken,
}

/// Options of an endpoint that are plain values.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The peers that receive interim responses. Default: those that announce support for them.
    pub interims: Interims,
    /// The form of the upload URL in a `Location`. Default: with scheme and host.
    pub locations: Locations,
    /// The extensions of tus 1.0 that are offered. Default: all.
    pub tus_extensions: Extensions,
    /// The interop versions of the IETF draft that are spoken. A request of another version is treated as an ordinary one,
    /// or answered in the newest version and without interim responses. Default: all known versions.
    pub ietf_versions: Versions,
    /// True if an upload in interop version 5 or 6 is also complete when its length is reached. The draft requires the
    /// client to say so, but tus-js-client, which speaks these two, often does not.
    pub completes_at_length: bool,
    /// Scheme and authority under which peers reach the server, like `https://upload.example.org`. Default: those of each
    /// request.
    pub public_origin: Option<String>,
    /// True if the creator of a complete upload can download its content, if it is in the store, with `GET` on the upload
    /// URL.
    pub downloads: bool,
    /// True if an ordinary request may bring its one file in a form (`multipart/form-data`). Otherwise it is refused.
    pub accepts_forms: bool,
}

/// The peers that receive interim responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interims {
    /// Peers that name a version of the draft, which announces support for interim responses. The default.
    #[default]
    Auto,
    /// Peers that name no version as well, as the RFC will have it.
    Always,
    /// No peers.
    Never,
}

/// The form of the upload URL in a `Location`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locations {
    /// With scheme and host, as the peer reaches the server. The default: some clients accept nothing else.
    #[default]
    Absolute,
    /// The path alone, which stays valid behind a proxy that changes scheme or host.
    Relative,
}

impl Hoist {
    pub(crate) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self { current: Arc::new(Mutex::new(Arc::clone(&shared))), shared }
    }

    /// Replaces the settings, and keeps the state.
    pub(crate) fn replace(&self, settings: Shared) {
        let mut current = locked(&self.current);
        *current = Arc::new(settings.with_state_of(&current));
    }

    /// Returns a handle with the present settings.
    pub(crate) fn latest(&self) -> Self {
        Self { shared: Arc::clone(&locked(&self.current)), current: Arc::clone(&self.current) }
    }

    /// Returns the path of the upload URL.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// Ends all transfers, keeping their bytes, and waits until each one is stored and settled. From then on the endpoint
    /// accepts no content; it still answers offset queries.
    ///
    /// # Cancellation
    /// If dropped, the transfers still end, unawaited.
    pub async fn drain(&self) {
        self.shared.draining.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Returns the state of each sink of events.
    pub fn sinks(&self) -> Vec<outbox::SinkStatus> {
        self.shared.outbox.as_ref().map(|outbox| outbox.status()).unwrap_or_default()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Starts work that must not stop half-way in a task that the server owns, and waits for it. Dropping the returned future
    /// drops only the result.
    ///
    /// The work is on the heap before this returns, so the future of the caller has no room for it.
    pub(crate) fn own<T, F>(
        &self,
        work: impl FnOnce(Arc<Shared>) -> F,
    ) -> impl Future<Output = Result<T, Refusal>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        // On the heap, because a future that awaits another one by value has room for it twice.
        let work = Box::pin(work(Arc::clone(&self.shared)).in_current_span());
        let (answer, answered) = oneshot::channel();
        let task = async move { drop(answer.send(work.await)) };
        let task = Box::pin(self.shared.tasks.track_future(task));
        if let Some(task) = self.shared.store.spawn(task) {
            self.shared.tasks.spawn(task);
        }
        async move {
            answered.await.unwrap_or_else(|_| {
                tracing::error!("a request task panicked");
                Err(Reason::Internal.into())
            })
        }
    }
}

impl Shared {
    /// Returns these settings with the state of a running endpoint.
    fn with_state_of(self, running: &Self) -> Self {
        Self {
            store: Arc::clone(&running.store),
            endpoint: running.endpoint.clone(),
            clock: Arc::clone(&running.clock),
            ids: running.ids.clone(),
            ledger: running.ledger.with_quotas(&self.ledger),
            mode: Arc::clone(&running.mode),
            claims: running.claims.clone(),
            digests: Arc::clone(&running.digests),
            pending_parts: Arc::clone(&running.pending_parts),
            tombstones: Arc::clone(&running.tombstones),
            backlog: Arc::clone(&running.backlog),
            expiries: Arc::clone(&running.expiries),
            orderly_ends: Arc::clone(&running.orderly_ends),
            outbox: running.outbox.clone(),
            hook_queue: Arc::clone(&running.hook_queue),
            health: Arc::clone(&running.health),
            sweep_asked_for: Arc::clone(&running.sweep_asked_for),
            free_space: Arc::clone(&running.free_space),
            tasks: running.tasks.clone(),
            draining: running.draining.clone(),
            // Each field is listed, so that a new one is either a setting or state.
            target: self.target,
            auth: self.auth,
            hooks: self.hooks,
            policy: self.policy,
            settings: self.settings,
            cors: self.cors,
            cors_headers: self.cors_headers,
            proxies: self.proxies,
            observers: self.observers.with_feed_of(&running.observers),
        }
    }

    /// Returns what a dialect needs to encode an answer; `base` is the upload URL as the peer sees it.
    pub(crate) fn context<'a>(&'a self, base: &'a str) -> Context<'a> {
        let Policy { limits, lifetime, .. } = &self.policy;
        Context { base, alias: None, limits, now: self.clock.now(), lifetime: *lifetime }
    }

    /// Loads the claimed upload, its times corrected for steps of the clock. Corrects the ledger of the quotas, which a request
    /// that failed half-way may have left wrong.
    pub(crate) async fn fetch(&self, claim: &Claim) -> Result<Option<Upload>, Refusal> {
        let id = claim.id();
        let loaded = self.store.load(id, claim.fence()).await.map_err(error::during("load", id))?;
        match &loaded {
            Some(upload) => self.ledger.record(upload),
            None => self.ledger.absent(id),
        }
        Ok(loaded.map(|upload| self.clock.correct(upload)))
    }

    /// Reads an upload without its claim: it may change at any time.
    pub(crate) async fn peek(&self, id: UploadId) -> Result<Option<Upload>, Refusal> {
        let seen = self.store.peek(id).await.map_err(error::during("peek", id))?;
        Ok(seen.map(|upload| self.clock.correct(upload)))
    }
}
