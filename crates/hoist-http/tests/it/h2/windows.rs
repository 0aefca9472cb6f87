//! Windows that grow with their use, within the budget of all connections. The peer keeps its own account of them.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::sleep;

use super::*;
use crate::h2_abuse::{DATA, END_HEADERS, HEADERS, PING, PREFACE, SETTINGS, WINDOW_UPDATE, frame, with};

const KIB: i64 = 1 << 10;
const ACK: u8 = 1;

/// The time after which a pong arrives. Half of a window arrives faster, also on a loaded machine.
const ROUND_TRIP: Duration = Duration::from_millis(100);

fn limits(budget: i64) -> Limits {
    Limits {
        h2_stream_window_bytes: 64 << 10,
        h2_stream_window_bytes_max: 256 << 10,
        h2_connection_window_bytes: 128 << 10,
        h2_windows_bytes_max: budget.unsigned_abs(),
        ..Default::default()
    }
}

/// A client with one stream, that uploads without an end.
struct Peer {
    write: OwnedWriteHalf,
    frames: mpsc::UnboundedReceiver<(u8, u8, u32, Vec<u8>)>,
    /// The windows of streams that the server has announced.
    announced: VecDeque<i64>,
    stream: i64,
    connection: i64,
}

impl Peer {
    async fn connect(server: &Running) -> Peer {
        let (read, mut write) = TcpStream::connect(server.addr).await.unwrap().into_split();
        let head = frame(HEADERS, END_HEADERS, 1, &with(&[]));
        write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &head].concat()).await.unwrap();
        let (received, frames) = mpsc::unbounded_channel();
        tokio::spawn(receive(read, received));
        let initial = 65_535;
        let mut peer =
            Peer { write, frames, announced: [initial].into(), stream: initial, connection: initial };
        while peer.announced.len() == 1 || peer.connection == initial {
            peer.handle_next().await;
        }
        peer
    }

    /// Sends as much as the windows allow, up to `bytes`. Returns the number of bytes.
    async fn send(&mut self, bytes: i64) -> i64 {
        let bytes = self.stream.min(self.connection).min(bytes).max(0);
        let data = frame(DATA, 0, 1, &vec![0; usize::try_from(bytes).unwrap()]);
        self.write.write_all(&data).await.unwrap();
        self.stream -= bytes;
        self.connection -= bytes;
        bytes
    }

    /// Sends `bytes`, or less if the server announces this window before.
    async fn send_until(&mut self, window: i64, mut bytes: i64) {
        while self.announced.back() != Some(&window) && bytes > 0 {
            match self.send(bytes.min(16 * KIB)).await {
                0 => self.handle_next().await,
                sent => bytes -= sent,
            }
            while let Ok(frame) = self.frames.try_recv() {
                self.handle(frame).await;
            }
        }
    }

    /// Waits until the server has answered everything that was sent.
    async fn settle(&mut self) {
        for _ in 0..8 {
            self.write.write_all(&frame(PING, 0, 0, b"a ping..")).await.unwrap();
            while let Some(frame) = soon(self.frames.recv()).await
                && (frame.0, frame.1) != (PING, ACK)
            {
                self.handle(frame).await;
            }
        }
    }

    async fn handle_next(&mut self) {
        let frame = soon(self.frames.recv()).await.expect("the connection is open");
        self.handle(frame).await;
    }

    async fn handle(&mut self, (kind, flags, stream, payload): (u8, u8, u32, Vec<u8>)) {
        match kind {
            SETTINGS if flags == 0 => {
                for setting in payload.chunks(6).filter(|setting| setting[1] == 4) {
                    let window = i64::from(u32::from_be_bytes(setting[2..6].try_into().unwrap()));
                    self.stream += window - self.announced.back().unwrap();
                    self.announced.push_back(window);
                }
                self.write.write_all(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
            }
            WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload.try_into().unwrap()));
                *if stream == 0 { &mut self.connection } else { &mut self.stream } += more;
            }
            PING if flags == 0 => {
                sleep(ROUND_TRIP).await;
                self.write.write_all(&frame(PING, ACK, 0, &payload)).await.unwrap();
            }
            _ => {}
        }
    }
}

async fn receive(mut read: OwnedReadHalf, frames: mpsc::UnboundedSender<(u8, u8, u32, Vec<u8>)>) {
    let mut head = [0; 9];
    while read.read_exact(&mut head).await.is_ok() {
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        if read.read_exact(&mut payload).await.is_err()
            || frames.send((head[3], head[4], stream, payload)).is_err()
        {
            return;
        }
    }
}

#[tokio::test]
async fn windows_grow_while_a_stream_uses_them_over_a_long_link() {
    let server = start_limited(limits(8 << 20), echo).await;
    let mut peer = Peer::connect(&server).await;
    peer.send_until(256 * KIB, 32 << 20).await;
    // And no further.
    peer.send_until(0, 2 << 20).await;
    // At once, because the link is long.
    assert_eq!(peer.announced, [65_535, 64 * KIB, 256 * KIB]);
    peer.settle().await;
    // A third of a window may be used before the server renews it. Another stream has room for its first window.
    assert!(peer.stream > 256 * KIB * 2 / 3 - 1 && peer.stream <= 256 * KIB, "{}", peer.stream);
    assert!(peer.connection > 320 * KIB * 2 / 3 - 1 && peer.connection <= 320 * KIB, "{}", peer.connection);
}

#[tokio::test]
async fn windows_do_not_grow_for_a_service_that_reads_nothing() {
    let (reached, mut requests) = mpsc::unbounded_channel();
    let server = start_limited(limits(8 << 20), move |request: Request<Body>| {
        reached.send(()).unwrap();
        async move {
            std::future::pending::<()>().await;
            drop(request);
            text(200, "")
        }
    })
    .await;
    let mut peer = Peer::connect(&server).await;
    soon(requests.recv()).await.unwrap();
    let mut sent = 0;
    for _ in 0..16 {
        sent += peer.send(16 * KIB).await;
        peer.settle().await;
    }
    assert_eq!((sent, peer.stream), (64 * KIB, 0));
    assert_eq!(peer.announced, [65_535, 64 * KIB]);
}

#[tokio::test]
async fn many_connections_grow_within_the_budget() {
    let budget = 640 * KIB;
    let server = start_limited(limits(budget), echo).await;
    let mut peers = Vec::new();
    for _ in 0..4 {
        peers.push(Peer::connect(&server).await);
    }
    for peer in &mut peers {
        peer.send_until(0, 1 << 20).await;
    }
    for peer in &mut peers {
        peer.settle().await;
    }
    let granted = peers.iter().map(|peer| peer.connection).sum::<i64>();
    assert!(granted <= budget, "{granted}");
    let windows: Vec<_> = peers.iter().map(|peer| peer.announced.back().unwrap() / KIB).collect();
    assert!(windows[0] > 64 && windows[3] == 64, "{windows:?}");
}
