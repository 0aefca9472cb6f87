//! Sources other than files: seekable readers, and streams.

use std::io::Cursor;

use hoist_client::{Dialect, Error, Interop, Source};

use crate::script::{Act, Server, builder, bytes, respond, run_both, write};

fn client(keeps: u64) -> hoist_client::Client {
    builder().dialect(Dialect::Ietf(Interop::V8)).rewind_bytes_max(keeps).build().expect("a client")
}

/// Returns a script that reads the chunks of a chunked request.
const CREATED: &str = "104 Upload Resumption Supported|Location: /uploads/7|Upload-Draft-Interop-Version: 8";

#[tokio::test]
async fn a_seekable_reader_is_read_again() {
    let server = Server::start().await;
    let put = client(1).put(server.url.clone(), Source::reader(Cursor::new(bytes(1000))));
    let scripts = vec![
        vec![Act::Head, write(CREATED), Act::Content(400), Act::Reset],
        respond("204 No Content|Upload-Offset: 300|Upload-Complete: ?0"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 1000);
    assert_eq!(seen[0].field("content-length"), Some("1000"));
    assert_eq!(seen[2].content, bytes(1000)[300..]);
}

// proves: IETF-CMP-03
#[tokio::test]
async fn the_last_request_of_a_stream_completes_the_upload() {
    let server = Server::start().await;
    let put = client(1 << 20).put(server.url.clone(), Source::stream(Cursor::new(bytes(500))));
    let progress = put.progress();
    let scripts = vec![
        vec![
            Act::Head,
            write(CREATED),
            Act::Chunks,
            write(
                "201 Created|Location: /uploads/7|Upload-Offset: 500|Upload-Complete: ?0|Connection: close",
            ),
        ],
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    let outcome = outcome.expect("an upload");
    assert_eq!((outcome.bytes, outcome.retries), (500, 0));
    assert_eq!((seen[0].field("upload-complete"), seen[0].field("upload-length")), (Some("?0"), None));
    assert_eq!((seen[0].field("transfer-encoding"), &seen[0].content), (Some("chunked"), &bytes(500)));
    assert_eq!((seen[1].request(), seen[1].field("upload-complete")), ("PATCH /uploads/7", Some("?1")));
    assert_eq!((seen[1].field("upload-offset"), seen[1].field("content-length")), (Some("500"), Some("0")));
    assert_eq!(progress.borrow().length, Some(500));
}

#[tokio::test]
async fn a_request_ends_when_the_rewind_buffer_is_full() {
    let server = Server::start().await;
    let whole = bytes(300_000);
    let put = client(200_000).put(server.url.clone(), Source::stream(Cursor::new(whole.clone())));
    // The buffer holds two pieces of 128 KiB.
    let scripts = vec![
        vec![
            Act::Head,
            write(CREATED),
            Act::Chunks,
            write(
                "201 Created|Location: /uploads/7|Upload-Offset: 262144|Upload-Complete: ?0|Connection: close",
            ),
        ],
        vec![Act::Head, Act::Chunks, Act::Reset],
        respond("204 No Content|Upload-Offset: 270000|Upload-Complete: ?0"),
        respond("200 OK|Upload-Complete: ?1"),
    ];
    let (outcome, seen) = run_both(put.send(), server.play(scripts)).await;
    assert_eq!(outcome.expect("an upload").bytes, 300_000);
    assert!(seen[0].content == whole[..262_144] && seen[1].content == whole[262_144..]);
    assert!(seen[3].content == whole[270_000..], "lost bytes are sent again from the buffer");
    assert_eq!(seen[3].field("upload-complete"), Some("?1"), "the end of the stream is known by then");
}

#[tokio::test]
async fn acknowledged_bytes_are_not_kept() {
    let server = Server::start().await;
    let put = client(200_000).put(server.url.clone(), Source::stream(Cursor::new(bytes(300_000))));
    let scripts = vec![
        vec![
            Act::Head,
            write(CREATED),
            Act::Chunks,
            write(
                "201 Created|Location: /uploads/7|Upload-Offset: 262144|Upload-Complete: ?0|Connection: close",
            ),
        ],
        vec![Act::Head, Act::Reset],
        respond("204 No Content|Upload-Offset: 5|Upload-Complete: ?0"),
    ];
    let (outcome, _) = run_both(put.send(), server.play(scripts)).await;
    assert!(matches!(outcome, Err(Error::NotRewindable { offset: 5 })), "{outcome:?}");
}

#[tokio::test]
async fn a_stream_of_known_length_declares_it() {
    let server = Server::start().await;
    let source = Source::stream(Cursor::new(bytes(500))).with_length(500);
    let put = client(1 << 20).put(server.url.clone(), source);
    let (outcome, seen) =
        run_both(put.send(), server.play(vec![respond("200 OK|Upload-Complete: ?1")])).await;
    assert_eq!(outcome.expect("an upload").bytes, 500);
    assert_eq!(
        (seen[0].field("content-length"), seen[0].field("upload-complete")),
        (Some("500"), Some("?1"))
    );

    let source = Source::stream(Cursor::new(bytes(400))).with_length(500);
    let put = client(1 << 20).put(server.url.clone(), source);
    let script = vec![vec![Act::Stall]];
    let (outcome, _) = run_both(put.send(), server.play(script)).await;
    assert!(matches!(outcome, Err(Error::SourceChanged { .. })), "{outcome:?}");
}
