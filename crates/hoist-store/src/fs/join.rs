//! Making one content of several: the file built beside, and the moment it takes the old one's place.
//!
//! Owns where the bytes come from and the order of the steps. Leaves whether the upload may be joined onto to
//! [`fs`](super), and the moving of bytes to [`sys`].
//!
//! A content is built as `content.new`, synced, and renamed over the empty `content`: a crash leaves the one or the
//! other, and what it leaves of `content.new` the next start removes. The parts are not locked: complete content never
//! changes, and an open file outlives its name. One part is open at a time, however many there are, and none is synced:
//! what a part has is in one file with the rest then, and that is.
//!
//! A whole that is one part alone shares its file by a hard link. Nothing ever writes to it again: it is complete, and so
//! refuses appends, and an upload made of parts refuses them once it has content. Its mode may change when the whole is
//! exported, its length never, and its notes say the same of both.

use std::os::fd::OwnedFd;

use hoist_proto::types::{Offset, UploadId};
use hoist_proto::upload::Composition;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::acknowledged;
use super::data_dir::DataDir;
use super::layout::ParentDirs;
use super::layout::{CONTENT, CONTENT_NEW};
use super::sys::{self, failed};
use super::upload_dir::UploadDir;
use crate::record::Record;
use crate::store::Error;

/// Builds the content of `parts` beside that of `place`, if it has any; how many bytes it has. Nothing is left when it
/// fails.
pub(super) fn build(data_dir: &DataDir, upload_dir: &UploadDir, parts: &[UploadId]) -> Result<u64, Error> {
    clear(upload_dir)?;
    let built = Parts::measure(data_dir, parts).and_then(|parts| parts.put_together(upload_dir));
    if built.is_err() {
        // Best effort: the next start removes it.
        let _ = upload_dir.dir.remove_file(CONTENT_NEW);
    }
    built
}

/// Puts what was built in the place of the content. Durable once the directory is synced.
pub(super) fn install(upload_dir: &UploadDir) -> Result<(), Error> {
    let doing = |errno| upload_dir.failed("naming", CONTENT_NEW, errno);
    upload_dir.dir.rename(CONTENT_NEW, &upload_dir.dir, CONTENT).map_err(doing)
}

/// Removes what an earlier try left.
fn clear(upload_dir: &UploadDir) -> Result<(), Error> {
    upload_dir.dir.remove_file(CONTENT_NEW).map_err(|errno| upload_dir.failed("removing", CONTENT_NEW, errno))
}

/// Complete uploads to be joined, those without content left out.
struct Parts<'a> {
    data_dir: &'a DataDir,
    /// Each with its bytes.
    all: Vec<(UploadId, u64)>,
    bytes: u64,
}

/// One of them, open.
struct Part {
    upload_dir: UploadDir,
    file: OwnedFd,
    bytes: u64,
    composition: Composition,
}

impl<'a> Parts<'a> {
    fn measure(data_dir: &'a DataDir, ids: &[UploadId]) -> Result<Self, Error> {
        let mut all = Vec::with_capacity(ids.len());
        let mut end = Offset::ZERO;
        for &id in ids {
            let bytes = Part::open(data_dir, id)?.bytes;
            // More than a file can have.
            end = end.advance(bytes).ok_or(Error::Full)?;
            if bytes > 0 {
                all.push((id, bytes));
            }
        }
        Ok(Self { data_dir, all, bytes: end.get() })
    }

    //= TUS1-CAT-04
    fn put_together(&self, upload_dir: &UploadDir) -> Result<u64, Error> {
        let Some((&(first, bytes), others)) = self.all.split_first() else { return Ok(0) };
        let first = self.again(first, bytes)?;
        let shared = if others.is_empty() { self.share(upload_dir, &first)? } else { false };
        let file = if shared { first.file } else { self.copy(upload_dir, first, others)? };
        if upload_dir.is_disk() {
            sys::sync_data(&file).map_err(|errno| upload_dir.failed("syncing", CONTENT_NEW, errno))?;
        }
        acknowledged::set(&file, self.bytes)
            .map_err(|errno| upload_dir.failed("noting the bytes of", CONTENT_NEW, errno))?;
        Ok(self.bytes)
    }

    /// Makes the content the same file as its only part's, if it may be; whether it is.
    fn share(&self, upload_dir: &UploadDir, part: &Part) -> Result<bool, Error> {
        // Others may be exported by a link, which is found again by being the same file.
        if part.composition != Composition::Part {
            return Ok(false);
        }
        match part.upload_dir.dir.link(CONTENT, &upload_dir.dir, CONTENT_NEW) {
            // The file system has no links, or not so many.
            Err(errno) if sys::is_refusal(errno) => return Ok(false),
            Err(Errno::NOENT) => return Err(Error::Missing),
            linked => linked.map_err(|errno| upload_dir.failed("linking", CONTENT_NEW, errno))?,
        }
        // If a power cut took back that the part is complete, it could be written to, and this with it.
        part.upload_dir.sync()?;
        self.data_dir.sync_parents(ParentDirs::BOTH)?;
        Ok(true)
    }

    fn copy(
        &self,
        upload_dir: &UploadDir,
        first: Part,
        others: &[(UploadId, u64)],
    ) -> Result<OwnedFd, Error> {
        let doing = |errno| upload_dir.failed("filling", CONTENT_NEW, errno);
        let whole = upload_dir.dir.new_file(CONTENT_NEW, OFlags::EXCL).map_err(doing)?;
        // A file system on which files can share their blocks says so at the first part, and then has it already.
        if sys::share_blocks(&first.file, &whole).map_err(doing)? {
            self.reserve_unshared(&whole).map_err(doing)?;
        } else {
            self.data_dir.room().require(self.bytes)?;
            sys::reserve(&whole, 0, self.bytes).map_err(doing)?;
            sys::copy(&first.file, &whole, 0, first.bytes).map_err(doing)?;
        }
        let mut at = first.bytes;
        drop(first);
        for &(part, bytes) in others {
            sys::copy(self.again(part, bytes)?.file, &whole, at, bytes).map_err(doing)?;
            at += bytes;
        }
        Ok(whole)
    }

    /// Sets room aside where blocks can be shared, for the parts that cannot share theirs because they do not begin with
    /// one. For the others it would take room they do not need, and could refuse what fits.
    fn reserve_unshared(&self, whole: &OwnedFd) -> Result<(), Errno> {
        let block = sys::block_bytes(whole)?;
        let mut at = 0;
        for &(_, bytes) in &self.all {
            if at % block != 0 {
                sys::reserve(whole, at, bytes)?;
            }
            at += bytes;
        }
        Ok(())
    }

    /// Opens a part that was measured: it may have been removed since.
    fn again(&self, id: UploadId, bytes: u64) -> Result<Part, Error> {
        let part = Part::open(self.data_dir, id)?;
        if part.bytes == bytes {
            return Ok(part);
        }
        Err(Error::Damaged(format!("{} had {bytes} bytes and has {}", part.upload_dir.label(), part.bytes)))
    }
}

impl Part {
    /// Opens the content of a complete upload, which has as many bytes as its record says.
    fn open(data_dir: &DataDir, id: UploadId) -> Result<Self, Error> {
        let upload_dir = data_dir.look_for(id)?.ok_or(Error::Missing)?;
        upload_dir.trusted()?;
        let Record { upload, discarded } = upload_dir.record()?.ok_or(Error::Missing)?.record;
        //= TUS1-CAT-05
        if !upload.is_complete() {
            return Err(failed(
                format!("joining {}, which is not complete", upload_dir.label()),
                Errno::INVAL,
            ));
        }
        if discarded.is_some() {
            return Err(Error::Missing);
        }
        let file = upload_dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| upload_dir.failed("looking at", CONTENT, errno))?;
        let bytes = sys::bytes_of(&stat);
        match upload.length {
            Some(length) if !length.is_reached(Offset::new(bytes)) => {
                let doing = format!("joining {}, which has {bytes} of {length} bytes", upload_dir.label());
                Err(failed(doing, Errno::INVAL))
            }
            _ => Ok(Self { upload_dir, file, bytes, composition: upload.composition }),
        }
    }
}
