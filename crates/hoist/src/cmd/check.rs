//! `hoist check`: runs the conformance corpus against a server.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;

use anyhow::Context as _;
use http::{HeaderValue, Uri};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::ask::{self, Signals, Told};
use crate::check::{self, Corpus, Found, NoAnswer, Pace, Report, Selection, Site};
use crate::cli::{Check, Connection};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(asked: &Check, output: Output) -> Result<Exit, Failure> {
    let corpus = Corpus::built_in().map_err(|bad| Failure::new(Exit::Failed, bad))?;
    if asked.list {
        return list(asked, &corpus, output);
    }
    let site = site(&asked.url, &asked.connection)?;
    ask::block_on(async {
        let mut signals = Signals::listen()?;
        let (found, told) =
            to_its_end(&mut signals, output, |_| check::probe(&site, asked.timeout.0)).await?;
        if let Some(told) = told {
            return Ok(told.exit());
        }
        let mut found = found.map_err(unanswered)?;
        found.offers.extend(asked.offers.iter().cloned());
        output.talk(format_args!("{site} speaks {}", spoken(&found)));
        let mut selection =
            Selection::found(found.clone(), &asked.interop(), &asked.dialects, &asked.transports);
        if selection.is_empty() {
            return Err(nothing_to_check(&site, asked));
        }
        selection.level = asked.level;
        selection.only.clone_from(&asked.only);
        output.talk(format_args!("checking {}", versions(&selection)));
        let pace = Pace { parallel: asked.parallel, patience: asked.timeout.0 };
        let cases = |stop| check::run_until(&site, &corpus, &selection, pace, stop);
        let (report, told) = to_its_end(&mut signals, output, cases).await?;
        say(&site, &found, &report, output);
        if let Some(file) = &asked.junit {
            write_junit(file, &report)?;
        }
        let (passed, failed, _) = report.counts();
        match (told, passed, failed) {
            (Some(told), _, _) => Ok(told.exit()),
            (None, _, 1..) => Ok(Exit::Nonconforming),
            (None, 0, 0) => {
                Err(Failure::say(Exit::Usage, "no case applies: widen --only, --level or --dialect"))
            }
            (None, _, 0) => Ok(Exit::Success),
        }
    })
}

/// Runs a task to its end, so that it deletes what it created. The first signal is passed to the task as the end of the
/// future it is made with, and returned with its result; the second one ends it at once.
async fn to_its_end<T, F: Future<Output = T>>(
    signals: &mut Signals,
    output: Output,
    task: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> Result<(T, Option<Told>), Failure> {
    let stop = Rc::new(Notify::new());
    let stopped = Rc::clone(&stop);
    let mut task = pin!(task(Box::pin(async move { stopped.notified().await })));
    let mut first = None;
    loop {
        tokio::select! {
            biased;
            told = signals.next() => {
                if first.replace(told).is_some() {
                    return Err(Failure::say(told.exit(), "interrupted; uploads of this check may be left on the server"));
                }
                output.talk("interrupted; what is running deletes its uploads first. A second signal ends it at once");
                stop.notify_one();
            }
            ended = &mut task => return Ok((ended, first)),
        }
    }
}

fn unanswered(error: NoAnswer) -> Failure {
    match error.into_client_error() {
        Ok(error) => ask::failure(error),
        Err(error) => Failure::new(Exit::Unreachable, error),
    }
}

/// The names of the cases that the flags select, each with its level and what it proves.
fn list(asked: &Check, corpus: &Corpus, output: Output) -> Result<Exit, Failure> {
    for case in corpus.listed() {
        let is_named = asked.only.as_ref().is_none_or(|only| case.name.contains(only));
        let is_wanted = asked.dialects.is_empty() || asked.dialects.contains(&case.dialect);
        if !is_named || !is_wanted || case.level < asked.level {
            continue;
        }
        let (dialect, level, name) = (case.dialect.name(), case.level.word(), case.name);
        let text = format!("{dialect:<6} {level:<6} {name} ({})", case.proves.join(", "));
        let json = json!({
            "dialect": dialect, "level": level, "case": name, "section": case.section, "proves": case.proves,
        });
        output.result(text, &json)?;
    }
    Ok(Exit::Success)
}

fn site(url: &Uri, connection: &Connection) -> Result<Site, Failure> {
    let site = Site::new(url, connection.ca.as_deref());
    let mut site = site.map_err(ask::failure)?;
    for (name, value) in &connection.headers {
        site = site.with_field(name, value);
    }
    if let Some(secret) = ask::bearer_of(connection)? {
        let value = HeaderValue::try_from(format!("Bearer {secret}"));
        let value = value.map_err(|_| Failure::say(Exit::Usage, "the bearer token is not visible ASCII"))?;
        site = site.with_field(&http::header::AUTHORIZATION, &value);
    }
    Ok(site)
}

fn nothing_to_check(site: &Site, asked: &Check) -> Failure {
    if asked.dialects.is_empty() && asked.transports.is_empty() {
        let why = "is it the upload URL, and does it want --bearer or --header?";
        return Failure::say(
            Exit::Nonconforming,
            format_args!("{site} answers, but creates no resumable upload in any dialect: {why}"),
        );
    }
    Failure::say(
        Exit::Nonconforming,
        format_args!("{site} speaks none of what was asked for: leave out --dialect, --interop or --http"),
    )
}

/// Formats the transports and versions of a server as one line.
fn spoken(found: &Found) -> String {
    let mut text =
        found.transports.iter().map(|transport| transport.title()).collect::<Vec<_>>().join(" and ");
    for dialect in check::Dialect::ALL {
        let labels: Vec<String> = labels(found, dialect);
        if !labels.is_empty() {
            let _ = write!(text, "; {} {}", dialect.name(), labels.join(", "));
        }
    }
    text
}

fn labels(found: &Found, dialect: check::Dialect) -> Vec<String> {
    let versions = found.versions.iter().filter(|version| version.dialect() == dialect);
    versions.map(|version| version.label()).collect()
}

fn versions(selection: &Selection) -> String {
    let chosen = selection.chosen().iter();
    chosen
        .map(|version| format!("{} {}", version.dialect().name(), version.label()))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Prints the report. The verdict stands if it cannot be printed.
fn say(site: &Site, found: &Found, report: &Report, output: Output) {
    let text = if output.is_colored() { report.colored().to_string() } else { report.to_string() };
    let mut json = report.json();
    json["url"] = site.to_string().into();
    json["server"] = server(found);
    output.report(text.trim_end(), &json);
}

fn server(found: &Found) -> Value {
    let dialects = check::Dialect::ALL.into_iter();
    let spoken = dialects.map(|dialect| (dialect.name().to_owned(), labels(found, dialect).into()));
    json!({
        "transports": found.transports.iter().map(|transport| transport.name()).collect::<Vec<_>>(),
        "dialects": spoken.collect::<serde_json::Map<_, _>>(),
        "limits": found.limits,
        "extensions": found.extensions,
        "missing": found.missing().collect::<Vec<_>>(),
    })
}

fn write_junit(file: &Path, report: &Report) -> Result<(), Failure> {
    let written = fs::write(file, report.junit().to_string());
    let written = written.with_context(|| format!("cannot write {}; --junit names it", file.display()));
    written.map_err(|error| Failure::new(Exit::File, error))
}
