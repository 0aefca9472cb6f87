//! What the journal keeps of an upload under way, written by a thread that may wait for the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use tokio::sync::Mutex;

use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::journal::{self, FileState, Journal, JournalEntry, LockedEntry};
use crate::upload;

/// The entry of an upload, if one is kept.
pub(super) struct JournalRecord(Option<Box<OpenRecord>>);

struct OpenRecord {
    held: Arc<LockedEntry>,
    file: PathBuf,
    target: Uri,
    mark: FileState,
    written: Option<JournalEntry>,
}

/// Who keeps what names an upload.
pub(super) enum JournalSlot<'a> {
    /// A record of its own.
    Own(JournalRecord),
    /// The record of the whole, for this part of it.
    Part(&'a Mutex<JournalRecord>, usize),
}

impl JournalSlot<'_> {
    pub(super) fn is_kept(&self) -> bool {
        match self {
            Self::Own(record) => record.0.is_some(),
            Self::Part(..) => false,
        }
    }

    /// Keeps what names the upload, if that is news. Tokens are kept by [`Record::keep_handle`], before they are used.
    pub(super) async fn keep(&mut self, url: Option<&Uri>, dialect: Dialect) -> Result<(), Error> {
        match (self, url, dialect) {
            (Self::Part(record, index), Some(url), _) => record.lock().await.keep_part(*index, url).await,
            (Self::Own(record), Some(url), Dialect::Ietf(_) | Dialect::Tus1) => {
                record.keep_url(url, dialect).await
            }
            _ => Ok(()),
        }
    }

    /// The upload is complete.
    pub(super) async fn remove(self) -> Result<(), Error> {
        match self {
            Self::Own(record) => record.remove().await,
            Self::Part(..) => Ok(()),
        }
    }
}

/// What an earlier run has left.
pub(super) enum Previous {
    None,
    /// An upload of this very source.
    Same(Handle),
    /// An upload of what the source was before.
    Changed,
}

impl JournalRecord {
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Takes the right to the entry of a file and an upload URL.
    pub(super) async fn open(journal: Journal, path: PathBuf, target: &Uri) -> Result<Self, Error> {
        let target = target.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let file = journal::absolute(&path)?;
            let mark = FileState::of(&file).map_err(|source| Error::Source { path, source })?;
            let held = Arc::new(journal.hold(&file, &target)?);
            let written = held.read();
            Ok(Self(Some(Box::new(OpenRecord { held, file, target, mark, written }))))
        });
        opened.await.map_err(stopped)?
    }

    /// What an earlier run has left.
    pub(super) fn left(&self) -> Previous {
        let Some(kept) = &self.0 else { return Previous::None };
        match &kept.written {
            None => Previous::None,
            Some(entry) if entry.is_of(&kept.mark) => Previous::Same(entry.handle.clone()),
            Some(_) => Previous::Changed,
        }
    }

    async fn keep_url(&mut self, url: &Uri, dialect: Dialect) -> Result<(), Error> {
        let Some(kept) = &self.0 else { return Ok(()) };
        let target = kept.target.clone();
        self.keep_handle(Handle::Url { target, url: url.clone(), dialect }).await
    }

    /// The file, where an entry is kept.
    pub(super) fn file(&self) -> Option<&Path> {
        self.0.as_ref().map(|kept| kept.file.as_path())
    }

    async fn keep_part(&mut self, index: usize, url: &Uri) -> Result<(), Error> {
        let Some(entry) = self.0.as_ref().and_then(|kept| kept.written.as_ref()) else { return Ok(()) };
        let mut handle = entry.handle.clone();
        if let Handle::Parts { parts, .. } = &mut handle
            && let Some(part) = parts.get_mut(index)
        {
            *part = Some(url.clone());
        }
        self.keep_handle(handle).await
    }

    pub(super) async fn keep_handle(&mut self, handle: Handle) -> Result<(), Error> {
        let Some(kept) = &mut self.0 else { return Ok(()) };
        if kept.written.as_ref().is_some_and(|entry| entry.handle == handle && entry.mark == kept.mark) {
            return Ok(());
        }
        let entry = JournalEntry {
            file: kept.file.clone(),
            target: kept.target.clone(),
            handle,
            length: kept.mark.length,
            began: upload::today(),
            mark: kept.mark.clone(),
        };
        kept.written = Some(entry.clone());
        let held = kept.held.clone();
        tokio::task::spawn_blocking(move || held.save(&entry)).await.map_err(stopped)?
    }

    /// The upload is complete.
    pub(super) async fn remove(self) -> Result<(), Error> {
        let Some(held) = self.0.and_then(|kept| Arc::into_inner(kept.held)) else { return Ok(()) };
        tokio::task::spawn_blocking(move || held.remove()).await.map_err(stopped)?
    }
}

/// The runtime is being shut down.
fn stopped(error: tokio::task::JoinError) -> Error {
    Error::Journal { path: PathBuf::new(), source: io::Error::other(error) }
}
