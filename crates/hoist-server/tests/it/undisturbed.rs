//! A request that is refused in every state of its upload does not end a running transfer.

use std::sync::Arc;

use hoist_proto::policy::{Limits, Policy};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::Principal;
use hoist_server::auth::Authenticator;
use hoist_server::{Hoist, Settings};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Store};
use http::request::Parts;

use crate::giving_way::{DIALECTS, Dialect, LENGTH, Running};
use crate::harness::{Content, request_to, send};

/// Trusts the name in the request.
pub(crate) struct Named;

impl Authenticator for Named {
    fn admit<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Option<Principal>, Refusal>> {
        let name = head.headers.get("x-name").map(|name| name.to_str().expect("visible ASCII"));
        Box::pin(std::future::ready(match name {
            Some("nobody") => Err(Reason::Unauthorized { challenge: "Bearer" }.into()),
            Some(name) => Ok(Some(Principal::new(name))),
            None => Ok(None),
        }))
    }
}

fn serve(downloads: bool) -> Hoist {
    let limits = Limits { size_max: Some(6000), append_max: Some(5500), append_min: 1, ..Limits::default() };
    let policy = Policy { limits, ..Policy::default() };
    let store = Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    let settings = Settings { downloads, ..Settings::default() };
    Hoist::builder(store).auth(Arc::new(Named)).policy(policy).settings(settings).build()
}

type Fields = &'static [(&'static str, &'static str)];

/// A refused request and its status. `own` adds the fields of the upload's dialect.
struct Refused {
    method: &'static str,
    own: bool,
    fields: Fields,
    bytes: usize,
    status: u16,
}

const fn bare(method: &'static str, fields: Fields, status: u16) -> Refused {
    Refused { method, own: false, fields, bytes: 0, status }
}

const fn own(method: &'static str, fields: Fields, status: u16) -> Refused {
    Refused { method, own: true, fields, bytes: 0, status }
}

const fn append(fields: Fields, bytes: usize, status: u16) -> Refused {
    Refused { method: "PATCH", own: true, fields, bytes, status }
}

const V6: (&str, &str) = ("upload-draft-interop-version", "6");
const V8: (&str, &str) = ("upload-draft-interop-version", "8");
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const AT_0: (&str, &str) = ("upload-offset", "0");
const PARTIAL: (&str, &str) = ("content-type", "application/partial-upload");
const OCTETS: (&str, &str) = ("content-type", "application/offset+octet-stream");
const MORE: (&str, &str) = ("upload-complete", "?0");
const LAST: (&str, &str) = ("upload-complete", "?1");

/// Requests that a client of any dialect may send to the URL of an upload of any dialect.
const ON_A_URL: &[Refused] = &[
    bare("POST", &[], 405),
    bare("PUT", &[], 405),
    bare("PATCH", &[], 415),
    bare("PATCH", &[OCTETS, AT_0], 412),
    bare("DELETE", &[("x-name", "nobody")], 401),
    bare("HEAD", &[("x-name", "nobody")], 401),
    bare("DELETE", &[("x-name", "ben")], 404),
    bare("GET", &[("x-name", "ben")], 404),
    bare("HEAD", &[("x-name", "ben")], 404),
    bare("HEAD", &[("tus-resumable", "0.2.2")], 412),
    bare("DELETE", &[("tus-resumable", "0.2.2")], 412),
    own("HEAD", &[("x-name", "nobody")], 401),
    own("HEAD", &[("x-name", "ben")], 404),
    own("DELETE", &[("x-name", "ben")], 404),
    own("POST", &[("x-http-method-override", "BREW")], 405),
];

const ON_TOKEN: &[Refused] = &[
    own("GET", &[], 405),
    own("HEAD", &[AT_0], 400),
    own("DELETE", &[AT_0], 400),
    own("HEAD", &[("upload-index", "x")], 400),
    own("PATCH", &[], 400),
    own("PATCH", &[("upload-offset", "-1")], 400),
    own("POST", &[], 409),
    own("HEAD", &[("x-name", "nobody")], 401),
    own("HEAD", &[("x-name", "ben")], 404),
    own("HEAD", &[("upload-index", "0")], 409),
    append(&[AT_0], 5501, 413),
    append(&[("upload-offset", "5500")], 501, 413),
    append(&[AT_0, ("upload-length", "6001")], 10, 413),
];

const ON_IETF: &[Refused] = &[
    own("POST", &[], 405),
    bare("HEAD", &[V6, AT_0], 400),
    bare("DELETE", &[V6, LAST], 400),
    own("PATCH", &[AT_0, LAST], 415),
    append(&[PARTIAL, LAST], 1, 400),
    append(&[PARTIAL, AT_0, LAST], 5501, 413),
    append(&[PARTIAL, ("upload-offset", "5500"), LAST], 501, 413),
    append(&[PARTIAL, AT_0, MORE], 0, 400),
    bare("HEAD", &[TUS], 404),
    bare("DELETE", &[TUS], 404),
    bare("PATCH", &[TUS, OCTETS, AT_0], 404),
];

const ON_TUS: &[Refused] = &[
    bare("GET", &[], 405),
    bare("DELETE", &[], 412),
    own("GET", &[], 405),
    own("PUT", &[], 405),
    own("PATCH", &[AT_0], 415),
    own("PATCH", &[OCTETS], 400),
    append(&[OCTETS, AT_0], 5501, 413),
    append(&[OCTETS, AT_0, ("upload-length", "6001")], 1, 413),
    append(&[OCTETS, AT_0, ("upload-checksum", "md9 AAAA")], 1, 400),
    bare("HEAD", &[V8], 404),
    bare("DELETE", &[V8], 404),
    bare("PATCH", &[V8, PARTIAL, AT_0, LAST], 404),
];

async fn require_undisturbed(dialect: &Dialect, tables: &[&[Refused]], downloads: bool) {
    let hoist = serve(downloads);
    let running = dialect.append(&hoist).await;
    let mut fed = 100;
    for refused in tables.iter().copied().flatten() {
        let Refused { method, own, fields, bytes, status } = refused;
        let mut all = fields.to_vec();
        if *own {
            all.extend_from_slice(dialect.every);
        }
        let content = Content::sized(&vec![b'y'; *bytes]);
        let got = send(&hoist, request_to(&running.path, method, &all, content)).await;
        let what = format!("{method} {all:?} with {bytes} bytes, downloads: {downloads}");
        assert_eq!(got.status.as_u16(), *status, "{what}: {got:?}");
        running.feed(1);
        running.all_read().await;
        assert!(!running.frames.is_closed(), "{what} ended the transfer");
        fed += 100;
        assert!(fed < LENGTH, "the upload is too short for this table");
    }
    let Running { frames, answer, .. } = running;
    for _ in (fed..LENGTH).step_by(100) {
        frames.send(bytes::Bytes::from_static(&[b'x'; 100])).await.expect("it is read");
    }
    drop(frames);
    let answer = answer.await.expect("no panic");
    assert!(answer.status().is_success(), "{:?}", answer.status());
}

#[tokio::test]
async fn a_refused_request_ends_no_transfer() {
    let [token, ietf, tus] = &DIALECTS;
    for downloads in [false, true] {
        require_undisturbed(token, &[ON_TOKEN], downloads).await;
        require_undisturbed(ietf, &[ON_A_URL, ON_IETF], downloads).await;
        require_undisturbed(tus, &[ON_A_URL, ON_TUS], downloads).await;
    }
}

#[tokio::test]
async fn a_download_of_a_running_upload_is_refused_and_ends_no_transfer() {
    let fetch = [bare("GET", &[], 403)];
    require_undisturbed(&DIALECTS[1], &[&fetch], true).await;
}
