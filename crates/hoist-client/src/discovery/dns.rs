//! Feature `dns`: the HTTPS resource record (RFC 9460) of a server.
//!
//! It may name the upload path, in a parameter of the private range after the precedent of `dohpath` (RFC 9461), and
//! another host and port that serve the origin. A name without such a record is the ordinary case, and so is a network
//! without a name server: neither is an error.

use std::time::Duration;

use hickory_resolver::proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue, Unknown};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use http::Uri;

use crate::client::Client;
use crate::http::Alternative;
use crate::origin::Origin;
use crate::upload;

/// The parameter that holds the upload path.
const PATH: u16 = 65400;
/// How long the name server may take.
const LIMIT: Duration = Duration::from_secs(5);

/// What a record says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Service {
    path: Option<String>,
    alternative: Option<(Alternative, Duration)>,
}

impl Client {
    /// The upload path in the record of a server, if there is one. Where else the server can be reached is remembered.
    //= TOK-DISC-04
    pub(super) async fn path_in_dns(&self, base: &Uri) -> Option<String> {
        let host = base.host()?;
        let is_name = base.scheme_str() == Some("https")
            && host.parse::<std::net::IpAddr>().is_err()
            && !host.starts_with('[');
        // Behind a proxy it is the proxy that looks names up.
        if !is_name || self.connector.proxies.of(&Origin::of(base).ok()?).is_some() {
            return None;
        }
        let resolver = Resolver::builder_tokio().ok()?.build().ok()?;
        let port = base.port_u16().unwrap_or(443);
        let service = tokio::time::timeout(LIMIT, lookup(&resolver, host, port)).await.ok()??;
        if let Some((alternative, age)) = service.alternative {
            self.connector.alternatives.learn(&format!("{host}:{port}"), alternative, age, upload::now());
        }
        service.path
    }
}

async fn lookup(resolver: &TokioResolver, host: &str, port: u16) -> Option<Service> {
    // Another port than the scheme's own is part of the name (RFC 9460, section on query names).
    let name = if port == 443 { format!("{host}.") } else { format!("_{port}._https.{host}.") };
    let answer = resolver.lookup(name, RecordType::HTTPS).await.ok()?;
    let records = answer.answers().iter().filter_map(|record| match &record.data {
        RData::HTTPS(https) => Some((&https.0, record.ttl)),
        _ => None,
    });
    let (best, ttl) = records
        .filter(|(record, _)| record.svc_priority > 0)
        .min_by_key(|(record, _)| record.svc_priority)?;
    Some(read(best, Duration::from_secs(ttl.into()), port))
}

/// Reads a record in service mode.
fn read(record: &SVCB, age: Duration, port: u16) -> Service {
    let mut service = Service::default();
    let mut elsewhere = port;
    let mut speaks_http1 = true;
    for (key, value) in &record.svc_params {
        match (key, value) {
            (SvcParamKey::Key(PATH), SvcParamValue::Unknown(Unknown(octets))) => {
                let path = std::str::from_utf8(octets).ok().filter(|path| path.starts_with('/'));
                service.path = path.map(str::to_owned);
            }
            (SvcParamKey::Port, SvcParamValue::Port(number)) => elsewhere = *number,
            (SvcParamKey::NoDefaultAlpn, _) => speaks_http1 = false,
            // A parameter without which the record must not be used, and which this client does not know.
            (SvcParamKey::Mandatory, SvcParamValue::Mandatory(keys)) => {
                let known = |key: &SvcParamKey| {
                    matches!(key, SvcParamKey::Port | SvcParamKey::Alpn | SvcParamKey::Key(PATH))
                };
                if !keys.0.iter().all(known) {
                    return Service::default();
                }
            }
            _ => {}
        }
    }
    let host = (!record.target_name.is_root()).then(|| record.target_name.to_ascii());
    let host = host.map(|name| name.trim_end_matches('.').to_owned());
    if speaks_http1 && (host.is_some() || elsewhere != port) {
        service.alternative = Some((Alternative { host, port: elsewhere }, age));
    }
    service
}

#[cfg(test)]
mod tests;
