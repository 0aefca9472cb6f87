//! Looking at uploads without changing them: the reader, and the summary of a listing.
//!
//! Owns nothing but open files; takes no fence and no turn.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Interruption, Upload};
use rustix::fs::OFlags;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::layout::CONTENT;
use super::layout::ParentDirs;
use super::sys;
use super::thread_pool::ThreadPool;
use super::upload_dir::{StoredRecord, UploadDir};
use crate::store::{BoxFuture, Error, Reader, UploadSummary};

const READ_BYTES_MAX: usize = 256 * 1024;

/// Opens an upload's content for reading, to where it ends now.
pub(super) fn open(
    data_dir: &DataDir,
    id: UploadId,
    from: Offset,
    pool: ThreadPool,
) -> Result<Box<dyn Reader>, Error> {
    let upload_dir = data_dir.look_for(id)?.ok_or(Error::Missing)?;
    upload_dir.trusted()?;
    // Counted first: joined meanwhile, the content has more bytes and not fewer.
    let end = upload_dir.counted()?.ok_or(Error::Missing)?;
    let file = upload_dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    Ok(Box::new(LocalReader {
        file: Arc::new(file),
        at: from.get(),
        end,
        upload_dir: Arc::new(upload_dir),
        pool,
    }))
}

struct LocalReader {
    file: Arc<OwnedFd>,
    upload_dir: Arc<UploadDir>,
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
        let (file, upload_dir, at) = (Arc::clone(&self.file), Arc::clone(&self.upload_dir), self.at);
        let job = move || {
            let bytes = sys::read_at(&*file, at, left.min(READ_BYTES_MAX));
            bytes.map_err(|errno| upload_dir.failed("reading", CONTENT, errno))
        };
        let bytes = self.pool.call(job).await?;
        if bytes.is_empty() {
            return Err(Error::Damaged(format!("it was to have {} bytes and ends at {at}", self.end)));
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}

impl Reader for LocalReader {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(self.read())
    }
}

/// An upload that somebody else is working on, perhaps for minutes, as far as it can be told without waiting for them;
/// `None` when it cannot be. What is told holds once the shelves named are synced too.
pub(super) fn peek_beside(
    data_dir: &DataDir,
    id: UploadId,
    entry: &Entry,
) -> Result<(Option<Upload>, ParentDirs), Error> {
    const CANNOT_TELL: (Option<Upload>, ParentDirs) = (None, ParentDirs::NONE);
    let Some(upload_dir) = data_dir.look_for(id)? else { return Ok(CANNOT_TELL) };
    upload_dir.trusted()?;
    let Some(StoredRecord { record, .. }) = upload_dir.record()? else { return Ok(CANNOT_TELL) };
    // After the record: behind one that says complete no byte comes any more.
    let (offset, parents) = match (record.discarded, entry.snapshot()) {
        (Some(offset), _) => (offset, ParentDirs::NONE),
        (None, (Some(writer), _)) => match writer.content().settle() {
            Ok(settled) => (Offset::new(settled.durable), settled.parents),
            Err(_) => return Ok(CANNOT_TELL),
        },
        (None, (None, Some(known))) => (Offset::new(known), ParentDirs::NONE),
        (None, (None, None)) => return Ok(CANNOT_TELL),
    };
    // It may be the record of a commit that has not come so far.
    upload_dir.sync()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is a store, and what it says is synced, or said to be due"
    )]
    let offset = Durable::attest(offset);
    let touched = touched(&upload_dir, record.upload.touched)?;
    Ok((Some(Upload { offset, touched, ..record.upload }), parents))
}

/// When an upload last changed: what the record says, or when its content got its last byte if that is later.
pub(super) fn touched(upload_dir: &UploadDir, recorded: Timestamp) -> Result<Timestamp, Error> {
    let stat =
        upload_dir.dir.stat(CONTENT).map_err(|errno| upload_dir.failed("looking at", CONTENT, errno))?;
    let written =
        stat.filter(|stat| stat.st_size > 0).map(|stat| Timestamp::from_millis(sys::changed_ms(&stat)));
    Ok(written.map_or(recorded, |written| written.max(recorded)))
}

/// One upload at one look; `None` when it cannot be read, which is logged, or has gone meanwhile.
pub(super) fn summary(data_dir: &DataDir, id: UploadId) -> Option<UploadSummary> {
    match look(data_dir, id) {
        Ok(summary) => summary,
        Err(error) => {
            tracing::warn!(upload = %id.short(), %error, "an upload cannot be read");
            None
        }
    }
}

fn look(data_dir: &DataDir, id: UploadId) -> Result<Option<UploadSummary>, Error> {
    let Some(upload_dir) = data_dir.find(id)? else { return Ok(None) };
    upload_dir.trusted()?;
    let found = match upload_dir.record() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        // Moved or removed between two looks.
        Err(_) if data_dir.find(id)?.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored = match (found.record.discarded, upload_dir.counted()?) {
        (Some(offset), None) => offset,
        (Some(offset), Some(_)) => {
            // A crash came between the record and the removal. Best effort: the next listing tries again.
            let freed = upload_dir.remove_content();
            tracing::info!(upload = %id.short(), ?freed, "freed content that was discarded before a crash");
            offset
        }
        (None, Some(bytes)) => Offset::new(bytes),
        (None, None) if data_dir.find(id)?.is_none() => return Ok(None),
        (None, None) => return Err(upload_dir.lost()),
    };
    #[expect(clippy::disallowed_methods, reason = "goes nowhere: only to ask whether the upload is due")]
    let offset = Durable::attest(stored);
    let upload =
        Upload { touched: touched(&upload_dir, found.record.upload.touched)?, offset, ..found.record.upload };
    Ok(Some(UploadSummary {
        id,
        stored,
        is_open: !upload.is_complete(),
        can_resume: upload.semantics.interruption == Interruption::Resumes,
        awaits_delivery: upload.awaits_delivery(),
        expires: upload.expires(),
        touched: upload.touched,
        length: upload.length,
        record_bytes: upload.record_bytes(),
        owner: upload.owner,
        composition: upload.composition,
    }))
}
