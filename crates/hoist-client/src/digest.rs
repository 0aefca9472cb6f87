//! Digests of what is uploaded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use hoist_proto::client::Checksum;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Bytes hashed at a time.
const READ_BYTES: usize = 256 * 1024;

/// A digest that is being made.
enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hash {
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

pub(crate) fn of(kind: Checksum, bytes: &[u8]) -> Vec<u8> {
    let mut hash = Hash::new(kind);
    hash.update(bytes);
    hash.finish()
}

/// The digest of a range of a file; an error of the kind `UnexpectedEof` when it is shorter.
pub(crate) fn of_file(kind: Checksum, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut left = range.end - range.start;
    let mut memory = vec![0; READ_BYTES];
    let mut hash = Hash::new(kind);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let read = file.read(&mut memory[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&memory[..read]);
        left -= read as u64;
    }
    Ok(hash.finish())
}

/// Octets as hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
