//! The flags of the client commands (`put`, `status`, `cancel`, `ls`, `demo`), and the parsers of their values.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{ArgAction, Args, ValueEnum};
use hoist_client::{Dialect, Interop, Origin, Token};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::exclusion::Exclusion;
use crate::config::{self, Size, TimeSpan};

pub(super) const AFTER_PUT: &str = "Unfinished uploads are recorded in a journal ($XDG_STATE_HOME/hoist/uploads, or \
    ~/.local/state/hoist/uploads). Run the same command again to resume them, whatever ended the last run. A file that \
    has changed in the meantime is uploaded from the start. If one file fails, the others are still uploaded \
    unless they would fail for the same reason, and the exit code reports the failure.";

/// The arguments of `put`: files, upload URL and options.
#[derive(Args, Debug)]
#[command(override_usage = "hoist put [OPTIONS] <FILE>... <URL>")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub(crate) struct Put {
    /// Files, directories (recursively), quoted patterns (`'*.mkv'`) or - for standard input, followed by the upload URL.
    #[arg(required = true, value_name = "FILE... URL")]
    arguments: Vec<OsString>,
    #[arg(skip)]
    pub(crate) files: Vec<PathBuf>,
    #[arg(skip)]
    pub(crate) url: Uri,
    /// Skip files and directories that match this pattern; repeatable. A pattern without a slash is compared with names
    /// (`'*.tmp'`, `.git`), one with a slash with the end of the path (`'cache/*.db'`).
    #[arg(long, value_name = "PATTERN", value_parser = Exclusion::of)]
    pub(crate) exclude: Vec<Exclusion>,
    /// List the files that would be uploaded, with their sizes, without contacting the server.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Skip files that an earlier run with this flag has uploaded to the same URL and that have not changed since.
    #[arg(long, conflicts_with = "no_resume")]
    pub(crate) skip_done: bool,
    /// Number of files to upload in parallel.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count)]
    pub(crate) parallel: usize,
    /// Number of parts of one file to upload in parallel, if the server and dialect support it (tus1, token).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub(crate) parts: usize,
    /// Token of the upload to create or resume [default: the token in the journal, or a new one]
    #[arg(long, value_parser = token)]
    pub(crate) token: Option<Token>,
    /// File name to send to the server [default: the file's own name; inside a directory, its path from the directory on]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Media type to send to the server.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) media_type: Option<String>,
    /// Method of the request that creates the upload. If the response to a PUT is lost, the request is repeated, and the
    /// server may store the file twice.
    #[arg(long, value_enum, default_value = "post")]
    pub(crate) method: CreateMethod,
    #[arg(long, hide_default_value = true, default_value_t, help = dialect_help())]
    pub(crate) dialect: Dialect,
    /// Maximum bytes per second for all files together: 10M and 10MiB are 10 × 1024 × 1024, 10MB is 10 000 000.
    #[arg(long, value_name = "SIZE", value_parser = positive)]
    pub(crate) rate: Option<Size>,
    /// Maximum bytes per request, like 64M, for proxies that limit the size of requests.
    #[arg(long, value_name = "SIZE", value_parser = positive)]
    pub(crate) chunk: Option<Size>,
    /// Give up after this time without progress of any file, or of one file.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(crate) retry_for: TimeSpan,
    /// Fail with exit code 15 if the server does not support resumable uploads.
    #[arg(long)]
    pub(crate) require_resumable: bool,
    /// Do not use the journal: start every upload anew and record nothing.
    #[arg(long)]
    pub(crate) no_resume: bool,
    /// Compare the SHA-256 of each file with the digest the server reports, if it reports one.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) route: ProxyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) verbosity: VerboseArgs,
}

/// The help text of `--dialect`, with the interop versions of this release.
fn dialect_help() -> String {
    let (oldest, newest) = (Interop::OLDEST, Interop::NEWEST);
    format!(
        "Dialect to use: ietf, ietf-{oldest} to ietf-{newest}, ietf-rfc, token, token-draft, token-1, token-2, tus1, \
         conventional [default: detected from the server]"
    )
}

impl Put {
    /// Splits the positional arguments into the files and the upload URL, which comes last.
    pub(super) fn split_url_from_files(&mut self) -> Result<(), String> {
        let last = self.arguments.pop().unwrap_or_default();
        self.url = url(&last.to_string_lossy())?;
        self.files = self.arguments.drain(..).map(PathBuf::from).collect();
        self.conflict().map_or(Ok(()), |wrong| Err(wrong.to_owned()))
    }

    /// Returns the message for a combination of arguments that is not allowed.
    fn conflict(&self) -> Option<&'static str> {
        let is_one = self.files.len() == 1;
        let inputs = self.files.iter().filter(|file| file.as_os_str() == "-").count();
        match self {
            Self { token: Some(_), .. } if !is_one => Some("--token can be used with one FILE only"),
            Self { name: Some(_), .. } if !is_one => Some("--name can be used with one FILE only"),
            Self { require_resumable: true, dialect: Dialect::Conventional, .. } => {
                Some("--require-resumable cannot be used with --dialect conventional")
            }
            _ if self.files.is_empty() => Some("no FILE given; write it before the upload URL"),
            _ if inputs > 1 => Some("standard input can be uploaded only once; give `-` once"),
            _ => None,
        }
    }
}

/// The method of the request that creates an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CreateMethod {
    Post,
    Put,
}

impl From<CreateMethod> for Method {
    fn from(verb: CreateMethod) -> Self {
        match verb {
            CreateMethod::Post => Self::POST,
            CreateMethod::Put => Self::PUT,
        }
    }
}

/// The arguments of `status` and `cancel`.
#[derive(Args, Debug)]
pub(crate) struct UploadArgs {
    /// URL of the upload, upload URL of the server (with --token), or a file whose upload is in the journal.
    #[arg(value_name = "URL|FILE", value_parser = OsStringValueParser::new().try_map(UploadRef::of))]
    pub(crate) upload: UploadRef,
    /// Token of the upload.
    #[arg(long, value_parser = token)]
    pub(crate) token: Option<Token>,
    /// Upload URL to pick if the file is being uploaded to several servers.
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(crate) to: Option<Uri>,
    #[command(flatten)]
    pub(crate) route: ProxyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) verbosity: VerboseArgs,
}

impl UploadArgs {
    pub(super) fn conflict(&self) -> Option<&'static str> {
        match (&self.upload, &self.token, &self.to) {
            (UploadRef::File(_), Some(_), _) => {
                Some("--token needs an upload URL, which starts with http:// or https://")
            }
            (UploadRef::Url(_), _, Some(_)) => Some("--to can be used with a FILE only"),
            _ => None,
        }
    }
}

/// A reference to an upload: an `http` or `https` URL, or a local file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UploadRef {
    Url(Uri),
    File(PathBuf),
}

impl UploadRef {
    fn of(word: OsString) -> Result<Self, String> {
        match word.to_str() {
            Some(text) if looks_like_url(text) => url(text).map(Self::Url),
            _ => Ok(Self::File(word.into())),
        }
    }
}

/// The options of connection and output.
#[derive(Args, Debug)]
pub(crate) struct ConnectionArgs {
    /// Additional request field for the server of the URL, like `X-Team: films`; repeatable.
    #[arg(long = "header", short = 'H', value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Bearer token to authenticate with; visible to other users of this machine, so prefer --bearer-file or the
    /// environment variable [default: that of the environment variable `HOIST_BEARER`]
    #[arg(long, value_name = "TOKEN", conflicts_with = "bearer_file")]
    pub(crate) bearer: Option<String>,
    /// File whose first word is the bearer token to authenticate with.
    #[arg(long, value_name = "FILE")]
    pub(crate) bearer_file: Option<PathBuf>,
    /// PEM file of the only certificates to trust.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Accept any certificate of the server. Credentials and content can then be read and changed on the way.
    #[arg(long, short = 'k', conflicts_with = "ca")]
    pub(crate) insecure: bool,
    /// Print JSON, one event or result per line.
    #[arg(long, short)]
    pub(crate) json: bool,
    /// Print only the result.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The option that shows the requests of a client command.
#[derive(Args, Debug)]
pub(crate) struct VerboseArgs {
    /// Print each request and response to standard error, interim responses too, without secrets. -vv adds connections,
    /// retries and other decisions.
    #[arg(long, short, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// The options of the route to the server.
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// Proxy to use, like `http://user:password@proxy.example:3128` [default: from the environment variables `http_proxy`,
    /// `https_proxy` and `all_proxy`]
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Comma-separated host names, addresses and networks to reach without a proxy, or `*` for all [default: from the
    /// environment variable `no_proxy`]
    #[arg(long, value_name = "HOSTS")]
    pub(crate) no_proxy: Option<String>,
}

impl ConnectionArgs {
    /// Returns whether requests carry fields that may be credentials.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.headers.is_empty()
            || self.bearer.is_some()
            || self.bearer_file.is_some()
            || config::client_bearer().is_some()
    }
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Print JSON, one upload per line.
    #[arg(long, short)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// File to upload [default: 256 MiB of random bytes]
    pub(crate) file: Option<PathBuf>,
    /// Number of times the link is cut.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) cuts: u32,
    /// Print only the result.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Parses a token in any form that servers accept, so that `status` takes what `put` prints.
fn token(text: &str) -> Result<Token, &'static str> {
    const WRONG: &str = "a token is `:base64:`, `\"text\"`, or visible ASCII without comma";
    let name = HeaderName::from_static("upload-token");
    let mut fields = HeaderMap::new();
    fields.insert(&name, HeaderValue::from_str(text).map_err(|_| WRONG)?);
    match hoist_proto::field::token(&fields, &name) {
        hoist_proto::field::Field::Is(token) => Ok(token),
        _ => Err(WRONG),
    }
}

fn looks_like_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme))
    })
}

pub(super) fn url(text: &str) -> Result<Uri, String> {
    if !looks_like_url(text) {
        return Err("the upload URL comes last; it starts with http:// or https:// and has a host".into());
    }
    let url: Uri = text.parse().map_err(|_| format!("{text} is not a URL"))?;
    Origin::of(&url).map(|_| url).map_err(|error| error.to_string())
}

pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|count| (1..=256).contains(count)).ok_or("not a number from 1 to 256")
}

fn positive(text: &str) -> Result<Size, &'static str> {
    let size: Size = text.parse()?;
    if size.0 > 0 { Ok(size) } else { Err("must be greater than zero") }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it like `X-Team: films`")?;
    let name = name.trim().parse().map_err(|_| "not a field name")?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "not a field value")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_files_by_their_scheme() {
        for (text, is_url) in [
            ("http://h/u", true),
            ("https://h", true),
            ("film.mkv", false),
            ("/a/b", false),
            ("h:1/u", false),
            ("HTTP://h/u", true),
        ] {
            let upload = UploadRef::of(text.into()).expect("one or the other");
            assert_eq!(matches!(upload, UploadRef::Url(_)), is_url, "{text}");
        }
    }

    #[test]
    fn an_unusable_url_is_rejected_and_not_taken_for_a_file() {
        for text in
            ["http://h:65616/u", "http://h:0", "http://h:x/u", "http://a:b@h/u", "https://", "http://a b"]
        {
            assert!(url(text).is_err(), "{text}");
            assert!(UploadRef::of(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn tokens_are_accepted_in_every_form_servers_read() {
        let cases: [(&str, Option<&[u8]>); 6] = [
            (":aGVsbG8=:", Some(b"hello")),
            ("\"hello\"", Some(b"hello")),
            ("hello", Some(b"hello")),
            ("", None),
            ("a b", None),
            ("\u{e9}", None),
        ];
        for (text, expected) in cases {
            let octets = token(text).ok().map(|token| token.expose().to_vec());
            assert_eq!(octets.as_deref(), expected, "{text}");
        }
    }
}
