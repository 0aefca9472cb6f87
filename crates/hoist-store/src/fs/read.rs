//! Looking at uploads without changing them: the reader, and the sketch of a survey.
//!
//! Owns nothing but open files; takes no fence and no turn.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hoist_proto::types::{Durable, Offset, Timestamp, UploadId};
use hoist_proto::upload::Upload;
use rustix::fs::OFlags;

use super::crew::Hands;
use super::place::{CONTENT, Place};
use super::sys;
use super::tree::Tree;
use crate::store::{Error, Pending, Reader, Sketch};

const READ_BYTES_MAX: usize = 256 * 1024;

/// Opens an upload's content for reading, to where it ends now.
pub(super) fn open(tree: &Tree, id: UploadId, from: Offset, hands: Hands) -> Result<Box<dyn Reader>, Error> {
    let place = tree.find(id)?.ok_or(Error::Missing)?;
    place.trusted()?;
    let file = place.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
    let stat = rustix::fs::fstat(&file).map_err(|errno| place.failed("looking at", CONTENT, errno))?;
    let end = sys::bytes_of(&stat);
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

/// When an upload last changed: what the record says, or when its content got its last byte if that is later.
pub(super) fn touched(place: &Place, recorded: Timestamp) -> Result<Timestamp, Error> {
    let stat = place.dir.stat(CONTENT).map_err(|errno| place.failed("looking at", CONTENT, errno))?;
    let written =
        stat.filter(|stat| stat.st_size > 0).map(|stat| Timestamp::from_millis(sys::changed_ms(&stat)));
    Ok(written.map_or(recorded, |written| written.max(recorded)))
}

/// One upload at one look; `None` when it cannot be read, which is logged, or has gone meanwhile.
pub(super) fn sketch(tree: &Tree, id: UploadId) -> Option<Sketch> {
    match look(tree, id) {
        Ok(sketch) => sketch,
        Err(error) => {
            tracing::warn!(upload = %id.short(), %error, "an upload cannot be read");
            None
        }
    }
}

fn look(tree: &Tree, id: UploadId) -> Result<Option<Sketch>, Error> {
    let Some(place) = tree.find(id)? else { return Ok(None) };
    place.trusted()?;
    let found = match place.record() {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        // Moved or removed between two looks.
        Err(_) if tree.find(id)?.is_none() => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = place.dir.stat(CONTENT).map_err(|errno| place.failed("looking at", CONTENT, errno))?;
    let stored = match (found.record.discarded, &stat) {
        (Some(offset), _) => offset,
        (None, Some(stat)) => Offset::new(sys::bytes_of(stat)),
        (None, None) if tree.find(id)?.is_none() => return Ok(None),
        (None, None) => return Err(place.lost()),
    };
    #[expect(clippy::disallowed_methods, reason = "goes nowhere: only to ask whether the upload is due")]
    let offset = Durable::attest(stored);
    let upload =
        Upload { touched: touched(&place, found.record.upload.touched)?, offset, ..found.record.upload };
    Ok(Some(Sketch {
        id,
        stored,
        is_open: !upload.is_complete(),
        is_due: upload.is_due(),
        expires: upload.expires(),
        touched: upload.touched,
        length: upload.length,
        owner: upload.owner,
        makeup: upload.makeup,
    }))
}
