//! Digests of the uploaded bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use hoist_proto::dialect::tus1::client::Checksum;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::DynDigest;

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

fn hasher(kind: Checksum) -> Box<dyn DynDigest> {
    match kind {
        Checksum::Sha1 => Box::new(Sha1::default()),
        Checksum::Sha256 => Box::new(Sha256::default()),
    }
}

pub(crate) fn digest(kind: Checksum, bytes: &[u8]) -> Vec<u8> {
    let mut hash = hasher(kind);
    hash.update(bytes);
    hash.finalize().into_vec()
}

/// Returns the digest of a range of a file, or an error of kind `UnexpectedEof` if the file is shorter.
pub(crate) fn digest_of_file(kind: Checksum, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut hash = hasher(kind);
    if !read_range(&mut File::open(path)?, range, |bytes| hash.update(bytes))? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(hash.finalize().into_vec())
}

/// Passes a range of a file to `each`, piece by piece. Returns whether the file has all of it.
pub(crate) fn read_range(
    file: &mut File,
    range: Range<u64>,
    mut each: impl FnMut(&[u8]),
) -> io::Result<bool> {
    file.seek(SeekFrom::Start(range.start))?;
    let (mut left, mut buffer) = (range.end - range.start, vec![0; READ_BYTES]);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        match file.read(&mut buffer[..most]) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                each(&buffer[..read]);
                left -= read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
