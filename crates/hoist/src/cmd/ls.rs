//! `hoist ls`: lists the unfinished uploads in the journal, without contacting a server.

use std::time::SystemTime;

use hoist_client::{Handle, JournalEntry};
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

/// A moment in UTC, as `2026-11-22 09:30` (the algorithm of Howard Hinnant's `civil_from_days`).
fn minute(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let of_day = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", of_day / 3600, of_day / 60 % 60)
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
