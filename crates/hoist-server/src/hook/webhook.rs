//! A receiver that is a web service: tusd's HTTP hooks.
//!
//! Owns the request, its retries, and the conditions under which an answer counts.

use std::time::Duration;

use hoist_store::store::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Answer, Call, Failure, Points, Receiver};
use crate::outbound::{Bounds, Destination, Outbound, OutboundError, Response};

pub use crate::outbound::BadDestination;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The most requests that wait for an answer at once.
const RUNNING_MAX: usize = 256;

/// Sends each call as a `POST` request to a URL.
///
/// An answer needs a 2xx status, the media type `application/json` and a JSON object.
pub struct Webhook {
    to: Destination,
    name: String,
    options: WebhookOptions,
    outbound: Outbound,
    permits: Semaphore,
}

/// Options of a [`Webhook`]. The default is that of tusd, with its default points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookOptions {
    /// The points at which it is called.
    pub points: Points,
    /// The number of attempts, at least one. Only a connection that fails and a 5xx status lead to another one.
    pub attempts_max: u32,
    /// The time between two attempts.
    pub backoff: Duration,
    /// The time for all attempts together.
    pub timeout: Duration,
    /// The fields of the client's request that are sent along.
    pub forwarded: Vec<HeaderName>,
    /// The most bytes of an answer.
    pub bytes_max: usize,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            points: Points::default(),
            attempts_max: 3,
            backoff: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            forwarded: Vec::new(),
            bytes_max: 5 * 1024,
        }
    }
}

impl Webhook {
    /// Creates a receiver at an `http` or `https` URL. A user and a password in it are sent, and are not logged.
    ///
    /// # Errors
    /// Returns an error if `url` is no such URL.
    pub fn new(url: &str, options: WebhookOptions) -> Result<Self, BadDestination> {
        let to: Destination = url.parse()?;
        let name = to.to_string();
        let (outbound, permits) = (Outbound::new(), Semaphore::new(RUNNING_MAX));
        Ok(Self { to, name, options, outbound, permits })
    }

    /// Checks a URL without a connection.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn require_url(url: &str) -> Result<(), BadDestination> {
        url.parse::<Destination>().map(drop)
    }

    async fn ask(&self, call: &Call) -> Result<Answer, Failure> {
        let end = Instant::now() + self.options.timeout;
        let too_slow = || Failure(OutboundError::TooSlow(self.options.timeout).to_string());
        let permit = tokio::time::timeout_at(end, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| too_slow())?.expect("the semaphore is never closed");
        let mut attempts = 1;
        loop {
            let timeout = end.saturating_duration_since(Instant::now());
            let bounds = Bounds { timeout, bytes_max: self.options.bytes_max };
            let response = self.outbound.post(&self.to, self.fields(call), call.json().clone(), bounds).await;
            let failure = match response {
                Ok(response) if response.status.is_server_error() => Failure(answered(&response)),
                Ok(response) => return answer(&response),
                Err(OutboundError::Network(why)) => Failure(why),
                Err(OutboundError::TooSlow(_)) => return Err(too_slow()),
                Err(too_large @ OutboundError::TooLarge(_)) => return Err(Failure(too_large.to_string())),
            };
            let again = Instant::now() + self.options.backoff;
            if attempts >= self.options.attempts_max.max(1) || again >= end {
                return Err(failure);
            }
            attempts += 1;
            tokio::time::sleep_until(again).await;
        }
    }

    fn fields(&self, call: &Call) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for name in &self.options.forwarded {
            for value in call.request().fields().into_iter().flat_map(|fields| fields.get_all(name)) {
                fields.append(name.clone(), value.clone());
            }
        }
        fields.insert(header::CONTENT_TYPE, JSON);
        fields
    }
}

impl Receiver for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn points(&self) -> Points {
        self.options.points
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(self.ask(call))
    }
}

fn answered(response: &Response) -> String {
    format!("answered {}", response.status)
}

fn answer(response: &Response) -> Result<Answer, Failure> {
    if !response.status.is_success() {
        return Err(Failure(answered(response)));
    }
    let media_type = response.fields.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let given = media_type.map_or("without a media type".to_owned(), |given| format!("with {given:?}"));
        return Err(Failure(format!("answered {given} instead of application/json")));
    }
    Answer::from_json(&response.content)
}
