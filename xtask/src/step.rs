//! Runs named steps in order, with timing, until the first failure.
//!
//! Knows nothing of the steps themselves.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A named step.
pub(crate) struct Step {
    /// The name, as taken by `--from`.
    pub(crate) name: &'static str,
    /// The action, run in the project's root.
    pub(crate) act: fn(&Path) -> Result<Outcome>,
}

/// The outcome of a successful step.
#[derive(Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Everything was checked.
    Passed,
    /// The step passed with a note for the summary, for example on what was not checked.
    Noted(String),
}

/// Runs `steps`, starting with the one named `from`, and prints the duration of each.
pub(crate) fn run(chore: &str, steps: &[Step], from: Option<&str>, root: &Path) -> Result<()> {
    let begin = match from {
        None => 0,
        Some(name) => match steps.iter().position(|step| step.name == name) {
            Some(at) => at,
            None => bail!("no step named {name}; there are: {}", names(steps)),
        },
    };
    let started = Instant::now();
    let mut summary = Vec::new();
    for step in &steps[begin..] {
        eprintln!("\n==> {chore}: {}", step.name);
        let clock = Instant::now();
        let outcome = (step.act)(root);
        let took = clock.elapsed();
        match outcome {
            Ok(outcome) => {
                eprintln!("<== {chore}: {} passed in {}", step.name, human(took));
                summary.push(line(step.name, took, &outcome));
            }
            Err(error) => {
                eprintln!("<== {chore}: {} FAILED after {}", step.name, human(took));
                bail!("{chore}: FAILED at {}: {error:#}", step.name);
            }
        }
    }
    eprintln!("\n{}", summary.join("\n"));
    eprintln!("{chore}: {} steps passed in {}", summary.len(), human(started.elapsed()));
    Ok(())
}

/// Returns the names of the steps, separated by spaces.
pub(crate) fn names(steps: &[Step]) -> String {
    steps.iter().map(|step| step.name).collect::<Vec<_>>().join(" ")
}

fn line(name: &str, took: Duration, outcome: &Outcome) -> String {
    let note = match outcome {
        Outcome::Passed => String::new(),
        Outcome::Noted(note) => format!("  ({note})"),
    };
    format!("  {name:<10} {:>8}{note}", human(took))
}

fn human(took: Duration) -> String {
    match took.as_secs() {
        seconds @ 0..60 => format!("{seconds}.{}s", took.subsec_millis() / 100),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: &[Step] = &[
        Step { name: "bad", act: |_| bail!("it rains") },
        Step { name: "good", act: |_| Ok(Outcome::Passed) },
    ];

    #[test]
    fn stops_at_the_first_failure_and_names_it() {
        let error = run("ci", STEPS, None, Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "ci: FAILED at bad: it rains");
    }

    #[test]
    fn starts_at_the_named_step() {
        assert!(run("ci", STEPS, Some("good"), Path::new(".")).is_ok());
        let error = run("ci", STEPS, Some("worse"), Path::new(".")).unwrap_err();
        assert_eq!(error.to_string(), "no step named worse; there are: bad good");
    }

    #[test]
    fn durations_are_formatted() {
        assert_eq!(human(Duration::from_millis(1250)), "1.2s");
        assert_eq!(human(Duration::from_secs(125)), "2m05s");
    }
}
