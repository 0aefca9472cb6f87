//! Ordinary requests with content, in no dialect: `curl -T`, and any client without a protocol for uploads.
//!
//! They are answered like any `POST` or `PUT`. They cannot be resumed, so no content of an interrupted one is kept.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

use super::client::{Intent, method};
use super::{Context, Dialect, METHODS, has_media_type, refused, status};
use crate::operation::{Content, Create, Decoded, Finish, Operation, Reply, Subject};
use crate::refusal::{Reason, Refusal};
use crate::types::UploadId;
use crate::upload::{Completion, Excess, Family, Interruption, Origin, Semantics};

const SEMANTICS: Semantics = Semantics {
    completion: Completion::AtLengthOrEnd,
    excess: Excess::Invalidates,
    interruption: Interruption::Discards,
};

pub(super) fn decode(head: &Parts, content_bytes: Option<u64>) -> Result<Decoded, Refusal> {
    if !matches!(head.method, Method::POST | Method::PUT) {
        return Err(Reason::MethodNotAllowed { allow: METHODS }.into());
    }
    refuse_form(head)?;
    let content = Content { bytes: content_bytes, finish: Finish::Here };
    let create = Create::new(SEMANTICS, content.whole_length(), content, origin(head)?);
    Ok(Decoded {
        subject: Subject::Fresh,
        family: Family::Conventional,
        operation: Operation::Create(create),
    })
}

/// Refuses the form of an HTML page or of `curl -F`, because the upload would contain the form and not the file in it.
//= IETF-CRE-20
fn refuse_form(head: &Parts) -> Result<(), Refusal> {
    if has_media_type(&head.headers, "multipart/form-data") {
        return Err(Reason::FormContent.into());
    }
    Ok(())
}

pub(super) fn encode(reply: &Reply, context: &Context<'_>) -> Response<()> {
    match reply {
        Reply::Complete { id, answer, .. } => {
            let mut head = status(answer.status);
            *head.headers_mut() = answer.fields.clone();
            if head.status() == StatusCode::CREATED && !head.headers().contains_key(header::LOCATION) {
                head.headers_mut().insert(header::LOCATION, location(context, *id));
            }
            head
        }
        // No ordinary request leads to these replies.
        Reply::Stored { .. } => refused(Some(Dialect::Conventional), &Reason::Internal.into()),
        Reply::State { .. } | Reply::Cancelled => status(StatusCode::NO_CONTENT),
    }
}

pub(super) fn request(target: &str, intent: &Intent<'_>) -> Result<Request<()>, http::Error> {
    let mut head = Request::builder().method(method(intent)).uri(target).body(())?;
    if let Intent::Create { origin, .. } = intent {
        head.headers_mut().extend(origin.fields.clone());
    }
    Ok(head)
}

pub(super) fn location(context: &Context<'_>, id: UploadId) -> HeaderValue {
    let base = context.base.trim_end_matches('/');
    let path = match context.alias {
        Some(alias) => format!("{base}/{alias}"),
        None => format!("{base}/{id}"),
    };
    HeaderValue::try_from(path).expect("a path and an id are visible ASCII")
}

/// The most bytes of list fields to keep of a creation. A compressed field costs its sender next to nothing.
const KEPT_BYTES_MAX: usize = 8 * 1024;

/// Returns a creation as the target will see it, with the fields that describe the representation.
//= TOK-CRE-07
pub(super) fn origin(head: &Parts) -> Result<Origin, Refusal> {
    kept(head, |name| [header::CONTENT_ENCODING, header::CONTENT_LANGUAGE].contains(name))
}

/// Returns a creation as the target will see it, with all fields that describe content and all fields of applications.
//= IETF-CRE-14
pub(super) fn full_origin(head: &Parts) -> Result<Origin, Refusal> {
    kept(head, |name| {
        let proxy_fields = ["x-forwarded-", "x-real-ip", "x-request-id", "x-http-method-override"];
        let name = name.as_str();
        let is_application_field =
            name.starts_with("x-") && !proxy_fields.iter().any(|prefix| name.starts_with(prefix));
        let describes = name.starts_with("content-") || name.ends_with("-digest");
        let others = ["last-modified", "link", "origin", "prefer", "slug", "user-agent"];
        is_application_field || describes && name != "content-length" || others.contains(&name)
    })
}

/// Returns a creation with the fields that have a single value, and all lines of the fields that `keeps` selects.
///
/// # Errors
/// Returns [`Reason::FieldsTooLarge`] if the fields are too large to keep.
fn kept(head: &Parts, keeps: impl Fn(&HeaderName) -> bool) -> Result<Origin, Refusal> {
    let singles = [header::CONTENT_TYPE, header::CONTENT_DISPOSITION];
    let mut fields = HeaderMap::new();
    let mut bytes = 0;
    for (name, value) in &head.headers {
        if singles.contains(name) {
            // Only the first line counts.
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        } else if keeps(name) {
            bytes += name.as_str().len() + value.len();
            fields.append(name.clone(), value.clone());
        }
    }
    if bytes > KEPT_BYTES_MAX {
        return Err(Reason::FieldsTooLarge { bytes_max: KEPT_BYTES_MAX }.into());
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    Ok(Origin { method: head.method.clone(), target, fields })
}
