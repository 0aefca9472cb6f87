//! Reverse proxies: the address, scheme and host of a request as trusted proxies forward them.
//!
//! Owns `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`. Any client can send these
//! fields, so only the parts that trusted proxies added count.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hoist_http::{Peer, UnixPeer};
use http::uri::Authority;
use http::{Extensions, HeaderMap, HeaderValue, header};

use crate::filename;

/// A range of addresses, such as `10.0.0.0/8`, a single address, or `unix`: the peers of unix sockets, which have none.
///
/// An IPv4 address equals the same address mapped into IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(Peers);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peers {
    Addresses { bits: u128, prefix_bits: u32 },
    Unix,
}

/// The error for text that is not a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a network; write it like 10.0.0.0/8, fd00::/8, 192.0.2.7 or unix")]
pub struct BadNetwork;

impl Network {
    /// The peers of unix sockets.
    pub const UNIX: Self = Self(Peers::Unix);

    /// Returns whether an address is in the range.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let Peers::Addresses { bits, prefix_bits } = self.0 else { return false };
        let differing = bits ^ bits_of(addr);
        differing.checked_shr(u128::BITS - prefix_bits).is_none_or(|differing| differing == 0)
    }

    /// Returns whether every address of IPv4 or of IPv6 is in the range.
    pub fn covers_all(&self) -> bool {
        let Peers::Addresses { prefix_bits, .. } = self.0 else { return false };
        prefix_bits == 0 || prefix_bits == MAPPED_BITS && self.contains([0, 0, 0, 0].into())
    }
}

/// The number of leading bits that all IPv4 addresses share when mapped into IPv6.
const MAPPED_BITS: u32 = 96;

fn bits_of(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        if text.trim() == "unix" {
            return Ok(Self::UNIX);
        }
        let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.trim().parse().map_err(|_| BadNetwork)?;
        let unnamed_bits = if addr.is_ipv4() { MAPPED_BITS } else { 0 };
        let prefix_bits = match prefix {
            None => u128::BITS,
            Some(prefix) => {
                let prefix: u8 = prefix.trim().parse().map_err(|_| BadNetwork)?;
                unnamed_bits + u32::from(prefix)
            }
        };
        if prefix_bits > u128::BITS {
            return Err(BadNetwork);
        }
        Ok(Self(Peers::Addresses { bits: bits_of(addr), prefix_bits }))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies(pub(crate) Vec<Network>);

/// The sender and the destination of a request, as its client sees them or as one proxy reports them. A reported value that
/// does not parse counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientView {
    /// The address of the client, as far as trusted proxies know it.
    pub(crate) client: Option<IpAddr>,
    /// The scheme that the client used.
    pub(crate) scheme: Option<&'static str>,
    /// The host that a proxy reported, if any. Overrides the one in the request.
    pub(crate) authority: Option<Authority>,
    /// The port that a proxy reported separately from the host, if any.
    pub(crate) port: Option<u16>,
}

impl Proxies {
    /// Returns the client's view of a request with these extensions and fields.
    //= TUS1-DF-14
    pub(crate) fn client_view(&self, extensions: &Extensions, fields: &HeaderMap) -> ClientView {
        let (client, tls) = match (extensions.get::<Peer>(), extensions.get::<UnixPeer>()) {
            (Some(peer), _) => (Some(peer.addr.ip().to_canonical()), peer.tls),
            (None, Some(peer)) => (None, peer.tls),
            (None, None) => return ClientView::default(),
        };
        let scheme = Some(if tls { "https" } else { "http" });
        let seen = ClientView { client, scheme, ..ClientView::default() };
        let is_trusted = client.map_or_else(|| self.0.contains(&Network::UNIX), |client| self.trust(client));
        if !is_trusted {
            return seen;
        }
        // A proxy that sets one family of fields forwards the other as the client sent it. It is unknown which of them is
        // the proxy's, so where they differ neither counts.
        let (standard, older) = (self.walk(forwarded(fields)), self.walk(x_forwarded(fields)));
        // `Forwarded` has no separate port, so it cannot contradict an `X-Forwarded-Port` that a client made up.
        let port = older.port.filter(|_| standard == ClientView::default());
        ClientView {
            port,
            client: undisputed(standard.client, older.client).or(seen.client),
            scheme: undisputed(standard.scheme, older.scheme).or(seen.scheme),
            authority: undisputed(standard.authority, older.authority),
        }
    }

    fn trust(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(addr))
    }

    /// Goes through the hops, the nearest first, up to the last one that a trusted proxy added. The value of the farthest
    /// hop counts, because it is the nearest to the client.
    fn walk(&self, hops: impl Iterator<Item = ClientView>) -> ClientView {
        let mut view = ClientView::default();
        for hop in hops {
            view.client = hop.client.or(view.client);
            view.scheme = hop.scheme.or(view.scheme);
            view.authority = hop.authority.or(view.authority);
            view.port = hop.port.or(view.port);
            if !hop.client.is_some_and(|node| self.trust(node)) {
                break;
            }
        }
        view
    }
}

fn undisputed<T: PartialEq>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => (one == other).then_some(one),
        (one, other) => one.or(other),
    }
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| scheme.eq_ignore_ascii_case(text))
}

/// Parses a host and port. Rejects anything else, because the result goes into a `Location`.
pub(crate) fn authority(text: &str) -> Option<Authority> {
    let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._:[]".contains(&octet);
    let authority: Authority = text.parse().ok().filter(|_| text.bytes().all(is_plain))?;
    let has_sound_port = authority.as_str() == authority.host() || authority.port_u16().is_some();
    (has_sound_port && !authority.host().is_empty()).then_some(authority)
}

impl ClientView {
    /// Returns scheme, host and port of the server as the client reaches it. `named` returns the host of the request, which
    /// is used if no proxy reported one. A host with a port keeps it.
    pub(crate) fn origin(&self, named: impl FnOnce() -> Option<Authority>) -> Option<String> {
        let scheme = self.scheme.unwrap_or("http");
        let authority = self.authority.clone().or_else(named)?;
        let default = if scheme == "https" { 443 } else { 80 };
        Some(match self.port {
            Some(port) if port != default && authority.as_str() == authority.host() => {
                format!("{scheme}://{authority}:{port}")
            }
            _ => format!("{scheme}://{authority}"),
        })
    }
}

/// Parses an address, with or without a port, in the spellings of both families. `unknown` and obfuscated names are
/// `None`.
fn node(text: &str) -> Option<IpAddr> {
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|addr| addr.ip());
    alone.parse().or_else(|_| with_port()).ok().map(|addr: IpAddr| addr.to_canonical())
}

/// Returns the elements of `Forwarded`, the nearest proxy's first. Stops at a line that does not parse, because the client
/// may have written it and all before it.
fn forwarded(fields: &HeaderMap) -> impl Iterator<Item = ClientView> {
    let lines = fields.get_all(header::FORWARDED).iter().rev();
    lines.map_while(|line| elements(line.to_str().ok()?)).flat_map(|hops| hops.into_iter().rev())
}

/// Parses one line of `Forwarded` (RFC 7239, Forwarded HTTP Header Field).
fn elements(line: &str) -> Option<Vec<ClientView>> {
    let mut hops = Vec::new();
    let mut names = HashSet::new();
    let mut hop = ClientView::default();
    let mut rest = line.trim();
    while !rest.is_empty() {
        if let Some((name, value, behind)) = pair(rest) {
            // A repeated name means that two senders wrote this element.
            let name = name.to_ascii_lowercase();
            if !names.insert(name.clone()) {
                return None;
            }
            match name.as_str() {
                "for" => hop.client = node(&value),
                "proto" => hop.scheme = scheme(&value),
                "host" => hop.authority = authority(&value),
                _ => {}
            }
            rest = behind;
        }
        rest = match (rest.strip_prefix(';'), rest.strip_prefix(',')) {
            (Some(behind), _) => behind.trim_start(),
            (None, Some(behind)) => {
                hops.extend((!names.is_empty()).then(|| std::mem::take(&mut hop)));
                names.clear();
                behind.trim_start()
            }
            (None, None) if rest.is_empty() => break,
            (None, None) => return None,
        };
    }
    hops.extend((!names.is_empty()).then_some(hop));
    Some(hops)
}

/// Parses `name=value` at the start of `text`. Returns both, and the rest after white space.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, behind) = token(text)?;
    let behind = behind.strip_prefix('=')?;
    let (value, behind) = match behind.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = filename::unquoted(quoted);
            (value, rest?)
        }
        None => token(behind).map(|(value, behind)| (value.to_owned(), behind))?,
    };
    Some((name, value, behind.trim_start()))
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_of_it = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_of_it(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Returns the hops of the `X-Forwarded-*` fields, the nearest first: lists that each proxy appends to, or one value that
/// one of them set.
fn x_forwarded(fields: &HeaderMap) -> impl Iterator<Item = ClientView> {
    let list = |name: &str| {
        let lines = fields.get_all(name).iter().map(HeaderValue::as_bytes);
        let line = lines.map(String::from_utf8_lossy).collect::<Vec<_>>().join(",");
        line.rsplit(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()
    };
    let (nodes, mut schemes, mut ports) =
        (list("x-forwarded-for"), list("x-forwarded-proto"), list("x-forwarded-port"));
    // Some proxies replace the address and append to the other lists (`for=192.0.2.1`, `proto=https,http`). The single
    // address is then the client's, and the first scheme and port are those that it connected to.
    if let [only] = &nodes[..]
        && !only.is_empty()
    {
        schemes.drain(..schemes.len() - 1);
        ports.drain(..ports.len() - 1);
    }
    let (mut nodes, mut schemes, mut ports) = (nodes.into_iter(), schemes.into_iter(), ports.into_iter());
    let mut authorities = list("x-forwarded-host").into_iter();
    std::iter::from_fn(move || {
        let values = (nodes.next(), schemes.next(), authorities.next(), ports.next());
        let hop = ClientView {
            client: values.0.as_deref().and_then(node),
            scheme: values.1.as_deref().and_then(scheme),
            authority: values.2.as_deref().and_then(authority),
            port: values.3.as_deref().and_then(|port| port.parse().ok()).filter(|port| *port != 0),
        };
        (values != (None, None, None, None)).then_some(hop)
    })
}

#[cfg(test)]
mod tests;
