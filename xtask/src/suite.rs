//! `cargo xtask test`: all test suites, fastest first. Needs only Rust.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Result;

use crate::documents;
use crate::shell::{Shell, has_cargo_tool};
use crate::step::{self, Outcome, Step};

/// The suites. Each gets the filter and may ignore it.
pub(crate) const SUITES: &[Step] = &[
    Step { name: "fetch", act: fetch },
    Step { name: "tests", act: tests },
    Step { name: "doctests", act: doctests },
    Step { name: "docs", act: docs },
];

/// The names of the Chromium executable, as the tests look for it.
pub(crate) const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Programs that tests run, each under one of these names: third-party clients, shells, readers of manual pages.
const PROGRAMS: &[&[&str]] =
    &[&["node"], &["npm"], &["python3"], BROWSERS, &["bash"], &["zsh"], &["fish"], &["man"]];

static FILTER: OnceLock<String> = OnceLock::new();

/// Runs all suites, or the tests whose name contains `filter`.
pub(crate) fn run(root: &Path, filter: Option<&str>) -> Result<()> {
    if let Some(filter) = filter {
        FILTER.get_or_init(|| filter.to_owned());
    }
    step::run("test", SUITES, None, root)
}

fn filter() -> Option<&'static str> {
    FILTER.get().map(String::as_str)
}

/// Returns the version of the first installed program.
pub(crate) fn version(names: &[&str], root: &Path) -> Option<String> {
    let version = names.iter().find_map(|name| Shell::new(name, root).args(["--version"]).output())?;
    Some(version.trim().to_owned())
}

/// Downloads the locked dependencies, so that a missing network shows before the build.
fn fetch(root: &Path) -> Result<Outcome> {
    if Shell::cargo(root).args(["fetch", "--locked", "--offline", "--quiet"]).output().is_none() {
        Shell::cargo(root).args(["fetch", "--locked"]).run()?;
    }
    Ok(Outcome::Passed)
}

fn tests(root: &Path) -> Result<Outcome> {
    for names in PROGRAMS.iter().filter(|names| version(names, root).is_none()) {
        eprintln!("    there is no {}: NOT tested with it", names[0]);
    }
    if has_cargo_tool("nextest", root) {
        let words = ["nextest", "run", "--workspace", "--all-features", "--locked"];
        Shell::cargo(root).args(words).args(filter()).run()?;
        return Ok(Outcome::Noted("cargo nextest".to_owned()));
    }
    eprintln!("    cargo-nextest is not installed: `cargo test` instead, slower and no less strict");
    let words = ["test", "--workspace", "--all-features", "--locked", "--tests"];
    Shell::cargo(root).args(words).args(filter()).run()?;
    Ok(Outcome::Noted("cargo test".to_owned()))
}

/// Runs the commands of the documents, unless a filter selects tests. The program was built with the tests.
fn docs(root: &Path) -> Result<Outcome> {
    if filter().is_some() { Ok(Outcome::Passed) } else { documents::run(root, None) }
}

/// Runs the documentation tests, which nextest does not run.
fn doctests(root: &Path) -> Result<Outcome> {
    let words = ["test", "--workspace", "--all-features", "--locked", "--doc"];
    Shell::cargo(root).args(words).args(filter()).run()?;
    Ok(Outcome::Passed)
}
