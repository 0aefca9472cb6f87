//! Paths that hooks have chosen for the URLs of uploads, in place of ids.
//!
//! There is no table of them: the id of such an upload is a hash of its path. So a path below the endpoint that is not an id
//! leads to that id, whether there is an upload or not.

use hoist_proto::dialect::tus1::UPLOAD_CONCAT;
use hoist_proto::dialect::{CLIENT_UPLOAD_TOKEN, Resource, UPLOAD_TOKEN};
use hoist_proto::operation::{Decoded, Operation};
use hoist_proto::types::UploadId;
use http::request::Parts;
use http::{HeaderValue, Method};

use crate::shared::Shared;
use crate::tusd_event::name_below;

impl Shared {
    /// Returns the upload that a path below the endpoint leads to, for requests that need one. Other methods create an upload
    /// there, and a token names its upload wherever the request is sent to.
    pub(crate) fn resource_of_alias(&self, resource: Resource, head: &Parts) -> Resource {
        let needs_upload = matches!(head.method, Method::HEAD | Method::GET | Method::PATCH | Method::DELETE);
        let has_token =
            [UPLOAD_TOKEN, CLIENT_UPLOAD_TOKEN].iter().any(|name| head.headers.contains_key(name));
        if resource != Resource::Named || !needs_upload || has_token {
            return resource;
        }
        Resource::Upload(self.ids.of_alias(name_below(head.uri.path(), &self.endpoint)))
    }

    /// Replaces the paths that hooks have chosen by ids in the list of parts of a tus upload. Returns the field as it was, if
    /// it has changed.
    pub(crate) fn resolve_parts(&self, head: &mut Parts) -> Option<HeaderValue> {
        let given = head.headers.get(UPLOAD_CONCAT)?.clone();
        let urls = given.to_str().ok()?.trim().strip_prefix("final;")?;
        let mut has_alias = false;
        let resolved = urls.split_ascii_whitespace().map(|url| {
            let name = name_below(url, &self.endpoint);
            // Other text is left to the dialect, which refuses it.
            if name.parse::<UploadId>().is_ok() || name == url.trim_end_matches('/') || name.is_empty() {
                return url.to_owned();
            }
            has_alias = true;
            format!("{}/{}", self.endpoint.trim_end_matches('/'), self.ids.of_alias(name))
        });
        let resolved = format!("final;{}", resolved.collect::<Vec<_>>().join(" "));
        let resolved = HeaderValue::try_from(resolved).ok().filter(|_| has_alias)?;
        head.headers.insert(UPLOAD_CONCAT, resolved);
        Some(given)
    }
}

/// Puts the list of parts back as the client sent it, because it is told to the client and to hooks.
pub(crate) fn restore_parts(decoded: &mut Decoded, given: Option<HeaderValue>) {
    if let (Operation::Create(create), Some(given)) = (&mut decoded.operation, given) {
        create.origin.fields.insert(UPLOAD_CONCAT, given);
    }
}
