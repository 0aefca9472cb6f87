//! Sources that are no files: readers that can go back, and streams that cannot.

use std::io::Cursor;

use hoist_client::{Dialect, Error, Interop, Source};

use crate::script::{Act, Server, answer, any, bytes, say, together};

fn client(keeps: u64) -> hoist_client::Client {
    any().dialect(Dialect::Ietf(Interop::V8)).rewind_bytes_max(keeps).build().expect("a client")
}

/// The chunks of a chunked request, as a script for one chunk after the other.
const CREATED: &str = "104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 8";

#[tokio::test]
async fn a_reader_that_can_go_back_is_read_again() {
    let server = Server::start().await;
    let put = client(1).put(server.url.clone(), Source::reader(Cursor::new(bytes(1000))));
    let scripts = vec![
        vec![Act::Head, say(CREATED), Act::Content(400), Act::Reset],
        answer("204 No Content|Upload-Offset: 300|Upload-Complete: ?0"),
        answer("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = together(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!(seen[0].field("content-length"), Some("1000"));
    assert_eq!(seen[2].content, bytes(1000)[300..]);
}

// proves: IETF-CMP-03
#[tokio::test]
async fn a_stream_ends_with_a_request_that_says_so() {
    let server = Server::start().await;
    let put = client(1 << 20).put(server.url.clone(), Source::stream(Cursor::new(bytes(500))));
    let progress = put.progress();
    let scripts = vec![
        vec![
            Act::Head,
            say(CREATED),
            Act::Chunks,
            say("201 Created|Location: /uploads/7|Upload-Offset: 500|Upload-Complete: ?0|Connection: close"),
        ],
        answer("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = together(put.send(), server.play(scripts)).await;
    let outcome = outcome.expect("an upload");
    assert_eq!((outcome.bytes, outcome.retries), (500, 0));
    assert_eq!((seen[0].field("upload-complete"), seen[0].field("upload-length")), (Some("?0"), None));
    assert_eq!((seen[0].field("transfer-encoding"), &seen[0].content), (Some("chunked"), &bytes(500)));
    assert_eq!((seen[1].request(), seen[1].field("upload-complete")), ("PATCH /uploads/7", Some("?1")));
    assert_eq!((seen[1].field("upload-offset"), seen[1].field("content-length")), (Some("500"), Some("0")));
    assert_eq!(progress.borrow().length, Some(500));
}

#[tokio::test]
async fn what_cannot_be_kept_is_acknowledged_first() {
    let server = Server::start().await;
    let whole = bytes(300_000);
    let put = client(200_000).put(server.url.clone(), Source::stream(Cursor::new(whole.clone())));
    // Two pieces of 128 KiB are kept, and no third.
    let scripts = vec![
        vec![
            Act::Head,
            say(CREATED),
            Act::Chunks,
            say(
                "201 Created|Location: /uploads/7|Upload-Offset: 262144|Upload-Complete: ?0|Connection: close",
            ),
        ],
        vec![Act::Head, Act::Chunks, Act::Reset],
        answer("204 No Content|Upload-Offset: 270000|Upload-Complete: ?0"),
        answer("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = together(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 300_000);
    assert!(seen[0].content == whole[..262_144] && seen[1].content == whole[262_144..]);
    assert!(seen[3].content == whole[270_000..], "what was lost is sent again from what is kept");
    assert_eq!(seen[3].field("upload-complete"), Some("?1"), "by then it is known where it ends");
}

#[tokio::test]
async fn what_was_acknowledged_is_not_kept() {
    let server = Server::start().await;
    let put = client(200_000).put(server.url.clone(), Source::stream(Cursor::new(bytes(300_000))));
    let scripts = vec![
        vec![
            Act::Head,
            say(CREATED),
            Act::Chunks,
            say(
                "201 Created|Location: /uploads/7|Upload-Offset: 262144|Upload-Complete: ?0|Connection: close",
            ),
        ],
        vec![Act::Head, Act::Reset],
        answer("204 No Content|Upload-Offset: 5|Upload-Complete: ?0"),
    ];
    let (outcome, _) = together(put.send(), server.play(scripts)).await;
    assert!(matches!(outcome, Err(Error::NotRewindable { offset: 5 })), "{outcome:?}");
}

#[tokio::test]
async fn a_stream_of_known_length_says_it() {
    let server = Server::start().await;
    let source = Source::stream(Cursor::new(bytes(500))).with_length(500);
    let put = client(1 << 20).put(server.url.clone(), source);
    let (outcome, seen) = together(put.send(), server.play(vec![answer("200 OK|Upload-Complete: ?1")])).await;
    assert_eq!(outcome.expect("an upload").bytes, 500);
    assert_eq!(
        (seen[0].field("content-length"), seen[0].field("upload-complete")),
        (Some("500"), Some("?1"))
    );

    let source = Source::stream(Cursor::new(bytes(400))).with_length(500);
    let put = client(1 << 20).put(server.url.clone(), source);
    let script = vec![vec![Act::Stall]];
    let (outcome, _) = together(put.send(), server.play(script)).await;
    assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{outcome:?}");
}
