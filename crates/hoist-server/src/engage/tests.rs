//! Offset queries that are answered from memory.

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::dialect::{self, Detected, Resource};
use hoist_store::fs::{LocalStore, Options};
use hoist_store::store::Store;
use http::Request;
use http_body_util::{Empty, Full};
use tower_service::Service as _;

use super::*;

const IETF: (&str, &str) = ("upload-draft-interop-version", "8");
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const TOKEN: (&str, &str) = ("upload-token", "abcdef");

/// A request without content.
fn head(method: &str, path: &str, field: Option<(&str, &str)>) -> Parts {
    let request = Request::builder().method(method).uri(path);
    let request = field.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(()).expect("a request").into_parts().0
}

/// Creates an upload with three bytes of content, of which more follow. Returns its id.
async fn created(hoist: &Hoist, fields: &[(&str, &str)]) -> UploadId {
    let request = Request::post("/uploads");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Full::new(Bytes::from_static(b"abc"))).expect("a request");
    let answer = hoist.clone().call(request).await.expect("infallible");
    assert!(answer.status().is_success(), "{}", answer.status());
    let uploads = hoist.shared().store.list_all().await.expect("readable");
    let id = uploads.first().expect("the upload").id;
    for _ in 0..100_000 {
        if hoist.shared().store.recall(id).is_some() {
            break;
        }
        // The writer of a request that has just ended may still be in use.
        hoist.shared().peek(id).await.expect("readable");
        tokio::task::yield_now().await;
    }
    id
}

fn decoded(hoist: &Hoist, head: &Parts, id: UploadId) -> (FamilyFrom, Decoded) {
    let resource = if head.uri.path() == "/uploads" { Resource::Endpoint } else { Resource::Upload(id) };
    match dialect::detect(head, resource, hoist.shared().dialect_options()) {
        Detected::Dialect(dialect) => {
            let decoded = dialect.decode(head, resource, Some(0)).expect("well-formed");
            (FamilyFrom::Dialect, decoded)
        }
        Detected::ByUpload => {
            let subject = Subject::Id(id);
            let family = Family::Conventional;
            (FamilyFrom::Upload, Decoded { subject, family, operation: Operation::Retrieve })
        }
        _ => panic!("in no dialect"),
    }
}

async fn from_memory(hoist: &Hoist, head: &Parts, id: UploadId) -> Option<(Family, Reply)> {
    let (family_from, decoded) = decoded(hoist, head, id);
    let mut admitted = hoist.shared().admit(decoded, head, RequestScope::default()).await.expect("admitted");
    hoist.shared().answer_from_memory(&mut admitted, family_from)
}

async fn with_claim(hoist: &Hoist, head: &Parts, id: UploadId) -> (Family, Decision) {
    let (family_from, decoded) = decoded(hoist, head, id);
    let admitted = hoist.shared().admit(decoded, head, RequestScope::default()).await.expect("admitted");
    let engaged = hoist.engage(family_from, admitted, &head.method, &mut Empty::<Bytes>::new()).await;
    match engaged.expect("decided") {
        Engaged::Claimed(claimed) => (claimed.request.family, claimed.decision),
        Engaged::Answered(..) => panic!("another request keeps the claim"),
    }
}

#[tokio::test]
async fn an_offset_query_is_answered_from_memory_as_with_a_claim() {
    let ietf: &[_] = &[IETF, ("upload-complete", "?0")];
    let tus = &[TUS, ("upload-length", "9"), ("content-type", "application/offset+octet-stream")];
    let token = &[TOKEN, ("upload-complete", "?0")];
    for (creation, named) in
        [(ietf, Some(IETF)), (ietf, None), (tus, Some(TUS)), (tus, None), (token, Some(TOKEN))]
    {
        let directory = tempfile::tempdir().expect("a directory");
        let store = LocalStore::open(directory.path(), &Options::default()).expect("opens");
        let hoist = Hoist::builder(Arc::new(store) as Arc<dyn Store>).build();
        let id = created(&hoist, creation).await;
        let path = if named == Some(TOKEN) { "/uploads".to_owned() } else { format!("/uploads/{id}") };
        let query = head("HEAD", &path, named);
        let (family, reply) = from_memory(&hoist, &query, id).await.expect("in memory");
        assert!(
            matches!(&reply, Reply::State { state, .. } if state.offset.offset().get() == 3),
            "{reply:?}"
        );
        assert_eq!(with_claim(&hoist, &query, id).await, (family, Decision::Answer(reply)));

        // Any claim may belong to a request that changes the upload.
        let claim = hoist.shared().claims.take_unwanted(id).expect("idle");
        assert!(from_memory(&hoist, &query, id).await.is_none());
        drop(claim);
        assert!(from_memory(&hoist, &query, id).await.is_some());
        // Refusals and changes are left to the request that holds the claim.
        if named.is_some() {
            let cancel = head("DELETE", &path, named);
            assert!(from_memory(&hoist, &cancel, id).await.is_none());
            assert!(from_memory(&hoist, &query, id).await.is_some(), "it is not cancelled");
        }
        let other = if creation.contains(&TUS) { IETF } else { TUS };
        let of_other_family = head("HEAD", &format!("/uploads/{id}"), Some(other));
        assert!(from_memory(&hoist, &of_other_family, id).await.is_none());
    }
}
