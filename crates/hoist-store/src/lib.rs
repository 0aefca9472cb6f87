//! Durable, fenced stores for resumable uploads.
//!
//! A [`Store`](store::Store) keeps uploads: their content, and a record of each. It makes three promises, which
//! together make an upload resumable:
//!
//! - **Durable.** A [`Durable`] offset survives a crash with every byte before it. Only a store makes one, after the
//!   storage has confirmed the bytes.
//! - **Gapless.** The stored content is always a prefix of what was sent, however the transfer was interrupted.
//! - **Fenced.** The newest claim wins: a request whose [`Fence`] is no longer the highest changes nothing, however
//!   late its bytes arrive.
//!
//! The crate contains:
//!
//! - [`fs::LocalStore`], the default store: plain files in a directory.
//! - [`memory::MemoryStore`], a store for tests, with seeded faults and crashes.
//! - `contract` (feature `contract`), the suite that every store must pass.
//! - [`record`], the file format of records.
//!
//! # Using a store
//!
//! ```
//! use bytes::Bytes;
//! use hoist_proto::types::{Fence, Offset, UploadId};
//! use hoist_store::fs::{LocalStore, Options};
//! use hoist_store::store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let store = LocalStore::open(directory.path(), &Options::default())?;
//! // A server gets its uploads from the decisions of the engine.
//! let upload = hoist_proto::testing::upload(UploadId::from_bits(*b"sixteen of them!"));
//!
//! // The first request brings six bytes before its connection breaks.
//! let mut writer = store.create(&upload, Fence::new(1)).await?;
//! writer.write(Bytes::from_static(b"hello ")).await?;
//!
//! // The second request takes over at the durable offset. From then on the first one changes nothing.
//! let found = store.load(upload.id, Fence::new(2)).await?.expect("the upload exists");
//! assert_eq!(found.offset.offset(), Offset::new(6));
//! assert!(writer.write(Bytes::from_static(b"too late")).await.is_err());
//! let mut writer = store.append(upload.id, found.offset.offset(), Fence::new(2)).await?;
//! writer.write(Bytes::from_static(b"world")).await?;
//! assert_eq!(writer.sync().await?.offset(), Offset::new(11));
//! # Ok(())
//! # }
//! ```
//!
//! # Writing a store
//!
//! 1. Read the [documentation of the contract](store). It describes fencing, durability and cancellation once for all
//!    methods.
//! 2. Implement [`Store`](store::Store), and [`Writer`](store::Writer), [`Reader`](store::Reader) and
//!    [`Listing`](store::Listing) for the handles it returns. [`record::to_bytes`] and [`record::from_bytes`] convert
//!    the record, with a version and a checksum. [`Store::list_all`](store::Store::list_all) has a default
//!    implementation.
//! 3. Call [`Durable::attest`] where the storage has confirmed everything before the offset, and nowhere else.
//! 4. Enable the feature `contract` in your dev-dependencies, implement `contract::Site`, and call `contract::run` in a
//!    test. `Site::open` opens the store again on what the last one left, which a store that survives crashes should
//!    make as hard as a crash does:
//!
#![cfg_attr(feature = "contract", doc = "```")]
#![cfg_attr(not(feature = "contract"), doc = "```ignore")]
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use hoist_store::contract::{self, Site};
//! use hoist_store::memory::MemoryStore; // yours
//! use hoist_store::store::{BoxFuture, Store};
//!
//! struct Memory(MemoryStore);
//!
//! impl Site for Memory {
//!     fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
//!         self.0.crash();
//!         Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Store> })
//!     }
//!     fn directory(&self) -> &Path {
//!         Path::new("exports")
//!     }
//!     fn exported(&self, name: &str) -> Option<Vec<u8>> {
//!         self.0.exported(self.directory(), name)
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! contract::run(|| Memory(MemoryStore::new())).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! 5. Test what only your store can get wrong: crashes at every step of an operation, full storage, damaged files.
//!
//! [`Durable`]: hoist_proto::types::Durable
//! [`Durable::attest`]: hoist_proto::types::Durable::attest
//! [`Fence`]: hoist_proto::types::Fence

#[cfg(feature = "contract")]
pub mod contract;
mod export_name;
pub mod fs;
pub mod memory;
pub mod record;
pub mod store;

pub use hoist_proto::{types, upload};
