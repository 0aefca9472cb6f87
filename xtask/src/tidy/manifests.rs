//! Checks that member manifests inherit edition, license, lints and versions from the workspace.

use toml::{Table, Value};

use super::finding::Finding;
use super::tree::Tree;

/// The keys of `[package]` that members inherit.
const INHERITED: &[&str] = &["edition", "license", "rust-version"];

/// Checks `crates/*/Cargo.toml` and those of the tools.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        // Only one level deep: packages inside a crate's tests are not members.
        let is_tool = ["xtask/Cargo.toml", "bench/Cargo.toml"].contains(&path);
        let member = is_tool || path.starts_with("crates/") && path.matches('/').count() == 2;
        // Invalid TOML is reported by `arrows.rs`.
        if let (true, true, Ok(manifest)) = (member, path.ends_with("/Cargo.toml"), text.parse::<Table>()) {
            findings.extend(member_findings(path, text, &manifest));
        }
    }
    findings
}

fn member_findings(path: &str, text: &str, manifest: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    let inherits = |value: Option<&Value>| {
        value.and_then(|v| v.get("workspace")).and_then(Value::as_bool).unwrap_or_default()
    };
    let package = manifest.get("package");
    let published = package.and_then(|p| p.get("publish")).and_then(Value::as_bool).unwrap_or(true);
    for key in INHERITED.iter().copied().chain(published.then_some("version")) {
        if !inherits(package.and_then(|p| p.get(key))) {
            let what = format!("package.{key} is its own");
            findings.push(Finding::failure(
                path,
                line_of(text, key),
                what,
                format!("write {key}.workspace = true"),
            ));
        }
    }
    if !inherits(manifest.get("lints")) {
        findings.push(Finding::failure(path, 1, "lints are its own", "write [lints] workspace = true"));
    }
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        for (name, value) in manifest.get(kind).and_then(Value::as_table).into_iter().flatten() {
            if !inherits(Some(value)) {
                let what = format!("{kind}.{name} names its own version");
                let next = "put it into [workspace.dependencies] and write `workspace = true` here";
                findings.push(Finding::failure(path, line_of(text, name), what, next));
            }
        }
    }
    findings
}

fn line_of(text: &str, key: &str) -> usize {
    let starts = |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(starts).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        license.workspace = true\nrust-version.workspace = true\n[lints]\nworkspace = true\n[dependencies]\n\
        h2 = { workspace = true, features = [] }\n";

    #[test]
    fn members_inherit_from_the_workspace() {
        assert_eq!(check(&Tree::of(&[("crates/a/Cargo.toml", GOOD)])), []);
        let bad = [
            (GOOD.replace("edition.workspace = true", "edition = \"2021\""), 4),
            (GOOD.replace("license.workspace = true\n", ""), 1),
            (GOOD.replace("[lints]\nworkspace = true\n", ""), 1),
            (GOOD.replace("workspace = true, features", "version = \"1\", features"), 10),
        ];
        for (text, line) in bad {
            let findings = check(&Tree::of(&[("crates/a/Cargo.toml", &text)]));
            assert_eq!(findings.iter().map(|f| f.line).collect::<Vec<_>>(), [line], "{findings:?}");
        }
    }

    #[test]
    fn packages_inside_tests_are_not_members() {
        let text = "[package]\nname = \"t\"\nedition = \"2021\"\n[workspace]\n";
        assert_eq!(check(&Tree::of(&[("crates/a/tests/t/Cargo.toml", text)])), []);
        assert!(!check(&Tree::of(&[("crates/a/Cargo.toml", text)])).is_empty());
    }

    #[test]
    fn unpublished_packages_have_their_own_version() {
        let text = GOOD.replace("version.workspace = true\ne", "version = \"0.0.0\"\npublish = false\ne");
        assert_eq!(check(&Tree::of(&[("xtask/Cargo.toml", &text)])), []);
    }
}
