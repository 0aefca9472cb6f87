//! Digests of the uploaded bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use hoist_proto::dialect::tus1::client::Checksum;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Bytes hashed at a time.
const READ_BYTES: usize = 256 * 1024;

/// A running digest.
enum Hasher {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    fn new(kind: Checksum) -> Self {
        match kind {
            Checksum::Sha1 => Self::Sha1(Sha1::new()),
            Checksum::Sha256 => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(hash) => hash.finalize().to_vec(),
            Self::Sha256(hash) => hash.finalize().to_vec(),
        }
    }
}

/// Returns the digest of bytes in memory.
pub(crate) fn digest(kind: Checksum, bytes: &[u8]) -> Vec<u8> {
    let mut hash = Hasher::new(kind);
    hash.update(bytes);
    hash.finish()
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
    let mut hash = Hasher::new(kind);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&buffer[..read]);
        left -= read as u64;
    }
    Ok(hash.finish())
}

/// Returns octets as hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
