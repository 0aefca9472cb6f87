//! The report as one JSON document.

use serde_json::{Value, json};

use super::{CaseOutcome, CaseResult, Report};

impl Report {
    /// Returns the report as JSON: the counts, and each outcome with its requirements.
    pub(crate) fn json(&self) -> Value {
        let (passed, failed, skipped) = self.counts();
        let outcomes: Vec<Value> = self.outcomes.iter().map(outcome).collect();
        json!({ "passed": passed, "failed": failed, "skipped": skipped, "outcomes": outcomes })
    }
}

fn outcome(outcome: &CaseOutcome) -> Value {
    let (verdict, why) = match &outcome.verdict {
        CaseResult::Passed => ("passed", None),
        CaseResult::Skipped(why) => ("skipped", Some(why)),
        CaseResult::Failed(why) => ("failed", Some(why)),
    };
    json!({
        "case": outcome.case,
        "dialect": outcome.dialect(),
        "version": outcome.version,
        "transport": outcome.transport,
        "level": outcome.level.word(),
        "section": outcome.section,
        "proves": outcome.proves,
        "verdict": verdict,
        "why": why,
        "milliseconds": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
    })
}
