//! The report: a table for the terminal, lines of JSON, and Markdown.

pub(crate) mod markdown;

use std::fmt::Write as _;

use serde_json::json;

use crate::round::Outcome;
use crate::sample::{Metric, Sample, Summary};
use crate::scenario::{Case, Scenario};

/// The results of a contender in a case.
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) case: String,
    pub(crate) contender: String,
    pub(crate) cells: Result<Vec<Cell>, String>,
}

/// A number over all rounds.
pub(crate) struct Cell {
    metric: Metric,
    value: Summary,
    /// The ratio to the baseline of the same round.
    ratio: Option<Summary>,
}

/// Returns the rows of a case.
pub(crate) fn rows(scenario: &Scenario, case: &Case, outcomes: &[Outcome]) -> Vec<Row> {
    let baseline = outcomes.first().and_then(|outcome| outcome.as_ref().ok());
    let rows = case.contenders.iter().zip(outcomes).map(|(contender, outcome)| Row {
        scenario: scenario.name,
        case: case.label.clone(),
        contender: contender.label.clone(),
        cells: outcome.as_ref().map(|samples| cells(samples, baseline)).map_err(Clone::clone),
    });
    rows.collect()
}

fn cells(samples: &[Sample], baseline: Option<&Vec<Sample>>) -> Vec<Cell> {
    let metrics: Vec<Metric> = samples.first().into_iter().flatten().map(|(metric, _)| *metric).collect();
    let cells = metrics.into_iter().filter_map(|metric| {
        let numbers: Vec<f64> = samples.iter().filter_map(|sample| number(sample, metric)).collect();
        let ratios = baseline.into_iter().flatten().zip(&numbers);
        let ratios = ratios.filter_map(|(base, number_here)| Some(number_here / number(base, metric)?));
        let ratio = metric.is_compared().then(|| Summary::of(ratios.collect())).flatten();
        Some(Cell { metric, value: Summary::of(numbers)?, ratio })
    });
    cells.collect()
}

fn number(sample: &Sample, metric: Metric) -> Option<f64> {
    sample.iter().find(|(found, _)| *found == metric).map(|(_, number)| *number)
}

/// Returns the rows of a case for the terminal.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    if let Some(row) = rows.first() {
        let _ = writeln!(text, "{}: {}", row.scenario, row.case);
    }
    for row in rows {
        let _ = match &row.cells {
            Ok(cells) => {
                let cells: Vec<String> = cells.iter().map(Cell::text).collect();
                writeln!(text, "  {:<22} {}", row.contender, cells.join("   "))
            }
            Err(reason) => writeln!(text, "  {:<22} no result: {reason}", row.contender),
        };
    }
    text
}

/// Returns one line of JSON for each number of a row.
pub(crate) fn json(row: &Row) -> String {
    let mut lines = String::new();
    let place = json!({ "scenario": row.scenario, "case": row.case, "contender": row.contender });
    let numbers = match &row.cells {
        Ok(cells) => cells.iter().map(Cell::json).collect(),
        Err(reason) => vec![json!({ "failed": reason })],
    };
    for number in numbers {
        let mut line = place.clone();
        if let (Some(line), Some(number)) = (line.as_object_mut(), number.as_object()) {
            line.extend(number.clone());
        }
        let _ = writeln!(lines, "{line}");
    }
    lines
}

impl Cell {
    fn text(&self) -> String {
        let Summary { median, min, max } = self.value;
        let value = format!("{} {} ({}-{})", self.metric.name(), short(median), short(min), short(max));
        match self.ratio {
            Some(ratio) => format!("{value} = {:.2}x ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max),
            None => value,
        }
    }

    fn json(&self) -> serde_json::Value {
        let summary = |of: Summary| json!({ "median": of.median, "min": of.min, "max": of.max });
        json!({
            "metric": self.metric.name(),
            "value": summary(self.value),
            "ratio": self.ratio.map(summary),
        })
    }
}

/// Returns a number with three significant digits.
fn short(number: f64) -> String {
    match number.abs() {
        0.0..1.0 => format!("{number:.3}"),
        1.0..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}
