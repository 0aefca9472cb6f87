//! The command line: subcommands and their flags.
//!
//! The flags of `serve` are generated from the table in `config/settings.rs`, so that flag, environment variable and key
//! always agree. The flags of the client commands are in `cli/client.rs`, those of `check` in `cli/check.rs`.

mod admin;
mod check;
mod client;
mod events;
pub(crate) mod examples;
mod exclusion;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

pub(crate) use self::admin::{Admin, AdminLs, AdminPlace, AdminVerb, UploadIds};
pub(crate) use self::check::Check;
pub(crate) use self::client::{ConnectionArgs, Demo, Ls, ProxyArgs, Put, UploadArgs, UploadRef};
pub(crate) use self::events::{EventsLs, EventsOf, EventsRetry, EventsVerb};
pub(crate) use self::exclusion::Exclusion;
use crate::config::{Flags, SETTINGS, TimeSpan, Values, former_name};
use crate::exit;

/// Resumable HTTP uploads: server, client and conformance checker.
#[derive(Debug, Parser)]
#[command(name = "hoist", version, about, after_help = exit::table(), max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the upload server.
    ///
    /// Prints one line with the upload URL once the server accepts connections. SIGTERM and SIGINT stop it gracefully:
    /// running transfers are ended and the bytes received so far are stored. A second signal stops it at once. SIGHUP
    /// reads the configuration again, with all files it names.
    #[command(after_help = examples::help("serve"), after_long_help = examples::help_after(LAYERS, "serve"))]
    Serve(ServeArgs),
    /// Check or print the configuration of `serve`.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Upload files, resuming after interruptions and across runs.
    #[command(after_help = examples::help("put"), after_long_help = examples::help_after(client::AFTER_PUT, "put"))]
    Put(Put),
    /// Show how much of an upload the server has.
    ///
    /// If `hoist put` is sending it as the same user, the last offset that it noted is shown, and the server is not asked.
    /// A transfer by another user or machine is interrupted by the query, and resumes.
    #[command(after_help = examples::help("status"))]
    Status(UploadArgs),
    /// Cancel an upload and delete its content from the server.
    #[command(after_help = examples::help("cancel"))]
    Cancel(UploadArgs),
    /// List unfinished uploads recorded in the local journal.
    #[command(after_help = examples::help("ls"))]
    Ls(Ls),
    /// Test a server's conformance with the upload protocols, using a built-in suite of cases.
    #[command(after_help = examples::help("check"), after_long_help = examples::help_after(check::AFTER, "check"))]
    Check(Check),
    /// Run a demonstration: upload a file to a local server over a link that keeps breaking, and compare the bytes.
    #[command(after_help = examples::help("demo"))]
    Demo(Demo),
    /// Show and settle the events that a server is to deliver.
    ///
    /// `ls` and `show` read the data directory, also beside a running server.
    #[command(subcommand)]
    Events(EventsVerb),
    /// See and steer a running server through its admin listener.
    #[command(after_help = admin::AFTER)]
    Admin(Admin),
    /// Print the DNS HTTPS record (RFC 9460) for the configuration of `serve`.
    #[command(after_help = examples::help_after(SETTINGS_OF_SERVE, "dns-record"))]
    DnsRecord(DnsRecord),
    /// Print a shell completion script.
    #[command(after_help = examples::help("completions"))]
    Completions {
        /// Shell to generate the script for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page per command into a directory.
    #[command(after_help = examples::help("man"))]
    Man {
        /// Directory to write the pages to; created if missing.
        directory: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

const LAYERS: &str = "Each flag can also be set by an environment variable (--max-size: HOIST_MAX_SIZE; multiple values \
    separated by commas) or by a key in the TOML file (max-size = \"64MiB\"). Flags override variables, and variables \
    override the file. Sizes: 1024, 64M or 64MiB (binary), 10MB \
    (decimal). Times: 30s, 5m, 7d, or a number of seconds. `hoist config print` shows \
    the effective configuration. SIGHUP applies a changed configuration to a running server, except for the settings \
    marked [restart ...]. If it has an error, the old configuration stays in use.";

const SETTINGS_OF_SERVE: &str =
    "Every flag and variable of `hoist serve` is accepted too; `hoist serve --help` lists them.";

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Report all problems of the configuration and how to fix them. Exits with 0 if there are none.
    #[command(after_help = examples::help_after(SETTINGS_OF_SERVE, "config check"))]
    Check {
        #[command(flatten)]
        settings: HiddenServeArgs,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the effective configuration as TOML, with the source of each value.
    #[command(after_help = examples::help_after(SETTINGS_OF_SERVE, "config print"))]
    Print {
        #[command(flatten)]
        settings: HiddenServeArgs,
    },
    /// Print a configuration file with every key, its meaning and its default, all commented out.
    #[command(after_help = examples::help("config sample"))]
    Sample,
}

#[derive(Args, Debug)]
pub(crate) struct DnsRecord {
    #[command(flatten)]
    pub(crate) settings: HiddenServeArgs,
    /// Host name under which clients reach the server.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: String,
    /// Port on which clients reach the server [default: the port of --listen with TLS, otherwise 443]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Time that resolvers may cache the record.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    pub(crate) ttl: TimeSpan,
}

impl Cli {
    pub(crate) fn json(&self) -> bool {
        match &self.verb {
            Verb::Put(put) => put.connection.json,
            Verb::Status(ask) | Verb::Cancel(ask) => ask.connection.json,
            Verb::Check(check) => check.connection.json,
            Verb::Events(verb) => verb.json(),
            Verb::Admin(admin) => admin.place.json,
            Verb::Ls(Ls { json }) | Verb::Config(ConfigVerb::Check { json, .. }) => *json,
            _ => false,
        }
    }

    pub(crate) fn quiet(&self) -> bool {
        match &self.verb {
            Verb::Put(put) => put.connection.quiet,
            Verb::Status(ask) | Verb::Cancel(ask) => ask.connection.quiet,
            Verb::Check(check) => check.connection.quiet,
            Verb::Demo(demo) => demo.quiet,
            _ => false,
        }
    }
}

/// The flags of `serve` as given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServeArgs {
    pub(crate) file: Option<PathBuf>,
    pub(crate) flags: Flags,
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("FILE").value_parser(ValueParser::path_buf());
        let command = command.arg(file.help("TOML file to read settings from [variable: HOIST_CONFIG]"));
        SETTINGS.iter().fold(command, |command, setting| {
            let repeats = if setting.values == Values::Many { ", repeatable" } else { "" };
            let default = setting.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
            let arg = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.value)
                .help(format!("{}{repeats}{default}{}", setting.help, setting.reload.note()))
                .help_heading(setting.heading)
                // A repeated flag is accepted here and reported by `Config::load`, with the errors of the other layers.
                .action(ArgAction::Append);
            let arg = match former_name(setting.name) {
                Some(former) => arg.alias(former),
                None => arg,
            };
            let arg = match setting.values {
                Values::One | Values::Many => arg,
                // The equals sign is required, or the flag would take the next argument as its value.
                Values::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
            };
            command.arg(arg.value_parser(ValueParser::string()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
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

/// The flags of `serve` for a command whose help does not list them, except for `--config`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HiddenServeArgs(pub(crate) ServeArgs);

impl Args for HiddenServeArgs {
    fn augment_args(command: Command) -> Command {
        let settings = ServeArgs::augment_args(Command::new(""));
        settings.get_arguments().fold(command, |command, argument| {
            command.arg(argument.clone().hide(argument.get_id() != "config"))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for HiddenServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        ServeArgs::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// Returns the clap command, to generate completions and manual pages from.
pub(crate) fn command() -> Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line. The error is what clap prints: an error message, the help or the version.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut cli = Cli::try_parse_from(words)?;
    let wrong = match &mut cli.verb {
        Verb::Put(put) => put.split_url_from_files().err().map(|wrong| ("put", wrong)),
        Verb::Status(ask) => ask.conflict().map(|wrong| ("status", wrong.to_owned())),
        Verb::Cancel(ask) => ask.conflict().map(|wrong| ("cancel", wrong.to_owned())),
        Verb::Check(check) => check.conflict().map(|wrong| ("check", wrong)),
        _ => None,
    };
    let Some((verb, wrong)) = wrong else { return Ok(cli) };
    let mut command = command();
    let asked = command.find_subcommand_mut(verb).expect("a verb").clone();
    Err(asked.bin_name(format!("hoist {verb}")).error(clap::error::ErrorKind::ArgumentConflict, wrong))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(words: &str) -> Result<Cli, clap::Error> {
        parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn the_clap_command_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_has_one_flag_per_setting() {
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
    fn put_accepts_valid_and_rejects_invalid_arguments() {
        let cli = parsed("hoist put f http://h/u --token abc --header X-A:b --retry-for 5s --json -q")
            .expect("sound");
        assert!(cli.json() && cli.quiet());
        let Verb::Put(put) = cli.verb else { panic!("another verb") };
        assert_eq!((put.files, put.url), (vec!["f".into()], http::Uri::from_static("http://h/u")));
        assert_eq!(put.token.map(|token| token.expose().to_vec()), Some(b"abc".to_vec()));
        assert_eq!(put.retry_for.0, std::time::Duration::from_secs(5));
        let bad = [
            "hoist put f",
            "hoist put http://h/u",
            "hoist put f http://h/u --token a,b",
            "hoist put f http://h/u --header novalue",
            "hoist put f http://h/u --retry-for soon",
            "hoist put f http://h/u --bearer a --bearer-file b",
            "hoist put f g http://h/u --token abc",
            "hoist put f g http://h/u --name abc",
            "hoist put f http://h/u --parallel 0",
            "hoist put f http://h/u --rate 0",
            "hoist put f http://h/u --dialect latin",
            "hoist put f /directory",
            "hoist status f --token abc",
            "hoist status http://h/u --to http://h/v",
            "hoist cancel --token abc",
            "hoist serve --sizes 1",
            "hoist",
        ];
        for words in bad {
            assert!(parsed(words).is_err(), "{words}");
        }
    }

    #[test]
    fn put_accepts_flags_between_files() {
        for words in [
            "hoist put a b http://h/u -q",
            "hoist put a -q b http://h/u",
            "hoist put -q a b --json http://h/u",
        ] {
            let Verb::Put(put) = parsed(words).expect(words).verb else { panic!("another verb") };
            assert_eq!((put.files, put.url.path()), (vec!["a".into(), "b".into()], "/u"), "{words}");
        }
    }

    #[test]
    fn every_command_has_examples_that_it_accepts() {
        fn check(command: &Command, path: &str) {
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                let path = format!("{path} {}", inner.get_name());
                let path = path.trim_start();
                if inner.has_subcommands() {
                    check(inner, path);
                    continue;
                }
                let examples = examples::of(path);
                assert!(!examples.is_empty() || path == "version", "{path}");
                for example in examples {
                    let (_, words) = example.command.split_once("hoist ").expect("a command");
                    let words = words.split(['|', '>']).next().expect("the first command");
                    let words = words.split_whitespace().map(|word| word.trim_matches('\'').into());
                    let parsed = parse(std::iter::once("hoist".into()).chain(words));
                    assert!(parsed.is_ok(), "{}: {:?}", example.command, parsed.err());
                }
            }
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn help_and_version_are_printed_to_stdout() {
        for words in ["hoist --help", "hoist serve --help", "hoist --version"] {
            assert!(!parsed(words).expect_err("printed").use_stderr(), "{words}");
        }
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("Exit codes:"), "{help}");
    }
}
