//! Checks the dependencies between crates (STYLE.md, Crates), and those of `hoist-proto`.
//!
//! Dev-dependencies are not restricted.

use toml::{Table, Value};

use super::finding::Finding;
use super::tree::Tree;

/// A crate, and the crates of this workspace it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("hoist-proto", &[]),
    ("hoist-http", &[]),
    ("hoist-store", &["hoist-proto"]),
    ("hoist-server", &["hoist-store", "hoist-http", "hoist-proto"]),
    ("hoist-client", &["hoist-proto"]),
    ("hoist", &["hoist-server", "hoist-client", "hoist-store", "hoist-http", "hoist-proto"]),
    // Outside the product: it sees hoist as other clients do, and measures its pure functions.
    (BENCH, &["hoist-http", "hoist-proto"]),
];

/// The crate in `bench/`.
const BENCH: &str = "hoist-bench";

/// The allowed dependencies of `hoist-proto`, all free of I/O.
const PROTO_NEEDS: &[&str] = &["http", "httpdate", "sfv", "thiserror"];

/// Returns a finding for each forbidden dependency.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        let folder = match path {
            "bench/Cargo.toml" => Some(BENCH),
            _ => path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml")),
        };
        let Some(folder) = folder else { continue };
        // Packages inside a crate's tests are not members of the workspace.
        if folder.contains('/') {
            continue;
        }
        let manifest: Table = match text.parse() {
            Ok(manifest) => manifest,
            Err(error) => {
                findings.push(Finding::failure(
                    path,
                    1,
                    format!("not TOML ({})", error.message()),
                    "mend it",
                ));
                continue;
            }
        };
        let Some((name, allowed)) = ARROWS.iter().find(|(name, _)| *name == folder) else {
            let next = "add it to STYLE.md and xtask/src/tidy/arrows.rs, or make it a module";
            findings.push(Finding::failure(path, 1, format!("unknown crate {folder}"), next));
            continue;
        };
        for needed in dependencies(&manifest) {
            let ours = ARROWS.iter().any(|(name, _)| *name == needed);
            if ours && !allowed.contains(&needed.as_str()) {
                let what = format!("{name} must not depend on {needed}");
                findings.push(Finding::failure(path, line_of(text, &needed), what, "see STYLE.md, Crates"));
            } else if *name == "hoist-proto" && !ours && !PROTO_NEEDS.contains(&needed.as_str()) {
                let what = format!("hoist-proto depends on {needed}");
                let next = "it stays with http, httpdate, sfv and thiserror; say why in the commit and in arrows.rs if not";
                findings.push(Finding::failure(path, line_of(text, &needed), what, next));
            }
        }
    }
    findings
}

/// Returns the names of all dependencies and build-dependencies, including those of targets.
fn dependencies(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut names = Vec::new();
    for table in std::iter::once(manifest).chain(tables) {
        for kind in ["dependencies", "build-dependencies"] {
            let dependencies = table.get(kind).and_then(Value::as_table);
            for (name, value) in dependencies.into_iter().flatten() {
                let renamed = value.get("package").and_then(Value::as_str);
                names.push(renamed.unwrap_or(name).to_owned());
            }
        }
    }
    names
}

fn line_of(text: &str, needle: &str) -> usize {
    let starts = |line: &str| line.strip_prefix(needle).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(starts).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_dependencies_are_found() {
        let good = [
            ("crates/hoist-store/Cargo.toml", "[dependencies]\nhoist-proto.workspace = true\n"),
            (
                "crates/hoist-proto/Cargo.toml",
                "[dependencies]\nsfv = \"1\"\n[dev-dependencies]\ntokio = \"1\"\n",
            ),
        ];
        assert_eq!(check(&Tree::of(&good)), []);

        let bad = [
            ("crates/hoist-store/Cargo.toml", "[dependencies]\nbytes = \"1\"\nhoist-server = \"1\"\n", 3),
            ("crates/hoist-client/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nhoist-store = \"1\"\n", 2),
            ("crates/hoist-proto/Cargo.toml", "[build-dependencies]\ntokio = \"1\"\n", 2),
            ("crates/hoist-http/Cargo.toml", "[dependencies]\np = { package = \"hoist-proto\" }\n", 1),
            ("crates/hoist/Cargo.toml", "[dependencies]\nhoist-bench = \"1\"\n", 2),
            ("bench/Cargo.toml", "[dependencies]\nhoist-client = \"1\"\n", 2),
            ("crates/hoist-utils/Cargo.toml", "", 1),
        ];
        for (path, text, line) in bad {
            let findings = check(&Tree::of(&[(path, text)]));
            assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [line], "{path}: {findings:?}");
        }
    }
}
