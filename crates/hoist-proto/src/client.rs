//! The client's machine: the next request of an upload, given how the last one ended.
//!
//! An [`Uploader`] carries one representation to a server, whatever happens to its requests. It decides where to
//! continue, whether to retry, how long to wait and when to give up. It has no effects: time and randomness are
//! arguments, and requests are heads and ranges of bytes for the caller to send. It reads the properties of a dialect
//! from a row; the wire spelling is in [`dialect::client`](crate::dialect::client).
//!
//! # Driving an `Uploader`
//!
//! Construct one with [`Uploader::create`], or with [`Uploader::resume`] for an upload that an earlier client may have
//! begun. Builder methods come before the first step. Then loop on [`Uploader::step`]:
//!
//! - [`Step::Send`]: send the request, report its events and its end, then ask for the next step, but not before.
//! - [`Step::Wait`]: let that much time pass, then ask for the next step. The machine has no other timer.
//! - [`Step::Done`] and [`Step::Failed`] are final. Reports after them change nothing.
//!
//! While a request is in flight, report each event in this order:
//!
//! 1. [`Uploader::on_sent`] with the number of content bytes that have left so far. The calls below depend on it.
//! 2. [`Uploader::on_interim`] for each interim response. If it returns [`OnInterim::Stop`], end the request (close the
//!    connection or reset the stream), report nothing more about it, and ask for the next step.
//! 3. [`Uploader::on_content_end`] if the content of an [open](Transmit::is_open) request ended early, and
//!    [`Uploader::on_source_end`] once the length of the representation is known.
//! 4. Exactly one of [`Uploader::on_response`] and [`Uploader::on_lost`], which ends the request. Content that was not
//!    sent before a final response is not sent any more.
//!
//! [`Uploader::acknowledged`] never decreases for one upload URL or token, so the caller may drop the bytes before it.
//! Store [`Uploader::url`] as soon as it is known: a later process resumes with it.
//!
//! ```
//! use std::time::Duration;
//!
//! use hoist_proto::client::{Moment, Retries, Step, Uploader};
//! use hoist_proto::dialect::client::ClientDialect;
//! use hoist_proto::dialect::interop::Interop;
//! use hoist_proto::types::Length;
//! use hoist_proto::upload::Origin;
//! use http::{HeaderMap, Method, StatusCode, Uri};
//!
//! let origin = Origin { method: Method::POST, target: "/files".into(), fields: HeaderMap::new() };
//! let target = Uri::from_static("https://example.org/files");
//! let dialect = ClientDialect::Ietf(Interop::V10);
//! let mut uploader = Uploader::create(dialect, target, origin, Length::new(5), Retries::default());
//!
//! let mut elapsed = Duration::ZERO;
//! let mut failures = 2;
//! loop {
//!     match uploader.step() {
//!         Step::Send(transmit) => {
//!             // A real client sends `transmit.head` and the bytes `transmit.content` here.
//!             let moment = Moment { elapsed, random: 7 };
//!             if failures > 0 {
//!                 failures -= 1;
//!                 uploader.on_lost(false, moment);
//!                 continue;
//!             }
//!             uploader.on_sent(transmit.content.map_or(0, |range| range.end - range.start));
//!             let complete = [("upload-complete".parse()?, "?1".parse()?)].into_iter().collect();
//!             uploader.on_response(StatusCode::OK, &complete, moment);
//!         }
//!         Step::Wait(pause) => elapsed += pause,
//!         Step::Done => break,
//!         Step::Failed(failure) => panic!("{failure}"),
//!     }
//! }
//! assert_eq!(uploader.acknowledged().get(), 5);
//! assert_eq!(uploader.attempts_repeated(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod failure;
mod location;
mod reaction;
mod recovery;
mod remote;
mod request;
mod retry;

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};

pub use self::failure::{AttemptError, Failure};
pub use self::location::resolve;
use self::remote::RemoteUpload;
use self::request::InFlight;
use self::retry::Backoff;
pub use self::retry::Retries;
use crate::dialect::client::{ClientDialect, ClientProperties, Intent, Naming};
use crate::dialect::interop::Interop;
use crate::dialect::tus1::client::Checksum;
use crate::operation::Content;
use crate::types::{Length, Offset, Token};
use crate::upload::Origin;

/// The versions of the IETF dialect to try, in this order, at a server that has not said which it supports. Apple's servers
/// answer 400 to every number but 10 and 6, or but 6, 5 and 3; a server made after the RFC needs none.
pub const VERSIONS: [Interop; 3] = [Interop::V10, Interop::V6, Interop::Rfc];

/// Returns a token for one upload, from 256 bits of a cryptographic random source.
//= TOK-TOKEN-06, TDR-HDR-01, TDR-HDR-03, TDR-HDR-05
pub fn token_of(random: [u8; 32]) -> Token {
    Token::new(random).expect("32 octets are in range")
}

/// The time of an event, and a random number for the pause that may follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since a fixed moment of the caller's choice.
    pub elapsed: Duration,
    /// A uniformly distributed, unpredictable number.
    pub random: u64,
}

/// The next thing to do.
#[derive(Debug)]
pub enum Step {
    /// Send this request and report its events, which end with [`Uploader::on_response`] or [`Uploader::on_lost`].
    Send(Box<Transmit>),
    /// Wait, then ask for the next step.
    Wait(Duration),
    /// The server has the whole representation, and the last response is its answer.
    Done,
    /// The upload cannot be completed.
    Failed(Failure),
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The head, without the fields of the connection and without `Content-Length`.
    pub head: Request<()>,
    /// The range of the representation that is the content; `None` for a request without content.
    pub content: Option<Range<u64>>,
    /// True if the content may end before that range does: at the end of the representation, or where the caller can
    /// buffer no more. Such a request declares no size, and [`Uploader::on_content_end`] reports its end.
    pub is_open: bool,
    /// The digest of the content to be added to the head.
    pub checksum: Option<Checksum>,
    /// True if the request creates the upload.
    pub creates: bool,
}

/// The fate of the request in flight after an interim response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request that is to be stopped must not be continued"]
pub enum OnInterim {
    /// The request continues.
    Continue,
    /// The request is ended at once, without a report; the next step follows.
    Stop,
}

/// The way an upload begins in the IETF dialect and tus 1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With content, which a server without resumption accepts as an ordinary upload.
    AtOnce,
    /// With an empty creation that only requests a URL, for connections on which interim responses cannot be sent or seen.
    Careful,
}

/// The client's side of one upload.
#[derive(Clone, Debug)]
pub struct Uploader {
    target: Uri,
    dialect: ClientDialect,
    properties: ClientProperties,
    origin: Origin,
    length: Option<Length>,
    retries: Retries,
    content_max: u64,
    aim: Aim,
    wait: Option<Duration>,
    request: InFlight,
    remote: RemoteUpload,
    at: Offset,
    /// The highest offset that the server has named.
    best: Offset,
    /// The end of what was ever sent, by an earlier client too.
    sent: Offset,
    resumed_at: Offset,
    is_answered: bool,
    backoff: Backoff,
    attempts_repeated: u32,
}

/// The next request of an upload, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Create,
    Query,
    Append,
    /// An empty append at the end of a complete upload, to receive its answer again.
    Replay,
    /// A cancellation, after which the upload has failed for this reason.
    Cancel(Failure),
    Done,
    Failed(Failure),
}

impl Uploader {
    /// Begins a new upload by a request to `target`. `origin` is the ordinary request that the upload stands for, and a
    /// token must never have named another upload.
    //= TDR-CLI-02, IETF-CRE-01, IETF-CLI-17
    pub fn create(
        dialect: ClientDialect,
        target: Uri,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        let properties = dialect.properties();
        Self {
            remote: RemoteUpload::new(&properties),
            target,
            dialect,
            properties,
            origin,
            length: length.into(),
            retries,
            content_max: u64::MAX,
            aim: Aim::Create,
            wait: None,
            request: InFlight::default(),
            at: Offset::ZERO,
            best: Offset::ZERO,
            sent: Offset::ZERO,
            resumed_at: Offset::ZERO,
            is_answered: false,
            backoff: Backoff::default(),
            attempts_repeated: 0,
        }
    }

    /// Continues an upload that an earlier client with the same source may have begun: under the token of `dialect` at
    /// `url`, or with `url` as its own URL. `origin` creates the upload if its token names none yet.
    pub fn resume(
        dialect: ClientDialect,
        url: Uri,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        let mut uploader = Self::create(dialect, url.clone(), origin, length, retries);
        match uploader.properties.naming {
            Naming::Token => uploader.remote.maybe_created = true,
            Naming::Url => {
                (uploader.remote.url, uploader.remote.maybe_complete) = (Some(url), true);
                uploader.remote.opening = Opening::Careful;
            }
            Naming::Unnamed => return uploader,
        }
        uploader.aim = Aim::Query;
        uploader.sent = uploader.length.map_or(Offset::ZERO, |length| Offset::new(length.get()));
        uploader
    }

    /// Begins with an empty creation, if the upload gets a URL.
    pub fn with_opening(mut self, opening: Opening) -> Self {
        self.remote.opening = opening;
        self
    }

    /// Tries the next of [`VERSIONS`] if the server refuses the number of this one. Only the IETF dialect has versions.
    pub fn negotiating(mut self) -> Self {
        const ALL: &[Interop] = &VERSIONS;
        let at = ALL.iter().position(|version| Some(*version) == self.version());
        self.remote.alternatives = at.and_then(|at| ALL.get(at + 1..)).unwrap_or_default();
        self
    }

    /// Puts at most this many bytes into one request, for servers that accept no more. At least one.
    pub fn with_content_max(self, bytes: u64) -> Self {
        Self { content_max: bytes.max(1), ..self }
    }

    /// Returns the URL to resume with: the upload's own, once the server has named it, or the one at which the token is
    /// used.
    pub fn url(&self) -> Option<&Uri> {
        match self.properties.naming {
            Naming::Token => Some(&self.target),
            Naming::Url => self.remote.url.as_ref(),
            Naming::Unnamed => None,
        }
    }

    /// Returns the length of the representation, once it is known.
    pub fn length(&self) -> Option<Length> {
        self.length
    }

    /// Returns whether the last response is the target's answer. A server may have everything and have forgotten the
    /// answer.
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Returns the current version of the IETF dialect.
    pub fn version(&self) -> Option<Interop> {
        match self.dialect {
            ClientDialect::Ietf(version) => Some(version),
            ClientDialect::Token { .. } | ClientDialect::Tus1 { .. } | ClientDialect::Conventional => None,
        }
    }

    /// Returns the number of bytes that the server has acknowledged.
    pub fn acknowledged(&self) -> Offset {
        self.at
    }

    /// Returns the number of bytes that did not have to be sent again.
    pub fn resumed_at(&self) -> Offset {
        self.resumed_at
    }

    /// Returns the number of requests that had to be repeated.
    pub fn attempts_repeated(&self) -> u32 {
        self.attempts_repeated
    }

    /// Returns the next thing to do. There is one request at a time, so that no offset is used twice.
    //= TDR-OFF-01, TDR-OFF-06, TDR-APP-06, IETF-RET-12, IETF-CON-01
    pub fn step(&mut self) -> Step {
        if let Some(wait) = self.wait.take() {
            return Step::Wait(wait);
        }
        self.request = self.next_request();
        let InFlight { range, is_open, finish, states_length, .. } = &self.request;
        let length = self.length.filter(|_| *states_length);
        let intent = match self.aim {
            Aim::Create => {
                let content =
                    Content { bytes: (!is_open).then_some(range.end - range.start), finish: *finish };
                Intent::Create { origin: &self.origin, length, content }
            }
            Aim::Append | Aim::Replay => Intent::Append { at: self.at, length, finish: *finish },
            Aim::Query => Intent::Query,
            Aim::Cancel(_) => Intent::Cancel,
            Aim::Done => return Step::Done,
            Aim::Failed(failure) => return Step::Failed(failure),
        };
        let target = match &self.remote.url {
            Some(url) if self.aim != Aim::Create => url.to_string(),
            _ => self.target.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
        };
        let head = self.dialect.request(&target, &intent).expect("a URI's text is a URI");
        let content = self.has_content().then(|| range.clone());
        let is_open = *is_open && content.is_some();
        let is_checked = !is_open && content.as_ref().is_some_and(|range| !range.is_empty());
        let checksum = self.remote.checksum.filter(|_| is_checked);
        self.request.is_idempotent = head.method() == Method::PUT;
        let creates = self.aim == Aim::Create;
        Step::Send(Box::new(Transmit { head, content, is_open, checksum, creates }))
    }

    /// Reports that the source has ended, which determines the length of the representation.
    pub fn on_source_end(&mut self, length: Length) {
        self.length = self.length.or(Some(length));
    }

    /// Reports that the content of the [open](Transmit::is_open) request in flight ended after this many bytes.
    pub fn on_content_end(&mut self, bytes: u64) {
        let end = self.request.range.start.saturating_add(bytes);
        self.request.range.end = self.request.range.end.min(end);
    }

    /// Reports that the first `bytes` bytes of the content of the request in flight have left.
    pub fn on_sent(&mut self, bytes: u64) {
        self.request.sent = self.request.sent.max(bytes);
        let length = self.length.map_or(u64::MAX, Length::get);
        self.sent = self.sent.max(self.request.sent_end().min(Offset::new(length)));
    }

    /// Reports that the request in flight ended without a response. `reached` is whether any of it can have reached the
    /// server.
    //= TDR-SEED-04, IETF-CLI-04, IETF-CLI-10, IETF-CLI-14, TUS1-PATCH-10
    pub fn on_lost(&mut self, reached: bool, moment: Moment) {
        if reached {
            self.remote.maybe_created |= self.aim == Aim::Create;
            self.remote.maybe_complete |= self.completes();
        }
        match self.aim {
            Aim::Create if !self.can_query() => {
                self.create_again(reached, AttemptError::Lost, None, moment);
            }
            Aim::Create | Aim::Query | Aim::Append | Aim::Replay => {
                if self.aim == Aim::Append {
                    self.remote.halve_checked();
                }
                self.retry(Aim::Query, AttemptError::Lost, None, moment);
            }
            Aim::Cancel(failure) => self.fail(failure),
            Aim::Done | Aim::Failed(_) => {}
        }
    }

    /// Reports an interim response to the request in flight. One that is not about this upload changes nothing.
    pub fn on_interim(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) -> OnInterim {
        match self.dialect.interim(status, fields) {
            Some(response) if matches!(self.aim, Aim::Create | Aim::Append) => {
                self.progressed(&response, moment)
            }
            Some(_) | None => OnInterim::Continue,
        }
    }

    /// Reports the final response to the request in flight. The rest of the request's content, if any, was not sent.
    pub fn on_response(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let response = self.dialect.response(self.aim == Aim::Query, status, fields);
        match self.aim {
            Aim::Done | Aim::Failed(_) => {}
            Aim::Cancel(failure) => self.fail(failure),
            Aim::Create | Aim::Append | Aim::Replay | Aim::Query => self.answered(&response, moment),
        }
    }
}

#[cfg(test)]
mod tests;
