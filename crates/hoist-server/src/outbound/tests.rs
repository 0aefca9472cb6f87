//! Recipients that answer, and recipients that misbehave.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(30), bytes_max: 100 };

/// A recipient that reads each request and then writes one of `answers`, on new connections only.
struct Scripted {
    url: String,
    requests: JoinSet<Vec<String>>,
}

impl Scripted {
    async fn new(answers: Vec<&'static str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
        let mut requests = JoinSet::new();
        requests.spawn(async move {
            let mut seen = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                seen.push(request(&mut stream).await);
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
            seen
        });
        Self { url, requests }
    }

    async fn requests(mut self) -> Vec<String> {
        self.requests.join_next().await.expect("one task").expect("no panic")
    }
}

/// Reads a request with `Content-Length`.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut text).await.expect("read"), 0, "the request ends early");
        let read = String::from_utf8_lossy(&text).into_owned();
        let Some((head, content)) = read.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if content.len() == length.unwrap_or(0) {
            return read;
        }
    }
}

async fn post(url: &str, bounds: Bounds) -> Result<Response, OutboundError> {
    let to = url.parse().expect("a URL");
    let fields = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    Outbound::new().post(&to, fields.into_iter().collect(), Bytes::from_static(b"{}"), bounds).await
}

#[tokio::test]
async fn a_request_carries_fields_and_content_and_gets_the_answer() {
    let recipient =
        Scripted::new(vec!["HTTP/1.1 202 Accepted\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok"]).await;
    let answer = post(&recipient.url, BOUNDS).await.expect("an answer");
    assert_eq!((answer.status, &*answer.content), (StatusCode::ACCEPTED, &b"ok"[..]));
    assert_eq!(answer.fields["x-a"], "b");
    let request = recipient.requests().await.remove(0);
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{}"), "{request}");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let recipient =
        Scripted::new(vec!["HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"])
            .await;
    let answer = post(&recipient.url, BOUNDS).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn user_and_password_are_sent_and_not_shown() {
    let recipient = Scripted::new(vec!["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]).await;
    let url = recipient.url.replace("http://", "http://al%40ice:p:w@");
    let to: Destination = url.parse().expect("a URL");
    assert_eq!(to.to_string(), recipient.url);
    assert!(!format!("{to:?}").contains("p:w"));
    post(&url, BOUNDS).await.expect("an answer");
    let request = recipient.requests().await.remove(0).to_lowercase();
    // Base64 of `al@ice:p:w`.
    assert!(request.contains(&"\r\nauthorization: Basic YWxAaWNlOnA6dw==\r\n".to_lowercase()), "{request}");
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let cases = [
        ("", "a closed connection"),
        ("garbage\r\n\r\n", "no HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "half an answer"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "half a chunk"),
    ];
    for (answer, what) in cases {
        let recipient = Scripted::new(vec![answer]).await;
        let answered = post(&recipient.url, BOUNDS).await;
        assert!(matches!(answered, Err(OutboundError::Network(_))), "{what}: {answered:?}");
    }
    let closed = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port").local_addr().expect("bound");
    let refused = post(&format!("http://{closed}"), BOUNDS).await;
    assert!(matches!(refused, Err(OutboundError::Network(_))), "{refused:?}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time() {
    let long = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
        0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789x";
    let recipient = Scripted::new(vec![long]).await;
    let answered = post(&recipient.url, BOUNDS).await;
    assert!(matches!(answered, Err(OutboundError::TooLarge(100))), "{answered:?}");

    let silent = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("bound"));
    let answered = post(&url, Bounds { timeout: Duration::from_millis(50), ..BOUNDS }).await;
    assert!(matches!(answered, Err(OutboundError::TooSlow(_))), "{answered:?}");
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let to: Destination = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
    let mut recipient = JoinSet::new();
    recipient.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        for _ in 0..3 {
            request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        }
    });
    let outbound = Outbound::new();
    for _ in 0..3 {
        outbound.post(&to, HeaderMap::new(), Bytes::from_static(b"x"), BOUNDS).await.expect("an answer");
    }
}

/// Answers one request over TLS with a certificate for `localhost`, and returns the certificate and the port.
async fn tls_recipient(tasks: &mut JoinSet<()>) -> (rustls::pki_types::CertificateDer<'static>, u16) {
    async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("written");
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate and its key");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        // A client that does not trust the certificate ends the handshake.
        if let Ok(stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await {
            answer(stream).await;
        }
    });
    (certificate, port)
}

#[tokio::test]
async fn tls_needs_a_trusted_certificate() {
    let mut tasks = JoinSet::new();
    let (certificate, port) = tls_recipient(&mut tasks).await;
    let to: Destination = format!("https://localhost:{port}/").parse().expect("a URL");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let trusting = Outbound::with_roots(roots);
    trusting.post(&to, HeaderMap::new(), Bytes::new(), BOUNDS).await.expect("an answer");

    let (_, port) = tls_recipient(&mut tasks).await;
    let to: Destination = format!("https://localhost:{port}/").parse().expect("a URL");
    let refused = Outbound::new().post(&to, HeaderMap::new(), Bytes::new(), BOUNDS).await;
    assert!(
        matches!(&refused, Err(OutboundError::Network(why)) if why.contains("certificate")),
        "{refused:?}"
    );
}

#[test]
fn destinations_are_http_urls() {
    for good in ["http://a", "https://a:1/b?c", "HTTP://[::1]:8080", "http://u@h"] {
        assert!(good.parse::<Destination>().is_ok(), "{good}");
    }
    for bad in ["", "/hook", "a", "ftp://a", "http:", "http://", "http://u:p@", "mailto:a@b"] {
        assert!(bad.parse::<Destination>().is_err(), "{bad}");
    }
}
