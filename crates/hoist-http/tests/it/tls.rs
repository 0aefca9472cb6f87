//! TLS: both versions of HTTP by ALPN, reloading certificates, and rejecting plain TCP.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hoist_http::{Body, Peer, Server, tls};
use http::Request;
use http_body_util::BodyExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::h1_bodies::read;
use crate::support::*;

/// Writes a new certificate and its key, and returns the certificate.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn acceptor(dir: &Path) -> Result<tls::Acceptor, tls::Error> {
    tls::Acceptor::from_pem_files(dir.join("cert.pem"), dir.join("key.pem"))
}

async fn start_tls(acceptor: &tls::Acceptor) -> Running {
    start_with(Server::new().tls(acceptor.clone()), |request: Request<Body>| async move {
        assert!(request.extensions().get::<Peer>().unwrap().tls);
        interim_of(&request).send(progress(0)).unwrap();
        echo(request).await
    })
    .await
}

/// Returns a configuration that trusts only `root`.
fn trusting(root: &CertificateDer<'static>, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Connects, trusting only `root`.
async fn connect(
    server: &Running,
    root: &CertificateDer<'static>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = trusting(root, alpn);
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(config).connect(name, tcp)).await
}

/// Sends one request on HTTP/1.1. The connection stays open.
async fn ask(tls: &mut TlsStream<TcpStream>, content: &[u8]) -> String {
    let head = format!("PUT /t HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", content.len());
    tls.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(tls);
    let reading = async {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\n") || !String::from_utf8_lossy(&seen).contains("PUT /t ") {
            assert!(soon(reader.read_buf(&mut seen)).await.unwrap() > 0);
        }
        String::from_utf8(seen).unwrap()
    };
    let writing = async {
        writer.write_all(content).await.unwrap();
        writer.flush().await.unwrap();
    };
    tokio::join!(reading, writing).0
}

#[tokio::test]
async fn http_1_1_is_served_with_and_without_alpn() {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    let server = start_tls(&acceptor(dir.path()).unwrap()).await;
    for alpn in [&["http/1.1"][..], &[]] {
        let mut tls = connect(&server, &root, alpn).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), alpn.first().map(|protocol| protocol.as_bytes()));
        let content = vec![9; 5_000_000];
        for _ in 0..2 {
            let answer = ask(&mut tls, &content).await;
            assert!(answer.starts_with("HTTP/1.1 104 ") && answer.contains("PUT /t 5000000 "), "{answer}");
        }
        tls.shutdown().await.unwrap();
        assert_eq!(soon(tls.read(&mut [0; 9])).await.unwrap(), 0, "closed in order");
    }
}

#[tokio::test]
async fn http_2_is_served_by_alpn_and_prior_knowledge() {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    let server = start_tls(&acceptor(dir.path()).unwrap()).await;
    for alpn in [&["h2", "http/1.1"][..], &[]] {
        let tls = connect(&server, &root, alpn).await.unwrap();
        let (mut client, connection) = h2::client::handshake(tls).await.unwrap();
        tokio::spawn(connection);
        let request = Request::put("https://localhost/t").body(()).unwrap();
        let (mut response, mut stream) = client.send_request(request, false).unwrap();
        let head = soon(std::future::poll_fn(|cx| response.poll_informational(cx))).await.unwrap().unwrap();
        assert_eq!(head.status(), 104);
        stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let mut body = soon(response).await.unwrap().into_body();
        assert_eq!(soon(body.data()).await.unwrap().unwrap(), "PUT /t 5 4f9f2cab\n");
    }
}

#[tokio::test]
async fn certificates_are_reloaded_while_connections_live() {
    let dir = tempfile::tempdir().unwrap();
    let old = certify(dir.path());
    let acceptor = acceptor(dir.path()).unwrap();
    let server = start_tls(&acceptor).await;
    let mut early = connect(&server, &old, &["http/1.1"]).await.unwrap();

    // The old certificate stays in use while the key belongs to another one or the file is incomplete.
    let kept = fs::read(dir.path().join("key.pem")).unwrap();
    let new = certify(dir.path());
    let key = fs::read(dir.path().join("key.pem")).unwrap();
    fs::write(dir.path().join("key.pem"), kept).unwrap();
    assert!(matches!(acceptor.reload(), Err(tls::Error::OtherKey { .. })));
    fs::write(dir.path().join("key.pem"), &key[..key.len() / 2]).unwrap();
    assert!(matches!(acceptor.reload(), Err(tls::Error::Pem { .. })));
    assert!(connect(&server, &old, &[]).await.is_ok());

    fs::write(dir.path().join("key.pem"), key).unwrap();
    acceptor.reload().unwrap();
    assert!(connect(&server, &new, &[]).await.is_ok());
    assert!(connect(&server, &old, &[]).await.is_err());
    assert!(ask(&mut early, b"hello").await.contains("PUT /t 5 "));
}

#[tokio::test]
async fn a_certificate_is_replaced_by_that_of_another_acceptor() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = certify(dir.path());
    let in_use = acceptor(dir.path()).unwrap();
    let server = start_tls(&in_use).await;
    certify(other_dir.path());
    let other = acceptor(other_dir.path()).unwrap();
    assert!(in_use.replace_with(&other) && !in_use.replace_with(&other));
    assert_eq!(in_use.validity(), other.validity());
    assert!(connect(&server, &old, &[]).await.is_err());
    let renewed = certify(other_dir.path());
    in_use.reload().unwrap();
    assert!(connect(&server, &renewed, &[]).await.is_ok(), "its files are those of the other");
}

#[tokio::test]
async fn an_unusable_certificate_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(acceptor(dir.path()), Err(tls::Error::Pem { .. })));
    certify(dir.path());
    fs::write(dir.path().join("cert.pem"), "nothing").unwrap();
    assert!(matches!(acceptor(dir.path()), Err(tls::Error::Pem { .. })));
}

#[tokio::test]
async fn plain_tcp_on_a_tls_port_is_closed_and_others_continue() {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    let server = start_tls(&acceptor(dir.path()).unwrap()).await;
    let mut client = Raw::connect(server.addr).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    while client.more_quietly().await {}
    let mut tls = connect(&server, &root, &["http/1.1"]).await.unwrap();
    assert!(ask(&mut tls, b"").await.contains("PUT /t 0 "));
}

#[tokio::test]
async fn a_body_ends_with_the_records_in_the_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    // The service writes as the peer, so that records have arrived in the kernel before the runtime notices them.
    let peer: Arc<Mutex<Option<StreamOwned<ClientConnection, std::net::TcpStream>>>> = Arc::default();
    let writer = Arc::clone(&peer);
    let (wrote, written) = std::sync::mpsc::channel();
    let server = Server::new().tls(acceptor(dir.path()).unwrap());
    let server = start_with(server, move |request: Request<Body>| {
        let (writer, wrote) = (Arc::clone(&writer), wrote.clone());
        async move {
            let abort = abort_of(&request);
            let mut body = request.into_body();
            let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
            writer.lock().unwrap().as_mut().unwrap().write_all(&vec![b'x'; 40_000]).unwrap();
            wrote.send(()).unwrap();
            abort.end_content();
            let (rest, end) = soon(read(body)).await;
            text(200, format!("{} {end:?}", first.len() + rest.len()))
        }
    })
    .await;
    let config = trusting(&root, &[]);
    let addr = server.addr;
    let client = Arc::clone(&peer);
    let sent = spawn_blocking(move || {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(config, name).unwrap();
        let mut tcp = std::net::TcpStream::connect(addr).unwrap();
        tls.complete_io(&mut tcp).unwrap();
        let mut stream = client.lock().unwrap();
        let stream = stream.insert(StreamOwned::new(tls, tcp));
        stream.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nfour").unwrap();
    });
    soon(sent).await.unwrap();
    let answer = spawn_blocking(move || {
        written.recv_timeout(TEST_TIMEOUT).unwrap();
        let mut stream = peer.lock().unwrap();
        let stream = stream.as_mut().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b")") {
            let mut bytes = [0; 1000];
            let read = stream.read(&mut bytes).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&bytes[..read]);
        }
        String::from_utf8(seen).unwrap()
    });
    let answer = soon(answer).await.unwrap();
    assert!(answer.ends_with("40004 Some(Aborted)"), "{answer}");
}

#[tokio::test]
async fn records_that_have_arrived_are_read_together() {
    let dir = tempfile::tempdir().unwrap();
    let root = certify(dir.path());
    let has_sent = Arc::new(Semaphore::new(0));
    let go = Arc::clone(&has_sent);
    let server = Server::new().tls(acceptor(dir.path()).unwrap());
    let server = start_with(server, move |request: Request<Body>| {
        let go = Arc::clone(&go);
        async move {
            go.acquire().await.unwrap().forget();
            let mut body = request.into_body();
            let (mut bytes, mut largest) = (0, 0);
            while let Some(frame) = soon(body.frame()).await {
                let frame = frame.unwrap().into_data().unwrap().len();
                (bytes, largest) = (bytes + frame, largest.max(frame));
            }
            text(200, format!("{bytes} {}", if largest > 16 << 10 { "together" } else { "apart" }))
        }
    })
    .await;
    let mut tls = connect(&server, &root, &[]).await.unwrap();
    let head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\nConnection: close\r\n\r\n";
    tls.write_all(head).await.unwrap();
    tls.write_all(&vec![b'x'; 60_000]).await.unwrap();
    tls.flush().await.unwrap();
    has_sent.add_permits(1);
    let mut answer = String::new();
    soon(tls.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("60000 together"), "{answer}");
}
