//! Content that the server has received is stored, no matter which request follows and how soon.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::harness::{
    Exchange, H2, Raw, Server, ServerDir, TRANSPORTS, TestRequest, Transport, bytes, h2_send, poll_until,
    poll_until_async, print_note, within_timeout,
};
use crate::tls_and_auth::{certify, trusting};

const OS: [&str; 2] = ["--durability", "os"];

/// The dialects of these tests.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    Token,
    Ietf,
    Tus,
}

const DIALECTS: [Dialect; 3] = [Dialect::Token, Dialect::Ietf, Dialect::Tus];

impl Dialect {
    /// Creates an empty upload of `length` bytes. Returns the path of further requests.
    async fn create(self, server: &Server, name: &str, length: usize) -> Address {
        let request = match self {
            Dialect::Token => TestRequest::new("POST", name).field("upload-length", length),
            Dialect::Ietf => TestRequest::to("POST", "/uploads")
                .field("upload-complete", "?0")
                .field("upload-length", length),
            Dialect::Tus => TestRequest::to("POST", "/uploads").field("upload-length", length),
        };
        let created = server.request(Transport::H1, self.speak(request)).await;
        assert!(created.status < 300, "{created:?}");
        match created.field("location") {
            Some(url) => Address::Path(url.parse::<Uri>().expect("a URL").path().to_owned()),
            None => Address::Token(name.to_owned()),
        }
    }

    fn speak(self, request: TestRequest) -> TestRequest {
        match self {
            Dialect::Token => request,
            Dialect::Ietf => request.field("upload-draft-interop-version", 8),
            Dialect::Tus => request.field("tus-resumable", "1.0.0"),
        }
    }

    fn request(self, method: &'static str, to: &Address) -> TestRequest {
        self.speak(match to {
            Address::Path(path) => TestRequest::to(method, path),
            Address::Token(token) => TestRequest::new(method, token),
        })
    }

    fn append(self, to: &Address) -> TestRequest {
        let request = self.request("PATCH", to).field("upload-offset", 0);
        match self {
            Dialect::Token => request,
            Dialect::Ietf => {
                request.field("content-type", "application/partial-upload").field("upload-complete", "?1")
            }
            Dialect::Tus => request.field("content-type", "application/offset+octet-stream"),
        }
    }
}

/// The name of an upload in requests.
enum Address {
    Path(String),
    Token(String),
}

/// Starts a server per transport.
fn serve(home: &ServerDir, tls: bool) -> Server {
    if !tls {
        return Server::start(home, &OS);
    }
    let certificate = certify(home);
    let (cert, key) = (home.text("cert.pem"), home.text("key.pem"));
    let mut server = Server::start(home, &[&OS[..], &["--tls-cert", &cert, "--tls-key", &key]].concat());
    server.tls = Some(trusting(&[certificate]));
    server
}

// proves: TOK-CRE-01, TOK-APP-05, IETF-CON-06
#[tokio::test]
async fn no_byte_sent_before_a_request_on_another_connection_is_lost_over_h1() {
    let home = ServerDir::new();
    let server = serve(&home, false);
    let content = bytes(1, 300);
    let mut overtook = 0;
    for round in 0..120 {
        let dialect = DIALECTS[round % 3];
        let to = dialect.create(&server, &format!("segment-{round}"), 1000).await;
        let append = dialect.append(&to).sized(&content).stalls(Some(1000)).h1();
        let mut raw = Raw::connect(&server).await;
        raw.send(append).await;
        let _stays = (round % 2 == 0).then_some(raw);
        let mut first = true;
        poll_until_async("300 bytes", async || {
            let got = server.request(Transport::H1, dialect.request("HEAD", &to)).await;
            // A request on another connection may be read first, and then the content it overtook must still be stored.
            overtook += u32::from(std::mem::take(&mut first) && got.offset() == Some(0));
            (got.offset() == Some(300)).then_some(())
        })
        .await;
    }
    print_note(format_args!("{overtook} of 120 requests were read before the content sent ahead of them"));
}

// proves: TOK-CRE-01, TOK-APP-05, IETF-CON-06
#[tokio::test]
async fn no_byte_sent_before_a_request_on_another_connection_is_lost_over_tls() {
    let home = ServerDir::new();
    let server = serve(&home, true);
    let content = bytes(4, 300);
    for round in 0..60 {
        let dialect = DIALECTS[round % 3];
        let to = dialect.create(&server, &format!("record-{round}"), 1000).await;
        let append = dialect.append(&to).sized(&content).stalls(Some(1000));
        let _stays =
            Exchange::begin(&server, TRANSPORTS[round % 2], append, u64::MAX).await.expect("a connection");
        poll_until_async("300 bytes", async || {
            let got = server.request(Transport::H1, dialect.request("HEAD", &to)).await;
            (got.offset() == Some(300)).then_some(())
        })
        .await;
    }
}

// proves: TOK-CRE-01, TOK-APP-05, IETF-CON-06
#[tokio::test]
async fn no_byte_sent_before_a_request_on_the_same_h2_connection_is_lost() {
    for tls in [false, true] {
        let home = ServerDir::new();
        let server = serve(&home, tls);
        let cork = Cork::default();
        let h2 = connect_h2(&server, &cork).await;
        for (bytes_sent, rounds) in [(300, 40), (60_000, 40), (900_000, 8)] {
            let content = bytes(2, bytes_sent);
            for round in 0..rounds {
                let dialect = DIALECTS[round % 3];
                let name = format!("{tls}-{bytes_sent}-{round}");
                let to = dialect.create(&server, &name, 1_000_000).await;
                cork.push_in();
                let append = dialect.append(&to).stalls(Some(1_000_000)).h2();
                let (_answer, mut stream) = h2
                    .streams
                    .clone()
                    .ready()
                    .await
                    .expect("room")
                    .send_request(append, false)
                    .expect("sent");
                within_timeout("the window", h2_send(&mut stream, content.clone().into(), false))
                    .await
                    .expect("sent");
                cork.holds(bytes_sent).await;
                let sent = cork.held();
                let (_stays, reset) = oneshot::channel();
                let mut head = std::pin::pin!(h2.exchange(dialect.request("HEAD", &to), reset));
                // Both requests are sent in one write, the content first.
                let got = tokio::select! {
                    got = &mut head => got,
                    () = async { cork.holds(sent + 1).await; cork.pull(); std::future::pending().await } => unreachable!(),
                };
                let got = got.expect("the connection lives");
                assert_eq!(got.offset(), Some(bytes_sent), "round {round}, {dialect:?}, TLS {tls}");
            }
        }
    }
}

// proves: TOK-CRE-01, TOK-APP-05, IETF-CON-06
#[tokio::test]
async fn no_byte_sent_before_a_request_on_another_connection_is_lost_over_h2() {
    for tls in [false, true] {
        let home = ServerDir::new();
        let server = serve(&home, tls);
        let h2 = connect_h2(&server, &Cork::default()).await;
        let content = bytes(3, 30_000);
        for round in 0..40 {
            let dialect = DIALECTS[round % 3];
            let to = dialect.create(&server, &format!("{tls}-{round}"), 1_000_000).await;
            let append = dialect.append(&to).stalls(Some(1_000_000)).h2();
            let (_answer, mut stream) =
                h2.streams.clone().ready().await.expect("room").send_request(append, false).expect("sent");
            within_timeout("the window", h2_send(&mut stream, content.clone().into(), false))
                .await
                .expect("sent");
            let transport = TRANSPORTS[round % 2];
            poll_until_async("30,000 bytes", async || {
                let got = server.request(transport, dialect.request("HEAD", &to)).await;
                // Nothing that was read is lost, whichever was read first.
                (got.offset() == Some(30_000)).then_some(())
            })
            .await;
        }
    }
}

/// A connection whose writes can be held back.
async fn connect_h2(server: &Server, cork: &Cork) -> H2 {
    let tcp = TcpStream::connect(server.addr).await.expect("a connection");
    tcp.set_nodelay(true).expect("a socket");
    let corked = Corked { tcp, cork: cork.clone() };
    match &server.tls {
        None => H2::on(corked).await,
        Some(tls) => {
            let mut config = (**tls.config()).clone();
            config.alpn_protocols = vec![b"h2".to_vec()];
            let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
            let name = ServerName::try_from("localhost").expect("a name");
            H2::on(within_timeout("a handshake", tls.connect(name, corked)).await.expect("a handshake")).await
        }
    }
    .expect("an h2 connection")
}

/// Holds back the writes of a client and releases them at once.
#[derive(Clone, Default)]
struct Cork(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    is_in: bool,
    bytes: Vec<u8>,
    writer: Option<Waker>,
}

impl Cork {
    fn push_in(&self) {
        self.0.lock().expect("no panic").is_in = true;
    }

    fn pull(&self) {
        let mut held = self.0.lock().expect("no panic");
        held.is_in = false;
        if let Some(writer) = held.writer.take() {
            writer.wake();
        }
    }

    fn held(&self) -> usize {
        self.0.lock().expect("no panic").bytes.len()
    }

    async fn holds(&self, bytes: usize) {
        poll_until(&format!("{bytes} bytes to be written"), || (self.held() >= bytes).then_some(())).await;
    }
}

struct Corked {
    tcp: TcpStream,
    cork: Cork,
}

impl Corked {
    /// Writes the held bytes if they were released.
    fn poll_release(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = self.cork.0.lock().expect("no panic");
        held.writer = Some(cx.waker().clone());
        while !held.is_in && !held.bytes.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.tcp).poll_write(cx, &held.bytes))?;
            held.bytes.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection's task reads whenever it is woken, but writes only new data.
        if let Poll::Ready(Err(error)) = self.poll_release(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.cork.0.lock().expect("no panic").bytes.extend_from_slice(buf);
        match self.poll_release(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.poll_release(cx)?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
