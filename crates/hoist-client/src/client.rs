//! The client and its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::client::Retries;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::dialect::Dialect;
use crate::error::Error;
use crate::http::{Alternatives, Connector, Http2, Proxies, Resolve, Roots, SystemResolver, Trust};
use crate::origin::{Credentials, Origin};
use crate::origin_cache::OriginCache;
use crate::rate_limiter::RateLimiter;

/// A client that uploads, queries and cancels uploads. Cheap to clone; clones share their settings and what they have
/// learned about servers.
#[derive(Clone)]
pub struct Client {
    pub(crate) connector: Arc<Connector>,
    pub(crate) origins: Arc<OriginCache>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
    pub(crate) settings: Settings,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The pauses and the number of attempts. Their time is limited by `retry_budget`.
    pub(crate) retries: Retries,
    /// The time without progress after which an upload, and all uploads to its origin, are given up.
    pub(crate) retry_budget: Duration,
    pub(crate) content_max: Option<u64>,
    pub(crate) dialect: Dialect,
    pub(crate) parts: usize,
    pub(crate) expect_timeout: Duration,
    pub(crate) rewind_bytes_max: u64,
    pub(crate) requires_resumable: bool,
}

impl Client {
    /// Returns a builder with the default settings.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// A builder of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    fields: HeaderMap,
    bearer: Option<String>,
    credentials_url: Option<Uri>,
    roots: Roots,
    connect_timeout: Duration,
    idle_timeout: Duration,
    http2: Http2,
    proxies: Proxies,
    resolver: Arc<dyn Resolve>,
    bytes_per_second: Option<u64>,
    settings: Settings,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            fields: HeaderMap::new(),
            bearer: None,
            credentials_url: None,
            roots: Roots::System,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            http2: Http2::default(),
            proxies: Proxies::default(),
            resolver: Arc::new(SystemResolver),
            bytes_per_second: None,
            settings: Settings {
                retries: Retries { budget: Duration::MAX, ..Retries::default() },
                retry_budget: Retries::default().budget,
                content_max: None,
                dialect: Dialect::Auto,
                parts: 1,
                expect_timeout: Duration::from_secs(1),
                rewind_bytes_max: 32 * 1024 * 1024,
                requires_resumable: false,
            },
        }
    }
}

impl ClientBuilder {
    /// Adds a header field to every request to one origin: that of the URL given to each call, or the one set by
    /// [`credentials_for`](Self::credentials_for). Other origins that a server names are not sent the field.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.append(name, value);
        self
    }

    /// Authenticates requests with a bearer token. It is sent to the same origin as a [`header`](Self::header).
    pub fn bearer(mut self, secret: impl Into<String>) -> Self {
        self.bearer = Some(secret.into());
        self
    }

    /// Binds the bearer token and the header fields to the origin of this URL, whichever URLs the calls are given.
    pub fn credentials_for(mut self, url: Uri) -> Self {
        self.credentials_url = Some(url);
        self
    }

    /// Trusts the certificates in this PEM file instead of those of the operating system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Roots::File(path.into());
        self
    }

    /// Accepts any certificate of the server and of a proxy. Credentials and content can then be read and changed on the
    /// way, so this is for tests only.
    pub fn accept_any_certificate(mut self) -> Self {
        self.roots = Roots::Any;
        self
    }

    /// Sets the timeout for opening a connection, TLS handshake included. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// Sets the time without any traffic after which a connection counts as lost. Default: 60 s. A request may take any
    /// time as long as bytes move in either direction.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Sets the time after which to give up if the server acknowledges nothing new. Default: 5 min. Progress resets it.
    ///
    /// The uploads of a client to one origin share this time: while none of them makes progress, an upload that starts
    /// later gets only what the others have left of it. It also limits the time that one attempt may wait for the server,
    /// to no less than 1 s. Zero means one attempt.
    pub fn retry_budget(mut self, limit: Duration) -> Self {
        self.settings.retry_budget = limit;
        self
    }

    /// Sets the pauses between attempts. Each is random, between zero and a bound that starts at `first` and doubles up to
    /// `most`. Default: 0.5 s and 30 s.
    pub fn retry_pauses(mut self, first: Duration, most: Duration) -> Self {
        self.settings.retries.first = first;
        self.settings.retries.most = most;
        self
    }

    /// Sets the number of attempts after which to give up if the server acknowledges nothing new. Default: 100. Progress
    /// resets it.
    pub fn retry_attempts(mut self, most: u32) -> Self {
        self.settings.retries.attempts = most;
        self
    }

    /// Sets the dialect. Default: [`Dialect::Auto`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.settings.dialect = dialect;
        self
    }

    /// Sends an upload in up to this many parts in parallel, if the dialect, the server and the source allow it.
    /// Default: 1.
    pub fn parts(mut self, most: usize) -> Self {
        self.settings.parts = most.max(1);
        self
    }

    /// Sets the version of HTTP. Default: [`Http2::Auto`].
    pub fn http2(mut self, http2: Http2) -> Self {
        self.http2 = http2;
        self
    }

    /// Sets the proxies. Default: none. [`Proxies::from_variables`] reads them from environment variables.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Replaces the operating system's resolver.
    #[cfg(test)]
    pub(crate) fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Limits the rate at which the client and its clones send content, in bytes per second, all uploads and all their
    /// connections together. The connections that have content to send share the rate evenly, and the share of one that
    /// ends passes to the others. Default: unlimited.
    pub fn rate_max(mut self, bytes_per_second: u64) -> Self {
        self.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Sets how long the content of the first large request waits for an interim response (100 or 104). Default: 1 s. A
    /// server that sent none is not waited for again.
    pub fn expect_timeout(mut self, limit: Duration) -> Self {
        self.settings.expect_timeout = limit;
        self
    }

    /// Sets how many bytes of a source that cannot be read again are kept until the server acknowledges them. Default:
    /// 32 MiB. When that many are kept, the request is ended so that the server acknowledges them.
    pub fn rewind_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.rewind_bytes_max = bytes.max(1);
        self
    }

    /// Fails with [`Error::Unresumable`] if the server supports no upload protocol. If the server does not announce one,
    /// it is sent no content before it has shown one. Default: any server is accepted.
    pub fn require_resumable(mut self) -> Self {
        self.settings.requires_resumable = true;
        self
    }

    /// Limits the content of each request, in bytes, for servers and proxies that accept no more. Default: unlimited.
    pub fn request_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.content_max = Some(bytes);
        self
    }

    /// Builds the client. Certificates are read when they are first needed.
    ///
    /// # Errors
    /// Returns [`Error::Field`] if the bearer token is no valid field value, and [`Error::Url`] if the URL given to
    /// [`credentials_for`](Self::credentials_for) cannot be used.
    pub fn build(mut self) -> Result<Client, Error> {
        if let Some(secret) = self.bearer {
            let value = HeaderValue::try_from(format!("Bearer {secret}"));
            let mut value = value.map_err(|_| Error::Field("the bearer token"))?;
            value.set_sensitive(true);
            self.fields.insert(header::AUTHORIZATION, value);
        }
        let bound_to = self.credentials_url.as_ref().map(Origin::of).transpose()?;
        let origins = Arc::<OriginCache>::default();
        let connector = Connector {
            origins: Arc::clone(&origins),
            trust: Trust::from(self.roots),
            alternatives: Alternatives::default(),
            credentials: Credentials::new(self.fields, bound_to),
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            http2: self.http2,
            proxies: self.proxies,
            resolver: self.resolver,
        };
        let rate_limiter = self.bytes_per_second.map(|rate| Arc::new(RateLimiter::new(rate)));
        let connector = Arc::new(connector);
        Ok(Client { connector, origins, rate_limiter, settings: self.settings })
    }
}
