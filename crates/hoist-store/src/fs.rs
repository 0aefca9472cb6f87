//! The default store: plain files in one directory, which an operator can read.
//!
//! `fs/local_store.rs` has the steps of each operation, `fs/layout.rs` the names on disk.

use std::path::Path;
use std::sync::Arc;

use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;

use self::layout::{ParentDir, ParentDirs};
use self::listing::LocalListing;
use self::local_store::ContentFate;
pub use self::local_store::LocalStore;
pub use self::options::{Durability, Headroom, NotADurability, Options};
pub use self::setup::make_directory;
use crate::store::{BoxFuture, Error, LastUsed, Listing, Reader, Store, UploadGroup, Writer};

mod acknowledged;
mod content;
mod data_dir;
mod entry;
mod export;
mod failure;
mod free_space;
mod join;
mod last_used;
mod layout;
mod listing;
mod local_store;
mod mutex;
mod options;
mod read;
mod setup;
mod sync;
mod sys;
#[cfg(test)]
mod tests;
mod thread_pool;
mod upload_dir;
mod upload_lock;
mod write_queue;
mod writer;

impl Store for LocalStore {
    fn create<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> BoxFuture<'a, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.create_upload(upload, fence))
    }

    fn load(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.load_upload(id, fence))
    }

    fn peek(&self, id: UploadId) -> BoxFuture<'_, Result<Option<Upload>, Error>> {
        Box::pin(self.peek_upload(id))
    }

    fn append(
        &self,
        id: UploadId,
        at: Offset,
        fence: Fence,
    ) -> BoxFuture<'_, Result<Box<dyn Writer>, Error>> {
        Box::pin(self.open_writer(id, at, fence))
    }

    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.commit_record(upload, fence, ContentFate::Kept))
    }

    fn commit_and_discard<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.commit_record(upload, fence, ContentFate::Discarded))
    }

    fn join<'a>(
        &'a self,
        id: UploadId,
        parts: &'a [UploadId],
        fence: Fence,
    ) -> BoxFuture<'a, Result<Durable, Error>> {
        Box::pin(self.join_parts(id, parts, fence))
    }

    fn read(&self, id: UploadId, from: Offset) -> BoxFuture<'_, Result<Box<dyn Reader>, Error>> {
        let (data_dir, pool) = (Arc::clone(&self.data_dir), self.io_pool.clone());
        Box::pin(self.io_pool.call(move || read::open(&data_dir, id, from, pool)))
    }

    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(self.export_content(id, directory, name, fence))
    }

    fn discard(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.discard_content(id, fence))
    }

    fn remove(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.remove_upload(id, fence))
    }

    fn list(
        &self,
        group: UploadGroup,
        unchanged_since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<Box<dyn Listing>, Error>> {
        let parent = match group {
            UploadGroup::Open => ParentDir::Open,
            UploadGroup::Complete => ParentDir::Done,
        };
        let (data_dir, entries) = (Arc::clone(&self.data_dir), Arc::clone(&self.entries));
        let pool = self.bulk_pool.clone();
        Box::pin(self.bulk_pool.call(move || {
            let listing = LocalListing::begin(data_dir, entries, parent, unchanged_since, pool)?;
            Ok(Box::new(listing) as Box<dyn Listing>)
        }))
    }

    fn last_used(&self) -> BoxFuture<'_, Result<Option<LastUsed>, Error>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.io_pool.call(move || last_used::read(&data_dir)))
    }

    fn set_last_used<'a>(&'a self, last_used: &'a LastUsed) -> BoxFuture<'a, Result<(), Error>> {
        let (data_dir, last_used) = (Arc::clone(&self.data_dir), last_used.clone());
        Box::pin(self.io_pool.call(move || last_used::write(&data_dir, &last_used)))
    }

    fn check_health(&self) -> BoxFuture<'_, Result<(), Error>> {
        let data_dir = Arc::clone(&self.data_dir);
        Box::pin(self.syncer.call(move || data_dir.check_health().map(|()| ((), ParentDirs::NONE))))
    }
}
