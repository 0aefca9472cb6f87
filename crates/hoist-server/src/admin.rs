//! The admin service: health, metrics, and the requests of operators.
//!
//! A tower service of its own, for a listener that the clients of uploads do not reach. Owns its routes, and the rule that
//! all of them but the two about health want a token if there is one. Paths below `/v1/` are those of the admin API.

mod api;
mod host;
mod json;
mod openapi;
mod problem;
mod routes;
mod stream;
mod tokens;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hoist_http::Connections;
use hoist_proto::refusal::{Reason, Refusal};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, header};

pub use host::{Host, Reloaded, SettingInForce};
pub use tokens::Tokens;

use crate::answer::{self, Answer};
use crate::intake::Content;
use crate::meter::redacted;
use crate::observe::{Format, Metrics, REQUESTS, Sample};
use crate::route::{HEALTH, READINESS};
use crate::shared::Hoist;
use crate::{discover, free_space, readiness};

const METRICS: &str = "/metrics";

/// The methods of paths that can only be read.
const READS: &str = "GET, HEAD";

/// The admin service of an endpoint. Works under any server, as [`Hoist`] does.
///
/// `/healthz` and `/readyz` are the same as on the endpoint, and want no token: load balancers and supervisors have none.
#[derive(Clone)]
pub struct Admin {
    hoist: Hoist,
    metrics: Metrics,
    /// `None` if the listener admits operators only, such as a unix socket with the permissions for that.
    tokens: Option<Arc<Tokens>>,
    connections: Connections,
    has_tusd_names: bool,
    host: Option<Arc<dyn Host>>,
}

impl Admin {
    /// Returns the admin service of an endpoint, which admits every request. `metrics` must be one of the endpoint's
    /// [observers](crate::Builder::observers).
    pub fn new(hoist: Hoist, metrics: Metrics) -> Self {
        let (connections, has_tusd_names) = (Connections::default(), false);
        Self { hoist, metrics, tokens: None, connections, has_tusd_names, host: None }
    }

    /// Admits only requests with a token.
    pub fn tokens(self, tokens: Tokens) -> Self {
        Self { tokens: Some(Arc::new(tokens)), ..self }
    }

    /// Sets the program around the endpoint, whose configuration operators can see and have read again. Default: none.
    pub fn host(self, host: Arc<dyn Host>) -> Self {
        Self { host: Some(host), ..self }
    }

    /// Sets the count of the endpoint's connections, for the metrics. Default: none are counted.
    pub fn connections(self, connections: Connections) -> Self {
        Self { connections, ..self }
    }

    /// Adds the metrics of tusd, under its names. `/metrics` is then always in the text format of Prometheus, because
    /// `OpenMetrics` does not allow some of the names.
    pub fn tusd_names(self) -> Self {
        Self { has_tusd_names: true, ..self }
    }
}

impl<B: Content> tower_service::Service<Request<B>> for Admin {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let admin = Self { hoist: self.hoist.latest(), ..self.clone() };
        let (head, body) = request.into_parts();
        Box::pin(async move {
            let mut answer = admin.answer(&head, body).await;
            answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            report(&head, &answer);
            Ok(answer)
        })
    }
}

impl Admin {
    async fn answer<B: Content>(&self, head: &Parts, body: B) -> Answer {
        let path = head.uri.path();
        if let HEALTH | READINESS = path {
            return match (path, is_read(&head.method)) {
                (_, false) => problem::method_not_allowed(READS),
                (HEALTH, true) => discover::health(),
                (_, true) => readiness::answer(&self.hoist, &head.headers).await,
            };
        }
        // Before anything about the path: it is not for every peer to know which paths there are.
        if let Some(tokens) = &self.tokens
            && let Err(Refusal { reason, .. }) = tokens.admit(head).await
        {
            let challenge =
                if let Reason::Unauthorized { challenge } = reason { challenge } else { "Bearer" };
            return problem::unauthorized(challenge);
        }
        match path {
            METRICS if is_read(&head.method) => self.metrics(&head.headers).await,
            METRICS => problem::method_not_allowed(READS),
            _ => api::answer(self, head, body).await,
        }
    }

    async fn metrics(&self, fields: &HeaderMap) -> Answer {
        let sample = Sample {
            uploads_open: self.hoist.shared().ledger.open_uploads(),
            free_bytes: free_space::free_bytes(&self.hoist).await,
            connections_open: self.connections.open(),
            sinks: self.hoist.sinks(),
        };
        let format = if self.has_tusd_names { Format::Tusd } else { Format::accepted(fields) };
        answer::document(format.media_type(), self.metrics.encode(format, sample))
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Logs a request: one that is not admitted at level `info`, the others at `debug`.
fn report(head: &Parts, answer: &Answer) {
    let (status, method) = (answer.status().as_u16(), head.method.as_str());
    let path = redacted(head.uri.path());
    if status == 401 {
        tracing::info!(status, method, path, "admin request refused");
    } else {
        tracing::debug!(target: REQUESTS, status, method, path, "admin request");
    }
}
