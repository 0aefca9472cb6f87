//! The project on disk: its root directory and its manifests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

/// Returns the root directory of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo runs the binary from this checkout, so the build-time path is still valid.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_owned()
}

/// A package under `crates/`.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The features, without `default`.
    pub(crate) features: Vec<String>,
}

/// Returns the packages under `crates/`, by name.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(root.join("crates")).context("cannot list crates/")? {
        let manifest = entry?.path().join("Cargo.toml");
        if manifest.exists() {
            packages.push(package(&read(&manifest)?).with_context(|| manifest.display().to_string())?);
        }
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

/// Returns the minimum Rust version of the workspace, like `1.95`.
pub(crate) fn rust_version(root: &Path) -> Result<String> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let version =
        manifest.get("workspace").and_then(|w| w.get("package")).and_then(|p| p.get("rust-version"));
    Ok(version
        .and_then(Value::as_str)
        .context("Cargo.toml has no workspace.package.rust-version")?
        .to_owned())
}

fn package(manifest: &Table) -> Result<Package> {
    let name = manifest.get("package").and_then(|p| p.get("name")).and_then(Value::as_str);
    let features = manifest.get("features").and_then(Value::as_table);
    Ok(Package {
        name: name.context("no package.name")?.to_owned(),
        features: features.into_iter().flat_map(Table::keys).filter(|f| *f != "default").cloned().collect(),
    })
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_features_are_listed_without_default() {
        let text = "[package]\nname = \"p\"\n[features]\ndefault = [\"tls\"]\ntls = []\nh3 = []\n";
        let package = package(&text.parse().unwrap()).unwrap();
        assert_eq!((package.name.as_str(), package.features.len()), ("p", 2));
        assert!(!package.features.contains(&"default".to_owned()));
    }
}
