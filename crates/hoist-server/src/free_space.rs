//! The space that uploads may still take, for metrics.
//!
//! However many ask, one question to the store runs at a time, and a store that does not answer delays none of them for
//! longer than [`ANSWER_TIMEOUT`]: they get the last answer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::shared::Hoist;

const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// Returns the bytes that uploads may still take; `None` if the store does not know.
pub(crate) async fn free_bytes(hoist: &Hoist) -> Option<u64> {
    let free_space = &hoist.shared().free_space;
    let mut last = free_space.last.subscribe();
    last.mark_unchanged();
    let answered = async {
        if free_space.is_asked.swap(true, Ordering::AcqRel) {
            // The answer to the question that is asked already.
            let _ = last.changed().await;
        } else {
            // In a task of the server: the next caller must not wait for a question that was dropped.
            let _ = hoist
                .own(|shared| async move {
                    let free_bytes = shared.store.free_bytes().await;
                    shared.free_space.is_asked.store(false, Ordering::Release);
                    shared.free_space.last.send_replace(free_bytes);
                    Ok(())
                })
                .await;
        }
    };
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
    *free_space.last.borrow()
}
