//! One upload, before it begins and after it has ended.
//!
//! Owns the clock and the randomness; `run` is what happens in between.

use std::time::SystemTime;

use bytes::Bytes;
use hoist_proto::client::token_of;
use hoist_proto::dialect::token::Form;
use hoist_proto::digest::{self, Algorithm, Digest};
use hoist_proto::types::Token;
use hoist_proto::upload::Origin;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::dialect::Dialect;
use crate::disposition::disposition;
use crate::error::Error;
use crate::handle::Handle;
use crate::journal::Journal;
use crate::progress::{Progress, Reporter, Start};
use crate::run;
use crate::source::Source;

/// An upload that has not begun.
///
/// ```no_run
/// # async fn example() -> Result<(), hoist_client::Error> {
/// use hoist_client::{Client, Source};
///
/// let client = Client::builder().build()?;
/// let put = client.put(http::Uri::from_static("https://example.org/uploads"), Source::file("film.mkv"));
/// let outcome = put.name("film.mkv").content_type("video/x-matroska").send().await?;
/// assert!(outcome.status.is_success());
/// # Ok(())
/// # }
/// ```
#[must_use = "an upload begins when it is sent"]
#[derive(Debug)]
pub struct Put {
    pub(crate) client: Client,
    pub(crate) url: Uri,
    pub(crate) source: Source,
    pub(crate) name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) method: Method,
    pub(crate) start_from: StartFrom,
    pub(crate) journal: Option<Journal>,
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) verifies: bool,
    pub(crate) continues: bool,
    pub(crate) reporter: Reporter,
}

/// An earlier run, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) enum StartFrom {
    /// Nothing, or what the journal knows.
    Journal,
    /// This names an upload, which may have been begun.
    Handle(Handle),
    /// This token never named an upload.
    NewToken(Token),
    /// The URL is that of this upload, which is there.
    ExistingUrl(Handle),
}

/// An upload that is complete.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Bytes of the representation.
    pub bytes: u64,
    /// Bytes that did not have to be sent again: where the latest interruption, in this run or before it, was resumed.
    pub resumed_bytes: u64,
    /// The number of requests that had to be repeated.
    pub retries: u32,
    /// The status of the last answer.
    pub status: StatusCode,
    /// Its header section.
    pub fields: HeaderMap,
    /// Its content, up to 1 MiB of it.
    pub content: Bytes,
    /// The upload's own URL, where the server gave it one.
    pub url: Option<Uri>,
    /// The version of HTTP that was spoken.
    pub version: Version,
    /// The dialect that was spoken: conventional, if the server's answers showed none.
    pub dialect: Dialect,
    /// True if the server has shown that it speaks an upload protocol, by a 104 or a field of the protocol. If false,
    /// the status is the only evidence that the server has kept the bytes.
    pub resumable: bool,
    /// The way it began.
    pub start: Start,
    /// The SHA-256 of the representation, where it was given or made on the way.
    pub sha256: Option<[u8; 32]>,
    /// True if the server has said that it has the bytes with that digest.
    pub verified: bool,
}

/// A token for one upload: 256 bits from the operating system's random source.
///
/// # Errors
/// When that source fails, which it does not on any system that has started.
//= TOK-TOKEN-06
pub fn random_token() -> Result<Token, Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(no_randomness)?;
    Ok(token_of(bits))
}

/// The time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The time of day.
pub(crate) fn today() -> SystemTime {
    SystemTime::now()
}

/// An unpredictable number.
pub(crate) fn random() -> Result<u64, Error> {
    getrandom::u64().map_err(no_randomness)
}

fn no_randomness(error: getrandom::Error) -> Error {
    Error::Random { source: std::io::Error::other(error) }
}

impl Put {
    pub(crate) fn new(client: Client, url: Uri, source: Source) -> Self {
        Self {
            client,
            url,
            source,
            name: None,
            content_type: None,
            method: Method::POST,
            start_from: StartFrom::Journal,
            journal: None,
            sha256: None,
            verifies: false,
            continues: false,
            reporter: Reporter::new(now),
        }
    }

    /// The file's name, as the server will know it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The media type.
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        self.content_type = Some(media_type.into());
        self
    }

    /// The method of the request that begins the upload. Default: `POST`. A `PUT` may be made again where it is not known
    /// whether the first was carried out.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Goes on with the upload this token names, if an earlier run with the same source has begun it, and begins it
    /// otherwise. The server is asked first. Speaks the token dialect, in the first draft's form unless another is set.
    pub fn token(mut self, token: Token) -> Self {
        self.start_from = StartFrom::Handle(Handle::Token { url: self.url.clone(), token });
        self
    }

    /// Names the upload by this token, which never named one: a server that knows it refuses. Speaks the token dialect
    /// likewise. Where that dialect is chosen and no token is given, one is made by [`random_token`]; giving one allows to
    /// keep it for the next run.
    pub fn new_token(mut self, token: Token) -> Self {
        self.start_from = StartFrom::NewToken(token);
        self
    }

    /// Goes on with an upload that an earlier run with the same source has begun.
    pub fn resume(mut self, handle: Handle) -> Self {
        self.start_from = StartFrom::Handle(handle);
        self
    }

    /// Goes on with what the journal knows of the same file and URL, and keeps it there until the upload is complete.
    /// Sources other than files are uploaded without; and what [`resume`](Self::resume) or a token says comes first.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Asks first whether the URL is that of an upload which was made elsewhere, and goes on with that one behind the bytes
    /// it has, which are taken for the beginning of the source. With a [journal](Self::journal) that is begun with a file
    /// and later found to hold another version of it, it is an error. A token and [`resume`](Self::resume) come first.
    pub fn continue_at_url(mut self) -> Self {
        self.continues = true;
        self
    }

    /// The SHA-256 of the source, offered to the server, which refuses other bytes if it checks.
    pub fn sha256(mut self, digest: [u8; 32]) -> Self {
        self.sha256 = Some(digest);
        self
    }

    /// Has the server say the SHA-256 of what it has, in the dialects in which it can, and compares. What can be read
    /// twice is hashed before it is sent, so that the server can check too; a stream on its way. In tus 1.0 each request
    /// carries a digest, where the server takes one; what is cut there is sent again from the beginning of the request.
    pub fn verify(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// A channel that tells how far it is, at any time. The last value stays readable after the end.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.reporter.subscribe()
    }

    /// Uploads, and resumes after every interruption, until the server has it all or there is a reason to give up.
    ///
    /// # Errors
    /// When the server refuses, the source cannot be read or changes, or the retry budget is used up without progress.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. What the server has stays there; a later run with the same
    /// [journal](Self::journal), [handle](Self::resume) or [token](Self::token) goes on behind it.
    pub async fn send(self) -> Result<Outcome, Error> {
        // Boxed, because a future that awaits it should not become as large as everything an upload may do.
        Box::pin(run::send(self)).await
    }

    /// The form of the token dialect, where it is that which is spoken.
    pub(crate) fn form(&self) -> Form {
        match self.client.settings.dialect {
            Dialect::Token(form) => form,
            Dialect::Auto | Dialect::Ietf(_) | Dialect::Tus1 | Dialect::Conventional => Form::Seed,
        }
    }

    pub(crate) fn origin(&self) -> Result<Origin, Error> {
        let mut fields = HeaderMap::new();
        if let Some(media_type) = &self.content_type {
            let value = HeaderValue::try_from(media_type).map_err(|_| Error::Field("the media type"))?;
            fields.insert(header::CONTENT_TYPE, value);
        }
        if let Some(name) = &self.name {
            fields.insert(header::CONTENT_DISPOSITION, disposition(name));
        }
        if let Some(octets) = self.sha256 {
            let digest = Digest { algorithm: Algorithm::Sha256, octets: octets.to_vec() };
            fields.insert(digest::REPR_DIGEST, digest::value(&digest));
        }
        if self.verifies {
            fields.insert(digest::WANT_REPR_DIGEST, HeaderValue::from_static("sha-256=10"));
        }
        let target = self.url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Origin { method: self.method.clone(), target, fields })
    }
}
