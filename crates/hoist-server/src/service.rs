//! The life of a request, and nothing else: decode, admit, claim, load, decide, then receive or answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Poll;

use hoist_proto::dialect::ietf::IetfCodec;
use hoist_proto::dialect::{self, Context, Detected, Dialect, DialectOptions, Resource, tus1};
use hoist_proto::engine::{self, Decision, UploadRequest};
use hoist_proto::operation::{Decoded, Operation, Reply, Subject};
use hoist_proto::refusal::Refusal;
use hoist_proto::types::{Principal, UploadId};
use hoist_proto::upload::{Composition, Family, State, Upload};
use http::request::Parts;
use http::{HeaderValue, Method, Request, header};
use tracing::Instrument as _;

use crate::answer::{self, Answer};
use crate::claim::{Asker, Claim, Denied, Occupied, Transfer};
use crate::cors::Asked;
use crate::discover;
use crate::execute::Execution;
use crate::form;
use crate::intake::{self, Content};
use crate::parts::Numbered;
use crate::route::{Route, route};
use crate::shared::{CLAIM_TIMEOUT, Hoist, Interims, Shared};
use crate::upload_id;

impl<B: Content> tower_service::Service<Request<B>> for Hoist {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let hoist = self.clone();
        let span = hoist.shared().span(&request);
        Box::pin(async move { Ok(hoist.answer(request).await) }.instrument(span))
    }
}

impl Hoist {
    async fn answer<B: Content>(self, request: Request<B>) -> Answer {
        let asked = Asked::of(request.method(), request.headers());
        let shared = self.shared();
        let mut answer = match route(request.uri().path(), request.method(), &shared.endpoint) {
            Route::At(resource) => self.at(resource, request).await,
            Route::WellKnown => discover::well_known(shared),
            Route::Health => discover::health(),
            Route::Readiness => discover::readiness(shared).await,
            Route::Nowhere => problem(None, &Refusal::NotFound, &shared.context(&shared.endpoint)),
        };
        //= TUS1-DF-17
        answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        shared.cors.apply(&asked, &shared.cors_headers, answer.headers_mut());
        answer
    }

    async fn at<B: Content>(&self, resource: Resource, request: Request<B>) -> Answer {
        let (mut head, body) = request.into_parts();
        let shared = self.shared();
        let base = shared.base(&head);
        let context = shared.context(&base);
        if let Err(refusal) = tus1::override_method(&mut head, resource) {
            return problem(Some(shared.unversioned_tus()), &refusal, &context);
        }
        let options = shared.dialect_options();
        let (dialect, outcome) = match dialect::detect(&head, resource, options) {
            Detected::Discover => return discover::options(&shared.policy, shared.settings.tus),
            // Who speaks tus 1.0 in another version, or forgot to say so, is answered as clients of tus are.
            Detected::Refuse(Refusal::TusVersion) => {
                (Some(shared.unversioned_tus()), Err(Refusal::TusVersion))
            }
            Detected::Refuse(refusal) => (None, Err(refusal)),
            Detected::ByUpload => match self.download(resource, &head).await {
                Some(download) => return download,
                None => self.stored(resource, &head).await,
            },
            Detected::Dialect(dialect) => {
                let dialect = if shared.settings.completes_at_length {
                    dialect.completing_at_length()
                } else {
                    dialect
                };
                let boundary = form::boundary(&head.method, &head.headers)
                    .filter(|_| shared.settings.accepts_forms && dialect == Dialect::Conventional);
                let outcome = match boundary {
                    Some(boundary) => self.run_form(&boundary, resource, &base, head, body).await,
                    None => self.run(dialect, resource, &base, head, body).await,
                };
                (Some(dialect), outcome)
            }
        };
        match (dialect, outcome) {
            (Some(dialect), Ok(reply)) => answer::reply(dialect.encode(&reply, &context), reply),
            (dialect, Err(refusal)) => problem(dialect, &refusal, &context),
            (None, Ok(_)) => unreachable!("without a dialect there is only a refusal"),
        }
    }

    /// The life of a request.
    pub(crate) async fn run<B: Content>(
        &self,
        dialect: Dialect,
        resource: Resource,
        base: &str,
        head: Parts,
        mut body: B,
    ) -> Result<Reply, Refusal> {
        let shared = self.shared();
        let decoded = dialect.decode(&head, resource, body.size_hint().exact())?;
        let principal = shared.auth.admit(&head).await?; // first: a stranger must not end an upload
        let (mut request, numbered) = shared.name(decoded, principal)?;
        if let Some(numbered) = numbered {
            return self.run_part(numbered, request, dialect, base, head, body).await;
        }
        let claim = match shared.claim(&request).await {
            Err(Refusal::Busy) if request.operation == Operation::Retrieve => {
                return shared.look_beside(&request).await;
            }
            claim => claim?, // ends the request before this one
        };
        let (claim, known) = self.load(claim).await?; // after the claim, so never stale
        intake::know_size(&claim, shared, &mut request, known.as_ref(), &mut body).await?;
        match engine::decide(known.as_ref(), &request, &shared.policy, shared.clock.now()) {
            Decision::Answer(Reply::State { id, described, .. }) => {
                let upload = known.ok_or(Refusal::NotFound)?;
                Ok(Reply::State { id, state: shared.state_of_parts(&upload).await?, described })
            }
            Decision::Answer(reply) => Ok(reply),
            Decision::Refuse(refusal) => Err(shared.remembering(refusal, &request)),
            decision => {
                let channels = shared.channels(dialect, &request.operation, &decision, base, &head);
                let work = Execution { claim, known, channels, content_bytes: body.size_hint().exact() };
                self.own(move |shared| async move { work.run(&shared, request, decision, body).await }).await
            }
        }
    }

    /// A request no dialect claims, on the URL of an upload: it is answered in the dialect of the upload.
    //= IETF-VER-08
    async fn stored(&self, resource: Resource, head: &Parts) -> (Option<Dialect>, Result<Reply, Refusal>) {
        match self.of_upload(resource, head).await {
            Ok((dialect, outcome)) => (Some(dialect), outcome),
            Err(refusal) => (None, Err(refusal)),
        }
    }

    async fn of_upload(
        &self,
        resource: Resource,
        head: &Parts,
    ) -> Result<(Dialect, Result<Reply, Refusal>), Refusal> {
        let shared = self.shared();
        let Resource::Upload(id) = resource else { return Err(Refusal::NotFound) };
        let principal = shared.auth.admit(head).await?;
        let operation = if head.method == Method::DELETE { Operation::Cancel } else { Operation::Retrieve };
        let mut request = UploadRequest { id, principal, family: Family::Conventional, operation };
        let claim = match self.claim_stored(&request, &head.method).await? {
            Ok(claim) => claim,
            Err((family, refusal)) => return Ok((shared.dialect_of(family)?, Err(refusal))),
        };
        let (claim, known) = self.load(claim).await?;
        let Some(family) = known.as_ref().map(|upload| upload.family) else {
            //= TUS1-HEAD-05, TUS1-TRM-02
            let is_gone = shared.tombstones.knows(id, request.principal.as_ref());
            let gone = (shared.unversioned_tus(), Err(Refusal::Gone));
            return if is_gone { Ok(gone) } else { Err(Refusal::NotFound) };
        };
        let dialect = shared.dialect_of(family)?;
        request.family = family;
        let decision = engine::decide(known.as_ref(), &request, &shared.policy, shared.clock.now());
        let outcome = match (decision, meaningless(family, &head.method)) {
            (Decision::Refuse(refusal), _) | (_, Some(refusal)) => Err(refusal),
            (Decision::Cancel, None) => {
                self.own(move |shared| async move { shared.remove(&claim).await.map(|()| Reply::Cancelled) })
                    .await
            }
            (Decision::Answer(reply), None) => Ok(reply),
            _ => Err(Refusal::Internal),
        };
        Ok((dialect, outcome))
    }

    /// Takes the upload of a request in no dialect, as [`claim`](Shared::claim) does. A running transfer tells which family
    /// the upload is of, and a request that is refused in that family does not end it.
    async fn claim_stored(
        &self,
        request: &UploadRequest,
        method: &Method,
    ) -> Result<Result<Claim, (Family, Refusal)>, Refusal> {
        let shared = self.shared();
        let asker = Asker { principal: request.principal.as_ref(), family: None };
        match shared.claims.take_idle(request.id, CLAIM_TIMEOUT).await {
            Ok(claim) => return Ok(Ok(claim)),
            Err(Occupied::Busy) => return Err(Refusal::Busy),
            Err(Occupied::Transferring(transfer)) if !asker.may_see(&transfer) => {
                return Err(Refusal::NotFound);
            }
            Err(Occupied::Transferring(Transfer { family, .. })) => {
                let incomplete = || {
                    Refusal::Forbidden("the content of this upload can be fetched once it is complete".into())
                };
                let fetches = shared.settings.downloads && method == Method::GET;
                let refusal = meaningless(family, method).or_else(|| fetches.then(incomplete));
                if let Some(refusal) = refusal {
                    return Ok(Err((family, refusal)));
                }
            }
        }
        shared.take(request.id, asker).await.map(Ok)
    }

    /// What the store has of the claimed upload. What is whole is delivered first, so that nobody finds an upload in
    /// between.
    //= IETF-RES-01, IETF-RET-09, IETF-CON-03, IETF-CON-07
    pub(crate) async fn load(&self, claim: Claim) -> Result<(Claim, Option<Upload>), Refusal> {
        match self.shared().fetch(&claim).await? {
            // A target that fails now may do better later; what is stored can be told meanwhile.
            Some(upload) if upload.awaits_delivery() => {
                self.own(move |shared| async move {
                    let delivered = shared.deliver_due(&claim, upload.clone()).await;
                    Ok((claim, Some(delivered.unwrap_or(upload))))
                })
                .await
            }
            Some(upload) if upload.composition.is_composed() && !upload.is_complete() => {
                self.own(move |shared| async move {
                    let upload = shared.refreshed(upload).await?;
                    let joined = shared.try_join(&claim, upload).await?;
                    Ok((claim, Some(joined)))
                })
                .await
            }
            known => Ok((claim, known)),
        }
    }
}

impl Shared {
    /// What every log line about a request says of it. Its level is that of errors, so that these say it too.
    fn span<B>(&self, request: &Request<B>) -> tracing::Span {
        let span = tracing::error_span!("request", client = tracing::field::Empty);
        if let Some(client) = self.proxies.told(request.extensions(), request.headers()).client {
            span.record("client", tracing::field::display(client));
        }
        span
    }

    /// The upload a request is about.
    fn name(
        &self,
        decoded: Decoded,
        principal: Option<Principal>,
    ) -> Result<(UploadRequest, Option<Numbered>), Refusal> {
        let Decoded { subject, family, mut operation } = decoded;
        let mut numbered = None;
        let id = match subject {
            //= TOK-TOKEN-05
            Subject::Token(token) | Subject::Part(token, _)
                if token.octets() < self.policy.token_octets_min =>
            {
                let least = self.policy.token_octets_min;
                return Err(Refusal::field(
                    "Upload-Token",
                    format!("must have at least {least} octets here"),
                ));
            }
            Subject::Token(token) => self.ids.of_token(principal.as_ref(), &token),
            Subject::Part(token, part) => {
                let whole = self.ids.of_token(principal.as_ref(), &token);
                numbered = Some(Numbered { whole, part });
                if let Operation::Create(create) = &mut operation {
                    create.composition = Composition::Part;
                }
                self.ids.of_part(whole, part.number)
            }
            Subject::Id(id) => id,
            Subject::Fresh => upload_id::random_id().map_err(|failure| {
                tracing::error!(error = %failure, "the system gives no random numbers");
                Refusal::Internal
            })?,
        };
        Ok((UploadRequest { id, principal, family, operation }, numbered))
    }

    /// What there is of an upload that somebody is at for too long: when it is all there, its target is at work, and nothing
    /// can be added to what is told.
    //= IETF-CON-07
    async fn look_beside(&self, request: &UploadRequest) -> Result<Reply, Refusal> {
        let known = self.peek(request.id).await?;
        match engine::decide(known.as_ref(), request, &self.policy, self.clock.now()) {
            Decision::Answer(Reply::State { id, state, described })
                if state.length.is_some_and(|length| length.is_reached(state.offset.offset())) =>
            {
                Ok(Reply::State { id, state, described })
            }
            _ => Err(Refusal::Busy),
        }
    }

    /// What is not there, told apart from what is gone.
    //= TUS1-HEAD-05, TUS1-PATCH-07, TUS1-TRM-02
    fn remembering(&self, refusal: Refusal, request: &UploadRequest) -> Refusal {
        let is_gone = || self.tombstones.knows(request.id, request.principal.as_ref());
        if refusal == Refusal::NotFound && is_gone() { Refusal::Gone } else { refusal }
    }

    /// The dialect in which a request that names none is answered about an upload of this family.
    fn dialect_of(&self, family: Family) -> Result<Dialect, Refusal> {
        match family {
            Family::Ietf => Ok(Dialect::Ietf(IetfCodec::unversioned())),
            Family::Conventional => Ok(Dialect::Conventional),
            Family::Tus1 => Ok(self.unversioned_tus()),
            // A token upload has no URL.
            _ => Err(Refusal::NotFound),
        }
    }

    fn dialect_options(&self) -> DialectOptions {
        let rfc_interim = self.settings.interims == Interims::Always;
        DialectOptions { rfc_interim, versions: self.settings.versions, tus: self.settings.tus }
    }

    fn unversioned_tus(&self) -> Dialect {
        Dialect::Tus1(tus1::Tus1Codec::unversioned(self.settings.tus))
    }

    /// Takes the upload of a request. Ends the transfer that is running on it, unless the request would be refused whatever
    /// the upload's state is.
    pub(crate) async fn claim(&self, request: &UploadRequest) -> Result<Claim, Refusal> {
        let limits = &self.policy.limits;
        match &request.operation {
            // A creation never ends a transfer.
            Operation::Create(_) => self.claim_idle(request, Refusal::Taken).await,
            Operation::Reject(refusal) => {
                self.claim_idle(request, |state| Refusal::Beside(Box::new(refusal.clone()), state)).await
            }
            Operation::Append(append) if engine::beyond_limits(append, limits, None).is_some() => {
                let beyond = |state| engine::beyond_limits(append, limits, Some(state));
                self.claim_idle(request, |state| beyond(state).unwrap_or(Refusal::Taken(state))).await
            }
            Operation::Append(_) | Operation::Retrieve | Operation::Cancel => {
                self.take(request.id, Asker::of(request)).await
            }
        }
    }

    /// Takes an upload, and ends the transfer that is running on it.
    async fn take(&self, id: UploadId, asker: Asker<'_>) -> Result<Claim, Refusal> {
        let taken = self.claims.take(id, asker, CLAIM_TIMEOUT).await;
        taken.map_err(|denied| match denied {
            Denied::Busy => Refusal::Busy,
            Denied::Stranger => Refusal::NotFound,
        })
    }

    /// Takes the upload of a request if no transfer is running on it. `refusal` says what the request gets otherwise.
    async fn claim_idle(
        &self,
        request: &UploadRequest,
        refusal: impl FnOnce(State) -> Refusal,
    ) -> Result<Claim, Refusal> {
        let taken = self.claims.take_idle(request.id, CLAIM_TIMEOUT).await;
        taken.map_err(|occupied| match occupied {
            Occupied::Transferring(transfer) if Asker::of(request).may_see(&transfer) => {
                refusal(transfer.state)
            }
            Occupied::Transferring(_) => Refusal::NotFound,
            Occupied::Busy => Refusal::Busy,
        })
    }
}

/// The refusal of a request in no dialect that means nothing to an upload of this family.
//= TUS1-DF-16, IETF-SEC-09
fn meaningless(family: Family, method: &Method) -> Option<Refusal> {
    match (family, method) {
        (Family::Tus1, &Method::DELETE) => Some(Refusal::TusVersion),
        (Family::Tus1, &Method::GET) => Some(Refusal::Method { allow: tus1::METHODS_OF_UPLOAD }),
        (Family::Conventional, &Method::GET | &Method::HEAD) => {
            Some(Refusal::Forbidden("the content of uploads cannot be downloaded from here".into()))
        }
        (Family::Token, _) => Some(Refusal::NotFound),
        _ => None,
    }
}

/// The answer to a refused request, in its dialect if it has one.
fn problem(dialect: Option<Dialect>, refusal: &Refusal, context: &Context<'_>) -> Answer {
    tracing::debug!(status = refusal.status().as_u16(), refusal = refusal.problem().title, "refused");
    let head = dialect.map_or_else(|| dialect::refused(refusal), |dialect| dialect.refuse(refusal, context));
    let is_plain = dialect.is_some_and(|dialect| dialect.uses_plain_text_errors());
    if is_plain { answer::plain(head, refusal) } else { answer::problem(head, refusal) }
}
