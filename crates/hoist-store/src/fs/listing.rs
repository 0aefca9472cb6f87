//! Listing uploads in batches, and cleaning up after a crash on the way.
//!
//! Owns the position in a directory. Leaves the summary of an upload to [`read`](super::read), and the cleanup itself
//! to [`data_dir`](super::data_dir).

use std::sync::Arc;

use hoist_proto::types::UploadId;

use super::data_dir::DataDir;
use super::entry::Entries;
use super::layout::ParentDir;
use super::read;
use super::sys::failed;
use super::thread_pool::ThreadPool;
use crate::store::{Error, Listing, StoreFuture, UploadGroup, UploadSummary};

/// The most directory entries that one step reads.
const STEP: usize = 256;

/// A position in one of the two parent directories.
pub(super) struct LocalListing {
    pool: ThreadPool,
    position: Option<Position>,
}

struct Position {
    data_dir: Arc<DataDir>,
    entries: Arc<Entries>,
    names: rustix::fs::Dir,
    parent: ParentDir,
    /// True if the listing also removes what a crash left. The first listing of each directory does.
    cleans: bool,
    foreign: usize,
}

impl LocalListing {
    /// Begins at the start of a directory. Blocks.
    pub(super) fn begin(
        data_dir: Arc<DataDir>,
        entries: Arc<Entries>,
        group: UploadGroup,
        pool: ThreadPool,
    ) -> Result<Self, Error> {
        let parent = match group {
            UploadGroup::Open => ParentDir::Open,
            UploadGroup::Complete => ParentDir::Done,
        };
        let doing = |errno| failed(format!("listing {parent}"), errno);
        let names = data_dir.dir_of(parent).entries().map_err(doing)?;
        let cleans = data_dir.claim_cleanup(parent);
        let position = Position { data_dir, entries, names, parent, cleans, foreign: 0 };
        Ok(Self { pool, position: Some(position) })
    }

    async fn step(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let Some(mut position) = self.position.take() else { return Ok(None) };
        let (batch, position) = self.pool.call(move || Ok((position.next_batch()?, position))).await?;
        self.position = batch.is_some().then_some(position);
        Ok(batch)
    }
}

impl Listing for LocalListing {
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<UploadSummary>>> {
        Box::pin(self.step())
    }
}

impl Position {
    fn next_batch(&mut self) -> Result<Option<Vec<UploadSummary>>, Error> {
        let mut batch = Vec::new();
        for _ in 0..STEP {
            let Some(entry) = self.names.read() else {
                if self.cleans && self.foreign > 0 {
                    let (directory, count) = (self.parent, self.foreign);
                    tracing::warn!(%directory, count, "ignored entries that are not uploads");
                }
                return Ok((!batch.is_empty()).then_some(batch));
            };
            let entry = entry.map_err(|errno| failed(format!("listing {}", self.parent), errno))?;
            if let Ok(entry) = entry.file_name().to_str() {
                batch.extend(self.visit(entry));
            }
        }
        Ok(Some(batch))
    }

    fn visit(&mut self, entry: &str) -> Option<UploadSummary> {
        let id = match entry.parse::<UploadId>() {
            Ok(id) => id,
            Err(_) if matches!(entry, "." | "..") => return None,
            Err(_) => {
                match DataDir::removed_id(entry) {
                    Some(id) if self.cleans => self.clean(id, entry),
                    Some(_) => {}
                    None => self.foreign += 1,
                }
                return None;
            }
        };
        let listed = read::listed(&self.data_dir, self.parent, id, self.cleans);
        if self.cleans && listed.has_leftover {
            self.clean(id, entry);
        }
        listed.summary
    }

    /// Removes what a crash left, unless an operation on the upload is running, which may have made it.
    fn clean(&self, id: UploadId, entry: &str) {
        if let Ok(_lock) = Arc::clone(&self.entries.of(id).lock).try_lock_owned() {
            self.data_dir.clean(self.parent, id, entry);
        }
    }
}
