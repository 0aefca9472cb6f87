//! Looking at uploads without changing them: the reader, and the summary of a listing.
//!
//! Owns nothing but open files; takes no fence and no turn.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use hoist_proto::upload::{Interruption, Upload};
use rustix::fs::OFlags;

use super::crew::Hands;
use super::entry::Entry;
use super::place::{CONTENT, Found, Place};
use super::sys;
use super::tree::{Shelves, Tree};
use crate::store::{Error, Pending, Reader, UploadSummary};

const READ_BYTES_MAX: usize = 256 * 1024;

/// Opens an upload's content for reading, to where it ends now.
pub(super) fn open(tree: &Tree, id: UploadId, from: Offset, hands: Hands) -> Result<Box<dyn Reader>, Error> {
    let place = tree.look_for(id)?.ok_or(Error::Missing)?;
    place.trusted()?;
    // Counted first: joined meanwhile, the content has more bytes and not fewer.
    let end = place.counted()?.ok_or(Error::Missing)?;
    let file = place.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    Ok(Box::new(LocalReader { file: Arc::new(file), at: from.get(), end, place: Arc::new(place), hands }))
}

struct LocalReader {
    file: Arc<OwnedFd>,
    place: Arc<Place>,
    at: u64,
    end: u64,
    hands: Hands,
}

impl LocalReader {
    async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let (file, place, at) = (Arc::clone(&self.file), Arc::clone(&self.place), self.at);
        let job = move || {
            let bytes = sys::read_at(&*file, at, left.min(READ_BYTES_MAX));
            bytes.map_err(|errno| place.failed("reading", CONTENT, errno))
        };
        let bytes = self.hands.call(job).await?;
        if bytes.is_empty() {
            return Err(Error::Damaged(format!("it was to have {} bytes and ends at {at}", self.end)));
        }
        self.at += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}

impl Reader for LocalReader {
    fn next(&mut self) -> Pending<'_, Result<Option<Bytes>, Error>> {
        Box::pin(self.read())
    }
}

/// An upload that somebody else is working on, perhaps for minutes, as far as it can be told without waiting for them;
/// `None` when it cannot be. What is told holds once the shelves named are synced too.
pub(super) fn aside(tree: &Tree, id: UploadId, entry: &Entry) -> Result<(Option<Upload>, Shelves), Error> {
    const CANNOT_TELL: (Option<Upload>, Shelves) = (None, Shelves::NONE);
    let Some(place) = tree.look_for(id)? else { return Ok(CANNOT_TELL) };
    place.trusted()?;
    let Some(Found { record, .. }) = place.record()? else { return Ok(CANNOT_TELL) };
    // After the record: behind one that says complete no byte comes any more.
    let (offset, shelves) = match (record.discarded, entry.last_known()) {
        (Some(offset), _) => (offset, Shelves::NONE),
        (None, (Some(writer), _)) => match writer.content().settle() {
            Ok(settled) => (Offset::new(settled.durable), settled.shelves),
            Err(_) => return Ok(CANNOT_TELL),
        },
        (None, (None, Some(known))) => (Offset::new(known), Shelves::NONE),
        (None, (None, None)) => return Ok(CANNOT_TELL),
    };
    // It may be the record of a commit that has not come so far.
    place.sync()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "this is a store, and what it says is synced, or said to be due"
    )]
    let offset = Durable::attest(offset);
    let touched = touched(&place, record.upload.touched)?;
    Ok((Some(Upload { offset, touched, ..record.upload }), shelves))
}

/// When an upload last changed: what the record says, or when its content got its last byte if that is later.
pub(super) fn touched(place: &Place, recorded: Timestamp) -> Result<Timestamp, Error> {
    let stat = place.dir.stat(CONTENT).map_err(|errno| place.failed("looking at", CONTENT, errno))?;
    let written =
        stat.filter(|stat| stat.st_size > 0).map(|stat| Timestamp::from_millis(sys::changed_ms(&stat)));
    Ok(written.map_or(recorded, |written| written.max(recorded)))
}

/// One upload at one look; `None` when it cannot be read, which is logged, or has gone meanwhile.
pub(super) fn summary(tree: &Tree, id: UploadId) -> Option<UploadSummary> {
    match look(tree, id) {
        Ok(summary) => summary,
        Err(error) => {
            tracing::warn!(upload = %id.short(), %error, "an upload cannot be read");
            None
        }
    }
}

fn look(tree: &Tree, id: UploadId) -> Result<Option<UploadSummary>, Error> {
    let Some(place) = tree.find(id)? else { return Ok(None) };
    place.trusted()?;
    let found = match place.record() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        // Moved or removed between two looks.
        Err(_) if tree.find(id)?.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let stored = match (found.record.discarded, place.counted()?) {
        (Some(offset), None) => offset,
        (Some(offset), Some(_)) => {
            // A crash came between the record and the removal. Best effort: the next listing tries again.
            let freed = place.remove_content();
            tracing::info!(upload = %id.short(), ?freed, "freed content that was discarded before a crash");
            offset
        }
        (None, Some(bytes)) => Offset::new(bytes),
        (None, None) if tree.find(id)?.is_none() => return Ok(None),
        (None, None) => return Err(place.lost()),
    };
    #[expect(clippy::disallowed_methods, reason = "goes nowhere: only to ask whether the upload is due")]
    let offset = Durable::attest(stored);
    let upload =
        Upload { touched: touched(&place, found.record.upload.touched)?, offset, ..found.record.upload };
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
