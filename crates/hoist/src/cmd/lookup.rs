//! The uploads that `status` and `cancel` name: by URL, by token, or by a file in the journal.

use hoist_client::{Dialect, Handle, Journal, JournalEntry, Origin, Token, target_key};
use http::Uri;
use std::path::Path;

use super::client::failure;
use crate::cli::UploadRef;
use crate::config;
use crate::exit::{Exit, Failure};

/// The journal of this user.
pub(crate) fn journal() -> Result<Journal, Failure> {
    let folders = config::state_folders();
    let nowhere = || Failure::message(Exit::File, "there is no journal: set HOME or XDG_STATE_HOME");
    Ok(Journal::at(folders.ok_or_else(nowhere)?.uploads))
}

/// An upload that is asked about.
pub(crate) struct FoundUpload {
    pub(crate) handle: Handle,
    /// The entry of the journal it was found in, unless its URL was given.
    pub(crate) entry: Option<JournalEntry>,
    pub(crate) is_one_of_many: bool,
}

impl FoundUpload {
    /// The upload of a URL, or those of a file by the journal, of which there is one at least.
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
        Ok(vec![Self { handle, entry: None, is_one_of_many: false }])
    }

    /// True if they were begun at several origins, so that one credential cannot be meant for all of them.
    pub(crate) fn have_several_origins(found: &[Self]) -> bool {
        let mut origins = found.iter().filter_map(|found| Origin::of(&found.entry.as_ref()?.target).ok());
        let first = origins.next();
        origins.any(|origin| Some(origin) != first)
    }

    fn of_file(file: &Path, to: Option<&Uri>) -> Result<Vec<Self>, Failure> {
        let mut entries = journal()?.of_file(file).map_err(failure)?;
        entries.retain(|entry| to.is_none_or(|to| target_key(to) == target_key(&entry.target)));
        if entries.is_empty() {
            let file = file.display();
            let next = format_args!("{file} is not under way, by the journal; `hoist ls` says what is");
            return Err(Failure::message(Exit::NotFound, next));
        }
        let is_one_of_many = entries.len() > 1;
        let found = entries.into_iter().map(|entry| Self {
            handle: entry.handle.clone(),
            entry: Some(entry),
            is_one_of_many,
        });
        Ok(found.collect())
    }

    /// The beginning of a line about it, where there are several.
    pub(crate) fn label(&self) -> String {
        let entry = self.entry.as_ref().filter(|_| self.is_one_of_many);
        entry.map(|entry| format!("{}: ", entry.target)).unwrap_or_default()
    }

    /// Takes it out of the journal.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.entry.as_ref().map_or(Ok(()), |entry| journal()?.forget(entry).map_err(failure))
    }
}
