//! Listing what is stored, a few uploads at a time, and clearing away what a crash left between them.
//!
//! Owns the position in a directory. Leaves what one upload looks like to [`read`](super::read), and what may be removed of
//! it to [`data_dir`](super::data_dir).

use std::sync::Arc;

use hoist_proto::types::{Timestamp, UploadId};

use super::data_dir::{DataDir, Leftover};
use super::entry::Entries;
use super::layout::ParentDir;
use super::read;
use super::sys::failed;
use super::thread_pool::ThreadPool;
use crate::store::{BoxFuture, Error, Listing, UploadSummary};

/// The most entries of a directory that one step looks at.
const STEP: usize = 256;

/// A position in one of the two directories.
pub(super) struct LocalListing {
    pool: ThreadPool,
    position: Option<Position>,
}

struct Position {
    data_dir: Arc<DataDir>,
    entries: Arc<Entries>,
    names: rustix::fs::Dir,
    on: ParentDir,
    unchanged_since: Option<Timestamp>,
    /// True if the listing also removes what a crash left behind. The first full listing of each directory does.
    cleans: bool,
    foreign: usize,
}

impl LocalListing {
    /// The beginning of a directory. Blocks.
    pub(super) fn begin(
        data_dir: Arc<DataDir>,
        entries: Arc<Entries>,
        on: ParentDir,
        unchanged_since: Option<Timestamp>,
        pool: ThreadPool,
    ) -> Result<Self, Error> {
        let doing = |errno| failed(format!("listing {on}"), errno);
        let names = data_dir.dir_of(on).entries().map_err(doing)?;
        let cleans = unchanged_since.is_none() && data_dir.begins_to_clean(on);
        let position = Position { data_dir, entries, names, on, unchanged_since, cleans, foreign: 0 };
        Ok(Self { pool, position: Some(position) })
    }

    async fn step(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let Some(mut position) = self.position.take() else { return Ok(None) };
        let (few, position) = self.pool.call(move || Ok((position.few()?, position))).await?;
        self.position = few.is_some().then_some(position);
        Ok(few)
    }
}

impl Listing for LocalListing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<UploadSummary>>, Error>> {
        Box::pin(self.step())
    }
}

impl Position {
    fn few(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let mut few = Vec::new();
        for _ in 0..STEP {
            let Some(entry) = self.names.read() else {
                if self.cleans && self.foreign > 0 {
                    let (directory, count) = (self.on, self.foreign);
                    tracing::warn!(%directory, count, "entries that are no uploads are passed over");
                }
                return Ok((!few.is_empty()).then_some(few));
            };
            let entry = entry.map_err(|errno| failed(format!("listing {}", self.on), errno))?;
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
                match DataDir::half_removed(entry) {
                    Some(id) if self.cleans => self.clean(id, entry),
                    Some(_) => {}
                    None => self.foreign += 1,
                }
                return None;
            }
        };
        if self.cleans && self.data_dir.leftover(self.on, id, entry) != Leftover::Nothing {
            self.clean(id, entry);
        }
        if self
            .unchanged_since
            .is_some_and(|unchanged_since| self.data_dir.changed(self.on, entry) > Some(unchanged_since))
        {
            return None;
        }
        read::summary(&self.data_dir, id)
    }

    /// Clears away what a crash left, unless an operation is under way that made it.
    fn clean(&self, id: UploadId, entry: &str) {
        if let Ok(_lock) = Arc::clone(&self.entries.of(id).lock).try_lock_owned() {
            self.data_dir.clean(self.on, id, entry);
        }
    }
}
