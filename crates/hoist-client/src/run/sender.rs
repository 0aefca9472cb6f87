//! The requests of an upload: their URL and content, `Expect: 100-continue`, and redirects.

use std::sync::Arc;

use hoist_proto::client::Transmit;
use http::{HeaderValue, Method, Uri, header};

use super::state::{UploadObserver, UploadState};
use crate::clock;
use crate::error::Error;
use crate::http::{ExchangeEnd, ExchangeError, ExpectContinue, OutgoingRequest, ReusedConnection};
use crate::location;
use crate::origin::Origin;
use crate::progress::{Activity, ContentFlow};
use crate::redirect::{self, Redirects};

/// Content below this size is sent without waiting for an interim response, since that costs less than the wait.
const EXPECT_BYTES_MIN: u64 = 256 * 1024;
/// Permanent redirects that are remembered.
const PERMANENT_REDIRECTS_MAX: usize = 16;

/// Sends the requests of one upload, or of one part of it.
pub(super) struct Sender {
    pub(super) connection: ReusedConnection,
    /// The offset in the source at which the upload begins. Not 0 for most parts.
    base: u64,
    /// True until a request with much content has been sent. Only the first such request may be held back.
    may_expect_continue: bool,
    /// The old and new URLs of permanent redirects.
    permanent_redirects: Vec<(Uri, Uri)>,
}

/// A request that has ended.
pub(super) struct Attempt {
    pub(super) result: Result<ExchangeEnd, ExchangeError>,
    pub(super) flow: Arc<ContentFlow>,
    /// True if the request had `Expect: 100-continue`.
    pub(super) expected_continue: bool,
}

impl Sender {
    pub(super) fn new(connection: ReusedConnection, base: u64) -> Self {
        Self { connection, base, may_expect_continue: true, permanent_redirects: Vec::new() }
    }

    /// Sends a request, and repeats it while the server redirects it with 307 or 308.
    ///
    /// # Errors
    /// Returns an error if the upload cannot continue. A failure that ends only this attempt is in [`Attempt::result`].
    pub(super) async fn send(
        &mut self,
        state: &mut UploadState<'_>,
        transmit: &Transmit,
    ) -> Result<Attempt, Error> {
        let (mut redirects, mut redirected) = (Redirects::default(), None);
        loop {
            let mut outgoing = self.outgoing(state, transmit.clone()).await?;
            let url = self.url(&state.put.url, &outgoing, redirected.take())?;
            *outgoing.head.uri_mut() = location::request_uri(&url);
            let head = outgoing.head.clone();
            let attempt = self.send_once(state, &url, outgoing, transmit.content.is_some()).await?;
            let Ok(ExchangeEnd::Response(response)) = &attempt.result else { return Ok(attempt) };
            redirected = redirects.next(&head, &url, response)?;
            let Some(next) = &redirected else { return Ok(attempt) };
            self.may_expect_continue |= attempt.expected_continue;
            if redirect::is_permanent(response) && self.permanent_redirects.len() < PERMANENT_REDIRECTS_MAX {
                self.permanent_redirects.push((url, next.clone()));
            }
        }
    }

    /// Builds the request that the uploader asks for.
    async fn outgoing(
        &mut self,
        state: &UploadState<'_>,
        mut transmit: Transmit,
    ) -> Result<OutgoingRequest, Error> {
        let caller_origin = Origin::of(&state.put.url)?;
        let patience = state.retry_clock.patience(&state.put.retry_context()?);
        let Some(range) = transmit.content.take() else {
            state.reporter.update(|progress| progress.activity = Activity::Asking);
            if matches!(*transmit.head.method(), Method::POST | Method::PATCH | Method::PUT) {
                transmit.head.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
            }
            return Ok(OutgoingRequest::without_content(transmit.head, caller_origin, patience));
        };
        state.reporter.update(|progress| progress.activity = Activity::Sending);
        let fields = transmit.head.headers_mut();
        let bytes = range.end - range.start;
        if !transmit.is_open {
            // Explicit, because hyper omits the field for empty content.
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        let in_source = self.base + range.start..self.base.saturating_add(range.end);
        if let Some(kind) = transmit.checksum
            && let Some(digest) = state.source.checksum(kind, in_source.clone()).await?
        {
            let (name, value) = kind.field(&digest);
            fields.insert(name, value);
        }
        let is_large = transmit.is_open || bytes >= EXPECT_BYTES_MIN;
        let meter = state.reporter.meter(range.start);
        let mut content = state.source.content(in_source, transmit.is_open, meter).await?;
        let ignores_expect = state.put.client.origins.get(&caller_origin).ignores_expect;
        let expects = is_large && state.started.sends_interim && self.may_expect_continue && !ignores_expect;
        self.may_expect_continue &= !is_large;
        let expect_continue = expects.then(|| {
            transmit.head.headers_mut().insert(header::EXPECT, HeaderValue::from_static("100-continue"));
            ExpectContinue { gate: content.hold_back(), timeout: state.put.client.settings.expect_timeout }
        });
        Ok(OutgoingRequest { head: transmit.head, content, expect_continue, caller_origin, patience })
    }

    /// Returns the URL of a request: the redirected one, or the one that the uploader asks for if that is absolute, or
    /// the upload URL.
    fn url(
        &self,
        upload_url: &Uri,
        outgoing: &OutgoingRequest,
        redirected: Option<Uri>,
    ) -> Result<Uri, Error> {
        let named = outgoing.head.uri();
        let mut url = match redirected {
            Some(url) => url,
            None if named.authority().is_none() => upload_url.clone(),
            None => location::follow(upload_url, named)?,
        };
        for (from, to) in &self.permanent_redirects {
            if *from == url {
                url = to.clone();
            }
        }
        Ok(url)
    }

    /// Sends a request to one URL, and checks that the source has not changed meanwhile.
    async fn send_once(
        &mut self,
        state: &mut UploadState<'_>,
        url: &Uri,
        outgoing: OutgoingRequest,
        has_content: bool,
    ) -> Result<Attempt, Error> {
        let (put, source) = (state.put, state.source);
        let (flow, source_error) = (outgoing.content.meter.flow.clone(), outgoing.content.error_slot.clone());
        let expected_continue = outgoing.expect_continue.is_some();
        let (connector, now) = (&put.client.connector, clock::now());
        let mut observer = UploadObserver { state, url, saw_interim: false, error: None };
        let mut result = self.connection.exchange(connector, url, outgoing, now, &mut observer).await;
        let UploadObserver { saw_interim, error: observer_error, .. } = observer;
        if let Some(error) = source_error.take() {
            return Err(source.failed(error));
        }
        if has_content {
            source.check_unchanged().await?;
        }
        if let Some(error) = observer_error {
            result = Err(ExchangeError { error, reached: true, sent: 0 });
        }
        let mut is_redirect = false;
        if let Ok(ExchangeEnd::Response(response)) = &mut result {
            if *url != put.url {
                location::make_location_absolute(&mut response.fields, url);
            }
            is_redirect = redirect::error(response).is_some();
        }
        if expected_continue && !saw_interim && !is_redirect {
            put.client.origins.update(&Origin::of(&put.url)?, |facts| facts.ignores_expect = true);
        }
        Ok(Attempt { result, flow, expected_continue })
    }
}
