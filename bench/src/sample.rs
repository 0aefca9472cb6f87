//! The numbers of one run, and their summary over rounds.

use std::time::Duration;

/// A number that a run yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    /// Processor seconds of the server per GiB.
    CpuPerGib,
    /// Processor time of the server per operation, in microseconds.
    CpuPerOperation,
    /// MiB per second.
    Throughput,
    /// Operations per second.
    Rate,
    /// The largest resident memory in MiB.
    PeakRss,
    /// Resident memory per connection in KiB.
    RssPerConnection,
    /// The median and the 99th percentile of a latency, in milliseconds.
    MedianLatency,
    HighLatency,
    /// Milliseconds from the start of the process until it accepts connections.
    StartUp,
    /// Processor milliseconds until it has nothing more to do after its start.
    StartCpu,
    /// Processor milliseconds of one sweep.
    SweepCpu,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerGib => "CPU s/GiB",
            Self::CpuPerOperation => "CPU us/op",
            Self::Throughput => "MiB/s",
            Self::Rate => "op/s",
            Self::PeakRss => "peak MiB",
            Self::RssPerConnection => "KiB each",
            Self::MedianLatency => "p50 ms",
            Self::HighLatency => "p99 ms",
            Self::StartUp => "listens ms",
            Self::StartCpu => "start CPU ms",
            Self::SweepCpu => "sweep CPU ms",
        }
    }

    /// Returns whether the report compares the number with that of the baseline.
    pub(crate) fn is_compared(self) -> bool {
        matches!(self, Self::CpuPerGib | Self::CpuPerOperation | Self::Throughput | Self::Rate)
    }
}

/// The numbers of one run.
pub(crate) type Sample = Vec<(Metric, f64)>;

/// The time that a piece of work took.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// The processor time of the server.
    pub(crate) cpu: Duration,
}

impl Cost {
    /// Returns the numbers of moving this many bytes.
    pub(crate) fn per_gib(self, bytes: u64) -> Sample {
        let mib = mib(bytes);
        vec![
            (Metric::CpuPerGib, self.cpu.as_secs_f64() / (mib / 1024.0)),
            (Metric::Throughput, mib / self.wall.as_secs_f64()),
        ]
    }

    /// Returns the numbers of this many operations.
    pub(crate) fn per_operation(self, operations: u64) -> Sample {
        let operations = to_f64(operations);
        vec![
            (Metric::CpuPerOperation, self.cpu.as_secs_f64() * 1e6 / operations),
            (Metric::Rate, operations / self.wall.as_secs_f64()),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn to_f64(number: u64) -> f64 {
    number as f64
}

pub(crate) fn mib(bytes: u64) -> f64 {
    to_f64(bytes) / f64::from(1 << 20)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median of several numbers and their range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Returns `None` if there are no numbers.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let middle = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            f64::midpoint(numbers[middle - 1], numbers[middle])
        };
        Some(Self { median, min, max })
    }
}

/// Returns the number below which this share of the sorted numbers lies.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    let at = (to_f64(sorted.len() as u64) * share) as usize;
    sorted[at.min(sorted.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_percentiles() {
        let summary = |numbers: &[f64]| Summary::of(numbers.to_vec()).map(|s| (s.median, s.min, s.max));
        assert_eq!(summary(&[]), None);
        assert_eq!(summary(&[3.0, 1.0, 2.0]), Some((2.0, 1.0, 3.0)));
        assert_eq!(summary(&[4.0, 1.0, 2.0, 3.0]), Some((2.5, 1.0, 4.0)));
        let sorted: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.99)), (100.0, 198.0));
    }
}
