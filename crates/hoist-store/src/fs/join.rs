//! Joining: building one content from those of several parts.
//!
//! Owns the building of the content and the order of its steps. Leaves the preconditions to
//! [`local_store`](super::local_store), and the copying to [`sys`].
//!
//! The content is built as `content.new`, synced, and renamed over the empty `content`. A crash leaves the one or the
//! other; the first listing after it removes `content.new`. The parts are not locked, because complete content never
//! changes and an open file survives its removal. One part is open at a time. The parts need no sync of their own:
//! their bytes are synced with the joined file.
//!
//! An upload with a single part shares the part's file by a hard link. The file is never written again: the part is
//! complete and refuses appends, and a composed upload refuses them once it has content. Exporting one may change the
//! mode of both. The length never changes, so the acknowledged offset in the file's attribute is right for both.

use std::os::fd::OwnedFd;

use hoist_proto::types::{Offset, UploadId};
use hoist_proto::upload::Composition;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::acknowledged;
use super::data_dir::DataDir;
use super::layout::{CONTENT, CONTENT_NEW, ParentDirs};
use super::sys::{self, failed};
use super::upload_dir::UploadDir;
use crate::record::Record;
use crate::store::Error;

/// Builds the content of `parts` in the directory of the upload, and returns its length. Builds nothing if the length
/// is zero. Leaves nothing behind if it fails.
pub(super) fn build(data_dir: &DataDir, dir: &UploadDir, parts: &[UploadId]) -> Result<u64, Error> {
    // An earlier attempt may have left it.
    dir.remove_file(CONTENT_NEW)?;
    let built = Parts::measure(data_dir, parts).and_then(|parts| parts.build_in(dir));
    if built.is_err() {
        // Best effort: the next attempt or listing removes it.
        let _ = dir.handle.remove_file(CONTENT_NEW);
    }
    built
}

/// The complete uploads to join, without the empty ones.
struct Parts<'a> {
    data_dir: &'a DataDir,
    /// Each part and its length.
    all: Vec<(UploadId, u64)>,
    bytes: u64,
}

/// An open part.
struct Part {
    dir: UploadDir,
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
            // More than a file can hold.
            end = end.advance(bytes).ok_or(Error::Full)?;
            if bytes > 0 {
                all.push((id, bytes));
            }
        }
        Ok(Self { data_dir, all, bytes: end.get() })
    }

    //= TUS1-CAT-04
    fn build_in(&self, dir: &UploadDir) -> Result<u64, Error> {
        let Some((&(first, bytes), others)) = self.all.split_first() else { return Ok(0) };
        let first = self.reopen(first, bytes)?;
        let is_linked = if others.is_empty() { self.link(dir, &first)? } else { false };
        let file = if is_linked { first.file } else { self.copy(dir, first, others)? };
        if dir.is_disk {
            sys::sync_data(&file).map_err(|errno| dir.failed("syncing", CONTENT_NEW, errno))?;
        }
        acknowledged::set(&file, self.bytes)
            .map_err(|errno| dir.failed("storing the acknowledged offset of", CONTENT_NEW, errno))?;
        Ok(self.bytes)
    }

    /// Links the part's file as the content, and returns whether that was possible.
    fn link(&self, dir: &UploadDir, part: &Part) -> Result<bool, Error> {
        // Other uploads may be exported by a link, and an export is recognised by being the same file.
        if part.composition != Composition::Part {
            return Ok(false);
        }
        match part.dir.handle.link(CONTENT, &dir.handle, CONTENT_NEW) {
            // The file system has no links, or too many of this file.
            Err(errno) if sys::is_unsupported(errno) => return Ok(false),
            Err(Errno::NOENT) => return Err(Error::Missing),
            linked => linked.map_err(|errno| dir.failed("linking", CONTENT_NEW, errno))?,
        }
        // If a power cut undid the completion of the part, its file could be written, and this content with it.
        part.dir.sync()?;
        self.data_dir.sync_parents(ParentDirs::BOTH)?;
        Ok(true)
    }

    fn copy(&self, dir: &UploadDir, first: Part, others: &[(UploadId, u64)]) -> Result<OwnedFd, Error> {
        let doing = |errno| dir.failed("writing", CONTENT_NEW, errno);
        let joined = dir.handle.new_file(CONTENT_NEW, OFlags::EXCL).map_err(doing)?;
        // On a file system that shares blocks, this call has already filled in the first part.
        if sys::share_blocks(&first.file, &joined).map_err(doing)? {
            self.reserve_unshared(&joined).map_err(doing)?;
        } else {
            self.data_dir.require(self.bytes)?;
            sys::reserve(&joined, 0, self.bytes).map_err(doing)?;
            sys::copy(&first.file, &joined, 0, first.bytes).map_err(doing)?;
        }
        let mut at = first.bytes;
        drop(first);
        for &(part, bytes) in others {
            sys::copy(self.reopen(part, bytes)?.file, &joined, at, bytes).map_err(doing)?;
            at += bytes;
        }
        Ok(joined)
    }

    /// Reserves space for the parts that do not begin at a block boundary and can therefore share no blocks. Reserving
    /// space for the others could refuse a join that fits.
    fn reserve_unshared(&self, joined: &OwnedFd) -> Result<(), Errno> {
        let block = sys::block_bytes(joined)?;
        let mut at = 0;
        for &(_, bytes) in &self.all {
            if at % block != 0 {
                sys::reserve(joined, at, bytes)?;
            }
            at += bytes;
        }
        Ok(())
    }

    /// Opens a part again, which may have been removed since it was measured.
    fn reopen(&self, id: UploadId, bytes: u64) -> Result<Part, Error> {
        let part = Part::open(self.data_dir, id)?;
        if part.bytes == bytes {
            return Ok(part);
        }
        Err(Error::Damaged(format!("{} had {bytes} bytes and now has {}", part.dir.label(), part.bytes)))
    }
}

impl Part {
    /// Opens the content of a complete upload, which must have the length that its record states.
    fn open(data_dir: &DataDir, id: UploadId) -> Result<Self, Error> {
        let dir = data_dir.find_unlocked(id)?.ok_or(Error::Missing)?;
        dir.check_trusted()?;
        let Record { upload, discarded } = dir.record()?.ok_or(Error::Missing)?.record;
        //= TUS1-CAT-05
        if !upload.is_complete() {
            return Err(failed(format!("joining {}, which is not complete", dir.label()), Errno::INVAL));
        }
        if discarded.is_some() {
            return Err(Error::Missing);
        }
        let file = dir.content(OFlags::RDONLY)?.ok_or(Error::Missing)?;
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| dir.failed("reading the metadata of", CONTENT, errno))?;
        let bytes = sys::bytes_of(&stat);
        match upload.length {
            Some(length) if !length.is_reached(Offset::new(bytes)) => {
                let doing = format!("joining {}, which has {bytes} of {length} bytes", dir.label());
                Err(failed(doing, Errno::INVAL))
            }
            _ => Ok(Self { dir, file, bytes, composition: upload.composition }),
        }
    }
}
