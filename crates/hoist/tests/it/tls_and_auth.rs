//! TLS and authentication: certificates that change during a transfer, and clients without access.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::child_process::{ExitReport, hoist};
use crate::harness::{
    Exchange, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, poll_until, poll_until_async,
    within_timeout,
};

/// Writes a new certificate for `localhost` and renames it into place, as tools that renew certificates do.
pub(crate) fn certify(home: &ServerDir) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    for (name, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
        fs::write(home.path("new"), text).expect("written");
        fs::rename(home.path("new"), home.path(name)).expect("renamed");
    }
    made.cert.der().clone()
}

/// Returns a client that trusts only these certificates.
pub(crate) fn trusting(certificates: &[CertificateDer<'static>]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).expect("a certificate");
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// Returns whether the server uses this certificate for new connections.
pub(crate) async fn shows(server: &Server, certificate: &CertificateDer<'static>) -> bool {
    let tcp = TcpStream::connect(server.addr).await.expect("a connection");
    let name = ServerName::try_from("localhost").expect("a name");
    within_timeout("a handshake", trusting(std::slice::from_ref(certificate)).connect(name, tcp))
        .await
        .is_ok()
}

// proves: TOK-SEC-01
#[tokio::test]
async fn uploads_over_tls_survive_a_new_certificate() {
    let home = ServerDir::new();
    let first = certify(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let mut server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    server.tls = Some(trusting(std::slice::from_ref(&first)));
    let content = bytes(1, 2_000_000);

    let mut running = Vec::new();
    for transport in TRANSPORTS {
        let request = TestRequest::new("POST", &format!("running-{transport:?}")).sized(&content);
        let mut exchange = Exchange::begin(&server, transport, request, 700_000).await.expect("a connection");
        assert!(within_timeout("the bytes", exchange.reached()).await.is_none(), "it goes on too far");
        running.push(exchange);
    }
    let second = certify(&home);
    server.signal(Signal::HUP);
    poll_until_async("the new certificate", async || shows(&server, &second).await.then_some(())).await;
    for exchange in &mut running {
        exchange.send_rest();
        let got = within_timeout("the answer", exchange.answer()).await.expect("its connection lives");
        assert!(got.status == 204 && got.is_complete(), "{got:?}");
    }
    assert!(home.done().iter().all(|stored| *stored == content));

    // An invalid certificate file is ignored.
    fs::write(home.path("cert.pem"), "half a certificate").expect("written");
    server.signal(Signal::HUP);
    poll_until("the complaint", || server.log().contains("cannot reload: --tls-cert: ").then_some(())).await;
    assert!(shows(&server, &second).await, "the old certificate stays");

    server.tls = Some(trusting(&[second]));
    for transport in TRANSPORTS {
        let token = format!("resumed-{transport:?}");
        let request = TestRequest::new("POST", &token).sized(&content[..500_000]).stalls(Some(content.len()));
        let mut stalled = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(500_000).await;
        assert_eq!(server.offset(transport, &token).await, Ok(500_000));
        assert!(within_timeout("the end of the stalled", stalled.answer()).await.is_err());
        let done =
            server.request(transport, TestRequest::append(&token, 500_000).sized(&content[500_000..])).await;
        assert!(done.is_complete(), "{done:?}");
    }
    assert!(home.done().len() == 4 && home.done().iter().all(|stored| *stored == content));
    server.stop().await;
}

/// A certificate for `localhost` as made by `openssl req -x509`, marked as an authority.
fn certify_as_openssl(home: &ServerDir) {
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    fs::write(home.path("cert.pem"), certificate.pem()).expect("written");
    fs::write(home.path("key.pem"), key.serialize_pem()).expect("written");
}

async fn run(home: &ServerDir, words: &[&str]) -> ExitReport {
    let mut command = hoist(words);
    command.env("XDG_STATE_HOME", home.path("state"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("it runs").into()
}

#[tokio::test]
async fn the_servers_self_signed_certificate_can_be_trusted_by_clients() {
    let home = ServerDir::new();
    certify_as_openssl(&home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let server = Server::start(&home, &["--tls-cert", &cert, "--tls-key", &key]);
    fs::write(home.path("film"), "content").expect("written");
    let (film, port) = (home.text("film"), server.addr.port());
    let url = format!("https://localhost:{port}/uploads");
    let ended = run(&home, &["put", &film, &url, "--ca", &cert]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(home.only_complete() == b"content");

    // An error that a retry does not fix is reported at once.
    for (url, more, said) in [
        (url, &[][..], "TLS with localhost"),
        (
            format!("https://127.0.0.1:{port}/uploads"),
            &["--ca", &cert],
            "is valid for localhost, not for 127.0.0.1",
        ),
        (format!("http://localhost:{port}/uploads"), &[], "write https://"),
    ] {
        let ended = run(&home, &[&["put", &film, &url][..], more].concat()).await;
        assert_eq!(ended.code, Some(14), "{url}: {ended:?}");
        assert!(ended.stderr.contains(said) && !ended.stderr.contains("later"), "{url}: {ended:?}");
    }
    server.stop().await;

    let plain = ServerDir::new();
    let server = Server::start(&plain, &[]);
    let ended = run(&home, &["put", &film, &server.url.replace("http://", "https://")]).await;
    assert_eq!(ended.code, Some(14), "{ended:?}");
    assert!(ended.stderr.contains("does not speak TLS"), "{ended:?}");
    server.stop().await;
}

// proves: TOK-SEC-02, TOK-TOKEN-03
#[tokio::test]
async fn unauthorized_requests_find_nothing_and_interrupt_nothing() {
    let home = ServerDir::new();
    fs::write(home.path("tokens"), "# for tests\nsecret-of-alice alice\nsecret-of-bob bob\n")
        .expect("written");
    let server = Server::start(&home, &["--bearer-file", &home.text("tokens"), "--log-level", "trace"]);
    let alice = |request: TestRequest| request.field("authorization", "Bearer secret-of-alice");
    let bob = |request: TestRequest| request.field("authorization", "Bearer secret-of-bob");
    for transport in TRANSPORTS {
        let token = format!("{transport:?}");
        let content = bytes(3, 20_000);
        let request = alice(TestRequest::new("POST", &token).sized(&content[..5000]).stalls(Some(20_000)));
        let mut running = Exchange::begin(&server, transport, request, u64::MAX).await.expect("a connection");
        home.holds(5000).await;

        let attempts = || {
            [
                TestRequest::new("HEAD", &token),
                TestRequest::append(&token, 5000).sized(b"x"),
                TestRequest::new("DELETE", &token),
            ]
        };
        for request in attempts().into_iter().chain([TestRequest::new("POST", &token).sized(b"x")]) {
            for request in [request.clone(), request.field("authorization", "Bearer secret-of-carol")] {
                let got = server.request(transport, request).await;
                assert_eq!(got.status, 401, "{got:?}");
                assert!(
                    got.field("www-authenticate").is_some_and(|field| field.starts_with("Bearer")),
                    "{got:?}"
                );
                assert_eq!(got.offset(), None);
            }
        }
        for request in attempts() {
            let got = server.request(transport, bob(request)).await;
            assert_eq!((got.status, got.offset()), (404, None), "{got:?}");
        }
        let others = server.request(transport, bob(TestRequest::new("POST", &token).sized(b"bob's"))).await;
        assert!(others.status == 204 && others.is_complete(), "the same token is another upload: {others:?}");
        let disturbed = tokio::time::timeout(Duration::from_millis(200), running.answer()).await;
        assert!(disturbed.is_err(), "a stranger ended a transfer: {disturbed:?}");

        let got = server.request(transport, alice(TestRequest::new("HEAD", &token))).await;
        assert_eq!((got.status, got.offset()), (204, Some(5000)));
        let done =
            server.request(transport, alice(TestRequest::append(&token, 5000).sized(&content[5000..]))).await;
        assert!(done.is_complete());
        let mut done = home.done();
        done.sort_by_key(Vec::len);
        assert!(done == [b"bob's".to_vec(), content], "two principals, two uploads");
        for (who, mine) in
            [(bob(TestRequest::new("DELETE", &token)), 1), (alice(TestRequest::new("DELETE", &token)), 0)]
        {
            assert_eq!(server.request(transport, who).await.status, 204);
            assert_eq!(home.uploads("done"), mine);
        }
    }
    assert!(!server.log().contains("secret-of-"), "credentials are in the log");

    // A user removed from the file loses access.
    fs::write(home.path("tokens"), "secret-of-bob bob\n").expect("written");
    poll_until_async("alice to be a stranger", async || {
        let got = server.request(Transport::H1, alice(TestRequest::new("HEAD", "whatever"))).await;
        (got.status == 401).then_some(())
    })
    .await;
}
