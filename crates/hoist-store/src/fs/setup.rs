//! The data directory itself: made durably, locked, and asked for the umask.
//!
//! Owns everything that happens before the first upload is looked at. Leaves what lies in the directory to
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

/// Makes a directory and those above it that are missing, and makes their names durable: without that, a power cut may
/// take the directory with everything in it. `mode` is that of the directories it makes, less the umask.
///
/// # Errors
/// Returns an error if a directory cannot be created or its name cannot be made durable.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !is_named(above)).collect();
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
    // The directory itself may be the rest of a start that was killed before it got this far.
    let unsynced = if missing.is_empty() { vec![path] } else { missing.clone() };
    for directory in unsynced.into_iter().rev() {
        match sync_names(&parent(directory)) {
            // A directory that may be written and not read cannot be opened, and so not be synced.
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

fn sync_names(directory: &Path) -> Result<(), Errno> {
    Dir::at_path(directory)?.sync()
}

/// Makes the data directory if need be.
pub(super) fn make(path: &Path, is_disk: bool) -> Result<(), Error> {
    let made = if is_disk {
        make_directory(path, 0o700)
    } else {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    };
    made.map_err(|source| Error::Io {
        doing: format!("making the data directory {}", path.display()),
        source,
    })
}

/// Takes the lock that lets one process use the directory. The kernel holds it as long as the descriptor is open.
pub(super) fn lock(root: &Dir, path: &Path) -> Result<OwnedFd, Error> {
    let doing = |errno| failed(format!("locking the data directory {}", path.display()), errno);
    let note = root.new_file(LOCK, OFlags::empty()).map_err(doing)?;
    // Held open for reading alone: a file system with files open for writing cannot be made read-only.
    let reading = root.file(LOCK, OFlags::RDONLY).map_err(doing)?.ok_or_else(|| doing(Errno::NOENT))?;
    let is_for_writing = match try_lock(&reading) {
        Ok(()) => false,
        // NFS emulates this lock by one that only a descriptor for writing can have.
        Err(Errno::BADF) => try_lock(&note).map(|()| true).map_err(|errno| not_locked(root, path, errno))?,
        Err(errno) => return Err(not_locked(root, path, errno)),
    };
    // For the message of the process that finds it taken, and for operators.
    let pid = format!("{}\n", std::process::id());
    sys::cut(&note, 0).map_err(doing)?;
    sys::write_all(&note, 0, &mut [IoSlice::new(pid.as_bytes())]).1.map_err(doing)?;
    Ok(if is_for_writing { note } else { reading })
}

fn try_lock(file: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn not_locked(root: &Dir, path: &Path, errno: Errno) -> Error {
    let path = path.display();
    match errno {
        Errno::WOULDBLOCK => {
            let note = root.file(LOCK, OFlags::RDONLY).ok().flatten();
            let holder = note.and_then(|note| sys::read_at(note, 0, 32).ok()).unwrap_or_default();
            let holder = String::from_utf8(holder).unwrap_or_default();
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            Error::Busy(format!(
                "the data directory {path} is in use by {holder}: stop that, or give this one a directory of its own"
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

/// The mode the umask of the process leaves files for other programs. Asked of a file, since asking the process means
/// changing it for all threads.
pub(super) fn shared_file_mode(root: &Dir) -> Result<Mode, Error> {
    let doing = |errno| failed("writing to the data directory", errno);
    // A start that was killed may have left the name; anything else that has it stays there.
    let free = ["umask".to_owned(), format!("umask.{}", std::process::id())];
    let freed = free.iter().map(|name| root.remove_file(name).map(|()| name));
    let name = freed.reduce(Result::or).unwrap_or(Err(Errno::EXIST)).map_err(doing)?;
    let file = root.new_file_of_mode(name, OFlags::EXCL, sys::SHARED_FILE_MODE).map_err(doing)?;
    let stat = rustix::fs::fstat(&file).map_err(doing)?;
    root.remove_file(name).map_err(doing)?;
    Ok(Mode::from_raw_mode(stat.st_mode) & sys::SHARED_FILE_MODE)
}
