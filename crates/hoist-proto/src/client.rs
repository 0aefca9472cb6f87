//! The client's machine: what to ask a server next, given what became of the last request.
//!
//! [`Uploader`] carries one representation, whose length may become known only at its end, to a server. It owns every
//! decision (where to go on, whether to try again, how long to wait, when to give up) and no effect: time and randomness
//! are arguments, requests are heads and ranges of bytes for somebody else to send. What an answer means differs between
//! the dialects it speaks: `token`, `ietf`, `tus1` and `conventional` own that.

mod begin;
mod conventional;
mod failure;
mod ietf;
mod retry;
mod token;
mod tus1;

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};

pub use self::failure::{Failure, Trouble};
use self::ietf::Link;
pub use self::ietf::{Opening, VERSIONS, resolve};
pub use self::retry::Retries;
pub use self::tus1::{Checksum, Offers, Role};
use crate::dialect::interop::Interop;
use crate::dialect::token as token_dialect;
use crate::operation::{
    Append, AppendToComplete, BelowMinSize, Content, Create, Finish, OnExisting, Operation,
};
use crate::types::{Length, Offset, Token};
use crate::upload::{Composition, Origin};

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
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its head, without the fields of the connection and without `Content-Length`.
    pub head: Request<()>,
    /// Its content: these bytes of the representation, which may be none of them; or no content at all.
    pub content: Option<Range<u64>>,
    /// Whether the content may end before the end of that range: where the representation ends, or where the sender can
    /// keep no more without its being acknowledged. Such a request declares no size, and [`Uploader::on_content_end`] is
    /// told where it ended.
    pub is_open: bool,
    /// Whether a digest of the content is to go with it.
    pub checksum: Option<Checksum>,
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

/// One upload, as its client sees it.
#[derive(Clone, Debug)]
pub struct Uploader {
    target: Uri,
    wire: Wire,
    origin: Origin,
    /// None as long as nobody knows where the representation ends.
    length: Option<Length>,
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
    /// Whether its sender says where it ends.
    open: bool,
    /// Whether it says that the representation ends with it.
    finish: Finish,
    /// How many of its bytes are sent.
    sent_now: u64,
    /// How often in a row less was sent at a time because the server did not say how much it takes.
    halvings: u32,
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
    Token(token::Named),
    Ietf(Link),
    Tus1(tus1::Link),
    Conventional,
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
    /// The upload's URL, once the server has given one: what a later client needs to go on.
    pub fn url(&self) -> Option<&Uri> {
        match &self.wire {
            Wire::Token(..) => Some(&self.target),
            Wire::Ietf(link) => link.url(),
            Wire::Tus1(link) => link.url(),
            Wire::Conventional => None,
        }
    }

    /// The length, once it is known.
    pub fn length(&self) -> Option<Length> {
        self.length
    }

    /// Whether the last response is the target's answer to the whole representation. A server may have taken all of it
    /// and not know any more what was answered.
    pub fn is_answered(&self) -> bool {
        match &self.wire {
            Wire::Token(named) => self.aim == Aim::Done && named.is_answered(),
            Wire::Conventional => self.aim == Aim::Done,
            Wire::Ietf(link) => link.is_answered(),
            Wire::Tus1(link) => link.is_answered(),
        }
    }

    /// Tries the next of [`VERSIONS`] where the server refuses the number of this one. Only the IETF dialect has them.
    pub fn negotiating(mut self) -> Self {
        if let Wire::Ietf(link) = &mut self.wire {
            link.negotiate();
        }
        self
    }

    /// The iteration of the IETF dialect that is spoken.
    pub fn version(&self) -> Option<Interop> {
        match &self.wire {
            Wire::Ietf(link) => Some(link.version()),
            Wire::Token(..) | Wire::Tus1(_) | Wire::Conventional => None,
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
        self.open = self.length.is_none() && !self.under_way.is_empty();
        let content = self.content();
        self.finish = content.finish;
        let (semantics, below_min_size, when_complete) = match &self.wire {
            Wire::Token(..) => (token_dialect::SEMANTICS, BelowMinSize::Resumes, AppendToComplete::Conflicts),
            Wire::Ietf(_) | Wire::Tus1(_) | Wire::Conventional => {
                (ietf::SEMANTICS, BelowMinSize::Ordinary, AppendToComplete::Replays)
            }
        };
        match self.aim {
            Aim::Create => {
                let (length, on_existing, origin) = (self.length, OnExisting::Refuse, self.origin.clone());
                let create = Create {
                    semantics,
                    length,
                    content,
                    on_existing,
                    below_min_size,
                    composition: Composition::Direct,
                    waits_for_parts: false,
                    origin,
                };
                self.ask(&Operation::Create(create), true)
            }
            Aim::Append | Aim::Replay => {
                let length = self.length.filter(|_| self.tells_length());
                let append = Append { like: None, at: self.at, length, content, when_complete };
                self.ask(&Operation::Append(append), true)
            }
            //= TDR-OFF-01
            Aim::Retrieve => self.ask(&Operation::Retrieve, false),
            Aim::Cancel(_) => self.ask(&Operation::Cancel, false),
            Aim::Done => Step::Done,
            Aim::Failed(failure) => Step::Failed(failure),
        }
    }

    /// Whether an append has to say a length that the server was not told before.
    fn tells_length(&self) -> bool {
        match &self.wire {
            Wire::Tus1(link) => link.tells_length(),
            Wire::Token(..) | Wire::Ietf(_) | Wire::Conventional => false,
        }
    }

    fn ask(&self, operation: &Operation, has_content: bool) -> Step {
        let target = || self.target.path_and_query().map_or("/", |target| target.as_str());
        let head = match &self.wire {
            Wire::Token(named) => named.request(target(), operation),
            Wire::Ietf(link) => link.request(&self.target, operation),
            Wire::Tus1(link) => link.request(&self.target, operation, &self.under_way),
            Wire::Conventional => conventional::request(target(), operation),
        };
        let head = head.expect("a URI's text is a URI");
        let carries = match &self.wire {
            Wire::Tus1(_) => tus1::carries(self.aim == Aim::Create, &self.under_way),
            Wire::Token(..) | Wire::Ietf(_) | Wire::Conventional => true,
        };
        let content = (has_content && carries).then(|| self.under_way.clone());
        let is_open = content.is_some() && self.open;
        let checksum = match &self.wire {
            Wire::Tus1(link) if !is_open && content.as_ref().is_some_and(|range| !range.is_empty()) => {
                link.checksum()
            }
            _ => None,
        };
        Step::Send(Box::new(Ask { head, content, is_open, checksum }))
    }

    /// The content of the next transfer.
    fn range(&self) -> Range<u64> {
        let most = self.content_max;
        let (start, bytes_max) = match (self.aim, &self.wire) {
            (Aim::Create, Wire::Token(..)) => (0, most),
            (Aim::Create, Wire::Ietf(link)) => (0, link.opening_bytes(most)),
            (Aim::Create, Wire::Tus1(link)) => (0, link.opening_bytes(most)),
            (Aim::Create, Wire::Conventional) => (0, u64::MAX),
            (Aim::Append, Wire::Ietf(link)) => (self.at.get(), link.append_bytes(most)),
            (Aim::Append, Wire::Tus1(link)) => (self.at.get(), link.append_bytes(most)),
            (Aim::Append, Wire::Token(..) | Wire::Conventional) => (self.at.get(), most),
            (Aim::Retrieve | Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_), _) => {
                (self.at.get(), 0)
            }
        };
        let end = self.length.map_or(u64::MAX, Length::get);
        start..end.min(start.saturating_add(bytes_max)).max(start)
    }

    fn content(&self) -> Content {
        let Range { start, end } = self.under_way;
        let opens = match &self.wire {
            Wire::Ietf(link) => self.aim == Aim::Create && link.opens_carefully(),
            Wire::Token(..) | Wire::Tus1(_) | Wire::Conventional => false,
        };
        let at_end = self.length.is_some_and(|length| end == length.get());
        let is_last = self.aim == Aim::Replay || (at_end && !opens);
        let bytes = (!self.open).then_some(end - start);
        Content { bytes, finish: if is_last { Finish::Here } else { Finish::Later } }
    }

    /// Whether all of the request under way is sent.
    fn sent_all(&self) -> bool {
        self.sent_now == self.under_way.end - self.under_way.start
    }

    /// Whether an upload at `offset` is known to hold the whole representation.
    fn is_whole(&self, offset: Offset) -> bool {
        self.length.is_some_and(|length| length.is_reached(offset))
    }

    /// Why an upload of `told` bytes is not this one.
    fn different(&self, told: u64) -> Failure {
        match self.length {
            Some(length) => Failure::Different { told, length },
            None => Failure::Impossible { told: Offset::new(told), sent: self.sent },
        }
    }

    /// Whether `told` cannot be the offset of this upload.
    fn is_beyond(&self, told: Offset) -> bool {
        told.get() > self.length.map_or(self.sent.get(), Length::get)
    }

    /// The source of the representation has come to its end, which tells the length of the whole.
    pub fn on_source_end(&mut self, length: Length) {
        self.length = self.length.or(Some(length));
    }

    /// The content of the request under way, which is an [open](Ask::is_open) one, ended behind this many bytes.
    pub fn on_content_end(&mut self, bytes: u64) {
        let end = self.under_way.start.saturating_add(bytes);
        self.under_way.end = self.under_way.end.min(end);
    }

    /// The first `bytes` bytes of the content of the request under way have left.
    pub fn on_sent(&mut self, bytes: u64) {
        self.sent_now = self.sent_now.max(bytes);
        let end = Offset::new(self.under_way.start.saturating_add(self.sent_now));
        let whole = self.length.map_or(u64::MAX, Length::get);
        self.sent = self.sent.max(end.min(Offset::new(whole)));
    }

    /// The connection was refused or lost, or nothing came over it for too long, before the response.
    ///
    /// `reached` is whether any of the request can have reached the server.
    pub fn on_lost(&mut self, reached: bool, moment: Moment) {
        match self.wire {
            Wire::Token(..) => self.token_lost(reached, moment),
            Wire::Ietf(_) => self.ietf_lost(reached, moment),
            Wire::Tus1(_) => self.tus1_lost(reached, moment),
            Wire::Conventional => self.plain_lost(reached, moment),
        }
    }

    /// An interim response came while the request is under way. One that is not for this upload says nothing.
    pub fn on_interim(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) -> Heard {
        match self.wire {
            Wire::Token(..) | Wire::Tus1(_) | Wire::Conventional => Heard::GoOn,
            Wire::Ietf(_) => self.ietf_heard(status, fields, moment),
        }
    }

    /// A final response came; the rest of the request's content, if any, was not sent.
    pub fn on_response(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        match self.wire {
            Wire::Token(..) => self.token_answered(status, fields, moment),
            Wire::Ietf(_) => self.ietf_answered(status, fields, moment),
            Wire::Tus1(_) => self.tus1_answered(status, fields, moment),
            Wire::Conventional => self.plain_answered(status, fields, moment),
        }
    }

    /// Takes the server's word for where it is, and says whether that is further than ever.
    fn place(&mut self, offset: Offset) -> bool {
        self.at = offset;
        let further = offset > self.best;
        if further {
            self.best = offset;
            self.attempts = 0;
            self.halvings = 0;
            self.failing_since = None;
        }
        further
    }

    /// Aims again after a wait, unless the retries are used up.
    fn again(&mut self, aim: Aim, last: Trouble, at_least: Option<Duration>, moment: Moment) {
        let since = *self.failing_since.get_or_insert(moment.elapsed);
        self.attempts += 1;
        let failing = moment.elapsed.saturating_sub(since);
        let Some(wait) = self.retries.pause(self.attempts, failing, at_least, moment.random) else {
            return self.fail(Failure::Exhausted { attempts: self.attempts, last });
        };
        let then = moment.elapsed.saturating_add(wait);
        if let Wire::Ietf(link) = &self.wire
            && link.is_over(then)
        {
            return self.fail(Failure::Gone);
        }
        self.attempts_ever = self.attempts_ever.saturating_add(1);
        self.wait = Some(wait);
        self.aim = aim;
        if matches!(self.wire, Wire::Tus1(_)) {
            self.outlive(then);
        }
    }

    /// How much less to send at a time, when the server takes no more than `told`, or has not said how much. None when
    /// there is no less, or it was tried often enough.
    //= IETF-LIM-09
    fn smaller(&mut self, told: Option<u64>, least: u64) -> Option<u64> {
        let bytes = self.under_way.end.saturating_sub(self.under_way.start);
        if let Some(told) = told.filter(|told| (1..bytes).contains(told)) {
            return Some(told);
        }
        self.halvings += 1;
        let half = (bytes / 2).max(least.max(1));
        (half < bytes && self.halvings <= HALVINGS_MAX).then_some(half)
    }

    /// Aims at once at what is another request than the last: no server has to be spared.
    fn at_once(&mut self, aim: Aim) {
        self.attempts_ever = self.attempts_ever.saturating_add(1);
        self.aim = aim;
    }

    fn fail(&mut self, failure: Failure) {
        self.aim = Aim::Failed(failure);
    }
}

/// How often in a row a request is halved for a server that does not say what it takes: from a terabyte to a few
/// megabytes, or from what one request should carry to next to nothing.
const HALVINGS_MAX: u32 = 18;

#[cfg(test)]
mod tests;
