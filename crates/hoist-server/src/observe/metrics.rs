//! The observer that counts events, and the text in which Prometheus and others read the counts.
//!
//! Owns the names of the metrics, which `docs/metrics.md` explains and which never change. An event is counted where it
//! happens, by atomic numbers alone. A scrape reads them and lists nothing, so its time does not depend on the number of
//! uploads.

mod instruments;
mod labels;
mod tusd;

use std::sync::Arc;

use hoist_proto::dialect::interop::Interop;
use hoist_proto::refusal::Reason;
use hoist_proto::upload::{Composition, Family, Upload};
use http::{HeaderMap, header};
use prometheus_client::encoding::{EncodeMetric, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{Event, Observer, Outcome, TargetOutcome, TransferEnding, Transport, UploadEvent};
use crate::outbox::SinkStatus;
use instruments::{Distribution, Each, KnownGauge, PerSink, Unit};
use labels::{HookName, HookOutcome};
use tusd::TusdCounts;

/// The bounds of times that a client waits for, in nanoseconds: 100 µs to 10 s.
const SHORT_NANOS: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// The bounds of times that depend on the size of an upload, in nanoseconds: 10 ms to 7 days.
const UPLOAD_NANOS: &[u64] = &[
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
    600_000_000_000,
    3_600_000_000_000,
    6 * 3_600_000_000_000,
    24 * 3_600_000_000_000,
    7 * 24 * 3_600_000_000_000,
];

/// The bounds of sizes: 1 KiB to 1 TiB, in steps of 8, and of 4 where most uploads are.
const UPLOAD_BYTES: &[u64] = &[
    1 << 10,
    1 << 13,
    1 << 16,
    1 << 18,
    1 << 20,
    1 << 22,
    1 << 24,
    1 << 26,
    1 << 28,
    1 << 30,
    1 << 33,
    1 << 36,
    1 << 40,
];

/// Counts events. Clones share their counts.
///
/// [`Admin`](crate::admin::Admin) serves them. They stay when the observers of an endpoint are
/// [replaced](crate::Hoist::reconfigure), if the new ones have a clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    uploads: Uploads,
    transfers: Transfers,
    waits: Waits,
    offset_conflicts: Counter,
    interop_requests: Each<Interop, Counter>,
    interim_sent: Counter,
    answers_replayed: Counter,
    store_free_bytes: KnownGauge,
    outbox_pending: PerSink,
    outbox_oldest: PerSink,
    config_reload_ok: Gauge,
    tusd: TusdCounts,
}

#[derive(Debug)]
struct Uploads {
    open: Gauge,
    created: Each<Family, Counter>,
    ended: Each<(Family, Outcome), Counter>,
    seconds: Distribution,
    bytes: Distribution,
}

#[derive(Debug)]
struct Transfers {
    active: Each<Transport, Gauge>,
    ended: Each<TransferEnding, Counter>,
    resumes: Counter,
    bytes_stored: Counter,
    bytes_saved: Counter,
}

/// The times that requests wait for something.
#[derive(Debug)]
struct Waits {
    takeover: Distribution,
    sync: Distribution,
    target: Each<TargetOutcome, Distribution>,
    hook: Each<(HookName, HookOutcome), Distribution>,
}

/// The numbers that are read when they are asked for, and not counted.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) uploads_open: usize,
    /// `None` if the store does not know.
    pub(crate) free_bytes: Option<u64>,
    pub(crate) connections_open: usize,
    pub(crate) sinks: Vec<SinkStatus>,
}

/// The format of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus.
    Prometheus,
    /// The text format of Prometheus, with the names of tusd too. Some of them `OpenMetrics` does not allow.
    Tusd,
}

impl Format {
    /// Returns the format to answer a request in.
    pub(crate) fn accepted(fields: &HeaderMap) -> Self {
        let mut lines = fields.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
        // A client that names it understands it; no client lists it only to exclude it.
        let is_open = lines.any(|line| line.contains("application/openmetrics-text"));
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus | Self::Tusd => prometheus_text::CONTENT_TYPE,
        }
    }
}

impl Metrics {
    /// Returns metrics that have counted nothing. `version` is that of the program.
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("hoist");
        let new = &mut registry;
        let config_reload_ok = Gauge::default();
        config_reload_ok.set(1);
        new.register("build", "The program", Info::new(vec![("version", version)]));
        Self(Arc::new(Inner {
            uploads: Uploads::new(new),
            transfers: Transfers::new(new),
            waits: Waits::new(new),
            offset_conflicts: add(
                new,
                "offset_conflicts",
                "Appends refused because their offset was not that of the upload",
                Counter::default(),
            ),
            interop_requests: add(
                new,
                "interop_requests",
                "Requests in the IETF draft",
                Each::new(Counter::default),
            ),
            interim_sent: add(new, "interim_sent", "Interim responses (104) sent", Counter::default()),
            answers_replayed: add(
                new,
                "answers_replayed",
                "Answers to complete uploads that were sent again",
                Counter::default(),
            ),
            store_free_bytes: add(
                new,
                "store_free_bytes",
                "Bytes that uploads may still take in the store",
                KnownGauge::default(),
            ),
            outbox_pending: add(
                new,
                "outbox_pending",
                "Events that are to be delivered to a sink",
                PerSink::default(),
            ),
            outbox_oldest: add(
                new,
                "outbox_oldest_seconds",
                "Time since the oldest event that is to be delivered to a sink",
                PerSink::default(),
            ),
            config_reload_ok: add(
                new,
                "config_reload_ok",
                "1 unless the last reload of the configuration failed",
                config_reload_ok,
            ),
            tusd: TusdCounts::default(),
            registry,
        }))
    }

    /// Notes the result of a reload of the configuration.
    pub fn reloaded(&self, is_ok: bool) {
        self.0.config_reload_ok.set(is_ok.into());
    }

    /// Returns all metrics as text.
    pub(crate) fn encode(&self, format: Format, sample: Sample) -> String {
        let Sample { uploads_open, free_bytes, connections_open, sinks } = sample;
        #[expect(clippy::cast_precision_loss, reason = "a sample is a floating point number")]
        let pending = sinks.iter().map(|sink| (sink.key.to_string(), sink.pending as f64));
        self.0.outbox_pending.set(pending.collect());
        let oldest = sinks.iter().map(|sink| (sink.key.to_string(), sink.oldest.as_secs_f64()));
        self.0.outbox_oldest.set(oldest.collect());
        self.0.uploads.open.set(i64::try_from(uploads_open).unwrap_or(i64::MAX));
        self.0.store_free_bytes.set(free_bytes);
        let mut written = String::new();
        match format {
            Format::OpenMetrics => text::encode(&mut written, &self.0.registry),
            Format::Prometheus | Format::Tusd => prometheus_text::encode(&mut written, &self.0.registry),
        }
        .expect("writing to a string does not fail");
        if format == Format::Tusd {
            self.0.tusd.write(&mut written, connections_open);
        }
        written
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        let metrics = &*self.0;
        metrics.tusd.observe(event);
        match event {
            Event::Created(event) if counts(event.upload) => {
                metrics.uploads.created.of(event.upload.family).inc();
            }
            Event::Ended(event, outcome) if counts(event.upload) => metrics.uploads.ended(event, *outcome),
            Event::TransferBegan(transport) => {
                metrics.transfers.active.of(*transport).inc();
            }
            Event::TransferEnded(transport, ending) => {
                metrics.transfers.active.of(*transport).dec();
                metrics.transfers.ended.of(*ending).inc();
            }
            Event::Stored(bytes) => {
                metrics.transfers.bytes_stored.inc_by(*bytes);
            }
            Event::Resumed(event) => {
                metrics.transfers.resumes.inc();
                metrics.transfers.bytes_saved.inc_by(event.upload.offset.offset().get());
            }
            Event::TookOver(waited) => metrics.waits.takeover.observe_time(*waited),
            Event::Synced(waited) => metrics.waits.sync.observe_time(*waited),
            Event::Targeted(outcome, took) => metrics.waits.target.of(*outcome).observe_time(*took),
            Event::Replayed => {
                metrics.answers_replayed.inc();
            }
            Event::InterimSent => {
                metrics.interim_sent.inc();
            }
            Event::HookCalled(event) => {
                let outcome = if event.is_success { HookOutcome::Answered } else { HookOutcome::Failed };
                if let Some(hook) = HookName::of(event.hook) {
                    metrics.waits.hook.of((hook, outcome)).observe_time(event.duration);
                }
            }
            Event::Interop(version) => {
                metrics.interop_requests.of(*version).inc();
            }
            Event::Refused(_, refusal) if matches!(refusal.reason, Reason::OffsetMismatch { .. }) => {
                metrics.offset_conflicts.inc();
            }
            Event::Created(_)
            | Event::Received(_)
            | Event::Ended(..)
            | Event::Removed(..)
            | Event::Interrupted(..)
            | Event::Arrived(_)
            | Event::Refused(..)
            | Event::Delivery(_)
            | Event::Answered(_) => {}
        }
    }
}

impl Uploads {
    fn new(new: &mut Registry) -> Self {
        let seconds = Distribution::new(Unit::Seconds, UPLOAD_NANOS);
        let bytes = Distribution::new(Unit::Bytes, UPLOAD_BYTES);
        Self {
            open: add(new, "uploads_open", "Unfinished uploads in the store", Gauge::default()),
            created: add(new, "uploads_created", "Uploads created", Each::new(Counter::default)),
            ended: add(new, "uploads_ended", "Uploads ended", Each::new(Counter::default)),
            seconds: add(
                new,
                "upload_seconds",
                "Time from the creation of an upload to its completion",
                seconds,
            ),
            bytes: add(new, "upload_bytes", "Size of completed uploads", bytes),
        }
    }

    fn ended(&self, event: &UploadEvent<'_>, outcome: Outcome) {
        self.ended.of((event.upload.family, outcome)).inc();
        if let Outcome::Complete | Outcome::Delivered = outcome {
            self.seconds.observe_time(event.age);
            self.bytes.observe(event.upload.offset.offset().get());
        }
    }
}

impl Transfers {
    fn new(new: &mut Registry) -> Self {
        let (active, ended) = (Each::new(Gauge::default), Each::new(Counter::default));
        let saved = "Bytes that resumed transfers did not have to send again";
        Self {
            active: add(new, "transfers_active", "Requests whose content is being received", active),
            ended: add(new, "transfers_ended", "Requests whose content has ended", ended),
            resumes: add(
                new,
                "resumes",
                "Transfers that continued an interrupted upload",
                Counter::default(),
            ),
            bytes_stored: add(new, "bytes_stored", "Bytes of content stored", Counter::default()),
            bytes_saved: add(new, "bytes_saved", saved, Counter::default()),
        }
    }
}

impl Waits {
    fn new(new: &mut Registry) -> Self {
        let short = || Distribution::new(Unit::Seconds, SHORT_NANOS);
        let target = Each::new(|| Distribution::new(Unit::Seconds, UPLOAD_NANOS));
        Self {
            takeover: add(
                new,
                "takeover_seconds",
                "Time for which a request waited for the transfer that it superseded",
                short(),
            ),
            sync: add(
                new,
                "sync_seconds",
                "Time for which the end of a transfer waited until its content was durable",
                short(),
            ),
            target: add(new, "target_seconds", "Time that the target took for an upload", target),
            hook: add(new, "hook_seconds", "Time that a hook took", Each::new(short)),
        }
    }
}

/// Registers a metric, and returns a handle to it.
fn add<M: Clone + EncodeMetric + std::fmt::Debug + Send + Sync + 'static>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Returns whether an upload counts as one. The numbered parts of a token do not, because their whole does; partial
/// uploads of tus do, as in other servers of tus.
fn counts(upload: &Upload) -> bool {
    upload.composition != Composition::Part || upload.family == Family::Tus1
}

#[cfg(test)]
mod tests;
