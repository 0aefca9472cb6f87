//! The uploads that `status` and `cancel` name: by URL, by token, or by a file in the journal.

use hoist_client::{
    Dialect, Handle, Journal, JournalEntry, LocalState, LockedEntry, Origin, Quoted, Token, target_key,
};
use http::Uri;
use serde_json::Value;
use std::path::Path;

use super::client::failure;
use crate::cli::UploadRef;
use crate::config;
use crate::exit::{Exit, Failure};

/// Opens the journal of this user.
pub(crate) fn journal() -> Result<Journal, Failure> {
    let folders = config::state_folders();
    let nowhere = || Failure::message(Exit::File, "no folder for the journal; set HOME or XDG_STATE_HOME");
    Ok(Journal::at(folders.ok_or_else(nowhere)?.uploads))
}

/// Returns the name of a local state in output.
pub(crate) fn state_name(local: LocalState) -> &'static str {
    if local.is_running { "running" } else { "interrupted" }
}

/// An upload named on the command line.
pub(crate) struct FoundUpload {
    pub(crate) handle: Handle,
    /// The journal entry, if the upload is in the journal.
    pub(crate) entry: Option<JournalEntry>,
    pub(crate) is_one_of_many: bool,
    /// The state of an upload that is in the journal.
    pub(crate) local: Option<LocalState>,
}

impl FoundUpload {
    /// Finds the uploads of a file in the journal, at least one, or takes the upload of a URL as it is.
    pub(crate) fn find_all(
        upload: UploadRef,
        token: Option<Token>,
        to: Option<&Uri>,
    ) -> Result<Vec<Self>, Failure> {
        let handle = match (upload, token) {
            (UploadRef::File(file), _) => return Self::of_file(&file, to),
            (UploadRef::Url(url), Some(token)) => Handle::Token { url, token },
            (UploadRef::Url(url), None) => Handle::at(url, Dialect::Auto),
        };
        let (entry, local) = Self::recorded(&handle).unzip();
        Ok(vec![Self { handle, entry, is_one_of_many: false, local }])
    }

    /// Returns the entry and the state of the upload that a URL or a token names, if it is in the journal.
    fn recorded(handle: &Handle) -> Option<(JournalEntry, LocalState)> {
        // Without a journal no upload of this user is running, as far as is known.
        let journal = journal().ok()?;
        let entries = journal.entries().ok()?;
        let entry = entries.into_iter().find(|entry| entry.is_of(handle))?;
        let local = journal.local_state(&entry);
        Some((entry, local))
    }

    /// Returns whether the uploads are at different origins, so that one credential cannot be meant for all of them.
    pub(crate) fn have_several_origins(found: &[Self]) -> bool {
        let mut origins = found.iter().filter_map(|found| Origin::of(&found.entry.as_ref()?.target).ok());
        let first = origins.next();
        origins.any(|origin| Some(origin) != first)
    }

    fn of_file(file: &Path, to: Option<&Uri>) -> Result<Vec<Self>, Failure> {
        let journal = journal()?;
        let mut entries = journal.of_file(file).map_err(failure)?;
        entries.retain(|entry| to.is_none_or(|to| target_key(to) == target_key(&entry.target)));
        if entries.is_empty() {
            let file = Quoted::new(file);
            let next = format_args!("the journal has no upload of {file}; `hoist ls` lists what it has");
            return Err(Failure::message(Exit::NotFound, next));
        }
        let is_one_of_many = entries.len() > 1;
        let found = entries.into_iter().map(|entry| Self {
            handle: entry.handle.clone(),
            local: Some(journal.local_state(&entry)),
            entry: Some(entry),
            is_one_of_many,
        });
        Ok(found.collect())
    }

    /// Returns a prefix for messages that tells this upload from others; empty if there is only one.
    pub(crate) fn label(&self) -> String {
        let entry = self.entry.as_ref().filter(|_| self.is_one_of_many);
        entry.map(|entry| format!("{}: ", entry.target)).unwrap_or_default()
    }

    /// Adds the kind of event and the names of the upload to an object.
    pub(crate) fn json(&self, event: &str, mut json: Value) -> Value {
        json["event"] = event.into();
        json["state"] = self.local.map(state_name).into();
        json["url"] = self.own_url().map(ToString::to_string).into();
        if let Some(entry) = &self.entry {
            json["file"] = entry.file.to_string_lossy().into();
            json["endpoint"] = entry.target.to_string().into();
            json["to"] = entry.target.to_string().into();
        }
        json
    }

    /// Returns the URL of the upload itself, if it has one.
    fn own_url(&self) -> Option<&Uri> {
        if let Handle::Url { url, .. } = &self.handle { Some(url) } else { None }
    }

    /// Locks the journal entry, if the upload has one. Fails while another process sends the upload.
    pub(crate) fn lock(&self) -> Result<Option<LockedEntry>, Failure> {
        let Some(entry) = &self.entry else { return Ok(None) };
        journal()?.lock_entry(entry).map_err(failure)
    }

    /// Notes the offset on the server for `hoist ls`. If it cannot be noted, the last one that was is shown.
    pub(crate) fn note_offset(&self, offset: u64) {
        if let Ok(Some(locked)) = self.lock() {
            let _ = locked.note_offset(offset);
        }
    }
}
