//! TCP connections to a host with several addresses (RFC 8305, Happy Eyeballs).
//!
//! The addresses are tried one after the other, a short delay apart, and the first connection that is made is used. So an
//! address that drops packets costs that delay and not the whole connect timeout.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use tokio::net::TcpStream;

/// The delay between the starts of two attempts (RFC 8305, Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 16;

pub(crate) type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A resolver of host names.
pub(crate) trait Resolve: fmt::Debug + Send + Sync {
    /// Looks up the addresses of a host, in order of preference.
    fn resolve(&self, host: &str, port: u16) -> Addresses;
}

/// The operating system's resolver.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str, port: u16) -> Addresses {
        let host = host.to_owned();
        Box::pin(async move {
            let lookup = tokio::task::spawn_blocking(move || look_up(&host, port));
            lookup.await.map_err(io::Error::other).flatten()
        })
    }
}

/// Asks the operating system for the addresses of a host. The kind of the error is `NotFound` if no host has the name, as
/// opposed to a resolver that does not respond. The standard library does not tell one from the other.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found =
        dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
            LookupErrorKind::NoName => io::Error::new(io::ErrorKind::NotFound, "no host has this name"),
            LookupErrorKind::Again => io::Error::other("the resolver does not respond"),
            _ => error.into(),
        })?;
    found.map(|info| info.map(|info| SocketAddr::new(info.sockaddr.ip(), port))).collect()
}

type ConnectAttempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Connects to a host by the first of its addresses that accepts.
///
/// # Cancellation
/// Dropping the future closes all connections that are being made.
pub(super) async fn connect(resolver: &dyn Resolve, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = interleaved(&resolver.resolve(host, port).await?);
    let mut waiting = addresses.into_iter();
    let mut running: Vec<ConnectAttempt> = Vec::new();
    let mut failed = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(Box::pin(TcpStream::connect(address))),
            None if running.is_empty() => {
                let no_address = || io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
                return Err(failed.unwrap_or_else(no_address));
            }
            None => {}
        }
        let ended = if waiting.len() > 0 {
            tokio::time::timeout(ATTEMPT_DELAY, next_finished(&mut running)).await.ok()
        } else {
            Some(next_finished(&mut running).await)
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            // Reports the first error, which is that of the preferred address.
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => {}
        }
    }
}

/// Awaits the first attempt that ends, and removes it.
async fn next_finished(running: &mut Vec<ConnectAttempt>) -> io::Result<TcpStream> {
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

/// Alternates between address families, starting with that of the first address, without duplicates.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    let unique = addresses.iter().copied().filter(|address| seen.insert(*address));
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique.partition(|address| address.is_ipv6() == first_is_ipv6);
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
