//! A TCP proxy that simulates a failing network: it drops the connection after planned numbers of bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::exit::{Exit, Failure};

const BUFFER_BYTES: usize = 64 << 10;

/// A proxy that drops connections as planned. Dropping it ends its connections.
pub(super) struct UnreliableLink {
    addr: SocketAddr,
    server: watch::Sender<SocketAddr>,
    state: Arc<LinkState>,
    cuts: mpsc::Receiver<Cut>,
    _forwarding: JoinSet<()>,
}

/// A planned loss of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The number of this cut, starting at one.
    pub(super) number: u32,
    /// The total number of cuts.
    pub(super) of: u32,
    /// The number of bytes forwarded to the server before the cut.
    pub(super) at: u64,
}

struct LinkState {
    forwarded: AtomicU64,
    /// The cuts that are still to come.
    plan: Mutex<VecDeque<Cut>>,
    cut_sender: mpsc::Sender<Cut>,
}

impl UnreliableLink {
    /// Starts a proxy to a server that is cut `cuts` times while it forwards `length` bytes.
    pub(super) async fn start(server: SocketAddr, length: u64, cuts: u32) -> Result<Self, Failure> {
        let cannot =
            |error| Failure::message(Exit::Start, format_args!("cannot open a port for the link: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let addr = listener.local_addr().map_err(cannot)?;
        let (cut_sender, cut_receiver) = mpsc::channel(cuts.max(1) as usize);
        let plan = Mutex::new(plan(length, cuts));
        let state = Arc::new(LinkState { forwarded: AtomicU64::new(0), plan, cut_sender });
        let (server, current_server) = watch::channel(server);
        let mut forwarding = JoinSet::new();
        let shared = Arc::clone(&state);
        forwarding.spawn(async move {
            let mut lines = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while lines.try_join_next().is_some() {}
                let (state, server) = (Arc::clone(&shared), *current_server.borrow());
                lines.spawn(async move { state.forward(client, server).await });
            }
        });
        Ok(Self { addr, server, state, cuts: cut_receiver, _forwarding: forwarding })
    }

    /// Returns the URL of a path at the server, reached through the link.
    pub(super) fn url(&self, path: &str) -> Uri {
        let text = format!("http://{}{path}", self.addr);
        text.parse().expect("an address and a path")
    }

    /// Sends new connections to another server.
    pub(super) fn set_server(&self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    /// Waits for the next cut.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn cut(&mut self) -> Cut {
        match self.cuts.recv().await {
            Some(cut) => cut,
            None => std::future::pending().await,
        }
    }

    /// Returns the number of bytes forwarded to the server.
    pub(super) fn bytes_forwarded(&self) -> u64 {
        self.state.forwarded.load(Ordering::Relaxed)
    }
}

/// Returns cuts at even distances.
fn plan(length: u64, cuts: u32) -> VecDeque<Cut> {
    let at = |number: u32| {
        let at = u128::from(length) * u128::from(number) / (u128::from(cuts) + 1);
        u64::try_from(at).expect("no more than the length")
    };
    (1..=cuts).map(|number| Cut { number, of: cuts, at: at(number) }).collect()
}

impl LinkState {
    /// Forwards one connection until either end closes it or a cut is due.
    async fn forward(&self, mut client: TcpStream, server: SocketAddr) {
        let Ok(mut server) = TcpStream::connect(server).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (mut client_reads, mut client_writes) = client.split();
        let (mut server_reads, mut server_writes) = server.split();
        let up = async {
            let mut buf = vec![0; BUFFER_BYTES];
            loop {
                let Ok(count @ 1..) = client_reads.read(&mut buf).await else { return };
                if server_writes.write_all(&buf[..count]).await.is_err() {
                    return;
                }
                let forwarded = self.forwarded.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
                if let Some(cut) = self.next_due(forwarded) {
                    let _ = self.cut_sender.try_send(Cut { at: forwarded, ..cut });
                    return;
                }
            }
        };
        let down = async {
            let _ = tokio::io::copy(&mut server_reads, &mut client_writes).await;
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }

    fn next_due(&self, forwarded: u64) -> Option<Cut> {
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.pop_front_if(|cut| cut.at <= forwarded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_evenly_spaced() {
        let at = |length, cuts| plan(length, cuts).iter().map(|cut| cut.at).collect::<Vec<_>>();
        assert_eq!(at(600, 5), [100, 200, 300, 400, 500]);
        assert_eq!(at(0, 2), [0, 0]);
        assert_eq!(at(u64::MAX, 1), [u64::MAX / 2]);
        assert_eq!(at(10, 0), [0; 0]);
    }
}
