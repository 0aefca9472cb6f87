//! A temporary directory for the demonstration, and its file of random bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use hoist_client::Quoted;

use crate::exit::{Exit, Failure};

/// A temporary directory, removed on drop.
#[derive(Debug)]
pub(super) struct ScratchDir(PathBuf);

impl ScratchDir {
    pub(super) fn new() -> Result<Self, Failure> {
        let number = getrandom::u64().map_err(|error| Failure::message(Exit::Failed, error))?;
        let path = std::env::temp_dir().join(format!("hoist-demo-{number:016x}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| {
            let next = "set TMPDIR to another directory";
            Failure::message(
                Exit::File,
                format_args!("cannot create {}: {error}; {next}", Quoted::new(&path)),
            )
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Writes a file of random bytes.
pub(super) fn write_random(path: &Path, bytes: u64) -> Result<(), Failure> {
    const PIECE: usize = 1 << 20;
    let cannot = |error: &dyn std::fmt::Display| {
        let next = "set TMPDIR to another directory";
        Failure::message(Exit::File, format_args!("cannot write {}: {error}; {next}", Quoted::new(path)))
    };
    let mut file = File::create(path).map_err(|error| cannot(&error))?;
    let mut piece = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        getrandom::fill(&mut piece[..most]).map_err(|error| cannot(&error))?;
        file.write_all(&piece[..most]).map_err(|error| cannot(&error))?;
        left -= most as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_dir_is_removed_on_drop() {
        let scratch = ScratchDir::new().expect("made");
        let path = scratch.path("made-up");
        write_random(&path, (1 << 20) + 7).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").len(), (1 << 20) + 7);
        drop(scratch);
        assert!(!path.exists() && path.parent().is_some_and(|folder| !folder.exists()));
        let nowhere = write_random(Path::new("/nonexistent/made-up"), 1).expect_err("nowhere");
        assert!(nowhere.exit == Exit::File && nowhere.to_string().contains("TMPDIR"), "{nowhere}");
    }
}
