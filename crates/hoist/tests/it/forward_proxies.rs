//! Uploads through a forward proxy: CONNECT tunnels for https, absolute URLs for http, credentials, and exceptions.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hoist_client::{Client, Http2, Proxies, Source};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::child_process::{ExitReport, hoist};
use crate::harness::{Server, ServerDir, bytes, within_timeout};
use crate::tls_and_auth::certify;

/// `user:pass` in `Proxy-Authorization`.
const CREDENTIALS: &str = "Basic dXNlcjpwYXNz";

/// A forward proxy that resolves every host name to one server.
struct Forward {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Forward {
    async fn to(server: SocketAddr, credentials: Option<&'static str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (shared, mut task) = (Arc::clone(&heads), JoinSet::new());
        task.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                lines.spawn(carry(client, server, credentials, Arc::clone(&shared)));
            }
        });
        Self { addr, heads, _task: task }
    }

    /// Returns the request heads since the last call.
    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    credentials: Option<&str>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.clone());
    if credentials.is_some_and(|credentials| !head.contains(credentials)) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\
                       Connection: close\r\nContent-Length: 0\r\n\r\n";
        let _ = client.write_all(refusal.as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let begun = if head.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await
    } else {
        server.write_all(forwarded(&head).as_bytes()).await
    };
    if begun.is_ok() {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Converts a request for an absolute URL to the form sent to the origin server.
fn forwarded(head: &str) -> String {
    let (method, rest) = head.split_once(' ').expect("a method");
    let (url, rest) = rest.split_once(' ').expect("a target");
    let path = url.strip_prefix("http://").and_then(|url| url.find('/').map(|at| &url[at..])).expect("a URL");
    let lines = rest.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
    let rest = lines.collect::<Vec<_>>().join("\r\n");
    let (version, fields) = rest.split_once("\r\n").expect("a version");
    format!("{method} {path} {version}\r\nConnection: close\r\n{fields}")
}

/// Runs the command with environment variables.
async fn run(home: &ServerDir, variables: &[(&str, &str)], words: &[&str]) -> ExitReport {
    let mut command = hoist(words);
    command.env("XDG_STATE_HOME", home.path("state")).envs(variables.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("it runs").into()
}

fn all_have(heads: &[String], text: &str) -> bool {
    !heads.is_empty()
        && heads.iter().all(|head| head.to_ascii_lowercase().contains(&text.to_ascii_lowercase()))
}

#[tokio::test]
async fn http_uses_a_proxy_that_resolves_the_host_name() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let proxy = Forward::to(server.addr, Some(CREDENTIALS)).await;
    let content = bytes(1, 700_000);
    fs::write(home.path("film"), &content).expect("written");
    let (film, url) = (home.text("film"), "http://upload.invalid/uploads");
    let address = format!("http://user:pass@{}", proxy.addr);
    let ended = run(&home, &[("http_proxy", &address)], &["put", &film, url, "--bearer", "s3cret"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(home.only_complete() == content);
    let heads = proxy.heads();
    assert!(all_have(&heads, &format!("Proxy-Authorization: {CREDENTIALS}")), "{heads:?}");
    assert!(all_have(&heads, " http://upload.invalid/uploads"), "{heads:?}");
    assert!(all_have(&heads, "host: upload.invalid\r\n"), "{heads:?}");

    // The flag takes precedence over the variable.
    let words = ["status", url, "--token", "none", "--proxy", &address];
    let ended = run(&home, &[("http_proxy", "http://127.0.0.1:1")], &words).await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(all_have(&proxy.heads(), "HEAD http://upload.invalid/uploads "));
    server.stop().await;
}

#[tokio::test]
async fn https_goes_through_a_tunnel_in_either_version_of_http() {
    let home = ServerDir::new();
    certify(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    let proxy = Forward::to(server.addr, Some(CREDENTIALS)).await;
    let url: http::Uri = format!("https://localhost:{}/uploads", server.addr.port()).parse().expect("a URL");
    for (http2, version) in [(Http2::Auto, http::Version::HTTP_2), (Http2::Never, http::Version::HTTP_11)] {
        let client = Client::builder()
            .ca_file(home.path("cert.pem"))
            .bearer("s3cret")
            .http2(http2)
            .proxies(
                Proxies::default().through(&format!("http://user:pass@{}", proxy.addr)).expect("a proxy"),
            )
            .build()
            .expect("a client");
        let content = bytes(2, 700_000);
        let put = client.put(url.clone(), Source::bytes(content.clone()));
        let outcome = within_timeout("an upload", put.send()).await.expect("an upload");
        assert_eq!((outcome.version, outcome.bytes), (version, 700_000));
        let heads = proxy.heads();
        assert!(
            all_have(&heads, &format!("CONNECT localhost:{} HTTP/1.1\r\n", server.addr.port())),
            "{heads:?}"
        );
        assert!(
            all_have(&heads, CREDENTIALS) && !heads.iter().any(|head| head.contains("s3cret")),
            "{heads:?}"
        );
    }
    assert!(home.done().iter().all(|stored| *stored == bytes(2, 700_000)));
    server.stop().await;
}

#[tokio::test]
async fn no_proxy_exceptions_bypass_the_proxy() {
    let home = ServerDir::new();
    let server = Server::start(&home, &[]);
    let proxy = Forward::to(server.addr, None).await;
    let address = proxy.url();
    let words = ["status", &server.url, "--token", "none"];
    for (variables, more, through) in [
        (&[("all_proxy", address.as_str())][..], &[][..], true),
        (&[("ALL_PROXY", &address)], &[], true),
        (&[("HTTPS_PROXY", &address)], &[], false),
        (&[("HTTP_PROXY", &address), ("REQUEST_METHOD", "GET")], &[], false),
        (&[("http_proxy", &address), ("NO_PROXY", "127.0.0.0/8")], &[], false),
        (&[("http_proxy", &address), ("no_proxy", "example.org")], &["--no-proxy", "*"], false),
        (&[("http_proxy", &address), ("no_proxy", "*")], &["--no-proxy", "example.org"], true),
        (&[], &["--proxy", &address], true),
    ] {
        let ended = run(&home, variables, &[&words[..], more].concat()).await;
        assert_eq!(ended.code, Some(6), "{variables:?} {more:?}: {ended:?}");
        assert_eq!(!proxy.heads().is_empty(), through, "{variables:?} {more:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn errors_of_a_proxy_name_the_proxy() {
    let home = ServerDir::new();
    certify(&home);
    fs::write(home.path("film"), "content").expect("written");
    let film = home.text("film");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let proxy = Forward::to(nowhere, Some(CREDENTIALS)).await;
    for url in ["http://upload.invalid/uploads", "https://upload.invalid/uploads"] {
        let ended = run(&home, &[], &["put", &film, url, "--proxy", &proxy.url()]).await;
        assert_eq!(ended.code, Some(5), "{url}: {ended:?}");
        let said = format!("the proxy {} answered 407", proxy.addr);
        assert!(ended.stderr.contains(&said), "{url}: {ended:?}");

        let gone = ["put", &film, url, "--proxy", "127.0.0.1:1", "--retry-for", "1ms"];
        let ended = run(&home, &[], &gone).await;
        assert_eq!(ended.code, Some(7), "{url}: {ended:?}");
        assert!(ended.stderr.contains("the proxy 127.0.0.1:1"), "{url}: {ended:?}");

        for (variables, more) in [
            (&[][..], &["--proxy", "http://user:s3cret@127.0.0.1:65616"][..]),
            (&[("ALL_PROXY", "socks5://user:s3cret@127.0.0.1:1")], &[]),
            (&[("http_proxy", "user:s3cret@127.0.0.1:x"), ("https_proxy", "127.0.0.1:99999")], &[]),
        ] {
            let ended = run(&home, variables, &[&["put", &film, url][..], more].concat()).await;
            assert_eq!(ended.code, Some(2), "{variables:?} {more:?}: {ended:?}");
            assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
        }
    }
}
