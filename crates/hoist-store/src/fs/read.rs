//! Reading uploads without their lock: the reader, the summary of a listing, and `peek` beside an operation.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;
use rustix::fs::OFlags;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::layout::{CONTENT, ParentDirs};
use super::sys;
use super::thread_pool::ThreadPool;
use super::upload_dir::{StoredRecord, UploadDir};
use crate::store::{Error, Reader, StoreFuture, UploadSummary};

const READ_BYTES_MAX: usize = 256 * 1024;

/// Opens the content for reading, up to its current end.
pub(super) fn open(
    data_dir: &DataDir,
    id: UploadId,
    from: Offset,
    pool: ThreadPool,
) -> Result<Box<dyn Reader>, Error> {
    let dir = data_dir.find_unlocked(id)?.ok_or(Error::Missing)?;
    dir.check_trusted()?;
    // Before the file is opened: a join in between replaces an empty content by a longer one.
    let end = dir.verified_bytes()?.ok_or(Error::Missing)?;
    let file = dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    Ok(Box::new(LocalReader { file: Arc::new(file), at: from.get(), end, dir: Arc::new(dir), pool }))
}

struct LocalReader {
    file: Arc<OwnedFd>,
    dir: Arc<UploadDir>,
    at: u64,
    end: u64,
    pool: ThreadPool,
}

impl LocalReader {
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let (file, dir, at) = (Arc::clone(&self.file), Arc::clone(&self.dir), self.at);
        let job = move || {
            let bytes = sys::read_at(&*file, at, left.min(READ_BYTES_MAX));
            bytes.map_err(|errno| dir.failed("reading", CONTENT, errno))
        };
        let bytes = self.pool.call(job).await?;
        if bytes.is_empty() {
            return Err(Error::Damaged(format!(
                "its content should have {} bytes and ends at {at}",
                self.end
            )));
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}

impl Reader for LocalReader {
    fn next(&mut self) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(self.read())
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
pub(super) fn touched(dir: &UploadDir, recorded: Timestamp) -> Result<Timestamp, Error> {
    let written = dir.content_stat()?.filter(|stat| stat.st_size > 0);
    let written = written.map(|stat| Timestamp::from_millis(sys::changed_ms(&stat)));
    Ok(written.map_or(recorded, |written| written.max(recorded)))
}

/// Returns the summary of an upload. Returns `None` if it is being removed, or cannot be read, which is logged.
pub(super) fn summary(data_dir: &DataDir, id: UploadId) -> Option<UploadSummary> {
    match read_summary(data_dir, id) {
        Ok(summary) => summary,
        Err(error) => {
            tracing::warn!(upload = %id.short(), %error, "could not read an upload");
            None
        }
    }
}

fn read_summary(data_dir: &DataDir, id: UploadId) -> Result<Option<UploadSummary>, Error> {
    let Some(dir) = data_dir.find(id)? else { return Ok(None) };
    dir.check_trusted()?;
    let found = match dir.record() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        // The upload was moved or removed in the meantime.
        Err(_) if data_dir.find(id)?.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored = match (found.record.discarded, dir.verified_bytes()?) {
        (Some(offset), None) => offset,
        (Some(offset), Some(_)) => {
            // A crash came between the record and the removal of the content. Best effort: the next listing tries
            // again.
            match dir.remove_file(CONTENT) {
                Ok(()) => {
                    tracing::info!(upload = %id.short(), "freed content that was discarded before a crash");
                }
                Err(error) => {
                    tracing::warn!(upload = %id.short(), %error, "cannot free content that was discarded before a crash");
                }
            }
            offset
        }
        (None, Some(bytes)) => Offset::new(bytes),
        (None, None) if data_dir.find(id)?.is_none() => return Ok(None),
        (None, None) => return Err(dir.content_missing()),
    };
    #[expect(clippy::disallowed_methods, reason = "a store; the offset is not acknowledged to a client")]
    let offset = Durable::attest(stored);
    let upload =
        Upload { touched: touched(&dir, found.record.upload.touched)?, offset, ..found.record.upload };
    Ok(Some(upload.into()))
}
