//! What lies where below the data directory, and what a crash may have left of it.
//!
//! Owns the layout, the order of the steps by which an upload comes, moves and goes, and what a crash leaves of them.
//! Leaves what is inside an upload's directory to [`place`](super::place), and who may do what to
//! [`entry`](super::entry).
//!
//! ```text
//! DATA/lock                 held by the one process that uses the directory; says which
//! DATA/seen                 when the directory was last in use, in milliseconds since the epoch
//! DATA/open/<id>/content    the bytes; their number is the offset
//! DATA/open/<id>/draft      the record as it was created, until the first sync has made it durable
//! DATA/open/<id>/record     the record; a file of this name was durable before it got the name
//! DATA/open/<id>/record.new a record being written
//! DATA/open/<id>/doubt.<n>  empty; says that the content counts up to byte <n> alone, whatever lies behind it
//! DATA/open/<id>/content.new a content being joined of other uploads' contents
//! DATA/open/<id>/damaged    says why the content is not to be trusted; earlier versions made it
//! DATA/open/<id>.gone/      an upload being removed
//! DATA/done/<id>/…          the same for uploads that take no more bytes; `exported` notes a copy elsewhere
//! ```
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

use super::place::{CONTENT, CONTENT_NEW, DRAFT, Place, RECORD};
use super::room::Room;
use super::root;
use super::sys::{self, Dir, failed};
use super::{Durability, Options};
use crate::record::{self, Record};
use crate::store::Error;

const GONE: &str = ".gone";

/// Which of the two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    Open,
    Done,
}

/// A set of the two: the ones whose names have yet to become durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shelves {
    pub(super) open: bool,
    pub(super) done: bool,
}

impl Shelves {
    pub(super) const NONE: Self = Self { open: false, done: false };
    pub(super) const BOTH: Self = Self { open: true, done: true };

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { open: self.open || other.open, done: self.done || other.done }
    }
}

impl From<Shelf> for Shelves {
    fn from(shelf: Shelf) -> Self {
        Self { open: shelf == Shelf::Open, done: shelf == Shelf::Done }
    }
}

/// The open data directory.
pub(super) struct Tree {
    pub(super) root: Dir,
    open: Dir,
    done: Dir,
    lock: OwnedFd,
    /// True if the store syncs to disk at all.
    is_disk: bool,
    room: Arc<Room>,
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

impl Tree {
    /// Opens or makes the directory, and locks it. What a crash left in it is cleared away on the way of the first listing.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let is_disk = options.durability == Durability::Disk;
        root::make(path, is_disk)?;
        let root = Dir::at_path(path)
            .map_err(|errno| failed(format!("opening the data directory {}", path.display()), errno))?;
        let lock = root::lock(&root, path)?;
        let again = root.again().map_err(|errno| failed("opening the data directory", errno))?;
        let tree = Self {
            open: shelf(&root, "open")?,
            done: shelf(&root, "done")?,
            export_mode: root::shared_file_mode(&root)?,
            is_mode_reported: AtomicBool::new(false),
            room: Arc::new(Room::new(again, options.headroom)),
            is_disk,
            probes: AtomicU64::new(0),
            is_open_clean: AtomicBool::new(false),
            is_done_clean: AtomicBool::new(false),
            lock,
            root,
        };
        if tree.is_disk {
            tree.root.sync().map_err(|errno| failed("syncing the data directory", errno))?;
        }
        Ok(tree)
    }

    pub(super) fn is_disk(&self) -> bool {
        self.is_disk
    }

    pub(super) fn room(&self) -> &Arc<Room> {
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
    pub(super) fn dir_of(&self, on: Shelf) -> &Dir {
        match on {
            Shelf::Open => &self.open,
            Shelf::Done => &self.done,
        }
    }

    /// Makes the names on shelves durable.
    pub(super) fn sync_shelves(&self, shelves: Shelves) -> Result<(), Error> {
        // The destination of a move first: in the other order a crash in between could leave the upload on neither.
        for (is_due, shelf) in [(shelves.done, Shelf::Done), (shelves.open, Shelf::Open)] {
            if is_due && self.is_disk {
                self.dir_of(shelf)
                    .sync()
                    .map_err(|errno| failed(format!("syncing {}", name(shelf)), errno))?;
            }
        }
        Ok(())
    }

    /// Where an upload lies. Done first: an upload that a foreign copy left on both has gone further there.
    pub(super) fn find(&self, id: UploadId) -> Result<Option<Place>, Error> {
        for shelf in [Shelf::Done, Shelf::Open] {
            //= TOK-TOKEN-04
            let found = match self.dir_of(shelf).dir(&id.to_string()) {
                // Something that is no directory has the name: not made by us, so not believed and not followed.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(Error::Damaged(format!("{} is no directory", label(shelf, id))));
                }
                found => found.map_err(|errno| failed(format!("opening {}", label(shelf, id)), errno))?,
            };
            if let Some(dir) = found {
                return Ok(Some(Place::new(shelf, id, dir, self.is_disk)));
            }
        }
        Ok(None)
    }

    /// The same for somebody without the upload's turn: it may be moved to the other shelf while it is looked for.
    pub(super) fn look_for(&self, id: UploadId) -> Result<Option<Place>, Error> {
        match self.find(id)? {
            None => self.find(id),
            found => Ok(found),
        }
    }

    /// Sees to it that there is no upload of this id, nor what a failed removal of a failed creation left of one.
    pub(super) fn clear_for(&self, id: UploadId) -> Result<(), Error> {
        match self.find(id)? {
            Some(place) if place.is_begun()? => Err(Error::Exists),
            Some(place) => self.remove(&place),
            None => Ok(()),
        }
    }

    /// Makes the directory of a new upload, with its draft and its empty content. All of it or nothing is left behind.
    pub(super) fn create(&self, record: &Record) -> Result<(Place, OwnedFd), Error> {
        let id = record.upload.id;
        // The content of one made of parts is another file, and may share its blocks with theirs.
        if let Some(length) = record.upload.length
            && length.get() >= REQUIRED_BYTES_MIN
            && !record.upload.composition.is_composed()
        {
            self.room.require(length.get())?;
        }
        let doing = |errno| failed(format!("creating {}", label(Shelf::Open, id)), errno);
        match self.open.make_dir(&id.to_string()) {
            Err(Errno::EXIST) => return Err(Error::Exists),
            made => made.map_err(doing)?,
        }
        let filled = (|| {
            let dir = self.open.dir(&id.to_string()).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
            let place = Place::new(Shelf::Open, id, dir, self.is_disk);
            let content = place.dir.new_file(CONTENT, OFlags::EXCL).map_err(doing)?;
            // Last: a directory with a draft is an upload.
            place.write(DRAFT, &record::encode(record)?)?;
            Ok((place, content))
        })();
        if filled.is_err() {
            self.erase(Shelf::Open, &id.to_string())?;
        }
        filled
    }

    /// Moves an upload to the shelf of those that take no more bytes.
    pub(super) fn finish(&self, place: &mut Place) -> Result<Shelves, Error> {
        if place.shelf == Shelf::Done {
            return Ok(Shelves::NONE);
        }
        let name = place.id.to_string();
        self.open
            .rename(&name, &self.done, &name)
            .map_err(|errno| failed(format!("moving {} to done", place.label()), errno))?;
        place.shelf = Shelf::Done;
        Ok(Shelves::BOTH)
    }

    /// Removes an upload. The one step that counts is the first, a rename; the rest can be done after a crash too.
    pub(super) fn remove(&self, place: &Place) -> Result<(), Error> {
        let uploads = self.dir_of(place.shelf);
        let (name, gone) = (place.id.to_string(), format!("{}{GONE}", place.id));
        self.erase(place.shelf, &gone)?;
        uploads
            .rename(&name, uploads, &gone)
            .map_err(|errno| failed(format!("removing {}", place.label()), errno))?;
        if let Err(error) = self.erase(place.shelf, &gone) {
            tracing::warn!(upload = %place.id.short(), error = %said(&error), "files of a removed upload stay");
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
    pub(super) fn begins_to_clean(&self, on: Shelf) -> bool {
        let is_clean = match on {
            Shelf::Open => &self.is_open_clean,
            Shelf::Done => &self.is_done_clean,
        };
        !is_clean.swap(true, Ordering::Relaxed)
    }

    /// The id of the upload whose unfinished removal left the entry.
    pub(super) fn half_removed(entry: &str) -> Option<UploadId> {
        entry.strip_suffix(GONE)?.parse().ok()
    }

    /// The time at which an upload's record or content last changed, if either could be read.
    pub(super) fn changed(&self, on: Shelf, entry: &str) -> Option<Timestamp> {
        let stat = |file| self.dir_of(on).stat(&format!("{entry}/{file}")).ok().flatten();
        let record = stat(RECORD).or_else(|| stat(DRAFT));
        let changed = [record, stat(CONTENT)].into_iter().flatten().map(|stat| sys::changed_ms(&stat)).max();
        changed.map(Timestamp::from_millis)
    }

    /// Returns the remains of an upload that a crash left. Not conclusive while an operation on the upload is
    /// running.
    pub(super) fn leftover(&self, on: Shelf, id: UploadId, entry: &str) -> Leftover {
        let Ok(Some(dir)) = self.dir_of(on).dir(entry) else { return Leftover::Nothing };
        let place = Place::new(on, id, dir, self.is_disk);
        match place.is_begun() {
            Ok(false) => Leftover::Creation,
            Ok(true) if on == Shelf::Open && matches!(place.dir.stat(CONTENT_NEW), Ok(Some(_))) => {
                Leftover::Join
            }
            Ok(true) | Err(_) => Leftover::Nothing,
        }
    }

    /// Removes what only a crash leaves: half-removed uploads, those that never got a record, and unfinished joins. To be
    /// called with the upload's turn. A failure is logged and concerns this one upload.
    pub(super) fn clean(&self, on: Shelf, id: UploadId, entry: &str) {
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

    fn clean_join(&self, on: Shelf, id: UploadId, entry: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing {CONTENT_NEW} of {}", label(on, id)), errno);
        let Some(dir) = self.dir_of(on).dir(entry).map_err(doing)? else { return Ok(()) };
        dir.remove_file(CONTENT_NEW).map_err(doing)
    }

    /// Removes a directory of ours with the files in it.
    fn erase(&self, on: Shelf, name: &str) -> Result<(), Error> {
        let doing = |errno| failed(format!("removing a directory from {}", self::name(on)), errno);
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

pub(super) fn name(shelf: Shelf) -> &'static str {
    match shelf {
        Shelf::Open => "open",
        Shelf::Done => "done",
    }
}

/// An upload's directory as logs and errors name it: the id may be a capability, so never whole.
pub(super) fn label(shelf: Shelf, id: UploadId) -> String {
    format!("{}/{}…", name(shelf), id.short())
}

fn shelf(root: &Dir, name: &str) -> Result<Dir, Error> {
    let doing = |errno| failed(format!("opening {name} in the data directory"), errno);
    match root.make_dir(name) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(doing(errno)),
    }
    root.dir(name).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))
}
