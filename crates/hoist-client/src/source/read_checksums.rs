//! Checksums of the bytes read from a file, for a comparison with its content at a later time.
//!
//! CRC-32 and CRC-32C together form a checksum of 64 bits, which misses one edit in 2^64. They cost a few
//! microseconds per piece, far less than a cryptographic digest. Collisions made on purpose are no threat: the file
//! belongs to the user who uploads it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

/// The most spans that are remembered. An upload has one more for each interruption.
const SPANS_MAX: usize = 4096;
/// Bytes compared at a time.
const READ_BYTES: usize = 256 * 1024;

/// The spans of a file that have been read so far, with their checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadChecksums {
    spans: Vec<Span>,
    /// Set when there were more than [`SPANS_MAX`] spans.
    is_incomplete: bool,
}

/// Bytes that were read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
    checksum: Checksum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checksum {
    ieee: u32,
    castagnoli: u32,
}

impl Checksum {
    fn update(&mut self, bytes: &[u8]) {
        let mut ieee = crc32fast::Hasher::new_with_initial(self.ieee);
        ieee.update(bytes);
        self.ieee = ieee.finalize();
        self.castagnoli = crc32c::crc32c_append(self.castagnoli, bytes);
    }
}

impl ReadChecksums {
    /// Takes note of bytes that were read at an offset.
    pub(super) fn add(&mut self, at: u64, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len() as u64);
        if let Some(span) = self.spans.iter_mut().rev().find(|span| span.end == at) {
            span.end = end;
            span.checksum.update(bytes);
            return;
        }
        let mut span = Span { start: at, end, checksum: Checksum::default() };
        span.checksum.update(bytes);
        // What an attempt sent that got nowhere is sent again from the same offset, and counts as it is read then.
        match self.spans.iter().rposition(|known| known.start == at) {
            Some(index) => self.spans[index] = span,
            None if self.spans.len() < SPANS_MAX => self.spans.push(span),
            None => self.is_incomplete = true,
        }
    }

    /// Returns `true` if the file still holds every byte that was read, at the same offset.
    pub(super) fn is_in(&self, file: &mut File) -> io::Result<bool> {
        if self.is_incomplete {
            return Ok(false);
        }
        let mut memory = vec![0; READ_BYTES];
        for span in &self.spans {
            file.seek(SeekFrom::Start(span.start))?;
            let (mut left, mut found) = (span.end - span.start, Checksum::default());
            while left > 0 {
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
                match file.read(&mut memory[..most]) {
                    Ok(0) => return Ok(false),
                    Ok(read) => {
                        found.update(&memory[..read]);
                        left -= read as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if found != span.checksum {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        file
    }

    #[test]
    fn a_file_is_compared_where_it_was_read_and_nowhere_else() {
        let content: Vec<u8> = (0..600_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        let mut trace = ReadChecksums::default();
        trace.add(0, &content[..300_000]);
        trace.add(300_000, &content[300_000..400_000]);
        // An interruption, after which the server is at an earlier offset.
        trace.add(350_000, b"read when the file was another");
        trace.add(350_000, &content[350_000..500_000]);
        assert_eq!(trace.spans.len(), 2);
        assert!(trace.is_in(&mut file(&content)).expect("read"));
        for (at, is_there) in [(0, false), (123_456, false), (499_999, false), (500_000, true)] {
            let mut edited = content.clone();
            edited[at] ^= 1;
            assert_eq!(trace.is_in(&mut file(&edited)).expect("read"), is_there, "{at}");
        }
        assert!(!trace.is_in(&mut file(&content[..499_999])).expect("read"), "it has shrunk");
    }

    #[test]
    fn what_cannot_be_remembered_is_not_vouched_for() {
        let (content, mut trace) = (vec![7; 3 * SPANS_MAX], ReadChecksums::default());
        for span in 0..SPANS_MAX {
            trace.add(3 * span as u64, &content[..2]);
        }
        assert!(trace.is_in(&mut file(&content)).expect("read"));
        trace.add(1, &content[..1]);
        assert!(!trace.is_in(&mut file(&content)).expect("read"));
    }
}
