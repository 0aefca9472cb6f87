//! Records of unfinished uploads on disk, by which a later process resumes them.
//!
//! Each upload has one file, named by a hash of the [file's key](file_key) and the [URL's key](target_key), replaced
//! atomically, and readable by its owner only. A lock file beside it keeps two processes from sending the same upload. The lock is held by
//! the kernel, so it ends with the process.

mod entry;
mod file_key;
mod target_key;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;

pub(crate) use self::entry::FileState;
pub use self::entry::JournalEntry;
pub use self::file_key::file_key;
pub use self::target_key::target_key;
use crate::error::Error;

/// A folder with the records of unfinished uploads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
}

/// The state of an unfinished upload, as far as it is known without asking the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalState {
    /// True if a process is sending the upload.
    pub is_running: bool,
    /// Bytes that the server had acknowledged about a second ago, or at the end of the last run. `None` if it has not
    /// acknowledged any, or an older version has sent the upload.
    pub acknowledged: Option<u64>,
}

/// The time for which a process that looks for the state of an upload may hold its lock.
const LOOK_TIME: Duration = Duration::from_millis(20);

/// An exclusive lock on the entry of one upload: no other process sends the upload while it is held. Dropping it unlocks
/// the entry.
#[must_use = "dropping it unlocks the entry"]
#[derive(Debug)]
pub struct LockedEntry {
    path: PathBuf,
    lock_path: PathBuf,
    lock: File,
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

    /// Returns the unfinished uploads of a file, to any URL. The file is found by its [key](file_key): an upload that was
    /// started by another name of the file is not returned.
    ///
    /// # Errors
    /// Returns the errors of [`entries`](Self::entries), and [`Error::Source`] if the path cannot be made absolute.
    pub fn of_file(&self, path: &Path) -> Result<Vec<JournalEntry>, Error> {
        let file = key_of(path)?;
        let resolved = fs::canonicalize(path).ok();
        let is_of_file = |entry: &JournalEntry| {
            entry.file == file || !entry.is_by_name && Some(&entry.file) == resolved.as_ref()
        };
        Ok(self.entries()?.into_iter().filter(is_of_file).collect())
    }

    /// Returns the state of an upload as this machine knows it. Neither the server nor a process that sends the upload is
    /// disturbed.
    pub fn local_state(&self, entry: &JournalEntry) -> LocalState {
        let name = entry::name(&entry.file, &target_key(&entry.target));
        let Ok(lock) = File::open(self.folder.join(format!("{name}.lock"))) else {
            return LocalState::default();
        };
        let is_running = matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
        let mut text = String::new();
        let read = lock.take(64).read_to_string(&mut text);
        let acknowledged = read.ok().and_then(|_| text.trim().parse().ok());
        LocalState { is_running, acknowledged }
    }

    /// Removes the entry of an upload, without telling the server.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] while another process sends the upload, and [`Error::Journal`] if the entry cannot be removed.
    pub fn remove(&self, entry: &JournalEntry) -> Result<(), Error> {
        self.lock(&entry.file, &entry.target)?.remove()
    }

    /// Locks the entry of an upload. Returns `None` if the upload is not in the journal any more: it is complete, was
    /// removed, or another upload of the file has taken its place.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] while another process sends the upload, and [`Error::Journal`] if the entry cannot be locked.
    pub fn lock_entry(&self, entry: &JournalEntry) -> Result<Option<LockedEntry>, Error> {
        let locked = self.lock(&entry.file, &entry.target)?;
        if !locked.path.exists() {
            // Locking has created the lock file again.
            return locked.remove().map(|()| None);
        }
        let is_same = locked.read().is_some_and(|now| now.is_of(&entry.handle));
        Ok(is_same.then_some(locked))
    }

    /// Locks the entry for the key of a file and an upload URL.
    pub(crate) fn lock(&self, file: &Path, target: &Uri) -> Result<LockedEntry, Error> {
        private_folder(&self.folder)
            .map_err(|source| Error::Journal { path: self.folder.clone(), source })?;
        let locked = self.lock_name(&entry::name(file, &target_key(target)), file)?;
        if !locked.path.exists() {
            self.adopt_legacy(file, target, &locked);
        }
        Ok(locked)
    }

    fn lock_name(&self, name: &str, file: &Path) -> Result<LockedEntry, Error> {
        let failed = |source| Error::Journal { path: self.folder.clone(), source };
        let lock_path = self.folder.join(format!("{name}.lock"));
        let mut attempts_left = 3;
        // The last holder may have removed the lock file after we opened it. Such a lock excludes no other process.
        for _ in 0..100 {
            let lock = private().create(true).truncate(false).write(true).open(&lock_path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                // A process that only looks whether the upload is running holds the lock for a moment.
                Err(fs::TryLockError::WouldBlock) if attempts_left > 0 => {
                    attempts_left -= 1;
                    std::thread::sleep(LOOK_TIME);
                    continue;
                }
                Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: file.to_owned() }),
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if is_still_at(&lock, &lock_path) {
                let path = self.folder.join(format!("{name}.json"));
                return Ok(LockedEntry { path, lock_path, lock });
            }
        }
        Err(Error::Busy { path: file.to_owned() })
    }

    /// Takes over the entry of an older version, which was named by the URL as it was spelled, or by the target of a link.
    /// If that fails, the entry is not found and a new upload is created.
    fn adopt_legacy(&self, file: &Path, target: &Uri, locked: &LockedEntry) {
        for written in target_key::legacy_keys(target) {
            let legacy = self.folder.join(format!("{}.json", entry::name(file, &written)));
            if legacy != locked.path && fs::rename(&legacy, &locked.path).is_ok() {
                return;
            }
        }
        let Ok(resolved) = fs::canonicalize(file) else { return };
        if resolved == file {
            return;
        }
        for written in std::iter::once(target_key(target)).chain(target_key::legacy_keys(target)) {
            let name = entry::name(&resolved, &written);
            // The name may also be that of an upload of the link's target, which another process may be sending.
            let exists = self.folder.join(format!("{name}.json")).exists();
            let Some(legacy) = exists.then(|| self.lock_name(&name, file).ok()).flatten() else { continue };
            if let Some(entry) = legacy.read().filter(|entry| !entry.is_by_name)
                && locked.save(&JournalEntry { file: file.to_owned(), is_by_name: true, ..entry }).is_ok()
            {
                let _ = legacy.remove();
                return;
            }
        }
    }
}

impl LockedEntry {
    /// Writes the acknowledged offset for other processes, which read it with [`Journal::local_state`]. It is not synced:
    /// after a power cut the server has to be asked.
    ///
    /// # Errors
    /// Returns an error if the lock file, which has the offset, cannot be written.
    pub fn note_offset(&self, offset: u64) -> io::Result<()> {
        let mut file = &self.lock;
        file.seek(SeekFrom::Start(0))?;
        // Always of the same length, so that one write replaces it.
        file.write_all(format!("{offset:020}\n").as_bytes())
    }

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

    /// Removes the entry, without telling the server.
    ///
    /// # Errors
    /// Returns [`Error::Journal`] if the entry cannot be removed.
    pub fn remove(self) -> Result<(), Error> {
        let remove = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::Journal { path: path.to_owned(), source: error })
            }
            _ => Ok(()),
        };
        remove(&self.path).and(remove(&self.lock_path))
    }
}

/// Returns the key of a file, as [`file_key`] does.
pub(crate) fn key_of(path: &Path) -> Result<PathBuf, Error> {
    file_key(path).map_err(|source| Error::Source { path: path.to_owned(), source })
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
