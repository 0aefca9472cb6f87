//! A record on disk of each unfinished upload, by which the same command resumes it.
//!
//! One file an upload, named by a hash of the source's path and the place it is uploaded to, written whole or not at all,
//! readable by its owner alone. A lock beside it keeps two processes from the same upload; it is the kernel's, so that it
//! ends with the process.

mod entry;
mod target_key;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use http::Uri;

pub(crate) use self::entry::FileState;
pub use self::entry::JournalEntry;
pub use self::target_key::target_key;
use crate::error::Error;

/// A folder of uploads that are under way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// The right to one upload's entry, until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct LockedEntry {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Journal {
    /// Where the journal belongs: `$XDG_STATE_HOME/hoist/uploads`, given the value of that variable, or else
    /// `~/.local/state/hoist/uploads`, given the home directory. None when there is neither.
    pub fn folder(state_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
        // The specification says to pass relative paths over.
        let absolute = |text: &OsStr| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let state = state_home.and_then(absolute);
        let state = state.or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
        Some(state.join("hoist/uploads"))
    }

    /// The journal in a folder, which is made when something is first written there.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Everything that is under way, the oldest first. Files that are no entries are passed over.
    ///
    /// # Errors
    /// [`Error::Journal`] when the folder is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<JournalEntry>, Error> {
        let failed = |source| Error::Journal { path: self.folder.clone(), source };
        let listed = match fs::read_dir(&self.folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        for file in listed {
            let path = file.map_err(failed)?.path();
            if path.extension() == Some(OsStr::new("json")) {
                entries.extend(JournalEntry::read(&path));
            }
        }
        entries.sort_by(|a, b| a.began.cmp(&b.began).then_with(|| a.file.cmp(&b.file)));
        Ok(entries)
    }

    /// What is under way of a file, wherever to.
    ///
    /// # Errors
    /// As [`entries`](Self::entries); and when the path cannot be made absolute.
    pub fn of_file(&self, path: &Path) -> Result<Vec<JournalEntry>, Error> {
        let file = absolute(path)?;
        Ok(self.entries()?.into_iter().filter(|entry| entry.file == file).collect())
    }

    /// Forgets an upload. The server is told nothing.
    ///
    /// # Errors
    /// [`Error::Busy`] while a process is at it; [`Error::Journal`] when it cannot be removed.
    pub fn forget(&self, entry: &JournalEntry) -> Result<(), Error> {
        self.hold(&entry.file, &entry.target)?.remove()
    }

    /// Takes the right to the entry of a source and an upload URL.
    pub(crate) fn hold(&self, file: &Path, target: &Uri) -> Result<LockedEntry, Error> {
        let failed = |source| Error::Journal { path: self.folder.clone(), source };
        private_folder(&self.folder).map_err(failed)?;
        let name = entry::name(file, &target_key(target));
        let lock_path = self.folder.join(format!("{name}.lock"));
        // A lock whose file was removed by its last holder locks nobody else out: look again.
        for _ in 0..100 {
            let lock = private().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: file.to_owned() }),
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_still_at(&lock, &lock_path) {
                let path = self.folder.join(format!("{name}.json"));
                self.adopt(file, target, &path);
                return Ok(LockedEntry { path, lock_path, _lock: lock });
            }
        }
        Err(Error::Busy { path: file.to_owned() })
    }

    /// Gives the entry of an older version, which was named by the URL as it was written, the name it has today. One that
    /// cannot be renamed is no entry any more, and the upload is begun afresh.
    fn adopt(&self, file: &Path, target: &Uri, path: &Path) {
        for written in target_key::legacy_keys(target) {
            let older = self.folder.join(format!("{}.json", entry::name(file, &written)));
            if older != path && !path.exists() && older.exists() {
                let _ = fs::rename(&older, path);
            }
        }
    }
}

impl LockedEntry {
    /// Reads the entry of the upload, if there is one.
    pub(crate) fn read(&self) -> Option<JournalEntry> {
        JournalEntry::read(&self.path)
    }

    /// Writes what is known: all of it or nothing, whenever the process or the machine ends.
    pub(crate) fn save(&self, entry: &JournalEntry) -> Result<(), Error> {
        let failed = |source| Error::Journal { path: self.path.clone(), source };
        let text = entry.to_text();
        let temporary = self.path.with_extension("tmp");
        let write = || {
            let mut file = private().create(true).truncate(true).write(true).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            sync_folder(&self.path)
        };
        write().map_err(failed)
    }

    /// Removes the entry, and the lock with it.
    pub(crate) fn remove(self) -> Result<(), Error> {
        let gone = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Journal { path: path.to_owned(), source: error })
            }
            _ => Ok(()),
        };
        gone(&self.path).and(gone(&self.lock_path))
    }
}

/// A path that means the same wherever the next command is given.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .map_err(|source| Error::Source { path: path.to_owned(), source })
}

/// Options of a file that only its owner may read.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "permissions are the folder's there"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn is_still_at(lock: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (lock.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(there)) => held.ino() == there.ino() && held.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests;
