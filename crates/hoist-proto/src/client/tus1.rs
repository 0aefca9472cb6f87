//! What the machine makes of the answers in tus 1.0, where the server names the upload by a URL and says nothing before
//! its final answer.
//!
//! Owns the table of reactions; `wire` owns the spelling. A whole upload is one whose offset has reached its length: there
//! is no other word for it, and no answer of the target that could be given again.

mod wire;

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri, header};

use self::wire::Told;
pub use self::wire::{Checksum, Offers};
use super::ietf::resolve;
use super::{Aim, Failure, Moment, Trouble, Uploader, Wire};
use crate::dialect::answer::{self, Said};
use crate::operation::Operation;
use crate::types::Offset;

/// Content up to this many bytes goes with the creation, where the server takes that. More of it would be lost with a
/// connection that is cut before the URL is known.
const OPENING_BYTES_MAX: u64 = 64 * 1024;
/// The most content that is sent under one digest, to begin with: an interruption loses all of it, so that each one
/// halves what goes under the next.
const CHECKED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What it is never less than.
const CHECKED_BYTES_MIN: u64 = 64 * 1024;

/// What an upload is to its server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// All there is.
    #[default]
    Whole,
    /// A part that is to be joined with others.
    Part,
    /// The parts with these URLs, joined. It carries nothing.
    Joined(Vec<Uri>),
}

/// What is known of the upload on the server.
#[derive(Clone, Debug)]
pub(super) struct Link {
    offers: Offers,
    role: Role,
    url: Option<Uri>,
    append_max: u64,
    /// The most content under one digest.
    checked_max: u64,
    /// Whether the server was told the length.
    knows_length: bool,
    /// When the server gives the upload up.
    ends: Option<Duration>,
    /// Whether the last byte may have arrived.
    maybe_complete: bool,
    answered: bool,
}

impl Link {
    pub(super) fn new(offers: Offers, role: Role) -> Self {
        Self {
            offers,
            role,
            url: None,
            append_max: u64::MAX,
            checked_max: CHECKED_BYTES_MAX,
            knows_length: false,
            ends: None,
            maybe_complete: false,
            answered: false,
        }
    }

    pub(super) fn known(offers: Offers, role: Role, url: Uri) -> Self {
        Self { url: Some(url), maybe_complete: true, ..Self::new(offers, role) }
    }

    pub(super) fn url(&self) -> Option<&Uri> {
        self.url.as_ref()
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn tells_length(&self) -> bool {
        !self.knows_length
    }

    pub(super) fn checksum(&self) -> Option<Checksum> {
        self.offers.checksum
    }

    /// How much a creation may carry.
    pub(super) fn opening_bytes(&self, content_max: u64) -> u64 {
        let is_joined = matches!(self.role, Role::Joined(_));
        if self.offers.with_upload && !is_joined { self.append_bytes(content_max) } else { 0 }
    }

    //= TUS1-PATCH-08
    pub(super) fn append_bytes(&self, content_max: u64) -> u64 {
        let checked = if self.offers.checksum.is_some() { self.checked_max } else { u64::MAX };
        content_max.min(self.append_max).min(checked).max(1)
    }

    pub(super) fn request(
        &self,
        target: &Uri,
        operation: &Operation,
        range: &Range<u64>,
    ) -> Result<Request<()>, http::Error> {
        let creating = target.path_and_query().map_or("/", |target| target.as_str());
        let url = self.url.as_ref().map_or_else(|| creating.to_owned(), Uri::to_string);
        match operation {
            Operation::Create(create) => match &self.role {
                Role::Joined(parts) => wire::join(creating, parts, &create.origin.fields),
                Role::Whole | Role::Part => {
                    let creation = wire::Creation {
                        length: create.length,
                        carries: carries(true, range),
                        is_partial: self.role == Role::Part,
                        fields: &create.origin.fields,
                    };
                    wire::create(creating, &creation)
                }
            },
            Operation::Append(append) => wire::append(&url, append.at, append.length),
            Operation::Retrieve | Operation::Reject(_) => wire::retrieve(&url),
            Operation::Cancel => wire::cancel(&url),
        }
    }
}

/// Whether a request has content: a creation only when all of it is little.
pub(super) fn carries(is_creation: bool, range: &Range<u64>) -> bool {
    !is_creation || (1..=OPENING_BYTES_MAX).contains(&(range.end - range.start))
}

impl Uploader {
    fn tus(&mut self) -> &mut Link {
        match &mut self.wire {
            Wire::Tus1(link) => link,
            Wire::Token(..) | Wire::Ietf(_) | Wire::Conventional => {
                unreachable!("only an upload of this dialect is answered here")
            }
        }
    }

    /// Whether the request under way carries content.
    fn carries(&self) -> bool {
        carries(self.aim == Aim::Create, &self.under_way)
    }

    /// Whether the request under way makes the upload whole, if it is carried out.
    fn completes(&self) -> bool {
        match self.aim {
            Aim::Create => {
                let carried = if self.carries() { self.under_way.end } else { 0 };
                self.is_whole(Offset::new(carried)) && self.sent_all()
            }
            Aim::Append => self.is_whole(Offset::new(self.under_way.end)) && self.sent_all(),
            Aim::Retrieve | Aim::Replay | Aim::Cancel(_) | Aim::Done | Aim::Failed(_) => false,
        }
    }

    //= TUS1-PATCH-10
    pub(super) fn tus1_lost(&mut self, reached: bool, moment: Moment) {
        if reached && self.completes() {
            self.tus().maybe_complete = true;
        }
        match self.aim {
            Aim::Create => self.create_again(reached, Trouble::Lost, None, moment),
            Aim::Retrieve | Aim::Append | Aim::Replay => {
                if self.aim == Aim::Append {
                    let link = self.tus();
                    link.checked_max = (link.checked_max / 2).max(CHECKED_BYTES_MIN);
                }
                self.again(Aim::Retrieve, Trouble::Lost, None, moment);
            }
            Aim::Cancel(failure) => self.fail(failure),
            Aim::Done | Aim::Failed(_) => {}
        }
    }

    /// Creates once more. An upload without content that nobody knows the URL of harms nobody; one that is whole may have
    /// been acted on. Joining the same parts twice is better than sending them twice.
    fn create_again(&mut self, reached: bool, last: Trouble, after: Option<Duration>, moment: Moment) {
        let is_joined = matches!(self.tus().role, Role::Joined(_));
        if reached && !is_joined && self.carries() && self.completes() {
            return self.fail(Failure::Unanswered);
        }
        self.tus().offers.with_upload &= !reached;
        self.again(Aim::Create, last, after, moment);
    }

    pub(super) fn tus1_answered(&mut self, status: StatusCode, fields: &HeaderMap, moment: Moment) {
        let told = wire::told(fields);
        if let Some(lives) = told.lives {
            self.tus().ends = Some(moment.elapsed.saturating_add(lives));
        }
        let (said, trouble, after) =
            (answer::said(status), Trouble::Status(status), answer::retry_after(fields));
        if answer::is_in_doubt(status) && self.completes() {
            self.tus().maybe_complete = true;
        }
        match (self.aim, said) {
            (Aim::Done | Aim::Failed(_), _) => {}
            (Aim::Cancel(failure), _) => self.fail(failure),
            (Aim::Create, Said::Done) => self.created(told, fields, trouble, moment),
            (Aim::Create, Said::Later) => {
                self.create_again(answer::is_in_doubt(status), trouble, after, moment);
            }
            (Aim::Create | Aim::Append, Said::No) if status == StatusCode::PAYLOAD_TOO_LARGE => {
                self.tus1_refit(status);
            }
            (Aim::Create | Aim::Append, _) if wire::is_mismatch(status) => {
                let aim = if self.aim == Aim::Create { Aim::Create } else { Aim::Retrieve };
                self.again(aim, trouble, None, moment);
            }
            (Aim::Create | Aim::Append, Said::No)
                if status == StatusCode::BAD_REQUEST && self.tus().offers.checksum.is_some() =>
            {
                // The digest may be what it does not like.
                self.tus().offers.checksum = None;
                let aim = if self.aim == Aim::Create { Aim::Create } else { Aim::Retrieve };
                self.at_once(aim);
            }
            (Aim::Append | Aim::Replay, Said::Done) => self.tus1_advanced(told, trouble, moment),
            (Aim::Append | Aim::Replay, Said::Conflict) => self.tus1_conflicted(told, trouble, moment),
            (Aim::Retrieve, Said::Done) => self.tus1_state_came(told),
            (Aim::Append | Aim::Retrieve | Aim::Replay, Said::Unknown) => self.expired(trouble, moment),
            //= TUS1-HEAD-05
            (Aim::Retrieve, Said::No) if status == StatusCode::FORBIDDEN => self.expired(trouble, moment),
            (Aim::Append | Aim::Retrieve | Aim::Replay, Said::Later) | (Aim::Retrieve, Said::Conflict) => {
                self.again(Aim::Retrieve, trouble, after, moment);
            }
            (Aim::Create, Said::Conflict | Said::Unknown | Said::No)
            | (Aim::Append | Aim::Retrieve | Aim::Replay, Said::No) => self.fail(Failure::Rejected(status)),
        }
    }

    /// The upload exists, with as much of the content as the server says.
    //= TUS1-CRE-03, TUS1-CWU-03, TUS1-CRE-05, TUS1-CAT-14
    fn created(&mut self, told: Told, fields: &HeaderMap, trouble: Trouble, moment: Moment) {
        let location = fields.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let Some(url) = location.and_then(|location| resolve(&self.target, location)) else {
            return self.fail(Failure::NotResumable);
        };
        let (carried, knows_length) = (self.carries(), self.length.is_some() && !self.open);
        let link = self.tus();
        link.url = Some(url);
        link.knows_length = knows_length;
        if matches!(link.role, Role::Joined(_)) {
            self.place(self.length.map_or(Offset::ZERO, |length| Offset::new(length.get())));
            return self.tus1_done();
        }
        match told.offset {
            _ if !carried => self.tus1_placed(Offset::ZERO),
            Some(offset) if offset.get() <= self.under_way.start.saturating_add(self.sent_now) => {
                self.tus1_placed(offset);
            }
            Some(_) | None => self.again(Aim::Retrieve, trouble, None, moment),
        }
    }

    /// Goes on at an offset the server has told.
    fn tus1_placed(&mut self, offset: Offset) {
        self.place(offset);
        if self.is_whole(offset) && !self.tus().tells_length() {
            self.tus1_done();
        } else {
            self.aim = Aim::Append;
        }
    }

    fn tus1_done(&mut self) {
        self.tus().answered = true;
        self.aim = Aim::Done;
    }

    /// An append was carried out, though perhaps not all of it.
    //= TUS1-PATCH-06
    fn tus1_advanced(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        let Range { start, .. } = self.under_way;
        let sent = Offset::new(start.saturating_add(self.sent_now));
        if self.length.is_some() && !self.open {
            self.tus().knows_length = true;
        }
        match told.offset {
            Some(offset) if offset > sent => {
                self.give_up_tus(Failure::Impossible { told: offset, sent });
            }
            Some(offset) if offset.get() > start || self.is_whole(offset) => self.tus1_placed(offset),
            Some(_) | None => self.again(Aim::Retrieve, trouble, None, moment),
        }
    }

    //= TUS1-PATCH-04
    fn tus1_conflicted(&mut self, told: Told, trouble: Trouble, moment: Moment) {
        match told.offset.filter(|offset| !self.is_beyond(*offset)) {
            Some(offset) if offset > self.best => {
                self.resumed_at = self.resumed_at.max(offset);
                self.tus1_placed(offset);
            }
            Some(_) | None => self.again(Aim::Retrieve, trouble, None, moment),
        }
    }

    //= TUS1-HEAD-01, TUS1-HEAD-02
    fn tus1_state_came(&mut self, told: Told) {
        let Some(offset) = told.offset else { return self.fail(Failure::NotResumable) };
        if let Some(known) = told.length.filter(|known| self.length.is_some_and(|length| length != *known)) {
            return self.give_up_tus(self.different(known.get()));
        }
        if self.is_beyond(offset) {
            return self.give_up_tus(self.different(offset.get()));
        }
        self.tus().knows_length = told.length.is_some();
        self.resumed_at = self.resumed_at.max(offset);
        self.tus1_placed(offset);
    }

    /// The upload is not there. It is begun again, unless it may have been complete.
    //= TUS1-EXP-04
    fn expired(&mut self, trouble: Trouble, moment: Moment) {
        if self.tus().maybe_complete || self.origin_is_lost() {
            return self.fail(Failure::Gone);
        }
        self.forget();
        self.again(Aim::Create, trouble, None, moment);
    }

    /// Begins again without asking where the server has said that by `then` the upload is gone.
    pub(super) fn outlive(&mut self, then: Duration) {
        let link = self.tus();
        let is_over = link.url.is_some() && link.ends.is_some_and(|ends| ends <= then);
        if self.aim == Aim::Retrieve && is_over && !self.tus().maybe_complete && !self.origin_is_lost() {
            self.forget();
            self.aim = Aim::Create;
        }
    }

    fn forget(&mut self) {
        let link = self.tus();
        (link.url, link.knows_length, link.ends) = (None, false, None);
        self.at = Offset::ZERO;
    }

    /// Whether the upload was begun by an earlier client, so that its creation is not known here.
    fn origin_is_lost(&self) -> bool {
        match &self.wire {
            Wire::Tus1(link) => link.url.as_ref() == Some(&self.target),
            Wire::Token(..) | Wire::Ietf(_) | Wire::Conventional => false,
        }
    }

    /// Ends the upload on the server too, where that is offered.
    //= TUS1-TRM-01
    fn give_up_tus(&mut self, failure: Failure) {
        let link = self.tus();
        let can_cancel = link.url.is_some() && link.offers.terminates;
        self.aim = if can_cancel { Aim::Cancel(failure) } else { Aim::Failed(failure) };
    }

    fn tus1_refit(&mut self, status: StatusCode) {
        let carried = self.carries() && !self.under_way.is_empty();
        let too_large = match (self.tus().offers.size_max, self.length) {
            (Some(most), Some(length)) if most < length.get() => Some(Failure::TooLarge { most, length }),
            _ => None,
        };
        if let Some(failure) = too_large {
            return self.fail(failure);
        }
        let next = if carried { self.smaller(None, 1) } else { None };
        let Some(bytes) = next else { return self.give_up_tus(Failure::Rejected(status)) };
        self.tus().append_max = bytes;
        if self.aim == Aim::Create {
            self.tus().offers.with_upload = false;
            self.at_once(Aim::Create);
        } else {
            self.at_once(Aim::Retrieve);
        }
    }
}
