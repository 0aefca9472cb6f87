//! The local store's writer.
//!
//! Owns the joining of a lane and the syncs for one holder. Leaves both to [`lane`](super::lane) and
//! [`sync`](super::sync).

use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset};

use super::entry::Entry;
use super::lane::Lane;
use super::sync::Syncs;
use super::tree::{Shelves, Tree};
use super::turn::Turn;
use crate::store::{Error, Pending, Writer};

/// Writes to one upload for one claim.
pub(super) struct LocalWriter {
    lane: Arc<Lane>,
    entry: Arc<Entry>,
    tree: Arc<Tree>,
    syncs: Syncs,
}

impl LocalWriter {
    /// The writer of a lane, which the upload's entry holds from now on.
    pub(super) fn new(lane: Arc<Lane>, entry: Arc<Entry>, tree: Arc<Tree>, syncs: Syncs) -> Self {
        entry.hold(Arc::clone(&lane));
        Self { lane, entry, tree, syncs }
    }

    pub(super) fn shelf_synced(&self) {
        self.lane.content().shelf_synced();
    }

    async fn make_durable(&self) -> Result<Durable, Error> {
        self.lane.standing()?;
        self.lane.idle().await;
        self.lane.standing()?;
        let offset = match self.lane.content().settled() {
            Some(offset) => offset,
            None => self.confirm().await?,
        };
        // What is durable stays so; but a claim that has ended is told so and gives no answer any more.
        self.lane.standing()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and everything before it has been synced"
        )]
        Ok(Durable::attest(Offset::new(offset)))
    }

    async fn confirm(&self) -> Result<u64, Error> {
        let (content, in_flight) = (Arc::clone(self.lane.content()), self.lane.begin()?);
        let job = move || {
            let confirmed = content.confirm();
            drop(in_flight);
            confirmed.map(|settled| (settled.durable, settled.shelves)).map_err(Error::from)
        };
        let durable = self.syncs.call(job).await?;
        self.lane.content().shelf_synced();
        Ok(durable)
    }

    async fn begin_doubt(&self) -> Result<(), Error> {
        self.lane.standing()?;
        // What was accepted before is in no doubt.
        self.lane.idle().await;
        // With the upload's turn, so that nobody moves or removes the directory under the note.
        let guard = Arc::clone(&self.entry.turn).lock_owned().await;
        self.lane.standing()?;
        let (content, tree) = (Arc::clone(self.lane.content()), Arc::clone(&self.tree));
        let (turn, in_flight) = (Turn::new(content.id(), Arc::clone(&self.entry), guard), self.lane.begin()?);
        let job = move || {
            let place = tree.find(content.id())?.ok_or(Error::Missing)?;
            let doubted = content.mark_unverified(place);
            drop(in_flight);
            doubted?;
            Ok((turn, Shelves::NONE))
        };
        self.syncs.call(job).await.map(drop)
    }
}

impl Writer for LocalWriter {
    fn write(&mut self, bytes: Bytes) -> Pending<'_, Result<(), Error>> {
        Box::pin(self.lane.accept(bytes))
    }

    fn sync(&mut self) -> Pending<'_, Result<Durable, Error>> {
        Box::pin(self.make_durable())
    }

    fn truncate(&mut self, to: Offset) -> Pending<'_, Result<(), Error>> {
        Box::pin(async move {
            self.lane.standing()?;
            self.lane.idle().await;
            self.lane.standing()?;
            let (content, in_flight) = (Arc::clone(self.lane.content()), self.lane.begin()?);
            let job = move || {
                let taken_back = content.take_back(to.get());
                drop(in_flight);
                taken_back.map(|()| ((), Shelves::NONE)).map_err(Error::from)
            };
            self.syncs.call(job).await
        })
    }

    fn mark_unverified(&mut self) -> Pending<'_, Result<(), Error>> {
        Box::pin(self.begin_doubt())
    }

    fn start_sync(&mut self) -> Durable {
        let (content, syncs) = (Arc::clone(self.lane.content()), self.syncs.clone());
        self.lane.start_sync(move |shelves| syncs.behind(shelves, move || content.shelf_synced()));
        #[expect(
            clippy::disallowed_methods,
            reason = "this is a store, and the content knows what it has synced"
        )]
        Durable::attest(Offset::new(self.lane.content().tellable()))
    }
}

impl Drop for LocalWriter {
    fn drop(&mut self) {
        self.lane.orphan(Arc::clone(&self.entry));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hoist_proto::types::Fence;

    use super::super::tests::upload;
    use super::super::{Durability, LocalStore, Options};
    use super::*;
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
