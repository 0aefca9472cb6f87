//! The project's development tasks, run as `cargo xtask <task>`.
//!
//! Parses the command line; each task is a module. The crate depends on none of the product's crates.

// Tasks print to the terminal; the lints against printing are for the product.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod ci;
mod documents;
mod fuzz;
mod project;
mod shell;
mod step;
mod suite;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask <task>

  test [FILTER]        unit, black-box and documentation tests
  docs [DOCUMENT]      run the shell commands of README.md, docs/ and the crates' READMEs, in order, as printed
  tidy                 rules the compiler cannot check: dependencies, file sizes, requirement ids, places of code
  ci [--from STEP]     all checks that a change must pass; --from starts at a later step
  ci --list            list the steps
  fuzz [TARGET] [--seconds N] [--stable]
                       fuzz the decoders, ten seconds each by default
  bench [SCENARIO…] [--quick] [--before FILE] [--peers LIST]
                       measure hoist beside raw programs and other servers; --help lists all options";

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
        ["docs"] => documents::build_and_run(&root, None).map(drop),
        ["docs", document] => documents::build_and_run(&root, Some(document)).map(drop),
        ["tidy"] => tidy::run(&root),
        ["ci"] => ci::run(&root, None),
        ["ci", "--from", step] => ci::run(&root, Some(step)),
        ["ci", "--list"] => {
            ci::list();
            Ok(())
        }
        ["fuzz", options @ ..] => fuzz::run(&root, &fuzz::Options::parse(options)?),
        ["bench", options @ ..] => bench::run(&root, options),
        [] | ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("unknown task: {}\n\n{USAGE}", words.join(" ")),
    }
}
