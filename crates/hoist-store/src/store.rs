//! What a store is: the traits the server drives, and the errors they answer with.
//!
//! Owns the contract; `contract.rs` tests it, `fs.rs` and `memory.rs` fulfil it. Leaves every protocol decision to
//! `hoist-proto`: a store knows no status code and no dialect.

use std::collections::HashSet;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hoist_proto::types::{Durable, Fence, Length, Offset, Principal, Timestamp, UploadId};
use hoist_proto::upload::{Composition, Upload};

/// A boxed future, so that stores can be chosen at run time. One allocation per call, none per byte.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Keeps uploads: their bytes, and the record beside them.
///
/// Every changing call carries the [`Fence`] of the claim it is made under. The newest fence seen for an upload is the
/// only one that may change it: everything older gets [`Error::Fenced`] and changes nothing, however late it arrives.
pub trait Store: Send + Sync + 'static {
    /// Makes room for a new upload and opens it for writing at offset zero.
    ///
    /// A known length for which there is no room is refused at once. No room is reserved for it: an upload takes up
    /// only the bytes that have arrived. The record becomes durable with the first [`Writer::sync`] that succeeds, or
    /// earlier; until then a crash may forget the upload.
    ///
    /// # Errors
    /// [`Error::Exists`] when the id is taken: the fence is not taken then, and a transfer to that upload goes on
    /// (upload-token: TOK-CRE-05). [`Error::Full`] when there is no room; nothing is left behind then.
    /// [`Error::Fenced`] when a newer fence was seen for the id.
    ///
    /// # Cancellation
    /// Dropped before it completes, the upload either exists with nothing stored or does not exist.
    fn create<'a>(
        &'a self,
        upload: &'a Upload,
        fence: Fence,
    ) -> BoxFuture<'a, Result<Box<dyn Writer>, Error>>;

    /// Reads an upload and makes `fence` the only one that may change it from here on.
    ///
    /// The offset is durable when this returns: bytes that an earlier writer accepted are written and synced first. What
    /// a writer of an older fence still writes afterwards is refused; one of the same fence goes on.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a newer fence was seen, [`Error::Damaged`] when the record cannot be believed.
    ///
    /// # Cancellation
    /// Safe to drop; the fence may have been taken.
    fn load(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<Option<Upload>, Error>>;

    /// Reads an upload as it is at this moment, without a fence: a transfer to it goes on. The offset is durable when this
    /// returns; what a running writer has accepted counts as far as it is written.
    ///
    /// # Errors
    /// [`Error::Damaged`], or what the disk says.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn peek(&self, id: UploadId) -> BoxFuture<'_, Result<Option<Upload>, Error>>;

    /// Opens an open upload for writing behind its last byte, which must be at `at`. An upload has one writer: an earlier
    /// one gets [`Error::Fenced`] from here on, whatever its fence.
    ///
    /// # Errors
    /// [`Error::Missing`], also when the upload is complete or has been [joined](Store::join) of its parts;
    /// [`Error::Fenced`]; [`Error::Damaged`] when the stored bytes end elsewhere.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn append(&self, id: UploadId, at: Offset, fence: Fence)
    -> BoxFuture<'_, Result<Box<dyn Writer>, Error>>;

    /// Replaces the record: a length that became known, a phase. Durable when it returns, and atomic: a crash leaves the
    /// old record or the new one. The upload's own offset is not looked at. With a phase that takes no more bytes the
    /// content is made durable first and its writer, if there is one, gets [`Error::Fenced`] from here on.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Fenced`], or what the disk says; the old record is then still the valid one.
    ///
    /// # Cancellation
    /// Dropped, the old or the new record is valid.
    fn commit<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>>;

    /// Combines [`commit`](Store::commit), with a phase that accepts no more bytes, and [`discard`](Store::discard)
    /// in one step, for an upload whose content was moved elsewhere or is worthless. A crash leaves either the old
    /// record with the content, or the new record, which states the offset. Content that a crash leaves beside the
    /// new record is freed by the next [`list_all`](Store::list_all).
    ///
    /// # Errors
    /// As [`commit`](Store::commit), and [`Error::Io`] for a phase that takes more bytes.
    ///
    /// # Cancellation
    /// If dropped, either the old record with the content or the new record is valid.
    fn conclude<'a>(&'a self, upload: &'a Upload, fence: Fence) -> BoxFuture<'a, Result<(), Error>>;

    /// Gives an open upload that is to be made of others ([`Composition::is_composed`]) and has no content the content of
    /// `parts`, one after the other; the same may come several times. Durable when it returns, and all or nothing: a crash
    /// leaves the upload without content or with all of it. The parts are complete, and stay as they are, whatever becomes
    /// of the whole; their claims are not looked at. The upload's writer, if there is one, gets [`Error::Fenced`] from here
    /// on.
    ///
    /// On a local file system no byte passes through this process, where the system can do without.
    ///
    /// # Errors
    /// [`Error::Missing`] when the upload or a part is not there, the upload is complete, or a part's content was discarded;
    /// [`Error::Fenced`]; [`Error::Full`]; [`Error::Damaged`] for a part that cannot be believed; [`Error::Io`] for a part
    /// that is not complete, an upload that has content or is not to be made of others, or what the disk says. Nothing is
    /// left behind then.
    ///
    /// # Cancellation
    /// Dropped, the upload has no content or all of it.
    fn join<'a>(
        &'a self,
        id: UploadId,
        parts: &'a [UploadId],
        fence: Fence,
    ) -> BoxFuture<'a, Result<Durable, Error>>;

    /// Reads stored bytes from an offset on, to where they end at this moment. Takes no fence: a transfer goes on.
    ///
    /// # Errors
    /// [`Error::Missing`] when there is no such upload, or its content was discarded.
    fn read(&self, id: UploadId, from: Offset) -> BoxFuture<'_, Result<Box<dyn Reader>, Error>>;

    /// Gives the content of an upload a second name: `name` in `directory`, durable when it returns. Nothing that is
    /// there already is overwritten: a taken name gets the upload's id added. Done again for the same upload it finds
    /// what it did before and returns the same name, so that it may be repeated after a crash.
    ///
    /// `name` is one path segment; the caller made it safe. On one file system no byte is copied.
    ///
    /// # Errors
    /// [`Error::Missing`], also when the content was discarded; [`Error::Fenced`], [`Error::Full`], or what the disk says.
    ///
    /// # Cancellation
    /// Dropped, the name is there or it is not; done again it is.
    fn export<'a>(
        &'a self,
        id: UploadId,
        directory: &'a Path,
        name: &'a str,
        fence: Fence,
    ) -> BoxFuture<'a, Result<String, Error>>;

    /// Frees the content of a complete upload and keeps the record, which from then on answers for its offset. Done again
    /// it changes nothing.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Fenced`], [`Error::Io`] for an upload that is not complete, or what the disk says.
    ///
    /// # Cancellation
    /// Dropped, the content is there or it is not; the record knows.
    fn discard(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>>;

    /// Frees everything of an upload, damaged or not. Afterwards the id is unknown, and may be created again.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Fenced`], or what the disk says.
    ///
    /// # Cancellation
    /// Dropped, the upload is there whole or not at all.
    fn remove(&self, id: UploadId, fence: Fence) -> BoxFuture<'_, Result<(), Error>>;

    /// Lists the stored uploads in small batches and in no particular order. Each [`UploadSummary`] holds what a single look
    /// at the upload shows. The store logs a record that cannot be read and leaves it out.
    ///
    /// Uploads that changed after `unchanged_since` may be left out, so that a store need not read what cannot be over yet. An
    /// upload that is created, completed or removed meanwhile is listed or not; one that is there all the time is, in the
    /// listing of one of the two shelves or in both when it is completed between them, open ones first.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn list(
        &self,
        group: UploadGroup,
        unchanged_since: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<Box<dyn Listing>, Error>>;

    /// Returns all stored uploads at once, for tests and for stores that are known to be small.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn list_all(&self) -> BoxFuture<'_, Result<Vec<UploadSummary>, Error>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for group in [UploadGroup::Open, UploadGroup::Complete] {
                let mut listing = self.list(group, None).await?;
                while let Some(summaries) = listing.next().await? {
                    all.extend(summaries);
                }
            }
            // One that is completed between the listings is met twice, and is newer in the second.
            all.reverse();
            let mut met = HashSet::new();
            all.retain(|summary: &UploadSummary| met.insert(summary.id));
            all.sort_unstable_by_key(|summary| summary.id);
            Ok(all)
        })
    }

    /// The note that [`set_last_used`](Store::set_last_used) was last given; `None` when there is nothing to tell it by. A store
    /// that has kept uploads and was never given one may answer with the newest time it has itself.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    ///
    /// # Cancellation
    /// Safe to drop.
    fn last_used(&self) -> BoxFuture<'_, Result<Option<LastUsed>, Error>>;

    /// Keeps the time at which the store was last known to be in use, and the steps that its clock has made, so that a
    /// clock that is wrong at the next start can be told from one that is right. Need not be durable at once; an older
    /// note is as safe.
    ///
    /// # Errors
    /// Returns an error if the disk fails; the previous note is then still kept.
    ///
    /// # Cancellation
    /// If dropped, either the old or the new note is kept.
    fn set_last_used<'a>(&'a self, seen: &'a LastUsed) -> BoxFuture<'a, Result<(), Error>>;

    /// Whether the store could take an upload now: it can be reached, and written.
    ///
    /// # Errors
    /// What is in the way, in words for an operator.
    fn check_health(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// Takes the content of one request, in order.
///
/// Dropping it keeps what was written; the bytes since the last [`sync`](Writer::sync) are then as safe as the system's
/// page cache makes them, and the next [`Store::load`] counts them after syncing them.
pub trait Writer: Send {
    /// Hands over the next bytes. Returns when they are accepted, which may be before they are stored; waits while too
    /// many bytes of this upload, or of all, are on their way.
    ///
    /// # Errors
    /// [`Error::Full`] or another failure of these bytes or of earlier ones. No later byte is stored then:
    /// what is stored stays a gapless prefix.
    ///
    /// # Cancellation
    /// Dropped, the bytes are accepted whole or not at all.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Error>>;

    /// Makes everything that was accepted durable and says how far that is.
    ///
    /// After [`Error::Full`] it still succeeds, for the bytes that fitted. When the last that were accepted do not fit, it is
    /// the offset alone that says so.
    ///
    /// # Errors
    /// When the disk cannot promise it. What is not promised is cut off again where possible, so that nobody later takes
    /// doubtful bytes for good ones.
    ///
    /// # Cancellation
    /// Safe to drop; the bytes may or may not be durable.
    fn sync(&mut self) -> BoxFuture<'_, Result<Durable, Error>>;

    /// Takes back what was accepted behind `to`, which is not before where this writer began: content that turned out to
    /// be worthless before anybody was told of it. The file ends at `to` when this returns; a crash before may leave more.
    ///
    /// # Errors
    /// As [`sync`](Writer::sync).
    ///
    /// # Cancellation
    /// Dropped, the bytes are still there or not.
    fn truncate(&mut self, to: Offset) -> BoxFuture<'_, Result<(), Error>>;

    /// Puts what is written from here on in doubt: it does not count, neither for [`Store::load`] and [`Store::peek`] nor
    /// after a crash, until [`sync`](Writer::sync) says that it does. [`truncate`](Writer::truncate) to where the doubt
    /// began, or before, takes it back at once; so does, sooner or later, dropping the writer, and at once a newer claim or
    /// the upload's completion. What is in doubt already stays so when this is called again.
    ///
    /// # Errors
    /// As [`sync`](Writer::sync); nothing is in doubt then, and nothing should be written.
    ///
    /// # Cancellation
    /// What is written afterwards may be in doubt or not.
    fn mark_unverified(&mut self) -> BoxFuture<'_, Result<(), Error>>;

    /// Has what was accepted made durable soon, without waiting for it, and says how far that is already.
    ///
    /// A store that cannot do so says what it knows.
    fn start_sync(&mut self) -> Durable;
}

/// Gives stored bytes, in order.
pub trait Reader: Send {
    /// The next bytes, at most 256 KiB of them; `None` at the end.
    ///
    /// # Cancellation
    /// Dropped, no byte is skipped.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;
}

/// A half of what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadGroup {
    /// Uploads that may still be appended to, and some that were completed when the process ended.
    Open,
    /// Complete uploads.
    Complete,
}

/// Uploads of a [`Store::list`], a few at a time.
pub trait Listing: Send {
    /// Returns the next batch, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    ///
    /// # Cancellation
    /// If dropped, some uploads of the next batch may be skipped.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<UploadSummary>>, Error>>;
}

/// One upload as a [`Store::list`] sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct UploadSummary {
    /// Its id.
    pub id: UploadId,
    /// The principal that created it.
    pub owner: Option<Principal>,
    /// The origin of its content.
    pub composition: Composition,
    /// Bytes stored, durable or not.
    pub stored: Offset,
    /// Bytes of the whole, if known.
    pub length: Option<Length>,
    /// Bytes of the fields that its record keeps of its creation, and of the ids of its parts.
    pub record_bytes: u64,
    /// True if it may still be appended to.
    pub is_open: bool,
    /// Whether anybody could go on with it. One that is open and cannot be resumed lives as long as its only request.
    pub can_resume: bool,
    /// Whether all bytes are here and the target has not answered: work that a crash left behind.
    pub awaits_delivery: bool,
    /// When its time is over.
    pub expires: Option<Timestamp>,
    /// When it last changed.
    pub touched: Timestamp,
}

/// The last use of a store, by a wall clock that may have been wrong since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastUsed {
    /// The last time at which the store was in use and the clock was not in doubt.
    pub at: Timestamp,
    /// The steps of the clock, oldest first. The store's times from before them are to be moved.
    pub steps: Vec<ClockStep>,
}

/// One step of the wall clock, as it is applied to times that were taken from the clock before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// The first time that is moved.
    pub since: Timestamp,
    /// The last time that is moved.
    pub until: Timestamp,
    /// The distance by which a time is moved forward.
    pub by: Duration,
    /// The time beyond which no time is moved.
    pub to: Timestamp,
}

/// Why a store could not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such upload, or its content is gone.
    #[error("no such upload")]
    Missing,
    /// The id is taken.
    #[error("the upload exists already")]
    Exists,
    /// A newer claim has been made on the upload; this one may not change it any more.
    #[error("a newer request has taken the upload over")]
    Fenced,
    /// No room. What is stored stays stored.
    #[error("no space left for uploads")]
    Full,
    /// What is stored contradicts itself. Left as it is for an operator to look at.
    #[error("the stored upload is damaged: {0}")]
    Damaged(String),
    /// Another process uses the store.
    #[error("{0}")]
    Busy(String),
    /// The system refused.
    #[error("{doing}")]
    Io {
        /// What was being done, with the path relative to the store.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// Returns the delay after which a retry may succeed without the operator's help; `None` if it cannot.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full => Some(Duration::from_mins(1)),
            Self::Io { .. } => Some(Duration::from_secs(5)),
            Self::Missing | Self::Exists | Self::Fenced | Self::Damaged(_) | Self::Busy(_) => None,
        }
    }
}

/// The names an export tries, in this order: the one asked for, then with the id's first characters before its
/// extension, then with the whole id, which nobody else's upload has.
pub(crate) fn export_names(id: UploadId, name: &str) -> [String; 3] {
    // The most bytes a name may have on any file system in use.
    const NAME_BYTES_MAX: usize = 255;
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    };
    let with = |id: String| {
        let room = NAME_BYTES_MAX.saturating_sub(id.len() + 1 + extension.len());
        format!("{}-{id}{extension}", &stem[..stem.floor_char_boundary(room)])
    };
    [name.to_owned(), with(id.short().to_string()), with(id.to_string())]
}
