//! Credentials are sent only to the server they were given for, by every command.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::child_process::{ExitReport, hoist};
use crate::harness::ServerDir;

/// The response for the upload URL, which is not an upload.
const NO_UPLOAD: &str = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A server that gives the same response to every request, one per connection, and records the heads. Only `HEAD` on
/// the upload URL gets a different response.
struct Parrot {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Parrot {
    async fn start(answer: impl FnOnce(SocketAddr) -> String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (heads, answer) = (Arc::<Mutex<Vec<String>>>::default(), answer(addr));
        let (shared, mut task) = (Arc::clone(&heads), JoinSet::new());
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
                    let Ok(byte) = stream.read_u8().await else { break };
                    head.push(byte);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let is_question = head.starts_with("HEAD /uploads HTTP/1.1\r\n");
                let answer = if is_question { NO_UPLOAD } else { answer.as_str() };
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { addr, heads, _task: task }
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn run(home: &ServerDir, words: &[&str]) -> ExitReport {
    let mut command = hoist(words);
    command.env("XDG_STATE_HOME", home.path("state"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("it runs").into()
}

fn is_secret(head: &str) -> bool {
    head.to_ascii_lowercase().contains("authorization") || head.contains("s3cret")
}

#[tokio::test]
async fn no_command_sends_credentials_to_another_origin() {
    let home = ServerDir::new();
    fs::write(home.path("film"), vec![7; 1000]).expect("written");
    let elsewhere = Parrot::start(|_| {
        "HTTP/1.1 200 OK\r\nUpload-Offset: 5\r\nUpload-Complete: ?0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            .to_owned()
    })
    .await;
    let leads = format!(
        "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 9\r\n\
         Location: http://{}/uploads/1\r\n\r\n",
        elsewhere.addr
    );
    let origin = Parrot::start(|_| leads).await;
    let (film, url) = (home.text("film"), format!("http://{}/uploads", origin.addr));
    let put = ["put", &film, &url, "--bearer", "s3cret", "--dialect", "ietf-9", "--retry-for", "1ms"];
    let ended = run(&home, &put).await;
    assert_eq!(ended.code, Some(7), "the link breaks: {ended:?}");
    assert!(origin.heads().iter().any(|head| is_secret(head)), "the server of the URL gets them");

    for words in [
        &["status", &film, "--bearer", "s3cret"][..],
        &["status", &film, "--header", "Authorization: Basic s3cret"],
        &["cancel", &film, "--bearer", "s3cret"],
    ] {
        let ended = run(&home, words).await;
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        let heads = elsewhere.heads();
        assert!(!heads.is_empty() && !heads.iter().any(|head| is_secret(head)), "{words:?}: {heads:?}");
    }
    assert_eq!(origin.heads(), [] as [String; 0]);
}

#[tokio::test]
async fn credentials_with_uploads_at_several_servers_are_refused() {
    let home = ServerDir::new();
    fs::write(home.path("film"), vec![7; 1000]).expect("written");
    let film = home.text("film");
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = Parrot::start(|addr| {
            format!(
                "HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Draft-Interop-Version: 9\r\n\
                 Location: http://{addr}/uploads/1\r\n\r\n"
            )
        })
        .await;
        let url = format!("http://{}/uploads", server.addr);
        let ended = run(&home, &["put", &film, &url, "--dialect", "ietf-9", "--retry-for", "1ms"]).await;
        assert_eq!(ended.code, Some(7), "{ended:?}");
        server.heads();
        servers.push((server, url));
    }
    let ended = run(&home, &["status", &film, "--bearer", "s3cret"]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--to"), "{ended:?}");
    assert!(servers.iter().all(|(server, _)| server.heads().is_empty()));
    run(&home, &["status", &film, "--bearer", "s3cret", "--to", &servers[1].1]).await;
    assert!(servers[0].0.heads().is_empty() && servers[1].0.heads().iter().any(|head| is_secret(head)));
}
