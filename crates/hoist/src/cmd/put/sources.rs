//! The inputs of `hoist put`: expands files, directories, patterns and `-` to a list of uploads.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use hoist_client::Quoted;

use super::pattern;
use crate::cli::Exclusion;
use crate::exit::{Exit, Failure};
use crate::output::FileLabel;

/// An input to upload.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) input: Input,
    /// The path as given on the command line.
    pub(super) label: FileLabel,
    /// The name sent to the server, unless the command line gives another.
    pub(super) name: Option<String>,
    /// True if the file's own name is not UTF-8, so that a different one is sent to the server.
    pub(super) is_altered: bool,
}

#[derive(Debug)]
pub(super) enum Input {
    /// A regular file. It may be missing, which is reported when it is opened.
    File(PathBuf),
    /// A pipe or device, which can be read only once.
    Pipe(PathBuf),
    Stdin,
    /// A directory that cannot be read.
    Unreadable(PathBuf, io::Error),
}

impl Item {
    /// Returns the number of bytes of a file, as it is now. `None` for streams, and for files that cannot be read.
    pub(super) fn length(&self) -> Option<u64> {
        let Input::File(path) = &self.input else { return None };
        Some(fs::metadata(path).ok()?.len())
    }
}

/// The inputs in the order given, and notes about skipped files.
#[derive(Debug, Default)]
pub(super) struct Sources<'a> {
    pub(super) items: Vec<Item>,
    pub(super) notes: Vec<String>,
    exclude: &'a [Exclusion],
    /// The keys of the files, so that each name is uploaded once. Two links to one file are two names.
    seen: HashSet<PathBuf>,
    /// The files that were given more than once.
    repeated: Vec<PathBuf>,
}

impl<'a> Sources<'a> {
    /// Finds the files that the command line names, without those that match a pattern of `exclude`.
    pub(super) fn of(given: &[PathBuf], exclude: &'a [Exclusion]) -> Result<Self, Failure> {
        let mut sources = Self { exclude, ..Self::default() };
        for path in given {
            if path.as_os_str() == "-" {
                let item =
                    Item { input: Input::Stdin, label: FileLabel::new(path), name: None, is_altered: false };
                sources.items.push(item);
            } else if fs::symlink_metadata(path).is_err() && is_pattern(path) {
                sources.add_matches(path)?;
            } else {
                sources.add(path);
            }
        }
        match &sources.repeated[..] {
            [] => {}
            [path] => sources.notes.push(format!("{} is given twice and uploaded once", Quoted::new(path))),
            [path, ..] => {
                let (count, path) = (sources.repeated.len(), Quoted::new(path));
                sources
                    .notes
                    .push(format!("{count} files are given more than once and uploaded once, like {path}"));
            }
        }
        Ok(sources)
    }

    fn add_matches(&mut self, given: &Path) -> Result<(), Failure> {
        let wrong = |why: &dyn std::fmt::Display| {
            Failure::message(Exit::File, format_args!("{}: {why}", Quoted::new(given)))
        };
        let text = given.to_str().ok_or_else(|| wrong(&"a pattern must be UTF-8"))?;
        let found = pattern::expand(text).map_err(|error| wrong(&error))?;
        if found.is_empty() {
            return Err(wrong(&"no file matches this pattern"));
        }
        for path in found {
            match path {
                Ok(path) => self.add(&path),
                Err((path, error)) => self.unreadable(path, error),
            }
        }
        Ok(())
    }

    /// Adds a file, or all files of a directory.
    fn add(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if self.excludes(path, metadata.is_dir()) => {}
            Ok(metadata) if metadata.is_dir() => self.add_directory(path),
            Ok(metadata) if !metadata.is_file() => self.push(Input::Pipe(path.to_owned()), path, None),
            // Errors are reported when the file is opened, so that the other files are uploaded anyway.
            Ok(_) | Err(_) => {
                self.push(Input::File(path.to_owned()), path, path.file_name().map(PathBuf::from));
            }
        }
    }

    /// Adds all files below a directory, sorted by name. Links to directories are skipped, because they may form cycles.
    fn add_directory(&mut self, top: &Path) {
        let mut waiting = vec![top.to_owned()];
        while let Some(path) = waiting.pop() {
            let is_link = path != top && path.is_symlink();
            match fs::metadata(&path) {
                Ok(metadata) if path != top && self.excludes(&path, metadata.is_dir()) => {}
                Ok(metadata) if metadata.is_dir() && is_link => {
                    self.notes.push(format!("skipping {}: a link to a directory", Quoted::new(&path)));
                }
                Ok(metadata) if metadata.is_dir() => match children(&path) {
                    Ok(children) => waiting.extend(children.into_iter().rev()),
                    Err(error) => self.unreadable(path, error),
                },
                Ok(metadata) if metadata.is_file() => {
                    let name = relative_name(top, &path);
                    self.push(Input::File(path.clone()), &path, name);
                }
                Ok(_) => self.notes.push(format!("skipping {}: not a regular file", Quoted::new(&path))),
                Err(error) => self.unreadable(path, error),
            }
        }
    }

    fn excludes(&self, path: &Path, is_directory: bool) -> bool {
        self.exclude.iter().any(|exclusion| exclusion.matches(path, is_directory))
    }

    fn unreadable(&mut self, path: PathBuf, error: io::Error) {
        let label = FileLabel::new(&path);
        let input = Input::Unreadable(path, error);
        self.items.push(Item { input, label, name: None, is_altered: false });
    }

    fn push(&mut self, input: Input, path: &Path, name: Option<PathBuf>) {
        let key = hoist_client::file_key(path).unwrap_or_else(|_| path.to_owned());
        if !self.seen.insert(key) {
            self.repeated.push(path.to_owned());
            return;
        }
        // Names are sent as UTF-8 (RFC 8187); invalid bytes are replaced.
        let is_altered = name.as_ref().is_some_and(|name| name.to_str().is_none());
        let name = name.map(|name| name.to_string_lossy().into_owned());
        self.items.push(Item { input, label: FileLabel::new(path), name, is_altered });
    }
}

fn children(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns the path of a file relative to the parent of `top`, or to `top` itself if that has no name.
fn relative_name(top: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(top).ok()?;
    let relative = match top.components().next_back() {
        Some(Component::Normal(own)) => Path::new(own).join(below),
        _ => below.to_owned(),
    };
    Some(relative)
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
        let sources = Sources::of(given, &[]).expect("something");
        sources.items.into_iter().map(|item| item.name.unwrap_or(item.label.raw)).collect()
    }

    #[test]
    fn a_directory_expands_to_all_its_files() {
        let place = place();
        let all = ["films/.hidden", "films/a.mkv", "films/b.mkv", "films/old/c.avi"];
        assert_eq!(names(&[place.path().join("films")]), all);
        assert_eq!(names(&[place.path().join("films/")]), all);
        let nameless = [".hidden", "a.mkv", "b.mkv", "old/c.avi"];
        assert_eq!(names(&[place.path().join("films/old/..")]), nameless);
        let sources = Sources::of(&[place.path().join("films")], &[]).expect("files");
        assert_eq!(sources.notes.len(), 1, "{:?}", sources.notes);
    }

    #[test]
    fn a_pattern_expands_unless_a_file_has_that_name() {
        let place = place();
        assert_eq!(names(&[place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        assert_eq!(names(&[place.path().join("films/*")]), ["a.mkv", "b.mkv", "old/c.avi"]);
        assert_eq!(names(&[place.path().join("**/*.avi")]), ["c.avi"]);
        assert_eq!(names(&[place.path().join("d[1].txt"), "-".into()]), ["d[1].txt", "-"]);
        let film = place.path().join("films/a.mkv");
        assert_eq!(names(&[film.clone(), film, place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        let none = Sources::of(&[place.path().join("*.none")], &[]).expect_err("nothing");
        assert_eq!(none.exit, Exit::File);
        assert!(none.to_string().ends_with("no file matches this pattern"), "{none}");
        assert!(Sources::of(&[place.path().join("a***")], &[]).is_err());
    }

    #[test]
    fn a_pattern_matches_names_that_are_not_utf8() {
        use std::os::unix::ffi::OsStrExt as _;

        let place = place();
        fs::write(place.path().join("films").join(OsStr::from_bytes(b"b\xff")), "content").expect("written");
        assert_eq!(names(&[place.path().join("films/*.mkv")]), ["a.mkv", "b.mkv"]);
        assert_eq!(names(&[place.path().join("films/*")]), ["a.mkv", "b.mkv", "b\u{fffd}", "old/c.avi"]);
        assert_eq!(names(&[place.path().join("**/a.mkv")]), ["a.mkv"]);
    }

    #[test]
    fn invalid_bytes_in_a_name_are_replaced() {
        use std::os::unix::ffi::OsStrExt as _;

        let place = tempfile::tempdir().expect("a directory");
        let (folder, name) = (place.path().join("films"), OsStr::from_bytes(b"caf\xe9.mkv"));
        fs::create_dir(&folder).expect("made");
        fs::write(folder.join(name), "content").expect("written");
        for (given, expected) in
            [(folder.join(name), "caf\u{fffd}.mkv"), (folder.clone(), "films/caf\u{fffd}.mkv")]
        {
            let sources = Sources::of(&[given], &[]).expect("something");
            let [item] = &sources.items[..] else { panic!("{sources:?}") };
            assert_eq!((item.name.as_deref(), item.is_altered), (Some(expected), true));
        }
    }

    #[test]
    fn every_name_is_uploaded_once_whatever_it_links_to() {
        let place = place();
        let at = |name: &str| place.path().join(name);
        std::os::unix::fs::symlink("films/a.mkv", at("link.mkv")).expect("linked");
        std::os::unix::fs::symlink("films", at("linked")).expect("linked");
        fs::hard_link(at("films/a.mkv"), at("hard.mkv")).expect("linked");
        let given = ["films/a.mkv", "link.mkv", "hard.mkv", "linked/a.mkv"].map(at);
        let sources = Sources::of(&given, &[]).expect("files");
        let paths: Vec<_> = sources.items.iter().map(|item| item.label.raw.clone()).collect();
        assert_eq!(paths, given.clone().map(|path| path.display().to_string()));
        assert_eq!(sources.notes, [""; 0]);
        assert_eq!(names(&[at("linked"), at("films/old")]).len(), 5, "a link that is given is followed");

        let repeated = [at("films/a.mkv"), at("films/./a.mkv"), at("films/old/../a.mkv"), at("films/")];
        assert_eq!(names(&repeated), ["a.mkv", "films/.hidden", "films/b.mkv", "films/old/c.avi"]);
        let notes = Sources::of(&repeated, &[]).expect("files").notes;
        let given = at("films/./a.mkv").display().to_string();
        assert!(
            notes.contains(&format!("3 files are given more than once and uploaded once, like {given}")),
            "{notes:?}"
        );
        let notes = Sources::of(&[at("films/a.mkv"), at("films/*.mkv")], &[]).expect("files").notes;
        let given = at("films/a.mkv").display().to_string();
        assert_eq!(notes, [format!("{given} is given twice and uploaded once")]);
    }

    #[test]
    fn a_missing_file_is_reported_when_it_is_opened() {
        let sources = Sources::of(&["/nonexistent/film".into(), "/dev/null".into()], &[]).expect("two");
        assert!(matches!(sources.items[0].input, Input::File(_)));
        assert!(matches!(sources.items[1].input, Input::Pipe(_)));
    }
}
