//! The settings of one upload, and its outcome. `run` does what lies in between.

use bytes::Bytes;
use hoist_proto::dialect::token::Form;
use hoist_proto::digest::{self, Algorithm, Digest};
use hoist_proto::types::Token;
use hoist_proto::upload::Origin;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use tokio::sync::watch;

use crate::client::Client;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::journal::Journal;
use crate::location::request_target;
use crate::progress::{Progress, Reporter, Start};
use crate::retry::{FailedAttempt, RetryContext, RetryObserver};
use crate::source::Source;

/// An upload that has not been started. [`send`](Self::send) starts it.
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
#[must_use = "an upload starts when `send` is called"]
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
    pub(crate) journal_note: Option<String>,
    pub(crate) sha256: Option<[u8; 32]>,
    pub(crate) verifies: bool,
    pub(crate) continues: bool,
    pub(crate) reporter: Reporter,
    pub(crate) retry_observer: RetryObserver,
    pub(crate) handle: watch::Sender<Option<Handle>>,
}

/// The upload to resume, if any.
#[derive(Clone, Debug)]
pub(crate) enum StartFrom {
    /// The one in the journal, or a new upload if there is none.
    Journal,
    /// The one with this handle, or a new upload if the token in the handle has not been used.
    Handle(Handle),
    /// A new upload with this token.
    NewToken(Token),
    /// The one at the URL, which was found to be that of an upload.
    ExistingUrl(Handle),
}

/// The outcome of a complete upload.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Bytes of the representation.
    pub bytes: u64,
    /// The offset at which the upload was resumed after the latest interruption, in this run or before it: bytes that were
    /// not sent again.
    pub resumed_bytes: u64,
    /// The number of requests that had to be repeated.
    pub retries: u32,
    /// The status of the final response.
    pub status: StatusCode,
    /// The header fields of the final response.
    pub fields: HeaderMap,
    /// The content of the final response, up to 1 MiB.
    pub content: Bytes,
    /// The upload's own URL, if the server gave it one.
    pub url: Option<Uri>,
    /// The version of HTTP of the final response.
    pub version: Version,
    /// The dialect that was used. [`Dialect::Conventional`] if the server supports none.
    pub dialect: Dialect,
    /// True if the server has shown that it supports an upload protocol, by a 104 or a field of the protocol. If false,
    /// the status is the only evidence that the server has stored the bytes.
    pub resumable: bool,
    /// The way the upload started.
    pub start: Start,
    /// The SHA-256 of the representation, if it was given or computed.
    pub sha256: Option<[u8; 32]>,
    /// True if the server has confirmed that digest.
    pub verified: bool,
}

impl Client {
    /// Returns an upload of `source` to an upload URL.
    pub fn put(&self, url: Uri, source: Source) -> Put {
        Put {
            client: self.clone(),
            url,
            source,
            name: None,
            content_type: None,
            method: Method::POST,
            start_from: StartFrom::Journal,
            journal: None,
            journal_note: None,
            sha256: None,
            verifies: false,
            continues: false,
            reporter: Reporter::default(),
            retry_observer: RetryObserver::default(),
            handle: watch::Sender::default(),
        }
    }
}

impl Put {
    /// Sets the name of the file, which is sent to the server.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the media type of the representation.
    pub fn content_type(mut self, media_type: impl Into<String>) -> Self {
        self.content_type = Some(media_type.into());
        self
    }

    /// Sets the method of the request that creates the upload. Default: `POST`. An idempotent method such as `PUT` can be
    /// repeated when it is unknown whether the server has processed the first request.
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Resumes the upload with this token if a previous run with the same source has created it, and creates it otherwise.
    /// The server is queried first. Uses the token dialect, in the seed form unless another is set.
    pub fn token(mut self, token: Token) -> Self {
        self.start_from = StartFrom::Handle(Handle::Token { url: self.url.clone(), token });
        self
    }

    /// Creates an upload with this token, which must not have been used: a server that knows it refuses. Uses the token
    /// dialect, too. If that dialect is set and no token is given, one is made by [`random_token`](crate::random_token);
    /// giving one allows the caller to store it for a later run.
    pub fn new_token(mut self, token: Token) -> Self {
        self.start_from = StartFrom::NewToken(token);
        self
    }

    /// Resumes an upload that a previous run with the same source has created.
    pub fn resume(mut self, handle: Handle) -> Self {
        self.start_from = StartFrom::Handle(handle);
        self
    }

    /// Records the upload in a journal until it is complete, and resumes the upload of the same file to the same URL that
    /// is recorded there. Has no effect on sources other than files, or if [`resume`](Self::resume) or a token is set.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Stores a note in the [journal](Self::journal) entry, such as the command that resumes the upload. It replaces the note
    /// of an earlier run and is returned in [`JournalEntry::note`](crate::JournalEntry::note). The entry is rewritten as a
    /// whole, so the note should have no more than a few KiB.
    pub fn journal_note(mut self, note: impl Into<String>) -> Self {
        self.journal_note = Some(note.into());
        self
    }

    /// Checks whether the URL is that of an upload created elsewhere, and if so continues that one. The bytes it already
    /// has are taken for the beginning of the source. Fails with [`Error::SourceChanged`] if the upload is in the
    /// [journal](Self::journal) and the file has changed since. Has no effect if [`resume`](Self::resume) or a token is set.
    pub fn continue_at_url(mut self) -> Self {
        self.continues = true;
        self
    }

    /// Sets the SHA-256 of the source. It is sent to the server, which may refuse other bytes.
    pub fn sha256(mut self, digest: [u8; 32]) -> Self {
        self.sha256 = Some(digest);
        self
    }

    /// Asks the server for the SHA-256 of what it has received and compares it, in the dialects that support that. A source
    /// that can be read twice is hashed first, so that the server can check, too; a stream is hashed while it is sent. In
    /// tus 1.0 each request has a checksum, if the server supports one; an interrupted request is then repeated as a whole.
    pub fn verify(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// Returns a channel with the progress of the upload. Its last value remains readable after the end.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.reporter.subscribe()
    }

    /// Calls `observer` for each attempt that fails and is going to be repeated, before the pause. It is called on the task
    /// that awaits [`send`](Self::send), so it must not block.
    pub fn on_retry(mut self, observer: impl Fn(FailedAttempt<'_>) + Send + Sync + 'static) -> Self {
        self.retry_observer = RetryObserver::new(observer);
        self
    }

    /// Returns a channel with the handle of the upload, which is `None` until the server has named the upload or its token
    /// is known. Its last value remains readable after the end.
    pub fn handle(&self) -> watch::Receiver<Option<Handle>> {
        self.handle.subscribe()
    }

    /// Returns what the attempts of this upload have in common with others.
    pub(crate) fn retry_context(&self) -> Result<RetryContext<'_>, Error> {
        Ok(RetryContext {
            budget: self.client.settings.retry_budget,
            origin: crate::origin::Origin::of(&self.url)?,
            origins: &self.client.origins,
            observer: &self.retry_observer,
            acknowledged: self.reporter.subscribe().borrow().acknowledged,
        })
    }

    /// Publishes the handle of the upload.
    pub(crate) fn note_handle(&self, handle: &Handle) {
        self.handle.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(handle);
            if is_new {
                *known = Some(handle.clone());
            }
            is_new
        });
    }

    /// Publishes the URL of one part of the upload.
    pub(crate) fn note_part(&self, index: usize, url: &Uri) {
        self.handle.send_if_modified(|handle| {
            let Some(Handle::Parts { parts, .. }) = handle else { return false };
            let Some(part) = parts.get_mut(index).filter(|part| part.as_ref() != Some(url)) else {
                return false;
            };
            *part = Some(url.clone());
            true
        });
    }

    pub(crate) fn form(&self) -> Form {
        if let Dialect::Token(form) = self.client.settings.dialect { form } else { Form::Seed }
    }

    /// Returns the request that creates the upload.
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
        let target = request_target(&self.url).to_owned();
        Ok(Origin { method: self.method.clone(), target, fields })
    }
}

/// Returns a `Content-Disposition` with a file name, in ASCII for every server and in UTF-8 where the name needs it (RFC
/// 6266, RFC 8187).
fn disposition(name: &str) -> HeaderValue {
    use std::fmt::Write as _;
    let plain: String =
        name.chars()
            .map(|char| {
                if char.is_ascii_graphic() && !matches!(char, '"' | '\\') || char == ' ' { char } else { '_' }
            })
            .collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(text).expect("the value is visible ASCII and spaces")
}
