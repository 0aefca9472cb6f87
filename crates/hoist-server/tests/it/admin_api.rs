//! The admin API below `/v1`: its routes, their errors, and the stream of events.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hoist_server::admin::{Admin, Host, Reloaded, SettingInForce};
use hoist_server::observe::Metrics;
use hoist_server::operator::AdmissionMode;
use hoist_server::{Answer, Hoist};
use hoist_store::memory::MemoryStore;
use hoist_store::store::BoxFuture;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower_service::Service as _;

use crate::giving_way::DIALECTS;
use crate::harness::{Content, Ends, Got, SOON, collect, hoist, request, send};

/// A program whose next reload has a scripted outcome.
struct Scripted(Mutex<Result<Reloaded, Vec<String>>>);

impl Host for Scripted {
    fn config(&self) -> Vec<SettingInForce> {
        let set = SettingInForce {
            name: "listen".to_owned(),
            values: Some(vec!["[::1]:1".to_owned()]),
            source: Some("default".to_owned()),
        };
        vec![set, SettingInForce { name: "tls-key".to_owned(), values: None, source: None }]
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, Vec<String>>> {
        let outcome = self.0.lock().expect("not poisoned").clone();
        Box::pin(std::future::ready(outcome))
    }
}

fn admin(hoist: &Hoist) -> Admin {
    admin_service(hoist).host(Arc::new(Scripted(Mutex::new(Ok(Reloaded::default())))))
}

async fn call(admin: &Admin, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut asked = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        asked = asked.header(*name, *value);
    }
    let asked = asked.body(Content::sized(body)).expect("a request");
    let answer = admin.clone().call(asked);
    tokio::time::timeout(SOON, answer).await.expect("an answer in time").expect("infallible")
}

async fn ask(admin: &Admin, method: &str, path: &str) -> Got {
    collect(call(admin, method, path, &[], b"").await).await
}

async fn ask_json(admin: &Admin, method: &str, path: &str) -> Value {
    let got = ask(admin, method, path).await;
    assert_eq!(got.status.as_u16(), 200, "{method} {path}: {got:?}");
    assert_eq!(
        (got.field("content-type"), got.field("cache-control")),
        (Some("application/json"), Some("no-store"))
    );
    serde_json::from_slice(&got.content).expect("JSON")
}

fn require_problem(got: &Got, status: u16, what: &str) -> Value {
    assert_eq!(got.status.as_u16(), status, "{what}: {got:?}");
    assert_eq!(got.field("content-type"), Some("application/problem+json"), "{what}");
    let document: Value = serde_json::from_slice(&got.content).expect("a problem document");
    assert_eq!(document["status"], status, "{what}");
    assert!(document["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{what}: {document}");
    document
}

async fn unfinished(hoist: &Hoist, token: &str) {
    let content = Content::new(b"abc", 1, Ends::Cut, Some(9));
    send(hoist, request("POST", &[("upload-token", token)], content)).await;
}

#[tokio::test]
async fn uploads_are_listed_in_pages_and_shown() {
    let hoist = hoist(&MemoryStore::new());
    let admin = admin(&hoist);
    assert_eq!(ask_json(&admin, "GET", "/v1/uploads").await, json!({ "uploads": [], "next": null }));
    for number in 0..5 {
        unfinished(&hoist, &format!("token-{number}")).await;
    }
    let (mut path, mut ids) = ("/v1/uploads?limit=2&state=open".to_owned(), Vec::new());
    loop {
        let page = ask_json(&admin, "GET", &path).await;
        for upload in page["uploads"].as_array().expect("a list") {
            assert_eq!(
                (&upload["state"], &upload["offset"], &upload["length"]),
                (&json!("open"), &json!(3), &json!(9))
            );
            assert_eq!((&upload["dialect"], &upload["path"]), (&json!("upload-token"), &Value::Null));
            ids.push(upload["id"].as_str().expect("text").to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/uploads?limit=2&state=open&cursor={next}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let shown = ask_json(&admin, "GET", &format!("/v1/uploads/{}", ids[0])).await;
    assert_eq!(
        (&shown["id"], &shown["transfer"], &shown["resumes"]),
        (&json!(ids[0]), &Value::Null, &json!(0))
    );
    let none = ask_json(&admin, "GET", "/v1/uploads?owner=anna+b%C3%A4r&age=0").await;
    assert_eq!(none["uploads"], json!([]));
}

#[tokio::test]
async fn a_transfer_is_shown_and_ended_and_its_upload_deleted() {
    let hoist = hoist(&MemoryStore::new());
    let admin = admin(&hoist);
    let running = DIALECTS[1].append(&hoist).await;
    let listed = ask_json(&admin, "GET", "/v1/uploads?state=transferring").await;
    let upload = &listed["uploads"][0];
    assert_eq!((&upload["transfer"]["bytes"], &upload["kind"]), (&json!(100), &json!("single")));
    let path = format!("/v1/uploads/{}", upload["id"].as_str().expect("text"));
    assert!(running.path.ends_with(upload["path"].as_str().expect("a path")), "{upload} at {}", running.path);
    let ended = ask_json(&admin, "POST", &format!("{path}/end")).await;
    assert_eq!((&ended["offset"], &ended["transfer"]), (&json!(100), &Value::Null));
    assert!(running.frames.is_closed());
    require_problem(&ask(&admin, "POST", &format!("{path}/end")).await, 409, "no transfer runs");
    require_problem(&ask(&admin, "POST", &format!("{path}/redeliver")).await, 409, "not complete");
    let deleted = ask(&admin, "DELETE", &path).await;
    assert_eq!((deleted.status.as_u16(), deleted.content.len()), (204, 0));
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("POST", format!("{path}/end")),
        ("POST", format!("{path}/expire")),
        ("POST", format!("{path}/redeliver")),
    ] {
        require_problem(&ask(&admin, method, &path).await, 404, &path);
    }
}

#[tokio::test]
async fn an_upload_is_expired() {
    let hoist = hoist(&MemoryStore::new());
    let admin = admin(&hoist);
    unfinished(&hoist, "abcdef").await;
    let listed = ask_json(&admin, "GET", "/v1/uploads").await;
    let id = listed["uploads"][0]["id"].as_str().expect("text");
    assert_eq!(ask(&admin, "POST", &format!("/v1/uploads/{id}/expire")).await.status.as_u16(), 204);
    let swept = ask_json(&admin, "POST", "/v1/sweep?dry-run").await;
    assert_eq!(swept, json!({ "dry_run": true, "seen": 0, "removed": 0, "delivered": 0 }));
    assert_eq!(ask_json(&admin, "POST", "/v1/sweep").await["dry_run"], false);
}

#[tokio::test]
async fn the_admission_mode_is_shown_and_changed() {
    let hoist = hoist(&MemoryStore::new());
    let admin = admin(&hoist);
    assert_eq!(ask_json(&admin, "GET", "/v1/admission").await, json!({ "mode": "open" }));
    let json_type = [("content-type", "application/json; charset=utf-8")];
    let set =
        async |body: &[u8]| collect(call(&admin, "POST", "/v1/admission", &json_type, body).await).await;
    let got = set(b"{\"mode\": \"resume-only\"}").await;
    let changed: Value = serde_json::from_slice(&got.content).expect("JSON");
    assert_eq!(changed, json!({ "mode": "resume-only", "previous": "open" }));
    assert_eq!(hoist.operator().admission_mode(), AdmissionMode::ResumeOnly);
    let long = format!("{{\"mode\": \"open\"{}}}", " ".repeat(5000));
    let bad: [(&[u8], u16); 9] = [
        (b"", 400),
        (b"open", 400),
        (b"{}", 400),
        (b"[\"open\"]", 400),
        (b"{\"mode\": \"shut\"}", 400),
        (b"{\"mode\": null}", 400),
        (b"{\"mode\": \"open\", \"why\": 1}", 400),
        (b"\xff", 400),
        (long.as_bytes(), 413),
    ];
    for (body, status) in bad {
        require_problem(&set(body).await, status, &String::from_utf8_lossy(body));
    }
    let plain = call(&admin, "POST", "/v1/admission", &[], b"{\"mode\": \"open\"}").await;
    require_problem(&collect(plain).await, 415, "without a type");
    // Nothing of that changed it.
    assert_eq!(hoist.operator().admission_mode(), AdmissionMode::ResumeOnly);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_and_says_why() {
    let hoist = hoist(&MemoryStore::new());
    let admin = admin(&hoist);
    for (path, expected) in [
        ("/v1/uploads?limit=0", "1 to 1000"),
        ("/v1/uploads?limit=1001", "1 to 1000"),
        ("/v1/uploads?limit=99999999999999999999", "1 to 1000"),
        ("/v1/uploads?limit=%2B1", "1 to 1000"),
        ("/v1/uploads?limit=1&limit=2", "twice"),
        ("/v1/uploads?state=done", "transferring, open"),
        ("/v1/uploads?state=", "transferring, open"),
        ("/v1/uploads?age=1h", "seconds"),
        ("/v1/uploads?owner=", "no such value"),
        ("/v1/uploads?cursor=x", "next"),
        ("/v1/uploads?cursor=o~", "next"),
        ("/v1/uploads?state=open&cursor=t00000000000000000000000000", "cursor"),
        ("/v1/uploads?states=open", "state, owner, age"),
        ("/v1/uploads?%ff=1", "UTF-8"),
        ("/v1/admission?mode=open", "none"),
    ] {
        let problem = require_problem(&ask(&admin, "GET", path).await, 400, path);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains(expected)),
            "{path}: {problem}"
        );
    }
    require_problem(&ask(&admin, "POST", "/v1/sweep?dry-run=maybe").await, 400, "dry-run");
    for path in ["/v1/uploads/abc", "/v1/uploads/../x", "/v1/upload", "/v1", "/v1/uploads/abc/start"] {
        require_problem(&ask(&admin, "GET", path).await, 404, path);
    }
    for (method, path, allow) in [
        ("POST", "/v1/uploads", "GET, HEAD"),
        ("PUT", "/v1/admission", "GET, HEAD, POST"),
        ("GET", "/v1/sweep", "POST"),
        ("HEAD", "/v1/live", "GET"),
        ("PATCH", "/v1/uploads/00000000000000000000000000", "GET, HEAD, DELETE"),
    ] {
        let got = ask(&admin, method, path).await;
        require_problem(&got, 405, path);
        assert_eq!(got.field("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn the_program_around_the_endpoint_is_asked_for_its_configuration() {
    let hoist = hoist(&MemoryStore::new());
    let alone = admin_service(&hoist);
    for (method, path) in [("GET", "/v1/config"), ("POST", "/v1/reload")] {
        require_problem(&ask(&alone, method, path).await, 404, path);
    }
    let reloaded = Reloaded { applied: vec!["max-size 1 -> 2".to_owned()], ..Reloaded::default() };
    let program = Arc::new(Scripted(Mutex::new(Ok(reloaded))));
    let admin = admin_service(&hoist).host(program.clone());
    let config = ask_json(&admin, "GET", "/v1/config").await;
    assert_eq!(
        config["settings"][0],
        json!({ "name": "listen", "values": ["[::1]:1"], "source": "default" })
    );
    assert_eq!(config["settings"][1], json!({ "name": "tls-key", "values": null, "source": null }));
    let expected = json!({ "applied": ["max-size 1 -> 2"], "postponed": [], "warnings": [] });
    assert_eq!(ask_json(&admin, "POST", "/v1/reload").await, expected);
    *program.0.lock().expect("not poisoned") = Err(vec!["max-size: no size".to_owned()]);
    let problem = require_problem(&ask(&admin, "POST", "/v1/reload").await, 409, "reload");
    assert_eq!(problem["problems"], json!(["max-size: no size"]));
}

#[tokio::test]
async fn the_document_describes_the_service() {
    let hoist = hoist(&MemoryStore::new());
    let document = ask_json(&admin(&hoist), "GET", "/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    // Each described operation is one that the service has: 404 is for the upload, 405 for none.
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{id}", "00000000000000000000000000");
            let answer = call(&admin(&hoist), &method.to_uppercase(), &path, &[], b"").await;
            assert_ne!(answer.status().as_u16(), 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn events_are_streamed_until_the_server_shuts_down() {
    let hoist = hoist(&MemoryStore::new());
    let answer = call(&admin(&hoist), "GET", "/v1/live", &[], b"").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    assert!(!http_body::Body::is_end_stream(&body));
    let mut next = async || -> Option<Bytes> {
        let frame = tokio::time::timeout(SOON, body.frame()).await.expect("in time")?;
        Some(frame.expect("no error").into_data().expect("data"))
    };
    assert_eq!(
        next().await.as_deref(),
        Some(&b"event: transfers\ndata: {\"count\":0,\"transfers\":[]}\n\n"[..])
    );
    unfinished(&hoist, "abcdef").await;
    let mut seen = Vec::new();
    while !seen.contains(&"interrupted".to_owned()) {
        let event = next().await.expect("more");
        let text = String::from_utf8(event.to_vec()).expect("text");
        let (name, data) = text.split_once('\n').expect("two lines");
        let data: Value =
            serde_json::from_str(data.trim().strip_prefix("data: ").expect("data")).expect("JSON");
        let name = name.strip_prefix("event: ").expect("a name");
        assert!(name == "transfers" || data["upload"]["dialect"] == "upload-token", "{data}");
        seen.push(name.to_owned());
    }
    assert!(seen.contains(&"created".to_owned()), "{seen:?}");
    hoist.drain().await;
    while next().await.is_some() {}
}

/// Returns the admin service of an endpoint.
fn admin_service(hoist: &Hoist) -> Admin {
    Admin::new(hoist.clone(), Metrics::new("1.2.3"))
}
