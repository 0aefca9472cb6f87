//! SIGTERM: transfers end with their bytes kept, and slow or silent clients do not delay it.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::{
    Exchange, Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, poll_until, print_note,
    within_timeout,
};

/// More time than a disk needs, and less than clients get by default.
const PROMPT: Duration = Duration::from_secs(15);

// proves: TOK-OFF-03, TOK-CRE-01
#[tokio::test]
async fn stalled_transfers_are_ended_and_their_bytes_kept() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let content = bytes(1, 60_000);
    let mut stalled = Vec::new();
    for transport in TRANSPORTS {
        let request = TestRequest::new("POST", &format!("{transport:?}"))
            .sized(&content[..40_000])
            .stalls(Some(60_000));
        stalled.push((
            transport,
            Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection"),
        ));
    }
    home.holds(80_000).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited for stalled peers");
    for (_, exchange) in &mut stalled {
        // A client that still reads gets the reason and the stored offset.
        if let Ok(got) = within_timeout("the end", exchange.answer()).await {
            assert_eq!((got.status, got.offset()), (503, Some(40_000)), "{got:?}");
        }
    }
    let server = Server::start(&home, &[]);
    for transport in TRANSPORTS {
        let token = format!("{transport:?}");
        assert_eq!(server.offset(transport, &token).await, Ok(40_000));
        assert!(
            server
                .request(transport, TestRequest::append(&token, 40_000).sized(&content[40_000..]))
                .await
                .is_complete()
        );
    }
    assert!(home.done().iter().all(|stored| *stored == content));
}

#[tokio::test]
async fn silent_idle_connections_do_not_delay_the_shutdown() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    // Each client has received its response, keeps its connection and goes silent, like a laptop that sleeps.
    let mut silent = Vec::new();
    for transport in TRANSPORTS {
        let request = TestRequest::new("POST", &format!("{transport:?}")).sized(b"hello");
        let mut exchange =
            Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        assert!(within_timeout("an answer", exchange.answer()).await.expect("an answer").is_complete());
        silent.push(exchange);
    }
    let _nothing_said = Raw::connect(&server).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited {:?} for peers that are silent", began.elapsed());
}

#[tokio::test]
async fn uploads_during_the_shutdown_are_complete_or_refused() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let addr = server.addr;
    let mut all = JoinSet::new();
    let (started, mut some) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..8_u64 {
        let started = started.clone();
        all.spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0..10_000_u64 {
                let transport = TRANSPORTS[usize::from(number % 2 == 0)];
                let content = bytes(number << 32 | round, 3000);
                let request = TestRequest::new("POST", &format!("{number}-{round}")).sized(&content);
                let Ok(mut exchange) = Exchange::to(addr, transport, request).await else { break };
                match within_timeout("an answer or none", exchange.answer()).await {
                    Ok(got) if got.status == 204 => acknowledged.push(content),
                    Ok(got) => assert_eq!(got.status, 503, "{got:?}"),
                    Err(_) => {}
                }
                let _ = started.send(());
            }
            acknowledged
        });
    }
    for _ in 0..40 {
        within_timeout("uploads", some.recv()).await.expect("they go on");
    }
    server.stop().await;
    let acknowledged: Vec<_> =
        within_timeout("the last of them", all.join_all()).await.into_iter().flatten().collect();
    let stored = home.done();
    print_note(format_args!("{} acknowledged, {} stored", acknowledged.len(), stored.len()));
    assert!(acknowledged.len() >= 30);
    assert!(acknowledged.iter().all(|content| stored.contains(content)), "an acknowledged upload is lost");
    let server = Server::start(&home, &[]);
    assert_eq!(server.request(Transport::H1, TestRequest::to("GET", "/readyz")).await.status, 200);
}

// proves: TOK-CRE-01
#[tokio::test]
async fn content_that_arrives_right_before_the_signal_is_kept() {
    let home = ServerDir::new();
    let mut kept = 0;
    for round in 0..6 {
        let server = Server::start(&home, &["--durability", "os"]);
        let request =
            TestRequest::new("POST", &format!("last-{round}")).sized([b'x'; 100]).stalls(Some(100_000));
        let mut raw = Raw::connect(&server).await;
        raw.send(request.h1()).await;
        kept += 100;
        home.holds(kept).await;
        raw.send(vec![b'y'; 50_000]).await;
        server.stop().await;
        kept += 50_000;
        assert_eq!(home.open().iter().map(Vec::len).sum::<usize>(), kept, "round {round}");
    }
}

#[tokio::test]
async fn a_slow_hook_does_not_delay_the_shutdown_beyond_the_drain_timeout() {
    let home = ServerDir::new();
    let asked = home.text("asked");
    let hook = format!("sh -c 'echo $$ > {asked}.new; mv {asked}.new {asked}; exec sleep 1000'");
    let flags = ["--hook-command", &hook, "--hook-timeout", "1h", "--drain-timeout", "1s"];
    let server = Server::start(&home, &flags);
    let request = TestRequest::new("POST", "asked").sized(bytes(3, 5000));
    let mut waiting = Exchange::begin(&server, Transport::H1, request, u64::MAX).await.expect("a connection");
    poll_until("the question", || home.path("asked").exists().then_some(())).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited {:?} for a hook", began.elapsed());
    assert!(
        !within_timeout("the end", waiting.answer()).await.is_ok_and(|got| got.status < 500),
        "nothing was decided"
    );
    let server = Server::start(&home, &[]);
    assert_eq!(server.offset(Transport::H1, "asked").await, Err(404));
}

#[tokio::test]
async fn a_slow_start_can_be_stopped() {
    let home = ServerDir::new();
    std::fs::create_dir(home.data()).expect("a directory");
    // Reading the file blocks on a writer that never comes, like a disk that hangs.
    let fifo = std::process::Command::new("mkfifo").arg(home.data().join("key")).status().expect("a FIFO");
    assert!(fifo.success());
    assert_eq!(Server::stop_starting(&home).await, Some(0));
}
