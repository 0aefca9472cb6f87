//! Setup of the data directory: its creation, its lock, and the umask.
//!
//! Owns what happens before the first upload is read. Leaves the content of the directory to
//! [`data_dir`](super::data_dir).

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::sys::{self, Dir, failed};
use crate::store::Error;

const LOCK: &str = "lock";

/// Creates a directory and its missing ancestors, and makes their names durable. Without that, a power cut may delete
/// the directory with everything in it. The umask is applied to `mode`, which is for the directories that are created.
///
/// # Errors
/// Returns an error if a directory cannot be created or its name cannot be made durable.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !is_named(above)).collect();
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // The directory may stem from a start that was killed before its name was durable.
    let unsynced = if missing.is_empty() { vec![path] } else { missing.clone() };
    for directory in unsynced.into_iter().rev() {
        match Dir::at_path(&parent(directory)).and_then(|parent| parent.sync()) {
            // A directory that is writable but not readable cannot be opened, and therefore not synced.
            Err(Errno::ACCESS | Errno::PERM) => {}
            Err(_) if missing.is_empty() => {}
            synced => synced?,
        }
    }
    Ok(())
}

fn is_named(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.symlink_metadata().is_ok()
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Creates the data directory if necessary.
pub(super) fn make(path: &Path, is_disk: bool) -> Result<(), Error> {
    let made = if is_disk {
        make_directory(path, 0o700)
    } else {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    };
    made.map_err(|source| Error::Io {
        doing: format!("creating the data directory {}", path.display()),
        source,
    })
}

/// Returns whether a process uses the data directory `path`. Takes no lock that lasts, and creates nothing.
pub fn is_in_use(path: &Path) -> bool {
    let Ok(file) = std::fs::File::open(path.join(LOCK)) else { return false };
    // A shared lock, so that two processes may ask at the same time.
    matches!(rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK))
}

/// Takes the lock that admits one process. The kernel holds it for as long as the descriptor is open.
pub(super) fn lock(root: &Dir, path: &Path) -> Result<OwnedFd, Error> {
    let doing = |errno| failed(format!("locking the data directory {}", path.display()), errno);
    let lock_file = root.new_file(LOCK, OFlags::empty()).map_err(doing)?;
    // The lock is held by a read-only descriptor: a file system with files open for writing cannot be remounted
    // read-only.
    let reading = root.file(LOCK, OFlags::RDONLY).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
    let is_for_writing = match try_lock(&reading) {
        Ok(()) => false,
        // NFS emulates this lock by one that requires a writable descriptor.
        Err(Errno::BADF) => {
            try_lock(&lock_file).map(|()| true).map_err(|errno| not_locked(root, path, errno))?
        }
        Err(errno) => return Err(not_locked(root, path, errno)),
    };
    // For operators, and for the error message of a second process.
    let pid = format!("{}\n", std::process::id());
    sys::truncate(&lock_file, 0).map_err(doing)?;
    sys::write_all(&lock_file, 0, &mut [IoSlice::new(pid.as_bytes())]).1.map_err(doing)?;
    Ok(if is_for_writing { lock_file } else { reading })
}

fn try_lock(file: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn not_locked(root: &Dir, path: &Path, errno: Errno) -> Error {
    let path = path.display();
    match errno {
        Errno::WOULDBLOCK => {
            let lock_file = root.file(LOCK, OFlags::RDONLY).ok().flatten();
            let holder =
                lock_file.and_then(|lock_file| sys::read_at(lock_file, 0, 32).ok()).unwrap_or_default();
            let holder = String::from_utf8(holder).unwrap_or_default();
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            Error::Busy(format!(
                "the data directory {path} is in use by {holder}: stop it, or use another directory"
            ))
        }
        Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP => failed(
            format!(
                "locking the data directory {path}, whose file system has no locks: use a local disk, or mount it with \
                 locks"
            ),
            errno,
        ),
        errno => failed(format!("locking the data directory {path}"), errno),
    }
}

/// Returns the mode that the umask of the process leaves for shared files. Reads it from a new file, because reading
/// the umask itself means changing it for all threads.
pub(super) fn shared_file_mode(root: &Dir) -> Result<Mode, Error> {
    let doing = |errno| failed("writing to the data directory", errno);
    // A start that was killed may have left the first name. Anything else with that name stays.
    let free = ["umask".to_owned(), format!("umask.{}", std::process::id())];
    let freed = free.iter().map(|name| root.remove_file(name).map(|()| name));
    let name = freed.reduce(Result::or).unwrap_or(Err(Errno::EXIST)).map_err(doing)?;
    let file = root.new_file_of_mode(name, OFlags::EXCL, sys::SHARED_FILE_MODE).map_err(doing)?;
    let stat = rustix::fs::fstat(&file).map_err(doing)?;
    root.remove_file(name).map_err(doing)?;
    Ok(Mode::from_raw_mode(stat.st_mode) & sys::SHARED_FILE_MODE)
}
