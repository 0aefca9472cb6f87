//! TLS: trusted certificates, alternative services, and schemes.

use std::sync::Arc;

use hoist_client::{Client, Error, Handle, Proxies, Retry, Source, Token};
use http::Uri;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use crate::script::{Act, ReceivedRequest, Server, bytes, perform, respond, run_both, token_builder, write};

/// The certificate authority of one test, and a file with its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), issuer.pem()).expect("written");
        Self { issuer, file }
    }

    /// Issues a certificate for `localhost`, with changes, and its key.
    fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        change(&mut params);
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// Returns the acceptor of a server named `localhost`.
    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.leaf(|_| {});
        acceptor_of(certificate.der().clone(), &key)
    }

    fn client(&self) -> Client {
        token_builder().ca_file(self.file.path()).build().expect("a client")
    }
}

/// Returns the acceptor of a server with this certificate.
fn acceptor_of(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate");
    TlsAcceptor::from(Arc::new(config))
}

fn secure(server: &Server) -> Uri {
    format!("https://localhost:{}/uploads", server.port()).parse().expect("a URL")
}

/// Plays one script over TLS. Returns an empty request if the client aborts the handshake.
async fn play(server: &Server, acceptor: &TlsAcceptor, script: Vec<Act>) -> ReceivedRequest {
    let (socket, _) = server.listener.accept().await.expect("accepted");
    let Ok(mut stream) = acceptor.accept(socket).await else { return ReceivedRequest::default() };
    perform(&mut stream, &script).await.0
}

#[tokio::test]
async fn an_upload_is_resumed_over_tls() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let server = Server::start().await;
    let put = authority.client().put(secure(&server), Source::bytes(bytes(300_000)));
    let played = async {
        let first = play(&server, &acceptor, vec![Act::Head, Act::Content(100_000)]).await;
        play(&server, &acceptor, respond("204 No Content|Upload-Offset: 100000")).await;
        let last = play(&server, &acceptor, respond("204 No Content|Upload-Offset: 300000")).await;
        [first.content, last.content].concat()
    };
    let (outcome, content) = run_both(put.send(), played).await;
    assert_eq!(outcome.expect("an upload").retries, 1);
    assert!(content == bytes(300_000));
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Server::start().await;
    let acceptor = other.acceptor();
    let put = authority.client().put(secure(&server), Source::bytes(bytes(100)));
    let (outcome, _) = run_both(put.send(), play(&server, &acceptor, vec![Act::Head])).await;
    let error = outcome.expect_err("not trusted");
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_file_without_certificates_is_an_error() {
    let server = Server::start().await;
    for content in [None, Some(""), Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        if let Some(content) = content {
            std::fs::write(&path, content).expect("written");
        }
        let client = token_builder().ca_file(&path).build().expect("a client");
        let put = client.put(secure(&server), Source::bytes(bytes(100)));
        let accepts = async { drop(server.listener.accept().await) };
        let outcome = tokio::select! {
            outcome = put.send() => outcome,
            () = async { accepts.await; std::future::pending().await } => unreachable!("never ends"),
        };
        assert!(matches!(outcome, Err(Error::Trust { .. })), "{outcome:?}");
    }
}

// proves: TOK-DISC-04
#[tokio::test]
async fn an_alternative_service_is_used() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let (origin, elsewhere) = (Server::start().await, Server::start().await);
    let client = authority.client();
    let token = Token::new(*b"abcdef").expect("in range");
    let asks = async {
        let mut offsets = Vec::new();
        for _ in 0..3 {
            offsets.push(
                client
                    .status(&Handle::Token { url: secure(&origin), token: token.clone() })
                    .await
                    .expect("a status")
                    .offset,
            );
        }
        offsets
    };
    let response =
        format!("204 No Content|Upload-Offset: 1|Alt-Svc: h3=\":1\", http%2F1.1=\":{}\"", elsewhere.port());
    let played = async {
        play(&origin, &acceptor, respond(&response)).await;
        let seen = play(&elsewhere, &acceptor, respond("204 No Content|Upload-Offset: 2")).await;
        // The requests are still for the origin.
        assert_eq!(seen.field("host"), Some(format!("localhost:{}", origin.port()).as_str()));
        // The alternative is gone, so the origin is used.
        drop(elsewhere);
        play(&origin, &acceptor, respond("204 No Content|Upload-Offset: 3")).await;
    };
    let (offsets, ()) = run_both(asks, played).await;
    assert_eq!(offsets, [1, 2, 3]);
}

/// Makes a certificate for `localhost` as `openssl req -x509` does: self-signed and marked as that of an authority.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> (tempfile::NamedTempFile, TlsAcceptor) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), certificate.pem()).expect("written");
    (file, acceptor_of(certificate.der().clone(), &key))
}

#[tokio::test]
async fn a_self_signed_certificate_in_the_file_is_trusted() {
    let (file, acceptor) = self_signed(|_| {});
    let server = Server::start().await;
    let client = token_builder().ca_file(file.path()).build().expect("a client");
    let put = client.put(secure(&server), Source::bytes(bytes(100)));
    let script = respond("204 No Content|Upload-Offset: 100");
    let (outcome, _) = run_both(put.send(), play(&server, &acceptor, script)).await;
    assert_eq!(outcome.expect("an upload").bytes, 100);
}

#[tokio::test]
async fn a_certificate_in_the_file_is_trusted_without_its_issuer() {
    let authority = Authority::new();
    let (leaf, key) = authority.leaf(|_| {});
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), leaf.pem()).expect("written");
    let server = Server::start().await;
    let client = token_builder().ca_file(file.path()).build().expect("a client");
    let put = client.put(secure(&server), Source::bytes(bytes(100)));
    let acceptor = acceptor_of(leaf.der().clone(), &key);
    let script = respond("204 No Content|Upload-Offset: 100");
    let (outcome, _) = run_both(put.send(), play(&server, &acceptor, script)).await;
    assert_eq!(outcome.expect("an upload").bytes, 100);

    // Other certificates of the same authority are not trusted.
    let (other, key) = authority.leaf(|_| {});
    let put = client.put(secure(&server), Source::bytes(bytes(100)));
    let acceptor = acceptor_of(other.der().clone(), &key);
    let (outcome, _) = run_both(put.send(), play(&server, &acceptor, vec![Act::Head])).await;
    assert!(matches!(outcome, Err(Error::Tls { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_in_the_file_must_be_valid_and_match_the_name() {
    type Change = fn(&mut CertificateParams);
    let changes: [(Change, &str); 3] = [
        (|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1), "expired on Wed, 01 Jan 2020"),
        (
            |params| params.not_before = rcgen::date_time_ymd(4000, 1, 1),
            "not valid yet, but from Sat, 01 Jan 4000",
        ),
        (
            |params| params.subject_alt_names = elsewhere(),
            "is valid for elsewhere.example, not for localhost",
        ),
    ];
    for (change, expected) in changes {
        let authority = Authority::new();
        let (leaf, key) = authority.leaf(change);
        let leaf_file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(leaf_file.path(), leaf.pem()).expect("written");
        let of_leaf = (leaf_file, acceptor_of(leaf.der().clone(), &key));
        for (file, acceptor) in [self_signed(change), of_leaf] {
            let server = Server::start().await;
            let client = token_builder().ca_file(file.path()).build().expect("a client");
            let put = client.put(secure(&server), Source::bytes(bytes(100)));
            let (outcome, seen) = run_both(put.send(), play(&server, &acceptor, vec![Act::Head])).await;
            let error = outcome.expect_err("not trusted");
            let Error::Tls { source, .. } = &error else { panic!("{error:?}") };
            assert!(source.to_string().contains(expected), "{expected}: {source}");
            assert_eq!((error.retry(), seen.head.as_str()), (Retry::Never, ""));
        }
    }
}

fn elsewhere() -> Vec<SanType> {
    vec![SanType::DnsName("elsewhere.example".try_into().expect("a name"))]
}

#[tokio::test]
async fn a_url_with_the_wrong_scheme_fails_at_once() {
    let server = Server::start().await;
    let put = token_builder().build().expect("a client").put(secure(&server), Source::bytes(bytes(100)));
    let played = async {
        let (mut socket, _) = server.listener.accept().await.expect("accepted");
        perform(&mut socket, &[write("400 Bad Request")]).await
    };
    let (outcome, _) = run_both(put.send(), played).await;
    let error = outcome.expect_err("no TLS");
    assert!(matches!(error, Error::Scheme { speaks_tls: false, .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);

    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let server = Server::start().await;
    let put = token_builder().build().expect("a client").put(server.url.clone(), Source::bytes(bytes(100)));
    let (outcome, _) = run_both(put.send(), play(&server, &acceptor, vec![])).await;
    let error = outcome.expect_err("TLS");
    assert!(matches!(error, Error::Scheme { speaks_tls: true, .. }), "{error:?}");

    // The cleartext responses of nginx and Go.
    for phrase in
        ["The plain HTTP request was sent to HTTPS port", "Client sent an HTTP request to an HTTPS server."]
    {
        let server = Server::start().await;
        let put =
            token_builder().build().expect("a client").put(server.url.clone(), Source::bytes(bytes(100)));
        let script = vec![respond(&format!("400 Bad Request||<p>{phrase}</p>"))];
        let (outcome, _) = run_both(put.send(), server.play(script)).await;
        let error = outcome.expect_err("TLS");
        assert!(matches!(error, Error::Scheme { speaks_tls: true, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_may_require_tls_or_be_unavailable() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let proxy = Server::start().await;
    let proxies = Proxies::default().through(&format!("https://a:b@localhost:{}", proxy.port()));
    let client =
        token_builder().ca_file(authority.file.path()).proxies(proxies.expect("a proxy")).bearer("hush");
    let url = Uri::from_static("https://localhost:1/uploads");
    let put = client.build().expect("a client").put(url, Source::bytes(bytes(100)));
    let played = async {
        let busy = play(&proxy, &acceptor, vec![Act::Head, write("503 Service Unavailable")]).await;
        let (socket, _) = proxy.listener.accept().await.expect("accepted");
        let mut outer = acceptor.accept(socket).await.expect("TLS with the proxy");
        let opened = [Act::Head, Act::Write("HTTP/1.1 200 Connection established\r\n\r\n".to_owned())];
        let tunnel = perform(&mut outer, &opened).await.0;
        let mut inner = acceptor.accept(outer).await.expect("TLS with the server");
        (busy, tunnel, perform(&mut inner, &respond("204 No Content|Upload-Offset: 100")).await.0)
    };
    let (outcome, (busy, tunnel, request)) = run_both(put.send(), played).await;
    let outcome = outcome.expect("an upload");
    assert_eq!((outcome.bytes, outcome.retries), (100, 1));
    for connect in [busy, tunnel] {
        assert_eq!(connect.request(), "CONNECT localhost:1");
        assert_eq!(connect.field("proxy-authorization"), Some("Basic YTpi"));
        assert_eq!(connect.field("authorization"), None);
    }
    assert_eq!((request.request(), request.field("authorization")), ("POST /uploads", Some("Bearer hush")));
    assert_eq!(request.field("proxy-authorization"), None);
}

/// OpenSSL's server closes a cleartext connection without an alert.
#[tokio::test]
async fn a_silent_server_is_asked_whether_it_speaks_the_other_scheme() {
    let authority = Authority::new();
    let acceptor = authority.acceptor();
    let server = Server::start().await;
    let client = Client::builder().build().expect("a client");
    let put = client.put(server.url.clone(), Source::bytes(bytes(100)));
    let played = async {
        let (mut cleartext, _) = server.listener.accept().await.expect("accepted");
        let (request, _) = perform(&mut cleartext, &[Act::Head]).await;
        drop(cleartext);
        play(&server, &acceptor, vec![]).await;
        request
    };
    let (outcome, request) = run_both(put.send(), played).await;
    let error = outcome.expect_err("TLS");
    assert!(matches!(error, Error::Scheme { speaks_tls: true, .. }), "{error:?}");
    assert_eq!(request.request(), "OPTIONS /uploads");

    // A server without TLS that closes the connection at the greeting.
    let server = Server::start().await;
    let put = client.put(secure(&server), Source::bytes(bytes(100)));
    let played = async {
        drop(server.listener.accept().await.expect("accepted"));
        let (mut probe, _) = server.listener.accept().await.expect("accepted");
        perform(&mut probe, &[Act::Head, write("404 Not Found")]).await.0
    };
    let (outcome, probe) = run_both(put.send(), played).await;
    let error = outcome.expect_err("no TLS");
    assert!(matches!(error, Error::Scheme { speaks_tls: false, .. }), "{error:?}");
    assert_eq!(probe.request(), "OPTIONS *");
    assert_eq!(probe.field("authorization"), None);
}
