//! The client and its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::client::{Failure, Retries};
use hoist_proto::dialect::answer::{self, Said};
use hoist_proto::operation::Operation;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::dialect::{Dialect, OriginCache};
use crate::error::Error;
use crate::handle::{Handle, Query, Status};
use crate::http::{
    Alternatives, Connector, FinalResponse, Http2, Proxies, Resolve, ReusedConnection, System, Trust,
};
use crate::location;
use crate::origin::{Credentials, Origin};
use crate::problem;
use crate::redirect;
use crate::source::Source;
use crate::upload::{self, Put};

/// Uploads, and asks about uploads. Cheap to clone; clones share their settings.
#[derive(Clone)]
pub struct Client {
    pub(crate) connector: Arc<Connector>,
    pub(crate) origins: Arc<OriginCache>,
    pub(crate) settings: Settings,
}

/// Settings that all uploads of a client share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) retries: Retries,
    pub(crate) content_max: Option<u64>,
    pub(crate) dialect: Dialect,
    pub(crate) parts: usize,
    pub(crate) bytes_per_second: Option<u64>,
    pub(crate) expect_timeout: Duration,
    pub(crate) rewind_bytes_max: u64,
    pub(crate) requires_resumable: bool,
}

impl Client {
    /// Settings, all with sensible defaults.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// An upload of `source` to an upload URL, to be completed by its [`send`](Put::send).
    pub fn put(&self, url: Uri, source: Source) -> Put {
        Put::new(self.clone(), url, source)
    }

    /// Asks how far an upload is. Asking ends a transfer of that upload which is still running. The offset of an upload in
    /// parts is the sum of theirs.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when there is none; otherwise what kept the question from being answered, which is
    /// tried once.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn status(&self, handle: &Handle) -> Result<Status, Error> {
        let Some(parts) = handle.parts() else { return self.status_of_one(handle).await };
        let mut offset = 0;
        for part in &parts {
            offset += self.status_of_one(part).await?.offset;
        }
        Ok(Status { offset, length: None, complete: Some(false) })
    }

    async fn status_of_one(&self, handle: &Handle) -> Result<Status, Error> {
        let (query, answer) = self.questioned(handle, &Operation::Retrieve).await?;
        query.status(&answer).ok_or(Error::Upload(Failure::NotResumable))
    }

    /// Ends an upload, and frees all that is stored of it.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when there is none; otherwise what kept the request from being answered, which is
    /// tried once.
    ///
    /// # Cancellation
    /// The server may have cancelled the upload or not.
    //= TDR-CAN-01
    pub async fn cancel(&self, handle: &Handle) -> Result<(), Error> {
        let Some(parts) = handle.parts() else {
            return self.questioned(handle, &Operation::Cancel).await.map(drop);
        };
        for part in &parts {
            self.questioned(part, &Operation::Cancel).await?;
        }
        Ok(())
    }

    /// Asks in each dialect that the upload may be of, until one finds it. Fails as a server that does not know the upload
    /// does, if any dialect is answered so, or else like the first one.
    async fn questioned<'a>(
        &self,
        handle: &'a Handle,
        operation: &Operation,
    ) -> Result<(Query<'a>, FinalResponse), Error> {
        let mut refused: Option<Error> = None;
        for query in handle.queries() {
            match self.ask(handle, query.head(operation)).await {
                Ok(answer) => return Ok((query, answer)),
                Err(Error::Refused { status, detail }) => {
                    let is_unknown = answer::said(status) == Said::Unknown;
                    // A server that does not speak the dialect of the question says so by one of these.
                    if !is_unknown && !matches!(status.as_u16(), 400 | 405 | 412) {
                        return Err(Error::Refused { status, detail });
                    }
                    if is_unknown || refused.is_none() {
                        refused = Some(Error::Refused { status, detail });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or(Error::Upload(Failure::NotResumable)))
    }

    async fn ask(&self, handle: &Handle, head: http::Request<()>) -> Result<FinalResponse, Error> {
        let url = location::followed(handle.target(), handle.url())?;
        let (mut connection, given) = (ReusedConnection::default(), Origin::of(handle.target())?);
        let answer = connection.ask(&self.connector, &url, head, &given, upload::now()).await;
        let answer = answer.map_err(|broken| broken.error)?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let refused = || Error::Refused { status: answer.status, detail: problem::detail(&answer) };
        Err(redirect::error(&answer).unwrap_or_else(refused))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    fields: HeaderMap,
    bearer: Option<String>,
    bound: Option<Uri>,
    ca_file: Option<PathBuf>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    http2: Http2,
    proxies: Proxies,
    resolver: Arc<dyn Resolve>,
    settings: Settings,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            fields: HeaderMap::new(),
            bearer: None,
            bound: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            http2: Http2::default(),
            proxies: Proxies::default(),
            resolver: Arc::new(System),
            settings: Settings {
                retries: Retries::default(),
                content_max: None,
                dialect: Dialect::Auto,
                parts: 1,
                bytes_per_second: None,
                expect_timeout: Duration::from_secs(1),
                rewind_bytes_max: 32 * 1024 * 1024,
                requires_resumable: false,
            },
        }
    }
}

impl ClientBuilder {
    /// A field of every request to the origin it is for: that of the URL each call is given, or the one
    /// [`credentials_for`](Self::credentials_for) names. Another origin that a server leads to is not sent it.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.append(name, value);
        self
    }

    /// Authenticates every request with this bearer token, which goes where a [`header`](Self::header) goes.
    pub fn bearer(mut self, secret: impl Into<String>) -> Self {
        self.bearer = Some(secret.into());
        self
    }

    /// Binds the bearer token and the headers to the origin of this URL, whatever URLs the calls are given.
    pub fn credentials_for(mut self, url: Uri) -> Self {
        self.bound = Some(url);
        self
    }

    /// Trusts the certificates of this PEM file, and no others.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The time within which a connection has to be made, TLS included. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// The time after which a connection that stands still counts as lost. Default: 60 s. As long as bytes move in either
    /// direction, a request may take any time.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// The time to go on trying while the server acknowledges nothing new. Default: 5 min. Progress renews it.
    pub fn retry_budget(mut self, limit: Duration) -> Self {
        self.settings.retries.budget = limit;
        self
    }

    /// The pauses between attempts: each is random, from nothing up to a bound that begins with
    /// `first` and doubles up to `most`. Default: 0.5 s and 30 s.
    pub fn retry_pauses(mut self, first: Duration, most: Duration) -> Self {
        self.settings.retries.first = first;
        self.settings.retries.most = most;
        self
    }

    /// The number of attempts while the server acknowledges nothing new. Default: 100. Progress renews it.
    pub fn retry_attempts(mut self, most: u32) -> Self {
        self.settings.retries.attempts = most;
        self
    }

    /// The dialect to speak. Default: the one the server speaks.
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.settings.dialect = dialect;
        self
    }

    /// Sends an upload in up to this many parts at the same time, where the dialect, the server and the source allow
    /// it. Default: 1.
    pub fn parts(mut self, most: usize) -> Self {
        self.settings.parts = most.max(1);
        self
    }

    /// Which version of HTTP to speak. Default: [`Http2::Auto`].
    pub fn http2(mut self, http2: Http2) -> Self {
        self.http2 = http2;
        self
    }

    /// Goes through these proxies. Default: none; [`Proxies::from_variables`] reads what the environment says.
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Looks names up in another way than the operating system's.
    #[cfg(test)]
    pub(crate) fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Sends at most this many bytes in a second, on each connection. Default: as many as will go.
    pub fn rate_max(mut self, bytes_per_second: u64) -> Self {
        self.settings.bytes_per_second = Some(bytes_per_second);
        self
    }

    /// The time that the content of an upload's first request waits for a sign that the server takes it (100 or 104). A
    /// server that gave none is not waited for again. Default: 1 s.
    pub fn expect_timeout(mut self, limit: Duration) -> Self {
        self.settings.expect_timeout = limit;
        self
    }

    /// The number of bytes kept of a source that cannot be read again, until the server has acknowledged them. The request
    /// is ended when so many are kept, so that they are acknowledged. Default: 32 MiB.
    pub fn rewind_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.rewind_bytes_max = bytes.max(1);
        self
    }

    /// Uploads only to servers that show an upload protocol: to others it ends with [`Error::Unresumable`]. A server that
    /// does not say what it speaks is sent no content before it has shown one. Default: any server will do.
    pub fn require_resumable(mut self) -> Self {
        self.settings.requires_resumable = true;
        self
    }

    /// Puts at most this many bytes into one request, for servers and proxies that take no more.
    pub fn request_bytes_max(mut self, bytes: u64) -> Self {
        self.settings.content_max = Some(bytes);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Field`] when the bearer token cannot be sent; [`Error::Url`] when the URL it is bound to is none.
    /// Certificates are read when they are first needed.
    pub fn build(mut self) -> Result<Client, Error> {
        if let Some(secret) = self.bearer {
            let value = HeaderValue::try_from(format!("Bearer {secret}"));
            let mut value = value.map_err(|_| Error::Field("the bearer token"))?;
            value.set_sensitive(true);
            self.fields.insert(header::AUTHORIZATION, value);
        }
        let bound = self.bound.as_ref().map(Origin::of).transpose()?;
        let connector = Connector {
            trust: Trust::new(self.ca_file),
            alternatives: Alternatives::default(),
            credentials: Credentials::new(self.fields, bound),
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            http2: self.http2,
            proxies: self.proxies,
            resolver: self.resolver,
        };
        Ok(Client { connector: Arc::new(connector), origins: Arc::default(), settings: self.settings })
    }
}
