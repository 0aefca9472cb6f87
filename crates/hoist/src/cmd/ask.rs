//! The shared parts of the client's verbs: a client made of flags, a runtime for one task, and exit codes for errors.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use hoist_client::Failure::Unanswered;
use hoist_client::{
    Client, ClientBuilder, Dialect, Error, Handle, Journal, JournalEntry, Origin, Proxies, Retry, Token,
    target_key,
};
use http::Uri;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Connection, Route, What};
use crate::config;
use crate::exit::{Exit, Failure};

/// A client with the settings of the command line.
pub(crate) fn client(connection: &Connection, route: &Route) -> Result<ClientBuilder, Failure> {
    let mut builder = Client::builder().proxies(proxies(route).map_err(failure)?);
    for (name, value) in &connection.headers {
        builder = builder.header(name.clone(), value.clone());
    }
    if let Some(path) = &connection.ca {
        builder = builder.ca_file(path);
    }
    if let Some(secret) = bearer_of(connection)? {
        builder = builder.bearer(secret);
    }
    Ok(builder)
}

/// The bearer token of the command line or of the file it names.
pub(crate) fn bearer_of(connection: &Connection) -> Result<Option<String>, Failure> {
    match (&connection.bearer, &connection.bearer_file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => bearer(path).map(Some),
        (None, None) => Ok(None),
    }
}

/// The proxies of the command line, and of the environment where it has none.
fn proxies(route: &Route) -> Result<Proxies, Error> {
    let proxies = match &route.proxy {
        None => Proxies::from_variables(config::variable)?,
        Some(proxy) => {
            let exceptions =
                |name: &str| config::variable(name).filter(|_| name.eq_ignore_ascii_case("no_proxy"));
            Proxies::from_variables(exceptions)?.through(proxy)?
        }
    };
    Ok(match &route.no_proxy {
        Some(hosts) => proxies.except(hosts),
        None => proxies,
    })
}

/// The first word of the file that is in no comment, so that the server's own file will do.
fn bearer(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}; --bearer-file names it", path.display()));
    let text = text.map_err(|error| Failure::new(Exit::File, error))?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let word = lines.flat_map(str::split_whitespace).next();
    word.map(ToOwned::to_owned).ok_or_else(|| {
        Failure::say(Exit::File, format_args!("{} has no token in it; write one into it", path.display()))
    })
}

/// Runs one task to its end.
pub(crate) fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let ended = runtime.block_on(task);
    // Nothing that is left over, such as a look-up of a name, is worth waiting for.
    runtime.shutdown_background();
    ended
}

/// The signals that tell a client to stop.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// One of these signals.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told {
    Interrupt,
    Terminate,
}

impl Signals {
    /// From here on neither signal ends the process by itself.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// # Cancellation
    /// Safe to drop.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Interrupt,
            _ = self.terminate.recv() => Told::Terminate,
        }
    }
}

impl Told {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

/// The journal of this user.
pub(crate) fn journal() -> Result<Journal, Failure> {
    let folders = config::state_folders();
    let nowhere = || Failure::say(Exit::File, "there is no journal: set HOME or XDG_STATE_HOME");
    Ok(Journal::at(folders.ok_or_else(nowhere)?.uploads))
}

/// An upload that is asked about.
pub(crate) struct Found {
    pub(crate) handle: Handle,
    /// The entry of the journal it was found in, unless its URL was given.
    pub(crate) entry: Option<JournalEntry>,
    pub(crate) is_one_of_many: bool,
}

impl Found {
    /// The upload of a URL, or those of a file by the journal, of which there is one at least.
    pub(crate) fn all(what: What, token: Option<Token>, to: Option<&Uri>) -> Result<Vec<Self>, Failure> {
        let handle = match (what, token) {
            (What::File(file), _) => return Self::of_file(&file, to),
            (What::Url(url), Some(token)) => Handle::Token { url, token },
            (What::Url(url), None) => Handle::at(url, Dialect::Auto),
        };
        Ok(vec![Self { handle, entry: None, is_one_of_many: false }])
    }

    /// True if they were begun at several origins, so that one credential cannot be meant for all of them.
    pub(crate) fn are_scattered(found: &[Self]) -> bool {
        let mut origins = found.iter().filter_map(|found| Origin::of(&found.entry.as_ref()?.target).ok());
        let first = origins.next();
        origins.any(|origin| Some(origin) != first)
    }

    fn of_file(file: &Path, to: Option<&Uri>) -> Result<Vec<Self>, Failure> {
        let mut entries = journal()?.of_file(file).map_err(failure)?;
        entries.retain(|entry| to.is_none_or(|to| target_key(to) == target_key(&entry.target)));
        if entries.is_empty() {
            let file = file.display();
            let next = format_args!("{file} is not under way, by the journal; `hoist ls` says what is");
            return Err(Failure::say(Exit::NotFound, next));
        }
        let is_one_of_many = entries.len() > 1;
        let found = entries.into_iter().map(|entry| Self {
            handle: entry.handle.clone(),
            entry: Some(entry),
            is_one_of_many,
        });
        Ok(found.collect())
    }

    /// The beginning of a line about it, where there are several.
    pub(crate) fn label(&self) -> String {
        let entry = self.entry.as_ref().filter(|_| self.is_one_of_many);
        entry.map(|entry| format!("{}: ", entry.target)).unwrap_or_default()
    }

    /// Takes it out of the journal.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        self.entry.as_ref().map_or(Ok(()), |entry| journal()?.forget(entry).map_err(failure))
    }
}

/// A token in the form that is sent, which is also one that `--token` takes.
pub(crate) fn written(token: &Token) -> String {
    let value = hoist_proto::field::token_value(token);
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The client's error with its exit code.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = exit(&error);
    let next = match exit {
        Exit::Unreachable => "; run it again later",
        Exit::NotFound => "; it is complete and forgotten, expired, or was never there",
        Exit::Busy => "; wait for it, or end it",
        Exit::Corrupt => "; upload it again",
        _ => match &error {
            Error::Tls { .. } => "; --ca names a file with the certificates to trust",
            Error::Scheme { speaks_tls: true, .. } => "; write https:// in the URL",
            Error::Scheme { speaks_tls: false, .. } => {
                "; write http:// in the URL if the network can be trusted"
            }
            Error::Redirected { .. } => "; give that URL if it is the right one",
            Error::NotRewindable { .. } => "; put it into a file and upload that",
            Error::Journal { .. } => "; --no-resume goes without",
            Error::Upload(Unanswered) => "; look whether it is there, or send it again with --method put",
            _ => "",
        },
    };
    let error = anyhow::Error::new(error);
    // The causes belong into the line, before the next step.
    Failure::say(exit, format_args!("{error:#}{next}"))
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Refused { status, .. } if matches!(status.as_u16(), 404 | 410) => Exit::NotFound,
        Error::Proxy { .. } if error.retry() == Retry::Later => Exit::Unreachable,
        Error::Refused { .. }
        | Error::Redirected { .. }
        | Error::Proxy { .. }
        | Error::Upload(_)
        | Error::Dialect(_)
        | Error::Location { .. } => Exit::Refused,
        Error::Tls { .. } | Error::Scheme { .. } => Exit::Tls,
        Error::Url { .. } | Error::Field(_) => Exit::Usage,
        Error::Busy { .. } => Exit::Busy,
        Error::Unresumable { .. } => Exit::Unresumable,
        Error::Digest { .. } => Exit::Corrupt,
        Error::Trust { .. }
        | Error::Source { .. }
        | Error::SourceChanged { .. }
        | Error::NotRewindable { .. }
        | Error::Journal { .. } => Exit::File,
        Error::Connect { .. } | Error::Lost { .. } | Error::Idle(_) | Error::Exhausted { .. } => {
            Exit::Unreachable
        }
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[test]
    fn errors_have_their_codes() {
        let status = |status: u16| status.try_into().expect("a status");
        let refused = |code: u16| Error::Refused { status: status(code), detail: None };
        let source = || io::Error::other("why");
        let cases = [
            (refused(404), Exit::NotFound),
            (refused(410), Exit::NotFound),
            (refused(403), Exit::Refused),
            (Error::Upload(hoist_client::Failure::Taken), Exit::Refused),
            (Error::Url { url: "x".into(), wrong: "y" }, Exit::Usage),
            (Error::Location { url: "x".into(), wrong: "y" }, Exit::Refused),
            (Error::Source { path: "x".into(), source: source() }, Exit::File),
            (Error::SourceChanged { path: "x".into() }, Exit::File),
            (Error::NotRewindable { offset: 1 }, Exit::File),
            (Error::Journal { path: "x".into(), source: source() }, Exit::File),
            (Error::Busy { path: "x".into() }, Exit::Busy),
            (Error::Unresumable { status: http::StatusCode::OK }, Exit::Unresumable),
            (Error::Digest { theirs: "x".into() }, Exit::Corrupt),
            (Error::Dialect(hoist_client::Dialect::Tus1), Exit::Refused),
            (Error::Connect { authority: "x".into(), source: source() }, Exit::Unreachable),
            (Error::Idle(Duration::ZERO), Exit::Unreachable),
            (Error::Tls { authority: "x".into(), source: source() }, Exit::Tls),
            (Error::Scheme { authority: "x".into(), speaks_tls: true }, Exit::Tls),
            (Error::Proxy { proxy: "x".into(), status: status(407) }, Exit::Refused),
            (Error::Proxy { proxy: "x".into(), status: status(503) }, Exit::Unreachable),
            (Error::Redirected { status: status(302), to: "x".into(), wrong: None }, Exit::Refused),
            (Error::Exhausted { attempts: 1, source: Box::new(refused(503)) }, Exit::Unreachable),
        ];
        for (error, expected) in cases {
            let text = error.to_string();
            let failure = failure(error);
            assert_eq!(failure.exit, expected, "{text}");
            assert!(failure.to_string().starts_with(&text), "{failure}");
        }
    }

    #[test]
    fn a_token_that_is_printed_can_be_given() {
        let token = Token::new(*b"\x00\xffany octets").expect("in range");
        let asked =
            crate::cli::parse(["hoist", "status", "http://h/u", "--token", &written(&token)].map(Into::into));
        let crate::cli::Verb::Status(ask) = asked.expect("sound").verb else { panic!("another verb") };
        assert_eq!(ask.token, Some(token));
    }

    #[test]
    fn a_bearer_file_may_be_the_servers() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tokens");
        for (text, expected) in
            [("s3cret\n", Some("s3cret")), ("# a\n\n s3cret alice\n", Some("s3cret")), ("# a\n", None)]
        {
            fs::write(&path, text).expect("written");
            assert_eq!(bearer(&path).ok().as_deref(), expected, "{text}");
        }
        assert_eq!(bearer(&directory.path().join("none")).expect_err("missing").exit, Exit::File);
    }
}
