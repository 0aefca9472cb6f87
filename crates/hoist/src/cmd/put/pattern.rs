//! Expansion of patterns like `films/*.mkv` and `**/*.mkv`.
//!
//! Names that are not UTF-8 are matched lossily. `glob::glob` panics on such names or skips them, so only `glob::Pattern` is
//! used, for one path segment at a time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glob::{Pattern, PatternError};

/// A path that matches, or a directory that cannot be read.
pub(super) type Match = Result<PathBuf, (PathBuf, io::Error)>;

/// One part of a pattern, between slashes.
enum Segment {
    /// A name without wildcards, which needs no directory listing.
    Name(String),
    Wild {
        pattern: Pattern,
        /// True if the pattern begins with a dot. Other patterns match no hidden files.
        is_dotted: bool,
    },
    /// `**`: the directory and all directories below it.
    Recursive,
}

/// Returns all paths that match a pattern, sorted in each directory.
pub(super) fn expand(pattern: &str) -> Result<Vec<Match>, PatternError> {
    // Errors have the position in the whole pattern.
    Pattern::new(pattern)?;
    let mut segments = Vec::new();
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let is_repeated = part == "**" && matches!(segments.last(), Some(Segment::Recursive));
        if !is_repeated {
            segments.push(Segment::new(part)?);
        }
    }
    if matches!(segments.last(), Some(Segment::Recursive)) {
        segments.push(Segment::new("*")?);
    }
    let mut found = Vec::new();
    let base = if pattern.starts_with('/') { "/" } else { "" };
    walk(Path::new(base), &segments, &mut found);
    if pattern.ends_with('/') {
        found.retain(|path| path.as_ref().map_or(true, |path| path.is_dir()));
    }
    Ok(found)
}

impl Segment {
    fn new(part: &str) -> Result<Self, PatternError> {
        Ok(match part {
            "**" => Self::Recursive,
            _ if !part.contains(['*', '?', '[']) => Self::Name(part.to_owned()),
            _ => Self::Wild { pattern: Pattern::new(part)?, is_dotted: part.starts_with('.') },
        })
    }
}

/// Collects the paths below `base` that match the segments.
fn walk(base: &Path, segments: &[Segment], found: &mut Vec<Match>) {
    let Some((segment, rest)) = segments.split_first() else {
        found.push(Ok(base.to_owned()));
        return;
    };
    match segment {
        Segment::Name(name) => {
            let path = base.join(name);
            if fs::symlink_metadata(&path).is_ok() {
                walk(&path, rest, found);
            }
        }
        Segment::Wild { pattern, is_dotted } => {
            for path in children(base, found) {
                let name = shown_name(&path);
                if (*is_dotted || !name.starts_with('.')) && pattern.matches(&name) {
                    walk(&path, rest, found);
                }
            }
        }
        Segment::Recursive => {
            walk(base, rest, found);
            for path in children(base, found) {
                // Links to directories may lead in a circle.
                let is_real = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
                if is_real && !shown_name(&path).starts_with('.') {
                    walk(&path, segments, found);
                }
            }
        }
    }
}

/// Returns what is in a directory, sorted by name. An unreadable directory goes into `found` once.
fn children(base: &Path, found: &mut Vec<Match>) -> Vec<PathBuf> {
    let is_current = base.as_os_str().is_empty();
    let directory = if is_current { Path::new(".") } else { base };
    if !directory.is_dir() {
        return Vec::new();
    }
    let names = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>());
    match names {
        Ok(mut names) => {
            names.sort();
            names.into_iter().map(|name| base.join(name)).collect()
        }
        Err(error) => {
            let is_known = found.iter().any(|path| path.as_ref().is_err_and(|(path, _)| path == directory));
            if !is_known {
                found.push(Err((directory.to_owned(), error)));
            }
            Vec::new()
        }
    }
}

fn shown_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        for folder in ["g", "g/deep", "g/.git"] {
            fs::create_dir(place.path().join(folder)).expect("made");
        }
        for name in ["g/ok.mkv", "g/.hidden.mkv", "g/deep/ok.mkv", "g/.git/ok.mkv"] {
            fs::write(place.path().join(name), name).expect("written");
        }
        let bad = OsStr::from_bytes(b"b\xff.mkv");
        fs::write(place.path().join("g").join(bad), "content").expect("written");
        let folder = place.path().join("g").join(OsStr::from_bytes(b"d\xff"));
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join("ok.mkv"), "content").expect("written");
        std::os::unix::fs::symlink(place.path(), place.path().join("g/deep/again")).expect("linked");
        place
    }

    fn found(place: &tempfile::TempDir, pattern: &str) -> Vec<String> {
        let whole = format!("{}/{pattern}", place.path().display());
        let paths = expand(&whole).expect("a pattern");
        let shown = |path: Match| {
            let path = path.expect("readable");
            path.strip_prefix(place.path()).expect("below").to_string_lossy().into_owned()
        };
        paths.into_iter().map(shown).collect()
    }

    #[test]
    fn names_that_are_not_utf8_match_and_hidden_ones_do_not() {
        let place = place();
        let cases: [(&str, &[&str]); 9] = [
            ("g/*.mkv", &["g/b\u{fffd}.mkv", "g/ok.mkv"]),
            ("g/*", &["g/b\u{fffd}.mkv", "g/deep", "g/d\u{fffd}", "g/ok.mkv"]),
            ("g/*/", &["g/deep", "g/d\u{fffd}"]),
            ("g/b?.mkv", &["g/b\u{fffd}.mkv"]),
            ("**/ok.mkv", &["g/ok.mkv", "g/deep/ok.mkv", "g/d\u{fffd}/ok.mkv"]),
            ("**/**/b*", &["g/b\u{fffd}.mkv"]),
            ("g/.*.mkv", &["g/.hidden.mkv"]),
            ("g/.git/*", &["g/.git/ok.mkv"]),
            ("g/[.]*", &[]),
        ];
        for (pattern, expected) in cases {
            assert_eq!(found(&place, pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_may_be_relative() {
        let found = expand("*/../Cargo.t?ml").expect("a pattern");
        assert!(found.into_iter().any(|path| path.is_ok_and(|path| path == Path::new("src/../Cargo.toml"))));
    }

    #[test]
    fn a_malformed_pattern_is_an_error() {
        for pattern in ["a***", "a**b", "[a", "g/[]"] {
            assert!(expand(pattern).is_err(), "{pattern}");
        }
    }
}
