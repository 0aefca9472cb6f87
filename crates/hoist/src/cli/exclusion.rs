//! The patterns of `put --exclude`.

use std::path::Path;

use glob::{MatchOptions, Pattern};

/// A pattern of files and directories to skip.
///
/// A pattern without a slash is compared with the name of each file and directory, one with a slash with the end of the
/// path. A slash at the end of the pattern limits it to directories.
#[derive(Clone, Debug)]
pub(crate) struct Exclusion {
    /// One pattern per segment of the path.
    segments: Vec<Pattern>,
    is_for_directories: bool,
}

impl Exclusion {
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let (path, is_for_directories) =
            text.strip_suffix('/').map_or((text, false), |directory| (directory, true));
        let segments = path.split('/').filter(|segment| !segment.is_empty()).map(Pattern::new);
        let segments: Vec<_> = segments.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        if segments.is_empty() {
            return Err("names no file; write it like '*.tmp' or 'cache/*.db'".to_owned());
        }
        Ok(Self { segments, is_for_directories })
    }

    /// Returns whether the pattern matches a path.
    pub(crate) fn matches(&self, path: &Path, is_directory: bool) -> bool {
        const OPTIONS: MatchOptions = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        let mut names = path.components().rev();
        let mut is_match = |pattern: &Pattern| {
            let name = names.next();
            name.is_some_and(|name| pattern.matches_with(&name.as_os_str().to_string_lossy(), OPTIONS))
        };
        (is_directory || !self.is_for_directories) && self.segments.iter().rev().all(&mut is_match)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_or_the_end_of_a_path() {
        let cases = [
            ("*.tmp", "a/b/x.tmp", false, true),
            ("*.tmp", ".x.tmp", false, true),
            ("*.tmp", "x.tmp.txt", false, false),
            (".git", "a/.git", true, true),
            ("b/*.db", "a/b/x.db", false, true),
            ("b/*.db", "b/c/x.db", false, false),
            ("b/*.db", "x.db", false, false),
            ("cache/", "a/cache", true, true),
            ("cache/", "a/cache", false, false),
            ("/a/b", "a/b", false, true),
            ("[ab]?", "b1", false, true),
        ];
        for (pattern, path, is_directory, expected) in cases {
            let exclusion = Exclusion::of(pattern).expect(pattern);
            assert_eq!(exclusion.matches(Path::new(path), is_directory), expected, "{pattern} {path}");
        }
        for wrong in ["", "/", "[a", "a***"] {
            assert!(Exclusion::of(wrong).is_err(), "{wrong}");
        }
    }
}
