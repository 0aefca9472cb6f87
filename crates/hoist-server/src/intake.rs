//! Receives the content of one request, from the body to the store, and settles what it leaves.
//!
//! An intake runs in a task of the server and not of the connection: if the peer disconnects, the content that has arrived
//! is still stored, synced and settled. The only `select!`s on the request path are here.

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hoist_http::{Abort, BodyError};
use hoist_proto::digest::REPR_DIGEST;
use hoist_proto::engine::{self, End, Ending, Plan, UploadRequest, Verdict};
use hoist_proto::operation::{Operation, Reply};
use hoist_proto::refusal::{Declined, InterruptCause, Reason, Refusal};
use hoist_proto::upload::{Interruption, Upload};
use hoist_store::store::{Error, Writer};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};

use crate::claim::Claim;
use crate::finish::Received;
use crate::gauge::Gauge;
use crate::hook_progress::HookProgress;
use crate::meter::Spliced;
use crate::observe::{ActiveTransfer, Event, TransferEnding, UploadEvent};
use crate::pause::Pause;
use crate::progress::Progress;
use crate::shared::Shared;
use crate::stopwatch::Stopwatch;
use crate::transition::Removal;
use crate::{BoxError, admission, error, unverified};

/// The body of a request, of any server.
pub trait Content: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static> Content for B {}

pub(crate) struct Intake {
    // Before the claim: a dropped reservation must be released while no other request can reserve.
    pub(crate) reservation: admission::Reservation,
    pub(crate) claim: Claim,
    pub(crate) upload: Upload,
    pub(crate) plan: Plan,
    pub(crate) writer: Box<dyn Writer>,
    /// Ends the connection or stream of the request. Absent under a server that does not offer it.
    pub(crate) abort: Option<Abort>,
    /// Reports the durable offset to the peer, if it supports interim responses.
    pub(crate) progress: Option<Progress>,
    /// Reports the transfer to hooks that want to know.
    pub(crate) hook_progress: Option<HookProgress>,
    pub(crate) pause: Pause,
    pub(crate) content: unverified::UnverifiedContent,
    /// Shows the transfer to the operator.
    pub(crate) gauge: Arc<Gauge>,
    /// The way past the process, for content that is not looked at.
    pub(crate) spliced: Option<Spliced>,
    pub(crate) transfer: ActiveTransfer,
}

/// Content that has arrived.
enum Arrived {
    Frame(Frame<Bytes>),
    /// The store has accepted this many bytes.
    Stored(NonZeroUsize),
}

/// The most that is stored of content which has already arrived when its transfer has to end: about what a kernel buffers
/// for one connection, and a delay that the waiting request can afford.
const LAST_BYTES_MAX: u64 = 8 << 20;
const LAST_TIME_MAX: Duration = Duration::from_millis(250);

/// The bytes after which a transfer that never waits lets others run.
const TURN_BYTES: u64 = 4 << 20;

/// The most bytes that go past the process at once.
const SPLICED_BYTES_MAX: usize = 1 << 20;

impl Intake {
    /// Receives the content, settles the upload, and delivers it if it is complete. Releases the claim in any case, also
    /// if the peer has disconnected.
    ///
    /// # Cancellation
    /// Must run in a task of the server. If dropped, the store keeps the content that it has accepted.
    //= TUS1-CWU-04
    pub(crate) async fn receive<B: Content>(
        mut self: Box<Self>,
        shared: &Shared,
        body: B,
    ) -> Result<Reply, Refusal> {
        self.claim.begin_transfer(&self.upload, Arc::clone(&self.gauge));
        let mut accepted_bytes = 0;
        let mut stop = self.store_content(shared, body, &mut accepted_bytes).await;
        if let Some(progress) = &mut self.hook_progress {
            progress.tell(shared, &self.claim, &self.upload);
        }
        // Before anything slow: a superseded peer must not wait for a disk to learn of it.
        if let Ok(End::Interrupted(InterruptCause::Superseded)) = stop
            && let Some(abort) = &self.abort
        {
            abort.abort();
        }
        let id = self.claim.id();
        let is_whole = matches!(stop, Ok(End::AllReceived));
        let verified = self.content.verify(is_whole, &self.upload, &mut *self.writer, &*shared.store).await;
        self.transfer.stored(self.content.take_written());
        let mismatch = match verified {
            Ok(mismatch) => mismatch,
            Err(Error::Full) => {
                stop = Ok(End::StorageFull);
                None
            }
            Err(failure) => return Err(error::refusal("check", id, &failure)),
        };
        //= TUS1-PATCH-09
        //= TOK-CRE-01, TOK-APP-05, IETF-CRE-12, IETF-APP-09, IETF-CON-06, IETF-DIG-10, IETF-OFF-03
        let began = Stopwatch::start();
        let stored = self.writer.sync().await.map_err(error::during("sync", id))?;
        shared.observers.tell(&Event::Synced(began.elapsed()));
        if let Some(refusal) = mismatch {
            return Box::pin(self.refuse_content(shared, refusal)).await;
        }
        let how = match stop {
            // A store accepts bytes before they are stored, so a lack of space for the last of them shows only now.
            Ok(End::AllReceived) if self.plan.at.advance(accepted_bytes) != Some(stored.offset()) => {
                End::StorageFull
            }
            stop => stop.map_err(error::during("write", id))?,
        };
        match how {
            End::AllReceived => self.transfer.ending = TransferEnding::Complete,
            // `store_content` knows more about slow peers than the cause says. The others are refused, as it began.
            End::Interrupted(InterruptCause::TooSlow) | End::OverLimit | End::StorageFull => {}
            End::Interrupted(cause) => self.transfer.ending = cause.into(),
        }
        // On the heap, like all that is not needed while the peer sends.
        Box::pin(self.settle(shared, Ending { stored, how })).await
    }

    /// Refuses content that does not match its digest and has been taken back.
    async fn refuse_content(self: Box<Self>, shared: &Shared, refusal: Refusal) -> Result<Reply, Refusal> {
        let Self { reservation, claim, upload, plan, writer, content, .. } = *self;
        drop(writer);
        //= TUS1-CWU-05
        let is_unknown = plan.created && content.is_strict;
        match upload.semantics.interruption {
            Interruption::Resumes if !is_unknown => reservation.settle(&upload),
            // No client can resume it.
            Interruption::Resumes | Interruption::Discards => {
                shared.remove(&claim, &upload, Removal::Discarded).await?;
            }
        }
        Err(refusal)
    }

    async fn settle(self: Box<Self>, shared: &Shared, ending: Ending) -> Result<Reply, Refusal> {
        let Self {
            reservation, claim, mut upload, plan, writer, mut content, transfer, hook_progress, ..
        } = *self;
        drop(writer);
        drop(transfer);
        let created = plan.created;
        let trailing = content.check.trailer_repr_digest();
        if created && ending.how == End::AllReceived && !trailing.is_empty() {
            for value in trailing {
                upload.origin.fields.append(REPR_DIGEST, value);
            }
            let committed = shared.store.commit(&upload, claim.fence()).await;
            committed.map_err(error::during("commit", upload.id))?;
        }
        let length_is_stored = upload.length.is_some();
        let (upload, verdict) = engine::settle(upload, &plan, &ending, shared.clock.now());
        match ending.how {
            End::Interrupted(cause) => {
                let event = UploadEvent::new(&upload, shared.clock.now(), &shared.endpoint);
                shared.observers.tell(&Event::Interrupted(event, cause));
            }
            End::AllReceived | End::OverLimit | End::StorageFull => shared.orderly_ends.note(upload.id),
        }
        reservation.settle(&upload);
        let hashes = content.check.whole;
        if !matches!(verdict, Verdict::Deliver { .. }) {
            shared.digests.keep(&upload, hashes.clone());
        }
        match verdict {
            Verdict::Acknowledge(reply) => {
                Ok(shared.end_early(&claim, upload, created).await?.unwrap_or(reply))
            }
            Verdict::Refuse(refusal) | Verdict::Remove(refusal)
                if refusal.reason == Reason::Interrupted(InterruptCause::Stopped) =>
            {
                shared.remove(&claim, &upload, Removal::Cancelled).await?;
                let amendment =
                    hook_progress.map(|progress| Box::new(progress.amendment())).unwrap_or_default();
                Err(Reason::Declined { what: Declined::Content, amendment }.into())
            }
            Verdict::Refuse(refusal) => Err(refusal),
            Verdict::Deliver { refusal } => {
                let end_is_stored = false;
                let received = Received { upload, created, length_is_stored, end_is_stored, hashes };
                let delivered = shared.deliver(&claim, received).await;
                match refusal {
                    Some(refusal) if delivered.is_ok() => Err(refusal),
                    _ => delivered.map(|finished| finished.reply),
                }
            }
            Verdict::Remove(refusal) => {
                shared.remove(&claim, &upload, Removal::Discarded).await?;
                Err(refusal)
            }
        }
    }

    /// Moves content into the store until it ends.
    //= IETF-COD-01, TUS1-CWU-04
    async fn store_content<B: Content>(
        &mut self,
        shared: &Shared,
        mut body: B,
        accepted_bytes: &mut u64,
    ) -> Result<End, Error> {
        let mut room = self.plan.room.bytes;
        let mut grace = None;
        let mut turn_bytes = 0;
        loop {
            if turn_bytes >= TURN_BYTES {
                turn_bytes = 0;
                yield_now().await;
            }
            let room_now = self.room_past_the_process(room, *accepted_bytes);
            let frame = match self.next(shared, &mut body, &mut grace, room_now).await {
                Ok(Some(Arrived::Frame(frame))) => frame,
                Ok(Some(Arrived::Stored(bytes))) => {
                    let bytes = bytes.get() as u64;
                    room -= bytes;
                    turn_bytes += bytes;
                    *accepted_bytes += bytes;
                    self.transfer.stored(bytes);
                    self.report_progress(shared, bytes);
                    continue;
                }
                Ok(None) => return Ok(End::AllReceived),
                Err(Stopped::Interrupted(cause)) => return Ok(End::Interrupted(cause)),
                Err(Stopped::TooSlow(ending)) => {
                    self.transfer.ending = ending;
                    return Ok(End::Interrupted(InterruptCause::TooSlow));
                }
                Err(Stopped::Failed(Error::Full)) => return Ok(End::StorageFull),
                Err(Stopped::Failed(failure)) => return Err(failure),
            };
            let mut data = match frame.into_data() {
                Ok(data) if data.has_remaining() => data,
                Ok(_) => continue,
                Err(frame) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        self.content.check.trailers(trailers);
                    }
                    continue;
                }
            };
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(data.len());
            let exceeds = fits < data.len();
            let granted = self.granted(*accepted_bytes, fits);
            let accepted = data.split_to(granted);
            let bytes = accepted.len() as u64;
            room -= bytes;
            // Outside the `select!`: this waits for the disk and never for a peer.
            if !accepted.is_empty() {
                let written = self.content.write(accepted, &mut *self.writer).await;
                self.transfer.stored(self.content.take_written());
                match written {
                    Ok(()) => {}
                    Err(Error::Full) => return Ok(End::StorageFull),
                    Err(failure) => return Err(failure),
                }
            }
            *accepted_bytes += bytes;
            turn_bytes += bytes;
            if granted < fits {
                return Ok(End::StorageFull);
            }
            if exceeds {
                return Ok(End::OverLimit);
            }
            self.report_progress(shared, bytes);
        }
    }

    fn report_progress(&mut self, shared: &Shared, bytes: u64) {
        self.pause.accepted(bytes);
        self.gauge.accepted(bytes);
        if let Some(progress) = &mut self.hook_progress {
            progress.received(bytes, shared, &self.claim, &self.upload);
        }
        if let Some(progress) = &mut self.progress
            && progress.accepted(bytes, &mut *self.writer, &self.claim)
        {
            shared.observers.tell(&Event::InterimSent);
        }
    }

    /// Returns the next content, or `None` at its end. At most `room` bytes go past the process.
    ///
    /// An interrupted transfer still yields the content that has arrived: the peer's system may have reported these bytes
    /// as delivered, and the peer asks for the offset next. The error is the reason why there will be no more content.
    //= TOK-CRE-01, TOK-APP-05, IETF-CON-06
    async fn next<B: Content>(
        &mut self,
        shared: &Shared,
        body: &mut B,
        grace: &mut Option<GracePeriod>,
        room: usize,
    ) -> Result<Option<Arrived>, Stopped> {
        loop {
            // Content that has arrived in full is not interrupted any more.
            if body.is_end_stream() {
                return Ok(None);
            }
            if let Some(grace) = grace {
                return Ok(grace.next(body).await?.map(Arrived::Frame));
            }
            let (writer, spliced) = (&mut *self.writer, self.spliced.as_ref());
            let arrived = poll_fn(|cx| poll_arrived(cx, body, writer, spliced, room));
            let interrupted = tokio::select! {
                biased;
                cause = self.claim.stopped() => cause,
                () = shared.draining.cancelled() => InterruptCause::ShuttingDown,
                // Without a grace: the content goes, too.
                () = HookProgress::stopped(self.hook_progress.as_ref()) => {
                    return Err(Stopped::Interrupted(InterruptCause::Stopped));
                }
                () = HookProgress::due(self.hook_progress.as_ref()) => {
                    if let Some(progress) = &mut self.hook_progress {
                        progress.tell(shared, &self.claim, &self.upload);
                    }
                    continue;
                }
                () = Progress::due(self.progress.as_ref()) => {
                    if let Some(progress) = &mut self.progress
                        && progress.report(1, &mut *self.writer, &self.claim)
                    {
                        shared.observers.tell(&Event::InterimSent);
                    }
                    continue;
                }
                arrived = arrived => return arrived,
                // Last, so that no timer is set while there is content.
                () = self.pause.due() => {
                    self.pause.start_sync(&mut *self.writer);
                    continue;
                }
            };
            *grace = Some(GracePeriod::new(interrupted, self.abort.as_ref()));
        }
    }
}

/// The reason why there will be no more content.
enum Stopped {
    Interrupted(InterruptCause),
    /// The peer is too slow; whether it sends nothing or little is told apart for observers only.
    TooSlow(TransferEnding),
    /// The store could not take bytes past the process.
    Failed(Error),
}

impl From<InterruptCause> for Stopped {
    fn from(cause: InterruptCause) -> Self {
        Self::Interrupted(cause)
    }
}

/// Returns the next content: bytes that went past the process, if they can, or else a frame.
fn poll_arrived<B: Content>(
    cx: &mut Context<'_>,
    body: &mut B,
    writer: &mut dyn Writer,
    spliced: Option<&Spliced>,
    room: usize,
) -> Poll<Result<Option<Arrived>, Stopped>> {
    if let Some(Spliced { splice, received }) = spliced.filter(|_| room > 0) {
        let mut source =
            |cx: &mut Context<'_>, pipe: BorrowedFd<'_>, bytes_max| splice.poll_splice(cx, pipe, bytes_max);
        let stored = ready!(writer.poll_splice(cx, room, &mut source)).map_err(Stopped::Failed)?;
        if let Some(bytes) = stored {
            received.fetch_add(bytes.get() as u64, Ordering::Relaxed);
            return Poll::Ready(Ok(Some(Arrived::Stored(bytes))));
        }
    }
    let frame = ready!(Pin::new(body).poll_frame(cx)).transpose();
    let frame = frame.map_err(|failure| {
        let failure = failure.into();
        match body_error(&failure) {
            Some(BodyError::Idle) => Stopped::TooSlow(TransferEnding::Idle),
            Some(BodyError::TooSlow) => Stopped::TooSlow(TransferEnding::Slow),
            Some(_) | None => Stopped::Interrupted(interruption(&failure)),
        }
    })?;
    Poll::Ready(Ok(frame.map(Arrived::Frame)))
}

/// The end of an interrupted transfer. It accepts the content that has arrived and does not wait for the peer.
struct GracePeriod {
    cause: InterruptCause,
    end: Pin<Box<Sleep>>,
    bytes_left: u64,
    /// True if the transport ends the body itself after the bytes that have arrived.
    ends_itself: bool,
}

impl GracePeriod {
    fn new(cause: InterruptCause, abort: Option<&Abort>) -> Self {
        if let Some(abort) = abort {
            abort.end_content();
        }
        let end = Box::pin(sleep(LAST_TIME_MAX));
        Self { cause, end, bytes_left: LAST_BYTES_MAX, ends_itself: abort.is_some() }
    }

    async fn next<B: Content>(&mut self, body: &mut B) -> Result<Option<Frame<Bytes>>, InterruptCause> {
        // Unconstrained: a task that exhausts its budget must not look like a peer that has sent nothing.
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
        let Some(frame) = unconstrained(frame).await else { return Err(self.cause) };
        let frame = frame.transpose().map_err(|failure| match interruption(&failure.into()) {
            InterruptCause::Malformed => InterruptCause::Malformed,
            _ => self.cause,
        })?;
        let bytes = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.bytes_left = self.bytes_left.saturating_sub(bytes as u64);
        Ok(frame)
    }
}

impl Intake {
    /// Returns how many of the next bytes may go past the process. Reserves quota for them.
    fn room_past_the_process(&mut self, room: u64, accepted_bytes: u64) -> usize {
        if self.spliced.is_none() {
            return 0;
        }
        let room = usize::try_from(room).unwrap_or(SPLICED_BYTES_MAX).min(SPLICED_BYTES_MAX);
        self.granted(accepted_bytes, room)
    }

    /// Reserves quota for the next `bytes` bytes, and returns how many are granted.
    fn granted(&mut self, accepted_bytes: u64, bytes: usize) -> usize {
        let at = self.plan.at.advance(accepted_bytes);
        let end = at.and_then(|at| at.advance(bytes as u64));
        let (Some(at), Some(end)) = (at, end) else { return bytes };
        let granted = self.reservation.extend(end).bytes_since(at).unwrap_or(0);
        usize::try_from(granted).unwrap_or(bytes)
    }
}

/// Treats an empty chunked body on a complete upload like `Content-Length: 0`, so that a replay may use either framing.
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
        claim.begin_transfer(known, Arc::default());
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
            _ = claim.stopped() => return Ok(false),
            () = shared.draining.cancelled() => return Err(Reason::Unavailable(Duration::from_secs(1)).into()),
            frame = body.frame() => frame,
        };
        match frame {
            None => return Ok(true),
            Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
            Some(Ok(_) | Err(_)) => return Ok(false),
        }
    }
}

/// Returns the reason why a body failed. Under another server than hoist-http all that is known is that it ended early.
//= TUS1-PATCH-10
fn interruption(failure: &BoxError) -> InterruptCause {
    match body_error(failure) {
        Some(BodyError::Idle | BodyError::TooSlow) => InterruptCause::TooSlow,
        Some(BodyError::Malformed(_)) => InterruptCause::Malformed,
        Some(_) | None => InterruptCause::Disconnected,
    }
}

/// Returns the error of hoist-http's body. Routers put bodies and their errors into types of their own.
fn body_error(failure: &BoxError) -> Option<&BodyError> {
    let first: &(dyn std::error::Error + 'static) = &**failure;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.find_map(|error| error.downcast_ref::<BodyError>())
}
