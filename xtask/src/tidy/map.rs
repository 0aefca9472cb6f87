//! The map of STYLE.md against the tree, both ways: every source file has its place in the map, and every file in the
//! map exists.
//!
//! The map is the first fenced block under a heading that ends in "The map". A line that starts at the margin with a
//! folder opens a section. A line indented by two spaces names files of that folder, then their description; a line that
//! is indented further continues the description. Braces name several files (`fs/{read,write}.rs`). Tests are left out.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::tree::{Tree, is_product, is_rust};

const PATH: &str = "STYLE.md";

/// Compares the map with the product's source files.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(PATH) else {
        return vec![Finding::failure(PATH, 1, "no such file", "it holds the map of the source files")];
    };
    let map = entries(text);
    let mut findings = Vec::new();
    for (path, line) in &map {
        if tree.text(path).is_none() {
            let what = format!("the map names {path}, which does not exist");
            findings.push(Finding::failure(PATH, *line, what, "take it out of the map"));
        }
    }
    for (path, _) in tree.files().filter(|(path, _)| is_mapped(path)) {
        if !map.contains_key(path) {
            let next = "give it a line in STYLE.md, The map";
            findings.push(Finding::failure(path, 1, "not in the map", next));
        }
    }
    findings
}

fn is_mapped(path: &str) -> bool {
    path.starts_with("crates/") && path.contains("/src/") && is_product(path)
}

/// Returns every Rust file that the map names, and the line that names it.
fn entries(text: &str) -> BTreeMap<String, usize> {
    let mut entries = BTreeMap::new();
    let mut folder = "";
    let lines = text
        .lines()
        .enumerate()
        .skip_while(|(_, line)| !(line.starts_with('#') && line.ends_with("The map")));
    let block = lines.skip_while(|(_, line)| !line.starts_with("```")).skip(1);
    for (number, line) in block.take_while(|(_, line)| !line.starts_with("```")) {
        if !line.starts_with(' ') {
            folder = line.split("  ").next().unwrap_or(line).trim_end();
        }
        let names = line.strip_prefix("  ").filter(|names| !names.starts_with(' ')).unwrap_or("");
        for name in names.split(' ').take_while(|name| is_rust(name)) {
            entries.extend(expand(name).into_iter().map(|name| (format!("{folder}{name}"), number + 1)));
        }
    }
    entries
}

/// Writes out a name with braces: `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expand(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else { return vec![name.to_owned()] };
    let Some((inner, after)) = rest.split_once('}') else { return vec![name.to_owned()] };
    inner.split(',').map(|part| format!("{before}{part}{after}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "## 3. The map\n\n```text\nspec/   ids.rs are not Rust files here\ncrates/a/src/\n  lib.rs a.rs   the root\n  a/{b,c}.rs    its parts\n                d.rs is mentioned only\n```\n";

    fn found(files: &[&str]) -> Vec<(String, usize)> {
        let files = files.iter().map(|path| (*path, "")).chain([("STYLE.md", MAP)]).collect::<Vec<_>>();
        check(&Tree::of(&files)).into_iter().map(|finding| (finding.path, finding.line)).collect()
    }

    #[test]
    fn map_and_tree_agree_both_ways() {
        let all = ["crates/a/src/lib.rs", "crates/a/src/a.rs", "crates/a/src/a/b.rs", "crates/a/src/a/c.rs"];
        assert_eq!(found(&all), []);
        let tests = ["crates/a/src/a/tests.rs", "crates/a/tests/it/x.rs"];
        assert_eq!(found(&[&all[..], &tests].concat()), []);
        assert_eq!(found(&all[..3]), [("STYLE.md".to_owned(), 7)]);
        let unknown = [&all[..], &["crates/a/src/d.rs"]].concat();
        assert_eq!(found(&unknown), [("crates/a/src/d.rs".to_owned(), 1)]);
    }
}
