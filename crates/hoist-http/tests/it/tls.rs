//! TLS: both versions of HTTP by ALPN, reloading certificates, and rejecting plain TCP.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hoist_http::{Body, Peer, Server, tls};
use http::Request;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

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

/// Connects, trusting only `root`.
async fn connect(
    server: &Running,
    root: &CertificateDer<'static>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
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
