//! `cargo xtask bench`: builds hoist and the benchmarks, and runs them.

use std::path::Path;

use anyhow::Result;

use crate::shell::Shell;

/// The option with which the benchmarks only check that they work.
const SMOKE: &str = "--smoke";

/// Runs the benchmarks with these options.
pub(crate) fn run(root: &Path, options: &[&str]) -> Result<()> {
    // Built one after the other: in one build, the features that one needs would change the other.
    let profile: &[&str] = if options.contains(&SMOKE) { &[] } else { &["--release"] };
    for words in [["build", "-p", "hoist"], ["build", "-p", "hoist-bench"]] {
        Shell::cargo(root).args(words).args(["--locked", "--quiet"]).args(profile).run()?;
    }
    let words = ["run", "-p", "hoist-bench", "--locked", "--quiet"];
    Shell::cargo(root).args(words).args(profile).args(["--"]).args(options).run()
}

/// Checks that the benchmarks work.
pub(crate) fn smoke(root: &Path) -> Result<()> {
    run(root, &[SMOKE])
}
