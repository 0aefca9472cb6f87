//! The client's state of an upload in the IETF dialect: the version spoken, the URL, the limits.

use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};

use crate::client::Moment;
use crate::dialect::ietf::IetfCodec;
use crate::dialect::ietf::client::{Takes, refuses_version};
use crate::dialect::interop::Interop;
use crate::operation::Operation;

/// The way an upload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With the whole content, or as much of it as one request may carry. A server without resumption accepts it as
    /// an ordinary upload; one with resumption sends the upload's URL in an interim response.
    AtOnce,
    /// With an empty creation that only requests a URL, for connections on which interim responses cannot be sent or
    /// seen.
    Careful,
}

/// The versions to try, in this order, at a server that has not said which it speaks. Apple's servers answer 400 to every
/// number but 10 and 6, or but 6, 5 and 3; a server made after the RFC needs none.
pub const VERSIONS: [Interop; 3] = [Interop::V10, Interop::V6, Interop::Rfc];

/// The client's knowledge of the upload on the server.
#[derive(Clone, Debug)]
pub(in crate::client) struct Link {
    pub(super) speaker: IetfCodec,
    pub(super) opening: Opening,
    pub(super) url: Option<Uri>,
    /// The most and the fewest bytes the server wants in one request.
    pub(super) append_max: u64,
    pub(super) append_min: u64,
    /// The time at which the server discards the upload.
    ends: Option<Duration>,
    /// Set when a last request was sent whole and its answer was not received. It stays set, because an incomplete
    /// upload does not rule out that the request is still on its way.
    pub(super) maybe_complete: bool,
    pub(super) conflicts: u8,
    /// The number of successive answers to an offset query that carried no offset.
    pub(super) unclear: u8,
    pub(super) answered: bool,
    /// Set when the server has shown that it speaks the protocol, by a 104 or by a field of an answer.
    pub(super) is_evident: bool,
    /// The versions to try where the server refuses this one.
    alternatives: &'static [Interop],
}

impl Link {
    pub(in crate::client) fn new(version: Interop, opening: Opening) -> Self {
        Self {
            speaker: IetfCodec { version, sends_interim: true, ..IetfCodec::unversioned() },
            opening,
            url: None,
            append_max: u64::MAX,
            append_min: 0,
            ends: None,
            maybe_complete: false,
            conflicts: 0,
            unclear: 0,
            answered: false,
            is_evident: false,
            alternatives: &[],
        }
    }

    pub(in crate::client) fn known(version: Interop, url: Uri) -> Self {
        Self { url: Some(url), maybe_complete: true, ..Self::new(version, Opening::Careful) }
    }

    pub(in crate::client) fn url(&self) -> Option<&Uri> {
        self.url.as_ref()
    }

    pub(in crate::client) fn version(&self) -> Interop {
        self.speaker.version
    }

    pub(in crate::client) fn negotiate(&mut self) {
        const ALL: &[Interop] = &VERSIONS;
        let at = ALL.iter().position(|version| *version == self.speaker.version);
        self.alternatives = at.and_then(|at| ALL.get(at + 1..)).unwrap_or_default();
    }

    /// Switches to the next of [`VERSIONS`] if an answer refuses the current one. Returns `true` if it switched.
    //= IETF-VER-11
    pub(super) fn is_renegotiated(&mut self, status: StatusCode, fields: &HeaderMap) -> bool {
        if self.is_evident || !refuses_version(status, fields) {
            return false;
        }
        let [next, rest @ ..] = self.alternatives else { return false };
        self.speaker.version = *next;
        self.alternatives = rest;
        true
    }

    pub(in crate::client) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(in crate::client) fn opens_carefully(&self) -> bool {
        self.opening == Opening::Careful
    }

    /// The number of content bytes in a creation.
    pub(in crate::client) fn opening_bytes(&self, content_max: u64) -> u64 {
        if self.opens_carefully() { 0 } else { self.append_bytes(content_max) }
    }

    /// The number of content bytes in an append. The server's limits override `content_max`.
    //= IETF-LIM-03
    pub(in crate::client) fn append_bytes(&self, content_max: u64) -> u64 {
        content_max.max(self.append_min).min(self.append_max).max(1)
    }

    //= IETF-LIM-04
    pub(in crate::client) fn is_over(&self, then: Duration) -> bool {
        self.url.is_some() && self.ends.is_some_and(|ends| ends <= then)
    }

    /// The head of a request: to the target while there is no upload, to the upload's URL afterwards.
    pub(in crate::client) fn request(
        &self,
        target: &Uri,
        operation: &Operation,
    ) -> Result<Request<()>, http::Error> {
        let text = match (&self.url, operation) {
            (_, Operation::Create(_)) | (None, _) => {
                target.path_and_query().map_or("/", |target| target.as_str()).to_owned()
            }
            (Some(url), _) => url.to_string(),
        };
        self.speaker.request(&text, operation)
    }

    pub(super) fn heed_limits(&mut self, takes: Takes, moment: Moment) {
        self.append_max = takes.append_max.unwrap_or(self.append_max);
        self.append_min = takes.append_min.unwrap_or(self.append_min);
        if let Some(seconds) = takes.age_max {
            self.ends = Some(moment.elapsed.saturating_add(Duration::from_secs(seconds)));
        }
    }
}
