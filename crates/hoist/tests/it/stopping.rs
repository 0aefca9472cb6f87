//! SIGTERM: transfers end with their bytes kept, and nothing that is slow or silent holds the server up.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::{Ask, Exchange, Home, Raw, Server, WIRES, Wire, bytes, say, soon, until};

/// More than any disk needs, less than the time that peers are given by default.
const PROMPT: Duration = Duration::from_secs(15);

// proves: TOK-OFF-03, TOK-CRE-01
#[tokio::test]
async fn stalled_transfers_are_ended_and_kept() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let content = bytes(1, 60_000);
    let mut stalled = Vec::new();
    for wire in WIRES {
        let ask = Ask::new("POST", &format!("{wire:?}")).sized(&content[..40_000]).stalls(Some(60_000));
        stalled.push((wire, Exchange::begin(&server, wire, ask, u64::MAX).await.expect("a connection")));
    }
    home.holds(80_000).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited for stalled peers");
    for (_, exchange) in &mut stalled {
        // Whoever listens is told why, and how much is stored.
        if let Ok(got) = soon("the end", exchange.answer()).await {
            assert_eq!((got.status, got.offset()), (503, Some(40_000)), "{got:?}");
        }
    }
    let server = Server::start(&home, &[]);
    for wire in WIRES {
        let token = format!("{wire:?}");
        assert_eq!(server.offset(wire, &token).await, Ok(40_000));
        assert!(server.ask(wire, Ask::append(&token, 40_000).sized(&content[40_000..])).await.is_complete());
    }
    assert!(home.done().iter().all(|stored| *stored == content));
}

#[tokio::test]
async fn idle_peers_that_have_gone_silent_hold_nothing_up() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    // Each has had its answer, keeps its connection and will never say or hear another word, as a laptop that sleeps.
    let mut silent = Vec::new();
    for wire in WIRES {
        let ask = Ask::new("POST", &format!("{wire:?}")).sized(b"hello");
        let mut exchange = Exchange::begin(&server, wire, ask, u64::MAX).await.expect("a connection");
        assert!(soon("an answer", exchange.answer()).await.expect("an answer").is_complete());
        silent.push(exchange);
    }
    let _nothing_said = Raw::connect(&server).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited {:?} for peers that are silent", began.elapsed());
}

#[tokio::test]
async fn uploads_that_come_in_while_it_stops_are_whole_or_refused() {
    let home = Home::new();
    let server = Server::start(&home, &[]);
    let addr = server.addr;
    let mut all = JoinSet::new();
    let (started, mut some) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..8_u64 {
        let started = started.clone();
        all.spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0..10_000_u64 {
                let wire = WIRES[usize::from(number % 2 == 0)];
                let content = bytes(number << 32 | round, 3000);
                let ask = Ask::new("POST", &format!("{number}-{round}")).sized(&content);
                let Ok(mut exchange) = Exchange::to(addr, wire, ask).await else { break };
                match soon("an answer or none", exchange.answer()).await {
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
        soon("uploads", some.recv()).await.expect("they go on");
    }
    server.stop().await;
    let acknowledged: Vec<_> = soon("the last of them", all.join_all()).await.into_iter().flatten().collect();
    let stored = home.done();
    say(format_args!("{} acknowledged, {} stored", acknowledged.len(), stored.len()));
    assert!(acknowledged.len() >= 30);
    assert!(acknowledged.iter().all(|content| stored.contains(content)), "an acknowledged upload is lost");
    let server = Server::start(&home, &[]);
    assert_eq!(server.ask(Wire::H1, Ask::to("GET", "/readyz")).await.status, 200);
}

// proves: TOK-CRE-01
#[tokio::test]
async fn content_that_arrives_right_before_the_signal_is_kept() {
    let home = Home::new();
    let mut kept = 0;
    for round in 0..6 {
        let server = Server::start(&home, &["--durability", "os"]);
        let ask = Ask::new("POST", &format!("last-{round}")).sized([b'x'; 100]).stalls(Some(100_000));
        let mut raw = Raw::connect(&server).await;
        raw.send(ask.h1()).await;
        kept += 100;
        home.holds(kept).await;
        raw.send(vec![b'y'; 50_000]).await;
        server.stop().await;
        kept += 50_000;
        assert_eq!(home.open().iter().map(Vec::len).sum::<usize>(), kept, "round {round}");
    }
}

#[tokio::test]
async fn a_hook_that_takes_its_time_is_not_waited_for_beyond_the_drain_timeout() {
    let home = Home::new();
    let asked = home.text("asked");
    let hook = format!("sh -c 'echo $$ > {asked}.new; mv {asked}.new {asked}; exec sleep 1000'");
    let flags = ["--hook-command", &hook, "--hook-timeout", "1h", "--drain-timeout", "1s"];
    let server = Server::start(&home, &flags);
    let ask = Ask::new("POST", "asked").sized(bytes(3, 5000));
    let mut waiting = Exchange::begin(&server, Wire::H1, ask, u64::MAX).await.expect("a connection");
    until("the question", || home.path("asked").exists().then_some(())).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < PROMPT, "it waited {:?} for a hook", began.elapsed());
    assert!(
        !soon("the end", waiting.answer()).await.is_ok_and(|got| got.status < 500),
        "nothing was decided"
    );
    let server = Server::start(&home, &[]);
    assert_eq!(server.offset(Wire::H1, "asked").await, Err(404));
}

#[tokio::test]
async fn a_start_that_takes_its_time_can_be_stopped() {
    let home = Home::new();
    std::fs::create_dir(home.data()).expect("a directory");
    // Reading it waits for a writer that never comes, as a disk may that has gone.
    let fifo = std::process::Command::new("mkfifo").arg(home.data().join("key")).status().expect("a FIFO");
    assert!(fifo.success());
    assert_eq!(Server::stop_starting(&home).await, Some(0));
}
