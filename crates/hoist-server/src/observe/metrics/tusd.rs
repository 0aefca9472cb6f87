//! The metrics of tusd, under its names, for dashboards and alerts that were written for it.
//!
//! They count what tusd counts, for requests in all dialects. Not all of their names are allowed in `OpenMetrics`, so they
//! are written in the text format of Prometheus alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hoist_proto::refusal::{Declined, InterruptCause, Reason};
use http::Method;

use super::counts;
use super::labels::{HookName, Label};
use crate::locked;
use crate::observe::{Event, Outcome};

/// The methods that tusd counts.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE, Method::OPTIONS];

#[derive(Debug, Default)]
pub(super) struct TusdCounts {
    requests: [AtomicU64; METHODS.len()],
    /// By status and code, both of closed sets. The lock is taken for refused requests only.
    errors: Mutex<BTreeMap<(u16, &'static str), u64>>,
    bytes_received: AtomicU64,
    created: AtomicU64,
    finished: AtomicU64,
    terminated: AtomicU64,
    hooks: [HookCounts; HookName::VALUES.len()],
}

#[derive(Debug, Default)]
struct HookCounts {
    invocations: AtomicU64,
    errors: AtomicU64,
}

impl TusdCounts {
    pub(super) fn observe(&self, event: &Event<'_>) {
        let counter = match event {
            Event::Arrived(method) => {
                METHODS.iter().position(|known| known == *method).map(|at| &self.requests[at])
            }
            Event::Stored(bytes) => {
                self.bytes_received.fetch_add(*bytes, Ordering::Relaxed);
                None
            }
            Event::Created(event) if counts(event.upload) => Some(&self.created),
            Event::Ended(event, Outcome::Complete | Outcome::Delivered) if counts(event.upload) => {
                Some(&self.finished)
            }
            Event::Ended(event, Outcome::Cancelled) | Event::Removed(event, Outcome::Cancelled)
                if counts(event.upload) =>
            {
                Some(&self.terminated)
            }
            Event::HookCalled(event) => {
                let hook = HookName::of(event.hook).map(|hook| &self.hooks[Label::index(hook)]);
                if let Some(HookCounts { errors, .. }) = hook.filter(|_| !event.is_success) {
                    errors.fetch_add(1, Ordering::Relaxed);
                }
                hook.map(|hook| &hook.invocations)
            }
            Event::Refused(request, refusal) => {
                let status = request.status.map_or(0, |status| status.as_u16());
                *locked(&self.errors).entry((status, code(&refusal.reason))).or_default() += 1;
                None
            }
            _ => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, written: &mut String, connections_open: usize) {
        let mut family = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
            let _ = write!(written, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (labels, value) in samples {
                let _ = writeln!(written, "{name}{labels} {value}");
            }
        };
        let number = |counter: &AtomicU64| vec![(String::new(), counter.load(Ordering::Relaxed))];
        let requests: Vec<_> = METHODS
            .iter()
            .zip(&self.requests)
            .map(|(method, count)| (format!("{{method=\"{method}\"}}"), count.load(Ordering::Relaxed)))
            .collect();
        family("tusd_requests_total", "counter", "Total number of requests served by tusd.", &requests);
        let errors: Vec<_> = locked(&self.errors)
            .iter()
            .map(|((status, code), count)| (format!("{{code=\"{code}\",status=\"{status}\"}}"), *count))
            .collect();
        family("tusd_errors_total", "counter", "Total number of errors per status.", &errors);
        family("tusd_bytes_received", "counter", "Number of bytes received.", &number(&self.bytes_received));
        family("tusd_uploads_created", "counter", "Number of created uploads.", &number(&self.created));
        family("tusd_uploads_finished", "counter", "Number of finished uploads.", &number(&self.finished));
        family(
            "tusd_uploads_terminated",
            "counter",
            "Number of terminated uploads.",
            &number(&self.terminated),
        );
        let open = [(String::new(), connections_open as u64)];
        family("tusd_connections_open", "gauge", "Current number of open connections.", &open);
        let hooks = |count: fn(&HookCounts) -> &AtomicU64| -> Vec<_> {
            let values = HookName::VALUES.iter().zip(&self.hooks);
            let sample = |(name, counts): (&HookName, &HookCounts)| {
                (format!("{{hooktype=\"{}\"}}", name.text()), count(counts).load(Ordering::Relaxed))
            };
            values.map(sample).collect()
        };
        let (invocations, errors) = (hooks(|hook| &hook.invocations), hooks(|hook| &hook.errors));
        let help = "Total number of invocations per hook type.";
        family("tusd_hook_invocations_total", "counter", help, &invocations);
        let help = "Total number of execution errors per hook type.";
        family("tusd_hook_errors_total", "counter", help, &errors);
    }
}

/// Returns tusd's code of an error, or one in its form for what tusd does not know.
fn code(reason: &Reason) -> &'static str {
    match reason {
        Reason::NotFound | Reason::Gone => "ERR_UPLOAD_NOT_FOUND",
        Reason::OffsetMismatch { .. } => "ERR_MISMATCHED_OFFSET",
        Reason::UnsupportedTusVersion => "ERR_UNSUPPORTED_VERSION",
        Reason::TooLarge { .. } => "ERR_MAX_SIZE_EXCEEDED",
        Reason::LengthExceeded(_) => "ERR_UPLOAD_SIZE_EXCEEDED",
        Reason::NotAppendMediaType { .. } | Reason::AppendToEndpoint => "ERR_INVALID_CONTENT_TYPE",
        Reason::InconsistentLength => "ERR_INVALID_UPLOAD_LENGTH",
        Reason::InvalidField { name, .. } => match *name {
            "Upload-Offset" => "ERR_INVALID_OFFSET",
            "Upload-Length" => "ERR_INVALID_UPLOAD_LENGTH",
            "Upload-Concat" => "ERR_INVALID_CONCAT",
            "Upload-Defer-Length" => "ERR_INVALID_UPLOAD_DEFER_LENGTH",
            _ => "ERR_INVALID_FIELD",
        },
        Reason::UnusablePart { .. } => "ERR_INVALID_CONCAT",
        Reason::AppendToComposed => "ERR_MODIFY_FINAL",
        Reason::Busy => "ERR_UPLOAD_LOCKED",
        Reason::Interrupted(cause) => match cause {
            InterruptCause::Disconnected | InterruptCause::Malformed => "ERR_CONNECTION_RESET",
            InterruptCause::Superseded => "ERR_UPLOAD_INTERRUPTED",
            InterruptCause::TooSlow => "ERR_READ_TIMEOUT",
            InterruptCause::ShuttingDown => "ERR_SERVER_SHUTDOWN",
            InterruptCause::ByOperator | InterruptCause::Stopped => "ERR_UPLOAD_STOPPED",
        },
        Reason::Rejected { .. } | Reason::Declined { what: Declined::Creation, .. } => "ERR_UPLOAD_REJECTED",
        Reason::Declined { what: Declined::Content, .. } => "ERR_UPLOAD_STOPPED",
        Reason::Declined { what: Declined::Cancellation, .. } => "ERR_UPLOAD_TERMINATION_REJECTED",
        Reason::Internal => "ERR_INTERNAL_SERVER_ERROR",
        Reason::NotImplemented(_) => "ERR_NOT_IMPLEMENTED",
        Reason::MethodNotAllowed { .. } => "ERR_METHOD_NOT_ALLOWED",
        Reason::UploadExists => "ERR_UPLOAD_EXISTS",
        Reason::AlreadyComplete => "ERR_UPLOAD_COMPLETE",
        Reason::ConflictingParts => "ERR_CONFLICTING_PARTS",
        Reason::FormContent => "ERR_FORM_CONTENT",
        Reason::FieldsTooLarge { .. } => "ERR_FIELDS_TOO_LARGE",
        Reason::DigestMismatch => "ERR_CHECKSUM_MISMATCH",
        Reason::TooSmall { .. } => "ERR_APPEND_TOO_SMALL",
        Reason::StorageFull => "ERR_STORAGE_FULL",
        Reason::Unavailable(_) => "ERR_UNAVAILABLE",
        Reason::Unauthorized { .. } => "ERR_UNAUTHORIZED",
        Reason::Forbidden(_) => "ERR_FORBIDDEN",
        Reason::TooManyUploads { .. } => "ERR_TOO_MANY_UPLOADS",
        Reason::QuotaExceeded { .. } => "ERR_QUOTA_EXCEEDED",
        Reason::ContentNotStored => "ERR_CONTENT_NOT_STORED",
        Reason::RangeNotSatisfiable => "ERR_RANGE_NOT_SATISFIABLE",
        Reason::PreconditionFailed => "ERR_PRECONDITION_FAILED",
        // The enum is of another crate, which may add to it.
        _ => "ERR_OTHER",
    }
}
