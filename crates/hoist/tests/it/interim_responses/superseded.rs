//! Requests that supersede a running transfer, and replays.

use super::*;

// proves: IETF-CON-03, IETF-CON-04, IETF-CON-06
#[tokio::test]
async fn a_retrieval_supersedes_a_creation_that_is_still_running() {
    const BOUND: Duration = Duration::from_secs(1);
    let home = ServerDir::new();
    let server = Server::start(&home, &OS);
    let content = bytes(13, 60_000);
    for (creating, asking) in TRANSPORTS.iter().flat_map(|a| TRANSPORTS.map(|b| (*a, b))) {
        let request = create("?1").field(NUMBER, 8).sized(&content[..20_000]).stalls(Some(content.len()));
        let mut stalled = None;
        let upload = match creating {
            Transport::H1 => {
                let mut raw = Raw::connect(&server).await;
                raw.send(request.h1()).await;
                let (_, fields) = raw.head().await.expect("an announcement");
                stalled = Some(raw);
                path(&fields)
            }
            Transport::H2 => String::new(),
        };
        let mut h2 = None;
        let upload = if creating == Transport::H2 {
            let connection = H2::connect(&server).await;
            let mut streams = connection.streams.clone().ready().await.expect("room for a stream");
            let request = create("?1").field(NUMBER, 8).field("content-length", content.len());
            let (mut response, mut stream) = streams.send_request(request.h2(), false).expect("sent");
            let interim =
                within_timeout("the announcement", poll_fn(|cx| response.poll_informational(cx))).await;
            let upload = path(interim.expect("a 104").expect("no error").headers());
            h2_send(&mut stream, content[..20_000].to_vec().into(), false).await.expect("sent");
            h2 = Some((connection, response, stream));
            upload
        } else {
            upload
        };
        home.holds(20_000).await;

        let began = Instant::now();
        let got = server.request(asking, head(&upload)).await;
        assert!(began.elapsed() < BOUND, "it waited for a stalled peer");
        assert_eq!((got.status, got.offset(), got.is_complete()), (204, Some(20_000), false));
        assert_eq!(got.field("upload-length"), Some("60000"));
        if let Some(mut raw) = stalled {
            let ended = timeout(BOUND, raw.head()).await.expect("the stalled peer is told");
            assert!(ended.is_err(), "it has to end abruptly: {ended:?}");
        }
        if let Some((_connection, response, _stream)) = h2 {
            let ended = timeout(BOUND, response).await.expect("the stalled peer is told");
            assert!(ended.is_err_and(|error| error.is_reset()), "the stream alone");
        }
        let done = server.request(asking, append(&upload, 20_000, "?1").sized(&content[20_000..])).await;
        assert!(done.is_complete() && home.only_complete() == content, "{done:?}");
        assert_eq!(
            server.request(asking, TestRequest::to("DELETE", &upload).field(NUMBER, 8)).await.status,
            204
        );
    }
}

// proves: IETF-APP-14, IETF-APP-17, IETF-RES-01
#[tokio::test]
async fn a_lost_response_is_replayed() {
    let home = ServerDir::new();
    let files = home.text("files");
    let flags = ["--target", "files", "--files-dir", &files];
    let mut server = Server::start(&home, &flags);
    for (number, transport) in TRANSPORTS.into_iter().enumerate() {
        let content = bytes(14, 5000 + number);
        let request = create("?1").field("content-disposition", format!("inline; filename=\"{number}.bin\""));
        let (mut raw, fields) = announced(&server, request.stalls(Some(content.len()))).await;
        let upload = path(&fields);
        raw.send(&content).await;
        // The upload is delivered before the client disconnects without its response.
        let file = home.path(&format!("files/{number}.bin"));
        poll_until("the file", || file.exists().then_some(())).await;
        raw.reset();
        let replay = || append(&upload, content.len(), "?1");
        for round in 0..3 {
            let got = server.request(transport, head(&upload)).await;
            assert!(got.status == 204 && got.is_complete(), "{got:?}");
            // Also with chunked coding, where only the end shows that the content is empty.
            for request in [replay(), replay().chunked("")] {
                let got = server.request(transport, request).await;
                assert!(got.status == 201 && got.is_complete(), "{got:?}");
                assert_eq!(got.offset(), Some(content.len()));
            }
            match round {
                0 => server.kill(),
                _ => server.stop().await,
            }
            server = Server::start(&home, &flags);
        }
        // Any other request is not a replay.
        for request in [replay().sized("more"), replay().chunked("more")] {
            let got = server.request(transport, request).await;
            assert!(got.status == 400 && !got.is_complete(), "{got:?}");
        }
        let got = server.request(transport, append(&upload, 1, "?1")).await;
        assert_eq!((got.status, got.offset()), (409, Some(content.len())));
        assert_eq!(std::fs::read(&file).expect("the file"), content);
        assert_eq!(std::fs::read_dir(&files).expect("the directory").count(), number + 1, "delivered once");
    }
}

// proves: IETF-SEC-01
#[tokio::test]
async fn an_unauthorized_request_interrupts_no_transfer() {
    let home = ServerDir::new();
    let tokens = home.text("tokens");
    std::fs::write(&tokens, "s3cret-a alice\ns3cret-b bob\n").expect("written");
    let server = Server::start(&home, &[&OS[..], &["--bearer-file", &tokens]].concat());
    let content = bytes(15, 9000);
    let is = |request: TestRequest, who: &str| request.field("authorization", format!("Bearer s3cret-{who}"));
    let refused = server.request(Transport::H1, create("?1").field(NUMBER, 8).sized("hello")).await;
    assert!(refused.status == 401 && refused.interims.is_empty(), "{refused:?}");

    let (mut raw, fields) = announced(&server, is(create("?1").stalls(Some(9000)), "a")).await;
    let upload = path(&fields);
    raw.send(&content[..4000]).await;
    home.holds(4000).await;
    for transport in TRANSPORTS {
        for (who, status) in [("b", 404), ("nobody", 401)] {
            let asks = [
                head(&upload),
                TestRequest::to("GET", &upload),
                TestRequest::to("DELETE", &upload).field(NUMBER, 8),
                append(&upload, 4000, "?1").sized("not hers"),
                append(&upload, 0, "?1"),
            ];
            for request in asks {
                let got = server.request(transport, is(request.clone(), who)).await;
                assert_eq!((got.status, got.offset()), (status, None), "{who} {request:?}");
            }
        }
    }
    raw.send(&content[4000..]).await;
    let got = raw.answer(false).await.expect("the transfer was not ended");
    assert!(got.status == 201 && got.is_complete() && home.only_complete() == content, "{got:?}");
    let mut own = Exchange::begin(&server, Transport::H2, is(head(&upload), "a"), u64::MAX)
        .await
        .expect("a connection");
    assert!(own.answer().await.expect("an answer").is_complete());
}
