//! The operator's handle: uploads are listed and shown without disturbing them, ended, removed and delivered again.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hoist_proto::policy::Policy;
use hoist_proto::types::{Length, Principal, UploadId};
use hoist_proto::upload::TargetResponse;
use hoist_server::operator::{
    Cursor, Filter, LiveEvent, Operator, OperatorError, Parts, Redelivered, StateFilter, UploadKind,
    UploadState,
};
use hoist_server::targets::{Delivery, Representation, Target};
use hoist_server::{Hoist, Swept};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{BoxFuture, Error, Store};
use http::StatusCode;

use crate::clocks::Clocks;
use crate::giving_way::{DIALECTS, LENGTH};
use crate::harness::{Content, Ends, SOON, hoist, request, request_to, send};

const V8: (&str, &str) = ("upload-draft-interop-version", "8");
const MORE: (&str, &str) = ("upload-complete", "?0");
const LAST: (&str, &str) = ("upload-complete", "?1");

fn token(number: usize) -> String {
    format!("token-{number:04}")
}

/// Creates an upload of 9 bytes, of which 3 arrive.
async fn unfinished(hoist: &Hoist, token: &str) {
    let content = Content::new(b"abc", 1, Ends::Cut, Some(9));
    let got = send(hoist, request("POST", &[("upload-token", token)], content)).await;
    assert_eq!(got.offset(), Some(3), "{got:?}");
}

async fn complete(hoist: &Hoist, token: &str) {
    let got = send(hoist, request("POST", &[("upload-token", token)], Content::sized(b"abc"))).await;
    assert!(got.status.is_success(), "{got:?}");
}

/// Lists all pages, of at most `most` uploads each.
async fn list(operator: &Operator, filter: &Filter, most: usize) -> Vec<(UploadId, UploadState)> {
    let (mut cursor, mut listed): (Option<Cursor>, _) = (None, Vec::new());
    for _ in 0..1000 {
        let page = operator.list(filter, cursor.as_ref(), most).await.expect("readable");
        assert!(page.uploads.len() <= most);
        listed.extend(page.uploads.iter().map(|view| (view.id, view.state)));
        match page.next {
            // Through its text, as an HTTP client would.
            Some(next) => cursor = Some(next.to_string().parse().expect("a cursor")),
            None => return listed,
        }
    }
    panic!("the pages never end");
}

async fn only(operator: &Operator) -> UploadId {
    let listed = list(operator, &Filter::default(), 10).await;
    let [(id, _)] = listed[..] else { panic!("{listed:?}") };
    id
}

#[tokio::test]
async fn each_upload_is_listed_once_in_pages_of_any_size() {
    let hoist = hoist(&MemoryStore::new());
    for number in 0..20 {
        unfinished(&hoist, &token(number)).await;
        complete(&hoist, &token(100 + number)).await;
    }
    let operator = hoist.operator();
    for most in [1, 7, 20, 40, 1000] {
        let listed = list(&operator, &Filter::default(), most).await;
        let distinct: HashSet<_> = listed.iter().map(|(id, _)| *id).collect();
        assert_eq!((listed.len(), distinct.len()), (40, 40), "pages of {most}");
    }
    for (state, count) in [
        (StateFilter::Open, 20),
        (StateFilter::Complete, 20),
        (StateFilter::Received, 0),
        (StateFilter::Failed, 0),
        (StateFilter::Transferring, 0),
    ] {
        let mut filter = Filter::default();
        filter.state = Some(state);
        let listed = list(&operator, &filter, 6).await;
        assert_eq!(listed.len(), count, "{}", state.name());
        assert!(listed.iter().all(|(_, listed)| listed.name() == state.name()));
    }
}

#[tokio::test]
async fn uploads_are_listed_by_their_owner_and_age() {
    let (store, clocks) = (MemoryStore::new(), Clocks::starting_at(1_700_000_000));
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>)
        .auth(Arc::new(crate::undisturbed::Named))
        .clocks(clocks.clone())
        .build();
    for (name, number) in [("anna", 1), ("ben", 2), ("anna", 3)] {
        let token = token(number);
        let fields = [("upload-token", token.as_str()), ("x-name", name)];
        send(&hoist, request("POST", &fields, Content::new(b"abc", 1, Ends::Cut, Some(9)))).await;
        clocks.pass(60);
    }
    let operator = hoist.operator();
    for (owner, age_s, count) in [
        (None, 0, 3),
        (Some("anna"), 0, 2),
        (Some("ben"), 0, 1),
        (Some("carl"), 0, 0),
        (None, 60, 3),
        (None, 61, 2),
        (None, 180, 1),
        (Some("ben"), 180, 0),
        (None, 181, 0),
    ] {
        let mut filter = Filter::default();
        filter.owner = owner.map(Principal::new);
        filter.age_min = Some(Duration::from_secs(age_s));
        assert_eq!(list(&operator, &filter, 10).await.len(), count, "{owner:?}, {age_s} s");
    }
}

#[tokio::test]
async fn a_cursor_that_does_not_fit_is_refused() {
    let hoist = hoist(&MemoryStore::new());
    let operator = hoist.operator();
    let mut transferring = Filter::default();
    transferring.state = Some(StateFilter::Transferring);
    let of_transfers = format!("t{}", UploadId::from_bits([1; 16]));
    for (filter, cursor) in
        [(&Filter::default(), of_transfers.as_str()), (&transferring, "o"), (&Filter::default(), "oxyz")]
    {
        let cursor = cursor.parse().expect("a cursor");
        let refused = operator.list(filter, Some(&cursor), 10).await;
        assert!(matches!(refused, Err(OperatorError::BadCursor)), "{cursor}: {refused:?}");
    }
}

#[tokio::test]
async fn a_running_transfer_is_seen_and_not_disturbed() {
    for dialect in &DIALECTS {
        let hoist = hoist(&MemoryStore::new());
        let operator = hoist.operator();
        let running = dialect.append(&hoist).await;
        let id = only(&operator).await;
        let mut filter = Filter::default();
        filter.state = Some(StateFilter::Transferring);
        for _ in 0..3 {
            assert_eq!(list(&operator, &filter, 1).await, [(id, UploadState::Open)]);
            let details = operator.show(id).await.expect("it exists");
            let transfer = details.view.transfer.expect("one runs");
            assert_eq!((transfer.bytes, details.view.length.map(Length::get)), (100, Some(5000)));
            let page = operator.list(&Filter::default(), None, 10).await.expect("readable");
            assert_eq!(page.uploads[0].transfer.as_ref().map(|transfer| transfer.bytes), Some(100));
            assert_eq!(operator.sweep_dry().await.expect("readable").seen, 1);
        }
        assert_eq!(operator.transfers(10).1, 1);
        assert!(!running.frames.is_closed(), "the transfer continues");
    }
}

#[tokio::test]
async fn an_ended_transfer_keeps_its_bytes_and_can_be_resumed() {
    for dialect in &DIALECTS {
        let hoist = hoist(&MemoryStore::new());
        let operator = hoist.operator();
        let running = dialect.append(&hoist).await;
        running.feed(5);
        let id = only(&operator).await;
        let ended = tokio::time::timeout(SOON, operator.end(id)).await.expect("in time").expect("one runs");
        assert_eq!((ended.view.offset.get(), ended.view.transfer), (600, None));
        assert!(running.frames.is_closed());
        let answer = running.answer.await.expect("no panic");
        assert_eq!(answer.status().as_u16(), 503);
        assert!(answer.headers().contains_key("retry-after"), "{:?}", answer.headers());
        let again = operator.end(id).await;
        assert!(matches!(again, Err(OperatorError::WrongState(_))), "{again:?}");
        assert_eq!(dialect.offset(&hoist, &running.path).await, Some(600));
        let rest = vec![b'x'; LENGTH - 600];
        let mut fields = dialect.append_fields();
        fields.iter_mut().filter(|(name, _)| *name == "upload-offset").for_each(|field| field.1 = "600");
        let got = send(&hoist, request_to(&running.path, "PATCH", &fields, Content::sized(&rest))).await;
        assert!(got.status.is_success(), "{got:?}");
        let details = operator.show(id).await.expect("it exists");
        assert_eq!((details.view.state, details.resumes), (UploadState::Complete, 1));
    }
}

#[tokio::test]
async fn a_transfer_that_no_client_could_resume_is_not_ended() {
    let hoist = hoist(&MemoryStore::new());
    let operator = hoist.operator();
    let (content, read) = Content::new(b"abc", 1, Ends::Never, Some(9)).watched();
    let sending = send(&hoist, request_to("/uploads", "POST", &[], content));
    let mut sending = Box::pin(sending);
    tokio::select! {
        got = &mut sending => panic!("{got:?}"),
        read = read => read.expect("it is read"),
    }
    let id = only(&operator).await;
    let refused = operator.end(id).await;
    assert!(matches!(refused, Err(OperatorError::WrongState(_))), "{refused:?}");
    operator.delete(id).await.expect("deleted");
    assert!(list(&operator, &Filter::default(), 10).await.is_empty());
}

#[tokio::test]
async fn a_deleted_upload_is_gone_and_its_transfer_ends() {
    for dialect in &DIALECTS {
        for expires in [false, true] {
            let hoist = hoist(&MemoryStore::new());
            let operator = hoist.operator();
            let running = dialect.append(&hoist).await;
            let id = only(&operator).await;
            let removed =
                async { if expires { operator.expire(id).await } else { operator.delete(id).await } };
            tokio::time::timeout(SOON, removed).await.expect("in time").expect("removed");
            assert!(running.frames.is_closed());
            assert_eq!(dialect.offset(&hoist, &running.path).await, None);
            for gone in
                [operator.delete(id).await, operator.expire(id).await, operator.show(id).await.map(drop)]
            {
                assert!(matches!(gone, Err(OperatorError::NoSuchUpload)), "{gone:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_upload_is_deleted_with_its_parts() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let operator = hoist.operator();
    for index in ["0", "1"] {
        let fields = [("upload-token", "in-parts"), ("upload-index", index)];
        send(&hoist, request("POST", &fields, Content::sized(b"abc"))).await;
    }
    let page = operator.list(&Filter::default(), None, 10).await.expect("readable");
    let whole = page.uploads.iter().find(|view| view.kind == UploadKind::Whole).expect("the whole").id;
    assert_eq!(page.uploads.iter().filter(|view| view.kind == UploadKind::Part).count(), 2);
    assert_eq!(operator.show(whole).await.expect("it exists").parts, Parts::Indexed(2));
    operator.delete(whole).await.expect("deleted");
    assert!(store.list_all().await.expect("readable").is_empty());
}

/// A target that fails until it is told otherwise, and counts its deliveries.
#[derive(Clone, Default)]
struct Failing {
    works: Arc<AtomicBool>,
    deliveries: Arc<AtomicUsize>,
}

impl Target for Failing {
    fn deliver<'a>(&'a self, _: Representation<'a>) -> BoxFuture<'a, Result<Delivery, Error>> {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        let works = self.works.load(Ordering::Relaxed);
        Box::pin(async move {
            if works {
                return Ok(TargetResponse::of(StatusCode::CREATED).into());
            }
            Err(Error::Io { doing: "ask the target".into(), source: std::io::Error::other("away") })
        })
    }

    fn leaves_content(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn an_upload_is_delivered_again_when_the_operator_says_so() {
    let target = Failing::default();
    let store = Arc::new(MemoryStore::new()) as Arc<dyn Store>;
    let hoist = Hoist::builder(store).target(target.clone()).build();
    let operator = hoist.operator();
    let (fields, create) = ([("upload-token", "abcdef")], Content::sized(b"abc"));
    assert!(send(&hoist, request("POST", &fields, create)).await.status.is_server_error());
    let id = only(&operator).await;
    // More failures than those after which a client's request starts no attempt.
    for _ in 0..7 {
        let failed = operator.redeliver(id).await;
        assert!(matches!(failed, Err(OperatorError::Failed(_))), "{failed:?}");
    }
    assert_eq!(operator.show(id).await.expect("it exists").view.state, UploadState::Received);
    target.works.store(true, Ordering::Relaxed);
    let before = target.deliveries.load(Ordering::Relaxed);
    assert_eq!(operator.redeliver(id).await.expect("delivered"), Redelivered::Delivered);
    assert_eq!(target.deliveries.load(Ordering::Relaxed), before + 1);
    let details = operator.show(id).await.expect("it exists");
    assert_eq!((details.view.state, details.answered), (UploadState::Complete, Some(StatusCode::CREATED)));
    let again = operator.redeliver(id).await;
    assert!(matches!(again, Err(OperatorError::WrongState(_))), "{again:?}");
}

#[tokio::test]
async fn an_upload_that_is_not_complete_is_not_delivered() {
    let hoist = hoist(&MemoryStore::new());
    unfinished(&hoist, "abcdef").await;
    let operator = hoist.operator();
    let refused = operator.redeliver(only(&operator).await).await;
    assert!(matches!(refused, Err(OperatorError::WrongState(_))), "{refused:?}");
    let unknown = operator.redeliver(UploadId::from_bits([9; 16])).await;
    assert!(matches!(unknown, Err(OperatorError::NoSuchUpload)), "{unknown:?}");
}

#[tokio::test]
async fn a_dry_sweep_says_what_a_sweep_then_does() {
    let (store, clocks) = (MemoryStore::new(), Clocks::starting_at(1_700_000_000));
    store.set_time(hoist_proto::types::Timestamp::from_millis(1_700_000_000_000));
    let policy = Policy { lifetime: Some(Duration::from_hours(1)), ..Policy::default() };
    let hoist = Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>)
        .policy(policy)
        .clocks(clocks.clone())
        .build();
    for number in 0..3 {
        unfinished(&hoist, &token(number)).await;
    }
    complete(&hoist, "complete").await;
    hoist.recover().await.expect("readable");
    let operator = hoist.operator();
    let dry = operator.sweep_dry().await.expect("readable");
    assert_eq!((dry.seen, dry.removed, dry.delivered), (4, 0, 0));
    clocks.pass(3601);
    let dry = operator.sweep_dry().await.expect("readable");
    assert_eq!((dry.seen, dry.removed), (4, 3));
    assert_eq!(store.list_all().await.expect("readable").len(), 4, "nothing was done");
    let Swept { removed, .. } = operator.sweep().await.expect("readable");
    assert_eq!(removed, 3);
    assert_eq!(store.list_all().await.expect("readable").len(), 1);
}

#[tokio::test]
async fn the_live_stream_tells_what_happens() {
    let hoist = hoist(&MemoryStore::new());
    complete(&hoist, "earlier").await;
    let operator = hoist.operator();
    let mut live = operator.live().expect("the first");
    // Settings that change later do not end the stream.
    hoist.reconfigure(Hoist::builder(Arc::new(MemoryStore::new()) as Arc<dyn Store>));
    let created = send(&hoist, request("POST", &[V8, MORE], Content::new(b"abc", 1, Ends::Cut, None))).await;
    let path: http::Uri = created.field("location").unwrap_or("/uploads").parse().expect("a URL");
    let id = list(&operator, &open(), 10).await[0].0;
    send(&hoist, request_to("/uploads/nothing", "HEAD", &[V8], Content::none())).await;
    operator.delete(id).await.expect("deleted");
    let mut names = Vec::new();
    for _ in 0..4 {
        let event = tokio::time::timeout(SOON, live.next()).await.expect("in time").expect("an event");
        names.push(match &*event {
            LiveEvent::Created(view) => format!("created {}", view.id == id),
            LiveEvent::Interrupted(view, cause) => format!("{} {}", cause.name(), view.offset),
            LiveEvent::Refused(request) => format!("refused {} {}", request.method, request.reason),
            LiveEvent::Ended(view, outcome) => format!("{} {}", outcome.name(), view.id == id),
            event => format!("{event:?}"),
        });
    }
    assert!(path.path().starts_with("/uploads"));
    // The interrupted creation is answered as one, and not as a refusal of its own.
    names.retain(|name| !name.contains("POST"));
    assert_eq!(names[..2], ["created true", "disconnected 3"], "{names:?}");
    hoist.drain().await;
    let end = async { while live.next().await.is_some() {} };
    tokio::time::timeout(SOON, end).await.expect("a drain ends the stream");
}

fn open() -> Filter {
    let mut filter = Filter::default();
    filter.state = Some(StateFilter::Open);
    filter
}

#[tokio::test]
async fn the_views_tell_the_name_and_the_dialect() {
    let hoist = hoist(&MemoryStore::new());
    let fields =
        [V8, LAST, ("content-type", "text/plain"), ("content-disposition", "attachment; filename=\"a.txt\"")];
    let created = send(&hoist, request("POST", &fields, Content::sized(b"abc"))).await;
    let location: http::Uri = created.field("location").expect("a location").parse().expect("a URL");
    let operator = hoist.operator();
    let details = operator.show(only(&operator).await).await.expect("it exists");
    assert_eq!(details.view.name.as_deref(), Some("a.txt"));
    assert_eq!(details.view.family.name(), "resumable-upload");
    assert_eq!(details.view.path("/uploads").as_deref(), Some(location.path()));
    assert_eq!(details.content_type.as_deref(), Some("text/plain"));
}
