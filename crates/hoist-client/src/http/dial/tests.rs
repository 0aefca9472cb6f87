//! The order of addresses, and addresses that refuse, drop packets or accept.

use std::net::Ipv4Addr;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::*;
use crate::{Client, Dialect, Source};

/// A resolver that returns these addresses for every name.
#[derive(Debug)]
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve(&self, _: &str, _: u16) -> Addresses {
        let addresses = self.0.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

/// An address that drops each new SYN: a listener with a full backlog.
struct Unresponsive {
    listener: Socket,
    _queued: Vec<Socket>,
}

impl Unresponsive {
    fn new() -> Self {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("bound");
        let mut queued = Vec::new();
        // The backlog is one or two longer than requested.
        for _ in 0..16 {
            let socket = socket();
            if socket.connect_timeout(&address, Duration::from_millis(300)).is_err() {
                return Self { listener, _queued: queued };
            }
            queued.push(socket);
        }
        panic!("every connection was accepted");
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound").as_socket().expect("an address of IPv4")
    }
}

/// Awaits `work` with a timeout that is longer than any test takes, and shorter than a connection attempt of the kernel.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it ends soon")
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Returns an address without a listener.
async fn closed() -> SocketAddr {
    listening().await.1
}

#[test]
fn address_families_alternate() {
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let new = [at("[::1]:1"), at("[::2]:1"), at("[::3]:1")];
    let old = [at("10.0.0.1:1"), at("10.0.0.2:1")];
    let mixed = [&new[..], &old].concat();
    assert_eq!(interleaved(&mixed), [new[0], old[0], new[1], old[1], new[2]]);
    assert_eq!(interleaved(&[old[0], old[1], new[0]]), [old[0], new[0], old[1]]);
    assert_eq!(interleaved(&[old[0], old[0], new[0], old[0]]), [old[0], new[0]]);
    assert_eq!(interleaved(&new), new);
    assert_eq!(interleaved(&[]), []);
    let many: Vec<_> = (1..100).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
    assert_eq!(interleaved(&many), many[..ADDRESSES_MAX]);
}

#[tokio::test]
async fn an_address_that_drops_packets_does_not_block_the_next() {
    let (unresponsive, (_listener, good)) = (Unresponsive::new(), listening().await);
    let stream =
        soon(connect(&Fixed(vec![unresponsive.address(), good]), "example.org", 1)).await.expect("connected");
    assert_eq!(stream.peer_addr().expect("connected"), good);
}

#[tokio::test]
async fn the_first_address_that_accepts_is_used() {
    let ((_first, one), (_second, two)) = (listening().await, listening().await);
    let stream = soon(connect(&Fixed(vec![closed().await, one, two]), "h", 1)).await.expect("connected");
    assert_eq!(stream.peer_addr().expect("connected"), one);
}

#[tokio::test]
async fn it_is_an_error_if_no_address_accepts() {
    let error =
        soon(connect(&Fixed(vec![closed().await, closed().await]), "h", 1)).await.expect_err("closed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let error = soon(connect(&Fixed(Vec::new()), "h", 1)).await.expect_err("no address");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn an_upload_succeeds_although_the_first_address_drops_packets() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let (unresponsive, (listener, good)) = (Unresponsive::new(), listening().await);
    let client = Client::builder()
        .connect_timeout(Duration::from_mins(5))
        .dialect(Dialect::Conventional)
        .resolver(Arc::new(Fixed(vec![unresponsive.address(), good])))
        .build()
        .expect("a client");
    let url = http::Uri::from_static("http://upload.example/uploads");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\ncontent") {
            request.push(stream.read_u8().await.expect("a request"));
        }
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        String::from_utf8(request).expect("text")
    };
    let upload = client.put(url, Source::bytes("content")).send();
    let (outcome, request) = soon(async { tokio::join!(upload, serve) }).await;
    assert_eq!(outcome.expect("an upload").bytes, 7);
    assert!(request.to_ascii_lowercase().contains("host: upload.example\r\n"), "{request}");
}

/// A resolver that knows no name, or does not respond.
#[derive(Debug)]
struct Failing(io::ErrorKind);

impl Resolve for Failing {
    fn resolve(&self, _: &str, _: u16) -> Addresses {
        let kind = self.0;
        Box::pin(async move { Err(kind.into()) })
    }
}

#[tokio::test]
async fn an_unknown_name_fails_at_once_and_a_failing_resolver_is_retried() {
    let send = |kind| {
        let client = Client::builder().resolver(Arc::new(Failing(kind))).retry_budget(Duration::from_secs(2));
        let client = client.retry_pauses(Duration::ZERO, Duration::ZERO).retry_attempts(2).build();
        let url = http::Uri::from_static("http://upload.example/uploads");
        client.expect("a client").put(url, Source::bytes("film")).send()
    };
    let unknown = soon(send(io::ErrorKind::NotFound)).await;
    assert!(
        matches!(&unknown, Err(crate::Error::UnknownHost { host }) if host == "upload.example"),
        "{unknown:?}"
    );
    let failing = soon(send(io::ErrorKind::Other)).await;
    assert!(matches!(failing, Err(crate::Error::Exhausted { attempts: 3, .. })), "{failing:?}");
}

#[tokio::test]
async fn the_system_resolver_tells_an_unknown_name_from_an_address() {
    let found = soon(SystemResolver.resolve("localhost", 80)).await.expect("an address");
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
    let literal = soon(SystemResolver.resolve("::1", 81)).await.expect("an address");
    assert_eq!(literal, ["[::1]:81".parse().expect("an address")]);
}
