//! What lies where below the data directory, and what a crash may have left of it.
//!
//! Owns the layout, the order of the steps by which an upload comes, moves and goes, and what a crash leaves of them.
//! Leaves what is inside an upload's directory to [`upload_dir`](super::upload_dir), and who may do what to
//! [`entry`](super::entry).
//!
//! A torn `record` is therefore damage, never a crash; a torn `draft` is an upload nobody was ever told about.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hoist_proto::types::{Timestamp, UploadId};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::free_space::FreeSpace;
use super::layout::{CONTENT, CONTENT_NEW, DRAFT, ParentDir, ParentDirs, RECORD, REMOVED_SUFFIX, label};
use super::options::{Durability, Options};
use super::setup;
use super::sys::{self, Dir, failed};
use super::upload_dir::UploadDir;
use crate::record::{self, Record};
use crate::store::Error;

/// The open data directory.
pub(super) struct DataDir {
    pub(super) root: Dir,
    open: Dir,
    done: Dir,
    lock: OwnedFd,
    /// True if the store syncs to disk at all.
    is_disk: bool,
    room: Arc<FreeSpace>,
    /// The mode of exported files.
    export_mode: Mode,
    /// Set when a mode that could not be set has been reported.
    is_mode_reported: AtomicBool,
    probes: AtomicU64,
    is_open_clean: AtomicBool,
    is_done_clean: AtomicBool,
}

/// The remains of an upload that only a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    Nothing,
    /// A directory without a record: no client was ever told of the upload.
    Creation,
    /// Content that was being joined from parts.
    Join,
}

impl DataDir {
    /// Opens or makes the directory, and locks it. What a crash left in it is cleared away on the way of the first listing.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let is_disk = options.durability == Durability::Disk;
        setup::make(path, is_disk)?;
        let root = Dir::at_path(path)
            .map_err(|errno| failed(format!("opening the data directory {}", path.display()), errno))?;
        let lock = setup::lock(&root, path)?;
        let again = root.again().map_err(|errno| failed("opening the data directory", errno))?;
        let data_dir = Self {
            open: parent(&root, "open")?,
            done: parent(&root, "done")?,
            export_mode: setup::shared_file_mode(&root)?,
            is_mode_reported: AtomicBool::new(false),
            room: Arc::new(FreeSpace::new(again, options.headroom)),
            is_disk,
            probes: AtomicU64::new(0),
            is_open_clean: AtomicBool::new(false),
            is_done_clean: AtomicBool::new(false),
            lock,
            root,
        };
        if data_dir.is_disk {
            data_dir.root.sync().map_err(|errno| failed("syncing the data directory", errno))?;
        }
        Ok(data_dir)
    }

    pub(super) fn is_disk(&self) -> bool {
        self.is_disk
    }

    pub(super) fn room(&self) -> &Arc<FreeSpace> {
        &self.room
    }

    /// Makes a file as readable to other programs as the umask allows. An error is logged once and otherwise ignored,
    /// because some file systems (SMB, FUSE, FAT) do not let modes be set.
    pub(super) fn open_to_others(&self, file: &OwnedFd) {
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
                "files are delivered without the mode of the umask: the file system does not let it be set"
            );
        }
    }

    /// Lets another process have the directory, also while a reader or writer of this one is still about.
    pub(super) fn unlock(&self) {
        // It fails for a closed descriptor alone, and then nothing is locked.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }

    /// The directory of a shelf.
    pub(super) fn dir_of(&self, on: ParentDir) -> &Dir {
        match on {
            ParentDir::Open => &self.open,
            ParentDir::Done => &self.done,
        }
    }

    /// Makes the names on shelves durable.
    pub(super) fn sync_parents(&self, parents: ParentDirs) -> Result<(), Error> {
        // The destination of a move first: in the other order a crash in between could leave the upload on neither.
        for (is_due, parent) in [(parents.done, ParentDir::Done), (parents.open, ParentDir::Open)] {
            if is_due && self.is_disk {
                self.dir_of(parent).sync().map_err(|errno| failed(format!("syncing {parent}"), errno))?;
            }
        }
        Ok(())
    }

    /// Where an upload lies. Done first: an upload that a foreign copy left on both has gone further there.
    pub(super) fn find(&self, id: UploadId) -> Result<Option<UploadDir>, Error> {
        for parent in [ParentDir::Done, ParentDir::Open] {
            //= TOK-TOKEN-04
            let found = match self.dir_of(parent).dir(&id.to_string()) {
                // Something that is no directory has the name: not made by us, so not believed and not followed.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::Damaged(format!("{} is no directory", label(parent, id))));
                }
                found => found.map_err(|errno| failed(format!("opening {}", label(parent, id)), errno))?,
            };
            if let Some(dir) = found {
                return Ok(Some(UploadDir::new(parent, id, dir, self.is_disk)));
            }
        }
        Ok(None)
    }

    /// The same for somebody without the upload's turn: it may be moved to the other shelf while it is looked for.
    pub(super) fn look_for(&self, id: UploadId) -> Result<Option<UploadDir>, Error> {
        match self.find(id)? {
            None => self.find(id),
            found => Ok(found),
        }
    }

    /// Sees to it that there is no upload of this id, nor what a failed removal of a failed creation left of one.
    pub(super) fn clear_for(&self, id: UploadId) -> Result<(), Error> {
        match self.find(id)? {
            Some(upload_dir) if upload_dir.is_begun()? => Err(Error::Exists),
            Some(upload_dir) => self.remove(&upload_dir),
            None => Ok(()),
        }
    }

    /// Makes the directory of a new upload, with its draft and its empty content. All of it or nothing is left behind.
    pub(super) fn create(&self, record: &Record) -> Result<(UploadDir, OwnedFd), Error> {
        let id = record.upload.id;
        // The content of one made of parts is another file, and may share its blocks with theirs.
        if let Some(length) = record.upload.length
            && length.get() >= REQUIRED_BYTES_MIN
            && !record.upload.composition.is_composed()
        {
            self.room.require(length.get())?;
        }
        let doing = |errno| failed(format!("creating {}", label(ParentDir::Open, id)), errno);
        match self.open.make_dir(&id.to_string()) {
            Err(Errno::EXIST) => return Err(Error::Exists),
            made => made.map_err(doing)?,
        }
        let filled = (|| {
            let dir = self.open.dir(&id.to_string()).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
            let upload_dir = UploadDir::new(ParentDir::Open, id, dir, self.is_disk);
            let content = upload_dir.dir.new_file(CONTENT, OFlags::EXCL).map_err(doing)?;
            // Last: a directory with a draft is an upload.
            upload_dir.write(DRAFT, &record::to_bytes(record)?)?;
            Ok((upload_dir, content))
        })();
        if filled.is_err() {
            self.erase(ParentDir::Open, &id.to_string())?;
        }
        filled
    }

    /// Moves an upload to the shelf of those that take no more bytes.
    pub(super) fn finish(&self, upload_dir: &mut UploadDir) -> Result<ParentDirs, Error> {
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

    /// Removes an upload. The one step that counts is the first, a rename; the rest can be done after a crash too.
    pub(super) fn remove(&self, upload_dir: &UploadDir) -> Result<(), Error> {
        let uploads = self.dir_of(upload_dir.parent);
        let (name, gone) = (upload_dir.id.to_string(), format!("{}{REMOVED_SUFFIX}", upload_dir.id));
        self.erase(upload_dir.parent, &gone)?;
        uploads
            .rename(&name, uploads, &gone)
            .map_err(|errno| failed(format!("removing {}", upload_dir.label()), errno))?;
        if let Err(error) = self.erase(upload_dir.parent, &gone) {
            tracing::warn!(upload = %upload_dir.id.short(), error = %said(&error), "files of a removed upload stay");
        }
        Ok(())
    }

    /// Writes, syncs and removes a little file.
    pub(super) fn check_health(&self) -> Result<(), Error> {
        if self.root.is_deleted() || self.open.is_deleted() || self.done.is_deleted() {
            return Err(Error::Io {
                doing: "the data directory has been deleted; make it again and restart".to_owned(),
                source: Errno::NOENT.into(),
            });
        }
        if self.room.left() == Some(0) {
            return Err(Error::Full);
        }
        let name = format!("probe-{}", self.probes.fetch_add(1, Ordering::Relaxed));
        let doing = |errno| match errno {
            Errno::ROFS => failed("the data directory's file system is read-only", errno),
            Errno::ACCESS | Errno::PERM => {
                failed("the data directory may not be written by this user", errno)
            }
            errno => failed("writing to the data directory", errno),
        };
        let file = self.root.new_file(&name, OFlags::TRUNC).map_err(doing)?;
        let (_, written) = sys::write_all(&file, 0, &mut [IoSlice::new(&[0; 4096])]);
        let synced = written.and_then(|()| if self.is_disk { sys::sync_data(&file) } else { Ok(()) });
        self.root.remove_file(&name).map_err(doing)?;
        synced.map_err(doing)
    }

    /// Returns `true` for the first caller on each shelf, which must then clean it.
    pub(super) fn begins_to_clean(&self, on: ParentDir) -> bool {
        let is_clean = match on {
            ParentDir::Open => &self.is_open_clean,
            ParentDir::Done => &self.is_done_clean,
        };
        !is_clean.swap(true, Ordering::Relaxed)
    }

    /// The id of the upload whose unfinished removal left the entry.
    pub(super) fn half_removed(entry: &str) -> Option<UploadId> {
        entry.strip_suffix(REMOVED_SUFFIX)?.parse().ok()
    }

    /// The time at which an upload's record or content last changed, if either could be read.
    pub(super) fn changed(&self, on: ParentDir, entry: &str) -> Option<Timestamp> {
        let stat = |file| self.dir_of(on).stat(&format!("{entry}/{file}")).ok().flatten();
        let record = stat(RECORD).or_else(|| stat(DRAFT));
        let changed = [record, stat(CONTENT)].into_iter().flatten().map(|stat| sys::changed_ms(&stat)).max();
        changed.map(Timestamp::from_millis)
    }

    /// Returns the remains of an upload that a crash left. Not conclusive while an operation on the upload is
    /// running.
    pub(super) fn leftover(&self, on: ParentDir, id: UploadId, entry: &str) -> Leftover {
        let Ok(Some(dir)) = self.dir_of(on).dir(entry) else { return Leftover::Nothing };
        let upload_dir = UploadDir::new(on, id, dir, self.is_disk);
        match upload_dir.is_begun() {
            Ok(false) => Leftover::Creation,
            Ok(true) if on == ParentDir::Open && matches!(upload_dir.dir.stat(CONTENT_NEW), Ok(Some(_))) => {
                Leftover::Join
            }
            Ok(true) | Err(_) => Leftover::Nothing,
        }
    }

    /// Removes what only a crash leaves: half-removed uploads, those that never got a record, and unfinished joins. To be
    /// called with the upload's turn. A failure is logged and concerns this one upload.
    pub(super) fn clean(&self, on: ParentDir, id: UploadId, entry: &str) {
        let cleaned = if Self::half_removed(entry).is_some() {
            self.erase(on, entry)
        } else {
            match self.leftover(on, id, entry) {
                Leftover::Nothing => Ok(()),
                Leftover::Creation => {
                    tracing::info!(upload = %id.short(), "removed what a crash left of an upload's creation");
                    self.erase(on, entry)
                }
                Leftover::Join => self.clean_join(on, id, entry),
            }
        };
        if let Err(error) = cleaned {
            tracing::warn!(error = %said(&error), "an entry of the data directory is passed over");
        }
    }

    fn clean_join(&self, on: ParentDir, id: UploadId, entry: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing {CONTENT_NEW} of {}", label(on, id)), errno);
        let Some(dir) = self.dir_of(on).dir(entry).map_err(doing)? else { return Ok(()) };
        dir.remove_file(CONTENT_NEW).map_err(doing)
    }

    /// Removes a directory of ours with the files in it.
    fn erase(&self, on: ParentDir, name: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing a directory from {on}"), errno);
        let Some(dir) = self.dir_of(on).dir(name).map_err(doing)? else { return Ok(()) };
        for file in dir.names().map_err(doing)? {
            dir.remove_file(&file).map_err(doing)?;
        }
        self.dir_of(on).remove_dir(name).map_err(doing)
    }
}

/// The file system is asked for its room from here on; less fits or fails within the same request anyway.
const REQUIRED_BYTES_MIN: u64 = 256 * 1024;

/// A failure with its cause, for the log.
fn said(error: &Error) -> String {
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
