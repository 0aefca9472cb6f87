//! The journal entry of an upload that is being sent. The journal is read and written on blocking threads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::dialect::Dialect;
use crate::error::Error;
use crate::handle::Handle;
use crate::journal::{self, FileState, Journal, JournalEntry, LockedEntry};

/// The journal entry of an upload, or nothing if the upload is not recorded.
#[derive(Default)]
pub(super) struct JournalRecord(Option<Box<OpenRecord>>);

struct OpenRecord {
    entry: Arc<LockedEntry>,
    file: PathBuf,
    target: Uri,
    file_state: FileState,
    note: Option<String>,
    /// The content of the entry on disk.
    written: Option<JournalEntry>,
    /// The acknowledged offsets, of each part if there are several.
    offsets: Vec<u64>,
    /// The time of the last note of their sum.
    noted: Option<Instant>,
}

/// The interval at which the acknowledged offset is noted.
const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// The place in the journal for the URL of an upload.
pub(super) enum JournalSlot<'a> {
    Own(JournalRecord),
    /// The part with this index in the record of an upload in parts.
    Part(&'a Mutex<JournalRecord>, usize),
}

impl JournalSlot<'_> {
    /// Returns whether the upload has a journal entry of its own.
    pub(super) fn is_recorded(&self) -> bool {
        matches!(self, Self::Own(JournalRecord(Some(_))))
    }

    /// Writes the URL of the upload, unless it is there already. Tokens are written by
    /// [`JournalRecord::save_handle`] before they are used.
    pub(super) async fn save_url(&mut self, url: Option<&Uri>, dialect: Dialect) -> Result<(), Error> {
        let Some(url) = url else { return Ok(()) };
        match self {
            Self::Part(record, index) => record.lock().await.save_part_url(*index, url).await,
            Self::Own(record) if dialect.has_urls() => {
                let Some(open) = &record.0 else { return Ok(()) };
                let target = open.target.clone();
                record.save_handle(Handle::Url { target, url: url.clone(), dialect }).await
            }
            Self::Own(_) => Ok(()),
        }
    }

    /// Notes the acknowledged offset for other processes, about once a second.
    pub(super) async fn note_offset(&mut self, offset: u64) {
        match self {
            Self::Own(record) => record.note_offset(0, offset).await,
            Self::Part(record, index) => record.lock().await.note_offset(*index, offset).await,
        }
    }

    /// Removes the entry of a complete upload.
    pub(super) async fn remove(self) -> Result<(), Error> {
        if let Self::Own(record) = self { record.remove().await } else { Ok(()) }
    }
}

/// The upload that a previous run began.
pub(super) enum Previous {
    None,
    /// An upload of the file as it is now.
    Same(Handle),
    /// An upload of the file before it was changed.
    Changed(Handle),
}

impl JournalRecord {
    /// Locks and reads the entry for a file and an upload URL. If the upload can be resumed, its note is replaced.
    pub(super) async fn open(
        journal: Journal,
        path: PathBuf,
        target: &Uri,
        note: Option<String>,
    ) -> Result<Self, Error> {
        let target = target.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let file = journal::key_of(&path)?;
            let file_state = FileState::of(&file).map_err(|source| Error::Source { path, source })?;
            let entry = Arc::new(journal.lock(&file, &target)?);
            let mut written = entry.read();
            if let Some(previous) = written.as_mut().filter(|previous| previous.matches(&file_state))
                && note.is_some()
                && previous.note != note
            {
                previous.note.clone_from(&note);
                entry.save(previous)?;
            }
            Ok(Self(Some(Box::new(OpenRecord {
                entry,
                file,
                target,
                file_state,
                note,
                written,
                offsets: Vec::new(),
                noted: None,
            }))))
        });
        opened.await.map_err(shut_down)?
    }

    pub(super) fn previous(&self) -> Previous {
        let Some(record) = &self.0 else { return Previous::None };
        match &record.written {
            None => Previous::None,
            Some(entry) if entry.matches(&record.file_state) => Previous::Same(entry.handle.clone()),
            Some(entry) => Previous::Changed(entry.handle.clone()),
        }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.0.as_ref().map(|record| record.file.as_path())
    }

    async fn note_offset(&mut self, part: usize, offset: u64) {
        let Some(record) = &mut self.0 else { return };
        if record.offsets.len() <= part {
            record.offsets.resize(part + 1, 0);
        }
        record.offsets[part] = offset;
        let (sum, now) = (record.offsets.iter().sum::<u64>(), clock::now());
        // Zero is also the offset of an upload whose server has not been asked yet.
        if sum == 0 || record.noted.is_some_and(|before| now - before < NOTE_INTERVAL) {
            return;
        }
        record.noted = Some(now);
        let locked = record.entry.clone();
        // If it fails, the state is shown without an offset.
        let _ = tokio::task::spawn_blocking(move || locked.note_offset(sum)).await;
    }

    async fn save_part_url(&mut self, index: usize, url: &Uri) -> Result<(), Error> {
        let Some(entry) = self.0.as_ref().and_then(|record| record.written.as_ref()) else { return Ok(()) };
        let mut handle = entry.handle.clone();
        // A token names all of its parts.
        let Handle::Parts { parts, .. } = &mut handle else { return Ok(()) };
        if let Some(part) = parts.get_mut(index) {
            *part = Some(url.clone());
        }
        self.save_handle(handle).await
    }

    /// Writes the handle of the upload, unless it is there already.
    pub(super) async fn save_handle(&mut self, handle: Handle) -> Result<(), Error> {
        let Some(record) = &mut self.0 else { return Ok(()) };
        let is_written =
            |entry: &JournalEntry| entry.handle == handle && entry.file_state == record.file_state;
        if record.written.as_ref().is_some_and(is_written) {
            return Ok(());
        }
        let entry = JournalEntry {
            file: record.file.clone(),
            target: record.target.clone(),
            handle,
            length: record.file_state.length,
            began: clock::wall_clock(),
            note: record.note.clone(),
            file_state: record.file_state.clone(),
            is_by_name: true,
        };
        let is_new = record.written.as_ref().is_none_or(|before| !before.is_of(&entry.handle));
        record.written = Some(entry.clone());
        let locked = record.entry.clone();
        let save = move || {
            if is_new {
                // The note of another upload. If it fails, a wrong offset is shown until the next note.
                let _ = locked.note_offset(0);
            }
            locked.save(&entry)
        };
        tokio::task::spawn_blocking(save).await.map_err(shut_down)?
    }

    /// Removes the entry of a complete upload.
    pub(super) async fn remove(self) -> Result<(), Error> {
        let Some(locked) = self.0.and_then(|record| Arc::into_inner(record.entry)) else { return Ok(()) };
        tokio::task::spawn_blocking(move || locked.remove()).await.map_err(shut_down)?
    }
}

/// Returns the error for a blocking task that was dropped because the runtime is shutting down.
fn shut_down(error: tokio::task::JoinError) -> Error {
    Error::Journal { path: PathBuf::new(), source: io::Error::other(error) }
}
