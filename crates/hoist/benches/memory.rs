//! The memory used by the server while it receives 100 concurrent uploads of 64 MiB, over HTTP/1.1 and HTTP/2.
//!
//! `cargo bench -p hoist --bench memory` prints the peak above the memory of the idle server, and fails if it exceeds
//! 150 MiB. Data is written below the system's temporary directory.

#[allow(dead_code, unused_imports, reason = "the harness of the tests has more than is needed here")]
#[path = "../tests/it/harness.rs"]
mod harness;

use std::sync::Arc;

use bytes::Bytes;
use harness::{Exchange, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, print_note};
use tokio::task::JoinSet;

const UPLOADS: usize = 100;
const UPLOAD_BYTES: usize = 64 << 20;
const GROWTH_BYTES_MAX: u64 = 150 << 20;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let content = Bytes::from(bytes(1, UPLOAD_BYTES));
    for transport in TRANSPORTS {
        let (idle, grown) = runtime.block_on(receiving(transport, &content));
        let mib = |bytes: u64| bytes >> 20;
        print_note(format_args!(
            "{transport:?}: {} MiB idle, at most {} MiB more with {UPLOADS} uploads of {} MiB at once",
            mib(idle),
            mib(grown),
            UPLOAD_BYTES >> 20
        ));
        assert!(grown < GROWTH_BYTES_MAX, "more than {} MiB", mib(GROWTH_BYTES_MAX));
    }
}

/// Returns the memory of the idle server, and its growth.
async fn receiving(transport: Transport, content: &Bytes) -> (u64, u64) {
    let home = ServerDir::new();
    let server = Arc::new(Server::start(&home, &["--durability", "os"]));
    let first = server.request(transport, TestRequest::new("POST", "first").sized(b"hello")).await;
    assert!(first.is_complete(), "{first:?}");
    let idle = server.rss();
    let mut all = JoinSet::new();
    for number in 0..UPLOADS {
        let (server, content) = (Arc::clone(&server), content.clone());
        all.spawn(async move {
            let request = TestRequest::new("POST", &format!("upload-{number}")).shared(content);
            // No time limit, because slow machines may need longer than a test.
            let mut exchange =
                Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
            let got = exchange.answer().await.expect("an answer");
            assert!(got.is_complete(), "{got:?}");
        });
    }
    all.join_all().await;
    let grown = server.peak_rss().saturating_sub(idle);
    (idle, grown)
}
