//! The tables of `docs/performance.md`.
//!
//! The document has a block for each scenario, between the comments `<!-- bench NAME -->` and `<!-- /bench -->`, and one
//! called `machine`. A run replaces the blocks of its scenarios and leaves the others.

use std::fmt::Write as _;

use super::{Row, short};
use crate::machine::Machine;
use crate::program::Program;

/// Replaces the block of this name. Returns `None` if the document has none.
pub(crate) fn replace(document: &str, name: &str, text: &str) -> Option<String> {
    let start = format!("<!-- bench {name} -->\n");
    let (before, rest) = document.split_once(&start)?;
    let (_, after) = rest.split_once("<!-- /bench -->")?;
    Some(format!("{before}{start}{text}<!-- /bench -->{after}"))
}

/// Returns the table of a scenario.
pub(crate) fn table(rows: &[Row], rounds: usize) -> String {
    let mut text = String::new();
    let metrics = rows.iter().find_map(|row| row.cells.as_ref().ok()).into_iter().flatten();
    let mut header = "| case | server |".to_owned();
    let mut line = "|---|---|".to_owned();
    for cell in metrics {
        let _ =
            write!(header, " {} |{}", cell.metric.name(), if cell.ratio.is_some() { " ratio |" } else { "" });
        line.push_str(if cell.ratio.is_some() { "---|---|" } else { "---|" });
    }
    let _ = writeln!(text, "{header}\n{line}");
    let mut case = "";
    for row in rows {
        // The case is named once.
        let named = if row.case == case { "" } else { &row.case };
        case = &row.case;
        let _ = match &row.cells {
            Ok(cells) => {
                let cells: String = cells.iter().map(cell_text).collect();
                writeln!(text, "| {named} | {} |{cells}", row.contender)
            }
            Err(reason) => {
                writeln!(text, "| {named} | {} | no result: {} |", row.contender, in_one_line(reason))
            }
        };
    }
    let _ = writeln!(text, "\nMedians of {rounds} rounds, with ranges.");
    text
}

fn cell_text(cell: &super::Cell) -> String {
    let mut text =
        format!(" {} ({}-{}) |", short(cell.value.median), short(cell.value.min), short(cell.value.max));
    if let Some(ratio) = cell.ratio {
        let _ = write!(text, " **{:.2}** ({:.2}-{:.2}) |", ratio.median, ratio.min, ratio.max);
    }
    text
}

/// Returns the beginning of a text as a cell of a table.
fn in_one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(", ").replace('|', "/").chars().take(200).collect()
}

/// Returns the description of the machine and of the servers with their versions.
pub(crate) fn machine(machine: &Machine, programs: &[(&Program, Option<&str>)]) -> String {
    let mut text = format!("{machine}\n\n| server | version | work and durability |\n|---|---|---|\n");
    for (program, version) in programs {
        let version = version.unwrap_or("not measured");
        let _ = writeln!(text, "| {} | {version} | {} |", program.name, program.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_replaces_its_own_blocks() {
        let document =
            "a\n<!-- bench x -->\nold\n<!-- /bench -->\nb\n<!-- bench y -->\nkept\n<!-- /bench -->\n";
        let replaced = replace(document, "x", "new\n").unwrap();
        assert_eq!(
            replaced,
            "a\n<!-- bench x -->\nnew\n<!-- /bench -->\nb\n<!-- bench y -->\nkept\n<!-- /bench -->\n"
        );
        assert_eq!(replace(document, "z", ""), None);
    }
}
