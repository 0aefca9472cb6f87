//! JSON Web Tokens (RFC 7519) verified with a key or a key set out of a file.
//!
//! Owns which key and which algorithm may verify what; the cryptography is `jsonwebtoken`'s. Keys are never fetched and
//! nothing a token says of its own key is believed.

mod keys;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hoist_proto::refusal::Refusal;
use hoist_proto::types::Principal;
use hoist_store::store::Pending;
use http::request::Parts;
use jsonwebtoken::{Validation, decode, decode_header};
use keys::Key;

use super::watched::Watched;
use super::{Authenticator, UNCONVINCING, Unusable, presented};

/// Admits who presents a token that one of the keys verifies; its `sub` is the principal.
///
/// A key verifies one algorithm alone, the configured one: what the token names in `alg` only has to be the same. `exp`
/// is required and checked, `nbf` checked where it is there, both with a minute of tolerance for clocks.
pub struct Jwt {
    keys: Watched<Vec<Key>>,
    audiences: Vec<String>,
    issuers: Vec<String>,
}

/// How tokens are signed (RFC 7518, RFC 8037). There is no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Algorithm(jsonwebtoken::Algorithm);

impl Algorithm {
    /// The names of all algorithms.
    pub const NAMES: &str =
        "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        name.parse().map(Self).map_err(|_| UnknownAlgorithm)
    }
}

/// The name is not that of an [`Algorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature algorithm: there are {}", Algorithm::NAMES)]
pub struct UnknownAlgorithm;

impl Jwt {
    /// Verifies with one key: the secret itself for `HS...`, a public key in PEM for the others. The file is read again
    /// when it changes.
    ///
    /// # Errors
    /// When the file cannot be read or holds no key for this algorithm.
    pub fn with_key_file(path: impl Into<PathBuf>, algorithm: Algorithm) -> Result<Self, Unusable> {
        Self::with(path, move |bytes| keys::single(bytes, algorithm.0).map(|key| vec![key]))
    }

    /// Verifies with a JSON Web Key Set (RFC 7517). The file is read again when it changes.
    ///
    /// # Errors
    /// When the file cannot be read, or has no key that can verify anything.
    pub fn with_jwks_file(path: impl Into<PathBuf>) -> Result<Self, Unusable> {
        Self::with(path, keys::set)
    }

    fn with(
        path: impl Into<PathBuf>,
        parse: impl Fn(&[u8]) -> Result<Vec<Key>, String> + Send + Sync + 'static,
    ) -> Result<Self, Unusable> {
        // Decided here and not by features other crates may switch on. An embedder's own choice, made earlier, stands.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        Ok(Self { keys: Watched::open(path, parse)?, audiences: Vec::new(), issuers: Vec::new() })
    }

    /// Admits only tokens made out to one of these (`aud`). Without any, `aud` is not looked at.
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = String>) -> Self {
        self.audiences = audiences.into_iter().collect();
        self
    }

    /// Admits only tokens that one of these issued (`iss`). Without any, `iss` is not looked at.
    pub fn issuers(mut self, issuers: impl IntoIterator<Item = String>) -> Self {
        self.issuers = issuers.into_iter().collect();
        self
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        let mut required = vec!["exp", "sub"];
        validation.validate_nbf = true;
        validation.validate_aud = !self.audiences.is_empty();
        if !self.audiences.is_empty() {
            required.push("aud");
            validation.set_audience(&self.audiences);
        }
        if !self.issuers.is_empty() {
            required.push("iss");
            validation.set_issuer(&self.issuers);
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn principal(&self, token: &str, keys: &[Key]) -> Result<Principal, String> {
        let header = decode_header(token).map_err(|error| error.to_string())?;
        // Extensions that must be understood (RFC 7515, "crit"), and we understand none.
        if header.crit.is_some() {
            return Err("it has critical extensions".into());
        }
        let mut why = "no key for its kid and alg".to_owned();
        for key in keys.iter().filter(|key| key.may_verify(&header)) {
            match decode::<Claims>(token, &key.verifying, &self.validation(key)) {
                Ok(verified) if verified.claims.sub.is_empty() => return Err("its sub is empty".into()),
                Ok(verified) => return Ok(Principal::new(verified.claims.sub)),
                Err(error) => why = error.to_string(),
            }
        }
        Err(why)
    }
}

impl Authenticator for Jwt {
    //= TOK-SEC-02
    fn admit<'a>(&'a self, head: &'a Parts) -> Pending<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(async move {
            let token = presented(head)?;
            let keys = self.keys.current().await;
            self.principal(token, &keys).map(Some).map_err(|why| {
                tracing::debug!(%why, "a token does not verify");
                UNCONVINCING
            })
        })
    }
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
}

#[cfg(test)]
mod tests;
