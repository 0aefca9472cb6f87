//! The system calls the local store makes, each with its retries and its error in the store's words.
//!
//! Owns directory handles: every name is one segment, looked up in an open directory and never followed when it is a
//! symbolic link, so no path is ever joined and nothing outside the data directory can be reached (`openat2` with
//! `RESOLVE_BENEATH` would say the same of a single segment). Leaves what the names mean to [`data_dir`](super::data_dir).

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::store::Error;

#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
use self::faults::pass;

/// A kind of system call, as tests tell them apart to make one fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// One that changes nothing.
    Look,
    MakeDir,
    NewFile,
    Rename,
    Link,
    RemoveFile,
    RemoveDir,
    SyncDir,
    SyncData,
    Write,
    Reserve,
    Copy,
    Note,
    Cut,
}

/// Asks before a system call whether a test wants it to fail.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails under test")]
fn pass(_: Call) -> Result<(), Errno> {
    Ok(())
}

/// Directories are for the server's user alone.
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// And so are files.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Files for other programs are as open as the umask of the process allows.
pub(super) const SHARED_FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// Turns an error number into the store's error. A file that may not become larger (`ulimit -f`, or a limit of the
/// file system) is a lack of room like a full disk: what is stored stays, and only this upload cannot go on.
pub(super) fn failed(doing: impl Into<String>, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Error::Full,
        errno => Error::Io { doing: doing.into(), source: errno.into() },
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    /// A directory given by the operator, whose own path may hold links.
    pub(super) fn at_path(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map(Self)
    }

    /// Duplicates the handle of the directory.
    pub(super) fn again(&self) -> Result<Self, Errno> {
        self.0.try_clone().map(Self).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// The directory of this name, if there is one.
    pub(super) fn dir(&self, name: &str) -> Result<Option<Self>, Errno> {
        pass(Call::Look)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        found(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty())).map(Self))
    }

    /// Makes a directory; the name must be free.
    pub(super) fn make_dir(&self, name: &str) -> Result<(), Errno> {
        pass(Call::MakeDir)?;
        rustix::fs::mkdirat(&self.0, name, DIRECTORY_MODE)
    }

    /// The plain file of this name, if there is one. Anything else under the name is an error, and never waited for.
    pub(super) fn file(&self, name: &str, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        pass(Call::Look)?;
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Some(file) = found(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty())))?
        else {
            return Ok(None);
        };
        if is_plain(&rustix::fs::fstat(&file)?) { Ok(Some(file)) } else { Err(Errno::INVAL) }
    }

    /// A new file for writing; `how` says what becomes of one that is there.
    pub(super) fn new_file(&self, name: &str, how: OFlags) -> Result<OwnedFd, Errno> {
        self.new_file_of_mode(name, how, FILE_MODE)
    }

    /// The same, for files that others are to read.
    pub(super) fn new_file_of_mode(&self, name: &str, how: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        pass(Call::NewFile)?;
        let flags =
            OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | how;
        let file = retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, mode))?;
        if is_plain(&rustix::fs::fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) }
    }

    /// What is under a name, without following it.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>, Errno> {
        pass(Call::Look)?;
        found(retry_on_intr(|| rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)))
    }

    /// Gives a file or directory another name, over whatever file has it.
    pub(super) fn rename(&self, from: &str, directory: &Self, to: &str) -> Result<(), Errno> {
        pass(Call::Rename)?;
        retry_on_intr(|| rustix::fs::renameat(&self.0, from, &directory.0, to))
    }

    /// Gives a file another name, unless that is taken ([`Errno::EXIST`]).
    pub(super) fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        pass(Call::Rename)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match rustix::fs::renameat_with(&self.0, from, &self.0, to, rustix::fs::RenameFlags::NOREPLACE) {
            // Some network file systems do not know the flag; a link then a removal does the same.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done,
        }
        match self.link(from, self, to) {
            Ok(()) => self.remove_file(from),
            Err(errno) if is_refusal(errno) => self.rename_over_placeholder(from, to),
            Err(errno) => Err(errno),
        }
    }

    /// The same for a file system with neither exclusive renames nor links: an empty file takes the name first, so that
    /// no other file is overwritten.
    fn rename_over_placeholder(&self, from: &str, to: &str) -> Result<(), Errno> {
        drop(self.new_file(to, OFlags::EXCL)?);
        let renamed = self.rename(from, self, to);
        if renamed.is_err() {
            // Best effort: the failure of the rename is what the caller has to know.
            let _ = self.remove_file(to);
        }
        renamed
    }

    /// Gives a file a second name, which must be free.
    pub(super) fn link(&self, from: &str, directory: &Self, to: &str) -> Result<(), Errno> {
        pass(Call::Link)?;
        rustix::fs::linkat(&self.0, from, &directory.0, to, AtFlags::empty())
    }

    /// Removes a file; none is as good.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), Errno> {
        pass(Call::RemoveFile)?;
        found(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())).map(|_| ())
    }

    /// Removes an empty directory; none is as good.
    pub(super) fn remove_dir(&self, name: &str) -> Result<(), Errno> {
        pass(Call::RemoveDir)?;
        found(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)).map(|_| ())
    }

    /// The names in it, as far as they are text; every name the store makes is.
    pub(super) fn names(&self) -> Result<Vec<String>, Errno> {
        pass(Call::Look)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// The entries in it, read as they are asked for.
    pub(super) fn entries(&self) -> Result<rustix::fs::Dir, Errno> {
        rustix::fs::Dir::read_from(&self.0)
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        pass(Call::SyncDir)?;
        match retry_on_intr(|| rustix::fs::fsync(&self.0)) {
            // Some network file systems have no such thing for directories; their servers do it themselves.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => done,
        }
    }

    /// The time at which a name was last added or removed, in milliseconds since the epoch.
    pub(super) fn changed_ms(&self) -> Result<u64, Errno> {
        rustix::fs::fstat(&self.0).map(|stat| changed_ms(&stat))
    }

    /// Whether it has been deleted while it was open.
    pub(super) fn is_deleted(&self) -> bool {
        rustix::fs::fstat(&self.0).is_ok_and(|stat| stat.st_nlink == 0)
    }
}

fn found<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn is_plain(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// A file's length in bytes.
pub(super) fn bytes_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// When a file's content last changed, in milliseconds since the epoch.
pub(super) fn changed_ms(stat: &Stat) -> u64 {
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ by platform")]
    let (seconds, nanos) = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// Makes the bytes of a file, and its length, durable.
pub(super) fn sync_data(file: impl AsFd) -> Result<(), Errno> {
    pass(Call::SyncData)?;
    #[cfg(not(target_vendor = "apple"))]
    return retry_on_intr(|| rustix::fs::fdatasync(&file));
    // There `fsync` reaches the drive but not its platter.
    #[cfg(target_vendor = "apple")]
    return retry_on_intr(|| rustix::fs::fcntl_fullfsync(&file));
}

/// Writes all of some buffers at an offset; the first answer is how many bytes fitted.
pub(super) fn write_all(
    file: impl AsFd,
    mut at: u64,
    buffers: &mut [IoSlice<'_>],
) -> (u64, Result<(), Errno>) {
    let start = at;
    let mut rest = buffers;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match retry_on_intr(|| write_some(&file, at, rest)) {
            // A file that takes nothing and gives no reason is taken for full.
            Ok(0) => return (at - start, Err(Errno::NOSPC)),
            Ok(bytes) => {
                at += bytes as u64;
                IoSlice::advance_slices(&mut rest, bytes);
            }
            Err(errno) => return (at - start, Err(errno)),
        }
    }
    (at - start, Ok(()))
}

/// The most buffers one call takes (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

fn write_some(file: impl AsFd, at: u64, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
    pass(Call::Write)?;
    #[cfg(not(target_vendor = "apple"))]
    return rustix::io::pwritev(file, &buffers[..buffers.len().min(BUFFERS_MAX)], at);
    #[cfg(target_vendor = "apple")]
    return rustix::io::pwrite(file, &buffers[0], at);
}

/// Reads up to `bytes_max` bytes at an offset, until that many are there or the file ends.
pub(super) fn read_at(file: impl AsFd, at: u64, bytes_max: usize) -> Result<Vec<u8>, Errno> {
    pass(Call::Look)?;
    let mut bytes = Vec::with_capacity(bytes_max);
    while bytes.len() < bytes_max {
        let here = at + bytes.len() as u64;
        let read =
            retry_on_intr(|| rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), here))?;
        if read == 0 {
            break;
        }
    }
    bytes.truncate(bytes_max);
    Ok(bytes)
}

/// Sets room aside for bytes behind a file's end without making it longer, where the file system can.
pub(super) fn reserve(file: impl AsFd, at: u64, bytes: u64) -> Result<(), Errno> {
    pass(Call::Reserve)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match retry_on_intr(|| rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, at, bytes)) {
        Err(errno) if is_refusal(errno) => {}
        done => return done,
    }
    let _ = (file, at, bytes);
    Ok(())
}

/// The size and the free space of a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    pub(super) bytes: u64,
    /// The number of bytes that this process may still use.
    pub(super) available: u64,
}

/// Reads the space of the file system that holds an open file or directory; `None` if it reports none, as some in
/// user space do.
pub(super) fn volume(file: impl AsFd) -> Result<Option<Volume>, Errno> {
    let stat = retry_on_intr(|| rustix::fs::fstatvfs(&file))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize.max(1));
    let volume = Volume { bytes: bytes(stat.f_blocks), available: bytes(stat.f_bavail) };
    Ok((stat.f_blocks > 0).then_some(volume))
}

/// Returns `true` if an error means that the file system or a system policy does not support an operation at all. The
/// number varies (SMB, NFS, FUSE, seccomp filters). Another way to the same end may then work.
pub(super) fn is_refusal(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::MLINK
    ) || errno == Errno::NOTSUP
}

/// Makes an empty file share the blocks of another, where the file system can; whether it could.
pub(super) fn share_blocks(from: impl AsFd, to: impl AsFd) -> Result<bool, Errno> {
    pass(Call::Copy)?;
    // The call does not exist on these two.
    #[cfg(all(
        any(target_os = "linux", target_os = "android"),
        not(any(target_arch = "sparc", target_arch = "sparc64"))
    ))]
    match retry_on_intr(|| rustix::fs::ioctl_ficlone(&to, &from)) {
        Err(errno) if is_refusal(errno) => {}
        done => return done.map(|()| true),
    }
    let _ = (from, to);
    Ok(false)
}

/// How many bytes a block of a file's file system has, at least one.
pub(super) fn block_bytes(file: impl AsFd) -> Result<u64, Errno> {
    retry_on_intr(|| rustix::fs::fstatvfs(&file)).map(|stat| stat.f_bsize.max(1))
}

/// The name of the note a content file carries.
const NOTE: &str = "user.hoist.promised";

/// Puts a note on a file, in place of the one it has.
pub(super) fn set_note(file: impl AsFd, note: &[u8]) -> Result<(), Errno> {
    pass(Call::Note)?;
    rustix::fs::fsetxattr(&file, NOTE, note, rustix::fs::XattrFlags::empty())
}

/// Removes the note of a file.
pub(super) fn remove_note(file: impl AsFd) -> Result<(), Errno> {
    pass(Call::Note)?;
    rustix::fs::fremovexattr(&file, NOTE)
}

/// The note of a file, if it carries one.
pub(super) fn note(file: impl AsFd) -> Option<String> {
    pass(Call::Look).ok()?;
    let mut note = [0; 64];
    let length = rustix::fs::fgetxattr(&file, NOTE, &mut note).ok()?;
    String::from_utf8(note.get(..length)?.to_vec()).ok()
}

/// Cuts a file off, and frees what was reserved behind its new end.
pub(super) fn cut(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    pass(Call::Cut)?;
    retry_on_intr(|| rustix::fs::ftruncate(&file, bytes))
}

/// Copies the first `bytes` bytes of a file into another from `to_at` on, inside the kernel where it can. Where files
/// can share their blocks, it has them do so as far as both begin with one.
pub(super) fn copy(from: impl AsFd, to: impl AsFd, to_at: u64, bytes: u64) -> Result<(), Errno> {
    const STEP: usize = 64 * 1024 * 1024;
    const BUFFER: usize = 256 * 1024;
    pass(Call::Copy)?;
    let mut at = 0;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    while at < bytes {
        let step = usize::try_from(bytes - at).unwrap_or(STEP).min(STEP);
        let (mut source, mut target) = (at, to_at + at);
        let copied = retry_on_intr(|| {
            rustix::fs::copy_file_range(&from, Some(&mut source), &to, Some(&mut target), step)
        });
        match copied {
            Ok(0) => break,
            Err(errno) if is_refusal(errno) => break,
            copied => at += copied? as u64,
        }
    }
    while at < bytes {
        let step = usize::try_from(bytes - at).unwrap_or(BUFFER).min(BUFFER);
        let read = read_at(&from, at, step)?;
        if read.is_empty() {
            return Err(Errno::IO);
        }
        write_all(&to, to_at + at, &mut [IoSlice::new(&read)]).1?;
        at += read.len() as u64;
    }
    Ok(())
}
