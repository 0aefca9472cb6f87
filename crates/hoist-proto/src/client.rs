//! The client's machine: what to ask a server next, given what became of the last request.
//!
//! [`Uploader`] carries one representation of known length to an upload URL. It owns every decision (where to go on,
//! whether to try again, how long to wait, when to give up) and no effect: time and randomness are arguments, requests
//! are heads and ranges of bytes for somebody else to send.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};

use crate::dialect::answer::{self, Said};
use crate::dialect::token::{self, Form, Told};
use crate::operation::{Append, Content, Create, Finish, Finished, Operation, Small, Taken};
use crate::types::{Length, Offset, Token};
use crate::upload::Origin;

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
    token: Token,
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
    /// Bytes sent of the content of the request under way.
    sent_now: u64,
    /// Whether the server may have seen a creation.
    maybe_created: bool,
    resumed_at: Offset,
    attempts: u32,
    attempts_ever: u32,
    failing_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aim {
    Create,
    Retrieve,
    Append,
    Done,
    Failed(Failure),
}

impl Uploader {
    /// A new upload of `length` bytes, named by a token that never named another. The URL is known to be one for uploads.
    //= TDR-CLI-02
    pub fn create(target: Uri, token: Token, origin: Origin, length: Length, retries: Retries) -> Self {
        Self {
            target,
            token,
            origin,
            length,
            retries,
            content_max: u64::MAX,
            aim: Aim::Create,
            wait: None,
            at: Offset::ZERO,
            best: Offset::ZERO,
            sent: Offset::ZERO,
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
    //= TDR-OFF-06, TDR-APP-06
    pub fn step(&mut self) -> Step {
        if let Some(wait) = self.wait.take() {
            return Step::Wait(wait);
        }
        self.sent_now = 0;
        match self.aim {
            Aim::Create => {
                let content = self.content();
                let create = Create {
                    small: Small::Resumes,
                    semantics: token::SEMANTICS,
                    length: Some(self.length),
                    content,
                    taken: Taken::Refuse,
                    origin: self.origin.clone(),
                };
                self.ask(&Operation::Create(create), true)
            }
            Aim::Append => {
                let finished = Finished::Conflicts;
                let append =
                    Append { like: None, at: self.at, length: None, content: self.content(), finished };
                self.ask(&Operation::Append(append), true)
            }
            //= TDR-OFF-01
            Aim::Retrieve => self.ask(&Operation::Retrieve, false),
            Aim::Done => Step::Done,
            Aim::Failed(failure) => Step::Failed(failure),
        }
    }

    fn ask(&self, operation: &Operation, has_content: bool) -> Step {
        let target = self.target.path_and_query().map_or("/", |target| target.as_str());
        let head = Form::Seed.request(target, &self.token, operation).expect("a URI's path is a URI");
        Step::Send(Box::new(Ask { head, content: has_content.then(|| self.range()) }))
    }

    /// The content of the next transfer.
    fn range(&self) -> Range<u64> {
        let start = match self.aim {
            Aim::Create => 0,
            _ => self.at.get(),
        };
        start..self.length.get().min(start.saturating_add(self.content_max))
    }

    fn content(&self) -> Content {
        let range = self.range();
        let finish = if range.end == self.length.get() { Finish::Here } else { Finish::Later };
        Content { bytes: Some(range.end - range.start), finish }
    }

    /// The first `bytes` bytes of the content of the request under way have left.
    pub fn on_sent(&mut self, bytes: u64) {
        self.sent_now = self.sent_now.max(bytes);
        let end = Offset::new(self.range().start.saturating_add(self.sent_now));
        self.sent = self.sent.max(end.min(Offset::new(self.length.get())));
    }

    /// The connection was refused or lost, or nothing came over it for too long, before the response.
    ///
    /// `reached` is whether any of the request can have reached the server.
    //= TDR-SEED-04
    pub fn on_lost(&mut self, reached: bool, moment: Moment) {
        self.maybe_created |= reached && self.aim == Aim::Create;
        let aim = match self.aim {
            Aim::Create if !self.maybe_created => Aim::Create,
            Aim::Create | Aim::Retrieve | Aim::Append => Aim::Retrieve,
            Aim::Done | Aim::Failed(_) => return,
        };
        self.again(aim, Trouble::Lost, None, moment);
    }

    /// A final response came; the rest of the request's content, if any, was not sent.
    pub fn on_response(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let told = token::told(fields);
        let trouble = Trouble::Status(status);
        self.maybe_created |= self.aim == Aim::Create && answer::said(status) != Said::Conflict;
        match (self.aim, answer::said(status)) {
            (Aim::Done | Aim::Failed(_), _) => {}
            (Aim::Create | Aim::Append, Said::Done) => self.transferred(told, trouble, moment),
            (Aim::Retrieve, Said::Done) => self.retrieved(told),
            (Aim::Append, Said::Conflict) => self.displaced(told, trouble, moment),
            // A transfer of ours that the server has not given up may still run: asking for the offset ends it.
            (Aim::Create, Said::Conflict) if self.maybe_created => {
                self.again(Aim::Retrieve, trouble, None, moment);
            }
            (Aim::Create, Said::Conflict) => self.fail(Failure::Taken),
            // Nothing was ever acknowledged, so nothing is lost by beginning again.
            (Aim::Append | Aim::Retrieve, Said::Unknown) if self.best == Offset::ZERO => self.restart(),
            (Aim::Append | Aim::Retrieve, Said::Unknown) => self.fail(Failure::Gone),
            (_, Said::Later) | (Aim::Retrieve, Said::Conflict) => {
                self.again(Aim::Retrieve, trouble, answer::retry_after(fields), moment);
            }
            (Aim::Create, Said::Unknown) | (_, Said::No) => self.fail(Failure::Rejected(status)),
        }
    }

    /// A creation or an append was carried out.
    //= TDR-RSP-02, TDR-SEED-10
    fn transferred(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        let range = self.range();
        let end = Offset::new(range.end);
        let sent_all = self.sent_now == range.end - range.start;
        match told.offset {
            Some(offset) if offset != end || !sent_all => {
                let sent = Offset::new(range.start + self.sent_now);
                return self.fail(Failure::Impossible { told: offset, sent });
            }
            // The first draft's own answer to a creation says no offset. One given before the content was sent means
            // nothing.
            None if !sent_all || !self.length.is_reached(end) => {
                return self.again(Aim::Retrieve, trouble, None, moment);
            }
            Some(_) | None => {}
        }
        let ends = self.length.is_reached(end);
        self.place(end);
        if ends && told.complete == Some(false) {
            self.again(Aim::Append, trouble, None, moment);
        } else {
            self.aim = if ends { Aim::Done } else { Aim::Append };
        }
    }

    /// The server said its offset. An upload that is complete is asked for its answer by an empty append.
    fn retrieved(&mut self, told: Told) {
        let Some(offset) = told.offset else { return self.fail(Failure::NotResumable) };
        if let Some(failure) = self.doubt(offset, told) {
            return self.fail(failure);
        }
        self.place(offset);
        self.resumed_at = self.resumed_at.max(offset);
        self.aim = Aim::Append;
    }

    /// The server is at another offset than the append was for.
    fn displaced(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        let Some(offset) = told.offset else { return self.again(Aim::Retrieve, trouble, None, moment) };
        if let Some(failure) = self.doubt(offset, told) {
            return self.fail(failure);
        }
        let is_here = offset == self.at;
        if is_here && self.length.is_reached(offset) && told.complete == Some(true) {
            // It keeps no answer to give again, and says all the same that it has everything.
            self.aim = Aim::Done;
        } else if is_here {
            self.again(Aim::Retrieve, trouble, None, moment);
        } else {
            let went_on = self.place(offset);
            self.resumed_at = self.resumed_at.max(offset);
            if went_on {
                self.aim = Aim::Append;
            } else {
                self.again(Aim::Append, trouble, None, moment);
            }
        }
    }

    /// Why the upload the server speaks of cannot be this one.
    //= TDR-OFF-08
    fn doubt(&self, offset: Offset, told: Told) -> Option<Failure> {
        let length = self.length;
        let different = |told: u64| Some(Failure::Different { told, length });
        match told.length {
            Some(known) if known != length => return different(known.get()),
            _ if offset.get() > length.get() => return different(offset.get()),
            _ if told.complete == Some(true) && !length.is_reached(offset) => return different(offset.get()),
            _ => {}
        }
        (offset > self.sent).then_some(Failure::Impossible { told: offset, sent: self.sent })
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

    /// Creates again, with the token that the server has never seen, or has forgotten with nothing behind it. Whatever
    /// led here has waited already, and no answer to a creation leads back here uncounted.
    //= TDR-OFF-09
    fn restart(&mut self) {
        self.at = Offset::ZERO;
        self.aim = Aim::Create;
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
