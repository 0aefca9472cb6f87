//! Principals of several issuers: equal subjects are different principals, and adding an issuer changes no owner.

use std::sync::Arc;

use hoist_server::auth::jwt::Jwt;
use hoist_server::{Hoist, Settings};
use hoist_store::memory::MemoryStore;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

use crate::harness::{Content, request, request_to, send};

/// Returns the 32 octet secret of an issuer.
fn secret(issuer: &str) -> Vec<u8> {
    issuer.repeat(32).into_bytes()
}

fn member(issuer: &str) -> serde_json::Value {
    // Three octets of one letter give the same four Base64 digits each time; the last two octets are written out.
    let (digits, rest) = if issuer == "a" { ("YWFh", "YWE") } else { ("YmJi", "YmI") };
    json!({ "kty": "oct", "alg": "HS256", "kid": issuer, "k": digits.repeat(10) + rest })
}

fn bearer(issuer: &str) -> String {
    let claims = json!({ "iss": issuer, "sub": "42", "exp": get_current_timestamp() + 3600 });
    let key = EncodingKey::from_secret(&secret(issuer));
    format!("Bearer {}", encode(&Header::new(Algorithm::HS256), &claims, &key).expect("signed"))
}

/// Starts a server with these issuers on the store of an earlier one.
fn restarted(store: &MemoryStore, issuers: &[&str], main: Option<&str>) -> Hoist {
    store.crash();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.json");
    let set = json!({ "keys": [member("a"), member("b")] });
    std::fs::write(&path, set.to_string()).expect("written");
    let jwt = Jwt::with_jwks_file(&path).expect("usable");
    let jwt = jwt.issuers(issuers.iter().map(ToString::to_string)).main_issuer(main.map(str::to_owned));
    let settings = Settings { downloads: true, ..Settings::default() };
    Hoist::builder(Arc::new(store.clone())).auth(Arc::new(jwt)).settings(settings).build()
}

async fn fetched(hoist: &Hoist, location: &str, issuer: &str) -> u16 {
    let bearer = bearer(issuer);
    let fields = [("authorization", bearer.as_str())];
    send(hoist, request_to(location, "GET", &fields, Content::none())).await.status.as_u16()
}

// proves: TOK-SEC-02
#[tokio::test]
async fn equal_subjects_of_two_issuers_do_not_see_each_others_uploads() {
    let store = MemoryStore::new();
    let alone = restarted(&store, &["a"], None);
    let bearer = bearer("a");
    let got =
        send(&alone, request("POST", &[("authorization", bearer.as_str())], Content::sized(b"x"))).await;
    let earlier = got.field("location").expect("an upload").to_owned();
    assert_eq!(fetched(&alone, &earlier, "a").await, 200);
    assert_eq!(
        fetched(&alone, &earlier, "b").await,
        401,
        "the issuer is unknown, and the response does not reveal the upload"
    );

    let both = restarted(&store, &["a", "b"], None);
    let got = send(&both, request("POST", &[("authorization", bearer.as_str())], Content::sized(b"x"))).await;
    let location = got.field("location").expect("an upload").to_owned();
    assert_eq!(fetched(&both, &location, "a").await, 200);
    assert_eq!(fetched(&both, &location, "b").await, 404);
    assert_eq!(fetched(&both, &earlier, "a").await, 404, "the earlier principal has another name now");

    let kept = restarted(&store, &["a", "b"], Some("a"));
    assert_eq!(fetched(&kept, &earlier, "a").await, 200, "unless its issuer is the main one");
    assert_eq!(fetched(&kept, &earlier, "b").await, 404);
}
