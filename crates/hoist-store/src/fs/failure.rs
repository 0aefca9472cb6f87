//! Failures of the disk: errors that several callers can receive, and the repairs they require.

use std::sync::Arc;

use crate::store::Error;

/// An [`Error`] that can be cloned, to be returned to several callers.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    Full,
    Io { doing: Arc<str>, source: Arc<std::io::Error> },
    Other(Arc<str>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Full => Self::Full,
            Error::Io { doing, source } => Self::Io { doing: doing.into(), source: Arc::new(source) },
            other => Self::Other(other.to_string().into()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Io { doing, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => std::io::Error::from_raw_os_error(code),
                    None => std::io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { doing: doing.to_string(), source }
            }
            Failure::Other(what) => {
                Self::Io { doing: what.to_string(), source: std::io::ErrorKind::Other.into() }
            }
        }
    }
}

/// The work on an upload that a failing disk left undone. The next operation on the upload does it before it relies on
/// the content, so the upload is usable as soon as the disk is. The record is written again in every case, because the
/// system reports a failed sync only once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repair {
    /// The length to truncate the content to. The disk failed to confirm the bytes after it.
    pub(super) truncate_to: Option<u64>,
    /// The offset in the name of a marker of unverified bytes that was removed. A power cut may restore the marker,
    /// which would then truncate later bytes, too.
    pub(super) marker: Option<u64>,
}

impl Repair {
    pub(super) fn truncate_to(bytes: u64) -> Self {
        Self { truncate_to: Some(bytes), marker: None }
    }
}
