//! The instruments that metrics are made of, all of them atomic numbers: a family with one instrument for each value of its
//! labels, a histogram, and a gauge that may have no value.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::labels::LabelSet;
use crate::locked;

/// An instrument for each value of a set of labels. All exist from the start, so that finding one takes no lock, and a rate
/// over a counter misses no first event.
#[derive(Debug)]
pub(super) struct Each<L, M> {
    instruments: Arc<[M]>,
    labels: PhantomData<fn() -> L>,
}

impl<L: LabelSet, M> Each<L, M> {
    pub(super) fn new(make: impl Fn() -> M) -> Self {
        Self { instruments: L::all().iter().map(|_| make()).collect(), labels: PhantomData }
    }

    pub(super) fn of(&self, labels: L) -> &M {
        &self.instruments[labels.index()]
    }
}

impl<L, M> Clone for Each<L, M> {
    fn clone(&self) -> Self {
        Self { instruments: Arc::clone(&self.instruments), labels: PhantomData }
    }
}

impl<L: LabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for Each<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (labels, instrument) in L::all().into_iter().zip(&*self.instruments) {
            instrument.encode(encoder.encode_family(&labels.pairs())?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

/// The unit in which a [`Distribution`] is exposed, and what one of it counts as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// Counted in nanoseconds.
    Seconds,
    Bytes,
}

impl Unit {
    /// Returns a counted number in the exposed unit.
    #[expect(clippy::cast_precision_loss, reason = "a histogram is exposed in floating point")]
    fn exposed(self, counted: u64) -> f64 {
        match self {
            Self::Seconds => counted as f64 / 1e9,
            Self::Bytes => counted as f64,
        }
    }
}

/// A histogram. Observing takes two additions and no lock.
#[derive(Clone, Debug)]
pub(super) struct Distribution(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    unit: Unit,
    /// The upper bounds, ascending, as counted.
    bounds: &'static [u64],
    /// The observations up to each bound and above the one before, and those above the last.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Distribution {
    pub(super) fn new(unit: Unit, bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Buckets { unit, bounds, counts, sum: AtomicU64::new(0) }))
    }

    pub(super) fn observe(&self, counted: u64) {
        let Buckets { bounds, counts, sum, .. } = &*self.0;
        counts[bounds.partition_point(|bound| *bound < counted)].fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(counted, Ordering::Relaxed);
    }

    pub(super) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// A gauge whose value may be unknown. It has no sample then.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownGauge(Arc<Mutex<Option<u64>>>);

impl KnownGauge {
    pub(super) fn set(&self, value: Option<u64>) {
        *locked(&self.0) = value;
    }
}

impl EncodeMetric for KnownGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let value = *locked(&self.0);
        value.map_or(Ok(()), |value| encoder.encode_gauge(&value))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        locked(&self.0).is_none()
    }
}

/// A gauge for each sink of events, by its key. The configuration decides which there are. Without sinks it has no samples.
#[derive(Clone, Debug, Default)]
pub(super) struct PerSink(Arc<Mutex<Vec<(String, f64)>>>);

impl PerSink {
    pub(super) fn set(&self, values: Vec<(String, f64)>) {
        *locked(&self.0) = values;
    }
}

impl EncodeMetric for PerSink {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (sink, value) in &*locked(&self.0) {
            encoder.encode_family(&[("sink", sink.as_str())])?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        locked(&self.0).is_empty()
    }
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Buckets { unit, bounds, counts, sum } = &*self.0;
        let counts: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let bounds = bounds.iter().map(|bound| unit.exposed(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = unit.exposed(sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Distribution {
    const TYPE: MetricType = MetricType::Histogram;
}
