//! Content that does not match its checksum: no byte of it counts.

use std::sync::Arc;
use std::time::Instant;

use hoist_server::Hoist;
use hoist_store::fs::{Durability, LocalStore, Options};
use hoist_store::memory::MemoryStore;
use hoist_store::store::{Error, Store};
use http::StatusCode;
use tower_service::Service;

use crate::harness::{Content, Ends, Got, SOON, hoist, request, request_to, send};

const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const TYPE: (&str, &str) = ("content-type", "application/offset+octet-stream");
const RIGHT: &str = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
const WRONG: &str = "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// Names and values of fields.
type Fields<'a> = &'a [(&'a str, &'a str)];

const HELLO: &[u8] = b"hello world";

async fn created(hoist: &Hoist, length: &str) -> String {
    let got = send(hoist, request("POST", &[TUS, ("upload-length", length)], Content::none())).await;
    got.field("location").expect("a place").to_owned()
}

async fn patched(hoist: &Hoist, path: &str, fields: &[(&str, &str)], content: Content) -> Got {
    let fields = [&[TUS, TYPE, ("upload-offset", "0")], fields].concat();
    send(hoist, request_to(path, "PATCH", &fields, content)).await
}

async fn offset(hoist: &Hoist, path: &str) -> Option<usize> {
    send(hoist, request_to(path, "HEAD", &[TUS], Content::none())).await.offset()
}

// proves: TUS1-CHK-02, TUS1-CHK-03, TUS1-CHK-04, TUS1-CHK-09, TUS1-CHK-10
#[tokio::test]
async fn content_is_checked_by_every_algorithm() {
    let (right, other) = (HELLO, b"hello_world");
    let sums = [
        RIGHT,
        "sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=",
        "sha512 MJ7MSJwS1utMxA9QyQLytNDtd+5RGnx6m808qG1M2G+YndNbxf9JlnDaNCVbRbDP2DDoH2Bdz33FVC6TrpzXbw==",
        "md5 XrY7u+Ae7tCTyyK7j1rNww==",
        "crc32 DUoRhQ==",
        "crc32c yZRlqg==",
    ];
    let hoist = hoist(&MemoryStore::new());
    for sum in sums {
        let path = created(&hoist, "11").await;
        let refused = patched(&hoist, &path, &[("upload-checksum", sum)], Content::sized(other)).await;
        assert_eq!(refused.status.as_u16(), 460, "{sum}");
        assert_eq!(offset(&hoist, &path).await, Some(0));
        let taken = patched(&hoist, &path, &[("upload-checksum", sum)], Content::sized(right)).await;
        assert_eq!((taken.status, taken.offset()), (StatusCode::NO_CONTENT, Some(11)), "{sum}");
    }
}

// proves: TUS1-CHK-07, TUS1-CHK-08
#[tokio::test]
async fn a_checksum_may_be_in_the_trailer_section() {
    let hoist = hoist(&MemoryStore::new());
    let promise = ("trailer", "Upload-Checksum");
    let chunked = || Content::chunked(HELLO);
    let behind = |sum: &str| chunked().with_trailer("upload-checksum", sum);
    // The header fields, the content with its trailer, and the result.
    let cases: [(Fields<'_>, Content, u16); 9] = [
        (&[promise], behind(RIGHT), 204),
        (&[promise], behind(WRONG), 460),
        (&[promise], chunked(), 400),
        (&[promise], behind("sha9 AAAA"), 400),
        (&[], behind(RIGHT), 204),
        (&[], behind(WRONG), 460),
        (&[promise, ("upload-checksum", RIGHT)], behind(RIGHT), 204),
        (&[promise, ("upload-checksum", RIGHT)], behind(WRONG), 400),
        (&[promise, ("upload-checksum", RIGHT)], behind("md5 XrY7u+Ae7tCTyyK7j1rNww=="), 204),
    ];
    for (number, (fields, content, status)) in cases.into_iter().enumerate() {
        let path = created(&hoist, "20").await;
        let got = patched(&hoist, &path, fields, content).await;
        assert_eq!(got.status.as_u16(), status, "{number}: {got:?}");
        let stored = if status == 204 { 11 } else { 0 };
        assert_eq!(offset(&hoist, &path).await, Some(stored), "{number}");
    }
}

// proves: TUS1-CHK-06, TUS1-CWU-05
#[tokio::test]
async fn unverifiable_content_does_not_count() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    let path = created(&hoist, "1000000").await;
    for bytes in [10, 600_000] {
        let cut = Content::new(&vec![b'x'; bytes], 10_000, Ends::Cut, Some(1_000_000));
        patched(&hoist, &path, &[("upload-checksum", RIGHT)], cut).await;
        assert_eq!(offset(&hoist, &path).await, Some(0), "{bytes}");
    }
    // Superseded by another request while its content is stalled.
    let (stalled, drained) =
        Content::new(&vec![b'x'; 600_000], 10_000, Ends::Never, Some(1_000_000)).watched();
    let fields = [TUS, TYPE, ("upload-offset", "0"), ("upload-checksum", RIGHT)];
    let mut service = hoist.clone();
    let call = service.call(request_to(&path, "PATCH", &fields, stalled));
    let call = tokio::spawn(call);
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    assert_eq!(offset(&hoist, &path).await, Some(0));
    call.await.expect("ended").expect("infallible");
    // A creation with mismatching content creates nothing.
    let before = store.list_all().await.expect("no faults").len();
    let fields = [TUS, TYPE, ("upload-length", "11"), ("upload-checksum", WRONG)];
    let refused = send(&hoist, request("POST", &fields, Content::sized(HELLO))).await;
    assert_eq!((refused.status.as_u16(), refused.field("location")), (460, None));
    assert_eq!(store.list_all().await.expect("no faults").len(), before);
}

/// The server is killed while it receives unverified content.
// proves: TUS1-CHK-03, TUS1-CHK-06
#[test]
fn unverified_content_does_not_count_after_a_crash() {
    for durability in [Durability::Disk, Durability::Os] {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || {
            let mut options = Options::default();
            options.durability = durability;
            // A thread of the store may still end a task of the previous life, and unlocks the directory then.
            let begun = Instant::now();
            let store = loop {
                match LocalStore::open(directory.path(), &options) {
                    Err(Error::Busy(_)) if begun.elapsed() < SOON => std::thread::yield_now(),
                    opened => break opened.expect("opens"),
                }
            };
            Hoist::builder(Arc::new(store) as Arc<dyn Store>).build()
        };
        let life = || {
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("one")
        };
        let process = life();
        let path = process.block_on(async {
            let hoist = open();
            let path = created(&hoist, "2000000").await;
            let first = patched(&hoist, &path, &[], Content::sized(b"kept")).await;
            assert_eq!(first.offset(), Some(4));
            let content = Content::new(&vec![b'x'; 1_500_000], 50_000, Ends::Never, Some(1_900_000));
            let (stalled, drained) = content.watched();
            let fields = [TUS, TYPE, ("upload-offset", "4"), ("upload-checksum", RIGHT)];
            let mut service = hoist.clone();
            tokio::spawn(service.call(request_to(&path, "PATCH", &fields, stalled)));
            tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
            path
        });
        // Every task ends where it is; the threads of the store finish their writes.
        drop(process);
        life().block_on(async {
            let hoist = open();
            assert_eq!(offset(&hoist, &path).await, Some(4), "{durability:?}");
            let fields = [TUS, TYPE, ("upload-offset", "4")];
            let rest = vec![b'y'; 1_999_996];
            let got = send(&hoist, request_to(&path, "PATCH", &fields, Content::sized(&rest))).await;
            assert_eq!(got.offset(), Some(2_000_000), "{durability:?}");
        });
    }
}

// proves: TUS1-PATCH-04, TUS1-PATCH-11, TUS1-CRE-04
#[tokio::test]
async fn one_of_two_writers_wins_and_nothing_exceeds_the_length() {
    let store = MemoryStore::new();
    let hoist = hoist(&store);
    for round in 0..200 {
        let path = created(&hoist, "8").await;
        let race = |letter: u8| {
            let (hoist, path) = (hoist.clone(), path.clone());
            tokio::spawn(async move {
                patched(&hoist, &path, &[], Content::new(&[letter; 6], 1, Ends::Whole, Some(6))).await
            })
        };
        let (first, second) = (race(b'a'), race(b'b'));
        let both = [first.await.expect("ended"), second.await.expect("ended")];
        let won = both.iter().filter(|got| got.status == StatusCode::NO_CONTENT).count();
        assert!(won <= 1, "round {round}: {both:?}");
        let stored = offset(&hoist, &path).await.expect("there");
        let id = path.rsplit('/').next().expect("a name").parse().expect("an id");
        let content = crate::schedules::read(&store, id).await;
        assert_eq!(content.len(), stored);
        assert!(content.windows(2).all(|pair| pair[0] == pair[1]), "round {round}: mixed {content:?}");
        let text = stored.to_string();
        let fields = [TUS, TYPE, ("upload-offset", text.as_str())];
        let beyond = send(&hoist, request_to(&path, "PATCH", &fields, Content::chunked(&[b'c'; 9]))).await;
        assert_eq!(beyond.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(offset(&hoist, &path).await, Some(8));
    }
}
