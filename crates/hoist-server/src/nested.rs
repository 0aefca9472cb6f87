//! An endpoint behind a router that strips its path.
//!
//! Owns putting the path back, so that nothing else has to know of it.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Uri};
use tower_service::Service;

use crate::answer::Answer;
use crate::intake::Content;
use crate::shared::Hoist;

/// The endpoint for a router that strips the endpoint's path from requests, as axum's `nest_service` does.
///
/// Returned by [`Hoist::nested`]. Clones are the same endpoint.
#[derive(Clone)]
pub struct Nested(Hoist);

impl Hoist {
    /// Returns the endpoint as a service for `nest_service(hoist.endpoint(), hoist.nested())`.
    ///
    /// The endpoint is the whole path at which clients reach the service, also if routers are nested in each other.
    pub fn nested(&self) -> Nested {
        Nested(self.clone())
    }
}

impl<B: Content> Service<Request<B>> for Nested {
    type Response = Answer;
    type Error = Infallible;
    type Future = <Hoist as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(uri) = below(self.0.endpoint(), request.uri()) {
            *request.uri_mut() = uri;
        }
        self.0.call(request)
    }
}

/// Returns `uri` with its path below `endpoint`, unless the result is not a URI.
fn below(endpoint: &str, uri: &Uri) -> Option<Uri> {
    let path_and_query = uri.path_and_query()?.as_str();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}{path_and_query}", endpoint.trim_end_matches('/')).parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stripped_path_is_put_back() {
        let cases = [
            ("/uploads", "/", "/uploads/"),
            ("/uploads", "/?a=b", "/uploads/?a=b"),
            ("/api/uploads", "/0123?x", "/api/uploads/0123?x"),
            ("/", "/0123", "/0123"),
            ("/uploads", "http://example.org/0123", "http://example.org/uploads/0123"),
        ];
        for (endpoint, stripped, expected) in cases {
            let uri = below(endpoint, &stripped.parse().expect("a URI")).expect("a URI");
            assert_eq!(uri, expected, "{endpoint} {stripped}");
        }
    }
}
