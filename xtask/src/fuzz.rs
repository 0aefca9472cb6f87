//! `cargo xtask fuzz`: fuzzes every decoder.
//!
//! Two engines run the targets of the `fuzz` crate: libFuzzer, which is guided by coverage and needs a nightly compiler
//! and cargo-fuzz, and the crate's own seeded mutator, which needs neither.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell::{Shell, has_cargo_tool, need_cargo_tool};

const NIGHTLY: &str = "nightly";

/// The options of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    /// A single target; `None` for all.
    target: Option<String>,
    /// The time per target.
    seconds: u32,
    /// True to use the stable compiler only.
    stable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { target: None, seconds: 10, stable: false }
    }
}

impl Options {
    /// Parses `[TARGET] [--seconds N] [--stable]`.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--stable" => options.stable = true,
                "--seconds" => {
                    let seconds = words.next().context("--seconds needs a number")?;
                    options.seconds = seconds.parse().with_context(|| format!("not a number: {seconds}"))?;
                }
                flag if flag.starts_with('-') => bail!("fuzz has no {flag}; it has --seconds N and --stable"),
                target => options.target = Some(target.to_owned()),
            }
        }
        Ok(options)
    }
}

/// The fuzzing engine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Engine {
    LibFuzzer,
    Mutator,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LibFuzzer => "libFuzzer on nightly",
            Self::Mutator => "seeded mutator on stable",
        })
    }
}

/// Fuzzes and prints the engine used.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let engine = each(root, options)?;
    eprintln!("fuzz: no findings ({engine})");
    Ok(())
}

/// Fuzzes the chosen targets. The error names the first target with a finding.
pub(crate) fn each(root: &Path, options: &Options) -> Result<Engine> {
    let all = targets(root)?;
    let chosen: Vec<&String> =
        all.iter().filter(|name| options.target.as_ref().is_none_or(|t| t == *name)).collect();
    if chosen.is_empty() {
        bail!("no such target; there are: {}", all.join(" "));
    }
    locked(root)?;
    let engine = if options.stable { Engine::Mutator } else { available(root) };
    eprintln!("    engine: {engine}, {} s for each of {} targets", options.seconds, chosen.len());
    for target in chosen {
        match engine {
            Engine::LibFuzzer => lib_fuzzer(root, target, options.seconds)?,
            Engine::Mutator => mutator(root, target, options.seconds)?,
        }
    }
    Ok(engine)
}

/// Checks the lock file of the fuzz crate, which becomes outdated when a crate gains a dependency.
fn locked(root: &Path) -> Result<()> {
    Shell::cargo(root)
        .args(["fetch", "--locked", "--quiet", "--manifest-path", "fuzz/Cargo.toml"])
        .run()
        .context("when fuzz/Cargo.lock is behind: cargo update --workspace --manifest-path fuzz/Cargo.toml")
}

/// Returns libFuzzer if a nightly compiler is installed and cargo-fuzz is or can be installed. Never installs a
/// toolchain.
fn available(root: &Path) -> Engine {
    if Shell::cargo_of(NIGHTLY, root).args(["--version"]).output().is_none() {
        eprintln!("    no nightly compiler here");
        return Engine::Mutator;
    }
    if !has_cargo_tool("fuzz", root) && need_cargo_tool("fuzz", root).is_err() {
        eprintln!("    cargo-fuzz cannot be had here");
        return Engine::Mutator;
    }
    Engine::LibFuzzer
}

fn lib_fuzzer(root: &Path, target: &str, seconds: u32) -> Result<()> {
    // New inputs go to the first directory, which git ignores; the seeds are only read.
    let corpus = root.join("fuzz/corpus").join(target);
    fs::create_dir_all(&corpus)?;
    Shell::cargo_of(NIGHTLY, root)
        .args(["fuzz", "run", "--fuzz-dir", "fuzz", "--features", "libfuzzer", target])
        .args([corpus, root.join("fuzz/seeds").join(target)])
        .args(["--", &format!("-max_total_time={seconds}"), "-max_len=65536", "-timeout=10", "-verbosity=0"])
        .run()
        .with_context(|| format!("{target} fell; the input is under fuzz/artifacts/{target}/"))
}

fn mutator(root: &Path, target: &str, seconds: u32) -> Result<()> {
    Shell::cargo(root)
        .args(["run", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--bin", "mutate", "--"])
        .args([target, &seconds.to_string()])
        .run()
        .with_context(|| format!("{target} fell; the seed and the input are shown above"))
}

/// Returns the targets, the files of `fuzz/fuzz_targets/`.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets")).context("cannot list fuzz/fuzz_targets/")? {
        if let Some(name) = entry?.file_name().to_str().and_then(|file| file.strip_suffix(".rs")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_any_order() {
        let wanted = Options { target: Some("h1_head".to_owned()), seconds: 3, stable: true };
        assert_eq!(Options::parse(&["--stable", "h1_head", "--seconds", "3"]).unwrap(), wanted);
        assert_eq!(Options::parse(&[]).unwrap(), Options::default());
        assert!(Options::parse(&["--seconds"]).is_err());
        assert!(Options::parse(&["--fast"]).is_err());
    }
}
