//! Uploads that claim no dialect: `curl -T` and any client that knows no protocol for uploads.
//!
//! They are received like every other upload and answered like every other `POST` or `PUT`. What they cannot do is
//! resume, so nothing stays of one that was cut.

pub(crate) mod client;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::{METHODS, has_media_type, refused, status};
use crate::operation::{
    BelowMinSize, Content, Create, Decoded, Finish, OnExisting, Operation, Reply, Subject,
};
use crate::refusal::Refusal;
use crate::types::{Length, UploadId};
use crate::upload::{Completion, Composition, Excess, Family, Interruption, Origin, Semantics};

const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLengthOrEnd,
    excess: Excess::Invalidates,
    interruption: Interruption::Discards,
};

/// Understands an ordinary request with content.
pub(super) fn decode(head: &Parts, content_bytes: Option<u64>) -> Result<Decoded, Refusal> {
    if !matches!(head.method, Method::POST | Method::PUT) {
        return Err(Refusal::Method { allow: METHODS });
    }
    refuse_form(head)?;
    let create = Create {
        semantics: SEMANTICS,
        length: content_bytes.map(Length::new),
        content: Content { bytes: content_bytes, finish: Finish::Here },
        on_existing: OnExisting::Refuse,
        below_min_size: BelowMinSize::Resumes,
        composition: Composition::Direct,
        waits_for_parts: false,
        origin: origin(head)?,
    };
    Ok(Decoded {
        subject: Subject::Fresh,
        family: Family::Conventional,
        operation: Operation::Create(create),
    })
}

/// Refuses the form of an HTML page, or of `curl -F`: what would be stored is the form, boundaries and all, and not the file
/// within it. In the other dialects a client says on purpose what its representation is.
//= IETF-CRE-20
fn refuse_form(head: &Parts) -> Result<(), Refusal> {
    if has_media_type(&head.headers, "multipart/form-data") {
        let detail = "a form is not the file in it: send the file alone as the content of the request, as `curl -T FILE` does";
        return Err(Refusal::Rejected { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, detail: detail.into() });
    }
    Ok(())
}

/// The head of the answer.
pub(super) fn encode(reply: &Reply, endpoint: &str) -> Response<()> {
    match reply {
        Reply::Complete { id, answer, .. } => {
            let mut head = status(answer.status);
            *head.headers_mut() = answer.fields.clone();
            if head.status() == StatusCode::CREATED && !head.headers().contains_key(header::LOCATION) {
                head.headers_mut().insert(header::LOCATION, location(endpoint, *id));
            }
            head
        }
        // Neither can be asked for conventionally; if a server does so for its own reasons, this is what it means.
        Reply::Stored { .. } => refused(&Refusal::Internal),
        Reply::State { .. } | Reply::Cancelled => status(StatusCode::NO_CONTENT),
    }
}

/// The URL of an upload, relative to the server.
pub(super) fn location(endpoint: &str, id: UploadId) -> HeaderValue {
    let path = format!("{}/{id}", endpoint.trim_end_matches('/'));
    HeaderValue::try_from(path).expect("a path and an id are visible ASCII")
}

/// The most bytes of fields, besides those there is one of, that are kept of a creation. A record is kept for as long as its
/// upload, and a field that is compressed costs its sender next to nothing.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// What of a creating request its target will see: all that describes the representation.
///
/// # Errors
/// A refusal when that is too much to keep.
//= TOK-CRE-07
pub(super) fn origin(head: &Parts) -> Result<Origin, Refusal> {
    kept(head, |name| [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE].contains(name))
}

/// The same with every field that a target may want: those that describe content, and those of applications.
///
/// # Errors
/// A refusal when that is too much to keep.
//= IETF-CRE-14
pub(super) fn whole_origin(head: &Parts) -> Result<Origin, Refusal> {
    kept(head, |name| {
        let is_of_proxies = ["x-forwarded-", "x-real-ip", "x-request-id", "x-http-method-override"];
        let name = name.as_str();
        let is_of_an_application =
            name.starts_with("x-") && !is_of_proxies.iter().any(|of| name.starts_with(of));
        let describes = name.starts_with("content-") || name.ends_with("-digest");
        let others = ["last-modified", "link", "origin", "prefer", "slug", "user-agent"];
        is_of_an_application || describes && name != "content-length" || others.contains(&name)
    })
}

/// The creation with the fields there is one of, and all lines of those that `keeps` names.
fn kept(head: &Parts, keeps: impl Fn(&HeaderName) -> bool) -> Result<Origin, Refusal> {
    let singles = [header::CONTENT_TYPE, header::CONTENT_DISPOSITION];
    let mut fields = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in &head.headers {
        if singles.contains(name) {
            // A second line means nothing, and the first one counts.
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        } else if keeps(name) {
            bytes += name.as_str().len() + value.len();
            fields.append(name.clone(), value.clone());
        }
    }
    if bytes > KEPT_BYTES_MAX {
        return Err(Refusal::Rejected {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            detail: format!("more than {KEPT_BYTES_MAX} bytes of fields describe this upload"),
        });
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    Ok(Origin { method: head.method.clone(), target, fields })
}
