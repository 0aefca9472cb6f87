//! The ways to go on after a failed request: another attempt, another creation, smaller requests, or the end.

use std::time::Duration;

use http::StatusCode;

use super::{Aim, AttemptError, Failure, Moment, Opening, Uploader};
use crate::dialect::client::{CreationContent, Naming};
use crate::types::{Length, Offset};

impl Uploader {
    /// Reacts to an upload that does not exist: creates it again where that loses nothing and does nothing twice.
    //= TDR-OFF-09, TUS1-EXP-04
    pub(super) fn vanished(&mut self, error: AttemptError, moment: Moment) {
        if !self.can_restart() {
            return self.fail(Failure::Gone);
        }
        self.forget();
        if self.properties.naming == Naming::Token {
            // The query was preceded by a pause, and no response to a creation leads back here uncounted.
            self.aim = Aim::Create;
        } else {
            self.retry(Aim::Create, error, None, moment);
        }
    }

    pub(super) fn can_restart(&self) -> bool {
        // A second creation with a token creates no second upload.
        let is_single = self.properties.naming == Naming::Token || !self.remote.maybe_complete;
        let loses_nothing = if self.properties.restarts {
            self.remote.url.as_ref() != Some(&self.target)
        } else {
            self.best == Offset::ZERO
        };
        is_single && loses_nothing
    }

    pub(super) fn forget(&mut self) {
        self.remote.forget();
        self.at = Offset::ZERO;
    }

    /// Creates the upload again, where the first attempt left no way to query it. A request that may have been carried out
    /// is not repeated, unless its method is idempotent.
    //= IETF-VER-09, IETF-CLI-16, IETF-INT-11
    pub(super) fn create_again(
        &mut self,
        maybe_processed: bool,
        error: AttemptError,
        at_least: Option<Duration>,
        moment: Moment,
    ) {
        let naming = self.properties.naming;
        if self.remote.maybe_complete && !self.request.is_idempotent {
            return self.fail(match error {
                AttemptError::Status(status) if naming == Naming::Unnamed => Failure::Rejected(status),
                AttemptError::Status(_) | AttemptError::Lost => Failure::Unanswered,
            });
        }
        // An empty creation that is repeated harms nothing.
        let is_optional = self.properties.creation_content != CreationContent::Full;
        if maybe_processed && naming == Naming::Url && (is_optional || error == AttemptError::Lost) {
            self.remote.opening = Opening::Careful;
        }
        self.retry(Aim::Create, error, at_least, moment);
    }

    //= IETF-LIM-09
    pub(super) fn send_less(&mut self, status: StatusCode) {
        if let Some(failure) = self.too_large(self.properties.size_max) {
            return self.fail(failure);
        }
        let (bytes, remote) = (self.request.bytes(), &self.remote);
        let is_divisible = self.properties.naming != Naming::Unnamed;
        let smaller = self.backoff.smaller(bytes, remote.append_max, remote.append_min);
        let Some(bytes) = smaller.filter(|_| is_divisible) else {
            return self.give_up(Failure::Rejected(status));
        };
        self.remote.append_max = bytes;
        let is_creation = self.aim == Aim::Create;
        if is_creation && self.properties.creation_content != CreationContent::Full {
            self.remote.opening = Opening::Careful;
        }
        // Refused by its head alone.
        let is_uncreated = is_creation && self.request.sent == 0 && self.properties.naming == Naming::Token;
        self.repeat(if is_uncreated { Aim::Create } else { self.query_or_create() });
    }

    pub(super) fn can_query(&self) -> bool {
        match self.properties.naming {
            Naming::Token => self.remote.maybe_created,
            Naming::Url => self.remote.url.is_some(),
            Naming::Unnamed => false,
        }
    }

    pub(super) fn query_or_create(&self) -> Aim {
        if self.can_query() { Aim::Query } else { Aim::Create }
    }

    /// Sends the next request after a pause, unless the retries are used up or the upload will have expired.
    pub(super) fn retry(&mut self, aim: Aim, last: AttemptError, at_least: Option<Duration>, moment: Moment) {
        let Some(wait) = self.backoff.pause(&self.retries, at_least, moment) else {
            return self.fail(Failure::Exhausted { attempts: self.backoff.attempts, last });
        };
        let is_expired = self.remote.is_expired(moment.elapsed.saturating_add(wait));
        if is_expired && !self.properties.restarts {
            return self.fail(Failure::Gone);
        }
        self.wait = Some(wait);
        self.repeat(aim);
        if is_expired && aim == Aim::Query && self.can_restart() {
            self.forget();
            self.aim = Aim::Create;
        }
    }

    pub(super) fn repeat(&mut self, aim: Aim) {
        self.attempts_repeated = self.attempts_repeated.saturating_add(1);
        self.aim = aim;
    }

    /// Ends with the target's answer, which is final whatever its status.
    pub(super) fn complete_with(&mut self, status: StatusCode) {
        self.is_answered = true;
        if status.is_success() {
            let end = self.length.map_or(self.request.range.end, Length::get);
            self.advance(Offset::new(end));
            self.aim = Aim::Done;
        } else {
            self.fail(Failure::Rejected(status));
        }
    }

    pub(super) fn complete_without_answer(&mut self) {
        if self.is_whole(self.at) {
            self.aim = Aim::Done;
        } else {
            self.fail(self.different(self.at.get()));
        }
    }

    /// Ends with success. `is_answered` tells whether the last response is the target's answer.
    pub(super) fn done(&mut self, is_answered: bool) {
        self.is_answered = is_answered;
        self.aim = Aim::Done;
    }

    /// Ends without success, and cancels the upload on the server if it is known and can be cancelled.
    //= IETF-RET-14, TUS1-TRM-01
    pub(super) fn give_up(&mut self, failure: Failure) {
        let can_cancel = self.properties.cancels && self.remote.url.is_some();
        self.aim = if can_cancel { Aim::Cancel(failure) } else { Aim::Failed(failure) };
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.aim = Aim::Failed(failure);
    }
}
