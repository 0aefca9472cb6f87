//! Uploads whose content has arrived in full with the request that creates them.
//!
//! Owns the choice of such uploads, and their creation in one step of the store. All other content goes through the
//! [`intake`](crate::intake).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoist_proto::engine::{self, End, Ending, Plan, Verdict};
use hoist_proto::operation::Reply;
use hoist_proto::refusal::{Reason, Refusal};
use hoist_proto::types::{Length, Offset};
use hoist_proto::upload::{Composition, EventKind, Phase, TargetResponse, Upload};
use http::header::EXPECT;
use http_body::{Body, Frame, SizeHint};

use crate::claim::Claim;
use crate::hook::Point;
use crate::intake::Content;
use crate::observe::{ActiveTransfer, Event, TransferEnding};
use crate::shared::Shared;
use crate::stopwatch::Stopwatch;
use crate::transition::{Stage, Transition};
use crate::transport_handles::TransportHandles;
use crate::{BoxError, admission, digest, error};

/// The most content that is held until it is known to be whole.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// Content that has arrived in full, and the answer to it.
pub(crate) struct Whole {
    content: Vec<Bytes>,
    length: Length,
    answer: TargetResponse,
}

/// A body, after the frames of it that were read in advance.
pub(crate) struct Resumed<B> {
    frames: VecDeque<Result<Frame<Bytes>, BoxError>>,
    /// `None` for no content.
    rest: Option<B>,
}

impl<B> Resumed<B> {
    /// Returns a body without content.
    pub(crate) fn empty() -> Self {
        Self { frames: VecDeque::new(), rest: None }
    }
}

impl<B> From<B> for Resumed<B> {
    fn from(body: B) -> Self {
        Self { frames: VecDeque::new(), rest: Some(body) }
    }
}

impl Shared {
    /// Takes the content of a creation if it has arrived in full and completes the upload, and if neither the target nor a
    /// digest needs a look at it. Otherwise returns the body. Does not wait for the peer.
    pub(crate) async fn take_whole<B: Content>(
        &self,
        upload: &Upload,
        plan: &Plan,
        transport: &mut TransportHandles,
        body: B,
    ) -> Result<Whole, Resumed<B>> {
        let mut body = Resumed::from(body);
        let Some((length, answer)) = self.completes(upload, plan, transport, &body) else { return Err(body) };
        // The frames in hand come first.
        transport.spliced = None;
        let mut content = Vec::new();
        while let Some(rest) = body.rest.as_mut().filter(|rest| !rest.is_end_stream()) {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *rest).poll_frame(cx))).await;
            let Poll::Ready(Some(frame)) = polled else { return Err(body) };
            let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
            body.frames.push_back(frame.map_err(Into::into));
            let Some(data) = data else { return Err(body) };
            content.push(data);
        }
        let bytes = content.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if bytes == length.get() { Ok(Whole { content, length, answer }) } else { Err(body) }
    }

    /// Returns the length of the content and the answer to it, if the content alone completes the upload.
    fn completes<B: Content>(
        &self,
        upload: &Upload,
        plan: &Plan,
        transport: &TransportHandles,
        body: &Resumed<B>,
    ) -> Option<(Length, TargetResponse)> {
        let (length, answer) = (Length::new(body.size_hint().exact()?), self.target.constant_answer()?);
        let is_eligible = (plan.bytes_min..=plan.room.bytes.min(WHOLE_BYTES_MAX)).contains(&length.get())
            && upload.composition == Composition::Direct
            && !self.asks_before_finish(upload)
            && engine::is_completed_by(upload, plan, length)
            && !transport.fields.contains_key(EXPECT);
        if !is_eligible {
            return None;
        }
        let whole = self.digests.begin(upload);
        let check = digest::Check::of(transport.dialect, &transport.fields, plan.at, whole);
        (!check.is_hashed()).then_some((length, answer))
    }

    /// Creates an upload with its whole content and its answer.
    pub(crate) async fn create_whole(
        &self,
        claim: &Claim,
        mut upload: Upload,
        plan: &Plan,
        whole: Whole,
        mut reservation: admission::Reservation,
        transport: Box<TransportHandles>,
    ) -> Result<Reply, Refusal> {
        let Whole { content, length, answer } = whole;
        let (policy, now) = (&self.policy, self.clock.now());
        self.tell(claim, &mut upload, EventKind::Created);
        let received = Upload { length: Some(length), phase: Phase::Received, ..upload.clone() };
        let (mut record, _) = engine::deliver(received, answer.clone(), true, policy, now);
        if let Some((outbox, kind)) = self.outbox.as_ref().zip(Stage::of(&record).event()) {
            outbox.tell(&mut record, kind, Offset::new(length.get()), now, &claim.scope.facts);
        }
        let mut transfer =
            ActiveTransfer::begin(&self.observers, transport.transport, length > Length::new(0));
        let began = Stopwatch::start();
        let created = self.store.create_whole(&record, content, claim.fence()).await;
        let stored = created.map_err(error::during("create", upload.id))?;
        self.observers.tell(&Event::Synced(began.elapsed()));
        transfer.stored(length.get());
        transfer.ending = TransferEnding::Complete;
        drop(transfer);
        reservation.stored();
        if let Some(outbox) = &self.outbox {
            outbox.created_whole(Upload { offset: stored, ..record });
        }
        let request = &claim.scope.facts;
        self.follow(&Transition {
            upload: &upload,
            from: None,
            to: Stage::Open,
            keeps_content: true,
            request,
        });
        if let (Some(interim), Some(announcement)) = (transport.interim, transport.announcement) {
            // A peer that cannot be reached is gone.
            if interim.send(announcement).is_ok() {
                self.observers.tell(&Event::InterimSent);
            }
        }
        let ending = Ending { stored, how: End::AllReceived };
        let (upload, Verdict::Deliver { refusal: None }) = engine::settle(upload, plan, &ending, now) else {
            return Err(Reason::Internal.into());
        };
        reservation.settle(&upload);
        if length > Length::new(0) {
            self.notify(Point::PostReceive, &upload, length.get(), request);
        }
        let from = Some(Stage::of(&upload));
        let (upload, reply) = engine::deliver(upload, answer, true, policy, now);
        let to = Stage::of(&upload);
        self.follow(&Transition { upload: &upload, from, to, keeps_content: true, request });
        Ok(reply)
    }
}

impl<B: Content> Body for Resumed<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.frames.pop_front() {
            if self.frames.is_empty() {
                self.frames = VecDeque::new();
            }
            return Poll::Ready(Some(frame));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        Pin::new(rest).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.as_ref().is_none_or(B::is_end_stream)
    }

    /// Returns the size of the content that is not read in advance.
    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}
