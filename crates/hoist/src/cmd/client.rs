//! The shared parts of the client commands: a client built from flags, a runtime for one task, and exit codes for client errors.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use hoist_client::Failure::{Gone, Unanswered};
use hoist_client::{Client, ClientBuilder, Error, Proxies, Quoted, Retry, TlsFault, Token};

use crate::cli::{ConnectionArgs, ProxyArgs};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Returns a client builder with the settings of the command line.
pub(crate) fn builder(connection: &ConnectionArgs, route: &ProxyArgs) -> Result<ClientBuilder, Failure> {
    let mut builder = Client::builder().proxies(proxies(route).map_err(failure)?);
    for (name, value) in &connection.headers {
        builder = builder.header(name.clone(), value.clone());
    }
    if let Some(path) = &connection.ca {
        builder = builder.ca_file(path);
    }
    if connection.insecure {
        warn_insecure();
        builder = builder.accept_any_certificate();
    }
    if let Some(secret) = bearer_of(connection)? {
        builder = builder.bearer(secret);
    }
    Ok(builder)
}

/// Warns that certificates are not checked, also when quiet.
pub(crate) fn warn_insecure() {
    Output::new(false, false).message(
        "warning: --insecure: the server's certificate is not checked, so credentials and content can be read and changed \
         on the way; --ca FILE trusts one certificate",
    );
}

/// Returns the bearer token given by `--bearer` or `--bearer-file`, or else by the environment.
pub(crate) fn bearer_of(connection: &ConnectionArgs) -> Result<Option<String>, Failure> {
    match (&connection.bearer, &connection.bearer_file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => bearer(path).map(Some),
        (None, None) => {
            let secret = config::client_bearer().map(OsString::into_string).transpose();
            secret.map_err(|_| {
                Failure::message(Exit::Usage, "HOIST_BEARER is not UTF-8; set it to the bearer token")
            })
        }
    }
}

/// Returns the proxies of the command line or, if it has none, of the environment.
fn proxies(route: &ProxyArgs) -> Result<Proxies, Error> {
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

/// Reads a bearer token: the first word outside of comments, so that the file of `serve --bearer-file` can be used too.
fn bearer(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}, given by --bearer-file", Quoted::new(path)));
    let text = text.map_err(|error| Failure::new(Exit::File, error))?;
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let word = lines.flat_map(str::split_whitespace).next();
    word.map(ToOwned::to_owned).ok_or_else(|| {
        Failure::message(
            Exit::File,
            format_args!("{} contains no token; write one into it", Quoted::new(path)),
        )
    })
}

/// Returns the failure for a file that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::message(Exit::File, format_args!("cannot read {}: {error}", Quoted::new(path)))
}

/// Runs a task to its end on a new runtime.
pub(crate) fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let ended = runtime.block_on(task);
    // Does not wait for blocking tasks that are left, such as name lookups.
    runtime.shutdown_background();
    ended
}

/// Formats a token as it is sent, which `--token` accepts too.
pub(crate) fn written(token: &Token) -> String {
    let value = hoist_proto::field::token_value(token);
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Converts a client error to a failure: its exit code, and the message with the next step.
#[expect(clippy::needless_pass_by_value, reason = "so that it can be given to `map_err`")]
pub(crate) fn failure(error: Error) -> Failure {
    let exit = exit(&error);
    let next = match exit {
        Exit::Unreachable => "; run the command again later",
        Exit::NotFound => "; it has expired, was deleted, or never existed",
        Exit::Busy => "; wait for that process, or stop it",
        Exit::Corrupt => "; upload it again",
        _ => match &error {
            Error::Tls { fault: TlsFault::UnknownIssuer, .. } => {
                "; to trust it, give it or its issuer with --ca FILE"
            }
            Error::Tls { fault: TlsFault::Expired, .. } => "; renew it on the server",
            Error::Tls { fault: TlsFault::NotYetValid, .. } => "; check the clock of this machine",
            Error::Tls { fault: TlsFault::WrongName, .. } => "; use a name in the URL for which it is valid",
            Error::UnknownHost { .. } => "; check the host name in the URL",
            Error::NotHttp { .. } => "; check the port in the URL",
            Error::NoEndpoint { .. } => "; check the path (hoist serves /uploads by default)",
            Error::Refused { status, .. } if status.as_u16() == 401 => {
                "; give a valid token with --bearer-file FILE or HOIST_BEARER"
            }
            Error::Proxy { status, .. } if status.as_u16() == 407 => {
                "; give the user name and password of the proxy with --proxy"
            }
            Error::Upload(Gone) => "; run the command again to upload it from the start",
            Error::Scheme { speaks_tls: true, .. } => "; write https:// in the URL",
            Error::Scheme { speaks_tls: false, .. } => "; write http:// in the URL if you trust the network",
            Error::Redirected { .. } => "; use that URL if it is the right one",
            Error::NotRewindable { .. } => "; save it to a file and upload the file",
            Error::Journal { .. } => "; use --no-resume to upload without a journal",
            Error::Upload(Unanswered) => {
                "; check whether the server has it, or upload it again with --method put"
            }
            _ => "",
        },
    };
    Failure::message(exit, format_args!("{}{next}", described(&error)))
}

/// Returns whether the other files of a run would fail for the same reason, so that it stops.
pub(crate) fn concerns_all_files(error: &Error) -> bool {
    match error {
        Error::Refused { status, .. } => status.as_u16() == 401,
        Error::Proxy { .. } => error.retry() == Retry::Never,
        Error::Exhausted { concerns_origin, .. } => *concerns_origin,
        Error::UnknownHost { .. }
        | Error::NotHttp { .. }
        | Error::NoEndpoint { .. }
        | Error::Scheme { .. }
        | Error::Tls { .. }
        | Error::Trust { .. }
        | Error::Dialect(_)
        | Error::Unresumable { .. } => true,
        _ => false,
    }
}

/// Formats an error with its causes on one line.
pub(crate) fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&system_text(&error.to_string()));
        cause = error.source();
    }
    text
}

/// Turns an error text of the operating system, like `Connection refused (os error 111)`, into the style of this command.
fn system_text(text: &str) -> String {
    let text = text.rsplit_once(" (os error ").map_or(text, |(text, _)| text);
    // rustls refers programmers to its manual.
    let text = text.split_once(": https://docs.rs/").map_or(text, |(text, _)| text);
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_ascii_uppercase() && second.is_ascii_lowercase() => {
            format!("{}{}", first.to_ascii_lowercase(), chars.as_str())
        }
        _ => text.to_owned(),
    }
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Refused { status, .. } if matches!(status.as_u16(), 404 | 410) => Exit::NotFound,
        Error::Proxy { .. } | Error::Refused { .. } if error.retry() == Retry::Later => Exit::Unreachable,
        Error::Refused { .. }
        | Error::Redirected { .. }
        | Error::UnknownHost { .. }
        | Error::NotHttp { .. }
        | Error::NoEndpoint { .. }
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn client_errors_map_to_exit_codes() {
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
            (Error::Tls { authority: "x".into(), fault: TlsFault::Expired, source: source() }, Exit::Tls),
            (Error::Scheme { authority: "x".into(), speaks_tls: true }, Exit::Tls),
            (Error::Proxy { proxy: "x".into(), status: status(407) }, Exit::Refused),
            (Error::Proxy { proxy: "x".into(), status: status(503) }, Exit::Unreachable),
            (Error::Redirected { status: status(302), to: "x".into(), wrong: None }, Exit::Refused),
            (
                Error::Exhausted { attempts: 1, concerns_origin: true, source: Box::new(refused(503)) },
                Exit::Unreachable,
            ),
            (refused(503), Exit::Unreachable),
            (refused(429), Exit::Unreachable),
            (Error::UnknownHost { host: "x".into() }, Exit::Refused),
            (Error::NotHttp { authority: "x".into(), source: "y".into() }, Exit::Refused),
            (Error::NoEndpoint { url: "x".into(), status: status(404), detail: None }, Exit::Refused),
        ];
        for (error, expected) in cases {
            let text = error.to_string();
            let failure = failure(error);
            assert_eq!(failure.exit, expected, "{text}");
            assert!(failure.to_string().starts_with(&text), "{failure}");
        }
    }

    #[test]
    fn a_printed_token_is_accepted_as_an_argument() {
        let token = Token::new(*b"\x00\xffany octets").expect("in range");
        let asked =
            crate::cli::parse(["hoist", "status", "http://h/u", "--token", &written(&token)].map(Into::into));
        let crate::cli::Verb::Status(ask) = asked.expect("sound").verb else { panic!("another verb") };
        assert_eq!(ask.token, Some(token));
    }

    #[test]
    fn a_bearer_file_may_be_the_one_of_the_server() {
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
