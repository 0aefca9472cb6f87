//! The names in the data directory.
//!
//! Owns the layout on disk. It is a file format: names may be added, but none may change.
//!
//! ```text
//! DATA/lock                 held by the one process that uses the directory; says which
//! DATA/seen                 when the directory was last in use, in milliseconds since the epoch
//! DATA/open/<id>/content    the bytes; their number is the offset
//! DATA/open/<id>/draft      the record as it was created, until the first sync has made it durable
//! DATA/open/<id>/record     the record; a file of this name was durable before it got the name
//! DATA/open/<id>/record.new a record being written
//! DATA/open/<id>/doubt.<n>  empty; says that the content counts up to byte <n> alone, whatever lies behind it
//! DATA/open/<id>/content.new a content being joined of other uploads' contents
//! DATA/open/<id>/damaged    says why the content is not to be trusted; earlier versions made it
//! DATA/open/<id>.gone/      an upload being removed
//! DATA/done/<id>/…          the same for uploads that take no more bytes; `exported` notes a copy elsewhere
//! ```

use std::fmt;

use hoist_proto::types::UploadId;

pub(super) const CONTENT: &str = "content";
pub(super) const DRAFT: &str = "draft";
pub(super) const EXPORTED: &str = "exported";
/// A content that parts are being joined into.
pub(super) const CONTENT_NEW: &str = "content.new";
pub(super) const RECORD: &str = "record";
pub(super) const RECORD_NEW: &str = "record.new";
pub(super) const DAMAGED: &str = "damaged";
pub(super) const UNVERIFIED_PREFIX: &str = "doubt.";
pub(super) const REMOVED_SUFFIX: &str = ".gone";

/// Which of the two directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParentDir {
    Open,
    Done,
}

impl fmt::Display for ParentDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Done => "done",
        })
    }
}

/// A set of the two: the ones whose names have yet to become durable.
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

/// An upload's directory in logs and errors. The id may be a capability, so it is abbreviated.
pub(super) fn label(parent: ParentDir, id: UploadId) -> String {
    format!("{parent}/{}…", id.short())
}
