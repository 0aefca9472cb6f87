//! The secret in the data directory that goes into the ids of token uploads.
//!
//! With it, who sees the names of a data directory cannot try tokens against them. It belongs to the uploads beside it:
//! without it clients no longer find them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

const NAME: &str = "key";
const BYTES: usize = 32;

/// The key of this data directory, made if there is none yet. The caller holds the directory's lock.
//= TOK-TOKEN-04
pub(super) fn of(directory: &Path) -> anyhow::Result<[u8; BYTES]> {
    let path = directory.join(NAME);
    match fs::read_to_string(&path) {
        Ok(text) => match parse(&text) {
            Some(key) => Ok(key),
            None => bail!(
                "{} is not a key; restore it, or remove it and give up the unfinished uploads",
                path.display()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; BYTES];
            getrandom::fill(&mut key).context("the system has no random numbers")?;
            write(directory, &key).with_context(|| format!("cannot write {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Whole and on the disk, or not there: half a key would be another key.
fn write(directory: &Path, key: &[u8; BYTES]) -> io::Result<()> {
    let draft = directory.join("key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    for octet in key {
        write!(file, "{octet:02x}")?;
    }
    writeln!(file)?;
    file.sync_all()?;
    fs::rename(draft, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}

fn parse(text: &str) -> Option<[u8; BYTES]> {
    let digits = text.trim_end();
    let is_hex = digits.len() == 2 * BYTES && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let mut key = [0; BYTES];
    for (octet, at) in key.iter_mut().zip((0..).step_by(2)).filter(|_| is_hex) {
        *octet = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    is_hex.then_some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_keeps_its_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(NAME);
        let key = of(directory.path()).expect("made");
        assert_ne!(key, [0; BYTES]);
        assert_eq!(of(directory.path()).expect("read"), key);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        for bad in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"\u{e9}".repeat(32)] {
            fs::write(&path, bad).expect("written");
            assert!(of(directory.path()).is_err(), "{bad}");
        }
    }
}
