//! Checks how files begin, how long they are, and their names.

use super::finding::Finding;
use super::tree::{Tree, is_rust, is_test};

/// The length at which a warning suggests to look for a second subject.
const LINES_WARN: usize = 500;
/// The maximum length.
const LINES_MAX: usize = 800;
/// Names without a subject.
const NAMELESS: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Checks every Rust file under `crates/`, `xtask/` and `bench/`.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_rust(path)) {
        if is_documented_place(path) && !starts_with_doc(text) {
            let next = "start with a `//!` paragraph on what the file contains";
            findings.push(Finding::failure(path, 1, "does not start with `//!`", next));
        }
        if let Some(name) = nameless(path) {
            findings.push(Finding::failure(path, 1, format!("`{name}` is no subject"), "name the subject"));
        }
        if path.ends_with("/mod.rs") {
            findings.push(Finding::failure(path, 1, "mod.rs", "modules are `foo.rs` beside `foo/`"));
        }
        if !is_test(path) {
            findings.extend(length(path, text));
        }
    }
    findings
}

fn is_documented_place(path: &str) -> bool {
    ["xtask/", "bench/"].iter().any(|tool| path.starts_with(tool))
        || (path.starts_with("crates/") && path.contains("/src/"))
}

fn starts_with_doc(text: &str) -> bool {
    text.lines().find(|line| !line.starts_with("#![")).is_some_and(|line| line.starts_with("//!"))
}

fn nameless(path: &str) -> Option<&str> {
    path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part)).find(|part| NAMELESS.contains(part))
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    match lines {
        0..=LINES_WARN => None,
        _ if lines <= LINES_MAX => {
            let what = format!("{lines} lines");
            Some(Finding::warning(path, LINES_WARN, what, "look for a second subject, or move its tests out"))
        }
        _ => {
            let what = format!("{lines} lines, more than {LINES_MAX}");
            Some(Finding::failure(path, LINES_MAX, what, "split it by subject"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Weight;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(String, Weight)> {
        check(&Tree::of(&[(path, text)])).into_iter().map(|f| (f.what, f.weight)).collect()
    }

    #[test]
    fn a_file_starts_with_module_docs() {
        assert_eq!(found("crates/a/src/b.rs", "//! Owns b.\n"), []);
        assert_eq!(found("crates/a/tests/it/main.rs", "fn a() {}\n"), []);
        assert_eq!(found("crates/a/src/b.rs", "// Owns b.\n").len(), 1);
        assert_eq!(found("xtask/src/b.rs", "").len(), 1);
    }

    #[test]
    fn long_files_are_found() {
        let long = |lines: usize| format!("//! Long.\n{}", "x\n".repeat(lines - 1));
        assert_eq!(found("crates/a/src/b.rs", &long(500)), []);
        assert_eq!(found("crates/a/src/b.rs", &long(501))[0].1, Weight::Warning);
        assert_eq!(found("crates/a/src/b.rs", &long(801))[0].1, Weight::Failure);
        assert_eq!(found("crates/a/src/b/tests.rs", &long(801)), []);
    }

    #[test]
    fn names_without_a_subject_are_found() {
        assert_eq!(found("crates/a/src/intake.rs", "//! x\n"), []);
        for path in ["crates/a/src/utils.rs", "crates/a/src/helpers/x.rs", "crates/a/src/b/mod.rs"] {
            assert_eq!(found(path, "//! x\n").len(), 1, "{path}");
        }
    }
}
