//! Tests of the requirement rule.

use super::*;

const DOCUMENT: (&str, &str) =
    ("docs/a.md", "# A\n\n## Creation\n\nIt answers. [TOK-CRE-01]\nLater. [TOK-IDX-01]\n");
const LISTED: &str = "[documents]\nTOK = \"docs/a.md\"\n\n[[requirement]]\nid = \"TOK-CRE-01\"\nwho = [\"S\"]\n\
    level = \"MUST\"\nsection = \"Creation\"\ntext = \"Answers.\"\nstate = \"done\"\n";
const PLANNED: &str = "[[requirement]]\nid = \"TOK-IDX-01\"\nwho = [\"S\"]\nlevel = \"MUST\"\n\
    section = \"Creation\"\ntext = \"Later.\"\nstate = \"planned\"\nwhy = \"with parts\"\n";
const CODE: (&str, &str) = ("crates/a/src/b.rs", "//! b\n//= TOK-CRE-01\nfn b() {}\n");
const TEST: (&str, &str) = ("crates/a/tests/it/b.rs", "// proves: TOK-CRE-01\n#[test]\nfn b() {}\n");

fn found(list: &str, files: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![(LIST, list), DOCUMENT];
    all.extend_from_slice(files);
    check(&Tree::of(&all)).iter().map(|f| format!("{}:{} {}", f.path, f.line, f.what)).collect()
}

#[test]
fn a_done_requirement_is_cited_and_proven() {
    assert_eq!(found(LISTED, &[CODE, TEST]), [] as [&str; 0]);
    assert_eq!(found(LISTED, &[TEST]), ["spec/requirements.toml:5 TOK-CRE-01 is done and cited nowhere"]);
    assert_eq!(found(LISTED, &[CODE]), ["spec/requirements.toml:5 TOK-CRE-01 is done and proven by no test"]);
}

#[test]
fn a_test_cites_nothing_and_a_case_proves() {
    let in_test = ("crates/a/src/c.rs", "//! c\n#[cfg(test)]\nmod tests {\n    //= TOK-CRE-01\n}\n");
    assert_eq!(found(LISTED, &[in_test, TEST]).len(), 1);
    let prose = ("crates/a/tests/it/b.rs", "// The first draft says nothing. proves: TOK-CRE-01\n");
    assert_eq!(found(LISTED, &[CODE, prose]), [] as [&str; 0]);
    let case = ("conformance/token/a.toml", "[[case]]\nname = \"a\"\nproves = [\"TOK-CRE-01\"]\n");
    assert_eq!(found(LISTED, &[CODE, case]), [] as [&str; 0]);
}

#[test]
fn an_unknown_id_is_found_where_it_stands() {
    let code = ("crates/a/src/c.rs", "//! c\n\n//= TOK-CRE-01, TOK-CRE-01a\n");
    assert_eq!(found(LISTED, &[code, TEST]), ["crates/a/src/c.rs:3 unknown requirement TOK-CRE-01a"]);
    let case = ("conformance/token/a.toml", "[[case]]\nproves = [\"TOK-NO-1\"]\n");
    assert_eq!(
        found(LISTED, &[CODE, TEST, case]),
        ["conformance/token/a.toml:2 unknown requirement TOK-NO-1"]
    );
}

#[test]
fn a_planned_requirement_that_is_fulfilled_is_done() {
    let list = format!("{LISTED}{PLANNED}");
    assert_eq!(found(&list, &[CODE, TEST]), [] as [&str; 0]);
    let code = ("crates/a/src/c.rs", "//! c\n//= TOK-IDX-01\n");
    let test = ("crates/a/tests/it/c.rs", "// proves: TOK-IDX-01\n");
    assert!(found(&list, &[CODE, TEST, code])[0].ends_with("is already cited"));
    assert!(
        found(&list, &[CODE, TEST, code, test])[0]
            .ends_with("TOK-IDX-01 is planned, and is cited and proven")
    );
}

#[test]
fn rows_are_well_formed_and_stated() {
    let bad = [
        (format!("{LISTED}{}", LISTED.split_once("\n\n").unwrap().1), "TOK-CRE-01 is listed twice"),
        (LISTED.replace("\"Creation\"", "\"Create\""), "TOK-CRE-01: its document has no section \"Create\""),
        (LISTED.replace("TOK =", "TDR ="), "TOK-CRE-01 has no document"),
        (LISTED.replace("Answers.", ""), "TOK-CRE-01 says nothing or binds nobody"),
        (format!("{LISTED}why = \"no\"\n"), "TOK-CRE-01: a planned requirement has a `why`, a done one none"),
    ];
    for (list, what) in bad {
        assert_eq!(
            found(&list, &[CODE, TEST]),
            [format!("spec/requirements.toml:{} {what}", line(&list))],
            "{list}"
        );
    }
    assert!(
        found(&LISTED.replace("\"MUST\"", "\"OUGHT\""), &[])[0]
            .starts_with("spec/requirements.toml:7 unknown variant")
    );
    assert_eq!(check(&Tree::of(&[CODE])).len(), 1);
}

/// Returns the line of the last id.
fn line(list: &str) -> usize {
    list.lines().enumerate().filter(|(_, line)| line.starts_with("id =")).last().unwrap().0 + 1
}

#[test]
fn counts_are_of_known_ids() {
    let list = format!("{LISTED}{PLANNED}");
    let stray = ("crates/a/src/c.rs", "//! c\n//= TOK-NO-1\n");
    let tree = Tree::of(&[(LIST, &list), DOCUMENT, CODE, TEST, stray]);
    let all = summary(&tree).lines().last().map(str::to_owned);
    assert_eq!(all.as_deref(), Some("requirements: 1 done, 1 planned, 1 cited, 1 proven"));
}
