//! `hoist ls`: lists the unfinished uploads in the journal, without contacting a server.

use std::time::SystemTime;

use hoist_client::{Handle, JournalEntry};
use hoist_proto::types::Timestamp;
use serde_json::json;

use super::{client, lookup};
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Output};

pub(crate) fn run(output: Output) -> Result<Exit, Failure> {
    let entries = lookup::journal()?.entries().map_err(client::failure)?;
    let rows: Vec<_> = entries.iter().map(Row::of).collect();
    let widest = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max();
    let file = widest(|row| &row.file).unwrap_or_default().max(4);
    let length = widest(|row| &row.length).unwrap_or_default().max(6);
    if rows.is_empty() {
        output.message("no unfinished uploads");
    } else if !output.is_json() {
        Output::data(format_args!("{:file$}  {:>length$}  {:16}  TO\n", "FILE", "LENGTH", "BEGUN"))?;
    }
    for (row, entry) in rows.iter().zip(&entries) {
        let text = format!("{:file$}  {:>length$}  {:16}  {}", row.file, row.length, row.began, row.to);
        output.result(text, &row.json(entry))?;
    }
    Ok(Exit::Success)
}

/// An upload as a row of the table.
struct Row {
    file: String,
    length: String,
    began: String,
    to: String,
}

impl Row {
    fn of(entry: &JournalEntry) -> Self {
        let since = entry.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            file: entry.file.display().to_string(),
            length: Bytes(entry.length).to_string(),
            began: minute(since.as_secs()),
            to: entry.target.to_string(),
        }
    }

    fn json(&self, entry: &JournalEntry) -> serde_json::Value {
        let since = entry.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (dialect, url, token) = match &entry.handle {
            Handle::Token { token, .. } | Handle::Numbered { token, .. } => {
                ("token".to_owned(), None, Some(client::written(token)))
            }
            Handle::Url { url, dialect, .. } => (dialect.to_string(), Some(url.to_string()), None),
            Handle::Parts { .. } => ("tus1".to_owned(), None, None),
            _ => ("unknown".to_owned(), None, None),
        };
        json!({
            "file": self.file, "to": self.to, "length": entry.length, "began": since.as_secs(),
            "dialect": dialect, "url": url, "token": token,
        })
    }
}

/// Returns a time in UTC, as `2026-11-22 09:30`.
fn minute(seconds: u64) -> String {
    let time = Timestamp::from_millis(seconds.saturating_mul(1000)).rfc3339();
    time.rsplit_once(':').map_or_else(String::new, |(minute, _)| minute.replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_utc_minutes() {
        let cases =
            [(0, "1970-01-01 00:00"), (951_782_399, "2000-02-28 23:59"), (1_795_339_800, "2026-11-22 09:30")];
        for (seconds, expected) in cases {
            assert_eq!(minute(seconds), expected);
        }
    }
}
