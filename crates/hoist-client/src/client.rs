//! The client and its settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hoist_proto::client::Retries;
use hoist_proto::dialect::token::{self, Form};
use hoist_proto::operation::Operation;
use hoist_proto::types::Token;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::error::Error;
use crate::http::{Alternatives, Answer, Connector, Trust};
use crate::problem;
use crate::source::{Content, Source};
use crate::upload::{self, Put};

/// Uploads, and asks about uploads. Cheap to clone; clones share their settings.
#[derive(Clone)]
pub struct Client {
    pub(crate) connector: Arc<Connector>,
    pub(crate) retries: Retries,
    pub(crate) content_max: Option<u64>,
}

/// Where an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Bytes the server has.
    pub offset: u64,
    /// Bytes it is going to have, if the server knows.
    pub length: Option<u64>,
    /// Whether it is complete, if the server says so.
    pub complete: Option<bool>,
}

impl Client {
    /// Settings, all with sensible defaults.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// An upload of `source` to an upload URL, to be completed by its [`send`](Put::send).
    pub fn put(&self, url: Uri, source: Source) -> Put {
        Put::new(self.clone(), url, source)
    }

    /// Where the upload is that `token` names. Asking ends a transfer of that upload which is still running.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when there is none; otherwise what kept the question from being answered, which is
    /// tried once.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub async fn status(&self, url: Uri, token: &Token) -> Result<Status, Error> {
        let answer = self.ask(&url, token, &Operation::Retrieve).await?;
        let told = token::told(&answer.fields);
        let Some(offset) = told.offset else {
            return Err(Error::Upload(hoist_proto::client::Failure::NotResumable));
        };
        let length = told.length.map(hoist_proto::types::Length::get);
        Ok(Status { offset: offset.get(), length, complete: told.complete })
    }

    /// Ends the upload that `token` names, and frees all that is stored of it.
    ///
    /// # Errors
    /// [`Error::Refused`] with 404 when there is none; otherwise what kept the request from being answered, which is
    /// tried once.
    ///
    /// # Cancellation
    /// The server may have cancelled the upload or not.
    //= TDR-CAN-01
    pub async fn cancel(&self, url: Uri, token: &Token) -> Result<(), Error> {
        self.ask(&url, token, &Operation::Cancel).await.map(drop)
    }

    async fn ask(&self, url: &Uri, token: &Token, operation: &Operation) -> Result<Answer, Error> {
        let target = url.path_and_query().map_or("/", |target| target.as_str());
        let head = Form::Seed.request(target, token, operation).expect("a URI's path is a URI");
        let answer = self
            .connector
            .exchange(url, head, Content::none(), upload::now())
            .await
            .map_err(|broken| broken.error)?;
        if answer.status.is_success() {
            Ok(answer)
        } else {
            Err(Error::Refused { status: answer.status, detail: problem::detail(&answer) })
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("retries", &self.retries).finish_non_exhaustive()
    }
}

/// Settings of a [`Client`].
#[derive(Clone, Debug)]
pub struct Builder {
    fields: HeaderMap,
    bearer: Option<String>,
    ca_file: Option<PathBuf>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    retries: Retries,
    content_max: Option<u64>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            fields: HeaderMap::new(),
            bearer: None,
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            retries: Retries::default(),
            content_max: None,
        }
    }
}

impl Builder {
    /// A field of every request.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.append(name, value);
        self
    }

    /// Authenticates every request with this bearer token.
    pub fn bearer(mut self, secret: impl Into<String>) -> Self {
        self.bearer = Some(secret.into());
        self
    }

    /// Trusts the certificates of this PEM file, and no others.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How long making a connection may take, with TLS. Default: 10 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a connection may stand still before it counts as lost. Default: 60 s. As long as bytes move in either
    /// direction, a request may take any time.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// How long to go on trying while the server acknowledges nothing new. Default: 5 min. Progress renews it.
    pub fn retry_budget(mut self, limit: Duration) -> Self {
        self.retries.budget = limit;
        self
    }

    /// How long the pauses between attempts are: each is random, from nothing up to a bound that begins with
    /// `first` and doubles up to `most`. Default: 0.5 s and 30 s.
    pub fn retry_pauses(mut self, first: Duration, most: Duration) -> Self {
        self.retries.first = first;
        self.retries.most = most;
        self
    }

    /// Puts at most this many bytes into one request, for servers and proxies that take no more.
    pub fn request_bytes_max(mut self, bytes: u64) -> Self {
        self.content_max = Some(bytes);
        self
    }

    /// The client.
    ///
    /// # Errors
    /// [`Error::Field`] when the bearer token cannot be sent. Certificates are read when they are first needed.
    pub fn build(mut self) -> Result<Client, Error> {
        if let Some(secret) = self.bearer {
            let value = HeaderValue::try_from(format!("Bearer {secret}"));
            let mut value = value.map_err(|_| Error::Field("the bearer token"))?;
            value.set_sensitive(true);
            self.fields.insert(header::AUTHORIZATION, value);
        }
        let connector = Connector {
            trust: Trust::new(self.ca_file),
            alternatives: Alternatives::default(),
            fields: self.fields,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
        };
        Ok(Client { connector: Arc::new(connector), retries: self.retries, content_max: self.content_max })
    }
}
