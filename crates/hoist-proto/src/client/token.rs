//! What the machine makes of the answers to an upload that is named by a token.

use http::{HeaderMap, Request, StatusCode};

use super::{Aim, Failure, Moment, Trouble, Uploader, Wire};
use crate::dialect::UPLOAD_INDEX;
use crate::dialect::answer::{self, Said};
use crate::dialect::ietf::client as ietf;
use crate::dialect::token::{self, Form, Told};
use crate::field;
use crate::operation::{Finish, Operation};
use crate::types::{Offset, Token};
use crate::upload::Part;

/// How an upload is named.
#[derive(Clone, Debug)]
pub(super) struct Named {
    token: Token,
    pub(super) form: Form,
    /// The part it is, where it is not the whole.
    pub(super) part: Option<Part>,
    /// Whether the server has said that the whole is complete.
    is_whole: bool,
}

impl Named {
    pub(super) fn new(token: Token) -> Self {
        Self { token, form: Form::Seed, part: None, is_whole: false }
    }

    /// Whether the last answer is to the whole.
    pub(super) fn is_answered(&self) -> bool {
        self.part.is_none() || self.is_whole
    }

    pub(super) fn request(&self, target: &str, operation: &Operation) -> Result<Request<()>, http::Error> {
        let mut head = self.form.request(target, &self.token, operation)?;
        if let Some(part) = self.part {
            head.headers_mut().insert(UPLOAD_INDEX, field::part_value(part));
        }
        Ok(head)
    }
}

impl Uploader {
    /// Whether it is a part, of which the server's word for "complete" does not speak.
    fn is_part(&self) -> bool {
        matches!(&self.wire, Wire::Token(named) if named.part.is_some())
    }

    /// The connection was refused or lost, or nothing came over it for too long, before the response.
    ///
    /// `reached` is whether any of the request can have reached the server.
    //= TDR-SEED-04
    pub(super) fn token_lost(&mut self, reached: bool, moment: Moment) {
        self.maybe_created |= reached && self.aim == Aim::Create;
        let aim = match self.aim {
            Aim::Create if !self.maybe_created => Aim::Create,
            Aim::Create | Aim::Retrieve | Aim::Append => Aim::Retrieve,
            Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_) => return,
        };
        self.again(aim, Trouble::Lost, None, moment);
    }

    /// A final response came; the rest of the request's content, if any, was not sent.
    pub(super) fn token_answered(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let told = token::told(fields);
        let trouble = Trouble::Status(status);
        if let Wire::Token(named) = &mut self.wire {
            named.is_whole = told.complete == Some(true);
        }
        self.maybe_created |= self.aim == Aim::Create && answer::said(status) != Said::Conflict;
        match (self.aim, answer::said(status)) {
            (Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_), _) => {}
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
            (Aim::Create | Aim::Append, Said::No)
                if status == StatusCode::PAYLOAD_TOO_LARGE && told.complete != Some(true) =>
            {
                self.token_refit(status, fields);
            }
            (Aim::Create, Said::Unknown) | (_, Said::No) => self.fail(Failure::Rejected(status)),
        }
    }

    /// Sends less at a time: as little as the server says, or half as much where it says nothing.
    fn token_refit(&mut self, status: StatusCode, fields: &HeaderMap) {
        let told = ietf::takes(fields).and_then(|takes| takes.append_max);
        let Some(bytes) = self.smaller(told, 1) else { return self.fail(Failure::Rejected(status)) };
        self.content_max = bytes;
        self.at_once(if self.aim == Aim::Create && self.sent_now == 0 { Aim::Create } else { Aim::Retrieve });
    }

    /// A creation or an append was carried out.
    //= TDR-RSP-02, TDR-SEED-10
    fn transferred(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        let range = self.under_way.clone();
        let end = Offset::new(range.end);
        let sent_all = self.sent_now == range.end - range.start;
        match told.offset {
            Some(offset) if offset != end || !sent_all => {
                let sent = Offset::new(range.start + self.sent_now);
                return self.fail(Failure::Impossible { told: offset, sent });
            }
            // The first draft's own answer to a creation says no offset. One given before the content was sent means
            // nothing.
            None if !sent_all || !self.is_whole(end) => {
                return self.again(Aim::Retrieve, trouble, None, moment);
            }
            Some(_) | None => {}
        }
        let ends = self.is_whole(end);
        self.place(end);
        if ends && self.finish == Finish::Later {
            // Nobody knew that it would end here; now it is to be said.
            self.aim = Aim::Append;
        } else if ends && told.complete == Some(false) && !self.is_part() {
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
        // Whether the whole was answered is asked of the whole.
        let is_there = self.is_part() && self.is_whole(offset);
        self.aim = if is_there { Aim::Done } else { Aim::Append };
    }

    /// The server is at another offset than the append was for.
    fn displaced(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        let Some(offset) = told.offset else { return self.again(Aim::Retrieve, trouble, None, moment) };
        if let Some(failure) = self.doubt(offset, told) {
            return self.fail(failure);
        }
        let is_here = offset == self.at;
        if is_here && self.is_whole(offset) && (told.complete == Some(true) || self.is_part()) {
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
        match (told.length, self.length) {
            (Some(known), Some(length)) if known != length => return Some(self.different(known.get())),
            (_, Some(length)) if offset.get() > length.get() => return Some(self.different(offset.get())),
            (_, Some(length)) if told.complete == Some(true) && !length.is_reached(offset) => {
                return Some(self.different(offset.get()));
            }
            _ => {}
        }
        (offset > self.sent).then_some(Failure::Impossible { told: offset, sent: self.sent })
    }

    /// Creates again, with the token that the server has never seen, or has forgotten with nothing behind it. Whatever
    /// led here has waited already, and no answer to a creation leads back here uncounted.
    //= TDR-OFF-09
    fn restart(&mut self) {
        self.at = Offset::ZERO;
        self.aim = Aim::Create;
    }
}
