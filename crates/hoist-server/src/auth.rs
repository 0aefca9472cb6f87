//! Authentication: the principal of a request.
//!
//! Owns the trait and its implementations. Which uploads a principal may see (its own) is decided by the engine.

pub mod bearer;
pub mod jwt;
pub(crate) mod watched;

use std::path::PathBuf;

use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Principal;
use hoist_store::store::BoxFuture;
use http::header;
use http::request::Parts;
use sha2::{Digest as _, Sha256};

/// Authenticates a request by its header section.
pub trait Authenticator: Send + Sync + 'static {
    /// Returns the principal of a request, or `None` for an anonymous peer that is admitted.
    ///
    /// # Errors
    /// Returns the refusal, 401 or 403, that is sent to the peer.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>>;
}

/// Admits every request without a principal. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anyone;

impl Authenticator for Anyone {
    fn admit<'a>(&'a self, _: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// The error for a file of credentials that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct Unusable {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub why: String,
}

/// The refusal of a request without credentials, which has no error code (RFC 6750, Error Codes).
pub(crate) const MISSING: Refusal = Refusal::new(Reason::Unauthorized { challenge: "Bearer" });

/// The refusal of a request with wrong credentials. The reason goes to the log only.
pub(crate) const UNCONVINCING: Refusal =
    Refusal::new(Reason::Unauthorized { challenge: "Bearer error=\"invalid_token\"" });

/// Returns the bearer token of a request.
pub(crate) fn presented(head: &Parts) -> Result<&str, Refusal> {
    let mut fields = head.headers.get_all(header::AUTHORIZATION).iter();
    let (field, another) = (fields.next().ok_or(MISSING)?, fields.next());
    let text = field.to_str().map_err(|_| UNCONVINCING)?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(MISSING);
    }
    let token = token.trim();
    // With two tokens the principal would depend on their order.
    if another.is_some() || token.is_empty() || token.contains([' ', '\t']) {
        return Err(UNCONVINCING);
    }
    Ok(token)
}

/// The SHA-256 digest of a token, which is kept in memory in place of the token.
#[derive(Clone, Copy)]
pub(crate) struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Compares all octets, so that the time does not depend on how many are equal.
    pub(crate) fn is(self, other: Self) -> bool {
        let differences = self.0.iter().zip(other.0).fold(0, |seen, (a, b)| seen | (a ^ b));
        std::hint::black_box(differences) == 0
    }
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
        match refusal.reason {
            Reason::Unauthorized { challenge } => challenge,
            _ => panic!("not a 401: {refusal:?}"),
        }
    }

    #[tokio::test]
    async fn anyone_admits_without_a_principal() {
        assert_eq!(Anyone.admit(&head(&["Bearer whatever"])).await, Ok(None));
    }
}
