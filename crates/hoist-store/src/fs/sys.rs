//! The system calls of the local store, with their retries and their translation into the store's errors.
//!
//! Owns directory handles. Every name is a single path segment that is looked up in an open directory and never
//! followed if it is a symbolic link. No path is ever joined, so nothing outside the data directory can be reached (for
//! a single segment, `openat2` with `RESOLVE_BENEATH` would guarantee the same). Leaves the meaning of the names to
//! [`layout`](super::layout).

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use hoist_proto::types::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::store::Error;

#[cfg(test)]
pub(super) use self::faults::pass;

#[cfg(test)]
pub(super) mod faults;

/// A kind of system call, by which tests select the calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// A call that changes nothing.
    Read,
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
    SetAttribute,
    Truncate,
}

/// Returns the error that a test injects into the call. Without tests there is none.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "it fails under test")]
pub(super) fn pass(_: Call) -> Result<(), Errno> {
    Ok(())
}

/// Directories are accessible to the server's user only.
const DIRECTORY_MODE: Mode = Mode::RWXU;
/// Files are accessible to the server's user only.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Exported files are as accessible as the umask of the process allows.
pub(super) const SHARED_FILE_MODE: Mode = Mode::from_raw_mode(0o666);
/// The mode of directories for other programs, before the umask.
pub(super) const SHARED_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// Converts an error number into the store's error. A file that may not grow (`ulimit -f`, or a limit of the file
/// system) counts as lack of space, like a full disk: the stored bytes stay, and only this upload cannot continue.
pub(super) fn failed(doing: impl Into<String>, errno: Errno) -> Error {
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Error::Full,
        errno => Error::Io { doing: doing.into(), source: errno.into() },
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(pub(super) OwnedFd);

impl Dir {
    /// Opens a directory given by the operator, whose path may contain links.
    pub(super) fn at_path(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map(Self)
    }

    /// Opens a subdirectory, if it exists.
    pub(super) fn dir(&self, name: &str) -> Result<Option<Self>, Errno> {
        pass(Call::Read)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        found(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty())).map(Self))
    }

    /// Creates a subdirectory. Fails if the name is taken.
    pub(super) fn make_dir(&self, name: &str) -> Result<(), Errno> {
        self.make_dir_of_mode(name, DIRECTORY_MODE)
    }

    pub(super) fn make_dir_of_mode(&self, name: &str, mode: Mode) -> Result<(), Errno> {
        pass(Call::MakeDir)?;
        rustix::fs::mkdirat(&self.0, name, mode)
    }

    /// Returns whether both are the same directory.
    pub(super) fn is_same(&self, other: &Self) -> Result<bool, Errno> {
        let (this, other) = (rustix::fs::fstat(&self.0)?, rustix::fs::fstat(&other.0)?);
        Ok((this.st_dev, this.st_ino) == (other.st_dev, other.st_ino))
    }

    /// Opens a regular file, if it exists. Anything else with that name is an error. Never blocks, as opening a FIFO
    /// would.
    pub(super) fn file(&self, name: &str, access: OFlags) -> Result<Option<OwnedFd>, Errno> {
        pass(Call::Read)?;
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Some(file) = found(retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, Mode::empty())))?
        else {
            return Ok(None);
        };
        if is_regular_file(&rustix::fs::fstat(&file)?) { Ok(Some(file)) } else { Err(Errno::INVAL) }
    }

    /// Opens a file for writing and creates it if necessary. `how` adds flags such as `EXCL` and `TRUNC`.
    pub(super) fn new_file(&self, name: &str, how: OFlags) -> Result<OwnedFd, Errno> {
        self.new_file_of_mode(name, how, FILE_MODE)
    }

    pub(super) fn new_file_of_mode(&self, name: &str, how: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        pass(Call::NewFile)?;
        let flags =
            OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | how;
        let file = retry_on_intr(|| rustix::fs::openat(&self.0, name, flags, mode))?;
        if how.contains(OFlags::EXCL) {
            return Ok(file); // which this call has created
        }
        if is_regular_file(&rustix::fs::fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) }
    }

    /// Returns the metadata of a name, if it exists, without following links.
    pub(super) fn stat(&self, name: &str) -> Result<Option<Stat>, Errno> {
        pass(Call::Read)?;
        found(retry_on_intr(|| rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)))
    }

    /// Renames a file or directory. Replaces an existing file.
    pub(super) fn rename(&self, from: &str, directory: &Self, to: &str) -> Result<(), Errno> {
        pass(Call::Rename)?;
        retry_on_intr(|| rustix::fs::renameat(&self.0, from, &directory.0, to))
    }

    /// Renames a file. Fails with [`Errno::EXIST`] if the new name is taken.
    pub(super) fn rename_to_free(&self, from: &str, to: &str) -> Result<(), Errno> {
        pass(Call::Rename)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match rustix::fs::renameat_with(&self.0, from, &self.0, to, rustix::fs::RenameFlags::NOREPLACE) {
            // Some network file systems do not support the flag. A link and a removal have the same effect.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done,
        }
        match self.link(from, self, to) {
            Ok(()) => self.remove_file(from),
            Err(errno) if is_unsupported(errno) => self.rename_over_placeholder(from, to),
            Err(errno) => Err(errno),
        }
    }

    /// Does the same on a file system with neither exclusive renames nor links. An empty file takes the name first, so
    /// that no other file is overwritten.
    fn rename_over_placeholder(&self, from: &str, to: &str) -> Result<(), Errno> {
        drop(self.new_file(to, OFlags::EXCL)?);
        let renamed = self.rename(from, self, to);
        if renamed.is_err() {
            // Best effort: the caller needs to know the error of the rename.
            let _ = self.remove_file(to);
        }
        renamed
    }

    /// Links a file under a second name. Fails if the name is taken.
    pub(super) fn link(&self, from: &str, directory: &Self, to: &str) -> Result<(), Errno> {
        pass(Call::Link)?;
        rustix::fs::linkat(&self.0, from, &directory.0, to, AtFlags::empty())
    }

    /// Removes a file. Succeeds if there is none.
    pub(super) fn remove_file(&self, name: &str) -> Result<(), Errno> {
        pass(Call::RemoveFile)?;
        found(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())).map(|_| ())
    }

    /// Removes an empty directory. Succeeds if there is none.
    pub(super) fn remove_dir(&self, name: &str) -> Result<(), Errno> {
        pass(Call::RemoveDir)?;
        found(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)).map(|_| ())
    }

    /// Returns the names of the entries. Skips names that are not UTF-8, which the store never creates.
    pub(super) fn names(&self) -> Result<Vec<String>, Errno> {
        pass(Call::Read)?;
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

    /// Returns an iterator that reads the entries on demand.
    pub(super) fn entries(&self) -> Result<rustix::fs::Dir, Errno> {
        rustix::fs::Dir::read_from(&self.0)
    }

    /// Makes the names of the entries durable.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        pass(Call::SyncDir)?;
        match retry_on_intr(|| rustix::fs::fsync(&self.0)) {
            // Some network file systems do not support this for directories. Their servers sync names on their own.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            done => done,
        }
    }

    /// Returns the time at which a name was last added or removed, in milliseconds since the epoch.
    pub(super) fn changed_ms(&self) -> Result<u64, Errno> {
        rustix::fs::fstat(&self.0).map(|stat| changed_ms(&stat))
    }

    /// Returns whether the directory was deleted while it was open.
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

pub(super) fn is_regular_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Returns the length of a file in bytes.
pub(super) fn bytes_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Returns the time at which a file's content last changed, in milliseconds since the epoch.
pub(super) fn changed_ms(stat: &Stat) -> u64 {
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the types differ by platform")]
    let (seconds, nanos) = (stat.st_mtime as i64, stat.st_mtime_nsec as u64);
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// Returns the time at which a file got its last byte, if it has one.
pub(super) fn last_byte_at(stat: &Stat) -> Option<Timestamp> {
    (stat.st_size > 0).then(|| Timestamp::from_millis(changed_ms(stat)))
}

/// Makes the content of a file and its length durable.
pub(super) fn sync_data(file: impl AsFd) -> Result<(), Errno> {
    pass(Call::SyncData)?;
    #[cfg(not(target_vendor = "apple"))]
    return retry_on_intr(|| rustix::fs::fdatasync(&file));
    // On Apple systems `fsync` reaches the drive, but not its permanent storage.
    #[cfg(target_vendor = "apple")]
    return retry_on_intr(|| rustix::fs::fcntl_fullfsync(&file));
}

/// Writes buffers at an offset. Returns the number of bytes written, and the error that prevented the rest.
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
            // A file that accepts nothing and reports no error counts as full.
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

/// The most buffers that one call accepts (`IOV_MAX`).
const BUFFERS_MAX: usize = 1024;

fn write_some(file: impl AsFd, at: u64, buffers: &[IoSlice<'_>]) -> Result<usize, Errno> {
    pass(Call::Write)?;
    #[cfg(not(target_vendor = "apple"))]
    return rustix::io::pwritev(file, &buffers[..buffers.len().min(BUFFERS_MAX)], at);
    #[cfg(target_vendor = "apple")]
    return rustix::io::pwrite(file, &buffers[0], at);
}

/// Sends up to `bytes_max` bytes at an offset to a socket in nonblocking mode. Waits for the disk, not for the socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn send_file(
    file: impl AsFd,
    mut at: u64,
    socket: impl AsFd,
    bytes_max: usize,
) -> Result<usize, Errno> {
    pass(Call::Read)?;
    retry_on_intr(|| rustix::fs::sendfile(&socket, &file, Some(&mut at), bytes_max))
}

/// Reads up to `bytes_max` bytes at an offset. Returns fewer only at the end of the file.
pub(super) fn read_at(file: impl AsFd, at: u64, bytes_max: usize) -> Result<Vec<u8>, Errno> {
    pass(Call::Read)?;
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

/// Reads into a buffer at an offset, as far as the kernel holds the bytes. Returns `None` if it holds none there, or cannot
/// tell. Never waits for the disk.
#[cfg(target_os = "linux")]
pub(super) fn read_cached(file: impl AsFd, at: u64, bytes: &mut [u8]) -> Result<Option<usize>, Errno> {
    use rustix::io::{ReadWriteFlags, preadv2};
    // Planned faults are those of reads that may wait.
    #[cfg(test)]
    if faults::current().is_some() {
        return Ok(None);
    }
    match retry_on_intr(|| preadv2(&file, &mut [IoSliceMut::new(&mut *bytes)], at, ReadWriteFlags::NOWAIT)) {
        Ok(0) | Err(Errno::AGAIN) => Ok(None),
        Err(errno) if is_unsupported(errno) => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read_cached(_: impl AsFd, _: u64, _: &mut [u8]) -> Result<Option<usize>, Errno> {
    Ok(None)
}

/// Reads into a buffer at an offset. Returns fewer bytes only at the end of the file.
pub(super) fn read_into(file: impl AsFd, at: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    pass(Call::Read)?;
    let mut filled = 0;
    while filled < bytes.len() {
        let here = at + filled as u64;
        match retry_on_intr(|| rustix::io::pread(&file, &mut bytes[filled..], here))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Reserves space behind the end of a file without making it longer, if the file system supports that.
pub(super) fn reserve(file: impl AsFd, at: u64, bytes: u64) -> Result<(), Errno> {
    pass(Call::Reserve)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match retry_on_intr(|| rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, at, bytes)) {
        Err(errno) if is_unsupported(errno) => {}
        done => return done,
    }
    let _ = (file, at, bytes);
    Ok(())
}

/// The size and the free space of a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    pub(super) bytes: u64,
    /// Bytes that this process may still use.
    pub(super) available: u64,
}

/// Returns the space of the file system of an open file or directory. Returns `None` if the file system reports none,
/// as some in user space do.
pub(super) fn volume(file: impl AsFd) -> Result<Option<Volume>, Errno> {
    let stat = retry_on_intr(|| rustix::fs::fstatvfs(&file))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize.max(1));
    let volume = Volume { bytes: bytes(stat.f_blocks), available: bytes(stat.f_bavail) };
    Ok((stat.f_blocks > 0).then_some(volume))
}

/// Returns whether an error means that the file system or a system policy does not support an operation at all. The
/// error number varies (SMB, NFS, FUSE, seccomp filters). Another way to the same result may then work.
pub(super) fn is_unsupported(errno: Errno) -> bool {
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

/// Makes an empty file share the blocks of another. Returns false if the file system does not support it.
pub(super) fn share_blocks(from: impl AsFd, to: impl AsFd) -> Result<bool, Errno> {
    pass(Call::Copy)?;
    // Linux on SPARC has no such call.
    #[cfg(all(
        any(target_os = "linux", target_os = "android"),
        not(any(target_arch = "sparc", target_arch = "sparc64"))
    ))]
    match retry_on_intr(|| rustix::fs::ioctl_ficlone(&to, &from)) {
        Err(errno) if is_unsupported(errno) => {}
        done => return done.map(|()| true),
    }
    let _ = (from, to);
    Ok(false)
}

/// Returns the block size of a file's file system in bytes, at least one.
pub(super) fn block_bytes(file: impl AsFd) -> Result<u64, Errno> {
    retry_on_intr(|| rustix::fs::fstatvfs(&file)).map(|stat| stat.f_bsize.max(1))
}

/// The attribute with the acknowledged offset. The name is part of the format on disk.
const ATTRIBUTE: &str = "user.hoist.promised";

pub(super) fn set_attribute(file: impl AsFd, value: &[u8]) -> Result<(), Errno> {
    pass(Call::SetAttribute)?;
    rustix::fs::fsetxattr(&file, ATTRIBUTE, value, rustix::fs::XattrFlags::empty())
}

pub(super) fn remove_attribute(file: impl AsFd) -> Result<(), Errno> {
    pass(Call::SetAttribute)?;
    rustix::fs::fremovexattr(&file, ATTRIBUTE)
}

/// Returns the value of a file's attribute, if it is set.
pub(super) fn attribute(file: impl AsFd) -> Option<String> {
    pass(Call::Read).ok()?;
    let mut value = [0; 64];
    let length = rustix::fs::fgetxattr(&file, ATTRIBUTE, &mut value).ok()?;
    String::from_utf8(value.get(..length)?.to_vec()).ok()
}

/// The attribute with the notes of delivered events. The name is part of the format on disk.
const DELIVERED: &str = "user.hoist.delivered";

pub(super) fn set_delivered(file: impl AsFd, value: &[u8]) -> Result<(), Errno> {
    pass(Call::SetAttribute)?;
    rustix::fs::fsetxattr(&file, DELIVERED, value, rustix::fs::XattrFlags::empty())
}

/// Returns the notes of delivered events in a file's attribute, if it is set.
pub(super) fn delivered(file: impl AsFd) -> Option<String> {
    pass(Call::Read).ok()?;
    let mut value = [0; 4096];
    let length = rustix::fs::fgetxattr(&file, DELIVERED, &mut value).ok()?;
    String::from_utf8(value.get(..length)?.to_vec()).ok()
}

/// Truncates a file and frees what was reserved behind its new end.
pub(super) fn truncate(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    pass(Call::Truncate)?;
    retry_on_intr(|| rustix::fs::ftruncate(&file, bytes))
}

/// Copies the first `bytes` bytes of a file to offset `to_at` of another, inside the kernel if possible. Where files
/// can share blocks, they share those up to the first misalignment.
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
            Err(errno) if is_unsupported(errno) => break,
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
