//! The names in the data directory.
//!
//! Owns the layout on disk. It is a file format: names may be added, but none may change. Some names differ from the
//! terms of the code: `doubt.<n>` is the marker of unverified bytes, `seen` holds the time of the last use.
//!
//! ```text
//! DATA/lock                  locked by the process that uses the directory; contains its process id
//! DATA/seen                  the time of the last use, in milliseconds since the epoch, and the steps of the clock
//! DATA/open/<id>/content     the content; its length is the offset
//! DATA/open/<id>/draft       the record as created, until the first sync has made it durable
//! DATA/open/<id>/record      the record; always durable before it gets this name
//! DATA/open/<id>/record.new  a record being written
//! DATA/open/<id>/doubt.<n>   empty; the content from byte <n> on is unverified
//! DATA/open/<id>/content.new content being joined from parts
//! DATA/open/<id>/damaged     the reason for which the content is not trusted; written by earlier versions
//! DATA/open/<id>.gone/       an upload being removed
//! DATA/open/<id>/delivered   the events that were delivered, where the directory can have no attribute
//! DATA/done/<id>/…           the same for complete uploads; `exported` identifies an exported copy
//! DATA/gone/<id>.<n>         the record of a removed upload whose events are not all delivered
//! DATA/gone/<id>.<n>.due     the same, of an upload that is about to be removed
//! DATA/dead/<id>.<type>.<sink>   the record of an upload, for one event whose delivery to a sink was given up
//! ```

use std::fmt;

use hoist_proto::types::UploadId;

pub(super) const CONTENT: &str = "content";
pub(super) const DRAFT: &str = "draft";
pub(super) const EXPORTED: &str = "exported";
/// Content being joined from parts.
pub(super) const CONTENT_NEW: &str = "content.new";
pub(super) const RECORD: &str = "record";
pub(super) const RECORD_NEW: &str = "record.new";
pub(super) const DAMAGED: &str = "damaged";
pub(super) const UNVERIFIED_PREFIX: &str = "doubt.";
pub(super) const REMOVED_SUFFIX: &str = ".gone";
/// The directory of the records of removed uploads.
pub(super) const GONE: &str = "gone";
/// The directory of dead events.
pub(super) const DEAD: &str = "dead";
pub(super) const DELIVERED: &str = "delivered";
/// Added to the name of a record for a small file.
pub(super) const DELIVERED_SUFFIX: &str = ".delivered";
pub(super) const DUE_SUFFIX: &str = ".due";
pub(super) const NEW_SUFFIX: &str = ".new";

/// One of the two parent directories of uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParentDir {
    Open,
    Done,
}

impl ParentDir {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Open => Self::Done,
            Self::Done => Self::Open,
        }
    }
}

impl fmt::Display for ParentDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Done => "done",
        })
    }
}

/// A set of parent directories, mostly those that remain to be synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ParentDirs {
    pub(super) open: bool,
    pub(super) done: bool,
}

impl ParentDirs {
    pub(super) const NONE: Self = Self { open: false, done: false };
    pub(super) const BOTH: Self = Self { open: true, done: true };

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { open: self.open || other.open, done: self.done || other.done }
    }
}

impl From<ParentDir> for ParentDirs {
    fn from(parent: ParentDir) -> Self {
        Self { open: parent == ParentDir::Open, done: parent == ParentDir::Done }
    }
}

/// Returns an upload's path for logs and errors. The id may be a capability, so it is abbreviated.
pub(super) fn label(parent: ParentDir, id: UploadId) -> String {
    format!("{parent}/{}…", id.short())
}
