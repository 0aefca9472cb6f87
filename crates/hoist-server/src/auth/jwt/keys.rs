//! Verification keys from PEM files, plain secrets and JSON Web Key Sets.
//!
//! Owns the pinning of each key to one algorithm. A key that does not fit its algorithm is refused when it is read, not
//! when the first token fails.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Header};
use serde::Deserialize as _;
use serde_json::Value;

/// One key and the one algorithm it verifies.
pub(super) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) verifying: DecodingKey,
}

impl Key {
    /// Returns whether a token with this header may have been signed with this key. The header selects among the
    /// configured keys; it cannot change the algorithm of one.
    pub(super) fn may_verify(&self, header: &Header) -> bool {
        let id = match (&self.id, &header.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        id && self.algorithm == header.alg
    }
}

pub(super) fn single(bytes: &[u8], algorithm: Algorithm) -> Result<Key, String> {
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => DecodingKey::from_secret(secret(bytes, algorithm)?),
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(&public_key(bytes, algorithm)?),
        AlgorithmFamily::Ec => DecodingKey::from_ec_der(&public_key(bytes, algorithm)?),
        AlgorithmFamily::Ed => DecodingKey::from_ed_der(&public_key(bytes, algorithm)?),
    };
    Ok(Key { id: None, algorithm, verifying: key })
}

pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// A line for each key that cannot be used. It never quotes a key.
    pub(super) skipped: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Members {
    keys: Vec<Value>,
}

/// Returns the usable keys of a key set. A key of an unknown kind or a malformed key does not affect the others (RFC
/// 7517, JWK Set Format). A key for another purpose than signatures is ignored.
pub(super) fn set(bytes: &[u8]) -> Result<KeySet, String> {
    // The errors of serde_json for this type quote no values, so they cannot reveal a secret.
    let members: Members =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let mut set = KeySet { keys: Vec::new(), skipped: Vec::new() };
    for (number, member) in (1..).zip(&members.keys) {
        let text = |name: &str| member.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            continue;
        }
        match usable(member) {
            Ok(key) => set.keys.push(key),
            Err(why) => {
                let named = text("kid").map(|id| format!(" ({id:?})")).unwrap_or_default();
                set.skipped.push(format!("key {number}{named}: {why}"));
            }
        }
    }
    Ok(set)
}

fn usable(member: &Value) -> Result<Key, String> {
    // The error of serde may quote the key.
    let jwk = Jwk::deserialize(member)
        .map_err(|_| format!("it is malformed or of an unknown kind: {}", kind(member)))?;
    let algorithm = algorithm_of(&jwk).ok_or_else(|| {
        format!("it names no supported algorithm; RSA and oct keys need an \"alg\": {}", kind(member))
    })?;
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "it is broken")?;
    if key.family() != algorithm.family() {
        return Err(format!("its alg is {algorithm:?}, which its kty cannot verify"));
    }
    if key.family() == AlgorithmFamily::Hmac {
        let octets = key.try_get_as_bytes().map_err(|_| "it is broken")?;
        long_enough(octets, algorithm)?;
    }
    Ok(Key { id: jwk.common.key_id.clone(), algorithm, verifying: key })
}

/// Describes the kind of a key by members that are not secret.
fn kind(member: &Value) -> String {
    let member_text = |name: &&str| Some(format!("{name} {:?}", member.get(*name)?.as_str()?));
    ["kty", "crv", "alg"].iter().filter_map(member_text).collect::<Vec<_>>().join(", ")
}

/// Returns the algorithm that the key names, or the only one for its curve. An RSA key can verify six algorithms, so it
/// has to name one.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    match (jwk.common.key_algorithm, &jwk.algorithm) {
        (Some(algorithm), _) => algorithm.try_into().ok(),
        (None, AlgorithmParameters::EllipticCurve(key)) => match key.curve {
            EllipticCurve::P256 => Some(Algorithm::ES256),
            EllipticCurve::P384 => Some(Algorithm::ES384),
            _ => None,
        },
        (None, AlgorithmParameters::OctetKeyPair(key)) => {
            matches!(key.curve, EllipticCurve::Ed25519).then_some(Algorithm::EdDSA)
        }
        (None, _) => None,
    }
}

fn secret(bytes: &[u8], algorithm: Algorithm) -> Result<&[u8], String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    // A public key is known to all, so it must never serve as a shared secret.
    if bytes.starts_with(b"-----BEGIN") {
        return Err(format!("it holds a PEM key, but {algorithm:?} needs a shared secret"));
    }
    long_enough(bytes, algorithm).map(|()| bytes)
}

/// Requires a key at least as long as the hash (RFC 7518, HMAC with SHA-2 Functions).
fn long_enough(secret: &[u8], algorithm: Algorithm) -> Result<(), String> {
    let octets_min = match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    };
    if secret.len() < octets_min {
        return Err(format!(
            "a secret for {algorithm:?} needs at least {octets_min} bytes; this one has {}",
            secret.len()
        ));
    }
    Ok(())
}

const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// The algorithm identifier of a `SubjectPublicKeyInfo` ends well within this.
const IDENTIFIER_BYTES_MAX: usize = 32;

/// Returns the DER of a PEM public key, after checking that it is of the kind that the algorithm needs, which the library
/// does not check.
fn public_key(bytes: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not a PEM file")?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or("it is not a PEM file")?;
    let (label, rest) = rest.split_once("-----").ok_or("it is not a PEM file")?;
    if label.contains("PRIVATE") {
        return Err("it holds a private key; give hoist the public key only".into());
    }
    let (body, _) = rest.split_once("-----END ").ok_or("its PEM block does not end")?;
    let body: String = body.split_ascii_whitespace().collect();
    let der = DecodingKey::from_base64_secret(&body).map_err(|_| "its PEM block is not base64")?;
    let der = der.try_get_as_bytes().map_err(|error| error.to_string())?.to_vec();
    let (kind, name) = match algorithm {
        Algorithm::ES256 => (P256, "P-256"),
        Algorithm::ES384 => (P384, "P-384"),
        Algorithm::EdDSA => (ED25519, "Ed25519"),
        _ => (RSA, "RSA"),
    };
    let fits = match label {
        "PUBLIC KEY" => {
            let head = &der[..der.len().min(IDENTIFIER_BYTES_MAX)];
            head.windows(kind.len()).any(|window| window == kind)
        }
        "RSA PUBLIC KEY" => kind == RSA,
        "CERTIFICATE" => {
            return Err("it holds a certificate: take its key with `openssl x509 -pubkey -noout`".into());
        }
        _ => false,
    };
    if fits {
        Ok(der)
    } else {
        Err(format!("{algorithm:?} needs a {name} public key, and this is another kind of key"))
    }
}
