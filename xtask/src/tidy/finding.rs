//! The findings of rules: location, message and next step.

use std::fmt;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A warning.
    Warning,
    /// An error that prevents a merge.
    Failure,
}

/// A finding, printed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// The line number, starting at one; one for the file as a whole.
    pub(crate) line: usize,
    pub(crate) what: String,
    /// The next step for the reader.
    pub(crate) next: String,
    pub(crate) weight: Weight,
}

impl Finding {
    /// Returns a finding that prevents a merge.
    pub(crate) fn failure(path: &str, line: usize, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), next: next.into(), weight: Weight::Failure }
    }

    /// Returns a warning.
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
