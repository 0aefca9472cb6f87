//! The observer that writes events to the log, each as one line with the same fields.
//!
//! Owns the messages, the fields and the levels of these lines. They are documented in `docs/logs.md`, and filters of
//! operators rely on them.

use hoist_proto::refusal::{InterruptCause, Reason, Refusal};
use hoist_proto::types::{Length, Principal};
use hoist_proto::upload::{Composition, Family, Upload};
use tracing::field::display;

use super::{Event, Observer, Outcome, REQUESTS, RequestEvent, UPLOADS, UploadEvent};

/// Writes events with `tracing`. The default observer.
///
/// The client's address of an event about an upload is in the span of the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log {
    /// True if every request is logged at level `info`, and not only those that are refused. Otherwise the level is `debug`.
    pub requests: bool,
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Created(UploadEvent { upload, .. }) => {
                let (upload, dialect) = (display(upload.id.short()), upload.family.name());
                tracing::debug!(upload, dialect, "upload created");
            }
            Event::Received(UploadEvent { upload, .. }) => {
                let (upload, offset) = (display(upload.id.short()), upload.offset.offset().get());
                tracing::debug!(upload, offset, "upload received");
            }
            Event::Ended(event, outcome) => ended(event, *outcome),
            Event::Removed(event, outcome) => removed(event, *outcome),
            Event::Interrupted(event, cause) => interrupted(event, *cause),
            Event::Refused(request, refusal) => refused(request, refusal),
            Event::Answered(request) => answered(request, self.requests),
            // Numbers for metrics.
            Event::TransferBegan(_)
            | Event::TransferEnded(..)
            | Event::Stored(_)
            | Event::Resumed(_)
            | Event::TookOver(_)
            | Event::Synced(_)
            | Event::Targeted(..)
            | Event::Replayed
            | Event::InterimSent
            | Event::Arrived(_)
            | Event::Interop(_)
            | Event::HookCalled(_)
            // Failures are logged where they are handled.
            | Event::Delivery(_) => {}
        }
    }
}

/// Writes the line of an upload that has ended. The parts of a composed upload are left to `debug`: the line of the whole
/// stands for them.
fn ended(event: &UploadEvent<'_>, outcome: Outcome) {
    let name = event.name();
    let UploadEvent { upload: Upload { id, family, offset, length, owner, resumes, .. }, age, .. } = event;
    macro_rules! line {
        ($target:expr, $level:ident) => {
            tracing::$level!(
                target: $target,
                outcome = outcome.name(),
                upload = display(id.short()),
                dialect = family.name(),
                offset = offset.offset().get(),
                length = length.map(Length::get),
                name = name.as_deref(),
                principal = owner.as_ref().map(Principal::name),
                duration_ms = millis(*age),
                resumes,
                "upload ended"
            )
        };
    }
    match (&event.upload.composition, outcome) {
        (Composition::Part, _) => line!(UPLOADS, debug),
        (_, Outcome::Failed) => line!(UPLOADS, warn),
        // A peer can cause any number of them at little cost.
        (_, Outcome::Discarded) => line!(module_path!(), info),
        _ => line!(UPLOADS, info),
    }
}

fn removed(event: &UploadEvent<'_>, outcome: Outcome) {
    let UploadEvent { upload: Upload { id, owner, .. }, .. } = event;
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                reason = outcome.name(),
                upload = display(id.short()),
                principal = owner.as_ref().map(Principal::name),
                "complete upload removed"
            )
        };
    }
    if outcome == Outcome::Cancelled { line!(info) } else { line!(debug) }
}

fn interrupted(event: &UploadEvent<'_>, cause: InterruptCause) {
    let UploadEvent { upload: Upload { id, family, offset, length, owner, .. }, .. } = event;
    tracing::info!(
        reason = cause.name(),
        upload = display(id.short()),
        dialect = family.name(),
        offset = offset.offset().get(),
        length = length.map(Length::get),
        principal = owner.as_ref().map(Principal::name),
        "transfer interrupted"
    );
}

/// Writes the line of a refused request. The client and the status come first: a filter finds them before any text that a
/// peer chooses. A method that the URL does not have is left to `debug`: clients ask in this way what a URL is.
fn refused(request: &RequestEvent, refusal: &Refusal) {
    // The interrupted transfer has a line of its own.
    if matches!(refusal.reason, Reason::Interrupted(_)) {
        return;
    }
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                client = request.client.map(display),
                status = request.status.map(|status| status.as_u16()),
                reason = refusal.reason.name(),
                method = request.method.as_str(),
                path = request.path,
                dialect = request.dialect.map(Family::name),
                detail = detail(refusal),
                "request refused"
            )
        };
    }
    if matches!(refusal.reason, Reason::MethodNotAllowed { .. }) { line!(debug) } else { line!(info) }
}

/// Returns the detail for the operator. Unlike the peer, the operator learns that credentials were wrong and not missing.
fn detail(refusal: &Refusal) -> String {
    match refusal.reason {
        Reason::Unauthorized { challenge } if challenge.contains("invalid_token") => {
            "the bearer token is not valid".to_owned()
        }
        _ => refusal.detail(),
    }
}

fn answered(request: &RequestEvent, is_asked_for: bool) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: REQUESTS,
                client = request.client.map(display),
                status = request.status.map(|status| status.as_u16()),
                method = request.method.as_str(),
                path = request.path,
                dialect = request.dialect.map(Family::name),
                bytes_received = request.bytes_received,
                bytes_sent = request.bytes_sent,
                duration_ms = millis(request.duration),
                "request"
            )
        };
    }
    if is_asked_for { line!(info) } else { line!(debug) }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
