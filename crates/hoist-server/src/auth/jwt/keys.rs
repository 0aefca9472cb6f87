//! Verification keys out of PEM, plain secrets and JSON Web Key Sets.
//!
//! Owns which algorithm each key is pinned to. A key that does not fit its algorithm is refused when it is read, not
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
    /// Whether a token with this header may have been signed with this key. The token chooses among the keys that are
    /// there; it cannot choose how one is used.
    pub(super) fn may_verify(&self, header: &Header) -> bool {
        let id = match (&self.id, &header.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        id && self.algorithm == header.alg
    }
}

/// The key of a file that holds nothing else.
pub(super) fn single(bytes: &[u8], algorithm: Algorithm) -> Result<Key, String> {
    let key = match algorithm.family() {
        AlgorithmFamily::Hmac => DecodingKey::from_secret(secret(bytes, algorithm)?),
        family => {
            let der = public_key(bytes, algorithm)?;
            match family {
                AlgorithmFamily::Rsa => DecodingKey::from_rsa_der(&der),
                AlgorithmFamily::Ec => DecodingKey::from_ec_der(&der),
                AlgorithmFamily::Ed | AlgorithmFamily::Hmac => DecodingKey::from_ed_der(&der),
            }
        }
    };
    Ok(Key { id: None, algorithm, verifying: key })
}

/// The keys of a file.
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// A line for each key that cannot be used. It never quotes a key.
    pub(super) passed_over: Vec<String>,
}

impl KeySet {
    /// A set of one key.
    pub(super) fn of(key: Key) -> Self {
        Self { keys: vec![key], passed_over: Vec::new() }
    }
}

#[derive(serde::Deserialize)]
struct Members {
    keys: Vec<Value>,
}

/// The usable keys of a key set. One that cannot be used, because it is of an unknown kind or broken, takes no other with
/// it (RFC 7517, section 5), and one for another purpose than signatures is not ours to look at.
pub(super) fn set(bytes: &[u8]) -> Result<KeySet, String> {
    // Messages of serde_json about this quote no values, so a secret in the file stays there.
    let members: Members =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON Web Key Set: {error}"))?;
    let mut set = KeySet { keys: Vec::new(), passed_over: Vec::new() };
    for (number, member) in (1..).zip(&members.keys) {
        let text = |name: &str| member.get(name).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            continue;
        }
        match usable(member) {
            Ok(key) => set.keys.push(key),
            Err(why) => {
                let named = text("kid").map(|id| format!(" ({id:?})")).unwrap_or_default();
                set.passed_over.push(format!("key {number}{named}: {why}"));
            }
        }
    }
    Ok(set)
}

fn usable(member: &Value) -> Result<Key, String> {
    // What serde says of it may quote the key.
    let jwk = Jwk::deserialize(member)
        .map_err(|_| format!("it is broken or of an unknown kind: {}", kind(member)))?;
    let algorithm = algorithm_of(&jwk).ok_or_else(|| {
        format!("it has no algorithm that is known here; RSA and oct keys need an \"alg\": {}", kind(member))
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

/// The members of a key that say what it is, none of which is secret.
fn kind(member: &Value) -> String {
    let said = |name: &&str| Some(format!("{name} {:?}", member.get(*name)?.as_str()?));
    ["kty", "crv", "alg"].iter().filter_map(said).collect::<Vec<_>>().join(", ")
}

/// What the key says, or what its curve leaves no choice in. An RSA key could verify six algorithms, so it has to say.
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
    // Everybody has a public key: as a secret it would let everybody in.
    if bytes.starts_with(b"-----BEGIN") {
        return Err(format!("it holds a PEM key, but {algorithm:?} wants a shared secret"));
    }
    long_enough(bytes, algorithm).map(|()| bytes)
}

/// RFC 7518, section 3.2: a key as long as the hash, or longer, MUST be used.
fn long_enough(secret: &[u8], algorithm: Algorithm) -> Result<(), String> {
    let octets_min = match algorithm {
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => 32,
    };
    if secret.len() < octets_min {
        return Err(format!(
            "a secret for {algorithm:?} has at least {octets_min} bytes; this has {}",
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

/// The DER within a PEM public key. The library takes it as it is, so here it is made sure that it is a key of the kind
/// the algorithm needs.
fn public_key(bytes: &[u8], algorithm: Algorithm) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "it is not a PEM file")?;
    let (_, rest) = text.split_once("-----BEGIN ").ok_or("it is not a PEM file")?;
    let (label, rest) = rest.split_once("-----").ok_or("it is not a PEM file")?;
    if label.contains("PRIVATE") {
        return Err("it holds a private key; hoist needs, and should have, the public one alone".into());
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
    if fits { Ok(der) } else { Err(format!("{algorithm:?} needs a {name} public key, and this is none")) }
}
