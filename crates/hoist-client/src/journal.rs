//! Records of unfinished uploads on disk, by which a later process resumes them.
//!
//! Each upload has one file, named by a hash of the path of the source and the upload URL, replaced atomically, and
//! readable by its owner only. A lock file beside it keeps two processes from sending the same upload. The lock is held by
//! the kernel, so it ends with the process.

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

/// A folder with the records of unfinished uploads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// An exclusive lock on the entry of one upload. Dropping it unlocks the entry.
#[derive(Debug)]
pub(crate) struct LockedEntry {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Journal {
    /// Returns the default folder: `hoist/uploads` in `state_home`, the value of `$XDG_STATE_HOME`, or else
    /// `.local/state/hoist/uploads` in the directory `home`. Returns `None` if neither is given.
    pub fn folder(state_home: Option<&OsStr>, home: Option<&OsStr>) -> Option<PathBuf> {
        // The XDG specification says to ignore relative paths.
        let absolute = |text: &OsStr| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let state = state_home.and_then(absolute);
        let state = state.or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
        Some(state.join("hoist/uploads"))
    }

    /// Returns the journal in a folder, which is created on the first write.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Returns all unfinished uploads, the oldest first. Files that are not entries are ignored.
    ///
    /// # Errors
    /// Returns [`Error::Journal`] if the folder exists and cannot be read.
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

    /// Returns the unfinished uploads of a file, to any URL.
    ///
    /// # Errors
    /// Returns the errors of [`entries`](Self::entries), and [`Error::Source`] if the path cannot be made absolute.
    pub fn of_file(&self, path: &Path) -> Result<Vec<JournalEntry>, Error> {
        let file = absolute(path)?;
        Ok(self.entries()?.into_iter().filter(|entry| entry.file == file).collect())
    }

    /// Removes the entry of an upload, without telling the server.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] while another process sends the upload, and [`Error::Journal`] if the entry cannot be removed.
    pub fn forget(&self, entry: &JournalEntry) -> Result<(), Error> {
        self.lock(&entry.file, &entry.target)?.remove()
    }

    /// Locks the entry for a source and an upload URL.
    pub(crate) fn lock(&self, file: &Path, target: &Uri) -> Result<LockedEntry, Error> {
        let failed = |source| Error::Journal { path: self.folder.clone(), source };
        private_folder(&self.folder).map_err(failed)?;
        let name = entry::name(file, &target_key(target));
        let lock_path = self.folder.join(format!("{name}.lock"));
        // The last holder may have removed the lock file after we opened it. Such a lock excludes no other process.
        for _ in 0..100 {
            let lock = private().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: file.to_owned() }),
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_still_at(&lock, &lock_path) {
                let path = self.folder.join(format!("{name}.json"));
                self.rename_legacy(file, target, &path);
                return Ok(LockedEntry { path, lock_path, _lock: lock });
            }
        }
        Err(Error::Busy { path: file.to_owned() })
    }

    /// Renames the entry of an older version, which was named by the URL as it was spelled. If that fails, the entry is
    /// lost and a new upload is created.
    fn rename_legacy(&self, file: &Path, target: &Uri, path: &Path) {
        for written in target_key::legacy_keys(target) {
            let legacy = self.folder.join(format!("{}.json", entry::name(file, &written)));
            if legacy != path && !path.exists() && legacy.exists() {
                let _ = fs::rename(&legacy, path);
            }
        }
    }
}

impl LockedEntry {
    pub(crate) fn read(&self) -> Option<JournalEntry> {
        JournalEntry::read(&self.path)
    }

    /// Replaces the entry, atomically and durably.
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

    pub(crate) fn remove(self) -> Result<(), Error> {
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Journal { path: path.to_owned(), source: error })
            }
            _ => Ok(()),
        };
        remove(&self.path).and(remove(&self.lock_path))
    }
}

/// Returns the absolute path of a file, so that the entry is found from any working directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .map_err(|source| Error::Source { path: path.to_owned(), source })
}

/// Returns options for a file that only its owner may read.
fn private() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only unix sets permissions"))]
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
        (Ok(locked), Ok(there)) => locked.ino() == there.ino() && locked.dev() == there.dev(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still_at(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests;
