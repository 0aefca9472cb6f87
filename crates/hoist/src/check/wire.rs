//! One exchange with a server, as bytes and frames: what was sent, and all that was heard.
//!
//! Owns the connection to the server under test. HTTP/1.1 is written and read by hand in [`h1`], HTTP/2 goes through
//! the `h2` crate in [`h2`](self::h2); neither follows, retries or corrects anything.

mod h1;
mod h2;

use std::io;
use std::time::Duration;

use serde::Deserialize;

use super::case::{Ends, Framing};

/// How long a request that waits for `100 (Continue)` does so (RFC 9110, Expect).
const CONTINUE_WAIT: Duration = Duration::from_secs(2);

/// What an exchange goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    H1,
    H2,
}

impl Transport {
    pub(crate) const ALL: [Self; 2] = [Self::H1, Self::H2];

    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        }
    }
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) authority: String,
    pub(crate) path: String,
}

/// The URL cannot be tested.
#[derive(Debug, PartialEq, Eq)]
pub struct BadUrl(String);

impl std::fmt::Display for BadUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cannot be tested: give a URL like http://localhost:8080/uploads", self.0)
    }
}

impl std::error::Error for BadUrl {}

impl Place {
    /// The place a URL names.
    pub(crate) fn of(url: &str) -> Result<Self, BadUrl> {
        let rest = url.strip_prefix("http://").ok_or_else(|| BadUrl(url.to_owned()))?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        if authority.is_empty() || path.contains(['#', ' ']) {
            return Err(BadUrl(url.to_owned()));
        }
        Ok(Self { authority: authority.to_owned(), path: path.to_owned() })
    }

    fn address(&self) -> String {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        if has_port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }
}

/// The path of a URL on this server, be it absolute or not.
pub(crate) fn path_of(url: &str) -> Option<String> {
    if url.starts_with('/') && !url.starts_with("//") {
        return Some(url.to_owned());
    }
    let (_, rest) = url.split_once("://")?;
    let path = rest.find('/').map_or("/", |at| &rest[at..]);
    Some(path.to_owned())
}

/// A request to be sent as it is.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: String,
    /// The path, or `*`.
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    /// Absent where the request has none, not even an empty one.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) declares: Option<u64>,
    pub(crate) framing: Framing,
    pub(crate) trailers: Vec<(String, String)>,
    /// Silences between equal parts of the content.
    pub(crate) paused: Vec<Duration>,
    pub(crate) ends: Ends,
    pub(crate) waits: bool,
    pub(crate) ancient: bool,
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The reason phrase, where the transport has one.
    pub(crate) reason: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The only line of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.next().map(|(_, value)| value.as_str())
    }
}

/// All that came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) interims: Vec<Head>,
    /// The final response and its content; none when the connection or stream ended without one.
    pub(crate) last: Option<(Head, Vec<u8>)>,
}

impl Heard {
    fn is_asked_to_continue(&self) -> bool {
        self.last.is_some() || self.interims.iter().any(|head| head.status == 100)
    }
}

/// What became of a request.
pub(crate) enum Exchange {
    /// It ended.
    Ended(Heard),
    /// It stands where its content was left.
    Standing(Standing),
}

/// A request that is left standing, and what was heard meanwhile.
pub(crate) enum Standing {
    H1(h1::Talk),
    H2(Box<h2::Talk>),
}

impl Standing {
    /// What was heard so far.
    pub(crate) fn heard(&self) -> &Heard {
        match self {
            Self::H1(talk) => talk.heard(),
            Self::H2(talk) => talk.heard(),
        }
    }

    /// Sends the rest of its content.
    pub(crate) async fn send(&mut self, rest: Vec<u8>) {
        match self {
            Self::H1(talk) => talk.send(&rest).await,
            Self::H2(talk) => talk.send_rest(rest),
        }
    }

    /// Waits for its end, sending nothing more.
    pub(crate) async fn end(self) -> Heard {
        match self {
            Self::H1(talk) => talk.end().await,
            Self::H2(talk) => talk.end().await,
        }
    }
}

/// Sends a request on a connection of its own.
pub(crate) async fn exchange(
    transport: Transport,
    place: &Place,
    outgoing: &Outgoing,
) -> io::Result<Exchange> {
    match transport {
        Transport::H1 => h1::exchange(place, outgoing).await,
        Transport::H2 => h2::exchange(place, outgoing).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_place() {
        let place = Place::of("http://localhost:8080/uploads").expect("a place");
        assert_eq!(place, Place { authority: "localhost:8080".into(), path: "/uploads".into() });
        assert_eq!(place.address(), "localhost:8080");
        assert_eq!(Place::of("http://[::1]").expect("a place").address(), "[::1]:80");
        assert_eq!(path_of("http://elsewhere/a/b").as_deref(), Some("/a/b"));
        assert_eq!(path_of("/a/b").as_deref(), Some("/a/b"));
        for bad in ["https://localhost/", "localhost:8080", "http:///uploads", "http://a/b#c"] {
            assert!(Place::of(bad).is_err(), "{bad}");
        }
    }
}
