//! What a run of the corpus found: a verdict for each case, version and transport, and their counts.

use std::collections::BTreeMap;
use std::fmt;

use super::case::Case;
use super::version::{Dialect, Version};
use super::wire::Transport;

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the case says.
    Passed,
    /// Not run, and why.
    Skipped(String),
    /// Not as the case says: what differs, and what was said.
    Failed(String),
}

/// One case in one version over one transport.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The case's name.
    pub case: String,
    /// The requirements it proves.
    pub proves: Vec<String>,
    /// The version's name.
    pub version: String,
    /// `h1` or `h2`.
    pub transport: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    order: (Dialect, Version),
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn enter(&mut self, case: &Case, version: Version, transport: Transport, verdict: Verdict) {
        self.outcomes.push(Outcome {
            case: case.name.clone(),
            proves: case.proves.clone(),
            version: version.label(),
            transport: transport.name(),
            verdict,
            order: (version.dialect(), version),
        });
    }

    /// Puts the outcomes in an order that does not depend on what ended first.
    pub(super) fn sort(&mut self) {
        self.outcomes.sort_by(|a, b| (a.order, &a.case, a.transport).cmp(&(b.order, &b.case, b.transport)));
    }

    /// Takes in another server's outcomes. What was skipped on one and run on another was run.
    pub fn merge(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        let is_run = |outcome: &Outcome| !matches!(outcome.verdict, Verdict::Skipped(_));
        let key = |outcome: &Outcome| (outcome.order, outcome.case.clone(), outcome.transport);
        self.outcomes.sort_by_cached_key(|outcome| (key(outcome), !is_run(outcome)));
        let mut seen = None;
        self.outcomes.retain(|outcome| {
            let repeats = !is_run(outcome) && seen.as_ref() == Some(&key(outcome));
            seen = Some(key(outcome));
            !repeats
        });
    }

    /// Each outcome.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_)))
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Verdict) -> bool| self.outcomes.iter().filter(|o| is(&o.verdict)).count();
        (
            count(|verdict| matches!(verdict, Verdict::Passed)),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
        )
    }
}

/// The failures in full, then a line of counts for each version.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in self.failures() {
            let Verdict::Failed(why) = &outcome.verdict else { continue };
            let Outcome { case, proves, version, transport, order: (dialect, _), .. } = outcome;
            let dialect = dialect.name();
            writeln!(f, "FAILED {case}\n  {dialect} {version} over {transport}, {}", proves.join(", "))?;
            for line in why.lines() {
                writeln!(f, "  {line}")?;
            }
            writeln!(f)?;
        }
        let mut rows: BTreeMap<(Dialect, Version), Self> = BTreeMap::new();
        for outcome in &self.outcomes {
            rows.entry(outcome.order).or_default().outcomes.push(outcome.clone());
        }
        writeln!(f, "{:<6} {:<10} {:>7} {:>7} {:>7}", "", "version", "passed", "failed", "skipped")?;
        let mut row = |dialect: &str, version: &str, (passed, failed, skipped): (usize, usize, usize)| {
            writeln!(f, "{dialect:<6} {version:<10} {passed:>7} {failed:>7} {skipped:>7}")
        };
        for ((dialect, version), report) in &rows {
            row(dialect.name(), &version.label(), report.counts())?;
        }
        row("", "all", self.counts())
    }
}
