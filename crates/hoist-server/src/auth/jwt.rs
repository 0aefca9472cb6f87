//! JSON Web Tokens (RFC 7519), verified with a key or a key set from a file.
//!
//! Owns the choice of key and algorithm; the cryptography is in `jsonwebtoken`. Keys are never fetched over the network,
//! and key material in a token is ignored.

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
/// A key verifies only the algorithm configured for it, which the token's `alg` must match. `exp` is required and
/// checked; `nbf` is checked if present. Both tolerate a clock difference of one minute.
///
/// The principal is the token's `sub` while at most one issuer is allowed. A `sub` is unique within its issuer only (RFC
/// 7519, "sub"), so with several allowed issuers the principal is the issuer, a space, and the `sub`; subjects of the
/// [main issuer](Self::main_issuer) alone keep their bare names.
pub struct Jwt {
    sources: Vec<Source>,
    audiences: Vec<String>,
    main_issuer: Option<String>,
}

/// Keys and the issuers whose tokens they may verify.
struct Source {
    keys: Watched<KeySet>,
    /// If empty, `iss` is ignored.
    issuers: Vec<String>,
}

/// A signature algorithm (RFC 7518, RFC 8037). There is no `none`.
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

/// The error for a name that is not an [`Algorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signature algorithm; use one of {}", Algorithm::NAMES)]
pub struct UnknownAlgorithm;

impl Jwt {
    /// Verifies with one key: the secret itself for `HS*`, a public key in PEM for the others. The file is read again
    /// when it changes.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no key for this algorithm.
    pub fn with_key_file(path: impl Into<PathBuf>, algorithm: Algorithm) -> Result<Self, Unusable> {
        install_cryptography();
        let keys = Watched::open(path, move |bytes| {
            let key = keys::single(bytes, algorithm.0)?;
            Ok(KeySet { keys: vec![key], skipped: Vec::new() })
        })?;
        Ok(Self::of(vec![Source { keys, issuers: Vec::new() }]))
    }

    /// Verifies with a JSON Web Key Set (RFC 7517). The file is read again when it changes.
    ///
    /// A key that cannot be used is skipped with a warning, each time the file is read.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or has no usable key.
    pub fn with_jwks_file(path: impl Into<PathBuf>) -> Result<Self, Unusable> {
        Ok(Self::of(vec![Source { keys: key_set(path.into())?, issuers: Vec::new() }]))
    }

    /// Admits tokens of each of these issuers, verified with the JSON Web Key Set of that issuer and with no other key.
    ///
    /// # Errors
    /// The same as for [`with_jwks_file`](Self::with_jwks_file).
    pub fn with_jwks_files(issuers: impl IntoIterator<Item = (String, PathBuf)>) -> Result<Self, Unusable> {
        let source = |(issuer, path)| Ok(Source { keys: key_set(path)?, issuers: vec![issuer] });
        Ok(Self::of(issuers.into_iter().map(source).collect::<Result<_, _>>()?))
    }

    fn of(sources: Vec<Source>) -> Self {
        Self { sources, audiences: Vec::new(), main_issuer: None }
    }

    /// Admits only tokens for one of these audiences (`aud`). If empty, `aud` is ignored.
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = String>) -> Self {
        self.audiences = audiences.into_iter().collect();
        self
    }

    /// Admits only tokens of one of these issuers (`iss`), whichever key verifies them. If empty, `iss` is ignored, unless
    /// the keys were given by issuer. A name with white space matches no token, because a principal joins the issuer and
    /// the subject with a space.
    pub fn issuers(mut self, issuers: impl IntoIterator<Item = String>) -> Self {
        let issuers: Vec<String> = issuers.into_iter().collect();
        for source in &mut self.sources {
            source.issuers.clone_from(&issuers);
        }
        self
    }

    /// Sets the one of several issuers whose subjects keep their bare names as principals. Their uploads stay accessible
    /// to them when a second issuer is added.
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
        // No extension is supported (RFC 7515, "crit").
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

    /// Returns the principal of verified claims.
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
        // A bare subject must not equal the principal of another issuer.
        match sub.split_once(' ') {
            Some((first, _)) if issuers.contains(first) => {
                Err("its sub begins with the name of another issuer".into())
            }
            _ => Ok(Principal::new(sub.as_str())),
        }
    }
}

fn install_cryptography() {
    // Chosen here, because features of other crates could change the default. An earlier choice of the embedder stays.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Opens the file of a key set. If it has no key when it is read again, all were revoked and no token verifies.
fn key_set(path: PathBuf) -> Result<Watched<KeySet>, Unusable> {
    install_cryptography();
    let file = path.clone();
    let set = Watched::open(path.clone(), move |bytes| {
        let set = keys::set(bytes)?;
        for why in &set.skipped {
            tracing::warn!(file = %file.display(), %why, "skipped a key of the set");
        }
        if set.keys.is_empty() {
            tracing::warn!(file = %file.display(), "the key set has no usable key; all its tokens are refused");
        }
        Ok(set)
    })?;
    let first = set.last_read();
    match (&first.keys[..], &first.skipped[..]) {
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
    /// A string if issuers are configured; unchecked otherwise.
    #[serde(default)]
    iss: serde_json::Value,
}

#[cfg(test)]
mod tests;
