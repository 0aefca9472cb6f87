//! The record of the files that a run over several files has uploaded, so that the same command does not upload them again.
//!
//! The journal holds only unfinished uploads. A batch holds the finished ones: one file per interrupted command, with a line
//! per uploaded file. It is deleted once all files are uploaded. Commands that name the same files and the same URL share a
//! batch, in whatever order and spelling: `dir` and `./dir/`, `URL` and `URL/`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use http::Uri;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The runs that share a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Those of one command, until it has uploaded all its files. Has the files as given.
    Command(&'a [PathBuf]),
    /// Those with `--skip-done` to one URL. The record is kept.
    Url,
}

/// The files that earlier runs have uploaded.
#[derive(Debug)]
pub(super) struct Batch {
    path: PathBuf,
    is_kept: bool,
    done: HashMap<PathBuf, FileState>,
    /// Opened when the first file is complete.
    file: Mutex<Option<File>>,
}

/// A file and its state at one moment.
#[derive(Clone, Debug)]
pub(super) struct FileSnapshot {
    file: PathBuf,
    state: FileState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    length: u64,
    modified: u64,
    /// The inode number and change time, which the owner of a file cannot reset. `None` in lines of older versions.
    identity: Option<(u64, i64)>,
}

impl FileState {
    fn of(metadata: &fs::Metadata) -> io::Result<Self> {
        let modified = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let modified = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        let changed = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
        Ok(Self { length: metadata.len(), modified, identity: Some((metadata.ino(), changed)) })
    }

    /// Returns whether this state matches a recorded one.
    fn is(&self, recorded: &Self) -> bool {
        let identity = recorded.identity.and(self.identity);
        Self { identity, ..*self } == *recorded
    }
}

impl FileSnapshot {
    /// Reads the state of a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { file: hoist_client::file_key(path)?, state: FileState::of(&fs::metadata(path)?)? })
    }

    fn read(line: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let file = match line["octets"].as_array() {
            Some(octets) => OsString::from_vec(octets.iter().map(octet).collect::<Option<_>>()?).into(),
            None => line["file"].as_str()?.into(),
        };
        let identity = line["inode"].as_u64().zip(line["changed"].as_i64());
        let (length, modified) = (line["length"].as_u64()?, line["modified"].as_u64()?);
        Some(Self { file, state: FileState { length, modified, identity } })
    }

    fn line(&self) -> Value {
        let FileState { length, modified, identity } = self.state;
        let mut line = json!({ "file": self.file.to_string_lossy(), "length": length, "modified": modified });
        if self.file.to_str().is_none() {
            line["octets"] = self.file.as_os_str().as_bytes().into();
        }
        if let Some((inode, changed)) = identity {
            (line["inode"], line["changed"]) = (inode.into(), changed.into());
        }
        line
    }
}

fn octet(value: &Value) -> Option<u8> {
    u8::try_from(value.as_u64()?).ok()
}

impl Batch {
    /// Opens the record of the runs in this scope that upload to this URL.
    pub(super) fn open(folder: &Path, scope: Scope<'_>, url: &Uri) -> Self {
        let path = match scope {
            Scope::Command(given) => path_for_command(folder, given, url),
            Scope::Url => folder.join(file_name(&[], url)),
        };
        // Incomplete lines do not parse and are ignored.
        let text = fs::read_to_string(&path).unwrap_or_default();
        let done =
            text.lines().filter_map(FileSnapshot::read).map(|snapshot| (snapshot.file, snapshot.state));
        Self { path, is_kept: matches!(scope, Scope::Url), done: done.collect(), file: Mutex::new(None) }
    }

    /// Returns whether an earlier run has uploaded the file in its current state.
    pub(super) fn has(&self, path: &Path) -> bool {
        let recorded = |snapshot: FileSnapshot| {
            self.done.get(&snapshot.file).is_some_and(|done| snapshot.state.is(done))
        };
        !self.done.is_empty() && FileSnapshot::of(path).is_ok_and(recorded)
    }

    /// Records an uploaded file, in its state before the upload. On a write error a later run uploads it again.
    pub(super) fn add(&self, snapshot: &FileSnapshot) {
        let line = snapshot.line();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = self.create().ok();
        }
        if let Some(file) = &mut *file {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Deletes the record of a command, since all its files are uploaded.
    pub(super) fn remove(self) {
        if !self.is_kept {
            let _ = fs::remove_file(self.path);
        }
    }

    fn create(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)
    }
}

/// Returns the name of the record for these files and this URL.
fn file_name(files: &[PathBuf], url: &Uri) -> String {
    let mut name = Sha256::new();
    name.update(hoist_client::target_key(url));
    for file in files {
        name.update(b"\0");
        name.update(file.as_os_str().as_encoded_bytes());
    }
    format!("{}.jsonl", hoist_proto::hex::encode(&name.finalize()[..16]))
}

/// Returns the path of the record of a command that uploads these files.
fn path_for_command(folder: &Path, given: &[PathBuf], url: &Uri) -> PathBuf {
    let key = |path: &PathBuf| hoist_client::file_key(path).unwrap_or_else(|_| path.clone());
    let mut keys: Vec<_> = given.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    let path = folder.join(file_name(&keys, url));
    // Older versions named the record by the paths as they were spelled. If it cannot be renamed, all is uploaded again.
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let legacy = folder.join(file_name(&given.iter().map(absolute).collect::<Vec<_>>(), url));
    if legacy != path && !path.exists() {
        let _ = fs::rename(&legacy, &path);
    }
    path
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn lines_hold_any_file_name_and_older_lines_are_read() {
        let (identity, file) = (Some((7, -3)), PathBuf::from(OsStr::from_bytes(b"/a/\xff\n")));
        let snapshot =
            FileSnapshot { file: file.clone(), state: FileState { length: 5, modified: 9, identity } };
        let read = FileSnapshot::read(&snapshot.line().to_string()).expect("a line");
        assert_eq!((read.file, read.state), (file, snapshot.state));
        let older = FileSnapshot::read(r#"{"file":"/a","length":5,"modified":9}"#).expect("a line");
        assert!(snapshot.state.is(&older.state));
        assert!(
            !snapshot.state.is(&FileState { identity: Some((7, -2)), ..snapshot.state }),
            "the inode has changed"
        );
        assert!(!snapshot.state.is(&FileState { length: 6, ..older.state }));
    }

    #[test]
    fn an_uploaded_file_is_remembered_until_it_changes() {
        let place = tempfile::tempdir().expect("a directory");
        let (folder, file) = (place.path().join("state/batches"), place.path().join("film"));
        fs::write(&file, "one").expect("written");
        let url = Uri::from_static("http://h/u");
        let open = || Batch::open(&folder, Scope::Command(std::slice::from_ref(&file)), &url);
        let batch = open();
        assert!(!batch.has(&file));
        batch.add(&FileSnapshot::of(&file).expect("a file"));
        assert!(open().has(&file));
        let elsewhere = Uri::from_static("http://h/v");
        let command = Scope::Command(std::slice::from_ref(&file));
        assert!(!Batch::open(&folder, command, &elsewhere).has(&file));
        fs::write(&file, "other").expect("written");
        assert!(!open().has(&file), "it has changed");
        open().add(&FileSnapshot::of(&file).expect("a file"));
        open().remove();
        assert!(!open().has(&file));
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
        let of_url = || Batch::open(&folder, Scope::Url, &url);
        of_url().add(&FileSnapshot::of(&file).expect("a file"));
        of_url().remove();
        assert!(of_url().has(&file), "the record of a URL is kept");
        assert!(!open().has(&file), "it is no record of the command");
    }

    #[test]
    fn commands_that_name_the_same_files_share_a_record() {
        let place = tempfile::tempdir().expect("a directory");
        let (folder, films) = (place.path().join("batches"), place.path().join("films"));
        fs::create_dir(&films).expect("made");
        fs::write(films.join("a"), "content").expect("written");
        let url = Uri::from_static("http://h/u");
        let snapshot = FileSnapshot::of(&films.join("a")).expect("a file");
        let other = place.path().join("b");
        Batch::open(&folder, Scope::Command(&[films.clone(), other.clone()]), &url).add(&snapshot);
        for (given, to) in [
            ([films.join(""), other.clone()], "http://h/u"),
            ([place.path().join("./films/."), other.clone()], "http://h/u/"),
            ([other.clone(), films.clone()], "HTTP://H:80/u"),
            ([films.join("../films"), films.join("../b")], "http://h/u"),
        ] {
            let batch = Batch::open(&folder, Scope::Command(&given), &to.parse().expect("a URL"));
            assert!(batch.has(&films.join("a")), "{given:?} {to}");
            assert!(batch.has(&films.join("./a")), "{given:?} {to}");
        }
        assert!(
            !Batch::open(&folder, Scope::Command(std::slice::from_ref(&films)), &url).has(&films.join("a"))
        );
    }

    #[test]
    fn a_record_of_an_older_version_is_found() {
        let place = tempfile::tempdir().expect("a directory");
        let (folder, films) = (place.path().join("batches"), place.path().join("films"));
        fs::create_dir(&films).expect("made");
        fs::write(films.join("a"), "content").expect("written");
        let url = Uri::from_static("http://h/u");
        let given = [films.join(""), place.path().join("a")];
        let batch = Batch::open(&folder, Scope::Command(&given), &url);
        batch.add(&FileSnapshot::of(&films.join("a")).expect("a file"));
        // The name that older versions gave it: the slash and the order count.
        fs::rename(&batch.path, folder.join(file_name(&given, &url))).expect("renamed");
        assert!(Batch::open(&folder, Scope::Command(&given), &url).has(&films.join("a")));
        assert!(
            Batch::open(&folder, Scope::Command(&[place.path().join("a"), films.clone()]), &url)
                .has(&films.join("a"))
        );
    }
}
