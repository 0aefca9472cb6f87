//! The contract between the server and a store: [`Store`], [`Writer`], [`Reader`] and [`Listing`].
//!
//! A store keeps uploads. Each upload has an id, a record (an [`Upload`]: its origin, length, phase and saved answer)
//! and content (bytes without gaps, from offset zero). `fs.rs` and `memory.rs` implement the contract and `contract.rs`
//! tests it. Protocol decisions are made in `hoist-proto`: a store knows no status code and no dialect.
//!
//! # The life of an upload
//!
//! ```text
//!  create ──▶ Phase::Open ──────────────── commit ──▶ Received ── commit ──▶ Delivered, Failed ── remove ──▶ unknown
//!             load, then append and write,            the whole content      the target's answer is in the record
//!             once per request that brings content    is here                discard, or commit_and_discard: the
//!             (or join, once all parts are here)                             content is freed, the record stays
//! ```
//!
//! 1. [`create`](Store::create) stores the record and returns a [`Writer`] at offset zero.
//! 2. [`Writer::write`] accepts bytes, [`Writer::sync`] makes them durable. Only a synced offset is acknowledged to the
//!    client, because only a store makes a [`Durable`].
//! 3. Every later request takes a higher [`Fence`], calls [`load`](Store::load), which ends the previous writer, and
//!    continues with [`append`](Store::append).
//! 4. [`commit`](Store::commit) replaces the record when the length becomes known and when the phase changes. An upload
//!    [made of parts](hoist_proto::upload::Composition::is_composed) gets its content by [`join`](Store::join) instead of a writer.
//! 5. The target takes the content by [`read`](Store::read) or [`export`](Store::export). Its answer is committed.
//! 6. [`discard`](Store::discard) frees the content and keeps the record, so that the upload's state can still be
//!    queried and its answer replayed. [`remove`](Store::remove) deletes both.
//!
//! # Fencing
//!
//! Every call that changes an upload carries the [`Fence`] of the claim under which it is made. The store remembers the
//! highest fence it has seen for each upload. A call with a lower fence fails with [`Error::Fenced`] and changes
//! nothing, however late it arrives. A call with a higher fence ends the writer of the lower one: bytes which that
//! writer has accepted are stored, or dropped if the upload is removed, before the call reads or changes anything. A
//! call with the same fence belongs to the same claim and leaves the writer alone, unless the method says otherwise.
//!
//! [`create`](Store::create) takes its fence only if the id is free. [`peek`](Store::peek), [`read`](Store::read) and
//! [`list`](Store::list) take no fence and end no writer.
//!
//! Fences need not survive a restart: claims do not, either.
//!
//! # Durability
//!
//! A [`Durable`] offset is a promise: after a crash, the upload exists with at least that many bytes, and they are the
//! bytes that were written. A store calls [`Durable::attest`] only after the storage has confirmed every byte before
//! the offset, the record, and the names under which both are found. After a failed sync the store must not confirm the
//! affected bytes later, since an operating system may report such a failure only once.
//!
//! The content is always a prefix without gaps: once one byte could not be stored, no later byte is.
//!
//! # Concurrency and cancellation
//!
//! Methods may be called concurrently, for one upload and for many. Calls that change the same upload take effect one
//! after the other. No method may block the thread of the runtime.
//!
//! A future that is dropped must leave the upload in a state that the `# Cancellation` section of its method allows,
//! and must not block later calls. Work that has begun may continue in the background.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Phase, Upload};

pub use self::error::Error;
pub use self::outbox::{DeadEvent, Delivery, EventSource, Outbox, PendingSource, SourceListing};
pub use self::page::{BadPosition, Page, Position};
pub use self::summary::{UploadGroup, UploadSummary};

mod error;
pub(crate) mod outbox;
mod page;
mod summary;

/// The files of an upload, by their absolute paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPaths {
    /// The content. The file may be moved away once the upload is delivered.
    pub content: PathBuf,
    /// The record.
    pub record: PathBuf,
}

/// A boxed future, which lets the store be chosen at run time. Costs one allocation per call, none per byte.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The future of a store's method.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Storage for uploads: their content, and a record of each.
///
/// The [module documentation](self) describes fencing, durability and cancellation, which are the same for all methods.
/// Every method returns [`Error::Io`] if the storage fails, and every method with a fence returns [`Error::Fenced`] if a
/// higher one was seen for the upload. Unless a method says otherwise, its future is safe to drop.
pub trait Store: Send + Sync + 'static {
    /// Creates an upload without content and opens it for writing at offset zero.
    ///
    /// The record becomes durable with the first successful [`Writer::sync`], or earlier. Until then a crash may delete
    /// the upload. [`Upload::offset`] is ignored.
    ///
    /// If [`Upload::length`] is known and larger than the free space, the call fails at once. No space is reserved: an
    /// upload takes only the space of the bytes that have arrived.
    ///
    /// # Errors
    /// - [`Error::Exists`] if the id is taken. The fence is then not taken, and a transfer to that upload continues
    ///   (upload-token: TOK-CRE-05).
    /// - [`Error::Full`] if there is no space. Nothing is left behind.
    ///
    /// # Cancellation
    /// If dropped, the upload exists without content, or does not exist.
    fn create<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, Box<dyn Writer>>;

    /// Creates a complete upload with all its content, durably, and returns where the content ends.
    ///
    /// The effect is that of [`create`](Store::create), [`Writer::write`], [`Writer::sync`] and [`commit`](Store::commit),
    /// as the default does it. A store may take fewer steps.
    ///
    /// # Errors
    /// As for [`create`](Store::create) and [`commit`](Store::commit), and [`Error::Io`] if the upload accepts more bytes.
    /// Nothing is left behind, except after a second failure, and then only what a crash may leave.
    ///
    /// # Cancellation
    /// If dropped, the upload exists, complete or not, or does not exist.
    fn create_whole<'a>(
        &'a self,
        upload: &'a Upload,
        content: Vec<Bytes>,
        fence: Fence,
    ) -> StoreFuture<'a, Durable> {
        Box::pin(async move {
            if !upload.is_complete() {
                let doing = "creating an upload with all its content that accepts more".to_owned();
                return Err(Error::Io { doing, source: std::io::ErrorKind::InvalidInput.into() });
            }
            let open = Upload { phase: Phase::Open, ..upload.clone() };
            let mut writer = self.create(&open, fence).await?;
            let created = async {
                let bytes = content.iter().map(|bytes| bytes.len() as u64).sum();
                for piece in content {
                    writer.write(piece).await?;
                }
                let end = writer.sync().await?;
                drop(writer);
                if end.offset() != Offset::new(bytes) {
                    return Err(Error::Full);
                }
                self.commit(upload, fence).await.map(|()| end)
            };
            let created = created.await;
            if created.is_err() {
                // Best effort. The upload expires.
                let _ = self.remove(upload.id, fence).await;
            }
            created
        })
    }

    /// Reads an upload and takes the fence. Returns `None` if there is no such upload.
    ///
    /// Bytes that the writer of a lower fence has accepted are stored first, and that writer gets [`Error::Fenced`]
    /// from then on. A writer of the same fence continues. The returned [`Upload::offset`] is durable, and
    /// [`Upload::touched`] is the time of the last stored byte or of the last commit, whichever is later.
    ///
    /// # Errors
    /// Returns [`Error::Damaged`] if record and content contradict each other, or the content is shorter than the offset
    /// that was acknowledged.
    ///
    /// # Cancellation
    /// Safe to drop. The fence may have been taken.
    fn load(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, Option<Upload>>;

    /// Reads an upload without taking a fence, so that a running transfer continues. Returns `None` if there is no such
    /// upload.
    ///
    /// The returned offset is durable. It counts the accepted bytes of a running writer as far as they are written.
    ///
    /// # Errors
    /// - [`Error::Damaged`] as for [`load`](Store::load).
    fn peek(&self, id: UploadId) -> StoreFuture<'_, Option<Upload>>;

    /// Opens an upload in [`Phase::Open`] for writing after its last byte.
    ///
    /// `at` is the offset that [`load`](Store::load) returned, and must be where the content ends. An upload has at
    /// most one writer: an earlier one gets [`Error::Fenced`] from then on, even if it has the same fence.
    ///
    /// # Errors
    /// - [`Error::Missing`] if there is no such upload, if it is complete, or if its parts were
    ///   [joined](Store::join).
    /// - [`Error::Damaged`] if the content does not end at `at`.
    fn append(&self, id: UploadId, at: Offset, fence: Fence) -> StoreFuture<'_, Box<dyn Writer>>;

    /// Returns the paths of the files in which an upload in this phase is kept, for programs beside the server; `None` if
    /// the store has none. Does not look at the files.
    fn paths(&self, upload: &Upload) -> Option<UploadPaths> {
        let _ = upload;
        None
    }

    /// Returns an upload from memory, if no call that may change it is in progress and its state is there. Never waits.
    /// `None` says nothing about the upload. Takes no fence.
    ///
    /// The state is what a [`load`](Store::load) in place of this call would return.
    fn recall(&self, id: UploadId) -> Option<Upload> {
        let _ = id;
        None
    }

    /// Replaces the record of an upload, atomically and durably.
    ///
    /// [`Upload::offset`] is ignored. If the new phase accepts no more bytes, the content is made durable before the
    /// record, and the writer, if any, gets [`Error::Fenced`] from then on.
    ///
    /// # Errors
    /// The old record stays valid.
    /// - [`Error::Missing`] if there is no such upload.
    /// - [`Error::Full`] if there is no space.
    ///
    /// # Cancellation
    /// If dropped, either the old or the new record is valid.
    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()>;

    /// Combines [`commit`](Store::commit) and [`discard`](Store::discard) in one step, for an upload whose content was
    /// moved elsewhere or is worthless.
    ///
    /// The new phase must accept no more bytes. If a crash leaves the content beside the new record, which states the
    /// offset, the next [`list`](Store::list) frees it.
    ///
    /// # Errors
    /// As for [`commit`](Store::commit), and [`Error::Io`] if the new phase accepts more bytes.
    ///
    /// # Cancellation
    /// If dropped, either the old record with the content or the new record is valid. The same holds after a crash.
    fn commit_and_discard<'a>(&'a self, upload: &'a Upload, fence: Fence) -> StoreFuture<'a, ()>;

    /// Gives an upload the content of `parts`, one after the other, and returns its length.
    ///
    /// The upload is open, [made of parts](hoist_proto::upload::Composition::is_composed) and without content. The
    /// parts are complete and stay as they are; one id may occur several times. Their fences are not checked. The
    /// upload's writer, if any, gets [`Error::Fenced`] from then on.
    ///
    /// The content is durable when the call returns. A crash leaves the upload without content or with all of it. Parts
    /// that are removed later do not change the content. A store should avoid moving the bytes through this process
    /// where the storage can join on its own.
    ///
    /// # Errors
    /// The upload stays without content.
    /// - [`Error::Missing`] if the upload or a part does not exist, if the upload is complete, or if the content of a
    ///   part was discarded.
    /// - [`Error::Full`] if there is no space.
    /// - [`Error::Damaged`] if a part is damaged.
    /// - [`Error::Io`] if a part is not complete, or if the upload has content or is not made of parts.
    ///
    /// # Cancellation
    /// If dropped, the upload has no content or all of it.
    fn join<'a>(&'a self, id: UploadId, parts: &'a [UploadId], fence: Fence) -> StoreFuture<'a, Durable>;

    /// Opens the content for reading, from an offset to its current end. Takes no fence.
    ///
    /// Unverified bytes ([`Writer::mark_unverified`]) are not part of the content. From an offset at or after the end
    /// the reader returns no bytes.
    ///
    /// # Errors
    /// - [`Error::Missing`] if there is no such upload, or its content was discarded.
    /// - [`Error::Damaged`] as for [`load`](Store::load).
    fn read(&self, id: UploadId, from: Offset) -> StoreFuture<'_, Box<dyn Reader>>;

    /// Gives the content a name outside the store, durably, and returns that name.
    ///
    /// The name is `name` in `directory`: up to 64 segments separated by `/`, which the caller has made safe. Missing
    /// directories are created, durably too. Nothing is overwritten and no link is followed: if the name of the file is
    /// taken, the upload's id is added to it, and if the name of a directory is taken by something else, `-dir`.
    /// Idempotent: for the same upload, a repeated call, also after a crash, finds the earlier export and returns its
    /// name. Within one file system no byte is copied.
    ///
    /// # Errors
    /// - [`Error::Missing`] if there is no such upload, or its content was discarded.
    /// - [`Error::Full`] if a copy is needed and does not fit.
    /// - [`Error::Io`] if `name` has an empty segment, `.` or `..`, or too many segments.
    ///
    /// # Cancellation
    /// If dropped, the name may or may not exist. Repeat the call to find out.
    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> StoreFuture<'a, String>;

    /// Frees the content of a complete upload and keeps its record, which states the offset from then on. Idempotent.
    ///
    /// # Errors
    /// - [`Error::Missing`] if there is no such upload.
    /// - [`Error::Io`] if the upload is not complete.
    /// - [`Error::Full`] if there is no space for the record.
    ///
    /// # Cancellation
    /// If dropped, the content may or may not exist. The record is right in both cases.
    fn discard(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()>;

    /// Deletes an upload, record and content, even if it is damaged. The id is free afterwards.
    ///
    /// Accepted bytes that are not yet written are dropped. The fence stays taken.
    ///
    /// # Errors
    /// - [`Error::Missing`] if there is no such upload.
    ///
    /// # Cancellation
    /// If dropped, the upload exists as a whole or not at all.
    fn remove(&self, id: UploadId, fence: Fence) -> StoreFuture<'_, ()>;

    /// Lists the uploads of a group in small batches, in no particular order. Takes no fence.
    ///
    /// An upload that cannot be read is logged and omitted.
    ///
    /// An upload that exists during the whole listing is in it. An upload that is created, completed or removed
    /// meanwhile may or may not be. A caller that lists [`Open`](UploadGroup::Open) and then
    /// [`Complete`](UploadGroup::Complete) sees every upload, and possibly twice if it was completed in between.
    fn list(&self, group: UploadGroup) -> StoreFuture<'_, Box<dyn Listing>>;

    /// Reads at most `reads_max` uploads of a group, at least one, from a position on that an earlier page of the group
    /// ended with, or from the start. Takes no fence.
    ///
    /// An upload that cannot be read is logged and omitted, so a page may be empty and have a next one.
    ///
    /// An upload that is in the group from the first page to the last is on exactly one of them, whatever happens to other
    /// uploads in between. The default reads the whole group for each page; a store that is larger should not.
    ///
    /// # Errors
    /// Returns [`Error::BadPosition`] if the position cannot be one of this store.
    fn page<'a>(
        &'a self,
        group: UploadGroup,
        from: Option<&'a Position>,
        reads_max: usize,
    ) -> StoreFuture<'a, Page> {
        Box::pin(async move {
            let after = match from.map(|from| from.as_str().parse::<UploadId>()) {
                None => None,
                Some(Ok(after)) => Some(after),
                Some(Err(_)) => return Err(Error::BadPosition),
            };
            let mut uploads = Vec::new();
            let mut listing = self.list(group).await?;
            while let Some(summaries) = listing.next().await? {
                uploads.extend(summaries.into_iter().filter(|summary| Some(summary.id) > after));
            }
            uploads.sort_unstable_by_key(|summary| summary.id);
            let is_last = uploads.len() <= reads_max.max(1);
            uploads.truncate(reads_max.max(1));
            let next =
                uploads.last().filter(|_| !is_last).and_then(|last| Position::new(last.id.to_string()));
            Ok(Page { uploads, next })
        })
    }

    /// Returns all uploads, sorted by id. For tests and for stores that are known to be small.
    fn list_all(&self) -> StoreFuture<'_, Vec<UploadSummary>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for group in [UploadGroup::Open, UploadGroup::Complete] {
                let mut listing = self.list(group).await?;
                while let Some(summaries) = listing.next().await? {
                    all.extend(summaries);
                }
            }
            // An upload completed between the listings is in both. Its second summary is the newer one.
            all.reverse();
            let mut listed = HashSet::new();
            all.retain(|summary: &UploadSummary| listed.insert(summary.id));
            all.sort_unstable_by_key(|summary| summary.id);
            Ok(all)
        })
    }

    /// Returns the value of the last [`set_last_used`](Store::set_last_used), or `None` if there is none.
    ///
    /// A store that holds uploads but no such value may return the newest time it knows.
    fn last_used(&self) -> StoreFuture<'_, Option<LastUsed>>;

    /// Stores the time at which the store was in use, and the steps of the clock. With it, the next start can detect a
    /// clock that is wrong.
    /// Need not be durable, because an older value is as good.
    ///
    /// # Errors
    /// Returns [`Error::Full`] if there is no space. The previous value is kept.
    ///
    /// # Cancellation
    /// If dropped, either the old or the new value is kept.
    fn set_last_used<'a>(&'a self, last_used: &'a LastUsed) -> StoreFuture<'a, ()>;

    /// Returns the outbox, if the store keeps events. If not, events in records are kept and never delivered.
    fn outbox(&self) -> Option<&dyn Outbox> {
        None
    }

    /// Takes a task over, to run it where it may wait for the storage. A store that blocks threads runs it on threads of its
    /// own, and does the work of the task's calls there. It ends the task with the runtime that the caller is in, whose
    /// timers and sockets the task uses. A panic of the task ends the task alone.
    ///
    /// A store without such threads returns the task, for the caller to spawn.
    ///
    /// # Panics
    /// Panics outside of a tokio runtime.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> Option<BoxFuture<'static, ()>> {
        Some(task)
    }

    /// Checks that the store can be reached and written to. Called by readiness probes.
    ///
    /// # Errors
    /// Returns what is wrong, for an operator to read; [`Error::Full`] if there is no space.
    fn check_health(&self) -> StoreFuture<'_, ()>;

    /// Returns the bytes that uploads may still take; `None` if the store does not know. The default knows nothing.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn free_bytes(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(std::future::ready(None))
    }
}

/// Moves the next bytes of content into an empty pipe. See [`Writer::poll_splice`].
pub type PipeSource<'a> =
    dyn FnMut(&mut Context<'_>, BorrowedFd<'_>, usize) -> Poll<Option<NonZeroUsize>> + 'a;

/// Writes the content of one request, in order.
///
/// Dropping a writer keeps the bytes it has accepted. The next [`Store::load`] makes them durable and counts them.
/// Unverified bytes are dropped, at the latest by the next claim.
///
/// All methods return [`Error::Fenced`] once another writer or a higher fence has taken over, or the upload is
/// complete.
pub trait Writer: Send {
    /// Accepts the next bytes. They may be stored later.
    ///
    /// Waits while too many bytes are queued, for this upload or for all. An empty buffer is accepted and changes
    /// nothing.
    ///
    /// # Errors
    /// Returns [`Error::Full`] or [`Error::Io`] if these bytes or earlier ones could not be stored. No later byte is
    /// stored then, so the content has no gap.
    ///
    /// # Cancellation
    /// If dropped, either all the bytes are accepted or none.
    fn write(&mut self, bytes: Bytes) -> StoreFuture<'_, ()>;

    /// Accepts at most `bytes_max` of the next bytes from a pipe, which `source` fills, and returns their number. They do not
    /// enter the process.
    ///
    /// `source` gets an empty pipe and the most bytes to move into it. It returns how many it has moved, or `None` if it
    /// has none. Pending means that it waits, and has moved none.
    ///
    /// `None` means that nothing was accepted, because the source had nothing or because the writer cannot take bytes from
    /// a pipe, at least not now. The caller then uses [`write`](Writer::write), and may try again later.
    ///
    /// # Errors
    /// As for [`write`](Writer::write). The bytes that the source had moved may be lost.
    fn poll_splice(
        &mut self,
        _cx: &mut Context<'_>,
        _bytes_max: usize,
        _source: &mut PipeSource<'_>,
    ) -> Poll<Result<Option<NonZeroUsize>, Error>> {
        Poll::Ready(Ok(None))
    }

    /// Makes all accepted bytes durable and returns the offset of their end. Verifies unverified bytes
    /// ([`mark_unverified`](Writer::mark_unverified)).
    ///
    /// If the store is full, it succeeds with the offset of the bytes that fitted. That offset may be the only sign
    /// that the last accepted bytes did not fit.
    ///
    /// # Errors
    /// Returns [`Error::Io`] if the storage does not confirm the bytes. They are truncated where possible, and must
    /// never be confirmed later.
    ///
    /// # Cancellation
    /// If dropped, the bytes may or may not be durable.
    fn sync(&mut self) -> StoreFuture<'_, Durable>;

    /// Drops the bytes from offset `to` on. For content found worthless before its offset was acknowledged.
    ///
    /// `to` is not less than the offset at which this writer began. The content ends at `to` when the call returns; a
    /// crash before may leave more.
    ///
    /// # Errors
    /// As for [`sync`](Writer::sync).
    ///
    /// # Cancellation
    /// If dropped, the content may or may not be truncated.
    fn truncate(&mut self, to: Offset) -> StoreFuture<'_, ()>;

    /// Marks the bytes that are written from now on as unverified, until their digest has been compared.
    ///
    /// Unverified bytes are not part of the content: [`Store::load`], [`Store::peek`], [`Store::read`] and
    /// [`Store::list`] ignore them, and so does recovery after a crash. [`sync`](Writer::sync) verifies them.
    /// [`truncate`](Writer::truncate) to their first byte, or before it, drops them. A higher fence and a commit that
    /// completes the upload drop them at once, dropping the writer does so sooner or later. A second call has no effect
    /// while bytes are unverified.
    ///
    /// # Errors
    /// As for [`sync`](Writer::sync). The mark is then not set, and no bytes should be written.
    ///
    /// # Cancellation
    /// If dropped, the mark may or may not be set.
    fn mark_unverified(&mut self) -> StoreFuture<'_, ()>;

    /// Starts to make the accepted bytes durable, without waiting, and returns the offset that is durable already.
    ///
    /// A store without such an operation returns the offset it knows to be durable.
    fn start_sync(&mut self) -> Durable;
}

/// Reads content in order.
pub trait Reader: Send {
    /// Returns the next bytes, at least one and at most 256 KiB; `None` at the end.
    ///
    /// # Errors
    /// - [`Error::Damaged`] if the content ends too early.
    /// - [`Error::Io`] if the storage fails.
    ///
    /// # Cancellation
    /// If dropped, no byte is skipped.
    fn next(&mut self) -> StoreFuture<'_, Option<Bytes>>;

    /// Sends the next `bytes` bytes to a socket, without reading them into the memory of the process, as fast as the
    /// socket takes them. Adds to `sent` what it has taken. Returns whether that is possible; if not, nothing was sent.
    ///
    /// The socket is in nonblocking mode.
    ///
    /// # Errors
    /// As for [`next`](Reader::next); [`Error::Io`] also if the socket fails.
    ///
    /// # Cancellation
    /// If dropped, some more bytes may still be sent, and the reader does not know how many were.
    fn send<'a>(
        &'a mut self,
        _socket: &'a Arc<OwnedFd>,
        _bytes: u64,
        _sent: &'a Arc<AtomicU64>,
    ) -> StoreFuture<'a, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// The uploads of a [`Store::list`], in batches.
pub trait Listing: Send {
    /// Returns the next batch, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// Returns [`Error::Io`] if the storage fails.
    ///
    /// # Cancellation
    /// If dropped, some uploads of the next batch may be skipped.
    fn next(&mut self) -> StoreFuture<'_, Option<Vec<UploadSummary>>>;
}

/// The time of the last use of a store, by a wall clock that may have been set since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUsed {
    /// The last time at which the store was in use and the clock was trusted.
    pub at: Timestamp,
    /// The steps of the clock, oldest first. Times that the store has recorded before a step are corrected by it.
    pub steps: Vec<ClockStep>,
}

/// One step of the wall clock, and the correction for the times that were recorded before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// The first time that is corrected.
    pub since: Timestamp,
    /// The last time that is corrected.
    pub until: Timestamp,
    /// The duration that is added to a time.
    pub by: Duration,
    /// The upper bound of corrected times.
    pub to: Timestamp,
}
