//! A new request for an upload ends the previous one, whatever its client does, and is answered at once.

use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::harness::{
    Exchange, H2, Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, V2, bytes, poll_until,
    print_note, seeds, within_timeout,
};

/// The longest time that a request may wait for another client.
const BOUND: Duration = Duration::from_secs(1);

/// Writes go to the page cache only, so that the disk does not affect the measurement.
const OS: [&str; 2] = ["--durability", "os"];

/// Requests an offset and measures the time.
async fn asked(server: &Server, transport: Transport, token: &str) -> Result<usize, u16> {
    let began = Instant::now();
    let offset = server.offset(transport, token).await;
    let waited = began.elapsed();
    assert!(waited < BOUND, "HEAD over {transport:?} waited for {waited:?}");
    offset
}

// proves: TOK-OFF-02, TOK-OFF-03, TOK-APP-04, TOK-CRE-01, TDR-OFF-07
#[tokio::test]
async fn a_stalled_transfer_is_ended_by_an_offset_query() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let content = bytes(1, 200_000);
    for (number, (transport, asking)) in
        TRANSPORTS.iter().flat_map(|a| TRANSPORTS.map(|b| (*a, b))).enumerate()
    {
        for method in ["POST", "PATCH"] {
            for form in [("x-form", "seed"), V2] {
                let token = format!("{method}-{number}-{}", form.1);
                let at = if method == "PATCH" { 30_000 } else { 0 };
                if at > 0 {
                    let request = TestRequest::new("POST", &token)
                        .field("upload-length", 200_000)
                        .sized(&content[..at]);
                    let created = server.request(transport, request).await;
                    assert_eq!((created.status, created.offset()), (204, Some(at)));
                }
                let request =
                    if at > 0 { TestRequest::append(&token, at) } else { TestRequest::new("POST", &token) };
                let request = request.with(form).sized(&content[at..100_000]).stalls(Some(200_000 - at));
                let mut stalled =
                    Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
                home.holds(100_000).await;

                assert_eq!(asked(&server, asking, &token).await, Ok(100_000), "{transport:?} {method}");
                let ended = timeout(BOUND, stalled.answer()).await.expect("the stalled peer is told");
                assert!(ended.is_err(), "it has to end abruptly: {ended:?}");
                assert_eq!(asked(&server, asking, &token).await, Ok(100_000), "its bytes are kept");

                let rest = TestRequest::append(&token, 100_000).sized(&content[100_000..]);
                let done = server.request(asking, rest).await;
                assert!(done.status == 204 && done.is_complete(), "{done:?}");
                assert!(home.only_complete() == content);
                assert_eq!(server.request(asking, TestRequest::new("DELETE", &token)).await.status, 204);
            }
        }
    }
}

// proves: TOK-APP-04, TOK-CAN-01, TOK-CRE-05
#[tokio::test]
async fn an_append_and_a_cancellation_end_a_stalled_transfer_and_a_creation_does_not() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    for transport in TRANSPORTS {
        let token = format!("{transport:?}");
        let request = TestRequest::new("POST", &token).sized(bytes(2, 5000)).stalls(Some(9000));
        let mut stalled = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(5000).await;

        let began = Instant::now();
        let again = server.request(transport, TestRequest::new("POST", &token).sized(bytes(3, 9000))).await;
        assert!(began.elapsed() < BOUND, "a creation waited for the one before");
        assert_eq!(again.status, 409);
        assert!(timeout(Duration::from_millis(100), stalled.answer()).await.is_err(), "it was disturbed");

        // A wrong offset ends the transfer too, because the offset is known only afterwards.
        let began = Instant::now();
        let wrong =
            server.request(transport, TestRequest::append(&token, 1).sized("never to be stored")).await;
        assert!(began.elapsed() < BOUND, "an append waited for a stalled peer");
        assert_eq!((wrong.status, wrong.offset()), (409, Some(5000)));
        let ended = timeout(BOUND, stalled.answer()).await.expect("the stalled peer is told");
        assert!(ended.is_err(), "{ended:?}");

        let request = TestRequest::append(&token, 5000).sized(bytes(2, 1000)).stalls(Some(4000));
        let mut stalled = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(6000).await;
        let began = Instant::now();
        assert_eq!(server.request(transport, TestRequest::new("DELETE", &token)).await.status, 204);
        assert!(began.elapsed() < BOUND, "a cancellation waited for a stalled peer");
        assert!(timeout(BOUND, stalled.answer()).await.expect("the stalled peer is told").is_err());
        assert_eq!(asked(&server, transport, &token).await, Err(404));
        assert_eq!(home.uploads("open"), 0, "everything of it is gone");
    }
}

// proves: TOK-OFF-02
#[tokio::test]
async fn preemption_over_h2_ends_only_the_stream() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let h2 = H2::connect(&server).await;
    let content = bytes(4, 20_000);
    let (_keep, reset) = oneshot::channel();
    let request = TestRequest::new("POST", "stream").sized(&content[..12_000]).stalls(Some(20_000));
    let mut stalled = std::pin::pin!(h2.exchange(request, reset));
    tokio::select! {
        early = &mut stalled => panic!("{early:?}"),
        () = home.holds(12_000) => {}
    }
    let began = Instant::now();
    let (head, ended) = tokio::join!(
        within_timeout("HEAD", h2.request(TestRequest::new("HEAD", "stream"))),
        within_timeout("the stream", stalled)
    );
    assert!(began.elapsed() < BOUND, "HEAD on the same connection waited");
    assert_eq!(head.expect("the connection lives").offset(), Some(12_000));
    let why = ended.expect_err("it has to end abruptly").0;
    assert!(why.contains("stream error"), "one stream, not the connection: {why}");
    let done = h2
        .request(TestRequest::append("stream", 12_000).sized(&content[12_000..]))
        .await
        .expect("the connection lives");
    assert!(done.is_complete() && home.only_complete() == content);
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Returns a raw HTTP/2 frame, for a client that breaks the rules of libraries.
fn frame(kind: u8, flags: u8, stream: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a frame").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], content].concat()
}

/// Returns the start of an HTTP/2 connection with one creation of the token draft.
fn by_hand(token: &str, content: &[u8], ends: bool) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/uploads"),
        (":authority", "localhost"),
        ("upload-token", token),
        V2,
    ];
    let length = |text: &str| u8::try_from(text.len()).expect("short");
    let literal = |(name, value): &(&str, &str)| {
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let fields: Vec<u8> = fields.iter().flat_map(literal).collect();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, 4, 1, &fields),
        frame(DATA, u8::from(ends), 1, content),
    ]
    .concat()
}

// proves: TOK-OFF-02, TOK-CRE-01
#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other_over_h2() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut tcp = TcpStream::connect(server.addr).await.expect("a connection");
    let content = bytes(5, 10_000);
    let request = by_hand("unread", &content, false);
    tcp.write_all(&request).await.expect("sent");
    home.holds(10_000).await;
    // Each ping needs a response that is not read, until the server can no longer write and stops reading.
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(4096);
    let mut stuck = false;
    for _ in 0..1000 {
        stuck = timeout(Duration::from_millis(500), tcp.write_all(&pings)).await.is_err();
        if stuck {
            break;
        }
    }
    assert!(stuck, "the server reads on although nobody reads what it writes");

    for transport in TRANSPORTS {
        assert_eq!(asked(&server, transport, "unread").await, Ok(10_000));
    }
    let began = Instant::now();
    let done = server.request(Transport::H1, TestRequest::append("unread", 10_000).sized("the rest")).await;
    assert!(began.elapsed() < BOUND && done.is_complete(), "{done:?}");
    assert!(home.only_complete() == [&content[..], b"the rest"].concat());

    // After the client resumes reading, its stream was reset or the connection closed.
    within_timeout("the end of the stream", async {
        let mut seen = Vec::new();
        while let Ok(1..) = tcp.read_buf(&mut seen).await {
            while let Some((kind, stream)) = next_frame(&mut seen) {
                if (kind, stream) == (RST_STREAM, 1) {
                    return;
                }
            }
        }
    })
    .await;
}

/// Reads the next frame and returns its type and stream.
fn next_frame(seen: &mut Vec<u8>) -> Option<(u8, u8)> {
    let head: [u8; 9] = *seen.first_chunk()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    (seen.len() >= 9 + length).then(|| {
        seen.drain(..9 + length);
        (head[3], head[8])
    })
}

// proves: TOK-OFF-02
#[tokio::test]
async fn a_client_that_does_not_read_delays_no_other_over_h1() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let tcp = TcpStream::connect(server.addr).await.expect("a connection");
    SockRef::from(&tcp).set_recv_buffer_size(4096).expect("a socket");
    let (_read, mut write) = tcp.into_split();
    // Enough requests to fill all buffers on the way, up to 32 MiB on some systems, with uploads in between: the server
    // must not hold the upload whose response it cannot write.
    let filler = TestRequest::to("OPTIONS", "/uploads").h1();
    let mut stuck = false;
    let mut sent = 0;
    for number in 0..4000 {
        let upload = TestRequest::new("POST", &format!("unread-{number}")).with(V2).sized(b"a few bytes");
        let batch = [filler.repeat(400), upload.h1()].concat();
        stuck = timeout(Duration::from_millis(500), write.write_all(&batch)).await.is_err();
        if stuck {
            break;
        }
        sent = number;
    }
    assert!(stuck, "the server reads on although nobody reads what it writes");
    let mut found = 0;
    for number in 0..=sent {
        let offset = asked(&server, Transport::H1, &format!("unread-{number}")).await;
        // Nothing is stored of an upload whose content was about to be received.
        assert!(matches!(offset, Ok(0 | 11) | Err(404)), "{offset:?}");
        found += usize::from(offset.is_ok());
    }
    assert!(found > 0, "none was taken");
}

// proves: TOK-OFF-02, TOK-OFF-03
#[tokio::test]
async fn an_unread_response_does_not_hold_the_upload() {
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let mut created = [0, 0];
    for seed in seeds(0..100) {
        for (kind, whole) in [false, true].into_iter().enumerate() {
            let token = format!("{kind}-{seed}");
            let request = TestRequest::new("POST", &token).with(V2).sized(bytes(seed, 300));
            let request = if whole { request } else { request.stalls(Some(600)) };
            let over_h2 = seed % 3 == 0;
            let request = if over_h2 { by_hand(&token, &bytes(seed, 300), whole) } else { request.h1() };
            let mut raw = Raw::connect(&server).await;
            raw.send(request).await;
            if seed % 2 == 0 {
                // Late enough for the server to have read the request, too early for its response.
                poll_until("the upload", || (home.uploads("open") + home.uploads("done") > 0).then_some(()))
                    .await;
            }
            // Over HTTP/2 the stream alone can be closed.
            let _stays = if over_h2 && seed % 4 == 0 {
                raw.send(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
                Some(raw)
            } else {
                raw.reset();
                None
            };
            let offset = asked(&server, Transport::H1, &token).await;
            created[kind] += u32::from(offset.is_ok());
            let began = Instant::now();
            // The upload may be created only now, if the server had not processed the request yet.
            let got =
                server.request(Transport::H2, TestRequest::new("POST", &token).with(V2).sized(b"anew")).await;
            assert!(began.elapsed() < BOUND, "a creation waited");
            assert!(matches!(got.status, 201 | 409), "{got:?}");
            let began = Instant::now();
            assert_eq!(server.request(Transport::H1, TestRequest::new("DELETE", &token)).await.status, 204);
            assert!(began.elapsed() < BOUND, "a cancellation waited");
            assert_eq!(home.uploads("open") + home.uploads("done"), 0);
        }
    }
    print_note(format_args!("{created:?} of 100 each had come into being"));
    assert!(created.iter().all(|created| *created >= 10), "nothing was tested: {created:?}");
}
