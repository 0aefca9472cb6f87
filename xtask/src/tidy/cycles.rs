//! Import cycles between the top-level modules of a crate: each module imports only modules below it.
//!
//! Reads the paths that begin with `crate::` or `super::`, in `use` declarations and elsewhere. Items of the crate's root
//! belong to no module, and tests may import what they need.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::tree::Tree;

/// The crates whose modules are free of import cycles.
const ACYCLIC: &[&str] =
    &["hoist", "hoist-client", "hoist-http", "hoist-proto", "hoist-server", "hoist-store"];

/// For each module, the modules it imports, with the file and line of the first import.
type Imports<'a> = BTreeMap<String, BTreeMap<String, (&'a str, usize)>>;

/// Finds imports that are part of a cycle.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let sources: Vec<_> = tree.sources().collect();
    let mut findings = Vec::new();
    for crate_name in ACYCLIC {
        let root = format!("crates/{crate_name}/src/");
        let files =
            sources.iter().filter_map(|source| Some((source, module(source.path.strip_prefix(&root)?)?)));
        let files: Vec<_> = files.collect();
        let modules: BTreeSet<&str> = files.iter().map(|(_, module)| module[0]).collect();
        let mut imports = Imports::new();
        for (source, module) in &files {
            let code: Vec<&str> =
                source.lines.iter().map(|line| if line.test { "" } else { line.code.as_str() }).collect();
            for (line, to) in imported(&code.join("\n"), module) {
                if modules.contains(to.as_str()) && to != module[0] {
                    let of_module = imports.entry(module[0].to_owned()).or_default();
                    of_module.entry(to).or_insert((source.path, line));
                }
            }
        }
        for (from, to) in &imports {
            for (to, (path, line)) in to {
                if reaches(&imports, to, from) {
                    let what =
                        format!("{from} imports {to}, which imports {from}, directly or through others");
                    let next = "move what both need into a module below them";
                    findings.push(Finding::failure(path, *line, what, next));
                }
            }
        }
    }
    findings
}

/// Returns the path of the module in a file, or `None` for the root of a crate and for tests.
fn module(path: &str) -> Option<Vec<&str>> {
    let module: Vec<&str> = path.strip_suffix(".rs")?.split('/').collect();
    let is_root = matches!(module[..], ["lib" | "main"]);
    (!is_root && !module.contains(&"tests")).then_some(module)
}

/// Returns the top-level names that code in a module refers to, with the lines of the references.
fn imported(code: &str, module: &[&str]) -> Vec<(usize, String)> {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    let mut found = Vec::new();
    for keyword in ["crate::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            let before = &code[..at];
            // `super::super::` is one path, and `$crate::` is of a macro.
            if before.ends_with(|char| is_word(char) || char == ':' || char == '$') {
                continue;
            }
            let mut rest = &code[at..];
            let mut scope = module.to_vec();
            while let Some(after) = rest.strip_prefix("super::") {
                scope.pop();
                rest = after;
            }
            if let Some(after) = rest.strip_prefix("crate::") {
                scope.clear();
                rest = after;
            }
            let line = before.matches('\n').count() + 1;
            match scope.first() {
                Some(top) => found.push((line, (*top).to_owned())),
                None => found.extend(first_names(rest).into_iter().map(|name| (line, name))),
            }
        }
    }
    found
}

/// Returns the first names of a path, of which there are several if it begins with a group.
fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(name(group[start..at].trim()));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

fn reaches(imports: &Imports<'_>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(imports.get(module).into_iter().flat_map(BTreeMap::keys).map(String::as_str));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(files: &[(&str, &str)]) -> Vec<(String, usize)> {
        check(&Tree::of(files)).into_iter().map(|finding| (finding.path, finding.line)).collect()
    }

    #[test]
    fn an_import_cycle_is_found_at_each_of_its_imports() {
        let [a, b, c] = ["a", "b", "c"].map(|name| format!("crates/hoist-server/src/{name}.rs"));
        let files = [
            (a.as_str(), "use std::io;\n\nuse crate::{\n    b::{self, B},\n    Root,\n};\n"),
            (b.as_str(), "fn b() -> super::c::C { crate::Root }\n"),
            (c.as_str(), "use crate::a::A;\nuse crate::d;\n"),
            ("crates/hoist-server/src/d.rs", "//! See crate::a.\n"),
        ];
        assert_eq!(lines(&files), [(a.clone(), 3), (b.clone(), 1), (c.clone(), 1)]);
    }

    #[test]
    fn tests_and_imports_within_a_module_close_no_cycle() {
        let files = [
            ("crates/hoist-server/src/a.rs", "mod inner;\nuse crate::b::B;\n"),
            (
                "crates/hoist-server/src/a/inner.rs",
                "use super::A;\nuse crate::a::A;\nuse super::super::b::B;\n",
            ),
            ("crates/hoist-server/src/b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
            ("crates/hoist-server/src/b/tests.rs", "use crate::a::A;\n"),
            ("crates/hoist-server/src/lib.rs", "mod a;\nmod b;\npub use crate::a::A;\n"),
        ];
        assert_eq!(lines(&files), []);
    }
}
