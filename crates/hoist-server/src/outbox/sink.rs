//! Sinks: the recipients of events, and one attempt to deliver one.
//!
//! Owns the forms of a sink's URL, the format of its content, and the meaning of its answer. When to try is decided by the
//! [`lane`](super::lane).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hoist_proto::types::Timestamp;
use hoist_proto::upload::{EventKind, SinkKey};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

use super::lane::Kinds;
use super::signature::{Secret, signatures};
use crate::outbound::{Bounds, Destination, Outbound};
use crate::program::{Program, Programs};

/// The most bytes of an answer. Its content is ignored.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The time that a receiver has for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest reason for a failure that is kept.
const REASON_CHARS_MAX: usize = 300;

/// A recipient of events.
#[derive(Clone, Debug)]
pub struct Sink {
    transport: Transport,
    format: Format,
    secrets: Vec<Secret>,
    kinds: Kinds,
    key: SinkKey,
}

#[derive(Clone, Debug)]
enum Transport {
    Http(Destination),
    Program { file: PathBuf, arguments: Vec<String> },
}

/// The format of the content that a sink receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `CloudEvents` 1.0, in structured mode. The default.
    #[default]
    CloudEvents,
    /// The JSON of tusd's hooks.
    Tusd,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 2] = [Self::CloudEvents, Self::Tusd];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::Tusd => "tusd",
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            Self::Tusd => "application/json",
        })
    }
}

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(NotAFormat)
    }
}

/// The text is not a [`Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a format of events: it is `cloudevents` or `tusd`")]
pub struct NotAFormat;

/// The text is not the URL of a [`Sink`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sink of events: it is `http://…`, `https://…` or `exec:PROGRAM ARGUMENTS…`")]
pub struct NotASink;

/// A delivery that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    /// The id of the event.
    pub(crate) id: &'a str,
    pub(crate) content: &'a [u8],
    pub(crate) now: Timestamp,
}

/// The means of delivery, which sinks share.
pub(crate) struct Means {
    pub(crate) outbound: Outbound,
    pub(crate) programs: Programs,
}

impl Sink {
    /// Returns a sink that is a program, looked up in `PATH` and run without a shell. It gets the event on standard input, and
    /// has taken it if it exits with 0.
    pub fn exec(program: &str, arguments: Vec<String>) -> Self {
        let words = std::iter::once(program).chain(arguments.iter().map(String::as_str));
        let named = format!("exec:{}", words.collect::<Vec<_>>().join(" "));
        Self::named(&named, Transport::Program { file: PathBuf::from(program), arguments })
    }

    fn named(named: &str, transport: Transport) -> Self {
        let kinds = EventKind::ALL.into_iter().collect();
        let hash = Sha256::digest(named.as_bytes());
        let key = SinkKey::from_bits(*hash.first_chunk().expect("a hash has 32 octets"));
        Self { transport, format: Format::default(), secrets: Vec::new(), kinds, key }
    }

    /// Sets the format of the content.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets the secrets that sign each delivery. Default: none, and no signature.
    pub fn secrets(mut self, secrets: Vec<Secret>) -> Self {
        self.secrets = secrets;
        self
    }

    /// Sets the types of events to receive. Default: all.
    pub fn kinds(mut self, kinds: &[EventKind]) -> Self {
        self.kinds = kinds.iter().copied().collect();
        self
    }

    /// Returns the short name in records. It does not depend on user and password in the URL, nor on the other settings.
    pub fn key(&self) -> SinkKey {
        self.key
    }

    /// Returns the program to run, for a check that it can be run; `None` for other sinks.
    pub fn program(&self) -> Option<&std::path::Path> {
        match &self.transport {
            Transport::Http(_) => None,
            Transport::Program { file, .. } => Some(file),
        }
    }

    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.kinds.contains(kind)
    }

    pub(crate) fn content_format(&self) -> Format {
        self.format
    }

    /// Makes one attempt. Fails with the reason, for operators.
    pub(crate) async fn deliver(&self, means: &Means, delivery: Delivery<'_>) -> Result<(), String> {
        let Delivery { id, content, now } = delivery;
        let seconds = now.millis() / 1000;
        let signature = signatures(&self.secrets, id, seconds, content);
        let delivered = match &self.transport {
            Transport::Http(destination) => {
                let mut fields = HeaderMap::new();
                let value =
                    |text: &str| HeaderValue::from_str(text).expect("ids and numbers are visible ASCII");
                fields.insert(header::CONTENT_TYPE, self.format.media_type());
                fields.insert(
                    header::USER_AGENT,
                    HeaderValue::from_static(concat!("hoist/", env!("CARGO_PKG_VERSION"))),
                );
                fields.insert("webhook-id", value(id));
                fields.insert("webhook-timestamp", value(&seconds.to_string()));
                if let Some(signature) = signature {
                    fields.insert("webhook-signature", value(&signature));
                }
                let bounds = Bounds { timeout: ANSWER_TIMEOUT, bytes_max: ANSWER_BYTES_MAX };
                let content = bytes::Bytes::copy_from_slice(content);
                match means.outbound.post(destination, fields, content, bounds).await {
                    Ok(answer) if answer.status.is_success() => Ok(()),
                    Ok(answer) => {
                        let text = String::from_utf8_lossy(&answer.content);
                        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
                        Err(format!("answered {}: {}", answer.status, line.unwrap_or("no message")))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
            Transport::Program { file, arguments } => {
                let mut variables =
                    vec![("WEBHOOK_ID", id.to_owned()), ("WEBHOOK_TIMESTAMP", seconds.to_string())];
                variables.extend(signature.map(|signature| ("WEBHOOK_SIGNATURE", signature)));
                let program = Program { file, arguments, directory: None, variables: &variables };
                match means.programs.run(program, content).await {
                    Ok(ended) if ended.status == 0 => Ok(()),
                    Ok(ended) => {
                        let line = ended.stderr.lines().map(str::trim).find(|line| !line.is_empty());
                        Err(format!("ended with status {}: {}", ended.status, line.unwrap_or("no message")))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        delivered.map_err(|why| why.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect())
    }
}

impl FromStr for Sink {
    type Err = NotASink;

    fn from_str(text: &str) -> Result<Self, NotASink> {
        if let Some(command) = text.strip_prefix("exec:") {
            let mut words = command.split_ascii_whitespace();
            let program = words.next().ok_or(NotASink)?;
            return Ok(Self::exec(program, words.map(str::to_owned).collect()));
        }
        let destination = text.parse::<Destination>().map_err(|_| NotASink)?;
        Ok(Self::named(&destination.to_string(), Transport::Http(destination)))
    }
}

/// Shows the sink for operators: its URL without user, password, path and query, which may be secret, or its program
/// without arguments.
impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Http(destination) => f.write_str(origin(&destination.to_string())),
            Transport::Program { file, .. } => write!(f, "exec:{}", file.display()),
        }
    }
}

/// Returns scheme and authority of a URL.
fn origin(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    url.get(authority..).and_then(|rest| rest.find(['/', '?'])).map_or(url, |at| &url[..authority + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(text: &str) -> Sink {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_key_of_a_sink_is_that_of_its_url_without_credentials() {
        let key = |text| sink(text).key();
        assert_eq!(key("https://a:b@example.org/in?x=1"), key("https://example.org/in?x=1"));
        assert_ne!(key("https://example.org/in?x=1"), key("https://example.org/in?x=2"));
        assert_ne!(key("exec:a b"), key("exec:a c"));
        assert_eq!(key("exec:a b"), sink("exec:a b").format(Format::Tusd).kinds(&[]).key());
        // In records, and so for good.
        assert_eq!(key("https://example.org/in").to_string(), KEY);
    }

    const KEY: &str = "fcf7f40901a5a254";

    #[test]
    fn a_sink_shows_no_secret() {
        let shown = [
            ("https://user:s3cret@example.org:8443/s3cret?s3cret", "https://example.org:8443"),
            ("exec:/bin/tell s3cret", "exec:/bin/tell"),
        ];
        for (text, expected) in shown {
            assert_eq!(sink(text).to_string(), expected);
            assert!(!format!("{:?}", sink("https://user:s3cret@example.org")).contains("s3cret"));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in
            ["", "exec:", "exec: ", "example.org", "ftp://example.org", "http://", "nats://a", "/path"]
        {
            assert_eq!(text.parse::<Sink>().err(), Some(NotASink), "{text:?}");
        }
    }
}
