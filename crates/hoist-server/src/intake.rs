//! Receives the content of one request, from the body to the store, and settles what it leaves.
//!
//! An intake belongs to the server and not to the connection: when the peer vanishes it still stores, syncs and settles
//! what arrived. The only `select!`s on the request path are here.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use hoist_http::{Abort, BodyError};
use hoist_proto::digest::REPR_DIGEST;
use hoist_proto::engine::{self, End, Ending, Plan, UploadRequest, Verdict};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Interrupted, Refusal};
use hoist_proto::upload::{Interruption, Upload};
use hoist_store::store::{Error, Writer};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep};

use crate::admission::Reservation;
use crate::claim::Claim;
use crate::progress::Progress;
use crate::shared::Shared;
use crate::unverified::UnverifiedContent;
use crate::{BoxError, error};

/// What content can be received from: the body of any server's requests.
pub trait Content: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> Content for B {}

/// One request's content on its way to the store.
pub(crate) struct Intake {
    // Before the claim: what a dropped reservation gives back is this request's alone.
    pub(crate) reservation: Reservation,
    pub(crate) claim: Claim,
    pub(crate) upload: Upload,
    pub(crate) plan: Plan,
    pub(crate) writer: Box<dyn Writer>,
    /// Ends the connection or the stream the content comes from. Absent under a server that offers no such thing.
    pub(crate) abort: Option<Abort>,
    /// Tells the peer how much is stored, where it can be told.
    pub(crate) progress: Option<Progress>,
    /// What the content should hash to, and content that waits for that to be known.
    pub(crate) checked: UnverifiedContent,
}

/// Bounds on what is stored of content that has arrived when its transfer has to end: about what a kernel holds for one
/// connection, and a time that the request behind it can spare.
const LAST_BYTES_MAX: u64 = 8 << 20;
const LAST_TIME_MAX: Duration = Duration::from_millis(250);

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
    //= TUS1-CWU-04
    pub(crate) async fn receive<B: Content>(mut self, shared: &Shared, body: B) -> Result<Reply, Refusal> {
        self.claim.transfers(&self.upload);
        let mut accepted_bytes = 0;
        let mut stop = self.store_content(shared, body, &mut accepted_bytes).await;
        // Before anything slow: a peer that was overtaken must not wait for a disk to learn of it.
        if let Stop::Ended(End::Interrupted(Interrupted::Superseded)) = stop
            && let Some(abort) = &self.abort
        {
            abort.abort();
        }
        let id = self.claim.id();
        let is_whole = matches!(stop, Stop::Ended(End::AllReceived));
        let wrong = match self.checked.judge(is_whole, &self.upload, &mut *self.writer, &*shared.store).await
        {
            Ok(wrong) => wrong,
            Err(Error::Full) => {
                stop = Stop::Ended(End::StorageFull);
                None
            }
            Err(failure) => return Err(error::refusal("check", id, &failure)),
        };
        //= TUS1-PATCH-09
        //= TOK-CRE-01, TOK-APP-05, IETF-CRE-12, IETF-APP-09, IETF-CON-06, IETF-DIG-10, IETF-OFF-03
        let stored = self.writer.sync().await.map_err(|failure| error::refusal("sync", id, &failure))?;
        drop(self.writer);
        if let Some(refusal) = wrong {
            //= TUS1-CWU-05
            let is_unknown = self.plan.created && self.checked.is_strict();
            match self.upload.semantics.interruption {
                Interruption::Resumes if !is_unknown => self.reservation.settle(&self.upload),
                // Nobody could ever send the right content to it.
                Interruption::Resumes | Interruption::Discards => shared.remove(&self.claim).await?,
            }
            return Err(refusal);
        }
        let how = match stop {
            // A store takes bytes before they are stored, so that the last of them found no room is known only now.
            Stop::Ended(End::AllReceived)
                if self.plan.at.advance(accepted_bytes) != Some(stored.offset()) =>
            {
                End::StorageFull
            }
            Stop::Ended(how) => how,
            Stop::Failed(failure) => return Err(error::refusal("write", id, &failure)),
        };
        let behind = self.checked.trailer_repr_digest();
        if self.plan.created && how == End::AllReceived && !behind.is_empty() {
            for value in behind {
                self.upload.origin.fields.append(REPR_DIGEST, value);
            }
            let committed = shared.store.commit(&self.upload, self.claim.fence()).await;
            committed.map_err(|failure| error::refusal("commit", id, &failure))?;
        }
        let length_was_known = self.upload.length.is_some();
        let (upload, verdict) =
            engine::settle(self.upload, &self.plan, &Ending { stored, how }, shared.clock.now());
        tracing::debug!(upload = %upload.id.short(), offset = %upload.offset, ended = ?how, "content ended");
        self.reservation.settle(&upload);
        let whole = self.checked.whole();
        if !matches!(verdict, Verdict::Deliver { .. }) {
            shared.digests.keep(&upload, whole.clone());
        }
        match verdict {
            Verdict::Acknowledge(reply) => {
                Ok(shared.end_early(&self.claim, upload, self.plan.created).await?.unwrap_or(reply))
            }
            Verdict::Refuse(refusal) => Err(refusal),
            Verdict::Deliver { refusal } => {
                let delivered =
                    shared.deliver(&self.claim, upload, self.plan.created, length_was_known, whole).await;
                match refusal {
                    Some(refusal) if delivered.is_ok() => Err(refusal),
                    _ => delivered,
                }
            }
            Verdict::Remove(refusal) => {
                shared.remove(&self.claim).await?;
                Err(refusal)
            }
        }
    }

    /// Moves content into the store until it ends, in whatever way.
    //= IETF-COD-01, TUS1-CWU-04
    async fn store_content<B: Content>(
        &mut self,
        shared: &Shared,
        mut body: B,
        accepted_bytes: &mut u64,
    ) -> Stop {
        let mut room = self.plan.room.bytes;
        let mut last_call = None;
        loop {
            let frame = match self.next(shared, &mut body, &mut last_call).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Stop::Ended(End::AllReceived),
                Err(why) => return Stop::Ended(End::Interrupted(why)),
            };
            let mut data = match frame.into_data() {
                Ok(data) if data.has_remaining() => data,
                Ok(_) => continue,
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.checked.trailers(trailers);
                    }
                    continue;
                }
            };
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
            let is_beyond = fits < data.len();
            let granted = self.granted(*accepted_bytes, fits);
            let accepted = data.split_to(granted);
            let bytes = accepted.len() as u64;
            room -= bytes;
            // Not under the `select!`: only the disk can make this wait, never a peer.
            if !accepted.is_empty()
                && let Err(failure) = self.checked.write(accepted, &mut *self.writer).await
            {
                return match failure {
                    Error::Full => Stop::Ended(End::StorageFull),
                    other => Stop::Failed(other),
                };
            }
            *accepted_bytes += bytes;
            if granted < fits {
                return Stop::Ended(End::StorageFull);
            }
            if is_beyond {
                return Stop::Ended(End::OverLimit);
            }
            if let Some(progress) = &mut self.progress
                && !self.checked.is_pending()
            {
                progress.accepted(bytes, &mut *self.writer, &self.claim);
            }
        }
    }
    /// The next frame of the content, `None` at its end, or why there will be no more of it.
    ///
    /// A transfer that has to end still takes what has arrived of its content: the peer may have been told by its own
    /// system that these bytes were delivered, and asks for the offset next.
    //= TOK-CRE-01, TOK-APP-05, IETF-CON-06
    async fn next<B: Content>(
        &mut self,
        shared: &Shared,
        body: &mut B,
        last_call: &mut Option<LastCall>,
    ) -> Result<Option<Frame<Bytes>>, Interrupted> {
        loop {
            // Content that is all here is not overtaken by anything: its sender deserves an answer.
            if body.is_end_stream() {
                return Ok(None);
            }
            if let Some(last_call) = last_call {
                return last_call.next(body).await;
            }
            let why = tokio::select! {
                biased;
                () = self.claim.stopped() => Interrupted::Superseded,
                () = shared.draining.cancelled() => Interrupted::Draining,
                () = Progress::due(self.progress.as_ref().filter(|_| !self.checked.is_pending())) => {
                    if let Some(progress) = &mut self.progress {
                        progress.tell(1, &mut *self.writer, &self.claim);
                    }
                    continue;
                }
                frame = body.frame() => {
                    return frame.transpose().map_err(|failure| cause(&failure.into()));
                }
            };
            *last_call = Some(LastCall::new(why, self.abort.as_ref()));
        }
    }
}

/// The end of an interrupted transfer. It accepts the content that has arrived and does not wait for the peer.
struct LastCall {
    why: Interrupted,
    end: Pin<Box<Sleep>>,
    bytes_left: u64,
    /// True if the transport ends the body itself after the bytes that have arrived.
    ends_itself: bool,
}

impl LastCall {
    fn new(why: Interrupted, abort: Option<&Abort>) -> Self {
        if let Some(abort) = abort {
            abort.end_content();
        }
        let end = Box::pin(sleep(LAST_TIME_MAX));
        Self { why, end, bytes_left: LAST_BYTES_MAX, ends_itself: abort.is_some() }
    }

    async fn next<B: Content>(&mut self, body: &mut B) -> Result<Option<Frame<Bytes>>, Interrupted> {
        // The runtime makes tasks wait that have worked for long. That must not look like a peer that has sent nothing.
        let frame = poll_fn(|cx| {
            if self.bytes_left == 0 || self.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending if self.ends_itself => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        });
        let Some(frame) = unconstrained(frame).await else { return Err(self.why) };
        let frame = frame.transpose().map_err(|failure| match failure.into() {
            failure if matches!(failure.downcast_ref(), Some(BodyError::Malformed(_))) => {
                Interrupted::Malformed
            }
            _ => self.why,
        })?;
        let bytes = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        Ok(frame)
    }
}

impl Intake {
    /// Reserves quota for the next `bytes` and returns the number granted.
    fn granted(&mut self, accepted_bytes: u64, bytes: usize) -> usize {
        let at = self.plan.at.advance(accepted_bytes);
        let end = at.and_then(|at| at.advance(bytes as u64));
        let (Some(at), Some(end)) = (at, end) else { return bytes };
        let granted = self.reservation.extend(end).bytes_since(at).unwrap_or(0);
        usize::try_from(granted).unwrap_or(bytes)
    }
}

/// Checks whether an append of unknown size to a complete upload is empty, and if so sets its size to zero. A client
/// may ask for a lost answer with an empty body in the chunked coding instead of `Content-Length: 0`.
//= IETF-APP-14
pub(crate) async fn know_size<B: Content>(
    claim: &Claim,
    shared: &Shared,
    request: &mut UploadRequest,
    known: Option<&Upload>,
    body: &mut B,
) -> Result<(), Refusal> {
    if let (Operation::Append(append), Some(known)) = (&mut request.operation, known)
        && append.content.bytes.is_none()
        && known.is_complete()
    {
        claim.transfers(known);
        if is_empty(claim, shared, body).await? {
            append.content.bytes = Some(0);
        }
    }
    Ok(())
}

async fn is_empty<B: Content>(claim: &Claim, shared: &Shared, body: &mut B) -> Result<bool, Refusal> {
    loop {
        let frame = tokio::select! {
            biased;
            () = claim.stopped() => return Ok(false),
            () = shared.draining.cancelled() => return Err(Refusal::Unavailable(Duration::from_secs(1))),
            frame = body.frame() => frame,
        };
        match frame {
            None => return Ok(true),
            Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
            Some(Ok(_) | Err(_)) => return Ok(false),
        }
    }
}

/// What a failed body says of its peer. Under a foreign server all that is known is that the content ended early.
//= TUS1-PATCH-10
fn cause(failure: &BoxError) -> Interrupted {
    match failure.downcast_ref::<BodyError>() {
        Some(BodyError::Idle | BodyError::TooSlow) => Interrupted::TooSlow,
        Some(BodyError::Malformed(_)) => Interrupted::Malformed,
        Some(_) | None => Interrupted::Cut,
    }
}
