//! `hoist events`: what is to be delivered, read from the data directory beside a running server, and changed without one.

use std::path::Path;

use hoist_proto::types::{Timestamp, UploadId};
use hoist_proto::upload::{PendingEvent, SinkKey, Upload};
use hoist_server::outbox::{Format, Outbox};
use hoist_store::fs::{EventsFound, LocalStore, Options, is_in_use, read_events};
use hoist_store::store::{DeadEvent, Error, EventSource, Outbox as _};
use serde_json::{Value, json};

use crate::cli::{EventsLs, EventsOf, EventsRetry, EventsVerb};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// The dead events that are read at once.
const BATCH: usize = 256;

pub(crate) fn run(verb: &EventsVerb, output: Output) -> Result<Exit, Failure> {
    match verb {
        EventsVerb::Ls(args) => list(args, output),
        EventsVerb::Show(args) => show(args, output),
        EventsVerb::Retry(args) => retry(args, output),
        EventsVerb::Drop(args) => forget(args, output),
    }
}

/// An event of an upload, and its state.
struct Row<'a> {
    upload: &'a Upload,
    event: &'a PendingEvent,
    is_dead: bool,
}

impl Row<'_> {
    fn sinks(&self) -> String {
        self.event.sinks.iter().map(SinkKey::to_string).collect::<Vec<_>>().join(",")
    }

    fn state(&self) -> &'static str {
        if self.is_dead { "dead" } else { "pending" }
    }

    fn why(&self) -> &str {
        self.event.given_up.as_ref().map_or("", |given_up| &given_up.why)
    }

    fn json(&self) -> Value {
        let given_up = self.event.given_up.as_ref();
        json!({
            "id": self.event.id(self.upload.id),
            "state": self.state(),
            "type": self.event.kind.name(),
            "time": self.event.at.rfc3339(),
            "sinks": self.event.sinks.iter().map(SinkKey::to_string).collect::<Vec<_>>(),
            "given_up": given_up.map(|given_up| {
                json!({ "time": given_up.at.rfc3339(), "attempts": given_up.attempts, "why": given_up.why })
            }),
        })
    }
}

fn list(args: &EventsLs, output: Output) -> Result<Exit, Failure> {
    let (mut count, mut unreadable) = (0_u64, 0_u64);
    let mut printed = Ok(());
    let mut print = |row: &Row<'_>| {
        if printed.is_err() || args.dead && !row.is_dead {
            return;
        }
        if count == 0 && !output.is_json() {
            printed = Output::data(format_args!(
                "{:7}  {:20}  {:37}  {:16}  WHY\n",
                "STATE", "TIME", "ID", "SINKS"
            ));
        }
        count += 1;
        let id = row.event.id(row.upload.id);
        let text = format!(
            "{:7}  {:20}  {id:37}  {:16}  {}",
            row.state(),
            row.event.at.rfc3339(),
            row.sinks(),
            row.why()
        );
        printed = std::mem::replace(&mut printed, Ok(()))
            .and_then(|()| output.result(text.trim_end(), &row.json()));
    };
    each(&args.data.data, |found| match found {
        Found::Row(row) => print(&row),
        Found::Unreadable(place, why) => {
            unreadable += 1;
            output.message(format_args!("warning: cannot read {place}: {why}; it stays as it is"));
        }
    })?;
    printed?;
    if count == 0 && unreadable == 0 {
        output.message("all events are delivered");
    }
    Ok(if unreadable == 0 { Exit::Success } else { Exit::Partial })
}

fn show(args: &EventsOf, output: Output) -> Result<Exit, Failure> {
    let mut shown = Vec::new();
    each(&args.data.data, |found| {
        if let Found::Row(row) = found
            && is_named(&args.id, row.upload.id, row.event)
        {
            let content = Outbox::content(row.upload, row.event, Format::CloudEvents, "");
            let mut value = row.json();
            value["event"] = serde_json::from_slice(&content).unwrap_or_default();
            shown.push(value);
        }
    })?;
    if shown.is_empty() {
        return Err(unknown(&args.id));
    }
    for value in shown {
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        output.result(text, &value)?;
    }
    Ok(Exit::Success)
}

fn retry(args: &EventsRetry, output: Output) -> Result<Exit, Failure> {
    let store = opened(&args.data.data)?;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = Timestamp::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let is_named = |dead: &DeadEvent| args.id.as_ref().is_none_or(|id| names_dead(id, dead));
    let names = blocking(dead_names(&store, is_named))?;
    if let Some(id) = args.id.as_ref().filter(|_| names.is_empty()) {
        return Err(unknown(id));
    }
    for name in &names {
        blocking(store.revive(name, now))?;
        output
            .result(format_args!("{name} is delivered when the server runs"), &json!({ "revived": name }))?;
    }
    Ok(Exit::Success)
}

fn forget(args: &EventsOf, output: Output) -> Result<Exit, Failure> {
    let store = opened(&args.data.data)?;
    let mut dropped = Vec::new();
    for name in blocking(dead_names(&store, |dead| names_dead(&args.id, dead)))? {
        if blocking(store.drop_dead(&name))? {
            dropped.push(name);
        }
    }
    let mut pending: Vec<(EventSource, Upload)> = Vec::new();
    read_events(&args.data.data, &mut |found| {
        if let EventsFound::Pending(source, upload) = found
            && upload.events.iter().any(|event| is_named(&args.id, upload.id, event))
        {
            pending.push((source, upload));
        }
    })
    .map_err(|error| failure(&error))?;
    for (source, upload) in pending {
        let named = upload.events.iter().filter(|event| is_named(&args.id, upload.id, event));
        let deliveries = named.flat_map(|event| event.sinks.iter().map(|sink| (event.kind, *sink)));
        let deliveries = deliveries.collect::<Vec<_>>();
        blocking(store.mark_delivered(source, &upload, &deliveries))?;
        dropped.extend(deliveries.iter().map(|(kind, sink)| format!("{}.{kind}.{sink}", upload.id)));
    }
    if dropped.is_empty() {
        return Err(unknown(&args.id));
    }
    for name in dropped {
        output.result(format_args!("dropped {name}"), &json!({ "dropped": name }))?;
    }
    Ok(Exit::Success)
}

enum Found<'a> {
    Row(Row<'a>),
    Unreadable(String, String),
}

/// Reads the events one by one.
fn each(data: &Path, mut visit: impl FnMut(Found<'_>)) -> Result<(), Failure> {
    let read = read_events(data, &mut |found| {
        let (upload, is_dead) = match &found {
            EventsFound::Pending(_, upload) => (upload, false),
            EventsFound::Dead(_, upload) => (upload, true),
            EventsFound::Unreadable(place, why) => {
                return visit(Found::Unreadable(place.clone(), why.clone()));
            }
        };
        for event in &upload.events {
            visit(Found::Row(Row { upload, event, is_dead }));
        }
    });
    read.map_err(|error| failure(&error))
}

/// Returns whether a word of the operator's names an event: by its id, or by that of its upload.
fn is_named(word: &str, upload: UploadId, event: &PendingEvent) -> bool {
    let id = upload.to_string();
    word == id || word == event.id(upload)
}

fn names_dead(word: &str, dead: &DeadEvent) -> bool {
    let rest = dead.name.strip_prefix(word);
    rest.is_some_and(|rest| (rest.is_empty() || rest.starts_with('.')) && word.len() >= UploadId::CHARS)
}

async fn dead_names(store: &LocalStore, is_named: impl Fn(&DeadEvent) -> bool) -> Result<Vec<String>, Error> {
    let (mut names, mut last): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let dead = store.dead(last.as_deref(), BATCH).await?;
        let Some(end) = dead.last() else { return Ok(names) };
        last = Some(end.name.clone());
        names.extend(dead.iter().filter(|dead| is_named(dead)).map(|dead| dead.name.clone()));
    }
}

/// Opens the store, which no server may use.
fn opened(data: &Path) -> Result<LocalStore, Failure> {
    if !data.join("lock").exists() {
        let what = format!("{} is not the data directory of a server", data.display());
        return Err(Failure::message(Exit::File, what));
    }
    if is_in_use(data) {
        let what = format!("a server uses {}; stop it first", data.display());
        return Err(Failure::message(Exit::Busy, what));
    }
    LocalStore::open(data, &Options::default()).map_err(|error| failure(&error))
}

/// Waits for an operation of the store, which has threads of its own.
fn blocking<T>(operation: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| Failure::message(Exit::Failed, error.to_string()))?;
    runtime.block_on(operation).map_err(|error| failure(&error))
}

fn failure(error: &Error) -> Failure {
    let text = match error {
        Error::Io { doing, source } => format!("{doing}: {source}"),
        error => error.to_string(),
    };
    let exit = if matches!(error, Error::Busy(_)) { Exit::Busy } else { Exit::File };
    Failure::message(exit, text)
}

fn unknown(id: &str) -> Failure {
    let what = format!("no event {id} is pending or dead; `hoist events ls` lists them");
    Failure::message(Exit::NotFound, what)
}
