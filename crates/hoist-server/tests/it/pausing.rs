//! Content of a transfer whose peer pauses.

use std::time::Duration;

use hoist_store::memory::MemoryStore;
use tower_service::Service as _;

use crate::harness::{Content, Ends, SOON, hoist, request, send};

const TOKEN: (&str, &str) = ("upload-token", "abcdef");

/// The bytes that arrive before the pause.
const BYTES: usize = 300_000;

#[tokio::test(start_paused = true)]
async fn content_before_a_pause_survives_a_crash() {
    let store = MemoryStore::new();
    let mut first = hoist(&store);
    let created =
        send(&first, request("POST", &[TOKEN, ("upload-complete", "?0")], Content::sized(b"abc"))).await;
    assert!(created.status.is_success(), "{}", created.status);
    let content = Content::new(&vec![b'x'; BYTES], 10_000, Ends::Never, Some(1_000_000));
    let (content, drained) = content.watched();
    tokio::spawn(first.call(request("PATCH", &[TOKEN, ("upload-offset", "3")], content)));
    tokio::time::timeout(SOON, drained).await.expect("in time").expect("taken");
    tokio::time::sleep(Duration::from_secs(1)).await;
    store.crash();
    let queried = send(&hoist(&store), request("HEAD", &[TOKEN], Content::none())).await;
    assert_eq!(queried.offset(), Some(3 + BYTES));
}
