//! The facts of a request that hooks and events tell: its method, target, fields, and the address of its peer.
//!
//! Owns the two views of them. A receiver that is asked while the request runs sees them as they came, but for the client's
//! token. What is kept with an event until it is delivered has no credential in it.

use std::sync::Arc;

use hoist_http::{Peer, UnixPeer};
use hoist_proto::dialect::tus1::UPLOAD_METADATA;
use hoist_proto::dialect::{CLIENT_UPLOAD_TOKEN, UPLOAD_TOKEN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// The facts of a request. Clones share them. The default is that of work without a request, such as a sweep.
#[derive(Clone, Debug, Default)]
pub struct RequestFacts(Option<Arc<Facts>>);

#[derive(Debug)]
struct Facts {
    method: Method,
    target: String,
    peer: String,
    fields: HeaderMap,
}

/// The fields that may be kept: those that describe the representation, and the name of the client's program.
const FIELDS_AT_REST: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_DISPOSITION,
    header::CONTENT_LANGUAGE,
    header::CONTENT_ENCODING,
    header::USER_AGENT,
    UPLOAD_METADATA,
];

/// The address of a peer that has none, as Go writes it, whose programs read it.
const UNNAMED_PEER: &str = "@";

impl RequestFacts {
    /// Returns the facts of a request, without the client's token.
    pub(crate) fn of(head: &Parts) -> Self {
        let peer = match (head.extensions.get::<Peer>(), head.extensions.get::<UnixPeer>()) {
            (Some(peer), _) => peer.addr.to_string(),
            (None, Some(_)) => UNNAMED_PEER.to_owned(),
            (None, None) => String::new(),
        };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let mut fields = head.headers.clone();
        for secret in [UPLOAD_TOKEN, CLIENT_UPLOAD_TOKEN] {
            fields.remove(secret);
        }
        // In HTTP/2 the host is not a field.
        if let Some(authority) = head.uri.authority()
            && !fields.contains_key(header::HOST)
            && let Ok(host) = HeaderValue::try_from(authority.as_str())
        {
            fields.insert(header::HOST, host);
        }
        Self::new(head.method.clone(), target, peer, fields)
    }

    /// Returns the facts of a request from their parts.
    pub(crate) fn new(method: Method, target: String, peer: String, fields: HeaderMap) -> Self {
        Self(Some(Arc::new(Facts { method, target, peer, fields })))
    }

    /// Returns what may be kept of the facts: no query and no field that may hold a credential.
    pub(crate) fn at_rest(&self) -> Self {
        let Some(facts) = &self.0 else { return Self::default() };
        let path = facts.target.split('?').next().unwrap_or_default().to_owned();
        let mut fields = HeaderMap::new();
        for name in FIELDS_AT_REST {
            for value in facts.fields.get_all(&name) {
                fields.append(name.clone(), value.clone());
            }
        }
        Self::new(facts.method.clone(), path, facts.peer.clone(), fields)
    }

    /// Returns the method; empty without a request.
    pub fn method(&self) -> &str {
        self.0.as_ref().map_or("", |facts| facts.method.as_str())
    }

    /// Returns the path and query as received; empty without a request.
    pub fn target(&self) -> &str {
        self.0.as_ref().map_or("", |facts| &facts.target)
    }

    /// Returns the address and port of the peer, which may be a proxy; empty if unknown.
    pub fn peer(&self) -> &str {
        self.0.as_ref().map_or("", |facts| &facts.peer)
    }

    /// Returns the fields, with `Host`.
    pub fn fields(&self) -> Option<&HeaderMap> {
        self.0.as_ref().map(|facts| &facts.fields)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn facts() -> RequestFacts {
        let request = Request::post("http://up.example/uploads/a?key=s3cret")
            .header("authorization", "Bearer s3cret")
            .header("cookie", "s3cret")
            .header("upload-token", "s3cret")
            .header("client-upload-token", "s3cret")
            .header("content-type", "text/plain")
            .header("user-agent", "one")
            .header("user-agent", "two")
            .header("x-api-key", "s3cret")
            .extension(Peer { addr: ([192, 0, 2, 7], 4711).into(), tls: false });
        RequestFacts::of(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn a_receiver_that_is_asked_sees_the_request_but_for_the_token() {
        let facts = facts();
        assert_eq!((facts.method(), facts.target()), ("POST", "/uploads/a?key=s3cret"));
        assert_eq!(facts.peer(), "192.0.2.7:4711");
        let fields = facts.fields().expect("there");
        for (name, value) in
            [("host", "up.example"), ("authorization", "Bearer s3cret"), ("cookie", "s3cret")]
        {
            assert_eq!(fields[name], value);
        }
        assert!(!fields.contains_key("upload-token") && !fields.contains_key("client-upload-token"));
    }

    #[test]
    fn no_credential_is_kept() {
        let kept = facts().at_rest();
        assert_eq!((kept.method(), kept.target(), kept.peer()), ("POST", "/uploads/a", "192.0.2.7:4711"));
        let fields = kept.fields().expect("there");
        assert_eq!(fields.keys_len(), 2);
        assert_eq!(fields.get_all("user-agent").iter().count(), 2);
        assert!(!format!("{kept:?}").contains("s3cret"), "{kept:?}");
    }

    #[test]
    fn work_without_a_request_has_no_facts() {
        let none = RequestFacts::default().at_rest();
        assert_eq!((none.method(), none.target(), none.peer()), ("", "", ""));
        assert!(none.fields().is_none());
    }

    #[test]
    fn a_peer_of_a_unix_socket_is_unnamed() {
        let request =
            Request::post("/uploads").extension(UnixPeer { tls: false }).body(()).expect("a request");
        assert_eq!(RequestFacts::of(&request.into_parts().0).peer(), "@");
    }
}
