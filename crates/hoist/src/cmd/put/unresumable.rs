//! The running uploads that no later run can resume: those of standard input and pipes, and of files without a journal. If
//! the run ends before them, they are cancelled on the server.

use std::sync::{Mutex, PoisonError};

use hoist_client::{Client, Handle};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The handle of a running upload, once it is known.
type HandleSlot = watch::Receiver<Option<Handle>>;

/// The running uploads that no later run can resume, by the name of their file.
#[derive(Default)]
pub(super) struct Unresumable(Mutex<Vec<(String, HandleSlot)>>);

impl Unresumable {
    pub(super) fn add(&self, file: &str, handle: HandleSlot) {
        self.uploads().push((file.to_owned(), handle));
    }

    /// Removes an upload that has ended.
    pub(super) fn remove(&self, file: &str) {
        self.uploads().retain(|(name, _)| name != file);
    }

    /// Returns the files whose upload starts over with the next run.
    pub(super) fn files(&self) -> Vec<String> {
        self.uploads().iter().map(|(file, _)| file.clone()).collect()
    }

    /// Cancels the upload of one file on the server, if the server answers.
    pub(super) async fn cancel_one(&self, file: &str, client: &Client) {
        let slot = self.uploads().iter().find(|(name, _)| name == file).map(|(_, slot)| slot.clone());
        let handle = slot.and_then(|slot| slot.borrow().clone());
        if let Some(handle) = handle {
            client.abandon(&handle).await;
        }
    }

    /// Cancels the uploads on the server, as far as it answers.
    pub(super) async fn cancel_all(&self, client: &Client) {
        let handles: Vec<_> =
            self.uploads().drain(..).filter_map(|(_, slot)| slot.borrow().clone()).collect();
        let mut cancellations = JoinSet::new();
        for handle in handles {
            let client = client.clone();
            cancellations.spawn(async move { client.abandon(&handle).await });
        }
        while cancellations.join_next().await.is_some() {}
    }

    fn uploads(&self) -> std::sync::MutexGuard<'_, Vec<(String, HandleSlot)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
