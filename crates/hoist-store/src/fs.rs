//! The default store: plain files in one directory, which an operator can read.
//!
//! `fs/local_store.rs` has the steps of each operation, `fs/layout.rs` the names on disk.

pub use self::events_view::{EventsFound, read_events};
pub use self::local_store::LocalStore;
pub use self::options::{Durability, Headroom, NotADurability, Options};
pub use self::setup::{is_in_use, make_directory};

mod acknowledged;
mod content;
mod data_dir;
mod entry;
mod event_dir;
mod events_view;
mod export;
mod failure;
mod free_space;
mod join;
mod last_used;
mod layout;
mod listing;
mod local_store;
mod marks;
mod options;
mod outbox;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod page;
mod pipe;
mod read;
mod record_cache;
#[cfg_attr(not(any(target_os = "linux", target_os = "android")), path = "fs/no_sender.rs")]
mod sender;
mod setup;
mod sync;
mod sys;
mod task;
#[cfg(test)]
mod tests;
mod thread_pool;
mod upload_dir;
mod upload_lock;
mod write_queue;
mod writer;
