//! Valid and invalid tokens against valid and invalid keys.

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm as Alg, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};

use super::super::tests::{WRONG_CHALLENGE, challenge, head};
use super::*;

const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("keys/rsa.pub");
const EC: &str = include_str!("keys/ec.pem");
const EC_PUBLIC: &str = include_str!("keys/ec.pub");
const ED: &str = include_str!("keys/ed.pem");
const ED_PUBLIC: &str = include_str!("keys/ed.pub");
const SECRET: &str = "a secret of more than thirty-two octets";

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = jsonwebtoken::DecodingKey::from_base64_secret(&body).expect("base64");
    key.try_get_as_bytes().expect("bytes").to_vec()
}

fn signing(algorithm: Alg) -> EncodingKey {
    match algorithm.family() {
        jsonwebtoken::AlgorithmFamily::Hmac => EncodingKey::from_secret(SECRET.as_bytes()),
        jsonwebtoken::AlgorithmFamily::Rsa => EncodingKey::from_rsa_der(&der(RSA)),
        jsonwebtoken::AlgorithmFamily::Ec => EncodingKey::from_ec_der(&der(EC)),
        jsonwebtoken::AlgorithmFamily::Ed => EncodingKey::from_ed_der(&der(ED)),
    }
}

/// Returns a signed token with these claims and an `exp` in an hour.
fn token(header: &Header, key: &EncodingKey, claims: &Value) -> String {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let mut all = json!({ "exp": get_current_timestamp() + 3600 });
    let (Value::Object(all_members), Value::Object(members)) = (&mut all, claims) else {
        panic!("not objects")
    };
    all_members.extend(members.clone());
    all_members.retain(|_, value| !value.is_null());
    encode(header, &all, key).expect("signed")
}

fn jwt(key: &str, algorithm: &str) -> Jwt {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    std::fs::write(&path, key).expect("written");
    Jwt::with_key_file(&path, algorithm.parse().expect("known")).expect("usable")
}

fn jwks(set: &str) -> Result<Jwt, Unusable> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.json");
    std::fs::write(&path, set).expect("written");
    Jwt::with_jwks_file(&path)
}

async fn admitted(jwt: &Jwt, token: &str) -> Option<String> {
    let head = head(&[&format!("Bearer {token}")]);
    match jwt.admit(&head).await {
        Ok(who) => Some(who.expect("never anonymous").name().to_owned()),
        Err(refusal) => {
            assert_eq!(challenge(&refusal), WRONG_CHALLENGE, "every failure looks the same");
            None
        }
    }
}

// proves: TOK-SEC-02
#[tokio::test]
async fn each_algorithm_verifies_with_its_key() {
    let cases = [
        (Alg::HS256, SECRET),
        (Alg::RS256, RSA_PUBLIC),
        (Alg::PS384, RSA_PUBLIC),
        (Alg::ES256, EC_PUBLIC),
        (Alg::EdDSA, ED_PUBLIC),
    ];
    for (algorithm, key) in cases {
        let good = token(&Header::new(algorithm), &signing(algorithm), &json!({ "sub": "alice" }));
        let jwt = jwt(key, &format!("{algorithm:?}"));
        assert_eq!(admitted(&jwt, &good).await.as_deref(), Some("alice"), "{algorithm:?}");
        let (signed, signature) = good.rsplit_once('.').expect("three parts");
        let flipped = if signature.starts_with('A') { 'B' } else { 'A' };
        assert_eq!(admitted(&jwt, &format!("{signed}.{flipped}{}", &signature[1..])).await, None);
        assert_eq!(admitted(&jwt, &format!("{signed}.")).await, None);
        assert_eq!(admitted(&jwt, signed).await, None);
    }
}

// proves: TOK-SEC-02
#[tokio::test]
async fn claims_are_checked() {
    let now = get_current_timestamp();
    let jwt = jwt(SECRET, "HS256").audiences(["uploads".into()]).issuers(["https://id.example".into()]);
    let cases = [
        (json!({}), Some("alice")),
        (json!({ "aud": ["other", "uploads"] }), Some("alice")),
        (json!({ "nbf": now - 10 }), Some("alice")),
        (json!({ "nbf": now + 600 }), None),
        (json!({ "exp": now - 600 }), None),
        (json!({ "exp": null }), None),
        (json!({ "exp": "tomorrow" }), None),
        (json!({ "aud": "downloads" }), None),
        (json!({ "aud": null }), None),
        (json!({ "iss": "https://evil.example" }), None),
        (json!({ "iss": null }), None),
        (json!({ "sub": "" }), None),
        (json!({ "sub": null }), None),
        (json!({ "sub": 7 }), None),
    ];
    for (claims, expected) in cases {
        let mut all = json!({ "sub": "alice", "aud": "uploads", "iss": "https://id.example" });
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        let token = token(&Header::new(Alg::HS256), &signing(Alg::HS256), &all);
        assert_eq!(admitted(&jwt, &token).await.as_deref(), expected, "{claims}");
    }
}

// proves: TOK-SEC-02
#[tokio::test]
async fn a_token_cannot_choose_how_it_is_verified() {
    let claims = json!({ "sub": "mallory" });
    let by_rsa = jwt(RSA_PUBLIC, "RS256");
    // Key confusion: the public key as the secret of an HMAC, in each encoding.
    for secret in [RSA_PUBLIC.as_bytes(), RSA_PUBLIC.trim_end().as_bytes(), &der(RSA_PUBLIC)] {
        let forged = token(&Header::new(Alg::HS256), &EncodingKey::from_secret(secret), &claims);
        assert_eq!(admitted(&by_rsa, &forged).await, None);
    }
    // No signature.
    let good = token(&Header::new(Alg::HS256), &signing(Alg::HS256), &claims);
    let payload = good.split('.').nth(1).expect("three parts");
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOT05FIiwidHlwIjoiSldUIn0"] {
        assert_eq!(admitted(&jwt(SECRET, "HS256"), &format!("{header}.{payload}.")).await, None);
    }
    // The configured key with another algorithm.
    let other = token(&Header::new(Alg::RS512), &signing(Alg::RS512), &claims);
    assert_eq!(admitted(&by_rsa, &other).await, None);
    let other = token(&Header::new(Alg::HS384), &signing(Alg::HS384), &claims);
    assert_eq!(admitted(&jwt(SECRET, "HS256"), &other).await, None);
    // Another key, embedded in the token.
    let mut header = Header::new(Alg::HS256);
    let theirs = EncodingKey::from_secret(b"another secret of more than thirty-two octets");
    header.jwk = Some(Jwk::from_encoding_key(&theirs, Alg::HS256).expect("a key"));
    assert_eq!(admitted(&jwt(SECRET, "HS256"), &token(&header, &theirs, &claims)).await, None);
    // A critical extension.
    let mut header = Header::new(Alg::HS256);
    header.crit = Some(vec!["b64".into()]);
    assert_eq!(admitted(&jwt(SECRET, "HS256"), &token(&header, &signing(Alg::HS256), &claims)).await, None);
}

// proves: TOK-SEC-02
#[tokio::test]
async fn a_key_set_verifies_by_key_id_and_pinned_algorithm() {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let mut keys = Vec::new();
    for (id, algorithm) in [("one", Alg::ES256), ("two", Alg::RS256), ("three", Alg::EdDSA)] {
        let mut jwk = Jwk::from_encoding_key(&signing(algorithm), algorithm).expect("a key");
        jwk.common.key_id = Some(id.into());
        // A curve implies its algorithm, so these two need not name it.
        jwk.common.key_algorithm = jwk.common.key_algorithm.filter(|_| algorithm == Alg::RS256);
        keys.push(jwk);
    }
    let jwt = jwks(&serde_json::to_string(&JwkSet { keys }).expect("JSON")).expect("usable");
    let cases = [
        (Some("one"), Alg::ES256, true),
        (Some("two"), Alg::RS256, true),
        (Some("three"), Alg::EdDSA, true),
        (None, Alg::RS256, true),
        (Some("two"), Alg::ES256, false),
        (Some("four"), Alg::ES256, false),
        (Some("two"), Alg::PS256, false),
        (None, Alg::HS256, false),
    ];
    for (id, algorithm, expected) in cases {
        let header = Header { kid: id.map(Into::into), ..Header::new(algorithm) };
        let token = token(&header, &signing(algorithm), &json!({ "sub": "alice" }));
        assert_eq!(admitted(&jwt, &token).await.is_some(), expected, "{id:?} {algorithm:?}");
    }
}

#[test]
fn a_key_that_does_not_fit_its_algorithm_is_refused_when_it_is_read() {
    let cases = [
        ("short", Alg::HS256, "at least 32 bytes"),
        (SECRET, Alg::HS384, "at least 48 bytes"),
        (RSA_PUBLIC, Alg::HS256, "shared secret"),
        (RSA, Alg::RS256, "private key"),
        (EC_PUBLIC, Alg::RS256, "RSA public key"),
        (EC_PUBLIC, Alg::ES384, "P-384 public key"),
        (RSA_PUBLIC, Alg::EdDSA, "Ed25519 public key"),
        (SECRET, Alg::RS256, "not a PEM file"),
        ("-----BEGIN PUBLIC KEY-----\nMF", Alg::RS256, "does not end"),
        ("-----BEGIN PUBLIC KEY-----\n**\n-----END PUBLIC KEY-----", Alg::RS256, "not base64"),
        ("-----BEGIN CERTIFICATE-----\nMF==\n-----END CERTIFICATE-----", Alg::RS256, ""),
    ];
    for (content, algorithm, expected) in cases {
        let why = keys::single(content.as_bytes(), algorithm).err().expect("unusable");
        assert!(why.contains(expected), "{algorithm:?}: {why}");
    }
    let sets = [
        ("{}", "missing field `keys`"),
        (r#"{"keys":[]}"#, "no key"),
        (r#"{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}"#, "no key"),
        (r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "none of its keys"),
        (r#"{"keys":[{"kty":"OKP","crv":"Ed448","x":"c2hvcnQ"}]}"#, "crv \"Ed448\""),
        (r#"{"keys":[{"kty":"oct","k":["c2hvcnQ"],"alg":"HS256"}]}"#, "broken"),
        (r#"{"keys":[{"kty":"EC","crv":"P-256","x":"c2hvcnQ","y":7,"kid":"one"}]}"#, "key 1 (\"one\")"),
        (r#"{"keys":[{"kty":"oct","k":"c2hvcnQ","alg":"HS256"}]}"#, "at least 32 bytes"),
        (r#"{"keys":[{"kty":"oct","k":"c2hvcnQ","alg":"RS256"}]}"#, "kty cannot verify"),
    ];
    for (set, expected) in sets {
        let why = jwks(set).err().expect("unusable").to_string();
        assert!(why.contains(expected) && !why.contains("c2hvcnQ"), "{why}");
    }
}

/// Writes a key set file with these members.
fn set_of(members: &[Value]) -> String {
    json!({ "keys": members }).to_string()
}

/// Returns the public key of an algorithm as a member of a key set.
fn member(id: &str, algorithm: Alg) -> Value {
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let mut jwk = Jwk::from_encoding_key(&signing(algorithm), algorithm).expect("a key");
    jwk.common.key_id = Some(id.into());
    serde_json::to_value(jwk).expect("JSON")
}

fn of_issuer(issuer: &str, subject: &str, algorithm: Alg) -> String {
    token(&Header::new(algorithm), &signing(algorithm), &json!({ "iss": issuer, "sub": subject }))
}

// proves: TOK-SEC-02
#[tokio::test]
async fn a_subject_is_a_principal_within_its_issuer() {
    let set = set_of(&[member("a", Alg::ES256), member("b", Alg::EdDSA)]);
    let of = |issuers: &[&str], main: Option<&str>| {
        let issuers = issuers.iter().map(|issuer| (*issuer).to_owned());
        jwks(&set).expect("usable").issuers(issuers).main_issuer(main.map(str::to_owned))
    };
    let (alone, both) = (of(&["a"], None), of(&["a", "b"], None));
    let with_main = of(&["a", "b"], Some("a"));
    let cases = [
        (&alone, "a", "42", Some("42")),
        (&alone, "b", "42", None),
        (&both, "a", "42", Some("a 42")),
        (&both, "b", "42", Some("b 42")),
        (&both, "c", "42", None),
        (&both, "a", "b 42", Some("a b 42")),
        (&with_main, "a", "42", Some("42")),
        (&with_main, "b", "42", Some("b 42")),
        (&with_main, "a", "x y", Some("x y")),
        (&with_main, "a", "b 42", None),
        (&with_main, "a", "a 42", None),
    ];
    for (jwt, issuer, subject, expected) in cases {
        let token = of_issuer(issuer, subject, Alg::ES256);
        assert_eq!(admitted(jwt, &token).await.as_deref(), expected, "{subject} of {issuer}");
    }
    // With several issuers in one token the subject is ambiguous.
    let claims = json!({ "iss": ["a", "b"], "sub": "42" });
    let token = token(&Header::new(Alg::ES256), &signing(Alg::ES256), &claims);
    assert_eq!(admitted(&both, &token).await, None);
}

// proves: TOK-SEC-02
#[tokio::test]
async fn a_key_of_an_issuer_verifies_no_token_of_another() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, algorithm| {
        let path = directory.path().join(name);
        std::fs::write(&path, set_of(&[member(name, algorithm)])).expect("written");
        (name.to_owned(), path)
    };
    let jwt = Jwt::with_jwks_files([file("a", Alg::ES256), file("b", Alg::EdDSA)]).expect("usable");
    let cases = [
        ("a", Alg::ES256, Some("a 42")),
        ("b", Alg::EdDSA, Some("b 42")),
        ("a", Alg::EdDSA, None),
        ("b", Alg::ES256, None),
    ];
    for (issuer, algorithm, expected) in cases {
        let token = of_issuer(issuer, "42", algorithm);
        assert_eq!(admitted(&jwt, &token).await.as_deref(), expected, "{issuer} {algorithm:?}");
    }
}

/// Returns keys from other software that are not supported here.
fn unusable() -> Vec<Value> {
    vec![
        json!({ "kty": "OKP", "crv": "Ed448", "x": "X9dEm1m0Yf0s54fsYWrUah2hNCSFpw4fig6nXYDpZ3jt8SR2m0bHBhvWeD3x5Q9s0foavq_oJWGA" }),
        json!({ "kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA" }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AAAA", "y": "AAAA" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "!", "y": "!" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS4096" }),
        json!({ "kid": "nothing else" }),
        json!("no key at all"),
        json!(null),
    ]
}

// proves: TOK-SEC-02
#[tokio::test]
async fn an_unusable_key_does_not_affect_the_others() {
    for odd in unusable() {
        let jwt = jwks(&set_of(&[odd.clone(), member("a", Alg::ES256)]));
        let jwt = jwt.unwrap_or_else(|error| panic!("{odd}: {error}"));
        assert_eq!(admitted(&jwt, &of_issuer("i", "42", Alg::ES256)).await.as_deref(), Some("42"), "{odd}");
    }
}

// proves: TOK-SEC-02
#[tokio::test(start_paused = true)]
async fn a_removed_key_is_refused_whatever_else_the_set_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.json");
    let write = |members: &[Value]| std::fs::write(&path, set_of(members)).expect("written");
    write(&[member("a", Alg::ES256), member("b", Alg::EdDSA)]);
    let jwt = Jwt::with_jwks_file(&path).expect("usable");
    let (a, b) = (of_issuer("i", "42", Alg::ES256), of_issuer("i", "42", Alg::EdDSA));
    assert!(admitted(&jwt, &a).await.is_some() && admitted(&jwt, &b).await.is_some());

    write(&[unusable(), vec![member("b", Alg::EdDSA)]].concat());
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(admitted(&jwt, &a).await.is_none() && admitted(&jwt, &b).await.is_some());

    // An empty set revokes all keys; a truncated file changes nothing.
    write(&[]);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert_eq!(admitted(&jwt, &b).await, None);
    write(&[member("b", Alg::EdDSA)]);
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(admitted(&jwt, &b).await.is_some());
    std::fs::write(&path, "{\"keys\":[{").expect("written");
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(admitted(&jwt, &b).await.is_some());
}
