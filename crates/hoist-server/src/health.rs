//! The health of the store, as far as the last check tells, and its report in the log; its last answer about free space.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hoist_store::store::Error;
use tokio::sync::watch;

/// The reason for which the server is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unready {
    ShuttingDown,
    /// The stored uploads are still being counted.
    Counting,
    DiskFull,
    ReadOnly,
    Unwritable,
    Unhealthy,
    /// The store has not answered in time.
    Silent,
}

impl Unready {
    pub(crate) fn of(failure: &Error) -> Self {
        match failure {
            Error::Full => Self::DiskFull,
            Error::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
                std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
                std::io::ErrorKind::PermissionDenied => Self::Unwritable,
                _ => Self::Unhealthy,
            },
            _ => Self::Unhealthy,
        }
    }

    /// Returns the name, which never changes, and the text. They name no path, which is not for the peer.
    pub(crate) const fn description(self) -> (&'static str, &'static str) {
        match self {
            Self::ShuttingDown => ("shutting-down", "shutting down"),
            Self::Counting => ("counting", "looking at the uploads that are there"),
            Self::DiskFull => ("disk-full", "the disk is full, or nearly so"),
            Self::ReadOnly => ("read-only", "the data directory is read-only"),
            Self::Unwritable => ("unwritable", "the data directory is not writable"),
            Self::Unhealthy => ("unhealthy", "the store cannot take uploads"),
            Self::Silent => ("no-response", "the store does not respond"),
        }
    }
}

/// The last answer of the store about the bytes that uploads may still take; `None` if it does not know.
#[derive(Default)]
pub(crate) struct FreeSpace {
    pub(crate) last: watch::Sender<Option<u64>>,
    /// True while the store is asked.
    pub(crate) is_asked: AtomicBool,
}

/// The last check of the store.
#[derive(Default)]
pub(crate) struct Health {
    pub(crate) last: watch::Sender<Option<(Instant, Option<Unready>)>>,
    pub(crate) is_checking: AtomicBool,
    /// True if the log says that the server is not ready.
    is_reported: AtomicBool,
}

impl Health {
    /// Logs a change, and not every check.
    pub(crate) fn report(&self, unready: Option<Unready>, cause: impl FnOnce() -> String) {
        let was_reported = self.is_reported.swap(unready.is_some(), Ordering::AcqRel);
        match unready.map(Unready::description) {
            Some((reason, detail)) if !was_reported => {
                tracing::error!(reason, detail, error = cause(), "not ready");
            }
            None if was_reported => tracing::info!("ready again"),
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn failures_of_the_store_have_a_reason() {
        let failure =
            |kind: io::ErrorKind| Error::Io { doing: "probing /secret".into(), source: kind.into() };
        let cases = [
            (Error::Full, "disk-full"),
            (failure(io::ErrorKind::StorageFull), "disk-full"),
            (failure(io::ErrorKind::QuotaExceeded), "disk-full"),
            (failure(io::ErrorKind::ReadOnlyFilesystem), "read-only"),
            (failure(io::ErrorKind::PermissionDenied), "unwritable"),
            (failure(io::ErrorKind::Other), "unhealthy"),
        ];
        for (failure, expected) in cases {
            let (reason, text) = Unready::of(&failure).description();
            assert!(reason == expected && !text.contains('/'), "{reason}: {text}");
        }
    }
}
