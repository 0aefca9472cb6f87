//! One upload: the loop that does what [`Uploader`] decides.
//!
//! Owns the clock, the randomness and the waiting; every decision is the machine's.

use bytes::Bytes;
use hoist_proto::client::{Ask, Moment, Step, Uploader, token_of};
use hoist_proto::types::{Length, Token};
use hoist_proto::upload::Origin;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::Error;
use crate::http::{Answer, Broken};
use crate::problem;
use crate::progress::{Meter, Progress};
use crate::source::{Content, Opened, Source};

/// An upload that has not begun.
///
/// ```no_run
/// # async fn example() -> Result<(), hoist_client::Error> {
/// use hoist_client::{Client, Source};
///
/// let client = Client::builder().build()?;
/// let put = client.put(http::Uri::from_static("https://example.org/uploads"), Source::file("film.mkv"));
/// let outcome = put.name("film.mkv").content_type("video/x-matroska").send().await?;
/// assert_eq!(outcome.status.as_u16(), 204);
/// # Ok(())
/// # }
/// ```
#[must_use = "an upload begins when it is sent"]
#[derive(Debug)]
pub struct Put {
    client: Client,
    url: Uri,
    source: Source,
    name: Option<String>,
    content_type: Option<String>,
    token: Option<(Token, Known)>,
    progress: watch::Sender<Progress>,
}

/// Whether the server may know a token already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Maybe,
    No,
}

/// An upload that is complete.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Bytes of the representation.
    pub bytes: u64,
    /// Bytes that did not have to be sent again: where the latest interruption, in this run or before it, was resumed.
    pub resumed_bytes: u64,
    /// How many requests had to be repeated.
    pub retries: u32,
    /// The status of the last answer.
    pub status: StatusCode,
    /// Its header section.
    pub fields: HeaderMap,
    /// Its content, up to 1 MiB of it.
    pub content: Bytes,
}

/// A token for one upload: 256 bits from the operating system's random source.
///
/// # Errors
/// When that source fails, which it does not on any system that has started.
//= TOK-TOKEN-06
pub fn fresh_token() -> Result<Token, Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(no_randomness)?;
    Ok(token_of(bits))
}

/// The time.
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn no_randomness(error: getrandom::Error) -> Error {
    Error::Random { source: std::io::Error::other(error) }
}

impl Put {
    pub(crate) fn new(client: Client, url: Uri, source: Source) -> Self {
        let progress = watch::Sender::default();
        Self { client, url, source, name: None, content_type: None, token: None, progress }
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

    /// Goes on with the upload this token names, if an earlier run with the same source has begun it, and begins it
    /// otherwise. The server is asked first.
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some((token, Known::Maybe));
        self
    }

    /// Names the upload by this token, which never named one: a server that knows it refuses. By default the token is
    /// made by [`fresh_token`]; giving one allows to keep it for the next run.
    pub fn new_token(mut self, token: Token) -> Self {
        self.token = Some((token, Known::No));
        self
    }

    /// How far it is, at any time. The last value stays readable after the end.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Uploads, and resumes after every interruption, until the server has it all or there is a reason to give up.
    ///
    /// # Errors
    /// When the server refuses, the source cannot be read or changes, or the retry budget is used up without progress.
    ///
    /// # Cancellation
    /// Dropping the future closes the connection. What the server has stays there; with the same
    /// [token](Self::token) a later run goes on behind it.
    pub async fn send(self) -> Result<Outcome, Error> {
        let source = self.source.clone().open().await?;
        let mut uploader = self.uploader(Length::new(source.length()))?;
        let start = now();
        let mut last = Last { answer: None, error: None };
        self.progress.send_modify(|progress| progress.length = source.length());
        loop {
            match uploader.step() {
                Step::Wait(wait) => {
                    tracing::debug!(
                        ?wait,
                        offset = uploader.acknowledged().get(),
                        "waiting before the next attempt"
                    );
                    tokio::time::sleep(wait).await;
                }
                Step::Send(ask) => {
                    let result = self.exchange(&source, *ask).await?;
                    let moment =
                        Moment { elapsed: start.elapsed(), random: getrandom::u64().map_err(no_randomness)? };
                    match result {
                        Ok(answer) => {
                            uploader.on_sent(answer.sent);
                            uploader.on_response(answer.status, &answer.fields, moment);
                            last = Last { answer: Some(answer), error: None };
                        }
                        Err(Broken { error, reached, sent }) => {
                            tracing::debug!(%error, reached, sent, "an attempt was interrupted");
                            uploader.on_sent(sent);
                            uploader.on_lost(reached, moment);
                            last = Last { answer: None, error: Some(error) };
                        }
                    }
                    self.progress.send_modify(|progress| {
                        progress.acknowledged = uploader.acknowledged().get();
                        progress.retries = uploader.attempts_repeated();
                    });
                }
                Step::Done => return Ok(last.outcome(&uploader, source.length())),
                Step::Failed(failure) => {
                    let detail = last.answer.as_ref().and_then(problem::detail);
                    return Err(Error::of(failure, detail, last.error));
                }
            }
        }
    }

    fn uploader(&self, length: Length) -> Result<Uploader, Error> {
        let (token, known) = match &self.token {
            Some(given) => given.clone(),
            None => (fresh_token()?, Known::No),
        };
        let begin = match known {
            Known::Maybe => Uploader::resume,
            Known::No => Uploader::create,
        };
        let uploader = begin(self.url.clone(), token, self.origin()?, length, self.client.retries);
        Ok(match self.client.content_max {
            Some(bytes) => uploader.with_content_max(bytes),
            None => uploader,
        })
    }

    fn origin(&self) -> Result<Origin, Error> {
        let mut fields = HeaderMap::new();
        if let Some(media_type) = &self.content_type {
            let value = HeaderValue::try_from(media_type).map_err(|_| Error::Field("the media type"))?;
            fields.insert(header::CONTENT_TYPE, value);
        }
        if let Some(name) = &self.name {
            fields.insert(header::CONTENT_DISPOSITION, disposition(name));
        }
        let target = self.url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Origin { method: Method::POST, target, fields })
    }

    /// One request. The outer error ends the upload, the inner one only the attempt.
    async fn exchange(&self, source: &Opened, mut ask: Ask) -> Result<Result<Answer, Broken>, Error> {
        let transfers = ask.content.is_some();
        let content = match ask.content {
            Some(range) => {
                // Spelled out, because nothing would be said of content that is empty.
                let bytes = HeaderValue::from(range.end - range.start);
                ask.head.headers_mut().insert(header::CONTENT_LENGTH, bytes);
                let meter = Meter::new(&self.progress, range.start);
                source.content(range, meter).await?
            }
            None => Content::none(),
        };
        let trip = content.failure();
        let result = self.client.connector.exchange(&self.url, ask.head, content, now()).await;
        if let Some(error) = trip.take() {
            return Err(source.failed(error));
        }
        if transfers {
            source.unchanged().await?;
        }
        match result {
            Err(Broken { error, .. })
                if !matches!(error, Error::Connect { .. } | Error::Lost { .. } | Error::Idle(_)) =>
            {
                Err(error)
            }
            result => Ok(result),
        }
    }
}

/// How the last request ended.
struct Last {
    answer: Option<Answer>,
    error: Option<Error>,
}

impl Last {
    fn outcome(self, uploader: &Uploader, bytes: u64) -> Outcome {
        let Answer { status, fields, content, .. } = self.answer.expect("an upload ends well with an answer");
        Outcome {
            bytes,
            resumed_bytes: uploader.resumed_at().get(),
            retries: uploader.attempts_repeated(),
            status,
            fields,
            content,
        }
    }
}

/// `Content-Disposition` with a file name, in the form every server reads and in the one that holds all of Unicode
/// (RFC 6266, RFC 8187).
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
    HeaderValue::try_from(text).expect("visible ASCII and spaces")
}
