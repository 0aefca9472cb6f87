//! The options of the local store, and their defaults.

use std::fmt;
use std::str::FromStr;

/// The event that acknowledged bytes survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the machine. Bytes are acknowledged after the disk has confirmed them.
    #[default]
    Disk,
    /// A crash of the process. Bytes are acknowledged after the system has accepted them. A power cut may lose the last
    /// seconds.
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

/// The error for a text that is not a [`Durability`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a durability: it is `disk` or `os`")]
pub struct NotADurability;

/// Space on the volume of the data directory that uploads leave free for records, logs and other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headroom {
    /// A number of bytes.
    Bytes(u64),
    /// A percentage of the volume, but at most 1 GiB.
    Percent(u8),
}

impl Default for Headroom {
    fn default() -> Self {
        Self::Percent(1)
    }
}

/// Options of a [`LocalStore`](super::LocalStore).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The event that acknowledged bytes survive.
    pub durability: Durability,
    /// The space on the volume that uploads leave free.
    pub headroom: Headroom,
    /// The most bytes of one upload that may be queued for writing. At least 512 KiB keep a disk busy.
    pub queue_bytes_max: u32,
    /// The most bytes of all uploads that may be queued for writing. Bounds the store's memory. A buffer counts with
    /// its length, not with the allocation that it may be a slice of.
    ///
    /// With a hundred uploads faster than the disk, the process took 90 to 98 MB in a benchmark. With 64 MiB it took
    /// 114 to 126 MB and about 5 % less time.
    pub budget_bytes_max: u32,
    /// The number of threads that write and sync. The more of them wait for the disk at the same time, the more uploads
    /// share one commit of the journal.
    pub disk_threads: usize,
    /// The number of threads for other work: creating, opening, reading.
    pub other_threads: usize,
    /// The number of unsynced bytes of an upload at which a background sync starts. An upload never has more than twice
    /// as many, so that a sync with a waiting caller is short: under a second on a disk that writes 100 MB a second.
    pub sync_bytes: u64,
    /// The number of idle uploads whose fences are remembered; up to twice as many are. A claim that was superseded
    /// longer ago, in uploads used, would no longer be refused. Servers end superseded claims within seconds.
    pub fences_max: usize,
    /// The number of idle uploads whose records are kept in memory, so that a query needs no file.
    pub cache_uploads_max: usize,
    /// The memory that these records may take, in bytes.
    pub cache_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::Disk,
            headroom: Headroom::default(),
            queue_bytes_max: 1024 * 1024,
            budget_bytes_max: 32 * 1024 * 1024,
            disk_threads: 20,
            other_threads: 4,
            sync_bytes: 32 * 1024 * 1024,
            fences_max: 50_000,
            cache_uploads_max: 8192,
            cache_bytes_max: 8 * 1024 * 1024,
        }
    }
}
