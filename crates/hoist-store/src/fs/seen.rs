//! The time at which the data directory was last in use, by the clock of then.
//!
//! Owns the file that keeps it. Only the trust in the clock at the next start depends on it, so a file that cannot be
//! parsed counts as missing.

use std::io::IoSlice;

use hoist_proto::types::Timestamp;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::sys::{self, failed};
use super::tree::{Shelf, Tree};
use crate::store::Error;

const SEEN: &str = "seen";
const SEEN_NEW: &str = "seen.new";

/// A number of 64 bits and a line feed.
const BYTES_MAX: usize = 21;

/// The time that was noted last. A directory without a note was last in use when an upload last came, moved or went.
pub(super) fn read(tree: &Tree) -> Result<Option<Timestamp>, Error> {
    let doing = |errno| failed("reading when the data directory was last in use", errno);
    let note = match tree.root.file(SEEN, OFlags::RDONLY) {
        Ok(Some(file)) => sys::read_at(file, 0, BYTES_MAX).map_err(doing)?,
        Ok(None) | Err(Errno::INVAL | Errno::LOOP | Errno::ISDIR) => Vec::new(),
        Err(errno) => return Err(doing(errno)),
    };
    let noted = std::str::from_utf8(&note).ok().and_then(|text| text.trim_end().parse().ok());
    if let Some(millis) = noted {
        return Ok(Some(Timestamp::from_millis(millis)));
    }
    let changed = [Shelf::Open, Shelf::Done].map(|shelf| tree.dir_of(shelf).changed_ms());
    let newest = changed.into_iter().collect::<Result<Vec<_>, _>>().map_err(doing)?.into_iter().max();
    Ok(newest.map(Timestamp::from_millis))
}

/// Notes a time. Does not sync, because an older time is as good after a crash.
pub(super) fn write(tree: &Tree, now: Timestamp) -> Result<(), Error> {
    let doing = |errno| failed("noting that the data directory is in use", errno);
    let file = tree.root.new_file(SEEN_NEW, OFlags::TRUNC).map_err(doing)?;
    let note = format!("{}\n", now.millis());
    sys::write_all(&file, 0, &mut [IoSlice::new(note.as_bytes())]).1.map_err(doing)?;
    tree.root.rename(SEEN_NEW, &tree.root, SEEN).map_err(doing)
}
