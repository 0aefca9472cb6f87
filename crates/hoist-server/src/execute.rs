//! The second half of the life of a request: doing what was decided.
//!
//! Owns the order of the quotas, the hook, the store and the announcement before the content of a request, which
//! [`intake`](crate::intake) receives.

use std::sync::Arc;
use std::time::Duration;

use hoist_proto::engine::{Decision, Plan};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Offset, UploadId};
use hoist_proto::upload::{Composition, Interruption, Upload};
use hoist_store::store::Writer;
use http_body::Body as _;

use crate::admission::Brings;
use crate::claim::Claim;
use crate::engage::Claimed;
use crate::gauge::Gauge;
use crate::hook_progress::HookProgress;
use crate::intake::{Content, Intake};
use crate::observe::{ActiveTransfer, Event, UploadEvent};
use crate::parts::{ClaimedParent, RegisteredPart};
use crate::pause::Pause;
use crate::request_scope::RequestScope;
use crate::shared::Shared;
use crate::transition::Removal;
use crate::transport_handles::TransportHandles;
use crate::whole::Resumed;
use crate::{admission, digest, error, progress, unverified};

impl Claimed {
    /// Returns whether the request changes nothing, so that [`answer`](Self::answer) needs no task of its own.
    pub(crate) fn is_answered(&self) -> bool {
        self.parent.is_none() && matches!(self.decision, Decision::Answer(_) | Decision::Refuse(_))
    }

    /// Completes a request that brings no content.
    pub(crate) async fn answer(self: Box<Self>, shared: &Shared) -> Result<Reply, Refusal> {
        match self.decision {
            Decision::Answer(mut reply) => {
                if matches!(reply, Reply::Complete { .. }) {
                    shared.observers.tell(&Event::Replayed);
                }
                if let (Reply::State { state, .. }, Some(known)) = (&mut reply, &self.known) {
                    let is_complete = state.complete;
                    *state = Box::pin(shared.state_of(known)).await?;
                    // A hook may have refused that it is.
                    state.complete &= is_complete;
                }
                Ok(reply)
            }
            Decision::Refuse(refusal) => Err(refusal),
            Decision::Cancel => {
                let known = self.known.as_ref().ok_or(Reason::NotFound)?;
                Box::pin(shared.pre_terminate(&self.claim, known)).await?;
                Box::pin(shared.remove(&self.claim, known, Removal::Cancelled)).await?;
                Ok(Reply::Cancelled)
            }
            Decision::Invalidate(refusal) => {
                let known = self.known.as_ref().ok_or(Reason::NotFound)?;
                Box::pin(shared.remove(&self.claim, known, Removal::Discarded)).await?;
                Err(refusal)
            }
            Decision::Create(..) | Decision::Receive(..) => Err(Reason::Internal.into()),
        }
    }

    /// Returns the content of the request, for the admission mode. `None` if it stores none.
    fn brings(&self) -> Option<Brings> {
        match &self.decision {
            Decision::Create(upload, _) => {
                let is_part = self.parent.as_ref().is_some_and(ClaimedParent::exists);
                let joins = upload.composition.is_composed();
                Some(if is_part || joins { Brings::Part } else { Brings::Upload })
            }
            Decision::Receive(..) => Some(Brings::Content),
            Decision::Answer(_) | Decision::Refuse(_) | Decision::Cancel | Decision::Invalidate(_) => None,
        }
    }

    /// Does what was decided, up to the content.
    ///
    /// # Cancellation
    /// Must run in a task of the server.
    pub(crate) async fn begin<B: Content>(
        mut self: Box<Self>,
        shared: &Shared,
        transport: Box<TransportHandles>,
        body: B,
    ) -> Result<Begun<B>, Refusal> {
        if let Some(reason) = self.brings().and_then(|brings| shared.mode.refuses(brings)) {
            return Err(reason.into());
        }
        let part_of = match self.parent.take() {
            // Releases the claim of the parent in any case, because `conclude` may want it.
            Some(parent) => PartOf::Indexed(
                Box::pin(parent.register(shared, &self.request, &self.decision, transport.client)).await?,
            ),
            None => match &self.known {
                Some(known) if known.composition == Composition::Part => {
                    PartOf::Composed(known.id, self.claim.scope.clone())
                }
                _ => PartOf::Nothing,
            },
        };
        let step =
            self.prepare(shared, transport, body).await.unwrap_or_else(|refusal| Step::Ended(Err(refusal)));
        Ok(Begun { step, part_of })
    }

    async fn prepare<B: Content>(
        mut self: Box<Self>,
        shared: &Shared,
        mut transport: Box<TransportHandles>,
        body: B,
    ) -> Result<Step<B>, Refusal> {
        let content_bytes = body.size_hint().exact();
        match self.decision {
            Decision::Create(ref upload, _) if upload.composition.is_composed() => {
                let composed = Box::pin(shared.compose(self.claim, &self.request, transport.client)).await;
                Ok(Step::Ended(composed))
            }
            Decision::Create(..) | Decision::Receive(..) if shared.draining.is_cancelled() => {
                Err(Reason::Unavailable(Duration::from_secs(1)).into())
            }
            Decision::Create(mut upload, plan) => {
                let is_empty = matches!(&self.request.operation, Operation::Create(create) if create.content.bytes == Some(0));
                let content_bytes = if is_empty { Some(0) } else { content_bytes };
                shared.ledger.ready().await?;
                let made_up = upload.id;
                self.claim = Box::pin(shared.pre_create(self.claim, &mut upload)).await?;
                if upload.id != made_up {
                    transport.rename(made_up, &upload.url_path());
                }
                if let Some(known) = &self.known {
                    shared.remove(&self.claim, known, Removal::Expired).await?; // not yet swept
                }
                let mut reservation = shared.ledger.admit(&upload, content_bytes, transport.client)?;
                let body = match shared.take_whole(&upload, &plan, &mut transport, body).await {
                    Ok(whole) => {
                        let claim = &self.claim;
                        let created =
                            shared.create_whole(claim, upload, &plan, whole, reservation, transport);
                        return Ok(Step::Ended(Box::pin(created).await));
                    }
                    //= TUS1-CRE-08
                    Err(_) if is_empty => Resumed::empty(),
                    Err(body) => body,
                };
                let writer = shared.create(&self.claim, &mut upload, &mut reservation).await?;
                transport.has_content = !body.is_end_stream();
                let intake = intake(shared, self.claim, upload, plan, writer, reservation, transport);
                Ok(Step::Receives(Box::new(intake), Box::new(body)))
            }
            Decision::Receive(mut upload, plan) => {
                let (id, fence) = (upload.id, self.claim.fence());
                let failed = |doing| error::during(doing, id);
                if shared.ledger.counts_bytes() {
                    shared.ledger.ready().await?;
                }
                let mut reservation = shared.ledger.admit(&upload, content_bytes, transport.client)?;
                let was_interrupted = !shared.orderly_ends.take(id);
                let is_resumed = was_interrupted && plan.at > Offset::ZERO;
                upload.resumes = upload.resumes.saturating_add(u32::from(is_resumed));
                if self.known.is_some_and(|known| known.length != upload.length) {
                    shared.store.commit(&upload, fence).await.map_err(failed("commit"))?;
                } else if is_resumed {
                    // If this fails, a resumption is not counted; a store that cannot take the content says so below.
                    let _ = shared.store.commit(&upload, fence).await;
                }
                let writer = shared.store.append(id, plan.at, fence).await.map_err(failed("append"))?;
                reservation.stored();
                if is_resumed {
                    let event = UploadEvent::new(&upload, shared.clock.now(), &shared.endpoint);
                    shared.observers.tell(&Event::Resumed(event));
                }
                transport.has_content = !body.is_end_stream();
                let intake = intake(shared, self.claim, upload, plan, writer, reservation, transport);
                Ok(Step::Receives(Box::new(intake), Box::new(Resumed::from(body))))
            }
            Decision::Answer(_) | Decision::Refuse(_) | Decision::Cancel | Decision::Invalidate(_) => {
                Ok(Step::Ended(self.answer(shared).await))
            }
        }
    }
}

/// A request whose upload takes its content, or that has ended without.
///
/// The task of an upload waits for the peer with this alone: what came before is freed, and what follows does not exist
/// yet.
pub(crate) struct Begun<B> {
    step: Step<B>,
    part_of: PartOf,
}

enum Step<B> {
    Ended(Result<Reply, Refusal>),
    Receives(Box<Intake>, Box<Resumed<B>>),
}

/// The upload that the upload of a request is a part of.
enum PartOf {
    Nothing,
    Indexed(RegisteredPart),
    /// Holds the id of the part, and the request on it.
    Composed(UploadId, RequestScope),
}

impl<B: Content> Begun<B> {
    /// Returns a request that has ended.
    pub(crate) fn ended(outcome: Result<Reply, Refusal>) -> Self {
        Self { step: Step::Ended(outcome), part_of: PartOf::Nothing }
    }

    /// Receives the content, and does what follows for uploads composed of this one.
    ///
    /// # Cancellation
    /// Must run in a task of the server.
    pub(crate) async fn complete(self, shared: &Shared) -> Result<Reply, Refusal> {
        let Self { step, part_of } = self;
        let outcome = match step {
            Step::Receives(intake, body) => intake.receive(shared, body).await,
            Step::Ended(outcome) => outcome,
        };
        match part_of {
            PartOf::Nothing => outcome,
            PartOf::Indexed(part) => Box::pin(part.conclude(shared, outcome)).await,
            PartOf::Composed(part, scope) => {
                Box::pin(shared.wake(part, &scope)).await;
                outcome
            }
        }
    }
}

/// Announces the upload, and returns what receives its content.
fn intake(
    shared: &Shared,
    claim: Claim,
    upload: Upload,
    plan: Plan,
    writer: Box<dyn Writer>,
    reservation: admission::Reservation,
    transport: Box<TransportHandles>,
) -> Intake {
    let transfer = ActiveTransfer::begin(&shared.observers, transport.transport, transport.has_content);
    let TransportHandles { dialect, interim, announcement, abort, fields, client, spliced, .. } = *transport;
    // Not earlier: from here on there is an upload to resume.
    //= IETF-INT-10, IETF-INT-12, IETF-INT-15
    if let (Some(interim), Some(announcement)) = (&interim, announcement) {
        // A peer that cannot be reached is gone. Its content, if any, ends in the intake.
        if interim.send(announcement).is_ok() {
            shared.observers.tell(&Event::InterimSent);
        }
    }
    let check = digest::Check::of(dialect, &fields, plan.at, shared.digests.begin(&upload));
    let content = unverified::UnverifiedContent::new(check, plan.at);
    // No progress responses for content that may still be discarded, nor for an upload whose URL was not announced.
    //= IETF-LIM-07
    let reports = upload.semantics.interruption == Interruption::Resumes
        && dialect.progress(upload.offset).is_some()
        && !content.check.is_pending();
    let interim = interim.filter(|_| reports);
    let progress = interim.map(|interim| progress::Progress::new(dialect, interim, upload.offset));
    let spliced = spliced.filter(|_| !content.check.is_hashed());
    let pause = Pause::default();
    let gauge = Arc::new(Gauge::new(client));
    let hook_progress = HookProgress::begin(shared, &upload, plan.at);
    Intake {
        reservation,
        claim,
        upload,
        plan,
        writer,
        abort,
        progress,
        hook_progress,
        pause,
        content,
        gauge,
        spliced,
        transfer,
    }
}
