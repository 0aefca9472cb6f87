//! The HTTPS resource record (RFC 9460) of a server, with feature `dns`.
//!
//! The record may name the upload path, in a parameter of the private range modelled on `dohpath` (RFC 9461), and an
//! alternative service. Most names have no such record, and some networks have no name server: neither is an error.

use std::time::Duration;

use hickory_resolver::proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue, Unknown};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use http::Uri;

use crate::client::Client;
use crate::clock;
use crate::http::Alternative;
use crate::origin::Origin;

/// The parameter with the upload path.
const PATH: u16 = 65400;
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, Default, PartialEq, Eq)]
struct HttpsRecord {
    path: Option<String>,
    alternative: Option<(Alternative, Duration)>,
}

impl Client {
    /// Returns the upload path in the record of a server, if there is one. Remembers the alternative service in it.
    //= TOK-DISC-04
    pub(super) async fn path_in_dns(&self, base: &Uri) -> Option<String> {
        let host = base.host()?;
        let is_name = base.scheme_str() == Some("https")
            && host.parse::<std::net::IpAddr>().is_err()
            && !host.starts_with('[');
        // With a proxy, names are looked up by the proxy.
        if !is_name || self.connector.proxies.of(&Origin::of(base).ok()?).is_some() {
            return None;
        }
        let resolver = Resolver::builder_tokio().ok()?.build().ok()?;
        let port = base.port_u16().unwrap_or(443);
        let record = tokio::time::timeout(LIMIT, lookup(&resolver, host, port)).await.ok()??;
        if let Some((alternative, age)) = record.alternative {
            let authority = format!("{host}:{port}");
            self.connector.alternatives.insert(&authority, alternative, age, clock::now());
        }
        record.path
    }
}

async fn lookup(resolver: &TokioResolver, host: &str, port: u16) -> Option<HttpsRecord> {
    // A port other than the default is part of the name (RFC 9460, query names).
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

/// Reads a record in `ServiceMode`.
fn read(record: &SVCB, age: Duration, port: u16) -> HttpsRecord {
    let mut result = HttpsRecord::default();
    let mut alternative_port = port;
    let mut supports_http1 = true;
    for (key, value) in &record.svc_params {
        match (key, value) {
            (SvcParamKey::Key(PATH), SvcParamValue::Unknown(Unknown(octets))) => {
                let path = std::str::from_utf8(octets).ok().filter(|path| path.starts_with('/'));
                result.path = path.map(str::to_owned);
            }
            (SvcParamKey::Port, SvcParamValue::Port(number)) => alternative_port = *number,
            (SvcParamKey::NoDefaultAlpn, _) => supports_http1 = false,
            // The record must not be used if this client does not know a mandatory parameter.
            (SvcParamKey::Mandatory, SvcParamValue::Mandatory(keys)) => {
                let known = |key: &SvcParamKey| {
                    matches!(key, SvcParamKey::Port | SvcParamKey::Alpn | SvcParamKey::Key(PATH))
                };
                if !keys.0.iter().all(known) {
                    return HttpsRecord::default();
                }
            }
            _ => {}
        }
    }
    let host = (!record.target_name.is_root()).then(|| record.target_name.to_ascii());
    let host = host.map(|name| name.trim_end_matches('.').to_owned());
    if supports_http1 && (host.is_some() || alternative_port != port) {
        result.alternative = Some((Alternative { host, port: alternative_port }, age));
    }
    result
}

#[cfg(test)]
mod tests;
