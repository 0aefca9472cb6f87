//! The report of a run: a result for each case, version and transport, with counts.
//!
//! Owns the text and JSON formats. `JUnit` is in `report/junit.rs`.

mod junit;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::case::Case;
use super::corpus::Corpus;
use super::requirement::Level;
use super::version::{CorpusDialect, Version};
use super::wire::Transport;

/// The result of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// The responses were as expected.
    Passed,
    /// The case was not run, for this reason.
    Skipped(String),
    /// The responses differ from the expectation: the differences, and a transcript.
    Failed(String),
}

/// The result of one case in one version over one transport.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// The name of the case.
    pub case: String,
    /// The ids of the requirements that the case proves.
    pub proves: Vec<String>,
    /// The level of the strongest requirement, or `OWN` if the case exceeds the requirements.
    pub level: Level,
    /// The section of the specification with the strongest requirement.
    pub section: String,
    /// The label of the version.
    pub version: String,
    /// `h1` or `h2`.
    pub transport: &'static str,
    /// The result.
    pub verdict: CaseResult,
    /// The duration of the case.
    pub took: Duration,
    order: (CorpusDialect, Version),
}

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<CaseOutcome>,
}

impl CaseOutcome {
    /// Returns the outcome of a case that has not been run yet.
    pub(super) fn new(corpus: &Corpus, case: &Case, version: Version, transport: Transport) -> Self {
        Self {
            case: case.name.clone(),
            proves: case.proves.clone(),
            level: corpus.level(case),
            section: corpus.section(&case.proves),
            version: version.label(),
            transport: transport.name(),
            verdict: CaseResult::Skipped("not run".into()),
            took: Duration::ZERO,
            order: (version.dialect(), version),
        }
    }

    /// Returns the outcome with its result and duration.
    pub(super) fn ended(self, verdict: CaseResult, took: Duration) -> Self {
        Self { verdict, took, ..self }
    }

    /// Returns the name of the dialect in which the case was run.
    pub fn dialect(&self) -> &'static str {
        self.order.0.name()
    }

    fn json(&self) -> Value {
        let (verdict, why) = match &self.verdict {
            CaseResult::Passed => ("passed", None),
            CaseResult::Skipped(why) => ("skipped", Some(why)),
            CaseResult::Failed(why) => ("failed", Some(why)),
        };
        json!({
            "case": self.case,
            "dialect": self.dialect(),
            "version": self.version,
            "transport": self.transport,
            "level": self.level.word(),
            "section": self.section,
            "proves": self.proves,
            "verdict": verdict,
            "why": why,
            "milliseconds": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn has_failed(&self) -> bool {
        matches!(self.verdict, CaseResult::Failed(_))
    }
}

impl Report {
    pub(super) fn enter(&mut self, outcome: CaseOutcome) {
        self.outcomes.push(outcome);
    }

    /// Sorts the outcomes by version, name and transport.
    pub(super) fn sort(&mut self) {
        self.outcomes.sort_by(|a, b| (a.order, &a.case, a.transport).cmp(&(b.order, &b.case, b.transport)));
    }

    /// Adds the outcomes of another server. A case that was skipped on one server and run on the other counts as run.
    pub fn merge(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        let is_run = |outcome: &CaseOutcome| !matches!(outcome.verdict, CaseResult::Skipped(_));
        let key = |outcome: &CaseOutcome| (outcome.order, outcome.case.clone(), outcome.transport);
        self.outcomes.sort_by_cached_key(|outcome| (key(outcome), !is_run(outcome)));
        let mut seen = None;
        self.outcomes.retain(|outcome| {
            let repeats = !is_run(outcome) && seen.as_ref() == Some(&key(outcome));
            seen = Some(key(outcome));
            !repeats
        });
    }

    /// Returns all outcomes.
    pub fn outcomes(&self) -> &[CaseOutcome] {
        &self.outcomes
    }

    /// Returns the failed cases.
    pub fn failures(&self) -> impl Iterator<Item = &CaseOutcome> {
        self.outcomes.iter().filter(|outcome| outcome.has_failed())
    }

    /// Returns the numbers of passed, failed and skipped cases.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&CaseResult) -> bool| self.outcomes.iter().filter(|o| is(&o.verdict)).count();
        (
            count(|verdict| matches!(verdict, CaseResult::Passed)),
            count(|verdict| matches!(verdict, CaseResult::Failed(_))),
            count(|verdict| matches!(verdict, CaseResult::Skipped(_))),
        )
    }

    /// Returns the report as JSON: the counts, and each outcome with its requirements.
    pub(crate) fn json(&self) -> Value {
        let (passed, failed, skipped) = self.counts();
        let outcomes: Vec<Value> = self.outcomes.iter().map(CaseOutcome::json).collect();
        json!({ "passed": passed, "failed": failed, "skipped": skipped, "outcomes": outcomes })
    }

    /// Returns the text format with ANSI colors.
    pub(crate) fn colored(&self) -> impl fmt::Display {
        TextReport { report: self, colors: true }
    }

    /// Groups the outcomes by version and transport.
    fn rows(&self) -> BTreeMap<(CorpusDialect, Version, &'static str), Vec<&CaseOutcome>> {
        let mut rows: BTreeMap<_, Vec<&CaseOutcome>> = BTreeMap::new();
        for outcome in &self.outcomes {
            let (dialect, version) = outcome.order;
            rows.entry((dialect, version, outcome.transport)).or_default().push(outcome);
        }
        rows
    }
}

/// Displays all failures, the reasons of skipped cases, and a table of counts per version and transport.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TextReport { report: self, colors: false }.fmt(f)
    }
}

struct TextReport<'a> {
    report: &'a Report,
    colors: bool,
}

impl TextReport<'_> {
    fn paint(&self, color: u8, text: &str) -> String {
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        [dialect, version, over]: [&str; 3],
        of: &Report,
    ) -> fmt::Result {
        let (passed, failed, skipped) = of.counts();
        // Colored after padding, because escape codes count as characters.
        let passed = self.paint(GREEN, &format!("{passed:>7}"));
        let failed = format!("{failed:>7}");
        let failed = if of.failures().next().is_some() { self.paint(RED, &failed) } else { failed };
        writeln!(f, "{dialect:<6} {version:<10} {over:<4} {passed} {failed} {skipped:>7}")
    }
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const FAINT: u8 = 2;

impl fmt::Display for TextReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in self.report.failures() {
            let CaseResult::Failed(why) = &outcome.verdict else { continue };
            let CaseOutcome { case, proves, level, section, version, transport, .. } = outcome;
            writeln!(f, "{} {case}", self.paint(RED, "FAILED"))?;
            let (dialect, proves, level) = (outcome.dialect(), proves.join(", "), level.word());
            writeln!(f, "  {dialect} {version} over {transport}; {level}, \"{section}\" ({proves})")?;
            for line in why.lines() {
                let is_heard = line.starts_with(['<', '>']);
                writeln!(f, "  {}", if is_heard { self.paint(FAINT, line) } else { line.to_owned() })?;
            }
            writeln!(f)?;
        }
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in &self.report.outcomes {
            if let CaseResult::Skipped(why) = &outcome.verdict {
                *reasons.entry(why).or_default() += 1;
            }
        }
        for (why, count) in reasons {
            writeln!(f, "skipped {count:>4}: {why}")?;
        }
        writeln!(
            f,
            "{:<6} {:<10} {:<4} {:>7} {:>7} {:>7}",
            "", "version", "over", "passed", "failed", "skipped"
        )?;
        for ((dialect, version, transport), outcomes) in self.report.rows() {
            let row = Report { outcomes: outcomes.into_iter().cloned().collect() };
            self.row(f, [dialect.name(), &version.label(), transport], &row)?;
        }
        self.row(f, ["", "all", ""], self.report)
    }
}
