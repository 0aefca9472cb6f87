//! The local store's writer.
//!
//! Owns the joining of a lane and the syncs for one holder. Leaves both to [`queue`](super::queue) and
//! [`sync`](super::sync).

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset};

use super::data_dir::DataDir;
use super::entry::Entry;
use super::layout::ParentDirs;
use super::sync::Syncer;
use super::upload_lock::UploadLock;
use super::write_queue::WriteQueue;
use crate::store::{BoxFuture, Error, Writer};

/// Writes to one upload for one claim.
pub(super) struct LocalWriter {
    queue: Arc<WriteQueue>,
    entry: Arc<Entry>,
    data_dir: Arc<DataDir>,
    syncer: Syncer,
}

impl LocalWriter {
    /// The writer of a lane, which the upload's entry holds from now on.
    pub(super) fn new(
        queue: Arc<WriteQueue>,
        entry: Arc<Entry>,
        data_dir: Arc<DataDir>,
        syncer: Syncer,
    ) -> Self {
        entry.hold(Arc::clone(&queue));
        Self { queue, entry, data_dir, syncer }
    }

    pub(super) fn parents_synced(&self) {
        self.queue.content().parents_synced();
    }

    async fn make_durable(&self) -> Result<Durable, Error> {
        self.queue.check_syncable()?;
        self.queue.idle().await;
        self.queue.check_syncable()?;
        let offset = match self.queue.content().settled() {
            Some(offset) => offset,
            None => self.confirm().await?,
        };
        // What is durable stays so; but a claim that has ended is told so and gives no answer any more.
        self.queue.check_syncable()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and everything before it has been synced"
        )]
        Ok(Durable::attest(Offset::new(offset)))
    }

    async fn confirm(&self) -> Result<u64, Error> {
        let (content, in_flight) = (Arc::clone(self.queue.content()), self.queue.begin()?);
        let job = move || {
            let confirmed = content.confirm();
            drop(in_flight);
            confirmed.map(|settled| (settled.durable, settled.parents)).map_err(Error::from)
        };
        let durable = self.syncer.call(job).await?;
        self.queue.content().parents_synced();
        Ok(durable)
    }

    async fn mark_unverified_from_end(&self) -> Result<(), Error> {
        self.queue.check_syncable()?;
        // What was accepted before is in no doubt.
        self.queue.idle().await;
        // With the upload's turn, so that nobody moves or removes the directory under the note.
        let guard = Arc::clone(&self.entry.lock).lock_owned().await;
        self.queue.check_syncable()?;
        let (content, data_dir) = (Arc::clone(self.queue.content()), Arc::clone(&self.data_dir));
        let (lock, in_flight) =
            (UploadLock::new(content.id(), Arc::clone(&self.entry), guard), self.queue.begin()?);
        let job = move || {
            let upload_dir = data_dir.find(content.id())?.ok_or(Error::Missing)?;
            let doubted = content.mark_unverified(upload_dir);
            drop(in_flight);
            doubted?;
            Ok((lock, ParentDirs::NONE))
        };
        self.syncer.call(job).await.map(drop)
    }
}

impl Writer for LocalWriter {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.queue.accept(bytes))
    }

    fn sync(&mut self) -> BoxFuture<'_, Result<Durable, Error>> {
        Box::pin(self.make_durable())
    }

    fn truncate(&mut self, to: Offset) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.queue.check_syncable()?;
            self.queue.idle().await;
            self.queue.check_syncable()?;
            let (content, in_flight) = (Arc::clone(self.queue.content()), self.queue.begin()?);
            let job = move || {
                let taken_back = content.truncate_to(to.get());
                drop(in_flight);
                taken_back.map(|()| ((), ParentDirs::NONE)).map_err(Error::from)
            };
            self.syncer.call(job).await
        })
    }

    fn mark_unverified(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.mark_unverified_from_end())
    }

    fn start_sync(&mut self) -> Durable {
        let (content, syncer) = (Arc::clone(self.queue.content()), self.syncer.clone());
        self.queue.start_sync(move |parents| syncer.behind(parents, move || content.parents_synced()));
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and the content knows what it has synced"
        )]
        Durable::attest(Offset::new(self.queue.content().acknowledgeable()))
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
    async fn what_is_hastened_can_soon_be_told_of_an_upload_just_created() {
        for durability in [Durability::Disk, Durability::Os] {
            let directory = tempfile::tempdir().expect("a directory");
            let options = Options { durability, ..Options::default() };
            let store = LocalStore::open(directory.path(), &options).expect("opens");
            let mut writer = store.create(&upload(1, None), Fence::new(1)).await.expect("created");
            let mut told = Durable::ZERO;
            for end in [5, 10] {
                writer.write(Bytes::from_static(b"hello")).await.expect("accepted");
                let telling = async {
                    while told.offset() < Offset::new(end) {
                        let now = writer.start_sync();
                        assert!(now >= told, "{now} after {told}");
                        told = now;
                        tokio::task::yield_now().await;
                    }
                };
                let done = tokio::time::timeout(Duration::from_secs(40), telling).await;
                assert!(done.is_ok(), "{durability:?}: nothing is told but {told}");
            }
            assert_eq!(writer.sync().await.expect("durable"), told);
        }
    }
}
