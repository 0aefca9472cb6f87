//! Checks tests (STYLE.md, Tests): none is ignored, and none sleeps unless the clock is paused.

use super::finding::Finding;
use super::lexer::Line;
use super::tree::Tree;

/// The comment that permits a sleep.
const EXCUSE: &str = "// time itself is tested:";

/// Returns findings for ignored tests, and for sleeps in tests under `crates/` and `xtask/`.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in tree.sources() {
        for (number, line) in source.lines.iter().enumerate() {
            if line.code.contains("#[ignore") {
                let next = "assert today's behaviour with a FIXME that says why it is wrong";
                findings.push(Finding::failure(source.path, number + 1, "an ignored test", next));
            }
            if line.test && sleeps(&line.code) && !is_excused(&source.lines, number) {
                let next = format!(
                    "wait for a condition, pause the clock, or write `{EXCUSE} why` on the line before"
                );
                findings.push(Finding::failure(source.path, number + 1, "a test that sleeps", next));
            }
            if line.test && ["todo!", "unimplemented!"].iter().any(|word| line.code.contains(word)) {
                findings.push(Finding::failure(source.path, number + 1, "an unwritten test", "write it"));
            }
        }
    }
    findings
}

fn sleeps(code: &str) -> bool {
    ["thread::sleep", "time::sleep"].iter().any(|word| code.contains(word))
        && !code.trim_start().starts_with("use ")
}

fn is_excused(lines: &[Line], number: usize) -> bool {
    let said = number > 0 && lines[number - 1].comment.starts_with(EXCUSE);
    // With a paused clock, sleeping is deterministic and takes no time.
    let attribute =
        lines[..number].iter().rev().find(|line| line.code.contains("test]") || line.code.contains("test("));
    said || attribute.is_some_and(|line| line.code.contains("start_paused = true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn no_test_is_ignored() {
        assert_eq!(found("crates/a/tests/it/b.rs", "#[test]\nfn a() {}\n"), 0);
        assert_eq!(found("crates/a/tests/it/b.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n"), 1);
        assert_eq!(found("crates/a/tests/it/b.rs", "fn a() { todo!() }\n"), 1);
    }

    #[test]
    fn no_test_sleeps_without_a_reason() {
        let sleep = "tokio::time::sleep(x).await;\n";
        assert_eq!(found("crates/a/tests/it/b.rs", sleep), 1);
        assert_eq!(found("crates/a/src/b.rs", &format!("#[cfg(test)]\nmod tests {{\n{sleep}}}\n")), 1);
        assert_eq!(found("crates/a/src/b.rs", sleep), 0);
        let in_test = |attribute: &str| format!("#[tokio::test{attribute}]\nasync fn a() {{\n{sleep}}}\n");
        assert_eq!(found("crates/a/tests/it/b.rs", &in_test("")), 1);
        assert_eq!(found("crates/a/tests/it/b.rs", &in_test("(start_paused = true)")), 0);
        assert_eq!(found("crates/a/tests/it/b.rs", &format!("// time itself is tested: expiry\n{sleep}")), 0);
    }
}
