//! What FILE... stands for: files, all that is in directories, what matches a pattern, standard input.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::pattern;
use crate::exit::{Exit, Failure};

/// One upload that is to be made.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) input: Input,
    /// The path as it was given, for messages.
    pub(super) label: String,
    /// The name sent to the server, unless the command line gives another.
    pub(super) name: Option<String>,
    /// True if the file's own name is not UTF-8, so that a different one is sent to the server.
    pub(super) is_altered: bool,
}

#[derive(Debug)]
pub(super) enum Input {
    /// A regular file, or nothing, which shows when it is opened.
    File(PathBuf),
    /// A pipe or a device, which can be read once.
    Pipe(PathBuf),
    Stdin,
    /// A directory that cannot be read.
    Unreadable(PathBuf, io::Error),
}

/// All that is to be uploaded, in the order given, and what was passed over on the way.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) items: Vec<Item>,
    pub(super) notes: Vec<String>,
    /// The files among them, each of which is uploaded once, however often it was given or found.
    seen: HashSet<PathBuf>,
}

impl Sources {
    pub(super) fn of(given: &[PathBuf]) -> Result<Self, Failure> {
        let mut sources = Self::default();
        for path in given {
            if path.as_os_str() == "-" {
                let item = Item { input: Input::Stdin, label: "-".to_owned(), name: None, is_altered: false };
                sources.items.push(item);
            } else if fs::symlink_metadata(path).is_err() && is_pattern(path) {
                sources.add_matches(path)?;
            } else {
                sources.add(path);
            }
        }
        Ok(sources)
    }

    fn add_matches(&mut self, given: &Path) -> Result<(), Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::message(Exit::File, format_args!("{}: {why}", given.display()))
        };
        let text = given.to_str().ok_or_else(|| wrong(&"a pattern has to be UTF-8"))?;
        let found = pattern::expand(text).map_err(|error| wrong(&error))?;
        let before = self.items.len();
        for path in found {
            match path {
                Ok(path) => self.add(&path),
                Err((path, error)) => self.unreadable(path, error),
            }
        }
        if self.items.len() == before {
            return Err(wrong(&"nothing matches this pattern"));
        }
        Ok(())
    }

    /// A file by itself, or all files of a directory.
    fn add(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.add_directory(path),
            Ok(metadata) if !metadata.is_file() => self.push(Input::Pipe(path.to_owned()), path, None),
            // What is wrong with it is said when its turn comes: the others are uploaded all the same.
            Ok(_) | Err(_) => {
                self.push(Input::File(path.to_owned()), path, path.file_name().map(PathBuf::from));
            }
        }
    }

    /// All files below, each folder in the order of its names. Links to directories are passed over, because they may
    /// lead in a circle.
    fn add_directory(&mut self, top: &Path) {
        let mut waiting = vec![top.to_owned()];
        while let Some(path) = waiting.pop() {
            let is_link = path != top && path.is_symlink();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && is_link => {
                    self.notes.push(format!("{} is a link to a directory: passed over", path.display()));
                }
                Ok(metadata) if metadata.is_dir() => match children(&path) {
                    Ok(children) => waiting.extend(children.into_iter().rev()),
                    Err(error) => self.unreadable(path, error),
                },
                Ok(metadata) if metadata.is_file() => {
                    let name = relative_name(top, &path);
                    self.push(Input::File(path.clone()), &path, name);
                }
                Ok(_) => self.notes.push(format!("{} is no file: passed over", path.display())),
                Err(error) => self.unreadable(path, error),
            }
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: io::Error) {
        let label = path.display().to_string();
        let input = Input::Unreadable(path, error);
        self.items.push(Item { input, label, name: None, is_altered: false });
    }

    fn push(&mut self, input: Input, path: &Path, name: Option<PathBuf>) {
        if fs::canonicalize(path).is_ok_and(|whole| !self.seen.insert(whole)) {
            return;
        }
        // Names travel as UTF-8 (RFC 8187): what is none in one is replaced, and the rest of it kept.
        let is_altered = name.as_ref().is_some_and(|name| name.to_str().is_none());
        let name = name.map(|name| name.to_string_lossy().into_owned());
        self.items.push(Item { input, label: path.display().to_string(), name, is_altered });
    }
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The path of a file in a directory, which begins with the directory's own name if it has one.
fn relative_name(top: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(top).ok()?;
    let whole = match top.components().next_back() {
        Some(Component::Normal(own)) => Path::new(own).join(below),
        _ => below.to_owned(),
    };
    Some(whole)
}

fn is_pattern(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().any(|octet| matches!(octet, b'*' | b'?' | b'['))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(place.path().join("films/old")).expect("made");
        for name in ["films/b.mkv", "films/a.mkv", "films/old/c.avi", "films/.hidden", "d[1].txt"] {
            fs::write(place.path().join(name), name).expect("written");
        }
        std::os::unix::fs::symlink(place.path().join("films"), place.path().join("films/old/again"))
            .expect("linked");
        place
    }

    fn names(given: &[PathBuf]) -> Vec<String> {
        let sources = Sources::of(given).expect("something");
        sources.items.into_iter().map(|item| item.name.unwrap_or(item.label)).collect()
    }

    #[test]
    fn a_directory_is_all_that_is_in_it() {
        let place = place();
        let all = ["films/.hidden", "films/a.mkv", "films/b.mkv", "films/old/c.avi"];
        assert_eq!(names(&[place.path().join("films")]), all);
        assert_eq!(names(&[place.path().join("films/")]), all);
        let nameless = [".hidden", "a.mkv", "b.mkv", "old/c.avi"];
        assert_eq!(names(&[place.path().join("films/old/..")]), nameless);
        let sources = Sources::of(&[place.path().join("films")]).expect("files");
        assert_eq!(sources.notes.len(), 1, "{:?}", sources.notes);
    }

    #[test]
    fn a_pattern_is_what_matches_it_and_a_file_of_that_name_is_a_file() {
        let place = place();
        assert_eq!(names(&[place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        assert_eq!(names(&[place.path().join("films/*")]), ["a.mkv", "b.mkv", "old/c.avi"]);
        assert_eq!(names(&[place.path().join("**/*.avi")]), ["c.avi"]);
        assert_eq!(names(&[place.path().join("d[1].txt"), "-".into()]), ["d[1].txt", "-"]);
        let film = place.path().join("films/a.mkv");
        assert_eq!(names(&[film.clone(), film, place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        let none = Sources::of(&[place.path().join("*.none")]).expect_err("nothing");
        assert_eq!(none.exit, Exit::File);
        assert!(none.to_string().ends_with("nothing matches this pattern"), "{none}");
        assert!(Sources::of(&[place.path().join("a***")]).is_err());
    }

    #[test]
    fn a_pattern_takes_names_that_are_not_utf8() {
        use std::os::unix::ffi::OsStrExt as _;

        let place = place();
        fs::write(place.path().join("films").join(OsStr::from_bytes(b"b\xff")), "content").expect("written");
        assert_eq!(names(&[place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        assert_eq!(names(&[place.path().join("films/*")]), ["a.mkv", "b.mkv", "b\u{fffd}", "old/c.avi"]);
        assert_eq!(names(&[place.path().join("**/a.mkv")]), ["a.mkv"]);
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_what_can_be_told() {
        use std::os::unix::ffi::OsStrExt as _;

        let place = tempfile::tempdir().expect("a directory");
        let (folder, name) = (place.path().join("films"), OsStr::from_bytes(b"caf\xe9.mkv"));
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join(name), "content").expect("written");
        for (given, expected) in
            [(folder.join(name), "caf\u{fffd}.mkv"), (folder.clone(), "films/caf\u{fffd}.mkv")]
        {
            let sources = Sources::of(&[given]).expect("something");
            let [item] = &sources.items[..] else { panic!("{sources:?}") };
            assert_eq!((item.name.as_deref(), item.is_altered), (Some(expected), true));
        }
    }

    #[test]
    fn what_is_not_there_is_found_out_later() {
        let sources = Sources::of(&["/nonexistent/film".into(), "/dev/null".into()]).expect("two");
        assert!(matches!(sources.items[0].input, Input::File(_)));
        assert!(matches!(sources.items[1].input, Input::Pipe(_)));
    }
}
