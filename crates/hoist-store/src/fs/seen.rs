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

use super::sys::{self, failed};
use super::tree::{Shelf, Tree};
use crate::store::{ClockStep, Error, Seen};

const SEEN: &str = "seen";
const SEEN_NEW: &str = "seen.new";

/// More than a server writes: a line with a time, and one of four numbers for each of a few dozen steps.
const BYTES_MAX: usize = 16 << 10;

/// The note that was made last. A directory without one was last in use when an upload last came, moved or went.
pub(super) fn read(tree: &Tree) -> Result<Option<Seen>, Error> {
    let doing = |errno| failed("reading when the data directory was last in use", errno);
    let note = match tree.root.file(SEEN, OFlags::RDONLY) {
        Ok(Some(file)) => sys::read_at(file, 0, BYTES_MAX).map_err(doing)?,
        Ok(None) | Err(Errno::INVAL | Errno::LOOP | Errno::ISDIR) => Vec::new(),
        Err(errno) => return Err(doing(errno)),
    };
    if let Some(seen) = std::str::from_utf8(&note).ok().and_then(parse) {
        return Ok(Some(seen));
    }
    let changed = [Shelf::Open, Shelf::Done].map(|shelf| tree.dir_of(shelf).changed_ms());
    let newest = changed.into_iter().collect::<Result<Vec<_>, _>>().map_err(doing)?.into_iter().max();
    Ok(newest.map(|at| Seen { at: Timestamp::from_millis(at), steps: Vec::new() }))
}

/// Keeps a note. Does not sync, because an older note is as good after a crash.
pub(super) fn write(tree: &Tree, seen: &Seen) -> Result<(), Error> {
    let doing = |errno| failed("noting that the data directory is in use", errno);
    let file = tree.root.new_file(SEEN_NEW, OFlags::TRUNC).map_err(doing)?;
    let note = text(seen);
    sys::write_all(&file, 0, &mut [IoSlice::new(note.as_bytes())]).1.map_err(doing)?;
    tree.root.rename(SEEN_NEW, &tree.root, SEEN).map_err(doing)
}

/// The time in milliseconds, and below it a line for each step: from, to, distance, limit.
fn text(seen: &Seen) -> String {
    let mut text = format!("{}\n", seen.at.millis());
    for ClockStep { since, until, by, to } in &seen.steps {
        let by = by.as_millis();
        let _ = writeln!(text, "{} {} {by} {}", since.millis(), until.millis(), to.millis());
    }
    text
}

/// The note in a text. A line that is no step is passed over.
fn parse(text: &str) -> Option<Seen> {
    let mut lines = text.lines();
    let at = Timestamp::from_millis(lines.next()?.trim().parse().ok()?);
    let step = |line: &str| {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [since, until, by, to] = numbers[..] else { return None };
        let [since, until, to] = [since, until, to].map(Timestamp::from_millis);
        Some(ClockStep { since, until, by: Duration::from_millis(by), to })
    };
    Some(Seen { at, steps: lines.filter_map(step).collect() })
}
