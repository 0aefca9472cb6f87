//! The dialect of a request, found from its header section.

use http::Method;
use http::request::Parts;

use super::{
    CLIENT_UPLOAD_TOKEN, Dialect, DialectOptions, INTEROP_VERSION, Resource, TUS_RESUMABLE, UPLOAD_TOKEN,
    has_media_type, ietf, requires_upload, token, tus1,
};
use crate::field::{self, Field};
use crate::refusal::{Reason, Refusal};

/// The result of [`detect`].
#[derive(Clone, Debug, PartialEq)]
pub enum Detected {
    /// A request about the server itself: `OPTIONS`.
    Discover,
    /// A request in this dialect.
    Dialect(Dialect),
    /// A request to the URL of an upload without a sign of a dialect. The dialect of the upload applies.
    ByUpload,
    /// A request in a dialect or version that the server does not support, with the refusal to answer.
    Refuse(Refusal),
}

/// Finds the dialect of a request.
///
/// The method must already be [overridden](tus1::override_method). The tests D0 to D10 are made in a fixed order, and the first
/// that matches decides.
pub fn detect(head: &Parts, resource: Resource, options: DialectOptions) -> Detected {
    let fields = &head.headers;
    // D0: a preflight request must succeed whatever it carries.
    if head.method == Method::OPTIONS {
        return Detected::Discover;
    }
    // D2 precedes the IETF dialect, because Apple's upload tasks add the fields of that to any request.
    //= TUS1-DF-13, TUS1-HDR-10, TUS1-HDR-11
    //= TUS1-HDR-02, TUS1-HDR-12
    match field::agreed(fields, &TUS_RESUMABLE) {
        Field::Absent => {}
        Field::Is(version) if version == tus1::VERSION.as_bytes() => {
            return Detected::Dialect(Dialect::Tus1(tus1::Tus1Codec::of(head, options.tus)));
        }
        Field::Is(_) | Field::Malformed => return Detected::Refuse(Reason::UnsupportedTusVersion.into()),
    }
    if !matches!(resource, Resource::Upload(_)) {
        // D3: the field names of November 2020 are not supported.
        if fields.contains_key(CLIENT_UPLOAD_TOKEN) {
            let hint = "Client-Upload-Token: send Upload-Token instead";
            return Detected::Refuse(Reason::NotImplemented(hint).into());
        }
        // D4
        if fields.contains_key(UPLOAD_TOKEN) {
            return Detected::Dialect(Dialect::Token(token::Form::of(fields)));
        }
    }
    // D5 and D6
    let requires_upload = requires_upload(&head.method);
    let codec = match resource {
        Resource::Upload(_) => ietf::codec_on_upload(head, options),
        Resource::Named if requires_upload => ietf::codec_on_upload(head, options),
        Resource::Endpoint | Resource::Named => ietf::codec_of_creation(head, options),
    };
    if let Some(codec) = codec {
        return Detected::Dialect(Dialect::Ietf(codec));
    }
    match resource {
        Resource::Upload(_) => detect_on_upload(head),
        //= TUS1-HDR-03
        // D8
        Resource::Endpoint | Resource::Named if looks_like_tus(head) => {
            Detected::Refuse(Reason::UnsupportedTusVersion.into())
        }
        //= IETF-RET-10
        Resource::Named if requires_upload => Detected::Refuse(Reason::NotFound.into()),
        // D10
        Resource::Endpoint | Resource::Named => Detected::Dialect(Dialect::Conventional),
    }
}

/// The tests D7 to D9, for the URL of an upload.
fn detect_on_upload(head: &Parts) -> Detected {
    if looks_like_tus(head) {
        return Detected::Refuse(Reason::UnsupportedTusVersion.into());
    }
    let reason = match head.method {
        Method::HEAD | Method::GET | Method::DELETE => return Detected::ByUpload,
        Method::PATCH => Reason::NotAppendMediaType { accept: ietf::PARTIAL_UPLOAD },
        _ => Reason::MethodNotAllowed { allow: ietf::METHODS_OF_UPLOAD },
    };
    Detected::Refuse(reason.into())
}

/// Returns whether a request without `Tus-Resumable` comes from a client of tus all the same.
fn looks_like_tus(head: &Parts) -> bool {
    let is_append = head.method == Method::PATCH && has_media_type(&head.headers, tus1::OFFSET_OCTET_STREAM);
    let own = [
        tus1::UPLOAD_METADATA,
        tus1::UPLOAD_DEFER_LENGTH,
        tus1::UPLOAD_CONCAT,
        tus1::checksum::UPLOAD_CHECKSUM,
    ];
    !head.headers.contains_key(INTEROP_VERSION)
        && (is_append || own.iter().any(|name| head.headers.contains_key(name)))
}
