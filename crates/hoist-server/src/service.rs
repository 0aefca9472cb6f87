//! The life of a request: decode, engage, then receive or answer.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hoist_proto::dialect::{self, Detected, Dialect, DialectOptions, Resource, tus1};
use hoist_proto::operation::{Decoded, Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use http::request::Parts;
use http::{HeaderValue, Request, header};
use tracing::Instrument as _;

use crate::answer::Answer;
use crate::cors::CorsRequest;
use crate::engage::{Admitted, Engaged, FamilyFrom};
use crate::execute::Begun;
use crate::intake::Content;
use crate::meter::{Meter, Spliced, Summary};
use crate::observe::Event;
use crate::request_scope::RequestScope;
use crate::route::{Route, route};
use crate::shared::{Hoist, Interims, Shared};
use crate::{alias, answer, discover, form, readiness};

impl<B: Content> tower_service::Service<Request<B>> for Hoist {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let hoist = self.latest();
        let (head, body) = request.into_parts();
        // On the heap, because each async function that is passed a value has room for it twice.
        let mut head = Box::new(head);
        let client = hoist.shared().proxies.client_view(&head.extensions, &head.headers).client;
        let measured = async move {
            let observers = &hoist.shared().observers;
            let mut meter = Meter::new(observers, client, &head.method, head.uri.path());
            if let Some(spliced) = meter.spliced(&body) {
                head.extensions.insert(spliced);
            }
            let mut answer = hoist.answer(head, meter.metered(body)).await;
            let summary = answer.extensions_mut().remove::<Summary>();
            meter.answered(answer.status(), summary);
            Ok(answer.map(|body| body.measured(meter)))
        };
        Box::pin(measured.instrument(span(client)))
    }
}

// The rare cases are boxed, so that the future of every request need not have room for theirs.
impl Hoist {
    async fn answer<B: Content>(&self, head: Box<Parts>, body: B) -> Answer {
        let asked = CorsRequest::of(&head.method, &head.headers);
        let shared = self.shared();
        let mut answer = match route(head.uri.path(), &head.method, &shared.endpoint) {
            Route::At(resource) => self.answer_at(resource, head, body).await,
            Route::WellKnown => discover::well_known(shared),
            Route::Health => discover::health(),
            Route::Readiness => Box::pin(readiness::answer(self, &head.headers)).await,
            Route::Nowhere => {
                answer::refused(None, &Reason::NotFound.into(), &shared.context(&shared.endpoint))
            }
        };
        //= TUS1-DF-17
        answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        shared.cors.apply(&asked, &shared.cors_headers, answer.headers_mut());
        answer
    }

    async fn answer_at<B: Content>(&self, resource: Resource, mut head: Box<Parts>, body: B) -> Answer {
        let shared = self.shared();
        shared.observers.tell(&Event::Arrived(&head.method));
        let base = shared.base(&head);
        let context = shared.context(&base);
        if let Err(refusal) = tus1::override_method(&mut head, resource) {
            return answer::refused(Some(shared.unversioned_tus()), &refusal, &context);
        }
        let scope = shared.scope(&head);
        let resource = shared.resource_of_alias(resource, &head);
        let dialect = match dialect::detect(&head, resource, shared.dialect_options()) {
            Detected::Discover => return discover::options(&shared.policy, shared.settings.tus_extensions),
            Detected::ByUpload => {
                let answered = self.answer_by_url(resource, &head, body, &context, &scope).await;
                return answered.unwrap_or_else(|refusal| answer::refused(None, &refusal, &context));
            }
            Detected::Refuse(refusal) => {
                // A client of tus that states no version, or another one, still reads the answers of tus 1.0.
                let dialect =
                    (refusal.reason == Reason::UnsupportedTusVersion).then(|| shared.unversioned_tus());
                return answer::refused(dialect, &refusal, &context);
            }
            Detected::Dialect(dialect) if shared.settings.completes_at_length => {
                dialect.completing_at_length()
            }
            Detected::Dialect(dialect) => dialect,
        };
        if let Dialect::Ietf(codec) = &dialect {
            shared.observers.tell(&Event::Interop(codec.version));
        }
        let boundary = form::boundary(&head.method, &head.headers)
            .filter(|_| shared.settings.accepts_forms && dialect == Dialect::Conventional);
        let outcome = match boundary {
            Some(boundary) => Box::pin(self.run_form(&boundary, resource, &base, head, body, &scope)).await,
            None => self.run(dialect, resource, &base, head, body, &scope).await,
        };
        answer::encode(Some(dialect), outcome, &context, &scope)
    }

    /// The life of a request in a dialect. Only an offset query that the memory can answer ends here; the others are on the
    /// heap, so that this one need not have room for them.
    async fn run<B: Content>(
        &self,
        dialect: Dialect,
        resource: Resource,
        base: &str,
        mut head: Box<Parts>,
        body: B,
        scope: &RequestScope,
    ) -> Result<Reply, Refusal> {
        let parts = self.shared().resolve_parts(&mut head);
        let mut decoded = dialect.decode(&head, resource, body.size_hint().exact())?;
        alias::restore_parts(&mut decoded, parts);
        if matches!(decoded.operation, Operation::Create(_)) {
            return self.run_creation(dialect, base, head, body, decoded, scope.clone()).await;
        }
        let mut admitted = self.shared().admit(decoded, &head, scope.clone()).await?;
        match self.shared().answer_from_memory(&mut admitted, FamilyFrom::Dialect) {
            Some((_, reply)) => Ok(reply),
            None => Box::pin(self.run_on_upload(dialect, base, head, body, admitted)).await,
        }
    }

    /// Runs a creation. It needs the store in any case, so the whole of it runs there.
    fn run_creation<B: Content>(
        &self,
        dialect: Dialect,
        base: &str,
        head: Box<Parts>,
        mut body: B,
        decoded: Decoded,
        scope: RequestScope,
    ) -> impl Future<Output = Result<Reply, Refusal>> {
        let (hoist, base) = (self.clone(), base.to_owned());
        self.execute(move |shared| async move {
            let admitted = shared.admit(decoded, &head, scope).await?;
            match hoist.engage(FamilyFrom::Dialect, admitted, &head.method, &mut body).await? {
                Engaged::Answered(_, outcome) => Ok(Begun::ended(outcome)),
                Engaged::Claimed(claimed) => {
                    let transport = shared.transport_handles(dialect, &claimed, &base, *head);
                    claimed.begin(&shared, transport, body).await
                }
            }
        })
    }

    async fn run_on_upload<B: Content>(
        &self,
        dialect: Dialect,
        base: &str,
        head: Box<Parts>,
        mut body: B,
        admitted: Admitted,
    ) -> Result<Reply, Refusal> {
        // Claims, loads, sizes and decides, in this order.
        let engaged = Box::pin(self.engage(FamilyFrom::Dialect, admitted, &head.method, &mut body)).await?;
        let claimed = match engaged {
            Engaged::Answered(_, outcome) => return outcome,
            Engaged::Claimed(claimed) if claimed.is_answered() => return claimed.answer(self.shared()).await,
            Engaged::Claimed(claimed) => claimed,
        };
        let transport = self.shared().transport_handles(dialect, &claimed, base, *head);
        self.execute(move |shared| async move { claimed.begin(&shared, transport, body).await }).await
    }

    /// Does what was decided, in a task of the server.
    fn execute<B, F>(
        &self,
        begin: impl FnOnce(Arc<Shared>) -> F,
    ) -> impl Future<Output = Result<Reply, Refusal>>
    where
        B: Content,
        F: Future<Output = Result<Begun<B>, Refusal>> + Send + 'static,
    {
        self.own(|shared| {
            // On the heap until the content is received, which may take hours.
            let started = Box::pin(begin(Arc::clone(&shared)));
            async move { started.await?.complete(&shared).await }
        })
    }

    /// The life of a request that brings its content as the file in a form.
    async fn run_form<B: Content>(
        &self,
        boundary: &str,
        resource: Resource,
        base: &str,
        head: Box<Parts>,
        body: B,
        scope: &RequestScope,
    ) -> Result<Reply, Refusal> {
        let shared = self.shared();
        shared.auth.admit(&head).await?; // before any content of an unauthorized peer is read
        let read = shared.draining.run_until_cancelled(form::file(*head, body, boundary)).await;
        let (mut head, file) = read.ok_or(Reason::Unavailable(Duration::from_secs(1)))??;
        // The content is not the body.
        head.extensions.remove::<Spliced>();
        self.run(Dialect::Conventional, resource, base, Box::new(head), file, scope).await
    }
}

/// Returns the span of a request. Its level is that of errors, so that an error log names the client too.
fn span(client: Option<IpAddr>) -> tracing::Span {
    tracing::error_span!("request", client = client.map(tracing::field::display))
}

impl Shared {
    pub(crate) fn dialect_options(&self) -> DialectOptions {
        let rfc_interim = self.settings.interims == Interims::Always;
        DialectOptions {
            rfc_interim,
            versions: self.settings.ietf_versions,
            tus: self.settings.tus_extensions,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    /// Returns the size of the futures that a function returns.
    fn future_bytes<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_upload_that_waits_for_its_peer_has_no_room_for_what_precedes_or_follows() {
        let of_task =
            future_bytes(|(begun, shared): (Begun<Full<Bytes>>, &'static Shared)| begun.complete(shared));
        assert!(of_task <= 2048, "{of_task} bytes in its task");
        let of_request = future_bytes(|(hoist, head, body): (&'static Hoist, Box<Parts>, Full<Bytes>)| {
            hoist.answer(head, body)
        });
        assert!(of_request <= 1536, "{of_request} bytes in its request");
    }
}
