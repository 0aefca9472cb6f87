//! Uploads that claim no dialect: `curl -T`, an HTML form, any client of before.
//!
//! They are received like every other upload and answered like every other `POST` or `PUT`. What they cannot do is
//! resume, so nothing stays of one that was cut.

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use super::{METHODS, refused, status};
use crate::operation::{Content, Create, Decoded, Finish, Operation, Reply, Small, Subject, Taken};
use crate::refusal::Refusal;
use crate::types::{Length, UploadId};
use crate::upload::{Completion, Excess, Family, Interruption, Makeup, Origin, Semantics};

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
    let create = Create {
        semantics: SEMANTICS,
        length: content_bytes.map(Length::new),
        content: Content { bytes: content_bytes, finish: Finish::Here },
        taken: Taken::Refuse,
        small: Small::Resumes,
        makeup: Makeup::Own,
        waits_for_parts: false,
        origin: origin(head),
    };
    Ok(Decoded {
        subject: Subject::Fresh,
        family: Family::Conventional,
        operation: Operation::Create(create),
    })
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

/// What of a creating request its target will see: all that describes the representation.
//= TOK-CRE-07
pub(super) fn origin(head: &Parts) -> Origin {
    let described_by = [
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_DISPOSITION,
    ];
    let mut fields = HeaderMap::new();
    for name in described_by {
        for value in head.headers.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    Origin { method: head.method.clone(), target, fields }
}

/// The same with every field the target may want: all but those of the connection, of this protocol, and secrets.
//= IETF-CRE-14
pub(super) fn whole_origin(head: &Parts) -> Origin {
    let mut fields = head.headers.clone();
    let of_connection = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "host",
    ];
    let secrets = ["authorization", "proxy-authorization", "cookie"];
    let own = [
        "upload-complete",
        "upload-incomplete",
        "upload-offset",
        "upload-length",
        "upload-draft-interop-version",
    ];
    for name in of_connection.iter().chain(&secrets).chain(&own) {
        fields.remove(*name);
    }
    Origin { fields, ..origin(head) }
}
