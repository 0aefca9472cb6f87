//! A TCP proxy between a client that cannot be told to misbehave and a server: it loses connections, lets them stand
//! still, slows them down and swallows answers, as a script or a seed says. It counts what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Cut, SeededRng, Server};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Both ends lose it after so many bytes in one direction.
    Cut { way: Direction, after: u64, how: Cut },
    /// The same, but before that nothing moves for a while.
    Stall { way: Direction, after: u64, time: Duration, how: Cut },
    /// Pieces of one direction are small and late.
    Slow { way: Direction, piece: usize, late: Duration },
    /// The server hears everything. What it says after so many bytes from the client is lost, with the connection.
    Swallow { after: u64 },
    /// After so many bytes from the client: both ends lose it between the last byte of chunked content and the chunk
    /// that says so.
    BeforeEnd { after: u64 },
}

/// A line's end when it is not overridden by a fault.
enum Pumped {
    /// The sender has no more to say.
    ExitReport,
    /// The connection is lost, in this manner.
    Lost(Cut),
}

/// What was carried, all connections together.
#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    connections: AtomicU64,
    ended: AtomicU64,
    faults: AtomicU64,
}

/// The proxy. Its connections end when it is dropped.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Each connection meets the next fault of the script, in the order in which they are accepted; those after it meet
    /// none.
    pub(crate) async fn start(server: &Server, script: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self::before(server.addr, script).await
    }

    /// The same, before any server.
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
                    carry(client, server, fault, &counts).await;
                    counts.ended.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { addr, counts, _task: task }
    }

    /// Faults of every kind by a seed, for content of about so many bytes: most connections meet one, until there were
    /// `most`, so that everything comes to an end.
    pub(crate) async fn by_seed(server: &Server, seed: u64, bytes: usize, most: usize) -> Self {
        let mut rng = SeededRng(seed);
        let script: Vec<_> = (0..most).map(|_| draw(&mut rng, bytes)).collect();
        Self::start(server, script).await
    }

    /// A URL of the server as clients of the proxy know it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Bytes that were passed on to the server.
    pub(crate) fn up(&self) -> u64 {
        self.counts.up.load(Ordering::Relaxed)
    }

    /// Bytes that were passed on to clients.
    pub(crate) fn down(&self) -> u64 {
        self.counts.down.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Whether all that was on its way has arrived or is lost.
    pub(crate) fn is_idle(&self) -> bool {
        self.counts.ended.load(Ordering::Relaxed) == self.connections()
    }

    /// Connections that were lost on purpose.
    pub(crate) fn faults(&self) -> u64 {
        self.counts.faults.load(Ordering::Relaxed)
    }
}

fn draw(rng: &mut SeededRng, bytes: usize) -> Option<Fault> {
    let how = [Cut::Fin, Cut::Rst][rng.below(2)];
    let late = Duration::from_millis(1 + rng.below(40) as u64);
    // Heads are as worth losing as content.
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

/// Carries one connection to its end, whichever that is.
async fn carry(mut client: TcpStream, server: SocketAddr, fault: Option<Fault>, counts: &Counts) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let line = Line { fault, counts, carried_up: AtomicU64::new(0) };
    let how = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let mut up = std::pin::pin!(line.pump(Direction::Up, client_reads, server_writes));
        let mut down = std::pin::pin!(line.pump(Direction::Down, server_reads, client_writes));
        let (mut up_ended, mut down_ended) = (false, false);
        loop {
            let pumped = tokio::select! {
                pumped = &mut up, if !up_ended => { up_ended = true; pumped }
                pumped = &mut down, if !down_ended => { down_ended = true; pumped }
                else => return,
            };
            if let Pumped::Lost(how) = pumped {
                break how;
            }
        }
    };
    if how == Cut::Rst {
        // They fail on connections that are gone already.
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

struct Line<'a> {
    fault: Option<Fault>,
    counts: &'a Counts,
    carried_up: AtomicU64,
}

impl Line<'_> {
    async fn pump(&self, way: Direction, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Pumped {
        let mut buf = vec![0; 32 << 10];
        let most = match self.fault {
            Some(Fault::Slow { way: slow, piece, .. }) if slow == way => piece,
            _ => buf.len(),
        };
        let mut carried = 0;
        loop {
            let piece = match from.read(&mut buf[..most]).await {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return Pumped::ExitReport;
                }
                Ok(count) => &buf[..count],
                Err(_) => return Pumped::Lost(Cut::Rst),
            };
            let fate = self.fate(way, carried, piece);
            if let Fate { late: Some(late), .. } = fate {
                // time itself is tested: a link that is slow
                tokio::time::sleep(late).await;
            }
            let piece = &piece[..fate.passes];
            if to.write_all(piece).await.is_err() {
                return Pumped::Lost(Cut::Rst);
            }
            carried += piece.len() as u64;
            self.count(way, piece.len() as u64);
            if let Some((how, time)) = fate.ends {
                self.counts.faults.fetch_add(1, Ordering::Relaxed);
                // time itself is tested: a link that stands still
                tokio::time::sleep(time).await;
                return Pumped::Lost(how);
            }
        }
    }

    fn count(&self, way: Direction, bytes: u64) {
        let all = match way {
            Direction::Up => {
                self.carried_up.fetch_add(bytes, Ordering::Relaxed);
                &self.counts.up
            }
            Direction::Down => &self.counts.down,
        };
        all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What becomes of the next piece, after so many bytes in its direction.
    fn fate(&self, way: Direction, carried: u64, piece: &[u8]) -> Fate {
        const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
        let whole = Fate { passes: piece.len(), late: None, ends: None };
        let until = |after: u64| usize::try_from(after.saturating_sub(carried)).unwrap_or(usize::MAX);
        let lost = |passes, how, time| Fate { passes, ends: Some((how, time)), late: None };
        match self.fault {
            Some(Fault::Cut { way: lossy, after, how }) if lossy == way && until(after) <= piece.len() => {
                lost(until(after), how, Duration::ZERO)
            }
            Some(Fault::Stall { way: lossy, after, time, how })
                if lossy == way && until(after) <= piece.len() =>
            {
                lost(until(after), how, time)
            }
            Some(Fault::Slow { way: slow, late, .. }) if slow == way => Fate { late: Some(late), ..whole },
            Some(Fault::Swallow { after })
                if way == Direction::Down && self.carried_up.load(Ordering::Relaxed) > after =>
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

/// What becomes of one piece.
struct Fate {
    passes: usize,
    late: Option<Duration>,
    /// The connection ends with it, after a while.
    ends: Option<(Cut, Duration)>,
}
