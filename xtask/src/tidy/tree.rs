//! The text files that tidy checks, in memory, and their kinds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::lexer::{self, Line};

/// The files and folders to read; folders recursively.
const ROOTS: &[&str] = &[
    "Cargo.toml",
    "README.md",
    "ARCHITECTURE.md",
    "STYLE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "crates",
    "xtask",
    "bench",
    "fuzz",
    "conformance",
    "spec",
    "docs",
];
/// Ignored folders.
const SKIPPED: &[&str] = &["target", "corpus", "artifacts", "seeds", "node_modules"];
/// The extensions of files to read.
const KINDS: &[&str] = &[".rs", ".toml", ".md"];

/// Maps paths, relative to the root and with forward slashes, to texts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

/// A Rust file, split into lines.
pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    pub(crate) lines: Vec<Line>,
}

impl Tree {
    /// Reads the tree at `root`.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        for start in ROOTS {
            let path = root.join(start);
            if path.is_dir() {
                tree.folder(root, &path)?;
            } else if path.exists() {
                tree.file(root, &path)?;
            }
        }
        Ok(tree)
    }

    /// Returns a tree of these files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// Returns the number of files.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the text of a file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Returns paths and texts, sorted by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Returns Rust files, split into lines. All lines of a test file are marked as tests.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        self.files().filter(|(path, _)| is_rust(path)).map(|(path, text)| {
            let mut lines = lexer::lines(text);
            if is_test(path) {
                lexer::mark(&mut lines);
            }
            Source { path, lines }
        })
    }

    fn folder(&mut self, root: &Path, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if !SKIPPED.contains(&name.as_str()) && !name.starts_with('.') {
                    self.folder(root, &entry.path())?;
                }
            } else if KINDS.iter().any(|kind| name.ends_with(kind)) {
                self.file(root, &entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&mut self, root: &Path, path: &Path) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let path =
            path.strip_prefix(root).expect("found under the root").to_string_lossy().replace('\\', "/");
        self.files.insert(path, text);
        Ok(())
    }
}

/// Returns whether a path is a Rust file.
pub(crate) fn is_rust(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| end == "rs")
}

/// Returns whether a path is a TOML file.
pub(crate) fn is_toml(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, end)| end == "toml")
}

/// Returns whether a file contains only tests: `tests.rs`, or a file in `tests/` or `benches/`.
pub(crate) fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').any(|part| part == "tests" || part == "benches")
}

/// Returns whether a file is compiled into the product: `crates/*/src`.
pub(crate) fn is_product(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next() == Some("crates") && parts.nth(1) == Some("src") && is_rust(path) && !is_test(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files_are_determined_by_path() {
        let cases = [
            ("crates/a/src/b.rs", true, false),
            ("crates/a/src/b/tests.rs", false, true),
            ("crates/a/src/b/tests/c.rs", false, true),
            ("crates/a/tests/it/main.rs", false, true),
            ("crates/a/Cargo.toml", false, false),
            ("xtask/src/main.rs", false, false),
        ];
        for (path, product, test) in cases {
            assert_eq!((is_product(path), is_test(path)), (product, test), "{path}");
        }
    }
}
