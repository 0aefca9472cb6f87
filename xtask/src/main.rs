//! The project's own chores, run as `cargo xtask <chore>`.
//!
//! This file owns the words of the command line. What a chore does is in the module of its name; the crate is
//! outside the product graph and depends on nothing of it.

// A chore talks to the person who started it; the product's rule about printing is about the product.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ci;
mod fuzz;
mod project;
mod shell;
mod step;
mod suite;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <chore>

  test [FILTER]        unit, black-box and documentation tests
  tidy                 what the compiler cannot check: arrows, sizes, requirement ids, the where-table
  ci [--from STEP]     everything a change must pass; --from starts at a later step
  ci --list            the names of the steps
  fuzz [TARGET] [--seconds N] [--stable]
                       each decoder against hostile bytes, ten seconds each unless told otherwise";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    let root = project::root();
    match words {
        ["test"] => suite::run(&root, None),
        ["test", filter] if !filter.starts_with('-') => suite::run(&root, Some(filter)),
        ["tidy"] => tidy::run(&root),
        ["ci"] => ci::run(&root, None),
        ["ci", "--from", step] => ci::run(&root, Some(step)),
        ["ci", "--list"] => {
            ci::list();
            Ok(())
        }
        ["fuzz", options @ ..] => fuzz::run(&root, &fuzz::Options::parse(options)?),
        [] | ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown chore: {}\n\n{USAGE}", words.join(" ")),
    }
}
