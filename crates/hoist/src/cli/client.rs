//! The flags of the client's verbs, and what their values mean.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use hoist_client::{Dialect, Origin, Token};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::config::{Size, TimeSpan};

pub(super) const AFTER_PUT: &str = "What is under way is kept in a journal ($XDG_STATE_HOME/hoist/uploads, or \
    ~/.local/state/hoist/uploads): the same command, run again after whatever ended it, goes on where the server is. A \
    file that has changed since is begun afresh. One file that fails does not keep the others from being uploaded; the \
    exit code tells.";

/// Files, their options, and where to.
#[derive(Args, Debug)]
#[command(override_usage = "hoist put [OPTIONS] <FILE>... <URL>")]
pub(crate) struct Put {
    /// Files, directories with all that is in them, quoted patterns (`'*.mkv'`), or - for standard input; and last the
    /// upload URL.
    #[arg(required = true, value_name = "FILE... URL")]
    arguments: Vec<OsString>,
    #[arg(skip)]
    pub(crate) files: Vec<PathBuf>,
    #[arg(skip)]
    pub(crate) url: Uri,
    /// How many files to upload at the same time.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count)]
    pub(crate) parallel: usize,
    /// In how many parts to upload one file at the same time, where server and dialect have parts (tus1, token).
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count)]
    pub(crate) parts: usize,
    /// Go on with the upload of this token, or begin it [default: what the journal knows, or a new one]
    #[arg(long, value_parser = token)]
    pub(crate) token: Option<Token>,
    /// The file's name for the server [default: its own; of a file in a directory the path, from the directory's name on]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The media type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) media_type: Option<String>,
    /// The method of the request that begins an upload. A put may be made again where its answer was lost; then the
    /// server may have the file twice.
    #[arg(long, value_enum, default_value = "post")]
    pub(crate) method: CreateMethod,
    /// The dialect to speak: ietf, ietf-3 to ietf-10, ietf-rfc, token, token-draft, token-1, token-2, tus1, conventional
    /// [default: the one the server speaks]
    #[arg(long, hide_default_value = true, default_value_t)]
    pub(crate) dialect: Dialect,
    /// Send at most so many bytes in a second, all files together, like 10MB.
    #[arg(long, value_name = "SIZE", value_parser = positive)]
    pub(crate) rate: Option<Size>,
    /// Put at most so many bytes into one request, for proxies that take no more.
    #[arg(long, value_name = "SIZE", value_parser = positive)]
    pub(crate) chunk: Option<Size>,
    /// Give up on a file after so long without progress.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub(crate) retry_for: TimeSpan,
    /// Fail (exit code 15) where the server shows no upload protocol, so that an interruption would mean to begin again.
    #[arg(long)]
    pub(crate) require_resumable: bool,
    /// Neither look into the journal nor keep one.
    #[arg(long)]
    pub(crate) no_resume: bool,
    /// Have the server say the SHA-256 of what it has, where it can, and compare.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) route: ProxyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl Put {
    /// Tells the URL from the files, wherever flags stand between them.
    pub(super) fn split_url_from_files(&mut self) -> Result<(), String> {
        let last = self.arguments.pop().unwrap_or_default();
        self.url = url(&last.to_string_lossy())?;
        self.files = self.arguments.drain(..).map(PathBuf::from).collect();
        self.conflict().map_or(Ok(()), |wrong| Err(wrong.to_owned()))
    }

    /// Finds a fault that no single value shows.
    fn conflict(&self) -> Option<&'static str> {
        let is_one = self.files.len() == 1;
        let inputs = self.files.iter().filter(|file| file.as_os_str() == "-").count();
        match self {
            Self { token: Some(_), .. } if !is_one => Some("--token is for one FILE alone"),
            Self { name: Some(_), .. } if !is_one => Some("--name is for one FILE alone"),
            Self { require_resumable: true, dialect: Dialect::Conventional, .. } => {
                Some("--require-resumable and --dialect conventional exclude each other")
            }
            _ if self.files.is_empty() => Some("give a FILE before the upload URL"),
            _ if inputs > 1 => Some("standard input can be uploaded once: give `-` once"),
            _ => None,
        }
    }
}

/// The methods that begin uploads.
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

/// An upload to ask about.
#[derive(Args, Debug)]
pub(crate) struct UploadArgs {
    /// The upload's own URL; the upload URL, with --token; or a file that is under way, by the journal.
    #[arg(value_name = "URL|FILE", value_parser = OsStringValueParser::new().try_map(UploadRef::of))]
    pub(crate) upload: UploadRef,
    /// The token that names the upload.
    #[arg(long, value_parser = token)]
    pub(crate) token: Option<Token>,
    /// Of a file that is uploaded to several places: the one to this upload URL.
    #[arg(long, value_name = "URL", value_parser = url)]
    pub(crate) to: Option<Uri>,
    #[command(flatten)]
    pub(crate) route: ProxyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl UploadArgs {
    pub(super) fn conflict(&self) -> Option<&'static str> {
        match (&self.upload, &self.token, &self.to) {
            (UploadRef::File(_), Some(_), _) => {
                Some("--token goes with an upload URL, which begins with http")
            }
            (UploadRef::Url(_), _, Some(_)) => Some("--to goes with a FILE"),
            _ => None,
        }
    }
}

/// A URL or a file: what looks like a URL is one.
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

/// Options of the connection and of the output.
#[derive(Args, Debug)]
pub(crate) struct ConnectionArgs {
    /// A field for every request to the server of the URL, like `X-Team: films`.
    #[arg(long = "header", value_name = "FIELD", value_parser = header)]
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Authenticate with this bearer token; other users of this machine may see it.
    #[arg(long, value_name = "TOKEN", conflicts_with = "bearer_file")]
    pub(crate) bearer: Option<String>,
    /// Authenticate with the bearer token in this file, its first word.
    #[arg(long, value_name = "FILE")]
    pub(crate) bearer_file: Option<PathBuf>,
    /// Trust the certificates of this PEM file and no others.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print JSON, one event or result a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the result alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The way to the server.
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// Go through this proxy, like `http://user:password@proxy.example:3128` [default: by `http_proxy`, `https_proxy` and
    /// `all_proxy` of the environment]
    #[arg(long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Reach these hosts without a proxy: names, addresses and networks with commas between them, or `*` for all
    /// [default: by `no_proxy` of the environment]
    #[arg(long, value_name = "HOSTS")]
    pub(crate) no_proxy: Option<String>,
}

impl ConnectionArgs {
    /// True if something is to be sent that may be a secret.
    pub(crate) fn has_secrets(&self) -> bool {
        !self.headers.is_empty() || self.bearer.is_some() || self.bearer_file.is_some()
    }
}

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Print JSON, one upload a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// The file to upload [default: 256 MiB made up for it]
    pub(crate) file: Option<PathBuf>,
    /// How often the link is cut.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) cuts: u32,
    /// Print the result alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// A token as servers read it, so that what `put` prints can be given to `status`.
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
        return Err("the upload URL comes last; it begins with http:// or https:// and names a host".into());
    }
    let url: Uri = text.parse().map_err(|_| format!("{text} is not a URL"))?;
    Origin::of(&url).map(|_| url).map_err(|error| error.to_string())
}

pub(super) fn span(text: &str) -> Result<TimeSpan, &'static str> {
    text.parse()
}

pub(super) fn count(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|count| (1..=256).contains(count)).ok_or("a number from 1 to 256")
}

fn positive(text: &str) -> Result<Size, &'static str> {
    let size: Size = text.parse()?;
    if size.0 > 0 { Ok(size) } else { Err("has to be more than nothing") }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it like `X-Team: films`")?;
    let name = name.trim().parse().map_err(|_| "this is no field name")?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "this is no field value")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_url_is_one() {
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
    fn a_url_that_cannot_be_used_is_neither_a_url_nor_a_file() {
        for text in
            ["http://h:65616/u", "http://h:0", "http://h:x/u", "http://a:b@h/u", "https://", "http://a b"]
        {
            assert!(url(text).is_err(), "{text}");
            assert!(UploadRef::of(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_has_the_forms_servers_read() {
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
