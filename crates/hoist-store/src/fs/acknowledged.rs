//! The note a content file carries of how many of its bytes a client was told.
//!
//! Owns its format and what may be concluded from it. The note is an extended attribute. It is a lower bound of the bytes
//! that are durable and were told: it is raised after the sync that makes them durable and before they are told, and it is
//! lowered before bytes are cut off. So a file that is shorter than its note is damaged, and one that is longer is not. On
//! a file system without extended attributes there are no notes, and such damage is not found.
//!
//! # Exact notes
//!
//! A note is not synced of its own, so a power cut may leave an older one. It therefore names the boot of the machine in
//! which it was made. While that lasts no byte behind the note was told at [`Durability::Disk`](super::Durability), and
//! such bytes may be cut off when the disk fails to sync them. After a reboot they may have been told, but then they were
//! read from the disk, and a failing sync says nothing about them.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::io::Errno;

use super::sys;

/// The content of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The number of bytes that are durable and were reported to a client.
    pub(super) bytes: u64,
    /// True if no byte after them was reported.
    pub(super) is_exact: bool,
}

/// The note of a file, if it carries one.
pub(super) fn read(file: impl AsFd) -> Option<Acknowledged> {
    parse(&sys::note(file)?, boot())
}

/// Notes that `bytes` bytes are durable and are about to be reported. A note that cannot be changed is removed, since
/// a wrong note is worse than none.
///
/// # Errors
/// Returns an error if the old note could be neither changed nor removed.
pub(super) fn set(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    // Always of one length, so that it never needs more room than it had on a disk that was not full.
    let Err(errno) = sys::set_note(&file, format!("{bytes:020} {}", boot()).as_bytes()) else {
        return Ok(());
    };
    tracing::trace!(%errno, "no note of what was told");
    match sys::remove_note(&file) {
        // There is none, nor can there be.
        Err(errno) if errno == Errno::NODATA || sys::is_refusal(errno) => Ok(()),
        removed => removed,
    }
}

/// Lowers the note to at most `bytes`. Must be called before the file is truncated to that length.
///
/// # Errors
/// Returns an error if the note states more and could be neither changed nor removed.
pub(super) fn lower(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    match read(&file) {
        Some(note) if note.bytes > bytes => set(file, bytes),
        _ => Ok(()),
    }
}

fn parse(text: &str, boot: &str) -> Option<Acknowledged> {
    // Earlier versions noted the number alone.
    let (bytes, made_in) = text.split_once(' ').unwrap_or((text, ""));
    Some(Acknowledged { bytes: bytes.parse().ok()?, is_exact: !boot.is_empty() && made_in == boot })
}

/// The system's identifier of the current boot; empty if the system has none.
fn boot() -> &'static str {
    static BOOT: OnceLock<String> = OnceLock::new();
    BOOT.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.chars().filter(char::is_ascii_hexdigit).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_note_of_this_boot_is_exact() {
        let note = |bytes, is_exact| Some(Acknowledged { bytes, is_exact });
        for (text, boot, expected) in [
            ("00000000000000001000 ab12", "ab12", note(1000, true)),
            ("00000000000000001000 ab12", "cd34", note(1000, false)),
            ("00000000000000001000 ", "", note(1000, false)),
            ("1000", "ab12", note(1000, false)),
            ("", "ab12", None),
            ("-1 ab12", "ab12", None),
            ("99999999999999999999 ab12", "ab12", None),
        ] {
            assert_eq!(parse(text, boot), expected, "{text:?} in {boot:?}");
        }
    }
}
