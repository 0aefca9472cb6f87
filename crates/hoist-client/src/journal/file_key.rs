//! The key of a file in the journal.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Returns the key of a file in the [journal](super::Journal): its absolute path, without `.`, without `..` where that is
/// the parent of a directory and not of a link, and without slashes at its end. Links are not followed, so two names of
/// one file have two keys.
///
/// # Errors
/// Returns an error if the path is relative and the working directory cannot be determined, or if the path is empty.
pub fn file_key(path: &Path) -> io::Result<PathBuf> {
    let mut key = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        match component {
            Component::ParentDir if key.parent().is_none() => {}
            Component::ParentDir if is_directory(&key) => {
                key.pop();
            }
            component => key.push(component),
        }
    }
    Ok(key)
}

/// Returns whether a path ends with the name of a directory. The parent of a link is not that of its target.
fn is_directory(path: &Path) -> bool {
    path.file_name().is_some() && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn equivalent_spellings_have_one_key_and_links_have_their_own() {
        let place = tempfile::tempdir().expect("a directory");
        let root = fs::canonicalize(place.path()).expect("a directory");
        fs::create_dir_all(root.join("films/old")).expect("made");
        fs::write(root.join("films/a"), "content").expect("written");
        std::os::unix::fs::symlink(root.join("films/old"), root.join("link")).expect("linked");
        let cases = [
            ("films/a", "films/a"),
            ("films//./a", "films/a"),
            ("films/", "films"),
            ("films/.", "films"),
            ("films/old/../a", "films/a"),
            ("films/old/../../films/", "films"),
            ("link", "link"),
            ("link/", "link"),
            ("link/../a", "link/../a"),
            ("link/../../films/old/../a", "link/../../films/a"),
            ("none/../a", "none/../a"),
        ];
        for (path, expected) in cases {
            let key = file_key(&root.join(path)).expect("absolute");
            assert_eq!(key.as_os_str(), root.join(expected).as_os_str(), "{path}");
        }
        let working = std::env::current_dir().expect("a working directory");
        for (path, expected) in [("./x/", "x"), ("x", "x"), ("src/../x", "x")] {
            let key = file_key(Path::new(path)).expect("absolute");
            assert_eq!(key.as_os_str(), working.join(expected).as_os_str(), "{path}");
        }
        assert_eq!(file_key(Path::new("/../x")).expect("absolute"), Path::new("/x"));
        assert!(file_key(Path::new("")).is_err());
    }
}
