//! Digests of the uploaded bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use hoist_proto::dialect::tus1::client::Checksum;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::DynDigest;

/// Bytes hashed at a time.
const READ_BYTES: usize = 256 * 1024;

fn hasher(kind: Checksum) -> Box<dyn DynDigest> {
    match kind {
        Checksum::Sha1 => Box::new(Sha1::default()),
        Checksum::Sha256 => Box::new(Sha256::default()),
    }
}

/// Returns the digest of bytes in memory.
pub(crate) fn digest(kind: Checksum, bytes: &[u8]) -> Vec<u8> {
    let mut hash = hasher(kind);
    hash.update(bytes);
    hash.finalize().into_vec()
}

/// Returns the digest of a range of a file.
///
/// # Errors
/// Returns an error of kind `UnexpectedEof` if the file is shorter.
pub(crate) fn digest_of_file(kind: Checksum, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    let mut buffer = vec![0; READ_BYTES];
    let mut hash = hasher(kind);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..read]);
        left -= read as u64;
    }
    Ok(hash.finalize().into_vec())
}
