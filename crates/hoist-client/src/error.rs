//! Errors of the client, and which of them may be tried again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hoist_proto::client::{Failure, Trouble};
use hoist_proto::dialect::answer::{self, Said};
use http::StatusCode;

use crate::dialect::Dialect;

/// An error of the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL this client cannot use.
    #[error("{url}: {wrong}")]
    Url {
        /// The URL, or what was given for one.
        url: String,
        /// The fault, as the end of a sentence about the URL.
        wrong: &'static str,
    },
    /// The server named a URL that cannot be used, or must not be.
    #[error("the server named {url}, which {wrong}")]
    Location {
        /// The URL.
        url: String,
        /// The fault, as the end of a sentence about the URL.
        wrong: &'static str,
    },
    /// Something that was to be sent is no field value.
    #[error("{0} cannot be written into a header field")]
    Field(&'static str),
    /// The system gave no random numbers.
    #[error("the system has no random numbers")]
    Random {
        /// The cause.
        source: io::Error,
    },
    /// The certificates to trust could not be read.
    #[error("cannot read certificates from {from}")]
    Trust {
        /// The file, or the system.
        from: String,
        /// The cause.
        source: io::Error,
    },
    /// The source of an upload could not be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The source changed while it was uploaded, so the bytes sent before and after do not belong together.
    #[error("{} changed while it was being uploaded", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
    },
    /// The server asks for bytes that it had acknowledged, or that no buffer could hold, of a source that cannot be
    /// read again.
    #[error("the server asks for byte {offset} again, which a stream cannot give twice")]
    NotRewindable {
        /// The offset the server is at.
        offset: u64,
    },
    /// Another process uploads the same file to the same place.
    #[error("another process is uploading {}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The journal could not be read or written.
    #[error("cannot keep the journal at {}", path.display())]
    Journal {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The server has other bytes than those that were sent.
    #[error("the server has other bytes than those that were sent: its sha-256 is {theirs}")]
    Digest {
        /// The digest as the server says it.
        theirs: String,
    },
    /// The server took an ordinary request where the caller wants one that speaks an upload protocol.
    #[error("the server answered {status} and speaks no upload protocol")]
    Unresumable {
        /// The status.
        status: StatusCode,
    },
    /// The server does not speak what it is to be spoken to in.
    #[error("the server does not offer {0}")]
    Dialect(Dialect),
    /// No connection could be made.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port.
        authority: String,
        /// The cause.
        source: io::Error,
    },
    /// A proxy refused to pass a request on, or could not.
    #[error("the proxy {proxy} answered {status}")]
    Proxy {
        /// Host and port of the proxy.
        proxy: String,
        /// The status of its answer.
        status: StatusCode,
    },
    /// The URL asks for TLS where the server speaks none, or the other way round.
    #[error("{authority} {}", if *speaks_tls { "speaks TLS, and the url says http" } else { "does not speak TLS, and the url says https" })]
    Scheme {
        /// Host and port.
        authority: String,
        /// True if the server speaks TLS.
        speaks_tls: bool,
    },
    /// TLS cannot be spoken with the server, or its certificate is not to be trusted.
    #[error("TLS with {authority} failed")]
    Tls {
        /// Host and port.
        authority: String,
        /// The cause.
        source: io::Error,
    },
    /// The connection was lost before the answer came.
    #[error("the connection was lost")]
    Lost {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No byte moved in either direction for as long as the idle timeout.
    #[error("nothing moved for {} s", .0.as_secs_f64())]
    Idle(Duration),
    /// The server answered with something else than success.
    #[error("the server answered {status}{}", detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused {
        /// The status.
        status: StatusCode,
        /// The text of its problem document.
        detail: Option<String>,
    },
    /// The server leads to another URL, which was not followed.
    #[error("the server answered {status} and leads to {to}{}", wrong.map(|wrong| format!(", which {wrong}")).unwrap_or_default())]
    Redirected {
        /// The status.
        status: StatusCode,
        /// The URL, as the server wrote it.
        to: String,
        /// The reason why the client did not follow a redirection of a kind that it follows.
        wrong: Option<&'static str>,
    },
    /// The upload cannot go on.
    #[error(transparent)]
    Upload(Failure),
    /// The retries are used up without progress.
    #[error("no progress after {attempts} attempts")]
    Exhausted {
        /// The number of attempts.
        attempts: u32,
        /// The error of the last one.
        source: Box<Error>,
    },
}

/// A classification of errors by the chance that a retry succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may, without anything being changed.
    Later,
    /// Not before something is changed.
    Never,
}

impl Error {
    /// Tells whether trying again may help. What [`send`](crate::Put::send) returns was tried as often as its budget allows;
    /// a later attempt with the same token goes on where that one ended.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::Idle(_)
            | Self::Exhausted { .. }
            | Self::Busy { .. } => Retry::Later,
            Self::Refused { status, .. } | Self::Proxy { status, .. }
                if answer::said(*status) == Said::Later =>
            {
                Retry::Later
            }
            Self::Url { .. }
            | Self::Location { .. }
            | Self::Field(_)
            | Self::Random { .. }
            | Self::Trust { .. }
            | Self::Source { .. }
            | Self::SourceChanged { .. }
            | Self::NotRewindable { .. }
            | Self::Journal { .. }
            | Self::Digest { .. }
            | Self::Unresumable { .. }
            | Self::Dialect(_)
            | Self::Proxy { .. }
            | Self::Scheme { .. }
            | Self::Tls { .. }
            | Self::Refused { .. }
            | Self::Redirected { .. }
            | Self::Upload(_) => Retry::Never,
        }
    }

    /// True if it ends an attempt and not the upload.
    pub(crate) fn ends_an_attempt(&self) -> bool {
        let is_proxy_in_trouble = matches!(self, Self::Proxy { .. }) && self.retry() == Retry::Later;
        is_proxy_in_trouble || matches!(self, Self::Connect { .. } | Self::Lost { .. } | Self::Idle(_))
    }

    /// The machine's reason, with what the shell around it knows more precisely: the server's words, or the last error.
    pub(crate) fn of(failure: Failure, detail: Option<String>, last: Option<Self>) -> Self {
        match failure {
            Failure::Rejected(status) => Self::Refused { status, detail },
            Failure::Exhausted { attempts, last: trouble } => {
                let source = match (trouble, last) {
                    (Trouble::Status(status), _) => Self::Refused { status, detail },
                    (Trouble::Lost, Some(error)) => error,
                    (Trouble::Lost, None) => Self::Upload(failure),
                };
                Self::Exhausted { attempts, source: Box::new(source) }
            }
            other => Self::Upload(other),
        }
    }
}
