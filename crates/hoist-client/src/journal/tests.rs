//! The journal, with real files.

use std::time::{Duration, SystemTime};

use super::*;
use crate::Token;
use crate::dialect::Dialect;
use crate::handle::Handle;

fn entry(file: &Path, handle: Handle, began: u64) -> JournalEntry {
    let file_state = FileState::of(file).expect("a file");
    JournalEntry {
        file: file.to_owned(),
        target: "http://h.example/uploads".parse().expect("a URL"),
        handle,
        length: file_state.length,
        began: SystemTime::UNIX_EPOCH + Duration::from_secs(began),
        note: None,
        file_state,
        is_by_name: true,
    }
}

fn target() -> Uri {
    Uri::from_static("http://h.example/uploads")
}

fn handles() -> [Handle; 5] {
    let url: http::Uri = "http://h.example/uploads".parse().expect("a URL");
    [
        Handle::Url {
            target: url.clone(),
            url: "http://h.example/uploads/1".parse().expect("a URL"),
            dialect: Dialect::Tus1,
        },
        Handle::Url {
            target: url.clone(),
            url: "http://other.example/uploads/2".parse().expect("a URL"),
            dialect: "ietf-6".parse().expect("a dialect"),
        },
        Handle::Parts { url: url.clone(), parts: vec![None, Some(url.clone()), None] },
        Handle::Numbered { url: url.clone(), token: Token::new(vec![1]).expect("in range"), parts: 9 },
        Handle::Token { url, token: Token::new(vec![0, 255, 7]).expect("in range") },
    ]
}

#[test]
fn saved_entries_are_read_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::at(folder.path().join("state/hoist"));
    assert_eq!(journal.entries().expect("none"), []);
    let mut saved = Vec::new();
    for (number, handle) in handles().into_iter().enumerate() {
        let file = folder.path().join(format!("file {number}"));
        fs::write(&file, vec![7; 1000 * number]).expect("written");
        let note = (number % 2 == 0).then(|| format!("note {number}"));
        let entry = JournalEntry { note, ..entry(&file, handle, 100 - number as u64) };
        let locked = journal.lock(&file, &entry.target).expect("free");
        locked.save(&entry).expect("saved");
        assert_eq!(locked.read(), Some(entry.clone()));
        saved.insert(0, entry);
    }
    fs::write(journal.folder.join("x.json"), "{").expect("written");
    assert_eq!(journal.entries().expect("read"), saved, "the oldest first, without invalid files");
    let name = folder.path().join("file 1");
    assert_eq!(journal.of_file(&name).expect("read").len(), 1);
    for entry in &saved {
        journal.remove(entry).expect("removed");
        journal.remove(entry).expect("removing it again succeeds");
    }
    assert_eq!(journal.entries().expect("read"), []);
    let left: Vec<_> = fs::read_dir(&journal.folder).expect("listed").collect();
    assert_eq!(left.len(), 1, "only the invalid file is left: {left:?}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_journal() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::at(folder.path().join("a/b"));
    let file = folder.path().join("file");
    fs::write(&file, "content").expect("written");
    let [handle, ..] = handles();
    let locked = journal.lock(&file, &target()).expect("free");
    locked.save(&entry(&file, handle, 0)).expect("saved");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&journal.folder), mode(&locked.path), mode(&locked.lock_path)), (0o700, 0o600, 0o600));
}

#[test]
fn an_entry_is_locked_by_one_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = Journal::at(folder.path());
    let file = Path::new("/some/file");
    let locked = journal.lock(file, &target()).expect("free");
    let slashed = Uri::from_static("http://h.example/uploads/");
    for same in [target(), slashed.clone()] {
        assert!(matches!(journal.lock(file, &same), Err(Error::Busy { .. })), "{same}");
    }
    let another = Uri::from_static("http://h.example/uploads/a");
    let elsewhere = journal.lock(file, &another).expect("another url is free");
    drop(locked);
    let locked = journal.lock(file, &slashed).expect("free again");
    locked.remove().expect("removed");
    journal.lock(file, &target()).expect("free again").remove().expect("removed");
    drop(elsewhere);
}

#[test]
fn an_upload_is_locked_only_while_it_is_in_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, file) = (Journal::at(folder.path().join("uploads")), folder.path().join("file"));
    fs::write(&file, "content").expect("written");
    let [first, second, ..] = handles();
    let first = entry(&file, first, 0);
    let locked = journal.lock(&file, &target()).expect("free");
    locked.save(&first).expect("saved");
    assert!(matches!(journal.lock_entry(&first), Err(Error::Busy { .. })), "it is being sent");
    drop(locked);
    let locked = journal.lock_entry(&first).expect("free").expect("in the journal");
    locked.note_offset(5).expect("noted");
    locked.save(&entry(&file, second, 0)).expect("saved");
    drop(locked);
    assert_eq!(journal.local_state(&first).acknowledged, Some(5));
    assert!(journal.lock_entry(&first).expect("free").is_none(), "another upload has taken its place");
    journal.remove(&first).expect("removed");
    assert!(journal.lock_entry(&first).expect("free").is_none(), "removed");
    assert_eq!(fs::read_dir(&journal.folder).expect("listed").count(), 0, "no lock file is left");
}

#[test]
fn entries_with_keys_of_later_versions_are_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, file) = (Journal::at(folder.path().join("uploads")), folder.path().join("file"));
    fs::write(&file, "content").expect("written");
    let [handle, ..] = handles();
    let entry = entry(&file, handle, 0);
    let locked = journal.lock(&file, &target()).expect("free");
    locked.save(&entry).expect("saved");
    let text = fs::read_to_string(&locked.path).expect("read");
    assert!(!text.contains("note"), "an entry without a note is as before: {text}");
    fs::write(&locked.path, text.replacen('{', "{ \"later\": [1],", 1)).expect("written");
    assert_eq!(locked.read(), Some(entry));
}

#[test]
fn the_fingerprint_shows_changes_at_both_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    let mut content = vec![1_u8; 300_000];
    fs::write(&file, &content).expect("written");
    let before = FileState::of(&file).expect("a file");
    assert_eq!(FileState::of(&file).expect("a file"), before);
    for at in [0, 65_535, 299_999] {
        content[at] = 2;
        fs::write(&file, &content).expect("written");
        let after = FileState::of(&file).expect("a file");
        assert_ne!(after.fingerprint, before.fingerprint, "{at}");
        content[at] = 1;
    }
    fs::write(&file, &content[..299_999]).expect("written");
    assert_ne!(FileState::of(&file).expect("a file").fingerprint, before.fingerprint);
}

#[cfg(unix)]
#[test]
fn a_change_in_the_middle_is_detected_although_length_and_time_are_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    let mut content = vec![1_u8; 300_000];
    fs::write(&file, &content).expect("written");
    let [handle, ..] = handles();
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let entry = entry(&file, handle, began);
    assert!(entry.matches(&FileState::of(&file).expect("a file")));

    let modified = fs::metadata(&file).expect("a file").modified().expect("a time");
    content[150_000] = 2;
    // Timestamps of a file system may have a resolution of some milliseconds.
    let write_again = || {
        fs::write(&file, &content).expect("written");
        File::options().write(true).open(&file).and_then(|file| file.set_modified(modified)).expect("set");
        FileState::of(&file).expect("a file")
    };
    let after =
        (0..1_000_000).map(|_| write_again()).find(|file_state| file_state.inode != entry.file_state.inode);
    let after = after.expect("the time of change moves on");
    assert_eq!(
        (after.modified, &after.fingerprint),
        (entry.file_state.modified, &entry.file_state.fingerprint)
    );
    assert!(!entry.matches(&after));
}

#[test]
fn an_entry_of_an_older_version_counts_if_the_inode_is_unchanged_since() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, vec![1_u8; 1000]).expect("written");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let journal = Journal::at(folder.path().join("journal"));
    for (began, is_same) in [(now + 1, true), (now - 10, cfg!(not(unix)))] {
        let [handle, ..] = handles();
        let locked = journal.lock(&file, &target()).expect("free");
        locked.save(&entry(&file, handle, began)).expect("saved");
        let text = fs::read_to_string(&locked.path).expect("read");
        let older = text.lines().filter(|line| !line.contains("\"inode\"") && !line.contains("\"changed\""));
        fs::write(&locked.path, older.collect::<Vec<_>>().join("\n")).expect("written");
        let read = locked.read().expect("an entry");
        assert_eq!(read.file_state.inode, None);
        assert_eq!(read.matches(&FileState::of(&file).expect("a file")), is_same, "{began}");
    }
}

#[test]
fn the_default_folder_is_in_the_state_directory() {
    let os = |text: &'static str| Some(OsStr::new(text));
    let table = [
        (os("/state"), os("/home/u"), Some("/state/hoist/uploads")),
        (None, os("/home/u"), Some("/home/u/.local/state/hoist/uploads")),
        (os(""), os("/home/u"), Some("/home/u/.local/state/hoist/uploads")),
        (os("relative"), None, None),
        (None, None, None),
    ];
    for (state, home, expected) in table {
        assert_eq!(Journal::folder(state, home), expected.map(PathBuf::from), "{state:?} {home:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_unicode_is_recorded() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(OsStr::from_bytes(b"\xff"));
    fs::write(&file, "content").expect("written");
    let journal = Journal::at(folder.path().join("journal"));
    let [handle, ..] = handles();
    let locked = journal.lock(&file, &target()).expect("free");
    let entry = entry(&file, handle, 0);
    locked.save(&entry).expect("saved");
    assert_eq!((locked.read(), journal.entries().expect("read")), (Some(entry.clone()), vec![entry]));
}

#[test]
fn an_entry_named_by_an_older_version_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "content").expect("written");
    let journal = Journal::at(folder.path().join("journal"));
    let [handle, ..] = handles();
    let entry = entry(&file, handle, 0);
    for written in ["http://h.example/uploads/", "http://h.example/uploads"] {
        let locked = journal.lock(&file, &target()).expect("free");
        locked.save(&entry).expect("saved");
        let older = journal.folder.join(format!("{}.json", entry::name(&file, written)));
        fs::rename(&locked.path, &older).expect("renamed");
        drop(locked);
        let locked = journal.lock(&file, &target()).expect("free");
        assert_eq!(locked.read().as_ref(), Some(&entry), "{written}");
        locked.remove().expect("removed");
        assert_eq!(journal.entries().expect("read"), []);
    }
}

#[cfg(unix)]
#[test]
fn two_names_of_one_file_have_entries_and_locks_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "content").expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    let journal = Journal::at(folder.path().join("journal"));
    let [first, second, ..] = handles();
    let locks = [(&file, first), (&link, second)].map(|(name, handle)| {
        let locked = journal.lock(&key_of(name).expect("absolute"), &target()).expect("free");
        assert_eq!(locked.read(), None);
        locked.save(&entry(name, handle, 0)).expect("saved");
        locked
    });
    for (name, locked) in [&file, &link].into_iter().zip(locks) {
        let found = journal.of_file(name).expect("read");
        assert_eq!(found, [locked.read().expect("an entry")]);
        drop(locked);
        journal.remove(&found[0]).expect("removed");
        assert_eq!(journal.of_file(name).expect("read"), []);
    }
}

#[cfg(unix)]
#[test]
fn an_entry_of_an_older_version_is_found_by_a_link_to_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = fs::canonicalize(folder.path()).expect("a folder");
    let (file, link) = (root.join("file"), root.join("link"));
    fs::write(&file, "content").expect("written");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    let journal = Journal::at(root.join("journal"));
    let [handle, ..] = handles();
    let older = JournalEntry { is_by_name: false, ..entry(&file, handle, 0) };
    let locked = journal.lock(&file, &target()).expect("free");
    locked.save(&older).expect("saved");
    let text = fs::read_to_string(&locked.path).expect("read");
    let without = text.lines().filter(|line| !line.contains("by_name")).collect::<Vec<_>>().join("\n");
    fs::write(&locked.path, without).expect("written");
    assert_eq!(journal.of_file(&link).expect("read"), std::slice::from_ref(&older));
    assert_eq!(journal.lock(&link, &target()).expect("free").read(), None, "the entry is in use");
    drop(locked);
    let adopted = JournalEntry { file: link.clone(), is_by_name: true, ..older };
    assert_eq!(journal.lock(&link, &target()).expect("free").read(), Some(adopted.clone()));
    assert_eq!(journal.entries().expect("read"), std::slice::from_ref(&adopted));
    // An entry of this version belongs to its own name only.
    assert_eq!(journal.lock(&file, &target()).expect("free").read(), None);
    journal.remove(&adopted).expect("removed");
    journal.lock(&file, &target()).expect("free").save(&entry(&file, adopted.handle, 0)).expect("saved");
    assert_eq!(journal.lock(&link, &target()).expect("free").read(), None);
}
