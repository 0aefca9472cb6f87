//! What a run of the corpus found: a verdict for each case, version and transport, and their counts.
//!
//! Owns the text. The forms for programs are in `report/junit.rs` and `report/json.rs`.

mod json;
mod junit;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::case::Case;
use super::corpus::Corpus;
use super::requirement::Level;
use super::version::{CorpusDialect, Version};
use super::wire::Transport;

/// How one run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// As the case says.
    Passed,
    /// Not run, and why.
    Skipped(String),
    /// Not as the case says: what differs, and what was said.
    Failed(String),
}

/// One case in one version over one transport.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// The case's name.
    pub case: String,
    /// The requirements it proves.
    pub proves: Vec<String>,
    /// The strongest level among these requirements, or `OWN` where the case expects more than they say.
    pub level: Level,
    /// The section of the document that states the strongest one.
    pub section: String,
    /// The version's name.
    pub version: String,
    /// `h1` or `h2`.
    pub transport: &'static str,
    /// The result.
    pub verdict: CaseResult,
    /// The time that the case took.
    pub took: Duration,
    order: (CorpusDialect, Version),
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<CaseOutcome>,
}

impl CaseOutcome {
    /// A case that is about to be run.
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

    /// The same with its end.
    pub(super) fn ended(self, verdict: CaseResult, took: Duration) -> Self {
        Self { verdict, took, ..self }
    }

    /// The name of the dialect the case was run in.
    pub fn dialect(&self) -> &'static str {
        self.order.0.name()
    }

    fn has_failed(&self) -> bool {
        matches!(self.verdict, CaseResult::Failed(_))
    }
}

impl Report {
    pub(super) fn enter(&mut self, outcome: CaseOutcome) {
        self.outcomes.push(outcome);
    }

    /// Puts the outcomes in an order that does not depend on what ended first.
    pub(super) fn sort(&mut self) {
        self.outcomes.sort_by(|a, b| (a.order, &a.case, a.transport).cmp(&(b.order, &b.case, b.transport)));
    }

    /// Takes in another server's outcomes. What was skipped on one and run on another was run.
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

    /// Each outcome.
    pub fn outcomes(&self) -> &[CaseOutcome] {
        &self.outcomes
    }

    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = &CaseOutcome> {
        self.outcomes.iter().filter(|outcome| outcome.has_failed())
    }

    /// How many passed, failed and were skipped.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&CaseResult) -> bool| self.outcomes.iter().filter(|o| is(&o.verdict)).count();
        (
            count(|verdict| matches!(verdict, CaseResult::Passed)),
            count(|verdict| matches!(verdict, CaseResult::Failed(_))),
            count(|verdict| matches!(verdict, CaseResult::Skipped(_))),
        )
    }

    /// The text with ANSI colors.
    pub(crate) fn colored(&self) -> impl fmt::Display {
        Text { report: self, colors: true }
    }

    /// The outcomes of each version over each transport.
    fn rows(&self) -> BTreeMap<(CorpusDialect, Version, &'static str), Vec<&CaseOutcome>> {
        let mut rows: BTreeMap<_, Vec<&CaseOutcome>> = BTreeMap::new();
        for outcome in &self.outcomes {
            let (dialect, version) = outcome.order;
            rows.entry((dialect, version, outcome.transport)).or_default().push(outcome);
        }
        rows
    }
}

/// The failures in full, the reasons for what was skipped, then a line of counts for each version and transport.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text { report: self, colors: false }.fmt(f)
    }
}

struct Text<'a> {
    report: &'a Report,
    colors: bool,
}

impl Text<'_> {
    fn paint(&self, color: u8, text: &str) -> String {
        if self.colors { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const FAINT: u8 = 2;

impl fmt::Display for Text<'_> {
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

impl Text<'_> {
    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        [dialect, version, over]: [&str; 3],
        of: &Report,
    ) -> fmt::Result {
        let (passed, failed, skipped) = of.counts();
        // Painted after they were padded: the codes of colors count as characters.
        let passed = self.paint(GREEN, &format!("{passed:>7}"));
        let failed = format!("{failed:>7}");
        let failed = if of.failures().next().is_some() { self.paint(RED, &failed) } else { failed };
        writeln!(f, "{dialect:<6} {version:<10} {over:<4} {passed} {failed} {skipped:>7}")
    }
}
