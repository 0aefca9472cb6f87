//! Reading uploads without their lock: the reader, the summary of a listing, and `peek` beside an operation.

use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;
use rustix::fs::{OFlags, Stat};
use tokio::task::yield_now;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::layout::{CONTENT, ParentDir, ParentDirs};
use super::sender::{End, Outgoing, Sender};
use super::sys;
use super::thread_pool::{ThreadPool, lock};
use super::upload_dir::{StoredRecord, UploadDir};
use crate::record::{self, Record};
use crate::store::outbox::remove_delivered;
use crate::store::{Error, Reader, StoreFuture, UploadSummary};

const READ_BYTES_MAX: usize = 256 * 1024;

/// The bytes after which a reader that never waits lets others run.
const TURN_BYTES: usize = 1 << 20;

/// Opens the content for reading, up to its current end.
pub(super) fn open(
    data_dir: &DataDir,
    id: UploadId,
    from: Offset,
    pool: ThreadPool,
    sender: Sender,
) -> Result<Box<dyn Reader>, Error> {
    let dir = data_dir.find_unlocked(id)?.ok_or(Error::Missing)?;
    dir.check_trusted()?;
    // Before the file is opened: a join in between replaces an empty content by a longer one.
    let end = dir.verified_bytes()?.ok_or(Error::Missing)?;
    let file = dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    Ok(Box::new(LocalReader {
        file: Arc::new(file),
        at: from.get(),
        end,
        dir: Arc::new(dir),
        pool,
        sender,
        buffers: Arc::default(),
        turn_bytes: 0,
    }))
}

/// The buffers of a reader that wait to be used again.
type Buffers = Mutex<Vec<Vec<u8>>>;

/// Bytes of the content, whose buffer goes back to the reader when they are dropped.
struct Piece {
    buffer: Vec<u8>,
    filled: usize,
    buffers: Arc<Buffers>,
}

impl Piece {
    fn new(buffers: &Arc<Buffers>, bytes: usize) -> Self {
        let buffer = lock(buffers).pop().unwrap_or_else(|| vec![0; bytes]);
        Self { buffer, filled: 0, buffers: Arc::clone(buffers) }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        lock(&self.buffers).push(std::mem::take(&mut self.buffer));
    }
}

struct LocalReader {
    file: Arc<OwnedFd>,
    dir: Arc<UploadDir>,
    at: u64,
    end: u64,
    pool: ThreadPool,
    sender: Sender,
    buffers: Arc<Buffers>,
    /// Bytes that the kernel held, since another task could last run.
    turn_bytes: usize,
}

impl LocalReader {
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        if self.turn_bytes >= TURN_BYTES {
            self.turn_bytes = 0;
            yield_now().await;
        }
        let bytes = left.min(READ_BYTES_MAX);
        let mut piece = Piece::new(&self.buffers, bytes);
        let cached = sys::read_cached(&*self.file, self.at, &mut piece.buffer[..bytes]);
        let cached = cached.map_err(|errno| self.dir.failed("reading", CONTENT, errno))?;
        let piece = if let Some(filled) = cached {
            piece.filled = filled;
            self.turn_bytes += filled;
            piece
        } else {
            self.turn_bytes = 0;
            let (file, dir, at) = (Arc::clone(&self.file), Arc::clone(&self.dir), self.at);
            let job = move || {
                let read = sys::read_into(&*file, at, &mut piece.buffer[..bytes]);
                piece.filled = read.map_err(|errno| dir.failed("reading", CONTENT, errno))?;
                Ok(piece)
            };
            self.pool.call(job).await?
        };
        if piece.filled == 0 {
            return Err(self.ends_early());
        }
        self.at += piece.filled as u64;
        Ok(Some(Bytes::from_owner(piece)))
    }

    async fn send_to(
        &mut self,
        socket: &Arc<OwnedFd>,
        bytes: u64,
        sent: &Arc<AtomicU64>,
    ) -> Result<bool, Error> {
        if bytes > self.end.saturating_sub(self.at) {
            return Err(self.ends_early());
        }
        let outgoing = Outgoing {
            file: Arc::clone(&self.file),
            at: self.at,
            bytes,
            socket: Arc::clone(socket),
            sent: Arc::clone(sent),
        };
        match self.sender.send(outgoing).await? {
            Ok(End::Complete) => self.at += bytes,
            Ok(End::Short(at)) => {
                self.at = at;
                return Err(self.ends_early());
            }
            Ok(End::Unsupported) => return Ok(false),
            Err(errno) => return Err(self.dir.failed("sending", CONTENT, errno)),
        }
        Ok(true)
    }

    fn ends_early(&self) -> Error {
        Error::Damaged(format!("its content should have {} bytes and ends at {}", self.end, self.at))
    }
}

impl Reader for LocalReader {
    fn next(&mut self) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(self.read())
    }

    fn send<'a>(
        &'a mut self,
        socket: &'a Arc<OwnedFd>,
        bytes: u64,
        sent: &'a Arc<AtomicU64>,
    ) -> StoreFuture<'a, bool> {
        Box::pin(self.send_to(socket, bytes, sent))
    }
}

/// Reads an upload while another operation holds its lock, perhaps for minutes, as far as that is possible without
/// waiting for it. Returns `None` if it is not. The upload is durable once the returned directories are synced.
pub(super) fn peek_beside(
    data_dir: &DataDir,
    id: UploadId,
    entry: &Entry,
) -> Result<(Option<Upload>, ParentDirs), Error> {
    const UNKNOWN: (Option<Upload>, ParentDirs) = (None, ParentDirs::NONE);
    let Some(dir) = data_dir.find_unlocked(id)? else { return Ok(UNKNOWN) };
    dir.check_trusted()?;
    let Some(StoredRecord { record, .. }) = dir.record()? else { return Ok(UNKNOWN) };
    // After the record, because a complete upload receives no more bytes.
    let (offset, parents) = match (record.discarded, entry.snapshot()) {
        (Some(offset), _) => (offset, ParentDirs::NONE),
        (None, (Some(writer), _)) => match writer.content.sync() {
            Ok(synced) => (Offset::new(synced.durable), synced.parents),
            Err(_) => return Ok(UNKNOWN),
        },
        (None, (None, Some(durable_bytes))) => (Offset::new(durable_bytes), ParentDirs::NONE),
        (None, (None, None)) => return Ok(UNKNOWN),
    };
    // The record may be that of a running commit, whose name is not durable yet.
    dir.sync()?;
    #[expect(clippy::disallowed_methods, reason = "a store; synced once the returned directories are")]
    let offset = Durable::attest(offset);
    let touched = touched(&dir, record.upload.touched)?;
    Ok((Some(Upload { offset, touched, ..record.upload }), parents))
}

/// Returns the time of the last change: the recorded time, or that of the content's last byte if it is later.
fn touched(dir: &UploadDir, recorded: Timestamp) -> Result<Timestamp, Error> {
    Ok(dir.content_stat()?.map_or(recorded, |stat| touched_by(&stat, recorded)))
}

fn touched_by(content: &Stat, recorded: Timestamp) -> Timestamp {
    sys::last_byte_at(content).map_or(recorded, |changed| changed.max(recorded))
}

/// An entry of a parent directory, as a listing reads it.
pub(super) struct Listed {
    /// The upload. `None` if there is none, if it is being removed, or if it cannot be read, which is logged.
    pub(super) summary: Option<UploadSummary>,
    /// True if the entry may contain what a crash left.
    pub(super) has_leftover: bool,
}

/// Reads an upload in a parent directory, each of its files once. `cleans` is true if leftovers of a crash matter.
pub(super) fn listed(data_dir: &DataDir, parent: ParentDir, id: UploadId, cleans: bool) -> Listed {
    let read = || {
        let Some(dir) = data_dir.find_in(parent, id)? else { return Ok((None, false)) };
        dir.check_trusted()?;
        let found = match dir.record() {
            Ok(Some(found)) => found,
            Ok(None) => return Ok((None, true)),
            // The upload was moved or removed in the meantime.
            Err(_) if data_dir.find(id)?.is_none() => return Ok((None, false)),
            Err(error) => return Err(error),
        };
        let has_leftover = cleans && dir.has_unfinished_join();
        Ok((summary(data_dir, &dir, found.record)?, has_leftover))
    };
    match read() {
        Ok((summary, has_leftover)) => Listed { summary, has_leftover },
        Err(error) => {
            let error: Error = error;
            tracing::warn!(upload = %id.short(), %error, "could not read an upload");
            Listed { summary: None, has_leftover: false }
        }
    }
}

fn summary(data_dir: &DataDir, dir: &UploadDir, record: Record) -> Result<Option<UploadSummary>, Error> {
    let content = dir.verified_content()?;
    let stored = match (record.discarded, content) {
        (Some(offset), None) => offset,
        (Some(offset), Some(_)) => {
            free_discarded(dir);
            offset
        }
        (None, Some((bytes, _))) => Offset::new(bytes),
        (None, None) if data_dir.find(dir.id)?.is_none() => return Ok(None),
        (None, None) => record::bytes_moved_away(&record).ok_or_else(|| dir.content_missing())?,
    };
    #[expect(clippy::disallowed_methods, reason = "a store; the offset is not acknowledged to a client")]
    let offset = Durable::attest(stored);
    let recorded = record.upload.touched;
    let mut upload = record.upload;
    if !upload.events.is_empty() {
        let marks = dir.marks().read();
        remove_delivered(&mut upload.events, |delivery| marks.contains(delivery));
    }
    let written = content.filter(|_| record.discarded.is_none());
    let touched = written.map_or(recorded, |(_, stat)| touched_by(&stat, recorded));
    Ok(Some(Upload { touched, offset, ..upload }.into()))
}

/// Removes content that a crash left beside the record that discards it. Best effort: the next listing tries again.
fn free_discarded(dir: &UploadDir) {
    let upload = dir.id.short();
    match dir.remove_file(CONTENT) {
        Ok(()) => tracing::info!(%upload, "freed content that was discarded before a crash"),
        Err(error) => {
            tracing::warn!(%upload, %error, "cannot free content that was discarded before a crash");
        }
    }
}
