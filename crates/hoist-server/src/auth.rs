//! Who makes a request.
//!
//! Owns the question and its ready-made answers; leaves to the engine what a principal may see (its own uploads).

pub mod bearer;
pub mod jwt;
mod watched;

use std::path::PathBuf;

use hoist_proto::refusal::Refusal;
use hoist_proto::types::Principal;
use hoist_store::store::BoxFuture;
use http::header;
use http::request::Parts;

/// Says who makes a request, from its header section.
pub trait Authenticator: Send + Sync + 'static {
    /// The principal of a request, or `None` for anonymous peers where they are welcome.
    ///
    /// # Errors
    /// A refusal, 401 or 403, that goes to the peer as it is.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>>;
}

/// Lets anybody in and tells nobody apart. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authenticator for Anyone {
    fn admit<'a>(&'a self, _: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// A file of credentials that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Nothing was presented (RFC 6750, section 3.1: then there is no error code).
const MISSING: Refusal = Refusal::Unauthorized { challenge: "Bearer" };

/// Something was, and it does not convince. Why is nobody's business who cannot read the log.
const UNCONVINCING: Refusal = Refusal::Unauthorized { challenge: "Bearer error=\"invalid_token\"" };

/// The bearer token of a request.
fn presented(head: &Parts) -> Result<&str, Refusal> {
    let mut fields = head.headers.get_all(header::AUTHORIZATION).iter();
    let (field, another) = (fields.next().ok_or(MISSING)?, fields.next());
    let text = field.to_str().map_err(|_| UNCONVINCING)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(MISSING);
    }
    let token = token.trim();
    // Two tokens would leave it to chance who asks.
    if another.is_some() || token.is_empty() || token.contains([' ', '\t']) {
        return Err(UNCONVINCING);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const MISSING_CHALLENGE: &str = "Bearer";
    pub(super) const WRONG_CHALLENGE: &str = "Bearer error=\"invalid_token\"";

    /// The head of a request with these `Authorization` lines.
    pub(super) fn head(authorization: &[&str]) -> Parts {
        let mut request = http::Request::post("/uploads");
        for field in authorization {
            request = request.header(header::AUTHORIZATION, *field);
        }
        request.body(()).expect("well-formed").into_parts().0
    }

    pub(super) fn challenge(refusal: &Refusal) -> &'static str {
        match refusal {
            Refusal::Unauthorized { challenge } => challenge,
            other => panic!("not a question of who: {other:?}"),
        }
    }

    #[tokio::test]
    async fn anyone_is_nobody_in_particular() {
        assert_eq!(Anyone.admit(&head(&["Bearer whatever"])).await, Ok(None));
    }
}
