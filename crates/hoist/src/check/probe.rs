//! Probes of a server's capabilities: transports, dialects and versions, limits, extensions.
//!
//! Uploads created by the probe are deleted again.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use super::case::{RequestSpec, RequestTarget};
use super::request_builder::RequestBuilder;
use super::runner::fresh_token;
use super::uploads::Uploads;
use super::version::{CorpusDialect, Version};
use super::wire::{self, Endpoint, Exchange, Head, Responses, Transport};
use super::{ServerLimits, extension};

/// The capabilities of a server, as detected by a probe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capabilities {
    pub(crate) transports: Vec<Transport>,
    /// The accepted versions, oldest first in each dialect.
    pub(crate) versions: Vec<Version>,
    /// The announced limits, by their keys in `Upload-Limit`.
    pub(crate) limits: ServerLimits,
    /// The tus 1.0 extensions that the server offers.
    pub(crate) extensions: BTreeSet<String>,
    /// The checksum algorithms that the server offers.
    pub(crate) algorithms: BTreeSet<String>,
    /// Features that a probe cannot detect, as given on the command line.
    pub(crate) offers: BTreeSet<String>,
}

/// A failed probe, with the error for each version of HTTP.
#[derive(Debug)]
pub(crate) struct ProbeError {
    endpoint: String,
    h1: io::Error,
    h2: io::Error,
}

impl ProbeError {
    /// Returns the client error if TLS failed, which is the same for both versions of HTTP.
    pub(crate) fn into_client_error(self) -> Result<hoist_client::Error, Self> {
        let Self { endpoint, h1, h2 } = self;
        h1.downcast().map_err(|h1| Self { endpoint, h1, h2 })
    }
}

impl std::fmt::Display for ProbeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no response from {}: {} over HTTP/1.1; {} over HTTP/2", self.endpoint, self.h1, self.h2)
    }
}

impl std::error::Error for ProbeError {}

/// Detects the capabilities of a server. `timeout` limits each request.
///
/// # Cancellation
/// If dropped, an empty upload may stay on the server until it expires.
pub(crate) async fn probe(endpoint: &Endpoint, timeout: Duration) -> Result<Capabilities, ProbeError> {
    let prober = |transport| Prober { endpoint, transport, timeout };
    let (h1, h2) = (prober(Transport::H1).options().await, prober(Transport::H2).options().await);
    let mut found = Capabilities::default();
    found.transports.extend(h1.is_ok().then_some(Transport::H1));
    found.transports.extend(h2.is_ok().then_some(Transport::H2));
    let (options, transport) = match (h1, h2) {
        (Ok(options), _) => (options, Transport::H1),
        (Err(_), Ok(options)) => (options, Transport::H2),
        (Err(h1), Err(h2)) => return Err(ProbeError { endpoint: endpoint.to_string(), h1, h2 }),
    };
    found.read(&options);
    for dialect in CorpusDialect::ALL {
        for version in dialect.versions() {
            if prober(transport).accepts(*version, &mut found).await {
                found.versions.push(*version);
            }
        }
    }
    Ok(found)
}

impl Capabilities {
    /// Reads limits and extensions from the response to `OPTIONS`.
    fn read(&mut self, options: &Head) {
        let list = |name| options.field(name).into_iter().flat_map(|value| value.split(',')).map(str::trim);
        for (key, number) in list("upload-limit").filter_map(|member| member.split_once('=')) {
            if let Ok(number) = number.parse() {
                self.limits.insert(key.to_owned(), number);
            }
        }
        if let Some(size) = options.field("tus-max-size").and_then(|size| size.parse().ok()) {
            self.limits.entry("max-size".to_owned()).or_insert(size);
        }
        self.extensions = list("tus-extension").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        self.algorithms = list("tus-checksum-algorithm").map(str::to_owned).collect();
    }

    /// Returns the known tus 1.0 extensions that the server does not offer.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &'static str> {
        extension::ALL.into_iter().filter(|name| !self.extensions.contains(*name))
    }
}

/// Sends probe requests over one transport.
#[derive(Clone, Copy)]
struct Prober<'a> {
    endpoint: &'a Endpoint,
    transport: Transport,
    timeout: Duration,
}

impl Prober<'_> {
    async fn options(self) -> io::Result<Head> {
        let question = RequestSpec::of("OPTIONS");
        let responses = self.ask(Version::Rfc, "", &Uploads::default(), &question).await?;
        let head = responses.last.map(|(head, _)| head);
        head.ok_or_else(|| io::Error::other("the connection was closed without a response"))
    }

    /// Returns whether the server accepts a creation in this version. Deletes the upload that it created.
    async fn accepts(self, version: Version, found: &mut Capabilities) -> bool {
        let token = fresh_token();
        let mut uploads = Uploads::default();
        let creation = match version.dialect() {
            CorpusDialect::Tus1 => RequestSpec { length: Some(1), ..RequestSpec::of("POST") },
            CorpusDialect::Ietf | CorpusDialect::Token => {
                RequestSpec { complete: Some(false), ..RequestSpec::of("POST") }
            }
        };
        let Ok(responses) = self.ask(version, &token, &uploads, &creation).await else { return false };
        let is_understood = match version.dialect() {
            CorpusDialect::Ietf => is_upload_of_ietf(&responses),
            CorpusDialect::Tus1 => is_upload_of_tus(&responses),
            CorpusDialect::Token => {
                // A server that ignores `Upload-Token` creates an ordinary upload, which `HEAD` on the upload URL does
                // not find.
                let question = RequestSpec { to: RequestTarget::Upload, ..RequestSpec::of("HEAD") };
                let response = self.ask(version, &token, &uploads, &question).await;
                let found = response.as_ref().ok().and_then(Responses::success);
                found.is_some_and(|head| head.field("upload-offset") == Some("0"))
            }
        };
        if is_understood && version == Version::Tus1 {
            found.extensions.insert("creation".to_owned());
        }
        if let Some(url) = location(&responses) {
            uploads.add(url, None);
        }
        let is_named = uploads.paths().next().is_some();
        if is_understood || is_named {
            let delete = RequestSpec { to: RequestTarget::Upload, ..RequestSpec::of("DELETE") };
            // If the server ignores the token, the upload is deleted by its own URL: a DELETE of the upload URL could
            // delete more.
            let by_url = version.dialect() == CorpusDialect::Token && !is_understood;
            let _ = self.ask(if by_url { Version::Rfc } else { version }, &token, &uploads, &delete).await;
        }
        is_understood
    }

    async fn ask(
        self,
        version: Version,
        token: &str,
        uploads: &Uploads,
        send: &RequestSpec,
    ) -> io::Result<Responses> {
        let Self { endpoint, transport, timeout } = self;
        let outgoing = RequestBuilder { version, endpoint, token, uploads }.outgoing(send);
        let outgoing = outgoing.map_err(io::Error::other)?;
        match tokio::time::timeout(timeout, wire::exchange(transport, endpoint, &outgoing)).await {
            Ok(Ok(Exchange::Complete(responses))) => Ok(responses),
            Ok(Ok(Exchange::Pending(pending))) => Ok(pending.responses().clone()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn location(responses: &Responses) -> Option<&str> {
    responses.announcements().chain(responses.success()).find_map(|head| head.field("location"))
}

/// Returns whether the server created an upload and answered with fields of the protocol.
fn is_upload_of_ietf(responses: &Responses) -> bool {
    let is_ours = |head: &Head| {
        head.fields
            .iter()
            .any(|(name, _)| name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("upload-")))
    };
    let is_announced = responses.announcements().next().is_some();
    location(responses).is_some() && responses.success().is_some_and(|head| is_announced || is_ours(head))
}

fn is_upload_of_tus(responses: &Responses) -> bool {
    location(responses).is_some()
        && responses.success().is_some_and(|head| head.field("tus-resumable") == Some("1.0.0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&str, &str)]) -> Head {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { status, reason: None, fields }
    }

    #[test]
    fn limits_and_extensions_are_read_from_options() {
        let mut found = Capabilities::default();
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
    fn an_ordinary_201_is_not_taken_for_an_upload() {
        let created = |fields: &[(&str, &str)]| Responses {
            interims: Vec::new(),
            last: Some((head(201, &[&[("Location", "/a")], fields].concat()), Vec::new())),
        };
        assert!(!is_upload_of_ietf(&created(&[])) && !is_upload_of_tus(&created(&[])));
        assert!(is_upload_of_ietf(&created(&[("Upload-Complete", "?0")])));
        assert!(is_upload_of_tus(&created(&[("Tus-Resumable", "1.0.0")])));
        let announced = Responses { interims: vec![head(104, &[("Location", "/a")])], ..created(&[]) };
        assert!(is_upload_of_ietf(&announced));
    }
}
