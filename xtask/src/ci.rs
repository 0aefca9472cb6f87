//! `cargo xtask ci`: all checks that a change must pass, fastest first.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::shell::{self, Shell};
use crate::step::{self, Outcome, Step};
use crate::{bench, fuzz, project, suite, tidy};

const STEPS: &[Step] = &[
    Step { name: "fmt", act: fmt },
    Step { name: "tidy", act: |root| tidy::run(root).map(|()| Outcome::Passed) },
    Step { name: "clippy", act: clippy },
    Step { name: "programs", act: |root| Ok(programs(root)) },
    Step { name: "test", act: |root| suite::run(root, None).map(|()| Outcome::Passed) },
    Step { name: "bench", act: |root| bench::smoke(root).map(|()| Outcome::Passed) },
    Step { name: "doc", act: doc },
    Step { name: "features", act: features },
    Step { name: "msrv", act: msrv },
    Step { name: "deny", act: deny },
    Step { name: "fuzz", act: fuzz },
];

/// The time limit for fetching the advisory database.
const ADVISORIES_WAIT: Duration = Duration::from_secs(90);

/// Runs the steps, starting with `from`.
pub(crate) fn run(root: &Path, from: Option<&str>) -> Result<()> {
    step::run("ci", STEPS, from, root)
        .map_err(|error| anyhow!("{error:#}; mended, `cargo xtask ci --from STEP` starts again there"))
}

/// Prints the names of the steps.
pub(crate) fn list() {
    println!("{}", step::names(STEPS));
}

fn fmt(root: &Path) -> Result<Outcome> {
    shell::need_component("rustfmt", "fmt", root)?;
    Shell::cargo(root).args(["fmt", "--all", "--check"]).run()?;
    // These are separate workspaces, which `--all` does not reach.
    for manifest in ["fuzz/Cargo.toml", "crates/hoist/tests/rust-client/Cargo.toml"] {
        Shell::cargo(root).args(["fmt", "--manifest-path", manifest, "--check"]).run()?;
    }
    Ok(Outcome::Passed)
}

fn clippy(root: &Path) -> Result<Outcome> {
    shell::need_component("clippy", "clippy", root)?;
    let words =
        ["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"];
    Shell::cargo(root).args(words).run()?;
    // A separate workspace; its dependencies on ours were checked above.
    let words =
        ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--no-deps", "--locked", "--", "-D", "warnings"];
    Shell::cargo(root).args(words).run()?;
    Ok(Outcome::Passed)
}

/// The programs that tests run and CI installs: the names of the executable, and the Debian package.
const INSTALLED: &[(&[&str], &str)] = &[
    (suite::BROWSERS, "chromium"),
    (&["zsh"], "zsh"),
    (&["fish"], "fish"),
    (&["mandoc"], "mandoc"),
    (&["man"], "man-db"),
    (&["systemd-analyze"], "systemd"),
    (&["promtool"], "prometheus"),
];

/// Installs the programs that tests run, if they are missing and can be installed.
fn programs(root: &Path) -> Outcome {
    let is_missing = |names: &[&str]| !names.iter().any(|name| shell::is_in_path(name));
    let missing = || INSTALLED.iter().filter(|(names, _)| is_missing(names)).map(|(_, package)| *package);
    let can_install = shell::can_install(root);
    for package in missing().filter(|_| can_install) {
        if let Err(error) = shell::install(package, root) {
            eprintln!("    {package} cannot be installed: {error:#}");
        }
    }
    let left: Vec<_> = missing().collect();
    if left.is_empty() {
        return Outcome::Passed;
    }
    let left = left.join(", ");
    eprintln!("    without {left}: NOT tested with what is missing");
    Outcome::Noted(format!("without {left}"))
}

fn doc(root: &Path) -> Result<Outcome> {
    let words = ["doc", "--workspace", "--no-deps", "--all-features", "--locked"];
    Shell::cargo(root).args(words).env("RUSTDOCFLAGS", "-Dwarnings").run()?;
    Ok(Outcome::Passed)
}

/// Builds each crate on its own, without features and with each single one. The build of the workspace unifies features
/// and hides missing ones.
fn features(root: &Path) -> Result<Outcome> {
    let mut builds = 0;
    for package in project::packages(root)? {
        let check = ["check", "--locked", "--quiet", "--no-default-features", "-p", &package.name];
        Shell::cargo(root).args(check).run()?;
        for feature in &package.features {
            Shell::cargo(root).args(check).args(["--features", feature]).run()?;
        }
        builds += 1 + package.features.len();
    }
    Ok(Outcome::Noted(format!("{builds} combinations")))
}

/// Builds with the minimum Rust version of `Cargo.toml`.
fn msrv(root: &Path) -> Result<Outcome> {
    let promised = project::rust_version(root)?;
    let ours = Shell::new("rustc", root).args(["--version"]).output().context("no rustc")?;
    if ours.starts_with(&format!("rustc {promised}.")) {
        return Ok(Outcome::Noted(format!("the toolchain in use is {promised}, all steps ran on it")));
    }
    let installed = |toolchain: &str| Shell::cargo_of(toolchain, root).args(["--version"]).output().is_some();
    if !installed(&promised) {
        let install = ["toolchain", "install", &promised, "--profile", "minimal"];
        Shell::new("rustup", root)
            .args(install)
            .run()
            .with_context(|| format!("rust {promised} is needed"))?;
    }
    Shell::cargo_of(&promised, root).args(["check", "--workspace", "--all-features", "--locked"]).run()?;
    Ok(Outcome::Noted(format!("checked with {promised}")))
}

fn deny(root: &Path) -> Result<Outcome> {
    shell::need_cargo_tool("deny", root)?;
    let check = ["deny", "--workspace", "--all-features", "--locked", "check"];
    Shell::cargo(root).args(check).args(["bans", "licenses", "sources"]).run()?;
    // Without a network, advisories are not checked and a note is printed.
    if !Shell::cargo(root).args(["deny", "fetch", "db"]).succeeds_within(ADVISORIES_WAIT)? {
        eprintln!("    the advisory database cannot be reached from here: advisories NOT checked");
        return Ok(Outcome::Noted("advisories not checked: database not reachable".to_owned()));
    }
    Shell::cargo(root)
        .args(["deny", "--workspace", "--all-features", "--locked", "--offline"])
        .args(["check", "advisories"])
        .run()?;
    Ok(Outcome::Noted("advisories checked".to_owned()))
}

fn fuzz(root: &Path) -> Result<Outcome> {
    fuzz::each(root, &fuzz::Options::default()).map(|engine| Outcome::Noted(engine.to_string()))
}
