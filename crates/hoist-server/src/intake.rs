//! Receives the content of one request, from the body to the store, and settles what it leaves.
//!
//! An intake belongs to the server and not to the connection: when the peer vanishes it still stores, syncs and settles
//! what arrived. The only `select!` on the request path is here.

use std::time::Duration;

use bytes::{Buf, Bytes};
use hoist_http::{Abort, BodyError, Interim};
use hoist_proto::dialect::Dialect;
use hoist_proto::engine::{self, End, Ending, Plan, Verdict};
use hoist_proto::operation::Reply;
use hoist_proto::refusal::{Interrupted, Refusal};
use hoist_proto::types::{Durable, Offset};
use hoist_proto::upload::{State, Upload};
use hoist_store::store::{Error, Writer};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::digest::Check;
use crate::service::{Shared, now};
use crate::{BoxError, error};

/// What content can be received from: the body of any server's requests.
pub trait Content: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> Content for B {}

/// One request's content on its way to the store.
pub(crate) struct Intake {
    pub(crate) claim: Claim,
    pub(crate) upload: Upload,
    pub(crate) plan: Plan,
    pub(crate) writer: Box<dyn Writer>,
    /// Ends the connection or the stream the content comes from. Absent under a server that offers no such thing.
    pub(crate) abort: Option<Abort>,
    /// Tells the peer how much is stored, where it can be told.
    pub(crate) progress: Option<Progress>,
    /// What the content should hash to.
    pub(crate) check: Check,
}

/// Tells a peer how much of its content is stored while more arrives: the latest offset, seldom enough. A peer that waits to
/// be told before it sends more is told, too.
//= IETF-INT-13, IETF-INC-02
pub(crate) struct Progress {
    dialect: Dialect,
    interim: Interim,
    /// Where the content that was accepted ends.
    accepted: Offset,
    told: Durable,
    next: Instant,
}

/// The shortest time between two progress responses.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The fewest bytes between two progress responses, while there are more to come.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

impl Progress {
    /// Progress from `at` on, where the peer knows that it is.
    pub(crate) fn new(dialect: Dialect, interim: Interim, at: Durable) -> Self {
        let next = Instant::now() + PROGRESS_INTERVAL;
        Self { dialect, interim, accepted: at.offset(), told: at, next }
    }

    /// Notes content, and tells what is stored if it is time.
    fn accepted(&mut self, bytes: u64, writer: &mut dyn Writer) {
        self.accepted = self.accepted.advance(bytes).unwrap_or(self.accepted);
        if self.next <= Instant::now() {
            self.tell(PROGRESS_BYTES_MIN, writer);
        }
    }

    /// Completes when it is time to tell a peer that sends nothing.
    async fn due(progress: Option<&Self>) {
        match progress {
            Some(progress) if progress.told.offset() < progress.accepted => {
                tokio::time::sleep_until(progress.next).await;
            }
            Some(_) | None => std::future::pending().await,
        }
    }

    fn tell(&mut self, bytes_min: u64, writer: &mut dyn Writer) {
        self.next = Instant::now() + PROGRESS_INTERVAL;
        let durable = writer.hasten();
        let news = durable.offset().bytes_since(self.told.offset()).unwrap_or(0);
        if news < bytes_min {
            return;
        }
        let Some(head) = self.dialect.progress(durable) else { return };
        self.told = durable;
        // Who cannot be told is gone, which the body will say.
        let _ = self.interim.progress(head);
    }
}

/// Why nothing more was stored.
enum Stop {
    /// The content ended, in one of the ways the protocol knows.
    Ended(End),
    /// The store failed.
    Failed(Error),
}

impl Intake {
    /// Receives, settles, and delivers what became whole. The claim is given back when this returns, whatever happened
    /// and whether or not anybody still wants the answer.
    ///
    /// # Cancellation
    /// To be awaited by a task of the server's own; dropped, it leaves what the store has accepted.
    pub(crate) async fn receive<B: Content>(mut self, shared: &Shared, body: B) -> Result<Reply, Refusal> {
        self.claim.transfers(&self.upload);
        let stop = self.store_content(shared, body).await;
        // Before anything slow: a peer that was overtaken must not wait for a disk to learn of it.
        if let Stop::Ended(End::Cut(Interrupted::Superseded)) = stop
            && let Some(abort) = &self.abort
        {
            abort.abort();
        }
        let is_wrong = matches!(stop, Stop::Ended(End::Whole)) && !self.check.holds();
        if is_wrong && let Err(failure) = self.writer.cut_back(self.plan.at).await {
            return Err(error::refusal("cut back", self.claim.id(), &failure));
        }
        //= TOK-CRE-01, TOK-APP-05, IETF-CRE-12, IETF-APP-09, IETF-CON-06, IETF-DIG-10, IETF-OFF-03
        let stored = match self.writer.sync().await {
            Ok(stored) => stored,
            Err(failure) => return Err(error::refusal("sync", self.claim.id(), &failure)),
        };
        drop(self.writer);
        if is_wrong {
            return Err(Refusal::Digest(State::from(&self.upload)));
        }
        let how = match stop {
            Stop::Ended(how) => how,
            Stop::Failed(failure) => return Err(error::refusal("write", self.claim.id(), &failure)),
        };
        let length_was_known = self.upload.length.is_some();
        let (upload, verdict) = engine::settle(self.upload, &self.plan, &Ending { stored, how }, now());
        tracing::debug!(upload = %upload.id.short(), offset = %upload.offset, ended = ?how, "content ended");
        shared.ledger.record(&upload);
        let whole = self.check.whole();
        if !matches!(verdict, Verdict::Deliver) {
            shared.digests.keep(&upload, whole.clone());
        }
        match verdict {
            Verdict::Acknowledge(reply) => Ok(reply),
            Verdict::Refuse(refusal) => Err(refusal),
            Verdict::Deliver => {
                shared.deliver(&self.claim, upload, self.plan.created, length_was_known, whole).await
            }
            Verdict::Remove(refusal) => {
                shared.remove(&self.claim).await?;
                Err(refusal)
            }
        }
    }

    /// Moves content into the store until it ends, in whatever way.
    //= IETF-COD-01
    async fn store_content<B: Content>(&mut self, shared: &Shared, mut body: B) -> Stop {
        let mut room = self.plan.room.bytes;
        loop {
            // Content that is all here is not overtaken by anything: its sender deserves an answer.
            if body.is_end_stream() {
                return Stop::Ended(End::Whole);
            }
            let frame = tokio::select! {
                biased;
                () = self.claim.stopped() => return Stop::Ended(End::Cut(Interrupted::Superseded)),
                () = shared.draining.cancelled() => return Stop::Ended(End::Cut(Interrupted::Draining)),
                () = Progress::due(self.progress.as_ref().filter(|_| !self.check.is_pending())) => {
                    if let Some(progress) = &mut self.progress {
                        progress.tell(1, &mut *self.writer);
                    }
                    continue;
                }
                frame = body.frame() => frame.map(|frame| frame.map_err(Into::into)),
            };
            let mut data = match frame {
                None => return Stop::Ended(End::Whole),
                Some(Err(failure)) => return Stop::Ended(End::Cut(cause(&failure))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.has_remaining() => data,
                    Ok(_) => continue,
                    Err(frame) => {
                        if let Some(trailers) = frame.trailers_ref() {
                            self.check.trailers(trailers);
                        }
                        continue;
                    }
                },
            };
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
            let is_beyond = fits < data.len();
            let accepted = data.split_to(fits);
            let bytes = accepted.len() as u64;
            room -= bytes;
            self.check.update(&accepted);
            // Not under the `select!`: only the disk can make this wait, never a peer.
            if !accepted.is_empty()
                && let Err(failure) = self.writer.write(accepted).await
            {
                return match failure {
                    Error::Full => Stop::Ended(End::Full),
                    other => Stop::Failed(other),
                };
            }
            if is_beyond {
                return Stop::Ended(End::Beyond);
            }
            if let Some(progress) = &mut self.progress
                && !self.check.is_pending()
            {
                progress.accepted(bytes, &mut *self.writer);
            }
        }
    }
}

/// What a failed body says of its peer. Under a foreign server all that is known is that the content ended early.
fn cause(failure: &BoxError) -> Interrupted {
    match failure.downcast_ref::<BodyError>() {
        Some(BodyError::Idle | BodyError::TooSlow) => Interrupted::TooSlow,
        Some(BodyError::Malformed(_)) => Interrupted::Malformed,
        Some(_) | None => Interrupted::Cut,
    }
}
