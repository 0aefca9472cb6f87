//! The client's machine: what to ask a server next, given what became of the last request.
//!
//! [`Uploader`] carries one representation of known length to a server. It owns every decision (where to go on,
//! whether to try again, how long to wait, when to give up) and no effect: time and randomness are arguments, requests
//! are heads and ranges of bytes for somebody else to send. What an answer means differs between the dialects it speaks:
//! `token` and `ietf` own that.

mod ietf;
mod token;

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};

use self::ietf::Link;
pub use self::ietf::Opening;
use crate::dialect::interop::Interop;
use crate::dialect::token::{self as token_dialect, Form};
use crate::operation::{Append, Content, Create, Finish, Finished, Operation, Small, Taken};
use crate::types::{Length, Offset, Token};
use crate::upload::{Makeup, Origin};

/// How long to go on when nothing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The longest first wait; each further one may be twice as long.
    pub first: Duration,
    /// The longest of all waits, unless the server asks for more.
    pub most: Duration,
    /// How long to try without a single new byte being acknowledged.
    pub budget: Duration,
    /// How many times to try without a single new byte being acknowledged.
    pub attempts: u32,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            most: Duration::from_secs(30),
            budget: Duration::from_mins(5),
            attempts: 100,
        }
    }
}

impl Retries {
    /// Full jitter: anything from nothing to a bound that doubles, so that clients cut together come back apart.
    //= IETF-CLI-20
    fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(doubled).min(self.most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let share = (u128::from(nanos) * u128::from(random)) >> 64;
        Duration::from_nanos(u64::try_from(share).expect("no more than the bound"))
    }
}

/// A token for one upload and no other, of 256 bits from a cryptographic random source.
//= TOK-TOKEN-06, TDR-HDR-01, TDR-HDR-03, TDR-HDR-05
pub fn token_of(random: [u8; 32]) -> Token {
    Token::new(random).expect("32 octets are in range")
}

/// The time, and a number nobody can foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time since some fixed moment, always the same one.
    pub elapsed: Duration,
    /// Uniformly random.
    pub random: u64,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send this request, report what is sent with [`Uploader::on_sent`], and then how it ended with
    /// [`Uploader::on_response`] or [`Uploader::on_lost`].
    Send(Box<Ask>),
    /// Wait, then ask for the next step.
    Wait(Duration),
    /// The server has it all, and the last response is its answer.
    Done,
    /// It cannot be done.
    Failed(Failure),
}

/// One request.
#[derive(Debug)]
pub struct Ask {
    /// Its head, without the fields of the connection and without `Content-Length`.
    pub head: Request<()>,
    /// Its content: these bytes of the representation, which may be none of them; or no content at all.
    pub content: Option<Range<u64>>,
}

/// What is to become of the request under way after an interim response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request that is to end must not be sent on"]
pub enum Heard {
    /// It goes on.
    GoOn,
    /// It is to be ended at once, without a report; the next step follows.
    Stop,
}

/// Why an upload cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server refuses it.
    #[error("the server answered {0}")]
    Rejected(StatusCode),
    /// The server does not tell offsets at this URL.
    #[error("the server does not say how much it has: this is not an upload url")]
    NotResumable,
    /// The token names an upload that this one did not create.
    #[error("the token already names another upload")]
    Taken,
    /// The server had part of the upload and has it no more: it expired, or was cancelled.
    #[error("the upload is gone from the server")]
    Gone,
    /// The token names an upload of another length.
    #[error("the server's upload has {told} bytes, the source has {length}")]
    Different {
        /// What the server says.
        told: u64,
        /// What the source has.
        length: Length,
    },
    /// The server claims an offset that cannot be.
    #[error("the server claims offset {told}, which cannot be: {sent} bytes were sent")]
    Impossible {
        /// What the server says.
        told: Offset,
        /// The end of what was sent.
        sent: Offset,
    },
    /// All of it was sent, the answer was lost, and there is no URL to ask at. Sending it again might do it twice.
    #[error("the server may have taken the upload, and left no way to ask")]
    Unanswered,
    /// The server names two places for one upload.
    #[error("the server names two places for one upload")]
    TwoPlaces,
    /// The server takes no uploads of this length.
    #[error("the server takes at most {most} bytes, the source has {length}")]
    TooLarge {
        /// What the server takes.
        most: u64,
        /// What the source has.
        length: Length,
    },
    /// The retries are used up.
    #[error("no progress after {attempts} attempts, the last one ended with: {last}")]
    Exhausted {
        /// How many there were without progress.
        attempts: u32,
        /// How the last one ended.
        last: Trouble,
    },
}

/// How an attempt ended that may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The connection could not be made, or was lost.
    #[error("a lost connection")]
    Lost,
    /// The server asked to come back later.
    #[error("{0}")]
    Status(StatusCode),
}

/// One upload, as its client sees it.
#[derive(Clone, Debug)]
pub struct Uploader {
    target: Uri,
    wire: Wire,
    origin: Origin,
    length: Length,
    retries: Retries,
    content_max: u64,
    aim: Aim,
    wait: Option<Duration>,
    /// Where the server is, by its own last word.
    at: Offset,
    /// The furthest it ever said.
    best: Offset,
    /// The furthest that was ever sent, or the length where an earlier client may have sent it.
    sent: Offset,
    /// The bytes the request under way carries.
    under_way: Range<u64>,
    /// How many of them are sent.
    sent_now: u64,
    /// Whether the server may have seen a creation.
    maybe_created: bool,
    resumed_at: Offset,
    attempts: u32,
    attempts_ever: u32,
    failing_since: Option<Duration>,
}

/// How the upload is named.
#[derive(Clone, Debug)]
enum Wire {
    Token(Token),
    Ietf(Link),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Create,
    Retrieve,
    Append,
    /// An empty append at the end of a complete upload, whose answer was lost.
    Replay,
    /// To end the upload, for this reason.
    Cancel(Failure),
    Done,
    Failed(Failure),
}

impl Uploader {
    /// A new upload of `length` bytes, named by a token that never named another. The URL is known to be one for uploads.
    //= TDR-CLI-02
    pub fn create(target: Uri, token: Token, origin: Origin, length: Length, retries: Retries) -> Self {
        Self::begin(target, Wire::Token(token), origin, length, retries)
    }

    fn begin(target: Uri, wire: Wire, origin: Origin, length: Length, retries: Retries) -> Self {
        Self {
            target,
            wire,
            origin,
            length,
            retries,
            content_max: u64::MAX,
            aim: Aim::Create,
            wait: None,
            at: Offset::ZERO,
            best: Offset::ZERO,
            sent: Offset::ZERO,
            under_way: 0..0,
            sent_now: 0,
            maybe_created: false,
            resumed_at: Offset::ZERO,
            attempts: 0,
            attempts_ever: 0,
            failing_since: None,
        }
    }

    /// An upload that an earlier client with the same token and the same source may have begun.
    pub fn resume(target: Uri, token: Token, origin: Origin, length: Length, retries: Retries) -> Self {
        let fresh = Self::create(target, token, origin, length, retries);
        Self { aim: Aim::Retrieve, maybe_created: true, sent: Offset::new(length.get()), ..fresh }
    }

    /// A new upload of `length` bytes by a creation request in an iteration of the IETF dialect.
    //= IETF-CRE-01, IETF-CLI-17
    pub fn create_in(
        target: Uri,
        version: Interop,
        opening: Opening,
        origin: Origin,
        length: Length,
        retries: Retries,
    ) -> Self {
        Self::begin(target, Wire::Ietf(Link::new(version, opening)), origin, length, retries)
    }

    /// An upload that an earlier client with the same source began, and that the server gave this URL.
    pub fn resume_in(url: Uri, version: Interop, length: Length, retries: Retries) -> Self {
        let origin = Origin { method: Method::POST, target: url.path().to_owned(), fields: HeaderMap::new() };
        let wire = Wire::Ietf(Link::known(version, url.clone()));
        let fresh = Self::begin(url, wire, origin, length, retries);
        Self { aim: Aim::Retrieve, sent: Offset::new(length.get()), ..fresh }
    }

    /// The upload's URL, once the server has given one: what a later client needs to go on.
    pub fn url(&self) -> Option<&Uri> {
        match &self.wire {
            Wire::Token(_) => Some(&self.target),
            Wire::Ietf(link) => link.url(),
        }
    }

    /// Whether the last response is the target's answer to the whole representation. A server may have taken all of it
    /// and not know any more what was answered.
    pub fn is_answered(&self) -> bool {
        match &self.wire {
            Wire::Token(_) => self.aim == Aim::Done,
            Wire::Ietf(link) => link.is_answered(),
        }
    }

    /// Puts at most this many bytes into one request, for servers that take no more. At least one.
    pub fn with_content_max(self, bytes: u64) -> Self {
        Self { content_max: bytes.max(1), ..self }
    }

    /// Bytes the server has acknowledged.
    pub fn acknowledged(&self) -> Offset {
        self.at
    }

    /// Bytes that did not have to be sent again: where the latest interruption was resumed.
    pub fn resumed_at(&self) -> Offset {
        self.resumed_at
    }

    /// How many requests had to be repeated so far.
    pub fn attempts_repeated(&self) -> u32 {
        self.attempts_ever
    }

    /// What to do next. There is one request at a time, and the next one follows from the end of the last, so that no two
    /// transfers of an upload run in parallel and no offset is used twice.
    //= TDR-OFF-06, TDR-APP-06, IETF-RET-12, IETF-CON-01
    pub fn step(&mut self) -> Step {
        if let Some(wait) = self.wait.take() {
            return Step::Wait(wait);
        }
        self.sent_now = 0;
        self.under_way = self.range();
        let content = self.content();
        let (semantics, small, finished) = match &self.wire {
            Wire::Token(_) => (token_dialect::SEMANTICS, Small::Resumes, Finished::Conflicts),
            Wire::Ietf(_) => (ietf::SEMANTICS, Small::Ordinary, Finished::Replays),
        };
        match self.aim {
            Aim::Create => {
                let (length, taken, origin) = (Some(self.length), Taken::Refuse, self.origin.clone());
                let create = Create {
                    semantics,
                    length,
                    content,
                    taken,
                    small,
                    makeup: Makeup::Own,
                    waits_for_parts: false,
                    origin,
                };
                self.ask(&Operation::Create(create), true)
            }
            Aim::Append | Aim::Replay => {
                let append = Append { like: None, at: self.at, length: None, content, finished };
                self.ask(&Operation::Append(append), true)
            }
            //= TDR-OFF-01
            Aim::Retrieve => self.ask(&Operation::Retrieve, false),
            Aim::Cancel(_) => self.ask(&Operation::Cancel, false),
            Aim::Done => Step::Done,
            Aim::Failed(failure) => Step::Failed(failure),
        }
    }

    fn ask(&self, operation: &Operation, has_content: bool) -> Step {
        let target = || self.target.path_and_query().map_or("/", |target| target.as_str());
        let head = match &self.wire {
            Wire::Token(token) => Form::Seed.request(target(), token, operation),
            Wire::Ietf(link) => link.request(&self.target, operation),
        };
        let head = head.expect("a URI's text is a URI");
        Step::Send(Box::new(Ask { head, content: has_content.then(|| self.under_way.clone()) }))
    }

    /// The content of the next transfer.
    fn range(&self) -> Range<u64> {
        let (start, bytes_max) = match (self.aim, &self.wire) {
            (Aim::Create, Wire::Token(_)) => (0, self.content_max),
            (Aim::Create, Wire::Ietf(link)) => (0, link.opening_bytes(self.content_max)),
            (Aim::Append, Wire::Token(_)) => (self.at.get(), self.content_max),
            (Aim::Append, Wire::Ietf(link)) => (self.at.get(), link.append_bytes(self.content_max)),
            _ => (self.at.get(), 0),
        };
        start..self.length.get().min(start.saturating_add(bytes_max))
    }

    fn content(&self) -> Content {
        let Range { start, end } = self.under_way;
        let opens = match &self.wire {
            Wire::Ietf(link) => self.aim == Aim::Create && link.opens_carefully(),
            Wire::Token(_) => false,
        };
        let is_last = self.aim == Aim::Replay || (end == self.length.get() && !opens);
        Content { bytes: Some(end - start), finish: if is_last { Finish::Here } else { Finish::Later } }
    }

    /// Whether all of the request under way is sent.
    fn sent_all(&self) -> bool {
        self.sent_now == self.under_way.end - self.under_way.start
    }

    /// The first `bytes` bytes of the content of the request under way have left.
    pub fn on_sent(&mut self, bytes: u64) {
        self.sent_now = self.sent_now.max(bytes);
        let end = Offset::new(self.under_way.start.saturating_add(self.sent_now));
        self.sent = self.sent.max(end.min(Offset::new(self.length.get())));
    }

    /// The connection was refused or lost, or nothing came over it for too long, before the response.
    ///
    /// `reached` is whether any of the request can have reached the server.
    pub fn on_lost(&mut self, reached: bool, moment: Moment) {
        match self.wire {
            Wire::Token(_) => self.token_lost(reached, moment),
            Wire::Ietf(_) => self.ietf_lost(reached, moment),
        }
    }

    /// An interim response came while the request is under way. One that is not for this upload says nothing.
    pub fn on_interim(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) -> Heard {
        match self.wire {
            Wire::Token(_) => Heard::GoOn,
            Wire::Ietf(_) => self.ietf_heard(status, fields, moment),
        }
    }

    /// A final response came; the rest of the request's content, if any, was not sent.
    pub fn on_response(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        match self.wire {
            Wire::Token(_) => self.token_answered(status, fields, moment),
            Wire::Ietf(_) => self.ietf_answered(status, fields, moment),
        }
    }

    /// Takes the server's word for where it is, and says whether that is further than ever.
    fn place(&mut self, offset: Offset) -> bool {
        self.at = offset;
        let further = offset > self.best;
        if further {
            self.best = offset;
            self.attempts = 0;
            self.failing_since = None;
        }
        further
    }

    /// Aims again after a wait, unless the retries are used up.
    fn again(&mut self, aim: Aim, last: Trouble, at_least: Option<Duration>, moment: Moment) {
        let since = *self.failing_since.get_or_insert(moment.elapsed);
        self.attempts += 1;
        let wait =
            self.retries.wait(self.attempts, moment.random).saturating_add(at_least.unwrap_or_default());
        let spent = moment.elapsed.saturating_sub(since).saturating_add(wait);
        if self.attempts > self.retries.attempts || spent > self.retries.budget {
            return self.fail(Failure::Exhausted { attempts: self.attempts, last });
        }
        if let Wire::Ietf(link) = &self.wire
            && link.is_over(moment.elapsed.saturating_add(wait))
        {
            return self.fail(Failure::Gone);
        }
        self.attempts_ever = self.attempts_ever.saturating_add(1);
        self.wait = Some(wait);
        self.aim = aim;
    }

    fn fail(&mut self, failure: Failure) {
        self.aim = Aim::Failed(failure);
    }
}

#[cfg(test)]
mod tests;
