//! The time at which the data directory was last in use, stored in `seen`.
//!
//! Owns the format of the file. Only the trust in the clock at the next start depends on it, so a file that cannot be
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

/// The most bytes to read. A server writes less: one line for the time, and one for each of a few dozen steps.
const BYTES_MAX: usize = 16 << 10;

/// Reads the stored value. Without one, it is the last time at which an upload was created, moved or removed.
pub(super) fn read(data_dir: &DataDir) -> Result<Option<LastUsed>, Error> {
    let doing = |errno| failed("reading the time of the last use", errno);
    let text = match data_dir.root.file(SEEN, OFlags::RDONLY) {
        Ok(Some(file)) => sys::read_at(file, 0, BYTES_MAX).map_err(doing)?,
        Ok(None) | Err(Errno::INVAL | Errno::LOOP | Errno::ISDIR) => Vec::new(),
        Err(errno) => return Err(doing(errno)),
    };
    if let Some(last_used) = std::str::from_utf8(&text).ok().and_then(parse) {
        return Ok(Some(last_used));
    }
    let changed = [ParentDir::Open, ParentDir::Done].map(|parent| data_dir.dir_of(parent).changed_ms());
    let newest = changed.into_iter().collect::<Result<Vec<_>, _>>().map_err(doing)?.into_iter().max();
    Ok(newest.map(|at| LastUsed { at: Timestamp::from_millis(at), steps: Vec::new() }))
}

/// Stores a value. Does not sync, because an older value is as good after a crash.
pub(super) fn write(data_dir: &DataDir, last_used: &LastUsed) -> Result<(), Error> {
    let doing = |errno| failed("storing the time of the last use", errno);
    let file = data_dir.root.new_file(SEEN_NEW, OFlags::TRUNC).map_err(doing)?;
    let text = to_text(last_used);
    sys::write_all(&file, 0, &mut [IoSlice::new(text.as_bytes())]).1.map_err(doing)?;
    data_dir.root.rename(SEEN_NEW, &data_dir.root, SEEN).map_err(doing)
}

/// Formats the time in milliseconds, followed by a line for each step: `since until by to`.
fn to_text(last_used: &LastUsed) -> String {
    let mut text = format!("{}\n", last_used.at.millis());
    for ClockStep { since, until, by, to } in &last_used.steps {
        let by = by.as_millis();
        let _ = writeln!(text, "{} {} {by} {}", since.millis(), until.millis(), to.millis());
    }
    text
}

/// Parses the text. Ignores lines that are not steps.
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
