//! The reactions of the machine to responses: one table for all dialects.

use super::{Aim, AttemptError, Backoff, Failure, Moment, OnInterim, Uploader, resolve};
use crate::dialect::client::{
    ClientDialect, ConflictRule, Naming, OffsetTrust, Response, UploadLimits, UploadState,
};
use crate::dialect::interop::CompletionSignal;
use crate::dialect::status::{StatusClass, may_have_been_processed};
use crate::types::{Length, Offset};
use crate::upload::Completion;

impl Uploader {
    /// Takes the upload's URL, its progress and the server's limits from an interim response.
    //= IETF-INT-02, IETF-INT-06, IETF-INT-08, IETF-LIM-05, IETF-OFF-04
    pub(super) fn progressed(&mut self, response: &Response, moment: Moment) -> OnInterim {
        self.remote.shows_support = true;
        if self.aim == Aim::Create && !self.locate(response) {
            return OnInterim::Stop;
        }
        // Nothing can be resumed without a URL, whatever the server has stored.
        let can_resume = self.remote.url.is_some();
        let credible = self.at..=self.request.sent_end();
        if let Some(offset) = response.state.offset.filter(|offset| can_resume && credible.contains(offset)) {
            self.advance(offset);
        }
        if !self.heed(response.limits, moment) {
            return OnInterim::Stop;
        }
        if can_resume && self.request.bytes() > self.remote.append_max {
            self.aim = Aim::Query;
            return OnInterim::Stop;
        }
        OnInterim::Continue
    }

    /// Reacts to the final response to a request that does not cancel the upload.
    pub(super) fn answered(&mut self, response: &Response, moment: Moment) {
        if let Some(lifetime) = response.state.expires_in {
            self.remote.expire_in(lifetime, moment);
        }
        if self.renegotiate(response) {
            return self.repeat(self.aim);
        }
        self.remote.shows_support |= response.shows_support;
        if self.aim == Aim::Query {
            self.query_ended(response, moment);
        } else {
            self.transfer_ended(response, moment);
        }
    }

    /// Switches to the next version if the server refuses the current one. Returns whether it switched.
    //= IETF-VER-11
    fn renegotiate(&mut self, response: &Response) -> bool {
        let [next, rest @ ..] = self.remote.alternatives else { return false };
        if self.remote.shows_support || !response.refuses_version() {
            return false;
        }
        self.dialect = ClientDialect::Ietf(*next);
        self.properties = self.dialect.properties();
        self.remote.alternatives = rest;
        true
    }

    //= IETF-CLI-01, IETF-CLI-02, IETF-CLI-03, IETF-CLI-05, IETF-CLI-06, IETF-CLI-09, IETF-CLI-18
    fn transfer_ended(&mut self, response: &Response, moment: Moment) {
        let Response { status, class, state, retry_after, .. } = *response;
        if self.is_targets_answer(response) {
            return self.complete_with(status);
        }
        self.remote.maybe_created |= self.aim == Aim::Create && class != StatusClass::Conflict;
        // Where the offset tells whether the upload is complete, only a success without one leaves that open.
        let is_told_by_offset =
            self.properties.completion_signal == CompletionSignal::Offset && state.offset.is_some();
        let is_silent_success = class == StatusClass::Success && !is_told_by_offset;
        if state.complete.is_none() && (is_silent_success || may_have_been_processed(status)) {
            self.remote.maybe_complete |= self.completes();
        }
        // The `Location` of an ordinary server is that of the resource it made, which takes no appends.
        let is_created =
            self.aim == Aim::Create && class == StatusClass::Success && self.remote.shows_support;
        if is_created && !self.locate(response) || !self.heed(response.limits, moment) {
            return;
        }
        let error = AttemptError::Status(status);
        match (self.aim, class) {
            (_, StatusClass::Success) => self.transferred(response, moment),
            _ if response.is_too_large() && state.complete != Some(true) => {
                self.send_less(status);
            }
            (Aim::Create, StatusClass::Retry) if !self.can_query() => {
                self.create_again(may_have_been_processed(status), error, retry_after, moment);
            }
            (_, StatusClass::Retry) => self.retry(Aim::Query, error, retry_after, moment),
            (Aim::Create, StatusClass::Conflict) if self.properties.naming == Naming::Token => {
                // A transfer of this client that the server has not given up may still run: a query ends it.
                if self.remote.maybe_created {
                    self.retry(Aim::Query, error, None, moment);
                } else {
                    self.fail(Failure::Taken);
                }
            }
            (Aim::Create | Aim::Append, StatusClass::Rejected)
                if self.is_too_small() || self.is_stale(response) =>
            {
                self.retry(self.query_or_create(), error, None, moment);
            }
            (Aim::Create | Aim::Append, StatusClass::Rejected)
                if response.is_bad_request() && self.remote.checksum.is_some() =>
            {
                // The server may not support the digest.
                self.remote.checksum = None;
                self.repeat(self.query_or_create());
            }
            (Aim::Create, _) => self.fail(Failure::Rejected(status)),
            // The server knows the upload to be complete, and has forgotten the answer.
            (Aim::Replay, _) => self.complete_without_answer(),
            (_, StatusClass::Conflict) => self.conflicted(response, moment),
            (_, StatusClass::NotFound) => self.vanished(error, moment),
            (_, StatusClass::Rejected) => self.fail(Failure::Rejected(status)),
        }
    }

    fn is_targets_answer(&self, response: &Response) -> bool {
        let signal = self.properties.completion_signal;
        match response.state.complete {
            _ if signal == CompletionSignal::Offset => false,
            Some(true) => signal != CompletionSignal::AnySuccess || response.class != StatusClass::Conflict,
            Some(false) => false,
            None if response.class != StatusClass::Success || !self.completes() => false,
            None => match (signal, self.aim) {
                (CompletionSignal::AnySuccess, _) | (_, Aim::Replay) => true,
                (CompletionSignal::CreationSuccess, aim) => aim == Aim::Create,
                (CompletionSignal::Field | CompletionSignal::Offset, aim) => {
                    aim == Aim::Create && !self.remote.shows_support
                }
            },
        }
    }

    /// Returns whether the request in flight completes the upload if the server processes all of it.
    pub(super) fn completes(&self) -> bool {
        let end = Offset::new(self.request.range.end);
        let is_transfer = matches!(self.aim, Aim::Create | Aim::Append | Aim::Replay);
        is_transfer
            && self.request.is_sent()
            && match self.properties.completion {
                Completion::AtLength => self.is_whole(end) && self.has_content(),
                Completion::AtLengthOrEnd | Completion::Explicit | Completion::ExplicitOrAtLength => {
                    self.request.is_last()
                }
            }
    }

    /// Continues after a transfer that was carried out, at the offset that it acknowledges.
    //= TDR-RSP-02, TDR-SEED-10, TUS1-CRE-03, TUS1-CWU-03, TUS1-CRE-05, TUS1-CAT-14, TUS1-PATCH-06
    fn transferred(&mut self, response: &Response, moment: Moment) {
        match self.properties.naming {
            Naming::Unnamed => return self.complete_with(response.status),
            Naming::Url if self.remote.url.is_none() => {
                let is_unclear = self.request.is_last() && !self.request.is_sent();
                return self.fail(if is_unclear { Failure::Unanswered } else { Failure::NotResumable });
            }
            Naming::Token | Naming::Url => {}
        }
        self.remote.knows_length |= self.request.states_length;
        let error = AttemptError::Status(response.status);
        let offset = match self.acknowledged_offset(&response.state) {
            Ok(Some(offset)) => offset,
            Ok(None) => return self.retry(Aim::Query, error, None, moment),
            Err(failure) => return self.give_up(failure),
        };
        self.remote.conflicts = 0;
        self.advance(offset);
        let (is_whole, is_last) = (self.is_whole(offset), self.request.is_last());
        let UploadState { complete, .. } = response.state;
        match self.properties.completion {
            _ if self.properties.is_joined || self.completes_by_length(offset) => return self.done(true),
            Completion::AtLengthOrEnd if is_whole && is_last => {
                if complete != Some(false) || self.properties.is_part {
                    return self.done(!self.properties.is_part || complete == Some(true));
                }
                return self.retry(Aim::Append, error, None, moment);
            }
            _ => {}
        }
        let is_creation = self.aim == Aim::Create;
        if offset > self.request.start() || (is_creation || is_whole) && !is_last {
            self.aim = Aim::Append;
        } else {
            self.retry(Aim::Append, error, None, moment);
        }
    }

    /// Returns the offset that a success acknowledges, or `None` if it has to be queried.
    fn acknowledged_offset(&self, state: &UploadState) -> Result<Option<Offset>, Failure> {
        let (start, end, sent) =
            (self.request.start(), Offset::new(self.request.range.end), self.request.sent_end());
        let is_creation = self.aim == Aim::Create;
        let all = Some(end).filter(|_| self.request.is_sent());
        if self.properties.is_joined {
            return Ok(Some(self.length.map_or(start, |length| Offset::new(length.get()))));
        }
        match (self.properties.offsets, state.offset) {
            (OffsetTrust::Exact, Some(offset)) if Some(offset) != all => {
                Err(Failure::Impossible { offset, sent })
            }
            (OffsetTrust::Exact, Some(offset)) => Ok(Some(offset)),
            // The first draft's own answer to a creation has no offset. It means all if it came after all.
            (OffsetTrust::Exact, None) => Ok(all.filter(|end| self.is_whole(*end))),
            (OffsetTrust::Sent, _) if !self.has_content() => Ok(Some(start)),
            (OffsetTrust::Sent, Some(offset)) if offset > sent && !is_creation => {
                Err(Failure::Impossible { offset, sent })
            }
            (OffsetTrust::Sent, Some(offset)) => {
                let is_progress = is_creation || offset > start || self.is_whole(offset);
                Ok(Some(offset).filter(|offset| *offset <= sent && is_progress))
            }
            (OffsetTrust::Sent, None) => Ok(None),
            (OffsetTrust::Length, Some(offset)) if self.is_beyond(offset) => {
                Err(self.different(offset.get()))
            }
            (OffsetTrust::Length, Some(offset)) => Ok(Some(offset).filter(|offset| *offset >= start)),
            (OffsetTrust::Length, None) => {
                Ok(all.filter(|_| state.complete.is_some() || !self.request.is_last()))
            }
        }
    }

    //= IETF-CLI-11, IETF-CLI-13, IETF-CLI-15, IETF-RET-13, IETF-APP-02, IETF-APP-03
    fn query_ended(&mut self, response: &Response, moment: Moment) {
        let Response { status, class, retry_after, .. } = *response;
        let error = AttemptError::Status(status);
        match class {
            StatusClass::Success => self.state_received(response, moment),
            StatusClass::NotFound => self.vanished(error, moment),
            StatusClass::Retry | StatusClass::Conflict => {
                self.retry(Aim::Query, error, retry_after, moment);
            }
            StatusClass::Rejected if response.is_final() => self.fail(Failure::Rejected(status)),
            StatusClass::Rejected => self.query_again(Failure::Rejected(status), error, moment),
        }
    }

    //= TUS1-HEAD-01, TUS1-HEAD-02
    fn state_received(&mut self, response: &Response, moment: Moment) {
        let state = response.state;
        let Some(offset) = state.offset else {
            let error = AttemptError::Status(response.status);
            return self.query_again(Failure::NotResumable, error, moment);
        };
        self.remote.unclear = 0;
        if let Some(failure) = self.contradiction(offset, &state) {
            return self.give_up(failure);
        }
        if !self.heed(response.limits, moment) {
            return;
        }
        self.remote.knows_length = state.length.is_some();
        self.resume_at(offset);
        match (self.properties.completion, state.complete) {
            _ if self.completes_by_length(offset) => self.done(true),
            // The answer is replayed by the whole upload, not by a part.
            (Completion::AtLengthOrEnd, complete) if self.properties.is_part && self.is_whole(offset) => {
                self.done(complete == Some(true));
            }
            (Completion::Explicit, Some(true)) if self.properties.replays => self.aim = Aim::Replay,
            (Completion::Explicit, Some(true)) => self.complete_without_answer(),
            _ => self.aim = Aim::Append,
        }
    }

    /// Queries again after a response without an offset, unless there were too many of them.
    fn query_again(&mut self, failure: Failure, error: AttemptError, moment: Moment) {
        self.remote.unclear += 1;
        if self.remote.unclear >= self.properties.queries_max {
            self.fail(failure);
        } else {
            self.retry(Aim::Query, error, None, moment);
        }
    }

    /// Reacts to a conflict: the upload is at another offset, or another request still holds it. A query ends the latter:
    /// Apple's servers detach a request that hangs when they are queried, and refuse appends until then.
    //= IETF-CLI-08, TUS1-PATCH-04
    fn conflicted(&mut self, response: &Response, moment: Moment) {
        let (state, here) = (response.state, self.request.start());
        let is_exact = self.properties.offsets == OffsetTrust::Exact;
        if is_exact && let Some(offset) = state.offset {
            if let Some(failure) = self.contradiction(offset, &state) {
                return self.give_up(failure);
            }
            let is_complete = state.complete == Some(true);
            // The server has everything, and has forgotten the answer.
            if offset == here && self.is_whole(offset) && (is_complete || self.properties.is_part) {
                return self.done(!self.properties.is_part || is_complete);
            }
        }
        self.remote.conflicts = self.remote.conflicts.saturating_add(1);
        let is_followed = |offset: &Offset| {
            *offset != here
                && !self.is_beyond(*offset)
                && match self.properties.conflicts {
                    ConflictRule::Follow => true,
                    ConflictRule::FollowFewer(most) => self.remote.conflicts < most,
                    ConflictRule::FollowForward => *offset > self.best,
                }
        };
        let error = AttemptError::Status(response.status);
        let Some(offset) = state.offset.filter(is_followed) else {
            self.remote.conflicts = 0;
            return self.retry(Aim::Query, error, None, moment);
        };
        let is_further = self.resume_at(offset);
        if self.completes_by_length(offset) {
            self.done(true);
        } else if is_further {
            self.aim = Aim::Append;
        } else {
            self.retry(Aim::Append, error, None, moment);
        }
    }

    /// Returns whether the request in flight carried less than the minimum that the server has now announced.
    fn is_too_small(&self) -> bool {
        let (least, most) = (self.remote.append_min, self.remote.append_max);
        !self.request.is_last() && self.request.bytes() < least && least <= most
    }

    /// Returns whether a 400 may mean a stale offset, because a transfer that was given up has arrived since.
    fn is_stale(&self, response: &Response) -> bool {
        let here = self.request.start();
        let is_elsewhere = response.state.offset.is_some_and(|offset| offset != here) || self.is_whole(here);
        self.aim == Aim::Append
            && self.properties.stale_append_is_bad_request
            && response.is_bad_request()
            && is_elsewhere
    }

    /// Takes the upload's URL from a response. Returns `false` after giving up because it differs from the known one.
    //= IETF-INT-05, IETF-INT-06
    fn locate(&mut self, response: &Response) -> bool {
        let location = response.location.as_deref().filter(|_| self.properties.naming == Naming::Url);
        let Some(found) = location.and_then(|location| resolve(&self.target, location)) else { return true };
        let url = self.remote.url.get_or_insert_with(|| found.clone());
        let is_same = *url == found;
        if !is_same {
            self.give_up(Failure::TwoUrls);
        }
        is_same
    }

    /// Takes the server's limits. Returns `false` after giving up because the representation is too large for them.
    //= IETF-CRE-18, IETF-LIM-05
    fn heed(&mut self, limits: Option<UploadLimits>, moment: Moment) -> bool {
        let Some(limits) = limits else { return true };
        self.remote.limit(limits, moment);
        let failure = self.too_large(limits.size_max);
        if let Some(failure) = failure {
            self.give_up(failure);
        }
        failure.is_none()
    }

    pub(super) fn too_large(&self, size_max: Option<u64>) -> Option<Failure> {
        let (max, length) = (size_max?, self.length?);
        (max < length.get()).then_some(Failure::TooLarge { max, length })
    }

    /// Returns why an upload in this state cannot be the one that this client sends.
    //= TDR-OFF-08
    fn contradiction(&self, offset: Offset, state: &UploadState) -> Option<Failure> {
        let is_exact = self.properties.offsets == OffsetTrust::Exact;
        let is_short = |length: Length| state.complete == Some(true) && !length.is_reached(offset);
        match (state.length, self.length) {
            (Some(remote), Some(length)) if remote != length => Some(self.different(remote.get())),
            _ if self.is_beyond(offset) => Some(self.different(offset.get())),
            (_, Some(length)) if is_exact && is_short(length) => Some(self.different(offset.get())),
            _ if is_exact && offset > self.sent => Some(Failure::Impossible { offset, sent: self.sent }),
            _ => None,
        }
    }

    pub(super) fn is_whole(&self, offset: Offset) -> bool {
        self.length.is_some_and(|length| length.is_reached(offset))
    }

    /// Returns whether the server considers an upload at `offset` complete without being told.
    fn completes_by_length(&self, offset: Offset) -> bool {
        let is_by_length = self.properties.completion == Completion::AtLength;
        is_by_length && self.remote.knows_length && self.is_whole(offset)
    }

    /// Returns whether `offset` lies after the end of the representation, or of what was sent if that is unknown.
    fn is_beyond(&self, offset: Offset) -> bool {
        offset.get() > self.length.map_or(self.sent.get(), Length::get)
    }

    /// Returns the failure of an upload that has `remote` bytes on the server.
    pub(super) fn different(&self, remote: u64) -> Failure {
        match self.length {
            Some(length) => Failure::Different { remote, length },
            None => Failure::Impossible { offset: Offset::new(remote), sent: self.sent },
        }
    }

    /// Continues an interrupted upload at the server's offset. Returns whether that is further than ever.
    fn resume_at(&mut self, offset: Offset) -> bool {
        self.resumed_at = self.resumed_at.max(offset);
        self.advance(offset)
    }

    /// Sets the offset that the server named. Returns whether that is further than ever.
    pub(super) fn advance(&mut self, offset: Offset) -> bool {
        self.at = offset;
        let is_further = offset > self.best;
        if is_further {
            self.best = offset;
            self.backoff = Backoff::default();
        }
        is_further
    }
}
