//! The secret key in the data directory, which is hashed into the ids of token uploads.
//!
//! It keeps a reader of the data directory from guessing tokens by comparing hashes. Without the key, clients can no longer
//! reach their uploads, so a missing key is replaced silently only if there are no uploads yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use hoist_proto::hex;
use hoist_proto::types::UploadId;

const NAME: &str = "key";
const BYTES: usize = 32;

/// Loads the key of a data directory, or creates it if there are no uploads yet. The caller holds the directory's lock.
/// `may_be_new` allows to replace a key that is broken, or missing although there are uploads.
//= TOK-TOKEN-04
pub(super) fn load_or_create(directory: &Path, may_be_new: bool) -> anyhow::Result<[u8; BYTES]> {
    const NEXT: &str =
        "restore it from a backup, or start once with --new-key and lose the uploads identified by tokens";
    let path = directory.join(NAME);
    let path = path.display();
    match fs::read(directory.join(NAME)) {
        Ok(text) => match std::str::from_utf8(&text).ok().and_then(parse) {
            Some(key) => Ok(key),
            None if may_be_new => make(directory),
            None => bail!("{path} is not a valid key; {NEXT}"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if may_be_new
                || !has_uploads(directory)
                    .with_context(|| format!("cannot list the uploads next to {path}"))?
            {
                make(directory)
            } else {
                bail!("{path} is missing, but existing uploads depend on it; {NEXT}")
            }
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
    }
}

fn make(directory: &Path) -> anyhow::Result<[u8; BYTES]> {
    let mut key = [0; BYTES];
    getrandom::fill(&mut key).context("cannot get random numbers from the system")?;
    write(directory, &key).with_context(|| format!("cannot write {}", directory.join(NAME).display()))?;
    Ok(key)
}

/// Returns whether the directory holds an upload, unfinished or complete.
fn has_uploads(directory: &Path) -> io::Result<bool> {
    for shelf in ["open", "done"] {
        for entry in fs::read_dir(directory.join(shelf))? {
            if entry?.file_name().to_str().is_some_and(|name| name.parse::<UploadId>().is_ok()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Writes the key atomically, since half a key would be a different key.
fn write(directory: &Path, key: &[u8; BYTES]) -> io::Result<()> {
    let draft = directory.join("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    writeln!(file, "{}", hex::encode(key))?;
    file.sync_all()?;
    fs::rename(draft, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

fn parse(text: &str) -> Option<[u8; BYTES]> {
    hex::decode(text.trim_end())?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_keeps_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(NAME);
        for shelf in ["open", "done"] {
            fs::create_dir(directory.path().join(shelf)).expect("a shelf");
        }
        let key = load_or_create(directory.path(), false).expect("made");
        assert_ne!(key, [0; BYTES]);
        assert_eq!(load_or_create(directory.path(), false).expect("read"), key);
        assert_eq!(
            load_or_create(directory.path(), true).expect("read"),
            key,
            "a good key is never replaced"
        );
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"\u{e9}".repeat(32)] {
            fs::write(&path, bad).expect("written");
            let refused = load_or_create(directory.path(), false).expect_err(bad).to_string();
            assert!(refused.contains("is not a valid key") && refused.contains("--new-key"), "{refused}");
        }
        let renewed = load_or_create(directory.path(), true).expect("made");
        assert_eq!(load_or_create(directory.path(), false).expect("read"), renewed);
    }

    #[test]
    fn a_missing_key_is_not_replaced_if_there_are_uploads() {
        for shelf in ["open", "done"] {
            let directory = tempfile::tempdir().expect("a directory");
            for name in ["open/lost+found", "done"] {
                fs::create_dir_all(directory.path().join(name)).expect("directories");
            }
            let first = load_or_create(directory.path(), false).expect("made where no upload is");
            let upload = UploadId::from_bits([7; 16]).to_string();
            fs::create_dir(directory.path().join(shelf).join(upload)).expect("an upload");
            fs::remove_file(directory.path().join(NAME)).expect("it is there");
            let refused =
                load_or_create(directory.path(), false).expect_err("uploads would be orphaned").to_string();
            assert!(refused.contains("is missing") && refused.contains("--new-key"), "{refused}");
            assert!(!directory.path().join(NAME).exists());
            assert_ne!(load_or_create(directory.path(), true).expect("made"), first);
            load_or_create(directory.path(), false).expect("read");
        }
    }
}
