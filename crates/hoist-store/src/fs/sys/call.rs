//! The kinds of system calls.

/// A kind of system call, by which tests select the calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fs) enum Call {
    /// A call that changes nothing.
    Read,
    MakeDir,
    NewFile,
    Rename,
    Link,
    RemoveFile,
    RemoveDir,
    SyncDir,
    SyncData,
    Write,
    Reserve,
    Copy,
    SetAttribute,
    Truncate,
}
