//! The numbers of files of a run by result, and its exit code.

use std::fmt;

use crate::exit::Exit;

/// The numbers of files by result.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) files: usize,
    pub(super) done: usize,
    pub(super) skipped: usize,
    pub(super) failed: Vec<Exit>,
}

impl Tally {
    /// Returns the number of files that were not uploaded and have not failed.
    pub(super) fn unfinished(&self) -> usize {
        self.files.saturating_sub(self.done + self.skipped + self.failed.len())
    }

    /// Returns the exit code of a run: that of the failures if all files failed alike, `Failed` if all failed, `Partial` if some.
    pub(super) fn exit_code(&self) -> Exit {
        let Some(first) = self.failed.first() else { return Exit::Success };
        match self {
            Self { done: 0, skipped: 0, failed, .. } if failed.iter().all(|exit| exit == first) => *first,
            Self { done: 0, skipped: 0, .. } => Exit::Failed,
            _ => Exit::Partial,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, done, skipped, failed } = self;
        write!(f, "{} of {files} files uploaded", done + skipped)?;
        if *skipped > 0 {
            write!(f, " ({skipped} by earlier runs)")?;
        }
        write!(f, ", {} failed", failed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_earlier_runs_are_named() {
        let text = |skipped| Tally { files: 5, done: 1, skipped, failed: vec![Exit::File] }.to_string();
        assert_eq!(text(0), "1 of 5 files uploaded, 1 failed");
        assert_eq!(text(3), "4 of 5 files uploaded (3 by earlier runs), 1 failed");
    }

    #[test]
    fn the_exit_code_summarizes_all_files() {
        let cases: [(usize, usize, &[Exit], Exit); 6] = [
            (3, 0, &[], Exit::Success),
            (0, 0, &[Exit::File], Exit::File),
            (0, 0, &[Exit::File, Exit::File], Exit::File),
            (0, 0, &[Exit::File, Exit::Refused], Exit::Failed),
            (1, 0, &[Exit::File], Exit::Partial),
            (0, 1, &[Exit::File], Exit::Partial),
        ];
        for (done, skipped, failed, expected) in cases {
            assert_eq!(
                Tally { files: 3, done, skipped, failed: failed.to_vec() }.exit_code(),
                expected,
                "{failed:?}"
            );
        }
    }
}
