//! The attribute of a content file that states how many of its bytes were acknowledged.
//!
//! Owns the format of the attribute, and the conclusions that may be drawn from it. It is an extended attribute of the
//! file, and a lower bound of the bytes that are durable: it is raised after the sync that makes bytes durable and
//! before they are acknowledged, and lowered before bytes are truncated. A file that is shorter than stated is
//! therefore damaged; one that is longer is not. On file systems without extended attributes such damage is not
//! detected.
//!
//! # Exact values
//!
//! The attribute is not synced on its own, so a power cut may leave an older value. The value therefore includes the
//! system's boot id. During the same boot, and with [`Durability::Disk`](super::Durability::Disk), no byte beyond the
//! value was acknowledged: such bytes may be truncated if the disk fails to sync them. After a reboot, bytes beyond the
//! value may have been acknowledged. They were then read from the disk, and a failed sync says nothing about them.

use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::io::Errno;

use super::sys;

/// The value of the attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The number of bytes that are durable and were acknowledged.
    pub(super) bytes: u64,
    /// True if no byte after them was acknowledged.
    pub(super) is_exact: bool,
}

/// Reads the attribute of a file, if it has one.
pub(super) fn read(file: impl AsFd) -> Option<Acknowledged> {
    parse(&sys::attribute(file)?, boot())
}

/// Sets the attribute, once `bytes` bytes are durable and before they are acknowledged. An attribute that cannot be
/// changed is removed, because a wrong one is worse than none. Fails if it cannot be removed, either.
pub(super) fn set(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    // Of constant length, so that a later value never needs more space, even on a full disk.
    let Err(errno) = sys::set_attribute(&file, format!("{bytes:020} {}", boot()).as_bytes()) else {
        return Ok(());
    };
    tracing::trace!(%errno, "the acknowledged offset is not stored");
    match sys::remove_attribute(&file) {
        // The file has no attribute, or cannot have one.
        Err(errno) if errno == Errno::NODATA || sys::is_unsupported(errno) => Ok(()),
        removed => removed,
    }
}

/// Lowers the attribute to at most `bytes`. Must be called before the file is truncated to that length. Fails if the
/// attribute states more and can be neither changed nor removed.
pub(super) fn lower(file: impl AsFd, bytes: u64) -> Result<(), Errno> {
    match read(&file) {
        Some(value) if value.bytes > bytes => set(file, bytes),
        _ => Ok(()),
    }
}

fn parse(text: &str, boot: &str) -> Option<Acknowledged> {
    // Earlier versions wrote the number alone.
    let (bytes, boot_id) = text.split_once(' ').unwrap_or((text, ""));
    Some(Acknowledged { bytes: bytes.parse().ok()?, is_exact: !boot.is_empty() && boot_id == boot })
}

/// Returns the system's id of the current boot; empty if the system has none.
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
    fn only_a_value_of_this_boot_is_exact() {
        let value = |bytes, is_exact| Some(Acknowledged { bytes, is_exact });
        for (text, boot, expected) in [
            ("00000000000000001000 ab12", "ab12", value(1000, true)),
            ("00000000000000001000 ab12", "cd34", value(1000, false)),
            ("00000000000000001000 ", "", value(1000, false)),
            ("1000", "ab12", value(1000, false)),
            ("", "ab12", None),
            ("-1 ab12", "ab12", None),
            ("99999999999999999999 ab12", "ab12", None),
        ] {
            assert_eq!(parse(text, boot), expected, "{text:?} in {boot:?}");
        }
    }
}
