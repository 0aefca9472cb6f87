//! `hoist put`: uploads files in parallel, and resumes where an earlier run was interrupted.
//!
//! Owns the order of files and the exit code. `put/sources.rs` finds the files, `put/progress_reporter.rs` reports the
//! progress of one upload, `put/batch.rs` records the finished files of a run, and `put/resume_command.rs` formats the
//! command to resume with.

mod batch;
mod dry_run;
mod pattern;
mod progress_reporter;
mod rate_window;
pub(super) mod resume_command;
mod retry_reporter;
mod sources;
mod tally;
mod unresumable;

use std::ffi::OsString;
use std::sync::Arc;

use hoist_client::{Client, Dialect, Journal, Outcome, Quoted, Source, Token};
use serde_json::json;
use tokio::task::JoinSet;

use self::batch::{Batch, FileSnapshot, Scope};
use self::progress_reporter::ProgressReporter;
use self::resume_command::ResumeNote;
use self::retry_reporter::RetryReporter;
use self::sources::{Input, Item, Sources};
use self::tally::Tally;
use self::unresumable::Unresumable;
use super::client;
use super::stop_signal::{StopSignal, StopSignals};
use crate::cli::Put;
use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::{Console, FileLabel, Output, start_request_log};

/// The settings and state shared by all uploads of a run.
struct PutRun {
    args: Put,
    client: Client,
    journal: Option<Journal>,
    /// For the journal; `None` if it would be too long.
    resume_note: Option<ResumeNote>,
    batch: Option<Batch>,
    /// True if the run has several files, so that messages name the file.
    is_many: bool,
    console: Console,
    unresumable: Unresumable,
}

/// The failure of one file.
struct FileFailure {
    failure: Failure,
    /// True if the other files would fail for the same reason.
    concerns_all: bool,
}

impl From<Failure> for FileFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, concerns_all: false }
    }
}

pub(crate) fn run(args: Put, arguments: &[OsString], output: Output) -> Exit {
    let console = Console::new(output);
    let mut tally = Tally::default();
    let ended = upload_files(args, arguments, &console, &mut tally);
    console.end_bars();
    let exit = ended.unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit
    });
    let Tally { files, done, skipped, failed } = &tally;
    output.event(&json!({
        "event": "end", "files": files, "done": done, "skipped": skipped, "failed": failed.len(),
        "unfinished": tally.unfinished(), "exit": exit.code(),
    }));
    exit
}

/// Uploads the files of the command line. The failure is one that ends the run before the first upload.
fn upload_files(
    args: Put,
    arguments: &[OsString],
    console: &Console,
    tally: &mut Tally,
) -> Result<Exit, Failure> {
    let Sources { items, notes, .. } = Sources::of(&args.files, &args.exclude)?;
    check_single(&args, items.len())?;
    for note in notes {
        console.message(note);
    }
    if items.is_empty() {
        let why =
            if args.exclude.is_empty() { "the given directories are empty" } else { "--exclude leaves none" };
        return Err(Failure::message(Exit::File, format_args!("no files to upload: {why}")));
    }
    let many = items.len();
    tally.files = many;
    let parallel = args.parallel.min(many);
    start_request_log(console, args.verbosity.verbose, parallel > 1 || args.parts > 1);
    let run = Arc::new(PutRun::of(args, arguments, many, console.clone())?);
    let items = run.pending(items, tally);
    if run.args.dry_run {
        return Ok(dry_run::list(&run.console, &items, tally));
    }
    if let Some(bars) = run.console.bars.as_ref().filter(|_| many > 1) {
        bars.add_total(many, tally.skipped, items.iter().filter_map(Item::length).sum());
    }
    let stopped_by = client::block_on(async {
        let mut signals = StopSignals::listen()?;
        let stopped_by = tokio::select! {
            biased;
            () = upload_all(&run, items, parallel, tally) => None,
            signal = signals.next() => Some(signal),
        };
        let starting_over = run.unresumable.files();
        tokio::select! {
            () = run.unresumable.cancel_all(&run.client) => {}
            // A second signal ends the command at once.
            _ = signals.next() => {}
        }
        Ok(stopped_by.map(|signal| (signal, starting_over)))
    })?;
    console.end_bars();
    if let Some((signal, starting_over)) = stopped_by {
        interrupted(&run, signal, arguments, &starting_over, tally);
        return Ok(signal.exit());
    }
    let run = Arc::into_inner(run).expect("every upload has ended");
    Ok(finish(run, tally))
}

/// Refuses a flag that describes a single upload if the FILE is a directory, or a pattern that matches several files.
fn check_single(args: &Put, count: usize) -> Result<(), Failure> {
    let flag = if args.name.is_some() { "--name" } else { "--token" };
    let [file] = &args.files[..] else { return Ok(()) };
    if args.name.is_none() && args.token.is_none() {
        return Ok(());
    }
    let shown = Quoted::new(file);
    if file.is_dir() {
        let without =
            format_args!("{flag} is for a single file, and {shown} is a directory; leave out {flag}");
        return Err(Failure::message(Exit::Usage, without));
    }
    if count > 1 {
        let without =
            format_args!("{flag} is for a single file, and {shown} matches {count}; leave out {flag}");
        return Err(Failure::message(Exit::Usage, without));
    }
    Ok(())
}

impl PutRun {
    fn of(args: Put, arguments: &[OsString], many: usize, console: Console) -> Result<Self, Failure> {
        let mut builder = client::builder(&args.connection, &args.route)?
            .retry_budget(args.retry_for.0)
            .dialect(args.dialect)
            .parts(args.parts);
        if let Some(rate) = args.rate {
            builder = builder.rate_max(rate.0);
        }
        if args.require_resumable {
            builder = builder.require_resumable();
        }
        if let Some(chunk) = args.chunk {
            builder = builder.request_bytes_max(chunk.0);
        }
        let folders = if args.no_resume { None } else { Some(config::state_folders()) };
        let folders = folders.flatten();
        if folders.is_none() && !args.no_resume {
            console.message(
                "neither XDG_STATE_HOME nor HOME is set; uploads are not recorded and cannot be resumed",
            );
        }
        let scope = if args.skip_done { Scope::Url } else { Scope::Command(&args.files) };
        let batch = folders.as_ref().filter(|_| many > 1 || args.skip_done);
        let batch = batch.map(|folders| Batch::open(&folders.batches, scope, &args.url));
        Ok(Self {
            client: builder.build().map_err(client::failure)?,
            journal: folders.map(|folders| Journal::at(folders.uploads)),
            resume_note: ResumeNote::of(arguments),
            batch,
            args,
            is_many: many > 1,
            console,
            unresumable: Unresumable::default(),
        })
    }

    /// Returns the items that no earlier run has uploaded, and counts the others as skipped.
    fn pending(&self, items: Vec<Item>, tally: &mut Tally) -> Vec<Item> {
        let Some(batch) = &self.batch else { return items };
        let (skipped, pending): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| matches!(&item.input, Input::File(path) if batch.has(path)));
        for item in &skipped {
            self.console.output.event(&json!({ "event": "skipped", "file": item.label.raw }));
        }
        tally.skipped = skipped.len();
        if tally.skipped > 0 {
            let (many, all) = (tally.skipped, tally.skipped + pending.len());
            let again = if self.args.skip_done {
                "without --skip-done they are uploaded again"
            } else {
                "--no-resume uploads them again"
            };
            self.console.message(format_args!(
                "skipping {many} of {all} files that an earlier run has uploaded; {again}"
            ));
        }
        pending
    }

    /// Uploads one item and reports the result.
    async fn upload(&self, item: Item) -> Result<(), FileFailure> {
        let length = item.length();
        let Item { input, label, name, is_altered } = item;
        let shown = self.args.name.as_ref().or(name.as_ref());
        if let (true, None, Some(name)) = (is_altered, &self.args.name, &name) {
            self.console.message(format_args!("{label}: the file name is not UTF-8; using {name:?} instead"));
        }
        self.console.output.event(&json!({
            "event": "begin", "file": label.raw, "name": shown, "endpoint": self.args.url.to_string(),
        }));
        // Taken before the first byte is read, so that a file that changes during its upload is uploaded again later.
        let snapshot = match (&self.batch, &input) {
            (Some(_), Input::File(path)) => FileSnapshot::of(path).ok(),
            _ => None,
        };
        match self.send(input, &label, name, length).await {
            Ok((outcome, token)) => {
                // Recorded before printing, so that a closed output does not lose the record.
                if let (Some(batch), Some(snapshot)) = (&self.batch, snapshot) {
                    batch.add(&snapshot);
                }
                self.report_success(&outcome, token.as_ref(), &label);
                Ok(())
            }
            Err(failed) => {
                self.report_failure(&failed.failure, &label);
                Err(failed)
            }
        }
    }

    async fn send(
        &self,
        input: Input,
        label: &FileLabel,
        name: Option<String>,
        length: Option<u64>,
    ) -> Result<(Outcome, Option<Token>), FileFailure> {
        let (source, is_file) = match input {
            Input::File(path) => (Source::file(path), true),
            Input::Stdin => (Source::stream(tokio::io::stdin()), false),
            Input::Pipe(path) => {
                let file = tokio::fs::File::open(&path).await;
                (Source::stream(file.map_err(|error| client::unreadable(&path, &error))?), false)
            }
            Input::Unreadable(path, error) => return Err(client::unreadable(&path, &error).into()),
        };
        let mut put = self.client.put(self.args.url.clone(), source).method(self.args.method.into());
        if let Some(name) = self.args.name.clone().or(name) {
            put = put.name(name);
        }
        if let Some(media_type) = &self.args.media_type {
            put = put.content_type(media_type);
        }
        if self.args.verify {
            put = put.verify();
        }
        // The URL can be that of an existing upload only if there is a single file.
        if !self.is_many {
            put = put.continue_at_url();
        }
        let mut token = self.args.token.clone();
        if let Some(token) = &self.args.token {
            put = put.token(token.clone());
        } else if let Some(journal) = self.journal.clone().filter(|_| is_file) {
            put = put.journal(journal);
            if let Some(note) = &self.resume_note {
                put = put.journal_note(note.to_text());
            }
        } else if matches!(self.args.dialect, Dialect::Token(_)) {
            // Without a journal, the user has to keep the token in order to resume.
            let fresh = hoist_client::random_token().map_err(client::failure)?;
            put = put.new_token(fresh.clone());
            token = Some(fresh);
        }
        let is_resumable = is_file && (token.is_some() || self.journal.is_some());
        if !is_resumable {
            self.unresumable.add(&label.raw, put.handle());
        }
        if let Some(token) = &token {
            self.console.message(format_args!("{label}: token {}", client::written(token)));
        }
        let progress = put.progress();
        let mut reporter = ProgressReporter::new(&self.console, label, length);
        let retries = RetryReporter::new(&self.console, label, progress.clone());
        let put = put.on_retry(move |attempt| retries.report(attempt));
        let sent = tokio::select! {
            biased;
            sent = put.send() => sent,
            () = reporter.follow(&progress) => unreachable!("follows forever"),
        };
        reporter.update(&progress.borrow());
        let sent = sent.map_err(|error| {
            let concerns_all = client::concerns_all_files(&error);
            FileFailure { failure: client::failure(error), concerns_all }
        });
        // The source has failed, and the server waits for the rest.
        if sent.as_ref().is_err_and(|failed| failed.failure.exit == Exit::File) && !is_resumable {
            self.unresumable.cancel_one(&label.raw, &self.client).await;
        }
        self.unresumable.remove(&label.raw);
        Ok((sent?, token))
    }

    fn report_success(&self, outcome: &Outcome, token: Option<&Token>, label: &FileLabel) {
        let location = outcome.fields.get("location").and_then(|value| value.to_str().ok());
        let own = outcome.url.as_ref().map(ToString::to_string);
        let token = token.map(client::written);
        let json = json!({
            "event": "done",
            "file": label.raw,
            "bytes": outcome.bytes,
            "resumed_bytes": outcome.resumed_bytes,
            "retries": outcome.retries,
            "status": outcome.status.as_u16(),
            "start": progress_reporter::start_name(outcome.start),
            "dialect": outcome.dialect.to_string(),
            "resumable": outcome.resumable,
            "url": own,
            "token": token,
            "location": location,
            "sha256": outcome.sha256.map(|digest| hoist_proto::hex::encode(&digest)),
            "verified": outcome.verified,
        });
        let has_parts = matches!(outcome.dialect, Dialect::Tus1 | Dialect::Token(_));
        if self.args.parts > 1 && !has_parts {
            let dialect = outcome.dialect;
            self.console.message(format_args!(
                "{label}: {dialect} does not support parts; --dialect tus1 and token do"
            ));
        }
        if !outcome.resumable && self.args.dialect != Dialect::Conventional {
            let status = outcome.status;
            self.console.message(format_args!(
                "{label}: warning: the server answered {status} but supports no resumable uploads, so the upload is not \
                confirmed in any other way; --require-resumable makes this an error"
            ));
        }
        if self.args.verify && !outcome.verified {
            self.console.message(format_args!("{label}: warning: not verified: {}", unverified(outcome)));
        }
        let place = match (token, own.as_deref().or(location)) {
            (Some(token), _) => format!(", token {token}"),
            (None, Some(url)) => format!(", {url}"),
            (None, None) => String::new(),
        };
        let verified = if outcome.verified { ", SHA-256 verified" } else { "" };
        let bytes = outcome.bytes;
        self.console.report(format_args!("{label}: uploaded {bytes} bytes{verified}{place}"), &json);
    }

    fn report_failure(&self, failure: &Failure, label: &FileLabel) {
        let exit = failure.exit;
        self.console.output.event(&json!({
            "event": "failed", "file": label.raw, "error": failure.to_string(), "exit": exit.code(),
            "kind": exit.name(),
        }));
        if self.is_many {
            self.console.failure(&Failure::message(exit, format_args!("{label}: {failure}")));
        } else {
            self.console.failure(failure);
        }
    }
}

/// Uploads all items, at most `parallel` at a time. Stops after a failure that the others would share: their running
/// uploads are ended, which a later run resumes. Dropping the future ends the running uploads, too.
async fn upload_all(run: &Arc<PutRun>, items: Vec<Item>, parallel: usize, tally: &mut Tally) {
    let mut waiting = items.into_iter();
    let (mut running, mut is_stopped) = (JoinSet::new(), false);
    loop {
        while running.len() < parallel
            && let Some(item) = waiting.next()
        {
            let run = Arc::clone(run);
            running.spawn(async move { run.upload(item).await });
        }
        let Some(ended) = running.join_next().await else { return };
        if let Some(bars) = &run.console.bars {
            bars.count(matches!(ended, Ok(Ok(()))));
        }
        match ended {
            Ok(Ok(())) => tally.done += 1,
            Ok(Err(FileFailure { failure, concerns_all })) => {
                tally.failed.push(failure.exit);
                if concerns_all && !is_stopped && (waiting.len() > 0 || !running.is_empty()) {
                    is_stopped = true;
                    waiting = Vec::new().into_iter();
                    running.abort_all();
                    run.console
                        .message("the other files would fail for the same reason, so they are left out");
                }
            }
            Err(error) if error.is_cancelled() => {}
            Err(error) => {
                run.console.failure(&Failure::message(Exit::Failed, format_args!("a bug in hoist: {error}")));
                tally.failed.push(Exit::Failed);
            }
        }
    }
}

/// Reports the end of a run and returns its exit code.
fn finish(run: PutRun, tally: &Tally) -> Exit {
    let exit = tally.exit_code();
    let failed = tally.failed.len();
    if tally.files > 1 {
        let again = if failed > 0 { "; run the same command again to retry" } else { "" };
        let unfinished = tally.unfinished();
        let left = if unfinished > 0 { format!(", {unfinished} left out") } else { String::new() };
        run.console.message(format_args!("{tally}{left}{again}"));
    }
    if let Some(batch) = run.batch.filter(|_| failed == 0) {
        batch.remove();
    }
    exit
}

/// Reports that a signal has ended the run.
fn interrupted(
    run: &PutRun,
    signal: StopSignal,
    arguments: &[OsString],
    starting_over: &[String],
    tally: &Tally,
) {
    if tally.files > 1 {
        run.console.message(tally);
    }
    let again = resume_command::format(arguments);
    run.console.output.event(&json!({
        "event": "interrupted", "signal": signal.name(), "resume": again, "starts_over": starting_over,
    }));
    let is_resumable = run.journal.is_some() || run.args.token.is_some();
    let reads_stdin = starting_over.iter().any(|file| file == "-");
    let next = match (reads_stdin, starting_over.is_empty(), run.is_many && is_resumable) {
        (_, true, _) if is_resumable => {
            format!("interrupted; the server keeps what it has. Resume with: {again}")
        }
        (true, _, false) => {
            "interrupted; standard input cannot be read again, so the next run starts over".to_owned()
        }
        (_, _, false) => "interrupted; the upload cannot be resumed, so the next run starts over".to_owned(),
        (_, _, true) => {
            let starting_over = starting_over.join(", ");
            format!(
                "interrupted; the server keeps what it has, except of {starting_over}. Resume with: {again}"
            )
        }
    };
    run.console.failure(&Failure::message(signal.exit(), next));
}

/// Explains why an upload was not verified.
fn unverified(outcome: &Outcome) -> &'static str {
    match outcome.dialect {
        _ if outcome.sha256.is_none() => "this run did not read the whole content",
        Dialect::Tus1 => "tus1 has no digests of whole uploads",
        _ => "the server reported no digest",
    }
}
