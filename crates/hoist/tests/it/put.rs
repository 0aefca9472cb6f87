//! `hoist put` against a server that dies on it, again and again.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::process::Command;

use crate::harness::{Home, Server, bytes, soon};

// proves: TOK-TOKEN-06
#[tokio::test]
async fn a_file_arrives_whole_although_its_server_keeps_dying() {
    let home = Home::new();
    let content = bytes(1, 48 << 20);
    fs::write(home.path("film"), &content).expect("written");
    let mut server = Server::start(&home, &[]);
    let listen = server.addr.to_string();
    let mut put = Command::new(env!("CARGO_BIN_EXE_hoist"));
    put.arg("put").arg(home.path("film")).arg(&server.url).args(["--json", "--retry-for", "30s"]);
    let mut put =
        put.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("it runs");
    let mut deaths = 0;
    for (round, signal) in [Signal::KILL, Signal::TERM, Signal::KILL].into_iter().enumerate() {
        tokio::select! {
            _ = put.wait() => break,
            () = home.holds((round + 1) * (8 << 20)) => {}
        }
        if signal == Signal::KILL {
            server.kill();
        } else {
            server.stop().await;
        }
        server = Server::start(&home, &["--listen", &listen]);
        deaths += 1;
    }
    assert!(deaths > 0, "it was too fast");
    let ended = soon("the upload", put.wait_with_output()).await.expect("a child");
    assert!(ended.status.success(), "{ended:?}");
    assert!(home.sole() == content);
    server.stop().await;
}
