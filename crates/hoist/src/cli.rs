//! The words of the command line.
//!
//! Owns the verbs and their flags; the flags of `serve` are made from the table of settings, so that flag, variable and
//! key can never differ.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use hoist_client::Token;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::config::{Flags, SETTINGS, Span, Values};
use crate::exit;

/// Makes HTTP uploads resumable: the server, and the tools beside it.
#[derive(Debug, Parser)]
#[command(name = "hoist", version, about, after_help = exit::table(), max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Take uploads.
    ///
    /// Prints one line with the upload URL when it accepts connections. SIGTERM and SIGINT end running transfers,
    /// keeping their bytes, and then the server; a second signal ends it at once. SIGHUP reads the certificate again.
    #[command(after_long_help = LAYERS)]
    Serve(Settings),
    /// Look at the configuration of `serve`.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Upload a file, and go on after each interruption.
    Put(Put),
    /// Say how much of an upload the server has. Ends a transfer of it that is still running.
    Status(Ask),
    /// End an upload and free what is stored of it.
    Cancel(Ask),
    /// Print the HTTPS record to publish for the configuration of `serve` (RFC 9460).
    DnsRecord(DnsRecord),
    /// Print the version.
    Version,
}

const LAYERS: &str = "Each flag is also an environment variable (--max-size: HOIST_MAX_SIZE; several values with commas \
    between them) and a key of the TOML file (max-size = \"64MiB\"). A flag goes over a variable, a variable over the \
    file. Sizes: 1024, 64MiB, 10GB. Times: 30s, 5m, 7d, or seconds. `hoist config print` shows what is in effect.";

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// List every problem, each with the next step; exit code 0 when there is none.
    Check {
        #[command(flatten)]
        settings: Settings,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the configuration in effect as a TOML file, each value with its source.
    Print {
        #[command(flatten)]
        settings: Settings,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The file.
    pub(crate) file: PathBuf,
    /// The upload URL.
    pub(crate) url: Uri,
    /// Go on with the upload of this token, or begin it [default: a new random one]
    #[arg(long, value_parser = token)]
    pub(crate) token: Option<Token>,
    /// The file's name for the server [default: its own]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The media type.
    #[arg(long = "type")]
    pub(crate) media_type: Option<String>,
    /// Give up after so long without progress.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = span)]
    pub(crate) retry_for: Span,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

#[derive(Args, Debug)]
pub(crate) struct Ask {
    /// The upload URL.
    pub(crate) url: Uri,
    /// The token that names the upload.
    #[arg(long, value_parser = token)]
    pub(crate) token: Token,
    #[command(flatten)]
    pub(crate) connection: Connection,
}

/// How to talk to the server, and to the user.
#[derive(Args, Debug)]
pub(crate) struct Connection {
    /// A field for every request, like `X-Team: films`.
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
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print the result alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DnsRecord {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// The name clients know the server by.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// The port clients reach it at [default: that of --listen with TLS, else 443]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// How long resolvers may remember the record.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    pub(crate) ttl: Span,
}

impl Cli {
    pub(crate) fn json(&self) -> bool {
        match &self.verb {
            Verb::Put(put) => put.connection.json,
            Verb::Status(ask) | Verb::Cancel(ask) => ask.connection.json,
            Verb::Config(ConfigVerb::Check { json, .. }) => *json,
            Verb::Config(ConfigVerb::Print { .. }) | Verb::Serve(_) | Verb::DnsRecord(_) | Verb::Version => {
                false
            }
        }
    }

    pub(crate) fn quiet(&self) -> bool {
        match &self.verb {
            Verb::Put(put) => put.connection.quiet,
            Verb::Status(ask) | Verb::Cancel(ask) => ask.connection.quiet,
            Verb::Config(_) | Verb::Serve(_) | Verb::DnsRecord(_) | Verb::Version => false,
        }
    }
}

/// The flags of `serve`, as they were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) flags: Flags,
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("FILE").value_parser(ValueParser::path_buf());
        let command = command.arg(file.help("Read settings from this TOML file [variable: HOIST_CONFIG]"));
        SETTINGS.iter().fold(command, |command, setting| {
            let repeats = if setting.values == Values::Many { ", repeatable" } else { "" };
            let default = setting.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
            let arg = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.value)
                .help(format!("{}{repeats}{default}", setting.help))
                .help_heading(setting.heading)
                // Whether a repetition is sound is judged with the other layers, in the same words.
                .action(ArgAction::Append);
            let arg = match setting.values {
                Values::One | Values::Many => arg,
                // With the equals sign alone, or the flag would take the next word for its value.
                Values::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
            };
            command.arg(arg.value_parser(ValueParser::string()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = SETTINGS.iter().filter_map(|setting| {
            let texts = matches.get_many::<String>(setting.name)?;
            Some((setting.name, texts.cloned().collect()))
        });
        Ok(Self { file: matches.get_one::<PathBuf>("config").cloned(), flags: given.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Reads the command line, or says what to print instead.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words)
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

fn span(text: &str) -> Result<Span, &'static str> {
    text.parse()
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    let (name, value) = text.split_once(':').ok_or("write it like `X-Team: films`")?;
    let name = name.trim().parse().map_err(|_| "this is no field name")?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "this is no field value")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(words: &str) -> Result<Cli, clap::Error> {
        parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_serve_are_the_settings() {
        let cli = parsed("hoist serve --listen 127.0.0.1:1 --listen [::1]:2 --max-size 3KiB --config x.toml")
            .expect("sound");
        let Verb::Serve(settings) = cli.verb else { panic!("another verb") };
        assert_eq!(settings.file, Some("x.toml".into()));
        let flags = crate::config::flags(&[("listen", &["127.0.0.1:1", "[::1]:2"]), ("max-size", &["3KiB"])]);
        assert_eq!(settings.flags, flags);
        for (words, expected) in [("--downloads", "on"), ("--downloads=off", "off")] {
            let cli = parsed(&format!("hoist serve {words} --endpoint /e")).expect("sound");
            let Verb::Serve(settings) = cli.verb else { panic!("another verb") };
            assert_eq!(
                settings.flags,
                crate::config::flags(&[("downloads", &[expected]), ("endpoint", &["/e"])])
            );
        }
        assert!(parsed("hoist serve --downloads on").is_err());
        for verb in ["serve", "config check", "config print", "dns-record --host a.example"] {
            for setting in SETTINGS {
                assert!(
                    parsed(&format!("hoist {verb} --{}=x", setting.name)).is_ok(),
                    "{verb} {}",
                    setting.name
                );
            }
        }
    }

    #[test]
    fn what_put_takes() {
        let cli = parsed("hoist put f http://h/u --token abc --header X-A:b --retry-for 5s --json -q")
            .expect("sound");
        assert!(cli.json() && cli.quiet());
        let Verb::Put(put) = cli.verb else { panic!("another verb") };
        assert_eq!(put.token.map(|token| token.expose().to_vec()), Some(b"abc".to_vec()));
        assert_eq!(put.retry_for.0, std::time::Duration::from_secs(5));
        let bad = [
            "hoist put f",
            "hoist put f http://h/u --token a,b",
            "hoist put f http://h/u --header novalue",
            "hoist put f http://h/u --retry-for soon",
            "hoist put f http://h/u --bearer a --bearer-file b",
            "hoist status http://h/u",
            "hoist cancel --token abc",
            "hoist serve --sizes 1",
            "hoist",
        ];
        for words in bad {
            assert!(parsed(words).is_err(), "{words}");
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

    #[test]
    fn help_and_version_are_asked_for() {
        for words in ["hoist --help", "hoist serve --help", "hoist --version"] {
            assert!(!parsed(words).expect_err("printed").use_stderr(), "{words}");
        }
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:"), "{help}");
    }
}
