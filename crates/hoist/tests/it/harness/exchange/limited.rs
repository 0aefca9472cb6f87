//! A stream that can be cut or stalled after any byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::TransportError;

/// A TCP connection that stops sending at a chosen byte.
pub(crate) struct LimitedStream {
    tcp: TcpStream,
    gate: Arc<SendGate>,
}

pub(super) struct SendGate {
    state: Mutex<Flow>,
    pub(super) reached: Notify,
}

struct Flow {
    bytes_left: u64,
    broken: bool,
    waiting: Option<Waker>,
}

impl SendGate {
    /// Lifts the limit.
    pub(super) fn open(&self) {
        self.change(|flow| flow.bytes_left = u64::MAX);
    }

    pub(super) fn fail(&self) {
        self.change(|flow| flow.broken = true);
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.state.lock().expect("no panic");
        change(&mut flow);
        if let Some(waker) = flow.waiting.take() {
            waker.wake();
        }
    }
}

impl LimitedStream {
    pub(super) async fn connect(
        addr: SocketAddr,
        limit: u64,
    ) -> Result<(Self, Arc<SendGate>, Socket), TransportError> {
        let lost = |error: io::Error| TransportError(error.to_string());
        let tcp = TcpStream::connect(addr).await.map_err(lost)?;
        tcp.set_nodelay(true).map_err(lost)?;
        let socket = SockRef::from(&tcp).try_clone().map_err(lost)?;
        let state = Mutex::new(Flow { bytes_left: limit, broken: false, waiting: None });
        let gate = Arc::new(SendGate { state, reached: Notify::new() });
        Ok((Self { tcp, gate: Arc::clone(&gate) }, gate, socket))
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let gate = Arc::clone(&self.gate);
        let mut flow = gate.state.lock().expect("no panic");
        if flow.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let fits = usize::try_from(flow.bytes_left).unwrap_or(usize::MAX).min(buf.len());
        if fits == 0 && !buf.is_empty() {
            flow.waiting = Some(cx.waker().clone());
            self.gate.reached.notify_one();
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.tcp).poll_write(cx, &buf[..fits]);
        if let Poll::Ready(Ok(bytes)) = written
            && flow.bytes_left < u64::MAX
        {
            flow.bytes_left -= bytes as u64;
            if flow.bytes_left == 0 {
                self.gate.reached.notify_one();
            }
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
