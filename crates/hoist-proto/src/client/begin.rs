//! Where an upload begins: as a new one, or where an earlier client has left it, in each dialect.

use http::{HeaderMap, Method, Uri};

use super::ietf::Link;
use super::token::Named;
use super::{Aim, Offers, Opening, Retries, Role, Uploader, Wire, tus1};
use crate::dialect::interop::Interop;
use crate::dialect::token::Form;
use crate::operation::Finish;
use crate::types::{Length, Offset, Token};
use crate::upload::{Origin, Part};

impl Uploader {
    /// A new upload of `length` bytes, named by a token that never named another. The URL is known to be one for uploads.
    //= TDR-CLI-02
    pub fn create(
        target: Uri,
        token: Token,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        Self::begin(target, Wire::Token(Named::new(token)), origin, length.into(), retries)
    }

    fn begin(target: Uri, wire: Wire, origin: Origin, length: Option<Length>, retries: Retries) -> Self {
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
            open: false,
            finish: Finish::Later,
            sent_now: 0,
            halvings: 0,
            maybe_created: false,
            resumed_at: Offset::ZERO,
            attempts: 0,
            attempts_ever: 0,
            failing_since: None,
        }
    }

    /// An upload that an earlier client with the same token and the same source may have begun.
    pub fn resume(
        target: Uri,
        token: Token,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        let fresh = Self::create(target, token, origin, length, retries);
        Self { aim: Aim::Retrieve, maybe_created: true, ..fresh.sent_before() }
    }

    /// The same, in another form of the token dialect than the first draft's.
    pub fn in_form(mut self, chosen: Form) -> Self {
        if let Wire::Token(named) = &mut self.wire {
            named.form = chosen;
        }
        self
    }

    /// The same, as one of the numbered parts of the upload its token names. It is done when the server has the part;
    /// [`is_answered`](Self::is_answered) tells whether the answer was to the whole.
    //= TOK-IDX-01
    pub fn as_part(mut self, part: Part) -> Self {
        if let Wire::Token(named) = &mut self.wire {
            named.part = Some(part);
        }
        self
    }

    /// What an earlier client may have sent: anything there is.
    fn sent_before(self) -> Self {
        let sent = self.length.map_or(Offset::ZERO, |length| Offset::new(length.get()));
        Self { sent, ..self }
    }

    /// A new upload of `length` bytes by a creation request in an iteration of the IETF dialect.
    //= IETF-CRE-01, IETF-CLI-17
    pub fn create_in(
        target: Uri,
        version: Interop,
        opening: Opening,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        Self::begin(target, Wire::Ietf(Link::new(version, opening)), origin, length.into(), retries)
    }

    /// An upload that an earlier client with the same source began, and that the server gave this URL.
    pub fn resume_in(
        url: Uri,
        version: Interop,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        let (link, origin) = (Link::known(version, url.clone()), nobody(&url));
        let fresh = Self::begin(url, Wire::Ietf(link), origin, length.into(), retries);
        Self { aim: Aim::Retrieve, ..fresh.sent_before() }
    }

    /// A new upload in tus 1.0, at a server that offers this.
    pub fn create_tus1(
        target: Uri,
        offers: Offers,
        role: Role,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        Self::begin(target, Wire::Tus1(tus1::Link::new(offers, role)), origin, length.into(), retries)
    }

    /// An upload in tus 1.0 that an earlier client with the same source began.
    pub fn resume_tus1(
        url: Uri,
        offers: Offers,
        role: Role,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        let (link, origin) = (tus1::Link::known(offers, role, url.clone()), nobody(&url));
        let fresh = Self::begin(url, Wire::Tus1(link), origin, length.into(), retries);
        Self { aim: Aim::Retrieve, ..fresh.sent_before() }
    }

    /// An upload to a server that cannot resume: one ordinary request, made again only where that is safe.
    pub fn create_plainly(
        target: Uri,
        origin: Origin,
        length: impl Into<Option<Length>>,
        retries: Retries,
    ) -> Self {
        Self::begin(target, Wire::Conventional, origin, length.into(), retries)
    }
}

/// The request that created an upload, where it was made by somebody else.
fn nobody(url: &Uri) -> Origin {
    Origin { method: Method::POST, target: url.path().to_owned(), fields: HeaderMap::new() }
}
