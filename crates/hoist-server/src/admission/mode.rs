//! The admission mode: the requests with content that the operator lets in at present.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hoist_proto::refusal::Reason;

/// The time after which a client should retry a request that the mode refuses.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The requests with content that are let in.
///
/// A refused request gets 503 and `Retry-After`. Requests without content are answered in every mode: offset queries,
/// cancellations, downloads. A transfer that is running continues. The mode is kept until the process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdmissionMode {
    /// All requests.
    #[default]
    Open,
    /// Requests that continue an upload which exists. Creations are refused, except for a further part of such an upload,
    /// and for one that joins uploads which exist. For the time before an update of the server.
    ResumeOnly,
    /// No requests.
    Closed,
}

impl AdmissionMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Open, Self::ResumeOnly, Self::Closed];

    /// Returns the name: `open`, `resume-only` or `closed`. A name never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ResumeOnly => "resume-only",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for AdmissionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is not one of an admission mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the admission mode is open, resume-only or closed")]
pub struct NotAnAdmissionMode;

impl FromStr for AdmissionMode {
    type Err = NotAnAdmissionMode;

    fn from_str(name: &str) -> Result<Self, NotAnAdmissionMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or(NotAnAdmissionMode)
    }
}

/// The content of a request, as far as the mode distinguishes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brings {
    /// A new upload.
    Upload,
    /// A part of an upload that exists, or the order to join such parts.
    Part,
    /// More content of an upload that exists.
    Content,
}

/// The mode in force.
#[derive(Debug, Default)]
pub(crate) struct ModeInForce(AtomicU8);

impl ModeInForce {
    pub(crate) fn get(&self) -> AdmissionMode {
        AdmissionMode::ALL[usize::from(self.0.load(Ordering::Acquire))]
    }

    /// Replaces the mode, and returns the previous one.
    pub(crate) fn set(&self, mode: AdmissionMode) -> AdmissionMode {
        AdmissionMode::ALL[usize::from(self.0.swap(mode as u8, Ordering::AcqRel))]
    }

    /// Returns the reason why a request is refused, if it is.
    pub(crate) fn refuses(&self, brings: Brings) -> Option<Reason> {
        let refuses = match (self.get(), brings) {
            (AdmissionMode::Closed, _) | (AdmissionMode::ResumeOnly, Brings::Upload) => true,
            (AdmissionMode::Open, _) | (AdmissionMode::ResumeOnly, Brings::Part | Brings::Content) => false,
        };
        refuses.then_some(Reason::Unavailable(RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_refuses_more_than_the_one_before() {
        let mode = ModeInForce::default();
        let brings = [Brings::Upload, Brings::Part, Brings::Content];
        let mut before = AdmissionMode::Open;
        for (next, refused) in [
            (AdmissionMode::Open, [false, false, false]),
            (AdmissionMode::ResumeOnly, [true, false, false]),
            (AdmissionMode::Closed, [true, true, true]),
            (AdmissionMode::Open, [false, false, false]),
        ] {
            assert_eq!(mode.set(next), before);
            assert_eq!(mode.get(), next);
            assert_eq!(brings.map(|brings| mode.refuses(brings).is_some()), refused, "{next}");
            before = next;
        }
    }

    #[test]
    fn a_mode_has_one_name() {
        for mode in AdmissionMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        for name in ["", "Open", "resume_only", "close"] {
            assert_eq!(name.parse::<AdmissionMode>(), Err(NotAnAdmissionMode));
        }
    }
}
