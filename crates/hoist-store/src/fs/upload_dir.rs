//! The directory of one upload: its record, its content, and the small files beside them.
//!
//! Owns how each file is replaced atomically. Leaves the parent directories to [`data_dir`](super::data_dir), and the
//! writing of content to [`content`](super::content).

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use hoist_proto::types::{Timestamp, UploadId};
use rustix::fs::{OFlags, Stat};
use rustix::io::Errno;

use super::layout::{
    CONTENT, CONTENT_NEW, DAMAGED, DRAFT, ParentDir, RECORD, RECORD_NEW, UNVERIFIED_PREFIX, label,
};
use super::sys::{self, Dir, failed};
use crate::record::{self, Record};
use crate::store::Error;

/// The open directory of an upload.
#[derive(Debug)]
pub(super) struct UploadDir {
    pub(super) parent: ParentDir,
    pub(super) id: UploadId,
    pub(super) handle: Dir,
    pub(super) is_disk: bool,
}

/// A record, and whether it is still a draft, which the first sync renames.
pub(super) struct StoredRecord {
    pub(super) record: Record,
    pub(super) is_draft: bool,
}

impl UploadDir {
    pub(super) fn label(&self) -> String {
        label(self.parent, self.id)
    }

    /// The error for an upload whose content file is missing.
    pub(super) fn content_missing(&self) -> Error {
        Error::Damaged(format!("{} has a record and no content", self.label()))
    }

    /// Returns the metadata of the content. Returns `None` if it was discarded.
    pub(super) fn content_stat(&self) -> Result<Option<Stat>, Error> {
        self.handle.stat(CONTENT).map_err(|errno| self.failed("reading the metadata of", CONTENT, errno))
    }

    /// Removes a file. Succeeds if there is none.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), Error> {
        self.handle.remove_file(name).map_err(|errno| self.failed("removing", name, errno))
    }

    /// Renames a file. Replaces an existing one.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        self.handle
            .rename(from, &self.handle, to)
            .map_err(|errno| self.failed("renaming a file to", to, errno))
    }

    /// Reads the record. Returns `None` if a crash interrupted the upload's creation, so that no client knows of it.
    pub(super) fn record(&self) -> Result<Option<StoredRecord>, Error> {
        // A sync may rename the draft between the first two reads.
        for (name, is_draft) in [(RECORD, false), (DRAFT, true), (RECORD, false)] {
            let Some(bytes) = self.bytes_of(name)? else { continue };
            if is_draft && record::is_torn(&bytes) {
                return Ok(None);
            }
            return Ok(Some(StoredRecord { record: self.parse_record(&bytes)?, is_draft }));
        }
        Ok(None)
    }

    /// Returns whether the record states this time of creation. Reads it for that alone, without a check.
    pub(super) fn states_creation(&self, created: Timestamp) -> Result<bool, Error> {
        let line = record::creation_line(created);
        for name in [RECORD, DRAFT, RECORD] {
            if let Some(bytes) = self.bytes_of(name)? {
                return Ok(bytes.windows(line.len()).any(|window| window == line.as_bytes()));
            }
        }
        Ok(false)
    }

    /// Fails if an earlier version has marked the content as damaged. This version repairs such content instead.
    pub(super) fn check_trusted(&self) -> Result<(), Error> {
        match self.bytes_of(DAMAGED)? {
            None => Ok(()),
            Some(why) => Err(Error::Damaged(String::from_utf8_lossy(&why).trim().to_owned())),
        }
    }

    /// Returns the number of verified bytes, without holding the upload's lock; `None` if there is no content.
    pub(super) fn verified_bytes(&self) -> Result<Option<u64>, Error> {
        self.verified_content().map(|content| content.map(|(bytes, _)| bytes))
    }

    /// Returns the same number with the metadata of the content.
    pub(super) fn verified_content(&self) -> Result<Option<(u64, Stat)>, Error> {
        // Bytes may become unverified, verified or truncated between the two calls. Bytes that are unverified in either
        // call are not counted, which is safe in all three cases.
        let before = self.unverified_from()?;
        let Some(stat) = self.content_stat()? else { return Ok(None) };
        let end = sys::bytes_of(&stat);
        let bytes = [before, self.unverified_from()?].into_iter().flatten().fold(end, u64::min);
        Ok(Some((bytes, stat)))
    }

    /// Returns the offset of the first unverified byte, if there are any.
    ///
    /// The offset is in the marker's name (`doubt.<n>` on disk). A name exists or does not, and one sync of the
    /// directory makes it durable. A file that contained the offset would need two syncs.
    pub(super) fn unverified_from(&self) -> Result<Option<u64>, Error> {
        if self.parent == ParentDir::Done {
            return Ok(None);
        }
        let names = match self.handle.names() {
            // The upload has been removed since its directory was opened.
            Err(Errno::NOENT) => return Ok(None),
            names => names.map_err(|errno| self.failed("listing", "", errno))?,
        };
        let offset = |name: &String| {
            let from = name.strip_prefix(UNVERIFIED_PREFIX)?.parse().ok()?;
            (unverified_marker(from) == *name).then_some(from)
        };
        Ok(names.iter().filter_map(offset).min())
    }

    /// Creates the marker of unverified bytes. It is durable once the directory is synced.
    pub(super) fn add_unverified_marker(&self, from: u64) -> Result<(), Error> {
        let name = unverified_marker(from);
        let made = self.handle.new_file(&name, OFlags::TRUNC);
        made.map(drop).map_err(|errno| self.failed("creating", &name, errno))
    }

    /// Removes a marker. It is gone for good once the directory is synced.
    pub(super) fn remove_unverified_marker(&self, from: u64) -> Result<(), Error> {
        self.remove_file(&unverified_marker(from))
    }

    /// Creates the content of a new upload.
    pub(super) fn new_content(&self) -> Result<OwnedFd, Error> {
        let made = self.handle.new_file(CONTENT, OFlags::EXCL);
        made.map_err(|errno| self.failed("creating", CONTENT, errno))
    }

    /// Opens the content. Returns `None` if it was discarded.
    pub(super) fn content(&self, access: OFlags) -> Result<Option<OwnedFd>, Error> {
        self.handle.file(CONTENT, access).map_err(|errno| self.failed("opening", CONTENT, errno))
    }

    /// Renames the draft to be the record, after syncing it. The name is durable once the directory is synced.
    pub(super) fn rename_draft(&self) -> Result<(), Error> {
        if self.is_disk {
            let doing = |errno| self.failed("syncing", DRAFT, errno);
            let draft =
                self.handle.file(DRAFT, OFlags::RDONLY).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
            sys::sync_data(draft).map_err(doing)?;
        }
        self.rename(DRAFT, RECORD)
    }

    /// Writes the draft of a new upload. It is synced later, together with the content's first bytes.
    pub(super) fn write_draft(&self, record: &Record) -> Result<(), Error> {
        self.write(DRAFT, OFlags::EXCL, &record::to_bytes(record)?)
    }

    /// Writes the record of a new upload, atomically. It is durable once the directory is synced.
    pub(super) fn write_first_record(&self, record: &Record) -> Result<(), Error> {
        self.write(RECORD_NEW, OFlags::EXCL, &record::to_bytes(record)?)?;
        self.rename(RECORD_NEW, RECORD)
    }

    /// Writes or replaces the record, atomically. The new one is durable once the directory is synced.
    pub(super) fn write_record(&self, record: &Record) -> Result<(), Error> {
        self.replace(RECORD, RECORD_NEW, &record::to_bytes(record)?)
    }

    /// Does the same for a record that may be a draft, which it removes.
    pub(super) fn replace_draft(&self, record: &Record) -> Result<(), Error> {
        self.write_record(record)?;
        self.remove_file(DRAFT)
    }

    /// Writes a small file beside the record, atomically and durably.
    pub(super) fn write_durably(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.replace(name, &format!("{name}.new"), bytes)?;
        self.sync()
    }

    /// Reads a small file.
    pub(super) fn bytes_of(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let doing = |errno| self.failed("reading", name, errno);
        let Some(file) = self.handle.file(name, OFlags::RDONLY).map_err(doing)? else { return Ok(None) };
        let bytes = sys::bytes_of(&rustix::fs::fstat(&file).map_err(doing)?);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(record::BYTES_MAX + 1);
        sys::read_at(file, 0, bytes).map(Some).map_err(doing)
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if self.is_disk {
            self.handle.sync().map_err(|errno| self.failed("syncing", "", errno))
        } else {
            Ok(())
        }
    }

    pub(super) fn failed(&self, doing: &str, name: &str, errno: Errno) -> Error {
        failed(format!("{doing} {}/{name}", self.label()), errno)
    }

    /// Returns whether the creation got as far as writing a record, readable or not.
    pub(super) fn has_record(&self) -> Result<bool, Error> {
        let has = |name| self.handle.stat(name).map_err(|errno| self.failed("looking for", name, errno));
        if has(RECORD)?.is_some() {
            return Ok(true);
        }
        match self.bytes_of(DRAFT)? {
            Some(draft) => Ok(!record::is_torn(&draft)),
            // A sync may have renamed the draft between the two calls.
            None => Ok(has(RECORD)?.is_some()),
        }
    }

    /// Returns whether a join of parts has begun and not ended.
    pub(super) fn has_unfinished_join(&self) -> bool {
        self.parent == ParentDir::Open && matches!(self.handle.stat(CONTENT_NEW), Ok(Some(_)))
    }

    fn parse_record(&self, bytes: &[u8]) -> Result<Record, Error> {
        let record = record::from_bytes(bytes)?;
        if record.upload.id == self.id {
            Ok(record)
        } else {
            Err(Error::Damaged(format!("{} holds the record of another upload", self.label())))
        }
    }

    fn replace(&self, name: &str, new: &str, bytes: &[u8]) -> Result<(), Error> {
        let written = self.write(new, OFlags::TRUNC, bytes).and_then(|()| self.rename(new, name));
        if written.is_err() {
            // Best effort: the next attempt overwrites it.
            let _ = self.handle.remove_file(new);
        }
        written
    }

    fn write(&self, name: &str, how: OFlags, bytes: &[u8]) -> Result<(), Error> {
        let doing = |errno| self.failed("writing", name, errno);
        let file = self.handle.new_file(name, how).map_err(doing)?;
        sys::write_all(&file, 0, &mut [IoSlice::new(bytes)]).1.map_err(doing)?;
        if self.is_disk && name != DRAFT { sys::sync_data(&file).map_err(doing) } else { Ok(()) }
    }
}

fn unverified_marker(from: u64) -> String {
    format!("{UNVERIFIED_PREFIX}{from}")
}
