//! Checks requirement ids: each requirement in `spec/requirements.toml` is cited by code, proven by a test and stated
//! in its document, and only listed ids are cited.
//!
//! `//= ID` is written above the code that fulfils a requirement, `// proves: ID` above a test or at the end of a
//! comment above it, and `proves = ["ID"]` in a conformance case. Multiple ids are separated by commas or spaces.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::{Spanned, Table, Value};

use super::finding::Finding;
use super::tree::{self, Tree, is_product};

const LIST: &str = "spec/requirements.toml";
const CITES: &str = "//=";
const PROVES: &str = "proves:";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// Maps the first word of an id to its document.
    #[serde(default)]
    documents: BTreeMap<String, String>,
    #[serde(default)]
    requirement: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    id: Spanned<String>,
    who: Vec<Who>,
    #[expect(dead_code, reason = "for readers; parsed so that a misspelt level is refused")]
    level: Level,
    section: String,
    text: String,
    state: State,
    #[serde(default)]
    why: Option<String>,
}

#[derive(Deserialize)]
enum Who {
    #[serde(rename = "S")]
    Server,
    #[serde(rename = "C")]
    Client,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Level {
    Must,
    #[serde(rename = "MUST NOT")]
    MustNot,
    Should,
    #[serde(rename = "SHOULD NOT")]
    ShouldNot,
    May,
    /// A decision of this project, where the documents are silent.
    Own,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum State {
    Done,
    Planned,
}

/// The location of an id.
struct Mention {
    id: String,
    path: String,
    line: usize,
}

/// Returns findings for unknown ids and for requirements without citation or proof.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(LIST) else {
        return vec![Finding::failure(LIST, 1, "missing", "list the requirements of the protocol there")];
    };
    let list: List = match toml::from_str(text) {
        Ok(list) => list,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            return vec![Finding::failure(LIST, line, error.message().replace('\n', " "), "mend it")];
        }
    };
    let (cited, proven) = (citations(tree), proofs(tree));
    let mut findings = form(tree, text, &list);
    let known: BTreeSet<&str> = list.requirement.iter().map(|r| r.id.get_ref().as_str()).collect();
    for mention in cited.iter().chain(&proven).filter(|mention| !known.contains(mention.id.as_str())) {
        let what = format!("unknown requirement {}", mention.id);
        findings.push(Finding::failure(
            &mention.path,
            mention.line,
            what,
            format!("mend the id or add it to {LIST}"),
        ));
    }
    let (cited, proven) = (ids(&cited), ids(&proven));
    for requirement in &list.requirement {
        let line = line_at(text, requirement.id.span().start);
        findings.extend(fulfilment(requirement, line, &cited, &proven));
    }
    findings
}

/// Returns a line of counts per document, and one for all.
pub(crate) fn summary(tree: &Tree) -> String {
    let list = tree.text(LIST).and_then(|text| toml::from_str::<List>(text).ok());
    let requirements = list.map(|list| list.requirement).unwrap_or_default();
    let (cited, proven) = (citations(tree), proofs(tree));
    let (cited, proven) = (ids(&cited), ids(&proven));
    let counts = |name: &str, of: &[&Requirement]| {
        let count = |is: &dyn Fn(&&&Requirement) -> bool| of.iter().filter(is).count();
        let done = count(&|r| r.state == State::Done);
        format!(
            "{name}: {done} done, {} planned, {} cited, {} proven",
            of.len() - done,
            count(&|r| cited.contains(r.id.get_ref().as_str())),
            count(&|r| proven.contains(r.id.get_ref().as_str())),
        )
    };
    let mut kinds: BTreeMap<&str, Vec<&Requirement>> = BTreeMap::new();
    for requirement in &requirements {
        kinds.entry(first_word(requirement.id.get_ref())).or_default().push(requirement);
    }
    let all: Vec<_> = requirements.iter().collect();
    let kinds = kinds.iter().map(|(kind, of)| counts(kind, of));
    kinds.chain([counts("requirements", &all)]).collect::<Vec<_>>().join("\n")
}

/// Returns the first word of an id, which identifies its document.
fn first_word(id: &str) -> &str {
    id.split(['-', '.']).next().unwrap_or(id)
}

/// Checks that the state of a requirement agrees with code and tests.
fn fulfilment(
    requirement: &Requirement,
    line: usize,
    cited: &BTreeSet<&str>,
    proven: &BTreeSet<&str>,
) -> Vec<Finding> {
    let id = requirement.id.get_ref();
    let (is_cited, is_proven) = (cited.contains(id.as_str()), proven.contains(id.as_str()));
    let mut findings = Vec::new();
    match requirement.state {
        State::Done => {
            if !is_cited {
                let next = format!("write `{CITES} {id}` above the code that fulfils it, or mark it planned");
                findings.push(Finding::failure(LIST, line, format!("{id} is done and cited nowhere"), next));
            }
            if !is_proven {
                let next =
                    format!("write `// {PROVES} {id}` above the test that shows it, or mark it planned");
                findings.push(Finding::failure(
                    LIST,
                    line,
                    format!("{id} is done and proven by no test"),
                    next,
                ));
            }
        }
        State::Planned if is_cited && is_proven => {
            let what = format!("{id} is planned, and is cited and proven");
            findings.push(Finding::failure(LIST, line, what, "mark it done"));
        }
        State::Planned if is_cited || is_proven => {
            let what =
                format!("{id} is planned, and is already {}", if is_cited { "cited" } else { "proven" });
            findings.push(Finding::warning(
                LIST,
                line,
                what,
                "mark it done when it is both cited and proven",
            ));
        }
        State::Planned => {}
    }
    findings
}

/// Checks that each row is well formed and stated in its document.
fn form(tree: &Tree, text: &str, list: &List) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for requirement in &list.requirement {
        let id = requirement.id.get_ref();
        let line = line_at(text, requirement.id.span().start);
        let mut fail = |what: String, next: &str| findings.push(Finding::failure(LIST, line, what, next));
        if !seen.insert(id) {
            fail(format!("{id} is listed twice"), "join the two rows");
        }
        if requirement.who.is_empty() || requirement.text.trim().is_empty() {
            fail(format!("{id} says nothing or binds nobody"), "fill in who and text");
        }
        if (requirement.state == State::Planned) != requirement.why.is_some() {
            fail(
                format!("{id}: a planned requirement has a `why`, a done one none"),
                "say what it waits for",
            );
        }
        let document = list.documents.get(first_word(id));
        match document.and_then(|path| tree.text(path)) {
            None => fail(format!("{id} has no document"), "name it under [documents] by the id's first word"),
            Some(document) => {
                if !document.lines().any(|line| line.trim_start_matches('#').trim() == requirement.section) {
                    fail(
                        format!("{id}: its document has no section {:?}", requirement.section),
                        "mend the name",
                    );
                }
                if !mentions(document, id) {
                    fail(
                        format!("{id} is not in its document"),
                        "put it in brackets behind the sentence it names",
                    );
                }
            }
        }
    }
    findings
}

/// Collects the ids above product code.
fn citations(tree: &Tree) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for source in tree.sources().filter(|source| is_product(source.path)) {
        for (number, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
            let ids = line.comment.strip_prefix(CITES);
            mentions.extend(mentioned(ids.unwrap_or_default(), source.path, number + 1));
        }
    }
    mentions
}

/// Collects the ids above tests and in conformance cases.
fn proofs(tree: &Tree) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for source in tree.sources().filter(|source| source.path.starts_with("crates/")) {
        for (number, line) in source.lines.iter().enumerate() {
            let prose = line.comment.strip_prefix("// ").and_then(|comment| comment.split_once(PROVES));
            let ids =
                prose.filter(|(before, _)| before.is_empty() || before.ends_with(' ')).map(|(_, ids)| ids);
            mentions.extend(mentioned(ids.unwrap_or_default(), source.path, number + 1));
        }
    }
    let is_case = |path: &str| path.starts_with("conformance/") && tree::is_toml(path);
    for (path, text) in tree.files().filter(|(path, _)| is_case(path)) {
        let mut ids = Vec::new();
        if let Ok(table) = text.parse::<Table>() {
            proves(&Value::Table(table), &mut ids);
        }
        mentions.extend(ids.into_iter().map(|id| {
            let line = text.lines().position(|line| mentions_word(line, &id)).map_or(1, |at| at + 1);
            Mention { id, path: path.to_owned(), line }
        }));
    }
    mentions
}

/// Collects the strings of every `proves` in a conformance file.
fn proves(value: &Value, ids: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| proves(item, ids)),
        Value::Table(table) => {
            for (key, value) in table {
                match value.as_array() {
                    Some(items) if key == "proves" => {
                        ids.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => proves(value, ids),
                }
            }
        }
        _ => {}
    }
}

fn mentioned(ids: &str, path: &str, line: usize) -> Vec<Mention> {
    let ids = ids.split([',', ' ']).filter(|id| !id.is_empty());
    ids.map(|id| Mention { id: id.to_owned(), path: path.to_owned(), line }).collect()
}

fn ids(mentions: &[Mention]) -> BTreeSet<&str> {
    mentions.iter().map(|mention| mention.id.as_str()).collect()
}

fn mentions(document: &str, id: &str) -> bool {
    document.lines().any(|line| mentions_word(line, id))
}

/// Returns whether `line` contains `id` as a whole word: `TOK-CRE-03a` does not contain `TOK-CRE-03`.
fn mentions_word(line: &str, id: &str) -> bool {
    let within = |char: char| char.is_ascii_alphanumeric() || char == '-';
    line.match_indices(id)
        .any(|(at, _)| !line[..at].ends_with(within) && !line[at + id.len()..].starts_with(within))
}

fn line_at(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

#[cfg(test)]
mod tests;
