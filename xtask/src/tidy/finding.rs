//! What a rule has to say: where, what, and what to do about it.

use std::fmt;

/// Whether a finding stops a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Worth a look.
    Warning,
    /// Not to be merged.
    Failure,
}

/// One line of `tidy`'s output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// Counted from one; one for the file as a whole.
    pub(crate) line: usize,
    pub(crate) what: String,
    /// The next step for whoever reads it.
    pub(crate) next: String,
    pub(crate) weight: Weight,
}

impl Finding {
    /// A finding that stops a change.
    pub(crate) fn failure(path: &str, line: usize, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), next: next.into(), weight: Weight::Failure }
    }

    /// A finding that does not.
    pub(crate) fn warning(path: &str, line: usize, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::failure(path, line, what, next) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = if self.weight == Weight::Warning { "warning: " } else { "" };
        write!(f, "{}:{}: {weight}{}; {}", self.path, self.line, self.what, self.next)
    }
}
