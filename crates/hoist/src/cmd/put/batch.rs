//! What a run over several files has finished, so that the same command does not upload it again.
//!
//! The journal knows uploads that are under way and forgets those that are complete. This is the rest: one file for each
//! command that was ended before all was uploaded, with a line for each file that was. It is removed with the last one.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::Uri;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The record of one command.
#[derive(Debug)]
pub(super) struct Batch {
    path: PathBuf,
    done: HashSet<Mark>,
    /// Opened when the first file is complete.
    file: Mutex<Option<File>>,
}

/// What tells a file from what it was before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mark {
    file: PathBuf,
    length: u64,
    modified: u64,
}

impl Mark {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { file: fs::canonicalize(path)?, length: metadata.len(), modified })
    }

    fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let file = line["file"].as_str()?.into();
        Some(Self { file, length: line["length"].as_u64()?, modified: line["modified"].as_u64()? })
    }
}

impl Batch {
    /// The record of the command that uploads these files to this URL, below a folder.
    pub(super) fn open(folder: &Path, given: &[PathBuf], url: &Uri) -> Self {
        let mut name = Sha256::new();
        name.update(url.to_string());
        for path in given {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            name.update(b"\0");
            name.update(path.as_os_str().as_encoded_bytes());
        }
        let name =
            name.finalize().iter().take(16).fold(String::new(), |text, octet| format!("{text}{octet:02x}"));
        let path = folder.join(format!("{name}.jsonl"));
        // A line that was not written to its end is none.
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, done: text.lines().filter_map(Mark::read).collect(), file: Mutex::new(None) }
    }

    /// Whether an earlier run has uploaded the file as it is now.
    pub(super) fn has(&self, path: &Path) -> bool {
        !self.done.is_empty() && Mark::of(path).is_ok_and(|mark| self.done.contains(&mark))
    }

    /// The file is uploaded. What cannot be written down is uploaded again by a later run, which harms nobody.
    pub(super) fn add(&self, path: &Path) {
        let Ok(mark) = Mark::of(path) else { return };
        let Some(name) = mark.file.to_str() else { return };
        let line = json!({ "file": name, "length": mark.length, "modified": mark.modified });
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = self.create().ok();
        }
        if let Some(file) = &mut *file {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// All is uploaded.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(self.path);
    }

    fn create(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_uploaded_is_known_until_it_changes_or_all_is() {
        let place = tempfile::tempdir().expect("a directory");
        let (folder, file) = (place.path().join("state/batches"), place.path().join("film"));
        fs::write(&file, "one").expect("written");
        let url = Uri::from_static("http://h/u");
        let open = || Batch::open(&folder, std::slice::from_ref(&file), &url);
        let batch = open();
        assert!(!batch.has(&file));
        batch.add(&file);
        assert!(open().has(&file));
        let elsewhere = Uri::from_static("http://h/v");
        assert!(!Batch::open(&folder, std::slice::from_ref(&file), &elsewhere).has(&file));
        fs::write(&file, "other").expect("written");
        assert!(!open().has(&file), "it has changed");
        open().add(&file);
        open().remove();
        assert!(!open().has(&file));
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
    }
}
