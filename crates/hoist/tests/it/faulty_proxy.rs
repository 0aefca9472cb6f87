//! A TCP proxy that injects faults between a client and a server: it cuts, stalls and slows down connections and drops
//! responses, following a script or a seed. It counts the bytes it forwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Cut, SeededRng, Server};

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// A fault of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Cuts the connection after this many bytes in one direction.
    Cut { way: Direction, after: u64, how: Cut },
    /// Stalls for a while and then cuts.
    Stall { way: Direction, after: u64, time: Duration, how: Cut },
    /// Forwards small, delayed chunks in one direction.
    Slow { way: Direction, piece: usize, late: Duration },
    /// Forwards everything to the server, then drops its response and the connection once this many bytes were sent.
    Swallow { after: u64 },
    /// Cuts between the last byte of chunked content and the last chunk.
    BeforeEnd { after: u64 },
}

/// The end of one direction of a connection.
enum CopyEnd {
    /// The sender closed its side.
    ExitReport,
    /// The connection is cut in this manner.
    Lost(Cut),
}

/// Counters over all connections.
#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    ended: AtomicU64,
    faults: AtomicU64,
}

/// A faulty proxy. Dropping it ends its connections.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Starts a proxy. The script has one fault per accepted connection; later connections have none.
    pub(crate) async fn start(server: &Server, script: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self::before(server.addr, script).await
    }

    /// Starts a proxy to any server.
    pub(crate) async fn before(server: SocketAddr, script: impl IntoIterator<Item = Option<Fault>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let counts = Arc::new(Counts::default());
        let mut script = script.into_iter().collect::<Vec<_>>().into_iter();
        let (mut task, shared) = (JoinSet::new(), Arc::clone(&counts));
        task.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let (fault, counts) = (script.next().flatten(), Arc::clone(&shared));
                lines.spawn(async move {
                    forward(client, server, fault, &counts).await;
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { addr, counts, _task: task }
    }

    /// Starts a proxy with up to `most` random faults for content of about `bytes` bytes.
    pub(crate) async fn by_seed(server: &Server, seed: u64, bytes: usize, most: usize) -> Self {
        let mut rng = SeededRng(seed);
        let script: Vec<_> = (0..most).map(|_| draw(&mut rng, bytes)).collect();
        Self::start(server, script).await
    }

    /// Returns the URL of a path of the server through the proxy.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns the number of bytes forwarded to the server.
    pub(crate) fn up(&self) -> u64 {
        self.counts.up.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes forwarded to clients.
    pub(crate) fn down(&self) -> u64 {
        self.counts.down.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Returns whether all connections have ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.counts.ended.load(Ordering::Relaxed) == self.connections()
    }

    /// Returns the number of injected faults.
    pub(crate) fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }
}

fn draw(rng: &mut SeededRng, bytes: usize) -> Option<Fault> {
    let how = [Cut::Fin, Cut::Rst][rng.below(2)];
    let late = Duration::from_millis(1 + rng.below(40) as u64);
    // Cuts happen in heads as well as in content.
    let most = [700, bytes / 4 + 1, bytes / 2 + 1][rng.below(3)];
    let up = rng.below(most) as u64;
    let down = rng.below(900) as u64;
    Some(match rng.below(8) {
        0 | 1 => Fault::Cut { way: Direction::Up, after: up, how },
        2 => Fault::Cut { way: Direction::Down, after: down, how },
        3 => Fault::Stall { way: Direction::Up, after: up, time: late * 5, how },
        4 => Fault::Stall { way: Direction::Down, after: down, time: late * 5, how },
        5 => Fault::Swallow { after: up },
        6 => Fault::BeforeEnd { after: up },
        _ if rng.one_in(2) => Fault::Slow { way: Direction::Down, piece: 1 + rng.below(50), late: late / 8 },
        _ => return None,
    })
}

/// Forwards one connection until it ends or is cut.
async fn forward(mut client: TcpStream, server: SocketAddr, fault: Option<Fault>, counts: &Counts) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let line = ProxiedConnection { fault, counts, forwarded_up: AtomicU64::new(0) };
    let how = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let mut up = std::pin::pin!(line.copy(Direction::Up, client_reads, server_writes));
        let mut down = std::pin::pin!(line.copy(Direction::Down, server_reads, client_writes));
        let (mut up_ended, mut down_ended) = (false, false);
        loop {
            let ended = tokio::select! {
                ended = &mut up, if !up_ended => { up_ended = true; ended }
                ended = &mut down, if !down_ended => { down_ended = true; ended }
                else => return,
            };
            if let CopyEnd::Lost(how) = ended {
                break how;
            }
        }
    };
    if how == Cut::Rst {
        // Fails on connections that are already closed.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

struct ProxiedConnection<'a> {
    fault: Option<Fault>,
    counts: &'a Counts,
    forwarded_up: AtomicU64,
}

impl ProxiedConnection<'_> {
    async fn copy(&self, way: Direction, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> CopyEnd {
        let mut buf = vec![0; 32 << 10];
        let most = match self.fault {
            Some(Fault::Slow { way: slow, piece, .. }) if slow == way => piece,
            _ => buf.len(),
        };
        let mut forwarded = 0;
        loop {
            let piece = match from.read(&mut buf[..most]).await {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return CopyEnd::ExitReport;
                }
                Ok(count) => &buf[..count],
                Err(_) => return CopyEnd::Lost(Cut::Rst),
            };
            let action = self.action(way, forwarded, piece);
            if let ChunkAction { late: Some(late), .. } = action {
                // time itself is tested: a link that is slow
                tokio::time::sleep(late).await;
            }
            let piece = &piece[..action.passes];
            if to.write_all(piece).await.is_err() {
                return CopyEnd::Lost(Cut::Rst);
            }
            forwarded += piece.len() as u64;
            self.count(way, piece.len() as u64);
            if let Some((how, time)) = action.ends {
                self.counts.faults.fetch_add(1, Ordering::Relaxed);
                // time itself is tested: a link that stalls
                tokio::time::sleep(time).await;
                return CopyEnd::Lost(how);
            }
        }
    }

    fn count(&self, way: Direction, bytes: u64) {
        let all = match way {
            Direction::Up => {
                self.forwarded_up.fetch_add(bytes, Ordering::Relaxed);
                &self.counts.up
            }
            Direction::Down => &self.counts.down,
        };
        all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Decides what to do with the next chunk, after `forwarded` bytes in its direction.
    fn action(&self, way: Direction, forwarded: u64, piece: &[u8]) -> ChunkAction {
        const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
        let whole = ChunkAction { passes: piece.len(), late: None, ends: None };
        let until = |after: u64| usize::try_from(after.saturating_sub(forwarded)).unwrap_or(usize::MAX);
        let lost = |passes, how, time| ChunkAction { passes, ends: Some((how, time)), late: None };
        match self.fault {
            Some(Fault::Cut { way: lossy, after, how }) if lossy == way && until(after) <= piece.len() => {
                lost(until(after), how, Duration::ZERO)
            }
            Some(Fault::Stall { way: lossy, after, time, how })
                if lossy == way && until(after) <= piece.len() =>
            {
                lost(until(after), how, time)
            }
            Some(Fault::Slow { way: slow, late, .. }) if slow == way => {
                ChunkAction { late: Some(late), ..whole }
            }
            Some(Fault::Swallow { after })
                if way == Direction::Down && self.forwarded_up.load(Ordering::Relaxed) > after =>
            {
                lost(0, Cut::Rst, Duration::ZERO)
            }
            Some(Fault::BeforeEnd { after })
                if way == Direction::Up && until(after) <= piece.len() && piece.ends_with(LAST_CHUNK) =>
            {
                lost(piece.len() - LAST_CHUNK.len(), Cut::Fin, Duration::ZERO)
            }
            _ => whole,
        }
    }
}

/// The action for one chunk.
struct ChunkAction {
    passes: usize,
    late: Option<Duration>,
    /// Cuts the connection after the chunk, with a delay.
    ends: Option<(Cut, Duration)>,
}
