//! A file that others may write to while it is uploaded.
//!
//! The length it had at the beginning counts. What was read of it must stay as it was: when the file system says that the
//! file has changed, that is compared, so that a file that grows can be uploaded and one that was edited cannot.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::file_reader::FileReader;
use super::lock;
use super::read_checksums::ReadChecksums;

/// A regular file, as it is found when an upload begins.
pub(super) enum OpenedFile {
    File(GuardedFile),
    /// A file that holds another number of bytes than the file system says, as those of procfs and sysfs do: it is known
    /// when it has been read. Its first bytes may have been read already.
    Stream(Vec<u8>, File),
}

/// A file, and what is known of it.
pub(super) struct GuardedFile {
    path: PathBuf,
    length: u64,
    /// The state in which the file was last seen to hold what was read of it.
    stamp: Mutex<FileStamp>,
    trace: Arc<Mutex<ReadChecksums>>,
}

/// The file system's account of a file, which is another one after each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode, and the time of its last change in seconds and nanoseconds.
    identity: Option<(u64, u64, i64, i64)>,
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt as _;
            Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let identity = None;
        Self { length: metadata.len(), modified: metadata.modified().ok(), identity }
    }
}

impl GuardedFile {
    /// Opens a file and compares its length with what can be read.
    pub(super) async fn find(path: PathBuf) -> io::Result<OpenedFile> {
        blocking(move || {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            let stamp = FileStamp::of(&metadata);
            let last = stamp.length.saturating_sub(1);
            file.seek(SeekFrom::Start(last))?;
            let mut byte = [0];
            let has_byte = read_one(&mut file, &mut byte)?;
            if has_byte == (stamp.length > 0) {
                let (length, stamp) = (stamp.length, Mutex::new(stamp));
                return Ok(OpenedFile::File(Self { path, length, stamp, trace: Arc::default() }));
            }
            if stamp.length > 0 {
                file.seek(SeekFrom::Start(0))?;
            }
            // Some of these files give a byte once only.
            Ok(OpenedFile::Stream(byte[..usize::from(has_byte)].to_vec(), file))
        })
        .await
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads a range of it.
    pub(super) async fn reading(&self, range: Range<u64>) -> io::Result<FileReader> {
        FileReader::open(&self.path, range, self.trace.clone()).await
    }

    /// Returns `true` if the file still holds the bytes that were read from it and is not shorter than before.
    pub(super) async fn is_unchanged(&self) -> io::Result<bool> {
        let (path, length, known) = (self.path.clone(), self.length, *lock(&self.stamp));
        let trace = self.trace.clone();
        let stamp = blocking(move || {
            let mut file = File::open(&path)?;
            let metadata = file.metadata()?;
            // Taken before anything is compared, so that a change during the comparison is seen the next time.
            let stamp = FileStamp::of(&metadata);
            if stamp == known {
                return Ok(Some(stamp));
            }
            let read = lock(&trace).clone();
            let is_unchanged = metadata.is_file() && stamp.length >= length && read.is_in(&mut file)?;
            Ok(is_unchanged.then_some(stamp))
        });
        let Some(stamp) = stamp.await? else { return Ok(false) };
        *lock(&self.stamp) = stamp;
        Ok(true)
    }
}

fn read_one(file: &mut File, byte: &mut [u8; 1]) -> io::Result<bool> {
    loop {
        match file.read(byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map(|bytes| bytes > 0),
        }
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(act).await.map_err(io::Error::other)?
}
