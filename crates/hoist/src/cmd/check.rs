//! `hoist check`: runs the conformance corpus against a server.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;

use anyhow::Context as _;
use hoist_client::Quoted;
use http::{HeaderValue, Uri};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::client;
use super::stop_signal::{StopSignal, StopSignals};
use crate::check::{self, Capabilities, Corpus, Endpoint, ProbeError, Report, RunOptions, Selection};
use crate::cli::{Check, ConnectionArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) fn run(args: &Check, output: Output) -> Result<Exit, Failure> {
    let corpus = Corpus::built_in().map_err(|bad| Failure::new(Exit::Failed, bad))?;
    if args.list {
        return list(args, &corpus, output);
    }
    let endpoint = endpoint(&args.url, &args.connection)?;
    client::block_on(async {
        let mut signals = StopSignals::listen()?;
        let (found, stopped_by) =
            run_to_end(&mut signals, output, |_| check::probe(&endpoint, args.timeout.0)).await?;
        if let Some(signal) = stopped_by {
            return Ok(signal.exit());
        }
        let mut found = match found {
            Ok(found) => found,
            Err(error) => return Err(probe_failure(error, &endpoint).await),
        };
        found.offers.extend(args.offers.iter().cloned());
        output.message(format_args!("{endpoint} supports {}", spoken(&found)));
        let mut selection =
            Selection::found(found.clone(), &args.interop(), &args.dialects, &args.transports);
        if selection.is_empty() {
            return Err(nothing_to_check(&endpoint, args));
        }
        selection.level = args.level;
        selection.only.clone_from(&args.only);
        output.message(format_args!("checking {}", versions(&selection)));
        let pace = RunOptions { parallel: args.parallel, timeout: args.timeout.0 };
        let cases = |stop| check::run_until(&endpoint, &corpus, &selection, pace, stop);
        let (report, stopped_by) = run_to_end(&mut signals, output, cases).await?;
        print_report(&endpoint, &found, &report, output);
        if let Some(file) = &args.junit {
            write_junit(file, &report)?;
        }
        let (passed, failed, _) = report.counts();
        match (stopped_by, passed, failed) {
            (Some(signal), _, _) => Ok(signal.exit()),
            (None, _, 1..) => Ok(Exit::Nonconforming),
            (None, 0, 0) => {
                Err(Failure::message(Exit::Usage, "no case applies; widen --only, --level or --dialect"))
            }
            (None, _, 0) => Ok(Exit::Success),
        }
    })
}

/// Runs a task to its end, so that it deletes the uploads it created.
///
/// `task` is called with a future that becomes ready at the first signal, which is returned along with the task's result.
/// A second signal ends the task at once.
async fn run_to_end<T, F: Future<Output = T>>(
    signals: &mut StopSignals,
    output: Output,
    task: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>) -> F,
) -> Result<(T, Option<StopSignal>), Failure> {
    let stop = Rc::new(Notify::new());
    let stopped = Rc::clone(&stop);
    let mut task = pin!(task(Box::pin(async move { stopped.notified().await })));
    let mut first = None;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                if first.replace(signal).is_some() {
                    return Err(Failure::message(signal.exit(), "interrupted; some uploads of this check may still be on the server"));
                }
                output.message("interrupted; running cases finish and delete their uploads. A second signal stops at once");
                stop.notify_one();
            }
            ended = &mut task => return Ok((ended, first)),
        }
    }
}

async fn probe_failure(error: ProbeError, endpoint: &Endpoint) -> Failure {
    let origin = endpoint.origin();
    match error.into_client_error() {
        Ok(error) => client::failure(error),
        Err(_) if !origin.is_secure() && hoist_client::requires_tls(origin).await => {
            let authority = format!("{}:{}", origin.host(), origin.port());
            client::failure(hoist_client::Error::Scheme { authority, speaks_tls: true })
        }
        Err(error) => Failure::new(Exit::Unreachable, error),
    }
}

/// Lists the cases that the flags select, with level and requirements.
fn list(args: &Check, corpus: &Corpus, output: Output) -> Result<Exit, Failure> {
    for case in corpus.listed() {
        let is_named = args.only.as_ref().is_none_or(|only| case.name.contains(only));
        let is_wanted = args.dialects.is_empty() || args.dialects.contains(&case.dialect);
        if !is_named || !is_wanted || case.level < args.level {
            continue;
        }
        let (dialect, level, name) = (case.dialect.name(), case.level.word(), case.name);
        let text = format!("{dialect:<6} {level:<6} {name} ({})", case.proves.join(", "));
        let json = json!({
            "event": "case", "dialect": dialect, "level": level, "case": name, "section": case.section, "proves": case.proves,
        });
        output.result(text, &json)?;
    }
    Ok(Exit::Success)
}

fn endpoint(url: &Uri, connection: &ConnectionArgs) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::new(url, connection.ca.as_deref());
    let mut endpoint = endpoint.map_err(client::failure)?;
    if connection.insecure {
        client::warn_insecure();
        endpoint = endpoint.accepting_any_certificate();
    }
    for (name, value) in &connection.headers {
        endpoint = endpoint.with_field(name, value);
    }
    if let Some(secret) = client::bearer_of(connection)? {
        let value = HeaderValue::try_from(format!("Bearer {secret}"));
        let value =
            value.map_err(|_| Failure::message(Exit::Usage, "the bearer token is not visible ASCII"))?;
        endpoint = endpoint.with_field(&http::header::AUTHORIZATION, &value);
    }
    Ok(endpoint)
}

fn nothing_to_check(endpoint: &Endpoint, args: &Check) -> Failure {
    if args.dialects.is_empty() && args.transports.is_empty() {
        let why = "is this the upload URL, and does the server need --bearer or --header?";
        return Failure::message(
            Exit::Nonconforming,
            format_args!("{endpoint} responds, but creates no resumable upload in any dialect: {why}"),
        );
    }
    Failure::message(
        Exit::Nonconforming,
        format_args!(
            "{endpoint} supports none of the selected dialects and versions; remove --dialect, --interop or --http"
        ),
    )
}

/// Formats the transports and versions of a server as one line.
fn spoken(found: &Capabilities) -> String {
    let mut text =
        found.transports.iter().map(|transport| transport.title()).collect::<Vec<_>>().join(" and ");
    for dialect in check::CorpusDialect::ALL {
        let labels: Vec<String> = labels(found, dialect);
        if !labels.is_empty() {
            let _ = write!(text, "; {} {}", dialect.name(), labels.join(", "));
        }
    }
    text
}

fn labels(found: &Capabilities, dialect: check::CorpusDialect) -> Vec<String> {
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

/// Prints the report. A write error does not change the exit code.
fn print_report(endpoint: &Endpoint, found: &Capabilities, report: &Report, output: Output) {
    let text = if output.is_colored() { report.colored().to_string() } else { report.to_string() };
    let mut json = report.json();
    json["event"] = "report".into();
    json["endpoint"] = endpoint.to_string().into();
    json["server"] = server(found);
    output.report(text.trim_end(), &json);
}

fn server(found: &Capabilities) -> Value {
    let dialects = check::CorpusDialect::ALL.into_iter();
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
    let written = written.with_context(|| format!("cannot write {}, given by --junit", Quoted::new(file)));
    written.map_err(|error| Failure::new(Exit::File, error))
}
