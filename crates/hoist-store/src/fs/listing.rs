//! Listing what is stored, a few uploads at a time, and clearing away what a crash left between them.
//!
//! Owns the position in a directory. Leaves what one upload looks like to [`read`](super::read), and what may be removed of
//! it to [`tree`](super::tree).

use std::sync::Arc;

use hoist_proto::types::{Timestamp, UploadId};

use super::crew::Hands;
use super::entry::Entries;
use super::read;
use super::sys::failed;
use super::tree::{Leftover, Shelf, Tree, name};
use crate::store::{Error, Listing, Pending, UploadSummary};

/// The most entries of a directory that one step looks at.
const STEP: usize = 256;

/// A position in one of the two directories.
pub(super) struct LocalListing {
    hands: Hands,
    position: Option<Position>,
}

struct Position {
    tree: Arc<Tree>,
    entries: Arc<Entries>,
    names: rustix::fs::Dir,
    on: Shelf,
    quiet_since: Option<Timestamp>,
    /// True if the listing also removes what a crash left behind. The first full listing of each directory does.
    cleans: bool,
    foreign: usize,
}

impl LocalListing {
    /// The beginning of a directory. Blocks.
    pub(super) fn begin(
        tree: Arc<Tree>,
        entries: Arc<Entries>,
        on: Shelf,
        quiet_since: Option<Timestamp>,
        hands: Hands,
    ) -> Result<Self, Error> {
        let doing = |errno| failed(format!("listing {}", name(on)), errno);
        let names = tree.dir_of(on).entries().map_err(doing)?;
        let cleans = quiet_since.is_none() && tree.begins_to_clean(on);
        let position = Position { tree, entries, names, on, quiet_since, cleans, foreign: 0 };
        Ok(Self { hands, position: Some(position) })
    }

    async fn step(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let Some(mut position) = self.position.take() else { return Ok(None) };
        let (few, position) = self.hands.call(move || Ok((position.few()?, position))).await?;
        self.position = few.is_some().then_some(position);
        Ok(few)
    }
}

impl Listing for LocalListing {
    fn next(&mut self) -> Pending<'_, Result<Option<Vec<UploadSummary>>, Error>> {
        Box::pin(self.step())
    }
}

impl Position {
    fn few(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let mut few = Vec::new();
        for _ in 0..STEP {
            let Some(entry) = self.names.read() else {
                if self.cleans && self.foreign > 0 {
                    let (directory, count) = (name(self.on), self.foreign);
                    tracing::warn!(directory, count, "entries that are no uploads are passed over");
                }
                return Ok((!few.is_empty()).then_some(few));
            };
            let entry = entry.map_err(|errno| failed(format!("listing {}", name(self.on)), errno))?;
            if let Ok(entry) = entry.file_name().to_str() {
                few.extend(self.look_at(entry));
            }
        }
        Ok(Some(few))
    }

    fn look_at(&mut self, entry: &str) -> Option<UploadSummary> {
        let id = match entry.parse::<UploadId>() {
            Ok(id) => id,
            Err(_) if matches!(entry, "." | "..") => return None,
            Err(_) => {
                match Tree::half_removed(entry) {
                    Some(id) if self.cleans => self.clean(id, entry),
                    Some(_) => {}
                    None => self.foreign += 1,
                }
                return None;
            }
        };
        if self.cleans && self.tree.leftover(self.on, id, entry) != Leftover::Nothing {
            self.clean(id, entry);
        }
        if self.quiet_since.is_some_and(|quiet_since| self.tree.changed(self.on, entry) > Some(quiet_since)) {
            return None;
        }
        read::summary(&self.tree, id)
    }

    /// Clears away what a crash left, unless an operation is under way that made it.
    fn clean(&self, id: UploadId, entry: &str) {
        if let Ok(_turn) = Arc::clone(&self.entries.of(id).turn).try_lock_owned() {
            self.tree.clean(self.on, id, entry);
        }
    }
}
