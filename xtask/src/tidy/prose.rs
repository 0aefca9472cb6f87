//! The words of comments and documents (STYLE.md, Docs and comments), as far as a program can count them.
//!
//! Three habits are refused: a doc comment that opens with a question word, a sentence without a named subject
//! (`nobody`, `whoever`), and an import that gives one of the workspace's own items a second name.

use std::path::Path;

use super::finding::Finding;
use super::lexer::Line;
use super::tree::Tree;

/// Words that make the first line of a doc comment a question instead of a description.
const QUESTIONS: &[&str] =
    &["What", "Which", "Who", "Whom", "Whose", "Whoever", "Whether", "How", "Where", "When", "Why"];
/// Words that stand for a subject without naming it.
const UNNAMED: &[&str] = &[
    "somebody",
    "someone",
    "nobody",
    "anybody",
    "anyone",
    "everybody",
    "everyone",
    "whoever",
    "whomever",
    "whosoever",
];

/// Checks the comments and imports of every Rust file, and the text of every Markdown file.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources() {
        for (number, line) in source.lines.iter().enumerate() {
            let before = number.checked_sub(1).map_or("", |before| source.lines[before].comment.as_str());
            if let Some(word) = question(before, &line.comment) {
                let what = format!("a doc comment opens with `{word}`");
                let next = "open with a noun phrase or a third-person verb";
                findings.push(Finding::failure(source.path, number + 1, what, next));
            }
            findings.extend(unnamed(source.path, number, &line.comment));
        }
        findings.extend(renames(source.path, &source.lines));
    }
    for (path, text) in tree.files().filter(|(path, _)| Path::new(path).extension() == Some("md".as_ref())) {
        findings.extend(text.lines().enumerate().filter_map(|(number, line)| unnamed(path, number, line)));
    }
    findings
}

/// Returns the question word that opens the doc comment beginning on this line, if one does.
fn question(before: &str, comment: &str) -> Option<&'static str> {
    let marker = ["///", "//!"].into_iter().find(|marker| comment.starts_with(marker))?;
    if before.starts_with(marker) {
        return None;
    }
    let text = comment[marker.len()..].trim_start();
    QUESTIONS.iter().copied().find(|word| {
        text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    })
}

/// Finds a word that hides the subject of a sentence. Code in backticks is free.
fn unnamed(path: &str, number: usize, text: &str) -> Option<Finding> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    let word = prose.split(|char: char| !char.is_alphabetic()).find(|word| UNNAMED.contains(word))?;
    let next = "name the subject: client, peer, caller, operator, request";
    Some(Finding::failure(path, number + 1, format!("`{word}`"), next))
}

/// Finds `use` items of the workspace's own paths that are renamed with `as`.
fn renames(path: &str, lines: &[Line]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut ours = false;
    for (number, line) in lines.iter().enumerate() {
        let code = line.code.trim_start();
        if let Some(used) = used(code) {
            ours = ["crate::", "super::", "self::", "hoist"].iter().any(|start| used.starts_with(start));
        }
        let renamed = code.split_once(" as ").map(|(_, name)| name).filter(|name| !name.starts_with('_'));
        if let Some(name) = renamed.filter(|_| ours) {
            let name = name.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap_or(name);
            let next = "one name means one thing: rename the item, or qualify it with its module";
            findings.push(Finding::failure(path, number + 1, format!("an item renamed to `{name}`"), next));
        }
        if code.ends_with(';') {
            ours = false;
        }
    }
    findings
}

/// Returns the path behind `use`, whatever its visibility.
fn used(code: &str) -> Option<&str> {
    let code = code.strip_prefix("pub").map_or(code, |rest| match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')').map_or(rest, |(_, rest)| rest),
        None => rest,
    });
    code.trim_start().strip_prefix("use ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_doc_comment_opens_with_no_question_word() {
        let path = "crates/a/src/b.rs";
        assert_eq!(lines(path, "//! What it is.\n\n/// Whether it is.\nfn a() {}\n"), [1, 3]);
        assert_eq!(lines(path, "/// Returns it.\n/// What follows is free.\n"), [] as [usize; 0]);
        assert_eq!(lines(path, "//! A file.\n/// How it is.\n// Why it is.\n/// Whatever it is.\n"), [2]);
    }

    #[test]
    fn a_sentence_names_its_subject() {
        let path = "crates/a/src/b.rs";
        assert_eq!(lines(path, "a(); // Nobody knows.\nlet b = \"nobody\";\n// `nobody` owns it.\n"), [1]);
        assert_eq!(lines("docs/a.md", "Clients know.\nWhoever asks, knows.\n"), [2]);
    }

    #[test]
    fn our_own_items_keep_their_names() {
        let path = "crates/a/src/b.rs";
        assert_eq!(lines(path, "use crate::a::B as C;\nlet x = 1 as u8;\n"), [1]);
        assert_eq!(lines(path, "pub(crate) use hoist_b::{\n    C,\n    D as E,\n};\n"), [3]);
        assert_eq!(lines(path, "use super::A as _;\nuse std::io::Error as IoError;\n"), [] as [usize; 0]);
    }
}
