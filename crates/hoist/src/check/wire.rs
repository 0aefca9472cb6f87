//! Exchanges with the server under test: a request, and all responses to it.
//!
//! HTTP/1.1 is written and parsed by hand in [`h1`]; HTTP/2 uses the `h2` crate in [`h2`](self::h2). Both run over TCP
//! or TLS ([`endpoint`]). Neither follows redirects, retries or corrects anything.

mod endpoint;
mod h1;
mod h2;

use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::case::{Framing, RequestEnd};
pub use endpoint::Endpoint;

/// The time to wait for `100 (Continue)` before the content is sent anyway (RFC 9110, Expect).
const CONTINUE_WAIT: Duration = Duration::from_secs(2);

/// The version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::H1, Self::H2];

    /// Returns the name used in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }

    /// Returns the name used in messages.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::H1 => "HTTP/1.1",
            Self::H2 => "HTTP/2",
        }
    }
}

/// Returns the path of an absolute or relative URL.
pub(crate) fn path_of(url: &str) -> Option<String> {
    if url.starts_with('/') && !url.starts_with("//") {
        return Some(url.to_owned());
    }
    let (_, rest) = url.split_once("://")?;
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    Some(path.to_owned())
}

/// A request in the form in which it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: String,
    /// The path, or `*`.
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    /// `None` if the request has no content, not even an empty one.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) declares: Option<u64>,
    pub(crate) framing: Framing,
    pub(crate) trailers: Vec<(String, String)>,
    /// Pauses between equal parts of the content.
    pub(crate) paused: Vec<Duration>,
    pub(crate) ends: RequestEnd,
    pub(crate) waits: bool,
    pub(crate) ancient: bool,
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The reason phrase, over HTTP/1.1.
    pub(crate) reason: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// Returns the first line of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.next().map(|(_, value)| value.as_str())
    }
}

/// All responses to a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Responses {
    pub(crate) interims: Vec<Head>,
    /// The final response and its content. `None` if the connection or stream ended without one.
    pub(crate) last: Option<(Head, Vec<u8>)>,
}

impl Responses {
    /// Returns the final response, if its status is a success.
    pub(crate) fn success(&self) -> Option<&Head> {
        self.last.as_ref().map(|(head, _)| head).filter(|head| (200..300).contains(&head.status))
    }

    /// Returns the 104 responses.
    pub(crate) fn announcements(&self) -> impl Iterator<Item = &Head> {
        self.interims.iter().filter(|head| head.status == 104)
    }

    /// Returns the interim responses and the final one.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &Head> {
        self.interims.iter().chain(self.last.as_ref().map(|(head, _)| head))
    }

    fn is_asked_to_continue(&self) -> bool {
        self.last.is_some() || self.interims.iter().any(|head| head.status == 100)
    }
}

/// The state of a request after `exchange`.
pub(crate) enum Exchange {
    /// The request has ended.
    Complete(Responses),
    /// The request is pending, with part of its content sent.
    Pending(PendingRequest),
}

/// A pending request, and the responses received so far.
pub(crate) enum PendingRequest {
    H1(h1::H1Request),
    H2(Box<h2::H2Request>),
}

impl PendingRequest {
    /// Returns the responses received so far.
    pub(crate) fn responses(&self) -> &Responses {
        match self {
            Self::H1(talk) => &talk.responses,
            Self::H2(talk) => &talk.responses,
        }
    }

    /// Sends the rest of the content.
    pub(crate) async fn send(&mut self, rest: Vec<u8>) {
        match self {
            Self::H1(talk) => talk.send(&rest).await,
            Self::H2(talk) => talk.send_rest(rest),
        }
    }

    /// Waits for the end of the request without sending more.
    pub(crate) async fn end(self) -> Responses {
        match self {
            Self::H1(talk) => talk.end().await,
            Self::H2(talk) => talk.end().await,
        }
    }
}

/// Sends a request on a new connection.
pub(crate) async fn exchange(
    transport: Transport,
    endpoint: &Endpoint,
    outgoing: &Outgoing,
) -> io::Result<Exchange> {
    match transport {
        Transport::H1 => h1::exchange(endpoint, outgoing).await,
        Transport::H2 => h2::exchange(endpoint, outgoing).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_url_is_absolute() {
        assert_eq!(path_of("http://elsewhere/a/b").as_deref(), Some("/a/b"));
        assert_eq!(path_of("https://elsewhere").as_deref(), Some("/"));
        assert_eq!(path_of("/a/b").as_deref(), Some("/a/b"));
        assert_eq!(path_of("//elsewhere/a"), None);
    }
}
