//! The time at which the data directory was last in use, by the clock of then.
//!
//! Owns the file that keeps it. Only the trust in the clock at the next start depends on it, so a file that cannot be
//! parsed counts as missing.

use std::fmt::Write as _;
use std::io::IoSlice;
use std::time::Duration;

use hoist_proto::types::Timestamp;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::data_dir::DataDir;
use super::layout::ParentDir;
use super::sys::{self, failed};
use crate::store::{ClockStep, Error, LastUsed};

const SEEN: &str = "seen";
const SEEN_NEW: &str = "seen.new";

/// More than a server writes: a line with a time, and one of four numbers for each of a few dozen steps.
const BYTES_MAX: usize = 16 << 10;

/// The note that was made last. A directory without one was last in use when an upload last came, moved or went.
pub(super) fn read(data_dir: &DataDir) -> Result<Option<LastUsed>, Error> {
    let doing = |errno| failed("reading when the data directory was last in use", errno);
    let note = match data_dir.root.file(SEEN, OFlags::RDONLY) {
        Ok(Some(file)) => sys::read_at(file, 0, BYTES_MAX).map_err(doing)?,
        Ok(None) | Err(Errno::INVAL | Errno::LOOP | Errno::ISDIR) => Vec::new(),
        Err(errno) => return Err(doing(errno)),
    };
    if let Some(seen) = std::str::from_utf8(&note).ok().and_then(parse) {
        return Ok(Some(seen));
    }
    let changed = [ParentDir::Open, ParentDir::Done].map(|parent| data_dir.dir_of(parent).changed_ms());
    let newest = changed.into_iter().collect::<Result<Vec<_>, _>>().map_err(doing)?.into_iter().max();
    Ok(newest.map(|at| LastUsed { at: Timestamp::from_millis(at), steps: Vec::new() }))
}

/// Keeps a note. Does not sync, because an older note is as good after a crash.
pub(super) fn write(data_dir: &DataDir, seen: &LastUsed) -> Result<(), Error> {
    let doing = |errno| failed("noting that the data directory is in use", errno);
    let file = data_dir.root.new_file(SEEN_NEW, OFlags::TRUNC).map_err(doing)?;
    let note = text(seen);
    sys::write_all(&file, 0, &mut [IoSlice::new(note.as_bytes())]).1.map_err(doing)?;
    data_dir.root.rename(SEEN_NEW, &data_dir.root, SEEN).map_err(doing)
}

/// The time in milliseconds, and below it a line for each step: from, to, distance, limit.
fn text(seen: &LastUsed) -> String {
    let mut text = format!("{}\n", seen.at.millis());
    for ClockStep { since, until, by, to } in &seen.steps {
        let by = by.as_millis();
        let _ = writeln!(text, "{} {} {by} {}", since.millis(), until.millis(), to.millis());
    }
    text
}

/// The note in a text. A line that is no step is passed over.
fn parse(text: &str) -> Option<LastUsed> {
    let mut lines = text.lines();
    let at = Timestamp::from_millis(lines.next()?.trim().parse().ok()?);
    let step = |line: &str| {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [since, until, by, to] = numbers[..] else { return None };
        let [since, until, to] = [since, until, to].map(Timestamp::from_millis);
        Some(ClockStep { since, until, by: Duration::from_millis(by), to })
    };
    Some(LastUsed { at, steps: lines.filter_map(step).collect() })
}
