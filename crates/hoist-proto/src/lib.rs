//! Resumable uploads over HTTP as pure functions: no clock, no socket, no file, no task.
//!
//! Four functions are the whole protocol. A [`dialect`] decodes the head of a request into an
//! [`Operation`](operation::Operation) and encodes a [`Reply`](operation::Reply) into the head of a response. The [`engine`]
//! decides the effect of an operation on an [`Upload`](upload::Upload) (`decide`) and the new state of the upload after the
//! content has ended (`settle`). This crate performs no I/O: `hoist-server` adds a store and a transport, `hoist-client` a
//! connection.
//!
//! ```
//! use hoist_proto::{dialect, engine, operation, policy, types};
//!
//! // A request arrives ...
//! let request = http::Request::post("/uploads").header("upload-token", "abcdef").body(())?;
//! let (head, ()) = request.into_parts();
//! let resource = dialect::Resource::Endpoint;
//! let dialect::Detected::Dialect(dialect) = dialect::detect(&head, resource, dialect::DialectOptions::default()) else { panic!() };
//! let decoded = dialect.decode(&head, resource, Some(200)).expect("well-formed");
//!
//! // ... its upload gets an id, and the engine decides how to proceed.
//! let id = types::UploadId::from_bits([7; 16]);
//! let request = engine::UploadRequest { id, principal: None, family: decoded.family, operation: decoded.operation };
//! let now = types::Timestamp::from_millis(0);
//! let decision = engine::decide(None, &request, &policy::Policy::default(), now);
//! assert!(matches!(decision, engine::Decision::Create(_, plan) if plan.room.bytes == 200));
//! # Ok::<(), http::Error>(())
//! ```

pub mod amendment;
pub mod base64;
pub mod client;
pub mod dialect;
pub mod digest;
pub mod engine;
pub mod field;
pub mod hex;
pub mod operation;
pub mod policy;
pub mod refusal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod types;
pub mod upload;
