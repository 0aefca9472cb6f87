//! Durable, fenced stores for resumable uploads.
//!
//! A [`store::Store`] keeps uploads: their bytes, and a record beside them. It promises three things, which together make
//! an upload resumable. What it calls durable stays: only a store makes a [`Durable`] offset, after the disk has confirmed
//! every byte before it. What it keeps is a gapless prefix, whatever was interrupted. And the newest claim rules: a
//! request whose [`Fence`] is no longer the newest changes nothing any more, however late its bytes arrive.
//!
//! - [`fs::LocalStore`] is the store to use: plain files in a directory.
//! - [`memory::MemoryStore`] is for tests: it crashes and fails by a seed.
//! - `contract` (a feature) is the suite every store must pass, for authors of others.
//! - [`record`] is the format of the one file besides the bytes.
//!
//! ```
//! use bytes::Bytes;
//! use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
//! use hoist_proto::upload::{
//!     Completion, Excess, Family, Interruption, Origin, Phase, Semantics, Upload,
//! };
//! use hoist_store::fs::{LocalStore, Options};
//! use hoist_store::store::Store;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let store = LocalStore::open(directory.path(), &Options::default())?;
//! let upload = Upload {
//!     id: UploadId::from_bits(*b"sixteen of them!"),
//!     // …
//! #   family: Family::Token,
//! #   semantics: Semantics {
//! #       completion: Completion::AtLengthOrEnd,
//! #       excess: Excess::Invalidates,
//! #       interruption: Interruption::Resumes,
//! #   },
//! #   owner: None,
//! #   composition: hoist_proto::upload::Composition::Direct,
//! #   origin: Origin { method: http::Method::POST, target: "/".to_owned(), fields: http::HeaderMap::new() },
//! #   created: Timestamp::from_millis(0),
//! #   touched: Timestamp::from_millis(0),
//! #   lifetime: None,
//! #   length: None,
//! #   offset: Durable::ZERO,
//!     phase: Phase::Open,
//! };
//!
//! // One request brings six bytes, and is cut.
//! let mut writer = store.create(&upload, Fence::new(1)).await?;
//! writer.write(Bytes::from_static(b"hello ")).await?;
//!
//! // The next one claims the upload, is told where it stands, and goes on. The first can change nothing any more.
//! let found = store.load(upload.id, Fence::new(2)).await?.expect("it is there");
//! assert_eq!(found.offset.offset(), Offset::new(6));
//! assert!(writer.write(Bytes::from_static(b"too late")).await.is_err());
//! let mut writer = store.append(upload.id, found.offset.offset(), Fence::new(2)).await?;
//! writer.write(Bytes::from_static(b"world")).await?;
//! assert_eq!(writer.sync().await?.offset(), Offset::new(11));
//! # Ok(())
//! # }
//! ```
//!
//! [`Durable`]: hoist_proto::types::Durable
//! [`Fence`]: hoist_proto::types::Fence

#[cfg(feature = "contract")]
pub mod contract;
pub mod fs;
pub mod memory;
pub mod record;
pub mod store;
