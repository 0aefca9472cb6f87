//! What the machine makes of the answers to an upload that the server names by a URL.
//!
//! The URL comes with a 104 or with the answer to the creation; until then nothing can be resumed. Owns the table of
//! reactions of the IETF dialect; how fields are read is [`dialect::ietf`](crate::dialect::ietf)'s.

mod link;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri, header};

pub(super) use self::link::Link;
pub use self::link::{Opening, VERSIONS};
use super::{Aim, Failure, Heard, Moment, Trouble, Uploader, Wire};
use crate::dialect::answer::{self, Said};
pub(super) use crate::dialect::ietf::SEMANTICS;
use crate::dialect::ietf::client::{Told, has_own_field};
use crate::operation::Finish;
use crate::types::Offset;

/// Conflicts in a row that are believed before the server is asked.
const CONFLICTS_MAX: u8 = 3;

/// Answers in a row to a question that tell no offset before the upload has failed.
const UNCLEAR_MAX: u8 = 3;

impl Uploader {
    fn link(&mut self) -> &mut Link {
        match &mut self.wire {
            Wire::Ietf(link) => link,
            Wire::Token(..) | Wire::Tus1(_) | Wire::Conventional => {
                unreachable!("only an upload of this dialect is answered here")
            }
        }
    }

    /// Whether the request under way is the last of the representation.
    fn is_last(&self) -> bool {
        self.finish == Finish::Here
    }

    /// Remembers that the server may have everything, when nothing says otherwise.
    fn may_be_complete(&mut self) {
        let is_transfer = matches!(self.aim, Aim::Create | Aim::Append | Aim::Replay);
        if is_transfer && self.is_last() && self.sent_all() {
            self.link().maybe_complete = true;
        }
    }

    //= IETF-CLI-04, IETF-CLI-10, IETF-CLI-14
    pub(super) fn ietf_lost(&mut self, reached: bool, moment: Moment) {
        if reached {
            self.may_be_complete();
        }
        let is_known = self.link().url.is_some();
        match self.aim {
            Aim::Create if !is_known => self.open_again(reached, Trouble::Lost, None, moment),
            Aim::Create | Aim::Retrieve | Aim::Append | Aim::Replay => {
                self.again(Aim::Retrieve, Trouble::Lost, None, moment);
            }
            Aim::Cancel(failure) => self.fail(failure),
            Aim::Done | Aim::Failed(_) => {}
        }
    }

    /// Creates once more where no URL was learnt. A request that may have been carried out is not made again, unless its
    /// method promises that this is the same as once.
    //= IETF-VER-09, IETF-CLI-16, IETF-INT-11
    fn open_again(&mut self, reached: bool, trouble: Trouble, after: Option<Duration>, moment: Moment) {
        if self.link().maybe_complete && self.origin.method != Method::PUT {
            return self.fail(Failure::Unanswered);
        }
        if reached {
            self.link().opening = Opening::Careful;
        }
        self.again(Aim::Create, trouble, after, moment);
    }

    //= IETF-INT-02, IETF-INT-06, IETF-INT-08, IETF-LIM-05, IETF-OFF-04
    pub(super) fn ietf_heard(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) -> Heard {
        let speaker = self.link().speaker;
        let is_transfer = matches!(self.aim, Aim::Create | Aim::Append);
        if status.as_u16() != 104 || !speaker.heeds(fields) || !is_transfer {
            return Heard::GoOn;
        }
        self.link().is_evident = true;
        if self.aim == Aim::Create && !self.found(fields) {
            return Heard::Stop;
        }
        let told = speaker.told(fields);
        let sent = Offset::new(self.under_way.start.saturating_add(self.sent_now));
        // Of an upload without a URL nothing can be kept, whatever the server has of it.
        let can_resume = self.link().url.is_some();
        if let Some(offset) = told.offset.filter(|offset| can_resume && (self.at..=sent).contains(offset)) {
            self.place(offset);
        }
        if !self.suits(told, moment) {
            return Heard::Stop;
        }
        let bytes = self.under_way.end - self.under_way.start;
        if bytes > self.link().append_max && self.link().url.is_some() {
            self.aim = Aim::Retrieve;
            return Heard::Stop;
        }
        Heard::GoOn
    }

    /// Takes the upload's URL from a response, and says whether it is the one known already.
    //= IETF-INT-05, IETF-INT-06
    fn found(&mut self, fields: &HeaderMap) -> bool {
        let location = fields.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(found) = location.and_then(|location| resolve(&self.target, location)) else { return true };
        match &self.link().url {
            None => {
                self.link().url = Some(found);
                true
            }
            Some(url) if *url == found => true,
            Some(_) => {
                self.give_up(Failure::TwoPlaces);
                false
            }
        }
    }

    /// Takes what the server says of its limits, and says whether the upload can go on within them.
    //= IETF-CRE-18, IETF-LIM-05
    fn suits(&mut self, told: Told, moment: Moment) -> bool {
        let Some(takes) = told.limits else { return true };
        self.link().heed_limits(takes, moment);
        match takes.size_max {
            Some(most) if self.length.is_some_and(|length| most < length.get()) => {
                let failure =
                    self.length.map_or(Failure::NotResumable, |length| Failure::TooLarge { most, length });
                self.give_up(failure);
                false
            }
            _ => true,
        }
    }

    /// Ends the upload on the server too, where it is known.
    //= IETF-RET-14
    fn give_up(&mut self, failure: Failure) {
        self.aim = if self.link().url.is_some() { Aim::Cancel(failure) } else { Aim::Failed(failure) };
    }

    pub(super) fn ietf_answered(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let told = self.link().speaker.told(fields);
        let asks = matches!(self.aim, Aim::Create | Aim::Retrieve | Aim::Append | Aim::Replay);
        if asks && self.link().is_renegotiated(status, fields) {
            return self.at_once(self.aim);
        }
        self.link().is_evident |= has_own_field(fields);
        match self.aim {
            Aim::Done | Aim::Failed(_) => {}
            Aim::Cancel(failure) => self.fail(failure),
            Aim::Retrieve => self.state_came(status, fields, told, moment),
            Aim::Create | Aim::Append | Aim::Replay => self.transfer_ended(status, fields, told, moment),
        }
    }

    //= IETF-CLI-01, IETF-CLI-02, IETF-CLI-03, IETF-CLI-05, IETF-CLI-06, IETF-CLI-09, IETF-CLI-18
    fn transfer_ended(&mut self, status: StatusCode, fields: &HeaderMap, told: Told, moment: Moment) {
        let said = answer::said(status);
        let trouble = Trouble::Status(status);
        let is_early_version = self.link().speaker.completes_silently();
        // Before the field told who speaks, a conflict could carry it too.
        if told.complete == Some(true) && !(is_early_version && said == Said::Conflict) {
            return self.answered(status);
        }
        let is_creation = self.aim == Aim::Create;
        let is_evident = self.link().is_evident;
        if said == Said::Done && told.complete.is_none() && self.is_last() && self.sent_all() {
            // A server that has shown nothing of the protocol took an ordinary request.
            let is_whole = is_creation && !(is_evident && self.link().speaker.completes_in_words());
            if is_whole || is_early_version || self.aim == Aim::Replay {
                return self.answered(status);
            }
            self.may_be_complete();
        }
        // The place that a server without the protocol names is that of what it made, and takes no appends.
        let is_created = is_creation && is_evident && said == Said::Done;
        if is_created && !self.found(fields) || !self.suits(told, moment) {
            return;
        }
        if said != Said::Done && told.complete.is_none() && answer::is_in_doubt(status) {
            self.may_be_complete();
        }
        // A transfer that was given up may have arrived since, and completed the upload: not every version calls that a
        // conflict.
        let here = Offset::new(self.under_way.start);
        let is_elsewhere = status == StatusCode::BAD_REQUEST
            && (told.offset.is_some_and(|offset| offset != here) || self.is_whole(here));
        let (is_known, is_too_small) = (self.link().url.is_some(), self.is_too_small());
        match (self.aim, said) {
            (_, Said::Done) => self.advanced(told, trouble, moment),
            _ if status == StatusCode::PAYLOAD_TOO_LARGE => self.refit(status),
            (Aim::Create, Said::Later) if !is_known => {
                self.open_again(false, trouble, answer::retry_after(fields), moment);
            }
            (_, Said::Later) => self.again(Aim::Retrieve, trouble, answer::retry_after(fields), moment),
            (Aim::Create, Said::No) if is_too_small => {
                let aim = if is_known { Aim::Retrieve } else { Aim::Create };
                self.again(aim, trouble, None, moment);
            }
            (Aim::Create, _) => self.fail(Failure::Rejected(status)),
            // The server knows it to be complete, and not any more what was answered.
            (Aim::Replay, _) => self.complete_without_answer(),
            (_, Said::Conflict) => self.conflicted(told, trouble, moment),
            (_, Said::Unknown) => self.vanished(trouble, moment),
            (_, Said::No) if is_too_small || is_elsewhere => self.again(Aim::Retrieve, trouble, None, moment),
            (_, Said::No) => self.fail(Failure::Rejected(status)),
        }
    }

    /// The target has answered: that is final, whatever it says.
    fn answered(&mut self, status: StatusCode) {
        self.link().answered = true;
        if status.is_success() {
            self.place(
                self.length.map_or(Offset::new(self.under_way.end), |length| Offset::new(length.get())),
            );
            self.aim = Aim::Done;
        } else {
            self.fail(Failure::Rejected(status));
        }
    }

    fn complete_without_answer(&mut self) {
        if self.is_whole(self.at) {
            self.aim = Aim::Done;
        } else {
            self.fail(self.different(self.at.get()));
        }
    }

    /// A transfer was carried out, and more is to follow.
    fn advanced(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        if self.link().url.is_none() {
            let failure =
                if self.is_last() && !self.sent_all() { Failure::Unanswered } else { Failure::NotResumable };
            return self.fail(failure);
        }
        let end = Offset::new(self.under_way.end);
        let opened = self.aim == Aim::Create;
        let offset = match told.offset {
            Some(offset) if self.is_beyond(offset) => {
                return self.give_up(self.different(offset.get()));
            }
            Some(offset) if offset.get() >= self.under_way.start => offset,
            None if self.sent_all() && told.complete.is_some() => end,
            None if self.sent_all() && !self.is_last() => end,
            _ => return self.again(Aim::Retrieve, trouble, None, moment),
        };
        self.link().conflicts = 0;
        self.place(offset);
        let went_on = offset.get() > self.under_way.start;
        if went_on || (opened || self.is_whole(offset)) && !self.is_last() {
            self.aim = Aim::Append;
        } else {
            self.again(Aim::Append, trouble, None, moment);
        }
    }

    /// The upload's state came, or what hinders it.
    //= IETF-CLI-11, IETF-CLI-13, IETF-CLI-15, IETF-RET-13, IETF-APP-02, IETF-APP-03
    fn state_came(&mut self, status: StatusCode, fields: &HeaderMap, told: Told, moment: Moment) {
        let trouble = Trouble::Status(status);
        match answer::said(status) {
            Said::Done => {}
            Said::Unknown => return self.vanished(trouble, moment),
            Said::Later | Said::Conflict => {
                return self.again(Aim::Retrieve, trouble, answer::retry_after(fields), moment);
            }
            Said::No if is_final(status) => return self.fail(Failure::Rejected(status)),
            Said::No => return self.unclear(Failure::Rejected(status), trouble, moment),
        }
        let Some(offset) = told.offset else {
            return self.unclear(Failure::NotResumable, trouble, moment);
        };
        self.link().unclear = 0;
        if let Some(known) = told.length.filter(|known| self.length.is_some_and(|length| length != *known)) {
            return self.give_up(self.different(known.get()));
        }
        if self.is_beyond(offset) {
            return self.give_up(self.different(offset.get()));
        }
        if !self.suits(told, moment) {
            return;
        }
        self.place(offset);
        self.resumed_at = self.resumed_at.max(offset);
        let is_replayed = self.link().speaker.is_replayed();
        match told.complete {
            Some(true) if is_replayed => self.aim = Aim::Replay,
            Some(true) => self.complete_without_answer(),
            Some(false) | None => self.aim = Aim::Append,
        }
    }

    /// Asks again for an offset that the answer did not tell, a few times.
    fn unclear(&mut self, failure: Failure, trouble: Trouble, moment: Moment) {
        self.link().unclear += 1;
        if self.link().unclear >= UNCLEAR_MAX {
            self.fail(failure);
        } else {
            self.again(Aim::Retrieve, trouble, None, moment);
        }
    }

    /// The server is at another offset than the append was for, or still has another request on the upload. The second
    /// is ended by a question: Apple's servers detach a request that hangs when they are asked, and refuse appends until
    /// then.
    //= IETF-CLI-08
    fn conflicted(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        self.link().conflicts += 1;
        let is_chain = self.link().conflicts >= CONFLICTS_MAX;
        let here = Offset::new(self.under_way.start);
        let is_elsewhere = |offset: &Offset| *offset != here && !is_chain && !self.is_beyond(*offset);
        let Some(offset) = told.offset.filter(is_elsewhere) else {
            self.link().conflicts = 0;
            return self.again(Aim::Retrieve, trouble, None, moment);
        };
        self.resumed_at = self.resumed_at.max(offset);
        if self.place(offset) {
            self.aim = Aim::Append;
        } else {
            self.again(Aim::Append, trouble, None, moment);
        }
    }

    /// The upload is not there. It is begun again where nothing can be lost or done twice by that.
    fn vanished(&mut self, trouble: Trouble, moment: Moment) {
        if self.link().maybe_complete || self.best > Offset::ZERO {
            return self.fail(Failure::Gone);
        }
        self.link().url = None;
        self.at = Offset::ZERO;
        self.again(Aim::Create, trouble, None, moment);
    }

    /// Sends less at a time: as little as the server says, or half as much where it says nothing.
    //= IETF-LIM-09
    fn refit(&mut self, status: StatusCode) {
        let (told, least) = (self.link().append_max, self.link().append_min);
        let Some(bytes) = self.smaller(Some(told), least) else {
            return self.give_up(Failure::Rejected(status));
        };
        self.link().append_max = bytes;
        let aim = if self.link().url.is_some() { Aim::Retrieve } else { Aim::Create };
        self.at_once(aim);
    }

    /// Whether the request under way carried less than the server has now said that it wants.
    fn is_too_small(&mut self) -> bool {
        let bytes = self.under_way.end - self.under_way.start;
        let least = self.link().append_min;
        !self.is_last() && bytes < least && least <= self.link().append_max
    }
}

/// Returns `true` if repeating a request for the offset cannot help: it needs other credentials or another URL.
fn is_final(status: StatusCode) -> bool {
    let is_of_client = matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED
    );
    is_of_client || status.is_redirection()
}

/// The URI a `Location` means, seen from the target of the request (RFC 3986, Reference Resolution). Dot segments are
/// left to the server that wrote them.
pub fn resolve(target: &Uri, location: &str) -> Option<Uri> {
    let reference = location.split('#').next().unwrap_or_default();
    let is_absolute = reference.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let origin = match (target.scheme_str(), target.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
        _ => String::new(),
    };
    let text = match reference {
        "" => return None,
        _ if is_absolute => reference.to_owned(),
        _ if reference.starts_with("//") => format!("{}:{reference}", target.scheme_str()?),
        _ if reference.starts_with('/') => format!("{origin}{reference}"),
        _ if reference.starts_with('?') => format!("{origin}{}{reference}", target.path()),
        _ => {
            let folder = target.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{origin}{folder}/{reference}")
        }
    };
    text.parse().ok()
}
