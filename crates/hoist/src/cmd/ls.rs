//! `hoist ls`: lists the unfinished uploads in the journal, without contacting a server or disturbing a running upload.

use std::time::SystemTime;

use hoist_client::{Handle, JournalEntry, LocalState};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde_json::{Value, json};

use super::put::resume_command::ResumeNote;
use super::{client, lookup};
use crate::exit::{Exit, Failure};
use crate::output::{Bytes, Output, quoted};

pub(crate) fn run(output: Output) -> Result<Exit, Failure> {
    let journal = lookup::journal()?;
    let entries = journal.entries().map_err(client::failure)?;
    let rows: Vec<_> = entries.iter().map(|entry| Row::of(entry, journal.local_state(entry))).collect();
    let widest = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).chars().count()).max();
    let file = widest(|row| &row.file).unwrap_or_default().max(4);
    let done = widest(|row| &row.done).unwrap_or_default().max(4);
    if rows.is_empty() {
        output.message("no unfinished uploads");
    } else if !output.is_json() {
        Output::data(format_args!(
            "{:file$}  {:>done$}  {:11}  {:16}  TO\n",
            "FILE", "DONE", "STATE", "BEGUN"
        ))?;
    }
    for (index, (row, entry)) in rows.iter().zip(&entries).enumerate() {
        let Row { state, began, to, resume, .. } = row;
        let began = began.strftime("%Y-%m-%d %H:%M").to_string();
        let text = format!("{:file$}  {:>done$}  {state:11}  {began:16}  {to}", row.file, row.done);
        // A command that resumes several uploads is shown below the last of them.
        let is_shown_below =
            rows.get(index + 1).is_some_and(|next| !next.is_running && next.resume == *resume);
        let text = if row.is_running || is_shown_below { text } else { format!("{text}\n    {resume}") };
        output.result(text, &row.json(entry))?;
    }
    Ok(Exit::Success)
}

/// An upload as a row of the table.
struct Row {
    file: String,
    done: String,
    state: &'static str,
    is_running: bool,
    offset: Option<u64>,
    /// In the time zone of the user.
    began: Zoned,
    to: String,
    /// The command to resume the upload with.
    resume: String,
}

impl Row {
    fn of(entry: &JournalEntry, local: LocalState) -> Self {
        let (file, to) = (quoted(&entry.file), entry.target.to_string());
        let note = entry.note.as_deref().and_then(ResumeNote::read);
        // Entries of older versions and of very long commands have no note.
        let of_file_alone = || format!("hoist put {file} {}", quoted(&to));
        let resume = note.map_or_else(of_file_alone, |note| note.command());
        Self {
            done: done(local.acknowledged, entry.length),
            state: lookup::state_name(local),
            is_running: local.is_running,
            offset: local.acknowledged,
            began: zoned(entry.began, TimeZone::system()),
            resume,
            file,
            to,
        }
    }

    fn json(&self, entry: &JournalEntry) -> Value {
        let (dialect, url, token) = match &entry.handle {
            Handle::Token { token, .. } | Handle::Numbered { token, .. } => {
                ("token".to_owned(), None, Some(client::written(token)))
            }
            Handle::Url { url, dialect, .. } => (dialect.to_string(), Some(url.to_string()), None),
            Handle::Parts { .. } => ("tus1".to_owned(), None, None),
            _ => ("unknown".to_owned(), None, None),
        };
        json!({
            "event": "unfinished", "file": entry.file.to_string_lossy(), "endpoint": self.to, "to": self.to,
            "length": entry.length, "offset": self.offset, "state": self.state, "resume": self.resume,
            "began": self.began.timestamp().as_second(),
            "began_at": self.began.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            "dialect": dialect, "url": url, "token": token,
        })
    }
}

/// Formats the part of a file that the server has.
fn done(acknowledged: Option<u64>, length: u64) -> String {
    let percent = |offset: u64| u128::from(offset) * 100 / u128::from(length.max(1));
    let part = acknowledged.map_or_else(|| "?".to_owned(), |offset| percent(offset).to_string());
    format!("{part} % of {}", Bytes(length))
}

/// Returns a time in a time zone. A time that has no year of four digits is 1970.
fn zoned(time: SystemTime, zone: TimeZone) -> Zoned {
    Timestamp::try_from(time).unwrap_or_default().to_zoned(zone)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_time_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(-3));
        for (seconds, expected) in [(0, "1969-12-31 21:00"), (1_795_339_800, "2026-11-22 06:30")] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(zoned(time, zone.clone()).strftime("%Y-%m-%d %H:%M").to_string(), expected);
        }
    }

    #[test]
    fn the_part_that_is_done_is_a_percentage() {
        for (acknowledged, length, expected) in [
            (Some(1), 3, "33 % of 3 B"),
            (Some(0), 0, "0 % of 0 B"),
            (None, 2048, "? % of 2.0 KiB"),
            (Some(u64::MAX), u64::MAX, "100 % of 16383.9 PiB"),
        ] {
            assert_eq!(done(acknowledged, length), expected);
        }
    }
}
