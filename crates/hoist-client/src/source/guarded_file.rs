//! A file that other processes may write to while it is uploaded.
//!
//! Its length is fixed when the upload starts, and the bytes that have been read must not change. If the file system says
//! that the file has changed, those bytes are read again and compared, so a file that only grows can be uploaded.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::read_checksums::ReadChecksums;
use crate::lock::lock;

pub(super) enum OpenedFile {
    File(Arc<GuardedFile>),
    /// A file whose length differs from what the file system says, as in procfs and sysfs. Its length is known only once
    /// it has been read. The bytes are those that were read already.
    Stream(Vec<u8>, File),
}

/// A file with the checksums of the bytes that have been read from it.
pub(super) struct GuardedFile {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    /// The stamp with which the file was last known to hold the bytes that had been read.
    stamp: Mutex<FileStamp>,
    checksums: Mutex<ReadChecksums>,
}

/// The metadata of a file that changes with every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and the seconds and nanoseconds of the inode's last change.
    inode: Option<(u64, u64, i64, i64)>,
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt as _;
            Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let inode = None;
        Self { length: metadata.len(), modified: metadata.modified().ok(), inode }
    }
}

impl GuardedFile {
    /// Opens a file and compares its length with what can be read.
    pub(super) async fn open(path: PathBuf) -> io::Result<OpenedFile> {
        blocking(move || {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            let stamp = FileStamp::of(&metadata);
            let last = stamp.length.saturating_sub(1);
            file.seek(SeekFrom::Start(last))?;
            let mut byte = Vec::new();
            Read::by_ref(&mut file).take(1).read_to_end(&mut byte)?;
            if byte.is_empty() == (stamp.length == 0) {
                let (length, stamp) = (stamp.length, Mutex::new(stamp));
                let file = Self { path, length, stamp, checksums: Mutex::default() };
                return Ok(OpenedFile::File(Arc::new(file)));
            }
            if stamp.length > 0 {
                file.seek(SeekFrom::Start(0))?;
            }
            // Passed on, because some of these files return a byte only once.
            Ok(OpenedFile::Stream(byte, file))
        })
        .await
    }

    /// Notes bytes that were read at an offset.
    pub(super) fn note(&self, at: u64, bytes: &[u8]) {
        lock(&self.checksums).add(at, bytes);
    }

    /// Returns whether the file still holds the bytes that were read from it and has not become shorter.
    pub(super) async fn is_unchanged(self: &Arc<Self>) -> io::Result<bool> {
        let file = Arc::clone(self);
        blocking(move || file.is_unchanged_blocking()).await
    }

    /// Does the same on a thread that may block.
    pub(super) fn is_unchanged_blocking(&self) -> io::Result<bool> {
        let known = *lock(&self.stamp);
        let mut file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        // Taken before the comparison, so that the next call sees a change made during it.
        let stamp = FileStamp::of(&metadata);
        if stamp == known {
            return Ok(true);
        }
        let checksums = lock(&self.checksums).clone();
        if !metadata.is_file() || stamp.length < self.length || !checksums.match_file(&mut file)? {
            return Ok(false);
        }
        *lock(&self.stamp) = stamp;
        Ok(true)
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}
