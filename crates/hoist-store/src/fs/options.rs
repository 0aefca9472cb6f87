//! What an operator can choose about the local store.
//!
//! Owns the choices, their names and their defaults, each with the measurement or the reason behind it.

use std::fmt;
use std::str::FromStr;

/// What an acknowledged byte survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The machine: nothing is acknowledged before the disk has confirmed it.
    #[default]
    Disk,
    /// The process: nothing is acknowledged before the system has it. A power cut may take the last seconds.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Os => "os",
        })
    }
}

impl FromStr for Durability {
    type Err = NotADurability;

    fn from_str(text: &str) -> Result<Self, NotADurability> {
        match text {
            "disk" => Ok(Self::Disk),
            "os" => Ok(Self::Os),
            _ => Err(NotADurability),
        }
    }
}

/// The text is not a [`Durability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a durability: it is `disk` or `os`")]
pub struct NotADurability;

/// Space on the volume of the data directory that uploads leave free, so that records, logs and other programs can go on
/// when uploads have taken the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headroom {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage of the volume, but never more than 1 GiB.
    Percent(u8),
}

impl Headroom {
    pub(super) fn is_none(self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Percent(0))
    }
}

impl Default for Headroom {
    fn default() -> Self {
        Self::Percent(1)
    }
}

/// How a [`LocalStore`](super::LocalStore) works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What an acknowledged byte survives.
    pub durability: Durability,
    /// The space on the volume that uploads leave free.
    pub headroom: Headroom,
    /// Bytes of one upload that may wait to be written. At least 512 KiB keep a disk busy.
    pub queue_bytes_max: u32,
    /// Bytes of all uploads that may wait to be written; bounds the store's memory. A buffer is counted by its length,
    /// and not by the allocation it may be a slice of. With a hundred
    /// uploads that come faster than the disk the benchmark's process takes 90 to 98 MB; with 64 MiB it took 114 to
    /// 126 MB, and some 5 % less time.
    pub budget_bytes_max: u32,
    /// Threads that write.
    pub write_threads: usize,
    /// Threads that sync. Many: they wait for the disk, and the more wait together the more one commit of the journal
    /// serves.
    pub sync_threads: usize,
    /// Threads for everything else: creating, opening, reading.
    pub other_threads: usize,
    /// Bytes of an upload after which a sync starts that nobody waits for. An upload gets at most twice as far ahead of
    /// what is durable, so a sync that somebody waits for never has more to do: under a second on a disk that writes
    /// 100 MB a second.
    pub sync_bytes: u64,
    /// Uploads not in use whose fences are remembered. A claim that was superseded more uploads ago than this, and is
    /// still acting, would not be refused; servers end superseded claims within seconds.
    pub fences_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Disk,
            headroom: Headroom::default(),
            queue_bytes_max: 1024 * 1024,
            budget_bytes_max: 32 * 1024 * 1024,
            write_threads: 4,
            sync_threads: 16,
            other_threads: 4,
            sync_bytes: 32 * 1024 * 1024,
            fences_max: 65_536,
        }
    }
}
