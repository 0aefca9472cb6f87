//! `hoist put`: uploads files, several at the same time, and goes on where an earlier run was ended.
//!
//! Owns the order of files and how a run ends. What FILE stands for is in `put/sources.rs`, what is told of an upload on
//! its way in `put/course.rs`, what a run over many files has finished in `put/batch.rs`.

mod batch;
mod course;
mod pattern;
mod sources;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use hoist_client::{Client, Dialect, Journal, Outcome, Source, Token};
use http::{Method, Uri};
use serde_json::json;
use tokio::task::JoinSet;

use self::batch::{Batch, Mark};
use self::course::Course;
use self::sources::{Input, Item, Sources};
use super::ask::{self, Told};
use crate::cli::Put;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Stage};

/// What all uploads of a run have in common.
struct Run {
    client: Client,
    url: Uri,
    journal: Option<Journal>,
    batch: Option<Batch>,
    token: Option<Token>,
    /// The dialect that was asked for.
    dialect: Dialect,
    name: Option<String>,
    media_type: Option<String>,
    method: Method,
    parts: usize,
    verify: bool,
    /// Whether there are others to tell a file from.
    is_many: bool,
    stage: Stage,
}

/// How many files ended in which way.
#[derive(Default)]
struct Tally {
    done: usize,
    skipped: usize,
    failed: Vec<Exit>,
}

pub(crate) fn run(asked: Put, words: &[OsString], output: Output) -> Result<Exit, Failure> {
    let stage = Stage::new(output);
    let Sources { items, notes, .. } = Sources::of(&asked.files)?;
    for note in notes {
        stage.talk(note);
    }
    if items.is_empty() {
        return Err(Failure::say(Exit::File, "there is no file to upload in what was given"));
    }
    let many = items.len();
    let parallel = asked.parallel.min(many);
    let run = Arc::new(Run::of(asked, parallel, many, stage)?);
    let mut tally = Tally::default();
    let items = run.pending(items, &mut tally);
    let told = ask::block_on(async {
        let mut signals = ask::Signals::listen()?;
        tokio::select! {
            biased;
            () = all(&run, items, parallel, &mut tally) => Ok(None),
            told = signals.next() => Ok(Some(told)),
        }
    })?;
    if let Some(told) = told {
        return Err(interrupted(&run, told, words));
    }
    let run = Arc::into_inner(run).expect("every upload has ended");
    Ok(end(run, &tally, many))
}

impl Run {
    fn of(asked: Put, parallel: usize, many: usize, stage: Stage) -> Result<Self, Failure> {
        let mut builder = ask::client(&asked.connection, &asked.route)?
            .retry_budget(asked.retry_for.0)
            .dialect(asked.dialect)
            .parts(asked.parts);
        if let Some(rate) = asked.rate {
            // Each connection gets its share, so that all together stay below.
            let connections = parallel.saturating_mul(asked.parts) as u64;
            builder = builder.rate_max((rate.0 / connections).max(1));
        }
        if asked.require_resumable {
            builder = builder.require_resumable();
        }
        if let Some(chunk) = asked.chunk {
            builder = builder.request_bytes_max(chunk.0);
        }
        let folders = if asked.no_resume { None } else { Some(config::state_folders()) };
        let folders = folders.flatten();
        if folders.is_none() && !asked.no_resume {
            stage.talk("neither XDG_STATE_HOME nor HOME is set, so no journal is kept");
        }
        let batch = folders.as_ref().filter(|_| many > 1);
        let batch = batch.map(|folders| Batch::open(&folders.batches, &asked.files, &asked.url));
        Ok(Self {
            client: builder.build().map_err(ask::failure)?,
            url: asked.url,
            journal: folders.map(|folders| Journal::at(folders.uploads)),
            batch,
            token: asked.token,
            dialect: asked.dialect,
            name: asked.name,
            media_type: asked.media_type,
            method: asked.method.into(),
            parts: asked.parts,
            verify: asked.verify,
            is_many: many > 1,
            stage,
        })
    }

    /// What an earlier run has not finished.
    fn pending(&self, items: Vec<Item>, tally: &mut Tally) -> Vec<Item> {
        let Some(batch) = &self.batch else { return items };
        let (skipped, pending): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| matches!(&item.input, Input::File(path) if batch.has(path)));
        for item in &skipped {
            self.stage.output.event(&json!({ "event": "skipped", "file": item.label }));
        }
        tally.skipped = skipped.len();
        if tally.skipped > 0 {
            let (many, all) = (tally.skipped, tally.skipped + pending.len());
            self.stage.talk(format_args!(
                "{many} of {all} files were uploaded by an earlier run; --no-resume uploads them again"
            ));
        }
        pending
    }

    /// One upload, from its beginning to its end.
    async fn upload(&self, item: Item) -> Result<(), Exit> {
        let Item { input, label, name, is_altered } = item;
        let shown = self.name.as_ref().or(name.as_ref());
        if let (true, None, Some(name)) = (is_altered, &self.name, &name) {
            self.stage.talk(format_args!("{label}: its name is not UTF-8; the server is told {name:?}"));
        }
        self.stage.output.event(&json!({
            "event": "begin", "file": label, "name": shown, "url": self.url.to_string(),
        }));
        // Taken before the first byte is read: a file that changes on its way is one that a later run has to upload.
        let mark = match (&self.batch, &input) {
            (Some(_), Input::File(path)) => Mark::of(path).ok(),
            _ => None,
        };
        match self.send(input, &label, name).await {
            Ok((outcome, token)) => {
                // Before anything is printed: a reader of the output that has gone makes no upload undone.
                if let (Some(batch), Some(mark)) = (&self.batch, mark) {
                    batch.add(&mark);
                }
                self.say(&outcome, token.as_ref(), &label);
                Ok(())
            }
            Err(failure) => Err(self.complain(&failure, &label)),
        }
    }

    async fn send(
        &self,
        input: Input,
        label: &str,
        name: Option<String>,
    ) -> Result<(Outcome, Option<Token>), Failure> {
        let (source, is_file) = match input {
            Input::File(path) => (Source::file(path), true),
            Input::Stdin => (Source::stream(tokio::io::stdin()), false),
            Input::Pipe(path) => (Source::stream(open(&path).await?), false),
            Input::Unreadable(path, error) => return Err(unreadable(&path, &error)),
        };
        let mut put = self.client.put(self.url.clone(), source).method(self.method.clone());
        if let Some(name) = self.name.clone().or(name) {
            put = put.name(name);
        }
        if let Some(media_type) = &self.media_type {
            put = put.content_type(media_type);
        }
        if self.verify {
            put = put.verify();
        }
        // One URL of an upload cannot be that of several files.
        if !self.is_many {
            put = put.continue_at_url();
        }
        let mut told = self.token.clone();
        if let Some(token) = &self.token {
            put = put.token(token.clone());
        } else if let Some(journal) = self.journal.clone().filter(|_| is_file) {
            put = put.journal(journal);
        } else if matches!(self.dialect, Dialect::Token(_)) {
            // Without a journal the caller alone can keep it.
            let token = hoist_client::random_token().map_err(ask::failure)?;
            put = put.new_token(token.clone());
            told = Some(token);
        }
        if let Some(token) = &told {
            self.stage.talk(format_args!("{label}: token {}", ask::written(token)));
        }
        let progress = put.progress();
        let mut course = Course::new(&self.stage, label);
        let sent = tokio::select! {
            biased;
            sent = put.send() => sent.map_err(ask::failure),
            () = course.follow(&progress) => unreachable!("followed for ever"),
        };
        course.look(&progress.borrow());
        Ok((sent?, told))
    }

    fn say(&self, outcome: &Outcome, token: Option<&Token>, label: &str) {
        let location = outcome.fields.get("location").and_then(|value| value.to_str().ok());
        let own = outcome.url.as_ref().map(ToString::to_string);
        let token = token.map(ask::written);
        let json = json!({
            "event": "done",
            "file": label,
            "bytes": outcome.bytes,
            "resumed_bytes": outcome.resumed_bytes,
            "retries": outcome.retries,
            "status": outcome.status.as_u16(),
            "start": course::word(outcome.start),
            "dialect": outcome.dialect.to_string(),
            "resumable": outcome.resumable,
            "url": own,
            "token": token,
            "location": location,
            "sha256": outcome.sha256.map(|digest| hex(&digest)),
            "verified": outcome.verified,
        });
        let has_parts = matches!(outcome.dialect, Dialect::Tus1 | Dialect::Token(_));
        if self.parts > 1 && !has_parts {
            let dialect = outcome.dialect;
            self.stage.talk(format_args!("{label}: {dialect} has no parts; --dialect tus1 and token have"));
        }
        if !outcome.resumable && self.dialect != Dialect::Conventional {
            let status = outcome.status;
            self.stage.talk(format_args!(
                "{label}: warning: the server answered {status} and spoke no upload protocol, so nothing but that says \
                that it has the file; --require-resumable makes it a failure"
            ));
        }
        if self.verify && !outcome.verified {
            self.stage.talk(format_args!("{label}: warning: not verified: {}", unverified(outcome)));
        }
        let place = match (token, own.as_deref().or(location)) {
            (Some(token), _) => format!(", token {token}"),
            (None, Some(url)) => format!(", {url}"),
            (None, None) => String::new(),
        };
        let verified = if outcome.verified { ", SHA-256 verified" } else { "" };
        let bytes = outcome.bytes;
        self.stage.report(format_args!("{label}: uploaded {bytes} bytes{verified}{place}"), &json);
    }

    fn complain(&self, failure: &Failure, label: &str) -> Exit {
        let exit = failure.exit;
        self.stage.output.event(&json!({
            "event": "failed", "file": label, "error": failure.to_string(), "exit": exit.code(),
            "kind": exit.name(),
        }));
        if self.is_many {
            self.stage.failure(&Failure::say(exit, format_args!("{label}: {failure}")));
        } else {
            self.stage.failure(failure);
        }
        exit
    }
}

/// Uploads all of them, so many at a time. Dropping it ends those that are under way.
async fn all(run: &Arc<Run>, items: Vec<Item>, parallel: usize, tally: &mut Tally) {
    let (many, skipped) = (items.len() + tally.skipped, tally.skipped);
    let total = run.stage.bars.as_ref().filter(|_| many > 1).map(|bars| bars.total(many));
    let mut waiting = items.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < parallel
            && let Some(item) = waiting.next()
        {
            let run = Arc::clone(run);
            running.spawn(async move { run.upload(item).await });
        }
        if let Some(total) = &total {
            let (done, failed) = (tally.done + skipped, tally.failed.len());
            let failures = if failed > 0 { format!(", {failed} failed") } else { String::new() };
            total.count(done + failed, format_args!("{done} of {many} files{failures}"));
        }
        match running.join_next().await {
            None => return,
            Some(Ok(Ok(()))) => tally.done += 1,
            Some(Ok(Err(exit))) => tally.failed.push(exit),
            Some(Err(error)) => {
                run.stage.failure(&Failure::say(Exit::Failed, format_args!("a bug in hoist: {error}")));
                tally.failed.push(Exit::Failed);
            }
        }
    }
}

/// How a run ends in which every upload has ended.
fn end(run: Run, tally: &Tally, many: usize) -> Exit {
    let exit = verdict(tally);
    let Tally { done, skipped, failed } = tally;
    let failed = failed.len();
    run.stage.output.event(&json!({
        "event": "end", "files": many, "done": done, "skipped": skipped, "failed": failed, "exit": exit.code(),
    }));
    if many > 1 {
        let again = if failed > 0 { "; the same command tries those again" } else { "" };
        let done = done + skipped;
        run.stage.talk(format_args!("{done} of {many} files are uploaded, {failed} failed{again}"));
    }
    if let Some(batch) = run.batch.filter(|_| failed == 0) {
        batch.remove();
    }
    exit
}

/// One code for all: that of the failures when they are alike and nothing else was done.
fn verdict(tally: &Tally) -> Exit {
    let Some(first) = tally.failed.first() else { return Exit::Success };
    match tally {
        Tally { done: 0, skipped: 0, failed } if failed.iter().all(|exit| exit == first) => *first,
        Tally { done: 0, skipped: 0, .. } => Exit::Failed,
        _ => Exit::Partial,
    }
}

fn interrupted(run: &Run, told: Told, words: &[OsString]) -> Failure {
    let again = words::again(words);
    run.stage.output.event(&json!({ "event": "interrupted", "signal": told.name(), "resume": again }));
    let next = if run.journal.is_some() || run.token.is_some() {
        format!("interrupted; what the server has stays there. Go on with: {again}")
    } else {
        "interrupted; what the server has stays there, but without the journal nothing finds it again"
            .to_owned()
    };
    Failure::say(told.exit(), next)
}

/// Explains why an upload was not verified.
fn unverified(outcome: &Outcome) -> &'static str {
    match outcome.dialect {
        _ if outcome.sha256.is_none() => "this run has not read the whole content",
        Dialect::Tus1 => "tus1 has no digest of a whole upload",
        _ => "the server told no digest",
    }
}

async fn open(path: &PathBuf) -> Result<tokio::fs::File, Failure> {
    tokio::fs::File::open(path).await.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::say(Exit::File, format_args!("cannot read {}: {error}", path.display()))
}

pub(super) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets.iter().fold(String::with_capacity(64), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_code_says_how_all_ended() {
        let cases: [(usize, usize, &[Exit], Exit); 6] = [
            (3, 0, &[], Exit::Success),
            (0, 0, &[Exit::File], Exit::File),
            (0, 0, &[Exit::File, Exit::File], Exit::File),
            (0, 0, &[Exit::File, Exit::Refused], Exit::Failed),
            (1, 0, &[Exit::File], Exit::Partial),
            (0, 1, &[Exit::File], Exit::Partial),
        ];
        for (done, skipped, failed, expected) in cases {
            assert_eq!(verdict(&Tally { done, skipped, failed: failed.to_vec() }), expected, "{failed:?}");
        }
    }
}
