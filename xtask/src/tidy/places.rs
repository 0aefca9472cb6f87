//! Where a kind of line lives (STYLE.md, the where-table), as far as text shows it.
//!
//! Tests are free. Another file joins a row with the reason in the same commit.

use super::finding::Finding;
use super::tree::{Tree, is_product};

/// A kind of line and the files it may stand in.
struct Place {
    /// What such a line does, after "a line that".
    does: &'static str,
    /// What shows it.
    words: &'static [&'static str],
    /// Files, or folders when they end in a slash.
    allowed: &'static [&'static str],
    next: &'static str,
}

const PLACES: &[Place] = &[
    Place {
        does: "names a status code",
        words: &["StatusCode::"],
        allowed: &[
            "crates/hoist-proto/src/refusal.rs",
            "crates/hoist-proto/src/dialect.rs",
            "crates/hoist-proto/src/dialect/",
            // Connection-level ones: 400, 408, 431, 505 and 1xx.
            "crates/hoist-http/src/",
            // Reads back the status of an answer it stored; it names none itself.
            "crates/hoist-store/src/record.rs",
            // Answers of example uploads, in a suite of tests.
            "crates/hoist-store/src/contract.rs",
            // A target is an ordinary HTTP service, and these are its own answers.
            "crates/hoist-server/src/targets.rs",
            "crates/hoist-server/src/targets/",
            // Whether the server is ready is asked by a load balancer, in no dialect.
            "crates/hoist-server/src/discover.rs",
            // Fetching content is ordinary HTTP, in no dialect.
            "crates/hoist-server/src/download.rs",
        ],
        next: "answer with a Refusal or a Reply and let proto's refusal.rs or dialect/ spell it",
    },
    Place {
        does: "reads the clock",
        words: &["SystemTime::now", "Instant::now"],
        allowed: &[
            "crates/hoist-server/src/clock.rs",
            // When to try again what failed, and how long a step of a sweep took; a monotonic clock.
            "crates/hoist-server/src/backlog.rs",
            "crates/hoist-server/src/sweep.rs",
            // When a peer was last told how far it is; a monotonic clock, and no decision hangs on it.
            "crates/hoist-server/src/progress.rs",
            // When the health of the store was last checked; a monotonic clock.
            "crates/hoist-server/src/readiness.rs",
            "crates/hoist-client/src/clock.rs",
            // How long ago a file of credentials was looked at.
            "crates/hoist-server/src/auth/watched.rs",
            // How long a case took, for its report.
            "crates/hoist/src/check.rs",
            // Head, idle and rate limits belong to the connection.
            "crates/hoist-http/src/",
        ],
        next: "take the time as an argument",
    },
    Place {
        does: "prints or reads the environment",
        words: &["println!", "print!", "env::var"],
        allowed: &["crates/hoist/src/output.rs", "crates/hoist/src/config.rs", "crates/hoist/src/cli.rs"],
        next: "use hoist/src/output.rs to print, config.rs for the environment, tracing for logs",
    },
    Place {
        does: "spawns a task nobody owns",
        words: &["tokio::spawn", "tokio::task::spawn("],
        allowed: &[],
        next: "spawn on a TaskTracker or JoinSet whose owner awaits or aborts it",
    },
    Place {
        does: "promises code instead of being it",
        words: &["todo!", "unimplemented!"],
        allowed: &[],
        next: "write it, or return an error that says it is not supported",
    },
];

/// Finds product code that stands in the wrong file.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources().filter(|source| is_product(source.path)) {
        for place in PLACES.iter().filter(|place| !place.allows(source.path)) {
            for (number, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
                if let Some(word) = place.words.iter().find(|word| line.code.contains(**word)) {
                    let what = format!("a line that {} ({})", place.does, word.trim_end_matches(['(', ':']));
                    findings.push(Finding::failure(source.path, number + 1, what, place.next));
                }
            }
        }
    }
    findings
}

impl Place {
    fn allows(&self, path: &str) -> bool {
        self.allowed.iter().any(|a| *a == path || (a.ends_with('/') && path.starts_with(a)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|f| f.line).collect()
    }

    #[test]
    fn each_row_has_a_file_that_may_and_one_that_may_not() {
        let cases = [
            (
                "let s = StatusCode::OK;",
                "crates/hoist-proto/src/dialect/token.rs",
                "crates/hoist-server/src/hook.rs",
            ),
            (
                "let t = SystemTime::now();",
                "crates/hoist-server/src/clock.rs",
                "crates/hoist-server/src/claim.rs",
            ),
            ("let t = Instant::now();", "crates/hoist-http/src/h1.rs", "crates/hoist-store/src/fs.rs"),
            ("eprintln!(\"x\");", "crates/hoist/src/output.rs", "crates/hoist/src/cmd/serve.rs"),
            ("std::env::var(\"X\")", "crates/hoist/src/config.rs", "crates/hoist-client/src/http.rs"),
            ("tokio::spawn(x)", "crates/hoist-http/tests/it.rs", "crates/hoist-http/src/serve.rs"),
            ("todo!()", "xtask/src/main.rs", "crates/hoist/src/main.rs"),
        ];
        for (code, good, bad) in cases {
            assert_eq!(lines(good, code), [] as [usize; 0], "{code} in {good}");
            assert_eq!(lines(bad, code), [1], "{code} in {bad}");
        }
    }

    #[test]
    fn comments_strings_and_tests_are_free() {
        let path = "crates/hoist/src/cmd/put.rs";
        assert_eq!(lines(path, "// println!\nlet a = \"todo!\";\n/// tokio::spawn\n"), [] as [usize; 0]);
        assert_eq!(lines(path, "a();\n#[cfg(test)]\nmod tests {\n  println!();\n}\nprintln!();\n"), [6]);
    }
}
