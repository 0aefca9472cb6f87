//! `cargo xtask tidy`: checks the rules of STYLE.md that a program can check.
//!
//! Each module is one rule: a pure function from the tree to findings. This file reads the tree, runs the rules and
//! prints the findings.

mod arrows;
mod cycles;
mod finding;
mod layout;
mod lexer;
mod manifests;
mod map;
mod places;
mod prose;
mod requirements;
mod test_habits;
mod tree;

use std::path::Path;

use anyhow::{Result, bail};
use finding::{Finding, Weight};
use tree::Tree;

/// A rule and its name in the output.
type Rule = (&'static str, fn(&Tree) -> Vec<Finding>);

const RULES: &[Rule] = &[
    ("arrows", arrows::check),
    ("cycles", cycles::check),
    ("layout", layout::check),
    ("manifests", manifests::check),
    ("map", map::check),
    ("places", places::check),
    ("prose", prose::check),
    ("tests", test_habits::check),
    ("requirements", requirements::check),
];

/// Runs all rules on the checkout at `root`. Warnings are printed; any other finding is a failure.
pub(crate) fn run(root: &Path) -> Result<()> {
    let tree = Tree::read(root)?;
    let mut failures = 0;
    for (name, rule) in RULES {
        for finding in rule(&tree) {
            println!("{finding} [{name}]");
            failures += usize::from(finding.weight == Weight::Failure);
        }
    }
    println!("{}", requirements::summary(&tree));
    if failures > 0 {
        bail!("tidy: {failures} findings");
    }
    println!("tidy: {} files, nothing found", tree.len());
    Ok(())
}
