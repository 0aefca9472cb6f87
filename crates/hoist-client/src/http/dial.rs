//! TCP connections to a name that has several addresses (RFC 8305, Happy Eyeballs).
//!
//! All of its addresses are tried, each a moment after the one before, and the first that answers is used. So an address
//! that swallows packets costs that moment and not the whole connect timeout.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;

/// The time one attempt has before the next begins (RFC 8305, Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;

/// The addresses of a name, once they are known.
pub(crate) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A source of addresses.
pub(crate) trait Resolve: fmt::Debug + Send + Sync {
    /// Looks up the addresses of a host, in the order in which they are to be preferred.
    fn resolve(&self, host: &str, port: u16) -> Addresses;
}

/// The operating system's resolver.
#[derive(Debug)]
pub(crate) struct System;

impl Resolve for System {
    fn resolve(&self, host: &str, port: u16) -> Addresses {
        let host = host.to_owned();
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to a host.
///
/// # Cancellation
/// Dropping the future closes what was begun.
pub(super) async fn connect(resolver: &dyn Resolve, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = interleaved(&resolver.resolve(host, port).await?);
    let mut waiting = addresses.into_iter();
    let mut running: Vec<Attempt> = Vec::new();
    let mut failed = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(Box::pin(TcpStream::connect(address))),
            None if running.is_empty() => {
                let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                return Err(failed.unwrap_or_else(nowhere));
            }
            None => {}
        }
        let ended = if waiting.len() > 0 {
            tokio::time::timeout(ATTEMPT_DELAY, first(&mut running)).await.ok()
        } else {
            Some(first(&mut running).await)
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            // Of several the first is the one that was preferred.
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => {}
        }
    }
}

/// Awaits the first attempt that ends, and takes it out.
async fn first(running: &mut Vec<Attempt>) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(ended) = running[at].as_mut().poll(cx) {
                drop(running.remove(at));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

/// Addresses of both families by turns, beginning with that of the first, each once.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let unique = addresses.iter().copied().filter(|address| seen.insert(*address));
    let leads = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique.partition(|address| address.is_ipv6() == leads);
    let mut order = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter();
    for address in first {
        order.push(address);
        order.extend(second.next());
    }
    order.extend(second);
    order.truncate(ADDRESSES_MAX);
    order
}

#[cfg(test)]
mod tests;
