//! JSON Web Tokens (RFC 7519) verified with a key or a key set out of a file.
//!
//! Owns which key and which algorithm may verify what; the cryptography is `jsonwebtoken`'s. Keys are never fetched and
//! nothing a token says of its own key is believed.

mod keys;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hoist_proto::refusal::Refusal;
use hoist_proto::types::Principal;
use hoist_store::store::BoxFuture;
use http::request::Parts;
use jsonwebtoken::{Validation, decode, decode_header};
use keys::{Key, KeySet};

use super::watched::Watched;
use super::{Authenticator, UNCONVINCING, Unusable, presented};

/// Admits requests with a token that one of the keys verifies.
///
/// A key verifies one algorithm alone, the configured one: what the token names in `alg` only has to be the same. `exp`
/// is required and checked, `nbf` checked where it is there, both with a minute of tolerance for clocks.
///
/// The principal is the token's `sub` while at most one issuer is allowed. A `sub` is unique within its issuer only (RFC
/// 7519, "sub"), so with several allowed issuers the principal is the issuer, a space, and the `sub`; subjects of the
/// [main issuer](Self::main_issuer) alone keep their bare names.
pub struct Jwt {
    sources: Vec<Source>,
    audiences: Vec<String>,
    main_issuer: Option<String>,
}

/// Keys, and the issuers whose tokens they may verify.
struct Source {
    keys: Watched<KeySet>,
    /// Without any, `iss` is not looked at.
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
        install_cryptography();
        let keys = Watched::open(path, move |bytes| keys::single(bytes, algorithm.0).map(KeySet::of))?;
        Ok(Self::of(vec![Source { keys, issuers: Vec::new() }]))
    }

    /// Verifies with a JSON Web Key Set (RFC 7517). The file is read again when it changes.
    ///
    /// A key that cannot be used is passed over with a warning, now and whenever the file is read again.
    ///
    /// # Errors
    /// When the file cannot be read, or has no key that can verify anything.
    pub fn with_jwks_file(path: impl Into<PathBuf>) -> Result<Self, Unusable> {
        Ok(Self::of(vec![Source { keys: key_set(path.into())?, issuers: Vec::new() }]))
    }

    /// Admits tokens of each of these issuers, verified with the JSON Web Key Set of that issuer and with no other key.
    ///
    /// # Errors
    /// As for [`with_jwks_file`](Self::with_jwks_file).
    pub fn with_jwks_files(issuers: impl IntoIterator<Item = (String, PathBuf)>) -> Result<Self, Unusable> {
        let source = |(issuer, path)| Ok(Source { keys: key_set(path)?, issuers: vec![issuer] });
        Ok(Self::of(issuers.into_iter().map(source).collect::<Result<_, _>>()?))
    }

    fn of(sources: Vec<Source>) -> Self {
        Self { sources, audiences: Vec::new(), main_issuer: None }
    }

    /// Admits only tokens made out to one of these (`aud`). Without any, `aud` is not looked at.
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = String>) -> Self {
        self.audiences = audiences.into_iter().collect();
        self
    }

    /// Admits only tokens that one of these issued (`iss`), whichever key verifies them. Without any, `iss` is not looked
    /// at, unless the keys were given by issuer. A name with white space in it could not be told from a longer one and a
    /// subject, and matches nothing.
    pub fn issuers(mut self, issuers: impl IntoIterator<Item = String>) -> Self {
        let issuers: Vec<String> = issuers.into_iter().collect();
        for source in &mut self.sources {
            source.issuers.clone_from(&issuers);
        }
        self
    }

    /// The one of several issuers whose subjects are principals by their bare names, as they were while it was the only
    /// one: their uploads stay theirs when another issuer is added.
    pub fn main_issuer(self, issuer: Option<String>) -> Self {
        Self { main_issuer: issuer, ..self }
    }

    fn validation(&self, key: &Key, issuers: &[String]) -> Validation {
        let mut validation = Validation::new(key.algorithm);
        let mut required = vec!["exp", "sub"];
        validation.validate_nbf = true;
        validation.validate_aud = !self.audiences.is_empty();
        if !self.audiences.is_empty() {
            required.push("aud");
            validation.set_audience(&self.audiences);
        }
        if !issuers.is_empty() {
            required.push("iss");
            validation.set_issuer(issuers);
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    async fn principal(&self, token: &str) -> Result<Principal, String> {
        let header = decode_header(token).map_err(|error| error.to_string())?;
        // Extensions that must be understood (RFC 7515, "crit"), and we understand none.
        if header.crit.is_some() {
            return Err("it has critical extensions".into());
        }
        let mut why = "no key for its kid and alg".to_owned();
        for source in &self.sources {
            let keys = source.keys.current().await;
            for key in keys.keys.iter().filter(|key| key.may_verify(&header)) {
                match decode::<Claims>(token, &key.verifying, &self.validation(key, &source.issuers)) {
                    Ok(verified) => return self.named(&verified.claims),
                    Err(error) => why = error.to_string(),
                }
            }
        }
        Err(why)
    }

    /// The principal of verified claims.
    fn named(&self, Claims { sub, iss }: &Claims) -> Result<Principal, String> {
        if sub.is_empty() {
            return Err("its sub is empty".into());
        }
        let issuers: BTreeSet<&str> =
            self.sources.iter().flat_map(|source| source.issuers.iter().map(String::as_str)).collect();
        if issuers.len() <= 1 {
            return Ok(Principal::new(sub.as_str()));
        }
        let issuer = iss.as_str().filter(|issuer| !issuer.contains(char::is_whitespace));
        let issuer = issuer.ok_or("its iss is not one name without white space")?;
        if self.main_issuer.as_deref() != Some(issuer) {
            return Ok(Principal::new(format!("{issuer} {sub}")));
        }
        // A bare subject must not read as the principal of another issuer.
        match sub.split_once(' ') {
            Some((first, _)) if issuers.contains(first) => {
                Err("its sub begins like that of another issuer".into())
            }
            _ => Ok(Principal::new(sub.as_str())),
        }
    }
}

fn install_cryptography() {
    // Decided here and not by features other crates may switch on. An embedder's own choice, made earlier, stands.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Opens the file of a key set. Read again, it may hold no key any more: then every one was revoked, and no token verifies.
fn key_set(path: PathBuf) -> Result<Watched<KeySet>, Unusable> {
    install_cryptography();
    let file = path.clone();
    let set = Watched::open(path.clone(), move |bytes| {
        let set = keys::set(bytes)?;
        for why in &set.passed_over {
            tracing::warn!(file = %file.display(), %why, "a key of the set is passed over");
        }
        if set.keys.is_empty() {
            tracing::warn!(file = %file.display(), "the set has no usable key; no token verifies by it");
        }
        Ok(set)
    })?;
    let first = set.last_read();
    match (&first.keys[..], &first.passed_over[..]) {
        ([], []) => Err(Unusable { path, why: "it holds no key that verifies signatures".into() }),
        ([], why) => Err(Unusable { path, why: format!("none of its keys can be used: {}", why.join("; ")) }),
        _ => Ok(set),
    }
}

impl Authenticator for Jwt {
    //= TOK-SEC-02
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>> {
        Box::pin(async move {
            let token = presented(head)?;
            self.principal(token).await.map(Some).map_err(|why| {
                tracing::debug!(%why, "a token does not verify");
                UNCONVINCING
            })
        })
    }
}

#[derive(serde::Deserialize)]
struct Claims {
    sub: String,
    /// A text, where it was verified to name an allowed issuer; unchecked otherwise.
    #[serde(default)]
    iss: serde_json::Value,
}

#[cfg(test)]
mod tests;
