//! Events: what each upload tells, and receivers that fail, come late, or are down while the server restarts.

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::policy::Policy;
use hoist_proto::types::UploadId;
use hoist_proto::upload::EventKind;
use hoist_server::outbox::{BadSinks, Format, Outbox, Secret, Sink};
use hoist_server::{Builder, Hoist, Running};
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_service::Service;

use crate::harness::{Content, Ends, SOON, request, request_to, send};
use crate::receiver::{Answers, ReceivedEvent, Receiver};

fn sink(url: &str) -> Sink {
    url.parse().expect("a sink")
}

fn builder(store: &MemoryStore, sinks: Vec<Sink>) -> Builder {
    let outbox = Outbox::new(sinks, Duration::from_secs(5)).expect("sinks");
    Hoist::builder(Arc::new(store.clone()) as Arc<dyn Store>).events(outbox)
}

async fn started(builder: Builder) -> (Hoist, Running) {
    let hoist = builder.build();
    let running = hoist.start(Duration::from_hours(1)).await;
    (hoist, running)
}

fn always(status: StatusCode) -> Answers {
    Arc::new(move |_| (Duration::ZERO, status))
}

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const OFFSET_TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");

fn id_in(location: &str) -> String {
    let id = location.rsplit('/').next().expect("a segment").to_owned();
    id.parse::<UploadId>().expect("an id");
    id
}

/// Returns the names of the events of an upload, in the order in which they were taken.
fn kinds_of(received: &[ReceivedEvent], id: &str) -> Vec<String> {
    let of_upload = received.iter().filter(|event| event.is_taken).filter_map(|event| {
        event.id.strip_prefix(id).and_then(|rest| rest.strip_prefix('.')).map(str::to_owned)
    });
    of_upload.collect()
}

#[tokio::test]
async fn uploads_of_every_dialect_tell_of_their_creation_and_their_end() {
    let receiver = Receiver::new().await;
    let store = MemoryStore::new();
    let (hoist, running) = started(builder(&store, vec![sink(&receiver.url())])).await;
    // A whole upload, in one step of the store.
    let fields = [
        ("upload-token", "s3cret-t0ken"),
        ("content-type", "text/plain"),
        ("authorization", "Bearer s3cret"),
    ];
    let got =
        send(&hoist, request_to("/uploads?key=s3cret", "POST", &fields, Content::sized(b"hello"))).await;
    assert!(got.status.is_success());
    // An ordinary request.
    send(&hoist, request("POST", &[], Content::chunked(b"hello"))).await;
    // tus, in several requests.
    let fields = [TUS, ("upload-length", "10"), ("upload-metadata", "filename YS50eHQ=")];
    let got = send(&hoist, request("POST", &fields, Content::none())).await;
    let path = got.field("location").expect("is created").to_owned();
    let tus = id_in(&path);
    for (offset, content) in [("0", b"hello"), ("5", b"world")] {
        let fields = [TUS, OFFSET_TYPE, ("upload-offset", offset)];
        let got = send(&hoist, request_to(&path, "PATCH", &fields, Content::sized(content))).await;
        assert_eq!(got.status.as_u16(), 204);
    }
    // The IETF draft, with an upload that is cancelled.
    let fields = [("upload-draft-interop-version", "8"), ("upload-complete", "?0")];
    let got = send(&hoist, request("POST", &fields, Content::sized(b"hello"))).await;
    let path = got.field("location").expect("is created").to_owned();
    let ietf = id_in(&path);
    let got =
        send(&hoist, request_to(&path, "DELETE", &[("upload-draft-interop-version", "8")], Content::none()))
            .await;
    assert_eq!(got.status.as_u16(), 204);
    assert_eq!(receiver.taken(8).await.len(), 8);
    let events = running_events(&receiver, &hoist).await;
    assert_eq!(kinds_of(&events, &tus), ["created", "finished"]);
    assert_eq!(kinds_of(&events, &ietf), ["created", "terminated"]);
    let finished = events.iter().find(|event| event.id == format!("{tus}.finished")).expect("was received");
    assert_eq!(finished.content["type"], "hoist.upload.finished");
    assert_eq!(finished.content["data"]["upload"]["metadata"], json!({"filename": "a.txt"}));
    assert_eq!(finished.content["data"]["upload"]["offset"], 10);
    assert_eq!(finished.content["data"]["request"]["method"], "PATCH");
    assert_eq!(finished.fields["content-type"], "application/cloudevents+json; charset=utf-8");
    assert!(
        finished.fields.contains_key("webhook-timestamp")
            && !finished.fields.contains_key("webhook-signature")
    );
    let all = format!("{events:?}");
    assert!(!all.contains("s3cret"), "{all}");
    assert!(hoist.sinks().iter().all(|sink| sink.pending == 0), "{:?}", hoist.sinks());
    running.stop().await;
    let summaries = store.list_all().await.expect("lists");
    assert!(summaries.iter().all(|summary| summary.pending_sinks.is_empty()), "all is noted: {summaries:?}");
}

#[tokio::test]
async fn each_sink_gets_the_types_of_events_it_wants_in_its_format() {
    let (all, some) = (Receiver::new().await, Receiver::new().await);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let some_sink = sink(&some.url())
        .format(Format::Tusd)
        .kinds(&[EventKind::Finished])
        .secrets(Secret::parse_lines(secret).expect("a secret"));
    let sinks = vec![sink(&all.url()), some_sink];
    let (hoist, running) = started(builder(&MemoryStore::new(), sinks)).await;
    send(&hoist, request("POST", &[("upload-token", "abcdef")], Content::sized(b"hello"))).await;
    assert_eq!(all.taken(2).await.len(), 2);
    assert_eq!(some.taken(1).await.len(), 1);
    let event = some.received().remove(0);
    assert_eq!(
        (&event.content["Type"], &event.content["Event"]["Upload"]["Offset"]),
        (&json!("post-finish"), &json!(5))
    );
    assert!(event.fields["webhook-signature"].to_str().expect("text").starts_with("v1,"));
    assert_eq!(event.fields["content-type"], "application/json");
    running.stop().await;
    assert_eq!(some.received().len(), 1);
    let twice = Outbox::new(vec![sink("http://a@localhost/"), sink("http://b@localhost/")], SOON);
    assert_eq!(twice.err(), Some(BadSinks::Repeated("http://localhost".to_owned())));
}

/// Numbered parts of a token are not uploads to their client; the partial uploads of tus are.
#[tokio::test]
async fn parts_of_tus_have_events_and_those_of_a_token_only_as_a_whole() {
    let receiver = Receiver::new().await;
    let (hoist, running) = started(builder(&MemoryStore::new(), vec![sink(&receiver.url())])).await;
    for (index, mark) in [("0", "?0"), ("1", "?1")] {
        let fields = [("upload-token", "abcdef"), ("upload-index", index), ("upload-index-complete", mark)];
        send(&hoist, request("POST", &fields, Content::sized(b"hello"))).await;
    }
    let mut partials = Vec::new();
    for _ in 0..2 {
        let fields = [TUS, OFFSET_TYPE, ("upload-length", "5"), ("upload-concat", "partial")];
        let got = send(&hoist, request("POST", &fields, Content::sized(b"hello"))).await;
        partials.push(got.field("location").expect("is created").to_owned());
    }
    let concat = format!("final;{} {}", partials[0], partials[1]);
    let got = send(&hoist, request("POST", &[TUS, ("upload-concat", &concat)], Content::none())).await;
    let whole = id_in(got.field("location").expect("is created"));
    let got = running_events(&receiver, &hoist).await;
    let of_whole = got.iter().find(|event| event.id == format!("{whole}.finished")).expect("was received");
    assert_eq!(of_whole.content["data"]["upload"]["final"], true);
    let parts = partials.iter().map(|path| Value::from(id_in(path))).collect::<Vec<_>>();
    assert_eq!(of_whole.content["data"]["upload"]["parts"], Value::from(parts));
    let partial = got.iter().find(|event| event.id == format!("{}.created", id_in(&partials[0])));
    assert_eq!(partial.expect("was received").content["data"]["upload"]["partial"], true);
    let of_tokens = got.iter().filter(|event| event.content["data"]["upload"]["dialect"] == "upload-token");
    let kinds = of_tokens.map(|event| event.content["type"].clone()).collect::<Vec<_>>();
    if kinds.len() == 2 {
        assert_eq!(kinds, ["hoist.upload.created", "hoist.upload.finished"]);
    } else {
        assert_eq!(kinds, ["hoist.upload.created"], "the parts are not complete");
    }
    running.stop().await;
}

/// Waits until nothing is pending.
async fn running_events(receiver: &Receiver, hoist: &Hoist) -> Vec<ReceivedEvent> {
    let settled = async {
        while hoist.sinks().iter().any(|sink| sink.pending > 0) {
            receiver.next().await;
        }
    };
    tokio::time::timeout(SOON, settled).await.expect("all is delivered");
    receiver.received()
}

#[tokio::test]
async fn a_receiver_that_fails_gets_each_event_later_and_in_order() {
    let answers: Answers = Arc::new(|earlier| {
        (Duration::ZERO, if earlier == 1 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR })
    });
    let receiver = Receiver::answering(answers).await;
    let (hoist, running) = started(builder(&MemoryStore::new(), vec![sink(&receiver.url())])).await;
    let token = |number: usize| format!("token-{number}");
    for number in 0..3 {
        let got =
            send(&hoist, request("POST", &[("upload-token", &token(number))], Content::sized(b"hello")))
                .await;
        assert!(got.status.is_success(), "no upload waits for the receiver");
    }
    let mut ids = receiver.taken(6).await;
    for event in receiver.received().iter().filter(|event| event.id.ends_with(".finished")) {
        let created = event.id.replace(".finished", ".created");
        let at = |id: &str| ids.iter().position(|taken| taken == id);
        assert!(at(&created) < at(&event.id), "{ids:?}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each once");
    running.stop().await;
}

/// The receiver is down while uploads are made, finished and removed, and while the server is restarted after a crash.
#[tokio::test]
async fn events_of_uploads_before_a_crash_are_delivered_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("is bound");
    drop(listener);
    let url = format!("http://{address}/in");
    let store = MemoryStore::new();
    let (hoist, running) = started(builder(&store, vec![sink(&url)])).await;
    let mut expected = Vec::new();
    for number in 0..20 {
        let length = if number % 2 == 0 { "5" } else { "9" };
        let fields = [TUS, OFFSET_TYPE, ("upload-length", length)];
        let got = send(&hoist, request("POST", &fields, Content::sized(b"hello"))).await;
        let path = got.field("location").expect("is created").to_owned();
        let id = id_in(&path);
        expected.push(format!("{id}.created"));
        if number % 2 == 0 {
            expected.push(format!("{id}.finished"));
        }
        if number % 4 < 2 {
            let got = send(&hoist, request_to(&path, "DELETE", &[TUS], Content::none())).await;
            assert_eq!(got.status.as_u16(), 204);
            expected.push(format!("{id}.terminated"));
        }
    }
    let pending = hoist.sinks().iter().map(|sink| sink.pending).sum::<u64>();
    assert_eq!(pending, expected.len() as u64);
    drop((hoist, running));
    store.crash();
    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let receiver = Receiver::at(listener, always(StatusCode::OK));
    let (hoist, running) = started(builder(&store, vec![sink(&url)])).await;
    running.recovered().await;
    let taken = receiver.taken(expected.len()).await;
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    let mut wanted = expected.clone();
    wanted.sort_unstable();
    assert_eq!(sorted, wanted);
    for id in expected.iter().filter_map(|id| id.strip_suffix(".created")) {
        let kinds = kinds_of(&receiver.received(), id);
        let in_order = ["created", "finished", "terminated"];
        assert!(kinds.is_sorted_by_key(|kind| in_order.iter().position(|known| known == kind)), "{kinds:?}");
    }
    running.stop().await;
    drop(hoist);
}

/// The client hangs up while its upload is removed.
#[tokio::test]
async fn a_removal_whose_request_is_dropped_is_told() {
    for polls in 1..12 {
        let receiver = Receiver::new().await;
        let store = MemoryStore::new();
        let (hoist, running) = started(builder(&store, vec![sink(&receiver.url())])).await;
        let fields = [TUS, ("upload-length", "9")];
        let got = send(&hoist, request("POST", &fields, Content::none())).await;
        let path = got.field("location").expect("is created").to_owned();
        store.set_faults(hoist_store::memory::Faults { yields_max: 3, ..hoist_store::memory::Faults::NONE });
        let mut removing = Box::pin(hoist.clone().call(request_to(&path, "DELETE", &[TUS], Content::none())));
        for _ in 0..polls {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(removing.as_mut().poll(cx))).await;
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(removing);
        store.set_faults(hoist_store::memory::Faults::NONE);
        let taken = receiver.taken(1).await;
        assert!(taken[0].ends_with(".created"));
        let is_there = !store.list_all().await.expect("lists").is_empty();
        if !is_there {
            assert!(receiver.taken(2).await[1].ends_with(".terminated"), "after {polls} polls");
        }
        running.stop().await;
    }
}

#[tokio::test]
async fn an_upload_that_expires_or_fails_tells_so() {
    let receiver = Receiver::new().await;
    let policy = Policy { lifetime: Some(Duration::from_millis(1)), ..Policy::default() };
    let store = MemoryStore::new();
    let (hoist, running) = started(builder(&store, vec![sink(&receiver.url())]).policy(policy)).await;
    let got = send(&hoist, request("POST", &[TUS, ("upload-length", "9")], Content::none())).await;
    let expired = id_in(got.field("location").expect("is created"));
    // No request can continue it.
    let content = Content::new(b"hello", 9, Ends::Cut, None);
    send(&hoist, request("POST", &[("content-type", "text/x-failed")], content)).await;
    running.recovered().await;
    // time itself is tested: the lifetime of the upload
    tokio::time::sleep(Duration::from_millis(2)).await;
    hoist.sweep().await.expect("sweeps");
    receiver.taken(4).await;
    assert_eq!(kinds_of(&receiver.received(), &expired), ["created", "expired"]);
    let failed =
        receiver.received().into_iter().find(|event| event.id.ends_with(".failed")).expect("was received");
    let id = failed.id.strip_suffix(".failed").expect("just looked at");
    assert_eq!(kinds_of(&receiver.received(), id), ["created", "failed"]);
    running.stop().await;
}
