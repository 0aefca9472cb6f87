//! `--listen` with unix sockets and host names: the files of sockets, and the clients that proxies report.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Server, ServerDir, poll_until, within_timeout};

/// Sends one request whose connection the server closes, and returns the response.
async fn ask(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut seen = Vec::new();
    within_timeout("a response", stream.read_to_end(&mut seen)).await.expect("read");
    String::from_utf8(seen).expect("text")
}

fn upload(fields: &str) -> String {
    format!(
        "PUT /uploads/film HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\nContent-Length: 4\r\n\r\nfilm"
    )
}

#[tokio::test]
async fn uploads_arrive_over_a_unix_socket_whose_file_is_removed_at_the_end() {
    let home = ServerDir::new();
    let socket = home.path("socket");
    let place = format!("unix:{}", home.text("socket"));
    let flags = ["--listen", "127.0.0.1:0", "--listen", &place, "--socket-mode", "600"];
    let server = Server::start(&home, &flags);
    assert!(server.url.ends_with(&format!(" {place}")), "the ready line names it: {}", server.url);
    let file = fs::symlink_metadata(&socket).expect("there");
    assert!(file.file_type().is_socket() && file.permissions().mode() & 0o777 == 0o600, "{file:?}");
    let answer = ask(&socket, &upload("")).await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert_eq!(home.only_complete(), b"film");

    // A second server does not take the socket of the first one.
    let other = ServerDir::new();
    let failed = Server::fail(&other, &other.data(), &["--listen", &place]).await;
    assert_eq!(failed.code, Some(4), "{failed:?}");
    assert!(failed.stderr.contains("another process listens on it"), "{failed:?}");
    server.stop().await;
    assert!(!socket.exists());

    // A crash leaves the file, and the next start replaces it.
    let server = Server::start(&home, &flags);
    server.kill();
    assert!(socket.exists());
    let server = Server::start(&home, &flags);
    assert!(
        ask(&socket, "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.contains(" 200 ")
    );
    server.stop().await;
}

#[tokio::test]
async fn only_a_trusted_unix_peer_names_the_client_and_the_host() {
    let home = ServerDir::new();
    let place = format!("unix:{}", home.text("socket"));
    let fields = "Forwarded: for=192.0.2.7;proto=https;host=upload.example\r\n";
    for (trusted, location) in
        [("10.0.0.1", "http://a/uploads/"), ("unix", "https://upload.example/uploads/")]
    {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--listen",
            &place,
            "--trusted-proxy",
            trusted,
            "--log-level",
            "debug",
        ];
        let server = Server::start(&home, &flags);
        let answer = ask(&home.path("socket"), &upload(fields)).await;
        assert!(answer.contains(&format!("Location: {location}")), "{trusted}: {answer}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_unix_socket_stays_cleartext_beside_tls() {
    let home = ServerDir::new();
    crate::tls_and_auth::certify(&home);
    let place = format!("unix:{}", home.text("socket"));
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(
        &home,
        &["--listen", "127.0.0.1:0", "--listen", &place, "--tls-cert", &cert, "--tls-key", &key],
    );
    assert!(server.url.starts_with("https://"), "{}", server.url);
    assert!(ask(&home.path("socket"), &upload("")).await.starts_with("HTTP/1.1 201 "));
    server.stop().await;
}

#[tokio::test]
async fn a_host_name_is_listened_on_at_all_its_addresses() {
    let home = ServerDir::new();
    let server = Server::start(&home, &["--listen", "localhost:0"]);
    for url in server.url.split(' ') {
        let authority =
            url.strip_prefix("http://").and_then(|url| url.split('/').next()).expect("an authority");
        assert!(authority.ends_with(&format!(":{}", server.addr.port())), "one port: {}", server.url);
        TcpStream::connect(authority).await.expect("a connection");
    }
    server.stop().await;
    let failed = Server::fail(&home, &home.data(), &["--listen", "no-such-host.invalid:0"]).await;
    assert_eq!(failed.code, Some(4), "{failed:?}");
    assert!(failed.stderr.contains("cannot listen on no-such-host.invalid:0: "), "{failed:?}");
}

#[tokio::test]
async fn a_stalled_transfer_over_a_unix_socket_is_kept_at_shutdown() {
    let home = ServerDir::new();
    let place = format!("unix:{}", home.text("socket"));
    let server = Server::start(&home, &["--listen", "127.0.0.1:0", "--listen", &place]);
    let mut stream = UnixStream::connect(home.path("socket")).await.expect("a connection");
    let request =
        "POST /uploads HTTP/1.1\r\nHost: a\r\nUpload-Token: abcdefgh\r\nContent-Length: 9\r\n\r\nhalf";
    stream.write_all(request.as_bytes()).await.expect("sent");
    poll_until("the bytes", || (home.open() == [b"half"]).then_some(())).await;
    server.stop().await;
    assert_eq!(home.open(), [b"half"]);
}
