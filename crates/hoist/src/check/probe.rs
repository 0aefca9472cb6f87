//! Probes of a server's capabilities: transports, dialects and versions, limits, extensions.
//!
//! Every upload that a probe creates is deleted again.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::case::{Send, To};
use super::runner::fresh_token;
use super::spelling::Speaker;
use super::uploads::Uploads;
use super::version::{Dialect, Version};
use super::wire::{self, Exchange, Head, Heard, Outgoing, Site, Transport};
use super::{ServerLimits, extension};

/// The capabilities of a server, as a probe found them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) transports: Vec<Transport>,
    /// Every version that it accepts, oldest first in each dialect.
    pub(crate) versions: Vec<Version>,
    /// The limits that it announces, by their keys in `Upload-Limit`.
    pub(crate) limits: ServerLimits,
    /// The extensions of tus 1.0 it offers.
    pub(crate) extensions: BTreeSet<String>,
    /// The algorithms of its checksum extension.
    pub(crate) algorithms: BTreeSet<String>,
    /// Capabilities that a probe cannot detect, as named by the operator.
    pub(crate) offers: BTreeSet<String>,
}

/// The failure of a probe, with the error for each version of HTTP.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    site: String,
    h1: io::Error,
    h2: io::Error,
}

impl NoAnswer {
    /// The error of the client where TLS or its certificates are the cause, which are the same for every version of HTTP.
    pub(crate) fn into_client_error(self) -> Result<hoist_client::Error, Self> {
        let Self { site, h1, h2 } = self;
        h1.downcast().map_err(|h1| Self { site, h1, h2 })
    }
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} gives no answer: {} over HTTP/1.1; {} over HTTP/2", self.site, self.h1, self.h2)
    }
}

impl std::error::Error for NoAnswer {}

/// Asks a server what it speaks. Each question may take as long as `patience`.
///
/// # Cancellation
/// Safe to drop; an empty upload that was just made may stay until it expires.
pub(crate) async fn probe(site: &Site, patience: Duration) -> Result<Found, NoAnswer> {
    let asker = |transport| Asker { site, transport, patience };
    let (h1, h2) = (asker(Transport::H1).options().await, asker(Transport::H2).options().await);
    let mut found = Found::default();
    found.transports.extend(h1.is_ok().then_some(Transport::H1));
    found.transports.extend(h2.is_ok().then_some(Transport::H2));
    let (told, transport) = match (h1, h2) {
        (Ok(told), _) => (told, Transport::H1),
        (Err(_), Ok(told)) => (told, Transport::H2),
        (Err(h1), Err(h2)) => return Err(NoAnswer { site: site.to_string(), h1, h2 }),
    };
    found.read(&told);
    for dialect in Dialect::ALL {
        for version in dialect.versions() {
            if asker(transport).accepts(*version, &mut found).await {
                found.versions.push(*version);
            }
        }
    }
    Ok(found)
}

impl Found {
    /// Reads what the answer to `OPTIONS` tells.
    fn read(&mut self, told: &Head) {
        let list = |name| told.field(name).into_iter().flat_map(|value| value.split(',')).map(str::trim);
        for (key, number) in list("upload-limit").filter_map(|member| member.split_once('=')) {
            if let Ok(number) = number.parse() {
                self.limits.insert(key.to_owned(), number);
            }
        }
        if let Some(size) = told.field("tus-max-size").and_then(|size| size.parse().ok()) {
            self.limits.entry("max-size".to_owned()).or_insert(size);
        }
        self.extensions = list("tus-extension").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        self.algorithms = list("tus-checksum-algorithm").map(str::to_owned).collect();
    }

    /// The known extensions of tus 1.0 it does not offer.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static str> {
        extension::ALL.into_iter().filter(|name| !self.extensions.contains(*name))
    }
}

/// Asks over one transport.
#[derive(Clone, Copy)]
struct Asker<'a> {
    site: &'a Site,
    transport: Transport,
    patience: Duration,
}

impl Asker<'_> {
    async fn options(self) -> io::Result<Head> {
        let outgoing = self.speaker(Version::Rfc, "", &Uploads::default()).outgoing(&Send::of("OPTIONS"));
        let heard = self.exchange(&outgoing.map_err(io::Error::other)?).await?;
        heard
            .last
            .map(|(head, _)| head)
            .ok_or_else(|| io::Error::other("the connection ended without a response"))
    }

    /// Checks whether the server understands a creation in this version. Deletes the upload that it created.
    async fn accepts(self, version: Version, found: &mut Found) -> bool {
        let token = fresh_token();
        let mut uploads = Uploads::default();
        let creation = match version.dialect() {
            Dialect::Tus1 => Send { length: Some(1), ..Send::of("POST") },
            Dialect::Ietf | Dialect::Token => Send { complete: Some(false), ..Send::of("POST") },
        };
        let Some(heard) = self.ask(version, &token, &uploads, &creation).await else { return false };
        let is_understood = match version.dialect() {
            Dialect::Ietf => is_upload_of_ietf(&heard),
            Dialect::Tus1 => is_upload_of_tus(&heard),
            Dialect::Token => {
                // A server that does not know the field makes an upload of its own of this, which HEAD on the upload
                // URL does not find.
                let question = Send { to: To::Upload, ..Send::of("HEAD") };
                let told = self.ask(version, &token, &uploads, &question).await;
                told.is_some_and(|told| {
                    final_of(&told).is_some_and(|head| head.field("upload-offset") == Some("0"))
                })
            }
        };
        if is_understood && version == Version::Tus1 {
            found.extensions.insert("creation".to_owned());
        }
        if let Some(url) = location(&heard) {
            uploads.add(url, None);
        }
        let is_named = uploads.paths().next().is_some();
        if is_understood || is_named {
            let delete = Send { to: To::Upload, ..Send::of("DELETE") };
            // By its URL where the token means nothing: a DELETE of the upload URL itself could be taken for more.
            let by_url = version.dialect() == Dialect::Token && !is_understood;
            self.ask(if by_url { Version::Rfc } else { version }, &token, &uploads, &delete).await;
        }
        is_understood
    }

    async fn ask(self, version: Version, token: &str, uploads: &Uploads, send: &Send) -> Option<Heard> {
        let outgoing = self.speaker(version, token, uploads).outgoing(send).ok()?;
        self.exchange(&outgoing).await.ok()
    }

    fn speaker<'a>(self, version: Version, token: &'a str, uploads: &'a Uploads) -> Speaker<'a>
    where
        Self: 'a,
    {
        Speaker { version, site: self.site, token, uploads }
    }

    async fn exchange(self, outgoing: &Outgoing) -> io::Result<Heard> {
        match timeout(self.patience, wire::exchange(self.transport, self.site, outgoing)).await {
            Ok(Ok(Exchange::Ended(heard))) => Ok(heard),
            Ok(Ok(Exchange::Standing(standing))) => Ok(standing.heard().clone()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn final_of(heard: &Heard) -> Option<&Head> {
    heard.last.as_ref().map(|(head, _)| head).filter(|head| (200..300).contains(&head.status))
}

fn location(heard: &Heard) -> Option<&str> {
    let announced =
        heard.interims.iter().filter(|head| head.status == 104).find_map(|head| head.field("location"));
    announced.or_else(|| final_of(heard)?.field("location"))
}

/// Returns `true` if the server created an upload and its answer shows that it speaks the protocol.
fn is_upload_of_ietf(heard: &Heard) -> bool {
    let is_ours = |head: &Head| {
        head.fields
            .iter()
            .any(|(name, _)| name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("upload-")))
    };
    let is_announced = heard.interims.iter().any(|head| head.status == 104);
    location(heard).is_some() && final_of(heard).is_some_and(|head| is_announced || is_ours(head))
}

fn is_upload_of_tus(heard: &Heard) -> bool {
    location(heard).is_some()
        && final_of(heard).is_some_and(|head| head.field("tus-resumable") == Some("1.0.0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { status, reason: None, fields }
    }

    #[test]
    fn options_tell_limits_and_extensions() {
        let mut found = Found::default();
        found.read(&head(
            204,
            &[
                ("Upload-Limit", "max-size=100, min-size=0"),
                ("Tus-Extension", "creation,termination"),
                ("Tus-Max-Size", "99"),
                ("Tus-Checksum-Algorithm", "sha1, md5"),
            ],
        ));
        assert_eq!(found.limits, [("max-size".to_owned(), 100), ("min-size".to_owned(), 0)].into());
        assert_eq!(found.algorithms, ["md5".to_owned(), "sha1".to_owned()].into());
        assert!(
            found.missing().any(|name| name == "checksum") && !found.missing().any(|name| name == "creation")
        );
    }

    #[test]
    fn an_ordinary_201_is_no_upload() {
        let created = |fields: &[(&str, &str)]| Heard {
            interims: Vec::new(),
            last: Some((head(201, &[&[("Location", "/a")], fields].concat()), Vec::new())),
        };
        assert!(!is_upload_of_ietf(&created(&[])) && !is_upload_of_tus(&created(&[])));
        assert!(is_upload_of_ietf(&created(&[("Upload-Complete", "?0")])));
        assert!(is_upload_of_tus(&created(&[("Tus-Resumable", "1.0.0")])));
        let announced = Heard { interims: vec![head(104, &[("Location", "/a")])], ..created(&[]) };
        assert!(is_upload_of_ietf(&announced));
    }
}
