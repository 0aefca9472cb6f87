//! The data directory: its two directories of uploads, and what a crash may leave in them.
//!
//! Owns the order of the steps by which an upload is created, moved and removed, and the cleanup after a crash. Leaves
//! the names to [`layout`](super::layout), the files of one upload to [`upload_dir`](super::upload_dir), and fences to
//! [`entry`](super::entry).
//!
//! A torn `record` is damage, because a record is durable before it gets its name. A torn `draft` is an upload that was
//! never acknowledged.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use hoist_proto::types::{Timestamp, UploadId};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::event_dir::EventDir;
use super::layout::{CONTENT, CONTENT_NEW, DEAD, GONE, ParentDir, ParentDirs, REMOVED_SUFFIX, label};
use super::options::{Durability, Headroom, Options};
use super::setup;
use super::sys::{self, Dir, failed};
use super::upload_dir::UploadDir;
use crate::record::Record;
use crate::store::Error;

/// The open data directory.
pub(super) struct DataDir {
    pub(super) root: Dir,
    open: Dir,
    done: Dir,
    pub(super) gone: EventDir,
    pub(super) dead: EventDir,
    lock: OwnedFd,
    /// True if the store syncs to disk at all ([`Durability::Disk`]).
    pub(super) is_disk: bool,
    pub(super) headroom: Mutex<Headroom>,
    /// Bytes that may be written before the file system's free space is queried again.
    pub(super) granted: AtomicU64,
    /// The mode of exported files.
    export_mode: Mode,
    /// True once a failure to set the mode has been logged.
    is_mode_reported: AtomicBool,
    health_checks: AtomicU64,
    /// True for each parent directory whose cleanup has begun.
    is_cleaned: [AtomicBool; 2],
    /// The result of the last health check.
    pub(super) was_nearly_full: AtomicBool,
}

/// The remains that a crash leaves of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    Nothing,
    /// A directory without a record. No client knows of the upload.
    Creation,
    /// Content that was being joined from parts.
    Join,
}

impl DataDir {
    /// Opens the directory, which is created if necessary, and locks it. The first listing removes what a crash
    /// left.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let is_disk = options.durability == Durability::Disk;
        setup::make(path, is_disk)?;
        let root = Dir::at_path(path)
            .map_err(|errno| failed(format!("opening the data directory {}", path.display()), errno))?;
        let lock = setup::lock(&root, path)?;
        let data_dir = Self {
            open: parent(&root, "open")?,
            done: parent(&root, "done")?,
            gone: EventDir::open(&root, GONE, is_disk)?,
            dead: EventDir::open(&root, DEAD, is_disk)?,
            export_mode: setup::shared_file_mode(&root)?,
            is_mode_reported: AtomicBool::new(false),
            headroom: Mutex::new(options.headroom),
            granted: AtomicU64::new(0),
            is_disk,
            health_checks: AtomicU64::new(0),
            is_cleaned: Default::default(),
            was_nearly_full: AtomicBool::new(false),
            lock,
            root,
        };
        if data_dir.is_disk {
            data_dir.root.sync().map_err(|errno| failed("syncing the data directory", errno))?;
        }
        data_dir.dead.recover(|_| Ok(false));
        data_dir.gone.recover(|removed| data_dir.has_creation(removed.id, removed.created));
        Ok(data_dir)
    }

    /// Makes a file as readable for other programs as the umask allows. A failure is logged once and otherwise ignored,
    /// because some file systems (SMB, FUSE, FAT) do not support modes.
    pub(super) fn set_export_mode(&self, file: &OwnedFd) {
        let mode = rustix::fs::fstat(file).map(|stat| Mode::from_raw_mode(stat.st_mode));
        if mode.is_ok_and(|mode| mode == self.export_mode) {
            return;
        }
        if let Err(errno) = rustix::fs::fchmod(file, self.export_mode)
            && !self.is_mode_reported.swap(true, Ordering::Relaxed)
        {
            let mode = self.export_mode.as_raw_mode();
            tracing::warn!(
                %errno,
                mode = format_args!("{mode:o}"),
                "exported files do not get the mode of the umask: the file system refuses to set it"
            );
        }
    }

    /// Releases the lock, so that another process can open the directory while a reader or writer still exists.
    pub(super) fn unlock(&self) {
        // Fails only for a closed descriptor, and then nothing is locked.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }

    pub(super) fn dir_of(&self, parent: ParentDir) -> &Dir {
        match parent {
            ParentDir::Open => &self.open,
            ParentDir::Done => &self.done,
        }
    }

    /// Makes the names in parent directories durable.
    pub(super) fn sync_parents(&self, parents: ParentDirs) -> Result<(), Error> {
        // The destination of a move first. In the other order, a crash in between could leave the upload in neither.
        for (is_due, parent) in [(parents.done, ParentDir::Done), (parents.open, ParentDir::Open)] {
            if is_due && self.is_disk {
                self.dir_of(parent).sync().map_err(|errno| failed(format!("syncing {parent}"), errno))?;
            }
        }
        Ok(())
    }

    /// Finds the directory of an upload. If a copy made outside hoist left it in both, the one in `done` has progressed
    /// further.
    pub(super) fn find(&self, id: UploadId) -> Result<Option<UploadDir>, Error> {
        match self.find_in(ParentDir::Done, id)? {
            None => self.find_in(ParentDir::Open, id),
            found => Ok(found),
        }
    }

    /// Opens the directory of an upload in one of the two parent directories, if it is there.
    //= TOK-TOKEN-04
    pub(super) fn find_in(&self, parent: ParentDir, id: UploadId) -> Result<Option<UploadDir>, Error> {
        let found = match self.dir_of(parent).dir(&id.to_string()) {
            // hoist creates only directories here. A file or a link is neither trusted nor followed.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::Damaged(format!("{} is not a directory", label(parent, id))));
            }
            found => found.map_err(|errno| failed(format!("opening {}", label(parent, id)), errno))?,
        };
        Ok(found.map(|dir| self.upload_dir(parent, id, dir)))
    }

    /// Returns whether there is an upload with this id that was created at this time.
    fn has_creation(&self, id: UploadId, created: Timestamp) -> Result<bool, Error> {
        let Some(upload_dir) = self.find(id)? else { return Ok(false) };
        Ok(upload_dir.record()?.is_some_and(|found| found.record.upload.created == created))
    }

    fn upload_dir(&self, parent: ParentDir, id: UploadId, handle: Dir) -> UploadDir {
        UploadDir { parent, id, handle, is_disk: self.is_disk }
    }

    /// Does the same without the upload's lock: the upload may be moved to `done` during the search.
    pub(super) fn find_unlocked(&self, id: UploadId) -> Result<Option<UploadDir>, Error> {
        match self.find(id)? {
            None => self.find(id),
            found => Ok(found),
        }
    }

    /// Makes sure that the id is free. Removes the remains of a creation that failed.
    fn ensure_free(&self, id: UploadId) -> Result<(), Error> {
        match self.find(id)? {
            Some(upload_dir) if upload_dir.has_record()? => Err(Error::Exists),
            Some(upload_dir) => self.remove(&upload_dir),
            None => Ok(()),
        }
    }

    /// Makes the directory of a new upload and fills it. Leaves nothing behind if either fails. Fails with
    /// [`Error::Exists`] if the id is not free.
    fn make_upload_dir<T>(
        &self,
        parent: ParentDir,
        id: UploadId,
        fill: impl FnOnce(UploadDir) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (name, uploads) = (id.to_string(), self.dir_of(parent));
        let doing = |errno| failed(format!("creating {}", label(parent, id)), errno);
        if self.dir_of(parent.other()).stat(&name).map_err(doing)?.is_some() {
            self.ensure_free(id)?;
        }
        // Looked for only if the name is taken, which is rare.
        if let Err(errno) = uploads.make_dir(&name) {
            if errno != Errno::EXIST {
                return Err(doing(errno));
            }
            self.ensure_free(id)?;
            uploads.make_dir(&name).map_err(doing)?;
        }
        let opened = uploads.dir(&name).and_then(|dir| dir.ok_or(Errno::NOENT)).map_err(doing);
        let filled = opened.and_then(|dir| fill(self.upload_dir(parent, id, dir)));
        if filled.is_err() {
            self.delete_dir(parent, &name)?;
        }
        filled
    }

    /// Creates the directory of a new upload, with a draft and an empty content, if the id is free and `admit` succeeds.
    /// Leaves nothing behind if it fails.
    pub(super) fn create(
        &self,
        record: &Record,
        admit: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(UploadDir, OwnedFd), Error> {
        // A joined content is a new file, and may share blocks with its parts.
        if let Some(length) = record.upload.length
            && length.get() >= REQUIRED_BYTES_MIN
            && !record.upload.composition.is_composed()
        {
            self.require(length.get())?;
        }
        self.make_upload_dir(ParentDir::Open, record.upload.id, |upload_dir| {
            admit()?;
            let content = upload_dir.new_content()?;
            // Last, because a directory with a draft is an upload.
            upload_dir.write_draft(record)?;
            Ok((upload_dir, content))
        })
    }

    /// Creates the directory of a complete upload, with its content, if the id is free and `admit` succeeds. Returns the
    /// number of bytes. Leaves nothing behind if it fails. The upload is durable once its parent directory is synced.
    pub(super) fn create_whole(
        &self,
        record: &Record,
        content: &[Bytes],
        admit: impl FnOnce() -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let bytes = content.iter().map(|piece| piece.len() as u64).sum();
        if self.grant(bytes) < bytes {
            return Err(Error::Full);
        }
        self.make_upload_dir(ParentDir::Done, record.upload.id, |upload_dir| {
            let doing = |errno| upload_dir.failed("writing", CONTENT, errno);
            if !record.upload.is_complete() {
                return Err(doing(Errno::INVAL));
            }
            admit()?;
            let file = upload_dir.new_content()?;
            let mut pieces = content.iter().map(|piece| IoSlice::new(piece)).collect::<Vec<_>>();
            sys::write_all(&file, 0, &mut pieces).1.map_err(doing)?;
            if self.is_disk {
                sys::sync_data(&file).map_err(doing)?;
            }
            // Last, because a directory with a record is an upload. The record states the length, so the content needs no
            // attribute that does.
            upload_dir.write_first_record(record)?;
            upload_dir.sync()?;
            Ok(bytes)
        })
    }

    /// Moves a complete upload to `done`.
    pub(super) fn move_to_done(&self, upload_dir: &mut UploadDir) -> Result<ParentDirs, Error> {
        if upload_dir.parent == ParentDir::Done {
            return Ok(ParentDirs::NONE);
        }
        let name = upload_dir.id.to_string();
        self.open
            .rename(&name, &self.done, &name)
            .map_err(|errno| failed(format!("moving {} to done", upload_dir.label()), errno))?;
        upload_dir.parent = ParentDir::Done;
        Ok(ParentDirs::BOTH)
    }

    /// Removes an upload. The rename is the step that counts; the rest can be done after a crash, too.
    pub(super) fn remove(&self, upload_dir: &UploadDir) -> Result<(), Error> {
        let uploads = self.dir_of(upload_dir.parent);
        let (name, gone) = (upload_dir.id.to_string(), format!("{}{REMOVED_SUFFIX}", upload_dir.id));
        self.delete_dir(upload_dir.parent, &gone)?;
        uploads
            .rename(&name, uploads, &gone)
            .map_err(|errno| failed(format!("removing {}", upload_dir.label()), errno))?;
        if let Err(error) = self.delete_dir(upload_dir.parent, &gone) {
            tracing::warn!(upload = %upload_dir.id.short(), error = %with_cause(&error), "could not delete the files of a removed upload yet");
        }
        Ok(())
    }

    /// Writes, syncs and removes a small file.
    pub(super) fn check_health(&self) -> Result<(), Error> {
        if self.root.is_deleted() || self.open.is_deleted() || self.done.is_deleted() {
            return Err(Error::Io {
                doing: "the data directory has been deleted; create it again and restart the server"
                    .to_owned(),
                source: Errno::NOENT.into(),
            });
        }
        if self.is_nearly_full() {
            return Err(Error::Full);
        }
        let name = format!("probe-{}", self.health_checks.fetch_add(1, Ordering::Relaxed));
        let doing = |errno| match errno {
            Errno::ROFS => failed("the data directory's file system is read-only", errno),
            Errno::ACCESS | Errno::PERM => failed("the data directory is not writable for this user", errno),
            errno => failed("writing to the data directory", errno),
        };
        let file = self.root.new_file(&name, OFlags::TRUNC).map_err(doing)?;
        let (_, written) = sys::write_all(&file, 0, &mut [IoSlice::new(&[0; 4096])]);
        let synced = written.and_then(|()| if self.is_disk { sys::sync_data(&file) } else { Ok(()) });
        self.root.remove_file(&name).map_err(doing)?;
        synced.map_err(doing)
    }

    /// Returns true for the first caller on each directory, which must then clean it.
    pub(super) fn claim_cleanup(&self, parent: ParentDir) -> bool {
        !self.is_cleaned[parent as usize].swap(true, Ordering::Relaxed)
    }

    /// Returns the id of the upload whose unfinished removal left an entry.
    pub(super) fn removed_id(entry: &str) -> Option<UploadId> {
        entry.strip_suffix(REMOVED_SUFFIX)?.parse().ok()
    }

    /// Returns what a crash left of an upload. Not conclusive while an operation on the upload runs.
    fn leftover(&self, parent: ParentDir, id: UploadId) -> Leftover {
        let Ok(Some(upload_dir)) = self.find_in(parent, id) else { return Leftover::Nothing };
        match upload_dir.has_record() {
            Ok(false) => Leftover::Creation,
            Ok(true) if upload_dir.has_unfinished_join() => Leftover::Join,
            Ok(true) | Err(_) => Leftover::Nothing,
        }
    }

    /// Removes what only a crash leaves: unfinished removals, creations and joins. Must be called with the upload's
    /// lock. A failure is logged and affects this upload only.
    pub(super) fn clean(&self, parent: ParentDir, id: UploadId, entry: &str) {
        let cleaned = if Self::removed_id(entry).is_some() {
            self.delete_dir(parent, entry)
        } else {
            match self.leftover(parent, id) {
                Leftover::Nothing => Ok(()),
                Leftover::Creation => {
                    tracing::info!(upload = %id.short(), "removed what a crash left of an upload's creation");
                    self.delete_dir(parent, entry)
                }
                Leftover::Join => self.clean_join(parent, id, entry),
            }
        };
        if let Err(error) = cleaned {
            tracing::warn!(error = %with_cause(&error), "could not clean up an entry of the data directory");
        }
    }

    fn clean_join(&self, parent: ParentDir, id: UploadId, entry: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing {CONTENT_NEW} of {}", label(parent, id)), errno);
        let Some(dir) = self.dir_of(parent).dir(entry).map_err(doing)? else { return Ok(()) };
        dir.remove_file(CONTENT_NEW).map_err(doing)
    }

    /// Deletes a directory and the files in it.
    fn delete_dir(&self, parent: ParentDir, name: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing a directory from {parent}"), errno);
        let uploads = self.dir_of(parent);
        let dir = match uploads.dir(name) {
            Ok(dir) => dir,
            // An empty one can be removed without a descriptor, of which the process may have none left.
            Err(errno) => return uploads.remove_dir(name).map_err(|_| doing(errno)),
        };
        let Some(dir) = dir else { return Ok(()) };
        for file in dir.names().map_err(doing)? {
            dir.remove_file(&file).map_err(doing)?;
        }
        uploads.remove_dir(name).map_err(doing)
    }
}

/// The length from which on a creation checks the free space. Less fits, or fails within the same request.
const REQUIRED_BYTES_MIN: u64 = 256 * 1024;

/// An error with its cause, for the log.
fn with_cause(error: &Error) -> String {
    match error {
        Error::Io { doing, source } => format!("{doing}: {source}"),
        error => error.to_string(),
    }
}

fn parent(root: &Dir, name: &str) -> Result<Dir, Error> {
    let doing = |errno| failed(format!("opening {name} in the data directory"), errno);
    match root.make_dir(name) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(doing(errno)),
    }
    root.dir(name).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))
}
