//! Checks that certain kinds of code are only in certain files (STYLE.md, where-table).
//!
//! Tests are not restricted. A file is added to a row in the commit that needs it, with a reason.

use super::finding::Finding;
use super::tree::{Tree, is_product};

/// A kind of code, and the files that may contain it.
struct Place {
    /// The description, completing "a line that".
    does: &'static str,
    /// The texts that identify it.
    words: &'static [&'static str],
    /// Allowed files, or folders if they end in a slash.
    allowed: &'static [&'static str],
    next: &'static str,
}

const PLACES: &[Place] = &[
    Place {
        does: "names a status code",
        words: &["StatusCode::"],
        allowed: &[
            "crates/hoist-proto/src/refusal.rs",
            // A hook names the status of a response by its code.
            "crates/hoist-proto/src/amendment.rs",
            "crates/hoist-proto/src/dialect.rs",
            "crates/hoist-proto/src/dialect/",
            // Connection-level status codes: 400, 408, 431, 505 and 1xx.
            "crates/hoist-http/src/",
            // Reads the status of a stored response.
            "crates/hoist-store/src/record.rs",
            // Responses of example uploads in tests.
            "crates/hoist-store/src/contract.rs",
            // A target is an ordinary HTTP service with its own responses.
            "crates/hoist-server/src/targets.rs",
            "crates/hoist-server/src/targets/",
            // The readiness check for load balancers belongs to no dialect.
            "crates/hoist-server/src/discover.rs",
            "crates/hoist-server/src/readiness.rs",
            // The requests of operators belong to no dialect.
            "crates/hoist-server/src/admin/",
            "crates/hoist/src/cmd/admin/connection.rs",
            // Downloads are ordinary HTTP and belong to no dialect.
            "crates/hoist-server/src/download.rs",
        ],
        next: "answer with a Refusal or a Reply and let proto's refusal.rs or dialect/ spell it",
    },
    Place {
        does: "reads the clock",
        words: &["SystemTime::now", "Instant::now"],
        allowed: &[
            // The attempts of a webhook, and the times at which hooks learn of progress.
            "crates/hoist-server/src/hook/webhook.rs",
            "crates/hoist-server/src/hook_progress.rs",
            "crates/hoist-server/src/clock.rs",
            // Monotonic clock: retry times, and the duration of a sweep.
            "crates/hoist-server/src/backlog.rs",
            "crates/hoist-server/src/sweep.rs",
            // Monotonic clock: the times of the last progress response, and of the last sync in a pause.
            "crates/hoist-server/src/pause.rs",
            "crates/hoist-server/src/progress.rs",
            // Monotonic clock: the time of the last health check.
            "crates/hoist-server/src/readiness.rs",
            // Monotonic clock: the duration of a request, the rate of a transfer, the time for a page.
            "crates/hoist-server/src/meter.rs",
            "crates/hoist-server/src/stopwatch.rs",
            "crates/hoist-server/src/gauge.rs",
            "crates/hoist-server/src/operator/list.rs",
            // Monotonic clock: the times of attempts to deliver events, and the duration of each.
            "crates/hoist-server/src/outbox.rs",
            "crates/hoist-server/src/dispatch.rs",
            // Monotonic clock: the number of log lines in a second, and waiting for standard error.
            "crates/hoist/src/cmd/serve/log.rs",
            "crates/hoist/src/cmd/serve/log/writer.rs",
            "crates/hoist-client/src/clock.rs",
            // The time since a credentials file was checked.
            "crates/hoist-server/src/auth/watched.rs",
            // The duration of a case.
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
        does: "spawns a detached task",
        words: &["tokio::spawn", "tokio::task::spawn("],
        allowed: &[],
        next: "spawn on a TaskTracker or JoinSet whose owner awaits or aborts it",
    },
    Place {
        does: "is a placeholder",
        words: &["todo!", "unimplemented!"],
        allowed: &[],
        next: "implement it, or return an error for what is not supported",
    },
];

/// Returns a finding for each line of product code in a wrong file.
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
    fn each_row_allows_some_files_and_forbids_others() {
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
    fn comments_strings_and_tests_are_ignored() {
        let path = "crates/hoist/src/cmd/put.rs";
        assert_eq!(lines(path, "// println!\nlet a = \"todo!\";\n/// tokio::spawn\n"), [] as [usize; 0]);
        assert_eq!(lines(path, "a();\n#[cfg(test)]\nmod tests {\n  println!();\n}\nprintln!();\n"), [6]);
    }
}
