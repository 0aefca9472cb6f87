//! The handles that a transport attaches to a request: interim responses, the end of its connection, the peer's address.
//!
//! Owns the use of `hoist-http`'s extensions. Under another server they are absent; then no interim response is sent and no
//! connection is ended.

use std::net::IpAddr;

use hoist_http::{Abort, Interim};
use hoist_proto::dialect::Dialect;
use hoist_proto::engine::Decision;
use hoist_proto::types::UploadId;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::engage::Claimed;
use crate::meter::Spliced;
use crate::observe::Transport;
use crate::proxy;
use crate::shared::{Interims, Locations, Shared};

/// The handles of one request, as far as its transport provides them, and what to send through them.
pub(crate) struct TransportHandles {
    pub(crate) dialect: Dialect,
    pub(crate) interim: Option<Interim>,
    /// The interim response that tells the peer the upload URL.
    pub(crate) announcement: Option<Response<()>>,
    pub(crate) abort: Option<Abort>,
    /// The header section, for the digests of the content.
    pub(crate) fields: HeaderMap,
    pub(crate) client: Option<IpAddr>,
    pub(crate) transport: Transport,
    /// False if the request is known to have no content.
    pub(crate) has_content: bool,
    /// Moves the content to the store without copying it into the process.
    pub(crate) spliced: Option<Spliced>,
}

impl TransportHandles {
    /// Replaces the last segment of the URL that is announced.
    pub(crate) fn rename(&mut self, from: UploadId, to: &str) {
        let Some(announcement) = &mut self.announcement else { return };
        let Some(url) = announcement.headers().get(header::LOCATION) else { return };
        let renamed = url.to_str().ok().and_then(|url| url.strip_suffix(&from.to_string()));
        if let Some(url) = renamed.and_then(|base| HeaderValue::try_from(format!("{base}{to}")).ok()) {
            announcement.headers_mut().insert(header::LOCATION, url);
        }
    }
}

impl Shared {
    pub(crate) fn transport_handles(
        &self,
        dialect: Dialect,
        claimed: &Claimed,
        base: &str,
        head: Parts,
    ) -> Box<TransportHandles> {
        let interim =
            head.extensions.get::<Interim>().filter(|_| self.settings.interims != Interims::Never).cloned();
        let announcement = match &claimed.decision {
            Decision::Create(upload, _) | Decision::Receive(upload, _) => {
                dialect.announcement(&claimed.request.operation, &head, upload, &self.context(base))
            }
            _ => None,
        };
        let abort = head.extensions.get::<Abort>().cloned();
        let client = self.proxies.client_view(&head.extensions, &head.headers).client;
        let spliced = head.extensions.get::<Spliced>().cloned();
        let (transport, fields) = (Transport::of(head.version), head.headers);
        Box::new(TransportHandles {
            dialect,
            interim,
            announcement,
            abort,
            fields,
            client,
            transport,
            has_content: true,
            spliced,
        })
    }

    //= IETF-INT-14, TUS1-DF-14
    pub(crate) fn base(&self, head: &Parts) -> String {
        match (self.settings.locations, &self.settings.public_origin) {
            (Locations::Relative, _) => return self.endpoint.clone(),
            (Locations::Absolute, Some(origin)) => {
                return format!("{}{}", origin.trim_end_matches('/'), self.endpoint);
            }
            (Locations::Absolute, None) => {}
        }
        let told = self.proxies.client_view(&head.extensions, &head.headers);
        let named = || {
            let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
            proxy::authority(head.uri.authority().map(http::uri::Authority::as_str).or(host)?)
        };
        told.origin(named).unwrap_or_default() + &self.endpoint
    }
}
