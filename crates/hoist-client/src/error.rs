//! Errors of the client, and whether a retry may help.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_proto::client::{AttemptError, Failure};
use hoist_proto::dialect::status::StatusClass;
use http::StatusCode;

use crate::dialect::Dialect;
use crate::quoted::Quoted;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL that this client cannot use.
    #[error("{url} {wrong}")]
    Url {
        /// The URL, or the text that was given as one.
        url: String,
        /// The fault, as the end of a sentence about the URL.
        wrong: &'static str,
    },
    /// The server named a URL that cannot or must not be used.
    #[error("the server named {url}, which {wrong}")]
    Location {
        /// The URL.
        url: String,
        /// The fault, as the end of a sentence about the URL.
        wrong: &'static str,
    },
    /// A text that cannot be sent in a header field. It is described, not contained.
    #[error("{0} has characters that are not allowed in a header field")]
    Field(&'static str),
    /// The operating system returned no random numbers.
    #[error("cannot get random numbers from the operating system")]
    Random {
        /// The cause.
        source: io::Error,
    },
    /// The trusted certificates could not be read.
    #[error("cannot read certificates from {from}")]
    Trust {
        /// The file, or the operating system.
        from: String,
        /// The cause.
        source: io::Error,
    },
    /// The source could not be read.
    #[error("cannot read {}", source_name(path))]
    Source {
        /// The file. Empty if the source is not a file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source was changed during the upload, so the bytes sent before and after do not belong together.
    #[error("{} changed while it was being uploaded", source_name(path))]
    SourceChanged {
        /// The file. Empty if the source is not a file.
        path: PathBuf,
    },
    /// The server asks for bytes that a stream cannot provide again: it had acknowledged them, or they exceeded
    /// [`rewind_bytes_max`](crate::ClientBuilder::rewind_bytes_max).
    #[error("the server asks for byte {offset} again, which the stream can no longer provide")]
    NotRewindable {
        /// The offset that the server is at.
        offset: u64,
    },
    /// Another process is uploading the same file to the same URL.
    #[error("another process is uploading {}", Quoted::new(path))]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The journal could not be read or written.
    #[error("cannot use the journal at {}", Quoted::new(path))]
    Journal {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The digest of the server differs from that of the source.
    #[error("the server has received other bytes than were sent: its sha-256 is {theirs}")]
    Digest {
        /// The server's digest, as hexadecimal digits.
        theirs: String,
    },
    /// The server has accepted an ordinary request, but the caller requires an upload protocol.
    #[error("the server answered {status} and supports no upload protocol")]
    Unresumable {
        /// The status.
        status: StatusCode,
    },
    /// The server does not support the requested dialect.
    #[error("the server does not support {0}")]
    Dialect(Dialect),
    /// No connection could be made.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The cause.
        source: io::Error,
    },
    /// No host has the name in the URL, and the origin has not responded before.
    #[error("there is no host named {host}")]
    UnknownHost {
        /// The host.
        host: String,
    },
    /// The peer is not an HTTP server. The origin has not responded before.
    #[error("{authority} does not speak HTTP")]
    NotHttp {
        /// Host and port.
        authority: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server has nothing at the upload URL that accepts an upload.
    #[error("nothing takes uploads at {url}: the server answered {status}{}", after_colon(detail.as_deref()))]
    NoEndpoint {
        /// The upload URL.
        url: String,
        /// The status.
        status: StatusCode,
        /// The text of the problem document, except with 404, where it could only speak of an upload.
        detail: Option<String>,
    },
    /// A proxy refused a request, or could not reach the server.
    #[error("the proxy {proxy} answered {status}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// The status of its response.
        status: StatusCode,
    },
    /// The scheme of the URL requires TLS and the server does not support it, or the other way round.
    #[error("{authority} {}", if *speaks_tls { "requires TLS, but the url says http" } else { "does not speak TLS, but the url says https" })]
    Scheme {
        /// Host and port.
        authority: String,
        /// True if the server requires TLS.
        speaks_tls: bool,
    },
    /// The TLS handshake failed, for example because the server's certificate is not trusted.
    #[error("TLS with {authority} failed")]
    Tls {
        /// Host and port.
        authority: String,
        /// The kind of the cause.
        fault: TlsFault,
        /// The cause.
        source: io::Error,
    },
    /// The connection was lost before the response arrived.
    #[error("the connection to the server was lost")]
    Lost {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No byte moved in either direction for the idle timeout.
    #[error("no data was transferred for {} s", .0.as_secs_f64())]
    Idle(Duration),
    /// The server answered with an error status.
    #[error("the server answered {status}{}", after_colon(detail.as_deref()))]
    Refused {
        /// The status.
        status: StatusCode,
        /// The text of the problem document.
        detail: Option<String>,
    },
    /// The server answered with a redirect that was not followed.
    #[error("the server answered {status} and redirects to {to}{}", wrong.map(|wrong| format!(", which {wrong}")).unwrap_or_default())]
    Redirected {
        /// The status.
        status: StatusCode,
        /// The URL, as the server wrote it.
        to: String,
        /// The reason for not following a redirect of a kind that is usually followed.
        wrong: Option<&'static str>,
    },
    /// The upload cannot continue.
    #[error(transparent)]
    Upload(Failure),
    /// The retries are used up without progress.
    #[error("no progress after {attempts} attempt{}", if *attempts == 1 { "" } else { "s" })]
    Exhausted {
        /// The number of attempts.
        attempts: u32,
        /// True if no upload of this client to the origin has made progress for that time, so that others would fail too.
        concerns_origin: bool,
        /// The error of the last attempt.
        source: Box<Error>,
    },
}

/// The kind of a TLS failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is for other names than the host of the URL.
    WrongName,
    /// The server's certificate is self-signed, or its issuer is not trusted.
    UnknownIssuer,
    /// Another failure.
    Other,
}

/// The chance that a retry succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A retry may succeed without any change.
    Later,
    /// A retry fails again unless something is changed.
    Never,
}

impl Error {
    /// Returns whether a retry may help. An upload was already retried within its budget when [`send`](crate::Put::send)
    /// returns; a later run with the same handle or journal resumes it.
    pub fn retry(&self) -> Retry {
        let may_help = match self {
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::Idle(_)
            | Self::Exhausted { .. }
            | Self::Busy { .. } => true,
            Self::Refused { status, .. } | Self::Proxy { status, .. } => {
                StatusClass::of(*status) == StatusClass::Retry
            }
            _ => false,
        };
        if may_help { Retry::Later } else { Retry::Never }
    }

    /// Returns whether the error ends one attempt only, and not the upload.
    pub(crate) fn ends_an_attempt(&self) -> bool {
        let is_unavailable_proxy = matches!(self, Self::Proxy { .. }) && self.retry() == Retry::Later;
        is_unavailable_proxy || matches!(self, Self::Connect { .. } | Self::Lost { .. } | Self::Idle(_))
    }

    /// Converts a failure of the uploader, with the detail of the last response and the last error of a connection.
    pub(crate) fn of(failure: Failure, detail: Option<String>, last: Option<Self>) -> Self {
        match failure {
            Failure::Rejected(status) => Self::Refused { status, detail },
            Failure::Exhausted { attempts, last: trouble } => {
                let source = match (trouble, last) {
                    (AttemptError::Status(status), _) => Self::Refused { status, detail },
                    (AttemptError::Lost, Some(error)) => error,
                    (AttemptError::Lost, None) => Self::Upload(failure),
                };
                Self::Exhausted { attempts, concerns_origin: false, source: Box::new(source) }
            }
            other => Self::Upload(other),
        }
    }
}

/// Formats the end of a message.
fn after_colon(detail: Option<&str>) -> String {
    detail.map(|detail| format!(": {detail}")).unwrap_or_default()
}

/// Names a source in an error message.
fn source_name(path: &Path) -> String {
    if path.as_os_str().is_empty() { "the source".to_owned() } else { Quoted::new(path).to_string() }
}
