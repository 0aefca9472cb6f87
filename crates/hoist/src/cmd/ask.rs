//! What the client's verbs have in common: a client made of flags, a runtime for one task, and exit codes for errors.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use hoist_client::{Builder, Client, Error};

use crate::cli::Connection;
use crate::exit::{Exit, Failure};

/// A client with the settings of the command line.
pub(crate) fn client(connection: &Connection) -> Result<Builder, Failure> {
    let mut builder = Client::builder();
    for (name, value) in &connection.headers {
        builder = builder.header(name.clone(), value.clone());
    }
    if let Some(path) = &connection.ca {
        builder = builder.ca_file(path);
    }
    if let Some(secret) = &connection.bearer {
        builder = builder.bearer(secret);
    }
    if let Some(path) = &connection.bearer_file {
        builder = builder.bearer(bearer(path)?);
    }
    Ok(builder)
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

/// The client's error with its exit code.
pub(crate) fn failure(error: Error) -> Failure {
    let exit = exit(&error);
    let next = match exit {
        Exit::Unreachable => "; run it again later",
        Exit::NotFound => "; it is complete and forgotten, expired, or was never there",
        _ => "",
    };
    let error = anyhow::Error::new(error);
    // The causes belong into the line, before the next step.
    Failure::say(exit, format_args!("{error:#}{next}"))
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Refused { status, .. } if matches!(status.as_u16(), 404 | 410) => Exit::NotFound,
        Error::Refused { .. } | Error::Upload(_) => Exit::Refused,
        Error::Url { .. } | Error::Field(_) => Exit::Usage,
        Error::Trust { .. } | Error::Source { .. } | Error::SourceChanged { .. } => Exit::File,
        Error::Connect { .. }
        | Error::Tls { .. }
        | Error::Lost { .. }
        | Error::Idle(_)
        | Error::Exhausted { .. } => Exit::Unreachable,
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
        let refused =
            |status: u16| Error::Refused { status: status.try_into().expect("a status"), detail: None };
        let source = || io::Error::other("why");
        let cases = [
            (refused(404), Exit::NotFound),
            (refused(410), Exit::NotFound),
            (refused(403), Exit::Refused),
            (Error::Upload(hoist_client::Failure::Taken), Exit::Refused),
            (Error::Url { url: "x".into(), wrong: "y" }, Exit::Usage),
            (Error::Source { path: "x".into(), source: source() }, Exit::File),
            (Error::SourceChanged { path: "x".into() }, Exit::File),
            (Error::Connect { authority: "x".into(), source: source() }, Exit::Unreachable),
            (Error::Idle(Duration::ZERO), Exit::Unreachable),
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
