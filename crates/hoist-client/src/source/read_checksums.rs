//! Checksums of the bytes read from a file, to compare them with its content later.
//!
//! CRC-32 and CRC-32C together form a checksum of 64 bits, which misses one edit in 2^64. They cost a few
//! microseconds per piece, far less than a cryptographic digest. Deliberate collisions are no threat: the file
//! belongs to the user who uploads it.

use std::fs::File;
use std::io;

use crate::digest;

/// The most spans that are remembered. Each interruption adds one.
const SPANS_MAX: usize = 4096;

/// The spans of a file that have been read so far, with their checksums.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadChecksums {
    spans: Vec<Span>,
    /// True if there were more than [`SPANS_MAX`] spans.
    is_incomplete: bool,
}

/// Bytes that were read in sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
    checksum: Checksum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checksum {
    crc32: u32,
    crc32c: u32,
}

impl Checksum {
    fn update(&mut self, bytes: &[u8]) {
        let mut crc32 = crc32fast::Hasher::new_with_initial(self.crc32);
        crc32.update(bytes);
        self.crc32 = crc32.finalize();
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
    }
}

impl ReadChecksums {
    /// Adds bytes that were read at an offset.
    pub(super) fn add(&mut self, at: u64, bytes: &[u8]) {
        let end = at.saturating_add(bytes.len() as u64);
        if let Some(span) = self.spans.iter_mut().rev().find(|span| span.end == at) {
            span.end = end;
            span.checksum.update(bytes);
            return;
        }
        let mut span = Span { start: at, end, checksum: Checksum::default() };
        span.checksum.update(bytes);
        // A failed attempt is repeated from the same offset. Only the bytes of the new attempt matter.
        match self.spans.iter().rposition(|known| known.start == at) {
            Some(index) => self.spans[index] = span,
            None if self.spans.len() < SPANS_MAX => self.spans.push(span),
            None => self.is_incomplete = true,
        }
    }

    /// Returns whether the file still holds every byte that was read, at the same offset. Returns false if not all spans
    /// were remembered.
    pub(super) fn match_file(&self, file: &mut File) -> io::Result<bool> {
        if self.is_incomplete {
            return Ok(false);
        }
        for span in &self.spans {
            let mut found = Checksum::default();
            let is_whole = digest::read_range(file, span.start..span.end, |bytes| found.update(bytes))?;
            if !is_whole || found != span.checksum {
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
    fn only_edits_of_bytes_that_were_read_are_found() {
        let content: Vec<u8> = (0..600_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        let mut checksums = ReadChecksums::default();
        checksums.add(0, &content[..300_000]);
        checksums.add(300_000, &content[300_000..400_000]);
        // An interruption, after which the server is at an earlier offset.
        checksums.add(350_000, b"read before the file was edited");
        checksums.add(350_000, &content[350_000..500_000]);
        assert_eq!(checksums.spans.len(), 2);
        assert!(checksums.match_file(&mut file(&content)).expect("read"));
        for (at, matches) in [(0, false), (123_456, false), (499_999, false), (500_000, true)] {
            let mut edited = content.clone();
            edited[at] ^= 1;
            assert_eq!(checksums.match_file(&mut file(&edited)).expect("read"), matches, "{at}");
        }
        assert!(
            !checksums.match_file(&mut file(&content[..499_999])).expect("read"),
            "it has become shorter"
        );
    }

    #[test]
    fn a_file_with_too_many_spans_does_not_match() {
        let (content, mut checksums) = (vec![7; 3 * SPANS_MAX], ReadChecksums::default());
        for span in 0..SPANS_MAX {
            checksums.add(3 * span as u64, &content[..2]);
        }
        assert!(checksums.match_file(&mut file(&content)).expect("read"));
        checksums.add(1, &content[..1]);
        assert!(!checksums.match_file(&mut file(&content)).expect("read"));
    }
}
