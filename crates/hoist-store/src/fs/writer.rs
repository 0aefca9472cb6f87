//! The writer of the local store.
//!
//! Owns the order of queueing and syncing for one claim. Leaves both to [`write_queue`](super::write_queue) and
//! [`sync`](super::sync).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset};

use super::content::Content;
use super::data_dir::DataDir;
use super::entry::EntryRef;
use super::layout::ParentDirs;
use super::sync::Syncer;
use super::upload_lock::UploadLock;
use super::write_queue::WriteQueue;
use crate::store::{Error, PipeSource, StoreFuture, Writer};

/// Writes to one upload under one claim.
pub(super) struct LocalWriter {
    queue: Arc<WriteQueue>,
    entry: EntryRef,
    data_dir: Arc<DataDir>,
    syncer: Syncer,
}

impl LocalWriter {
    /// Creates the writer of a queue, and registers the queue in the upload's entry.
    pub(super) fn new(
        queue: Arc<WriteQueue>,
        entry: EntryRef,
        data_dir: Arc<DataDir>,
        syncer: Syncer,
    ) -> Self {
        entry.hold(Arc::clone(&queue));
        Self { queue, entry, data_dir, syncer }
    }

    pub(super) fn parents_synced(&self) {
        self.queue.content.parents_synced();
    }

    /// Waits until the accepted bytes are written, unless the claim has ended or writing has failed.
    async fn accepted(&self) -> Result<(), Error> {
        self.queue.check_syncable()?;
        self.queue.idle().await;
        self.queue.check_syncable()
    }

    /// Runs a job of this writer on the content.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Content) -> Result<(T, ParentDirs), Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (content, in_flight) = (Arc::clone(&self.queue.content), self.queue.begin_job()?);
        let job = move || {
            let done = job(&content);
            drop(in_flight);
            done
        };
        self.syncer.call(job).await
    }

    async fn sync_accepted(&self) -> Result<Durable, Error> {
        self.accepted().await?;
        let offset = if let Some(offset) = self.queue.content.end_if_durable() {
            offset
        } else {
            let sync = |content: &Content| {
                content.sync_and_verify().map(|synced| (synced.durable, synced.parents)).map_err(Error::from)
            };
            let durable = self.run(sync).await?;
            self.queue.content.parents_synced();
            durable
        };
        // The bytes stay durable, but a claim that has ended must not answer its client any more.
        self.queue.check_syncable()?;
        #[expect(clippy::disallowed_methods, reason = "a store; everything before the offset is synced")]
        Ok(Durable::attest(Offset::new(offset)))
    }

    async fn mark_from_end(&self) -> Result<(), Error> {
        // The bytes accepted so far stay verified.
        self.accepted().await?;
        // With the upload's lock, so that the directory is neither moved nor removed while the marker is created.
        let guard = Arc::clone(&self.entry.lock).lock_owned().await;
        self.queue.check_syncable()?;
        let lock = UploadLock::new(self.queue.content.id, self.entry.clone(), guard);
        let data_dir = Arc::clone(&self.data_dir);
        let mark = move |content: &Content| {
            content.mark_unverified(data_dir.find(content.id)?.ok_or(Error::Missing)?)?;
            Ok((lock, ParentDirs::NONE))
        };
        self.run(mark).await.map(drop)
    }
}

impl Writer for LocalWriter {
    fn write(&mut self, bytes: Bytes) -> StoreFuture<'_, ()> {
        Box::pin(self.queue.accept(bytes))
    }

    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        bytes_max: usize,
        source: &mut PipeSource<'_>,
    ) -> Poll<Result<Option<NonZeroUsize>, Error>> {
        self.queue.poll_splice(cx, bytes_max, source)
    }

    fn sync(&mut self) -> StoreFuture<'_, Durable> {
        Box::pin(self.sync_accepted())
    }

    fn truncate(&mut self, to: Offset) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.accepted().await?;
            let truncate = move |content: &Content| Ok((content.truncate_to(to.get())?, ParentDirs::NONE));
            self.run(truncate).await
        })
    }

    fn mark_unverified(&mut self) -> StoreFuture<'_, ()> {
        Box::pin(self.mark_from_end())
    }

    fn start_sync(&mut self) -> Durable {
        let (content, syncer) = (Arc::clone(&self.queue.content), self.syncer.clone());
        self.queue
            .start_sync(move |parents| syncer.sync_in_background(parents, move || content.parents_synced()));
        #[expect(clippy::disallowed_methods, reason = "a store; the content reports what it has synced")]
        Durable::attest(Offset::new(self.queue.content.acknowledgeable()))
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        self.entry.detach(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_proto::types::Fence;

    use super::*;
    use crate::fs::tests::upload;
    use crate::fs::{Durability, LocalStore, Options};
    use crate::store::Store as _;

    #[tokio::test]
    async fn start_sync_makes_a_new_upload_durable_soon() {
        for durability in [Durability::Disk, Durability::Os] {
            let directory = tempfile::tempdir().expect("a directory");
            let options = Options { durability, ..Options::default() };
            let store = LocalStore::open(directory.path(), &options).expect("opens");
            let mut writer = store.create(&upload(1, None), Fence::new(1)).await.expect("created");
            let mut acknowledged = Durable::ZERO;
            for end in [5, 10] {
                writer.write(Bytes::from_static(b"hello")).await.expect("accepted");
                let telling = async {
                    while acknowledged.offset() < Offset::new(end) {
                        let now = writer.start_sync();
                        assert!(now >= acknowledged, "{now} after {acknowledged}");
                        acknowledged = now;
                        tokio::task::yield_now().await;
                    }
                };
                let done = tokio::time::timeout(Duration::from_secs(40), telling).await;
                assert!(done.is_ok(), "{durability:?}: only {acknowledged}");
            }
            assert_eq!(writer.sync().await.expect("durable"), acknowledged);
        }
    }
}
