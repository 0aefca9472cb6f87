//! The configuration of `serve`, merged from flags, environment variables and file, and validated.
//!
//! Owns the order of the layers and the warnings. `config/reader.rs` parses the values, `config/print.rs` prints them.
//! Nothing here opens a socket or a store; the files that settings name are read in `cmd/serve/components.rs`.

mod changes;
mod layers;
mod listen;
mod print;
mod reader;
mod sample;
mod settings;
mod value;

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hoist_proto::dialect::interop::Versions;
use hoist_proto::dialect::tus1::Extensions;
use hoist_proto::policy::Policy;
use hoist_server::admission::Quotas;
use hoist_server::auth::jwt::Algorithm;
use hoist_server::cors::Cors;
use hoist_server::hook::webhook::WebhookOptions;
use hoist_server::outbox::Sink;
use hoist_server::proxy::Network;
use hoist_server::{Interims, Locations};
use hoist_store::fs::{Durability, Headroom};
use http::HeaderName;

pub(crate) use changes::{Change, Changes};
pub(crate) use layers::Flags;
use layers::{Layers, SettingSource, SettingValue, Variables};
pub(crate) use listen::ListenAt;
use reader::SettingsReader;
pub(crate) use sample::sample;
pub(crate) use settings::{SETTINGS, Values, former_name};
pub(crate) use value::{Size, TimeSpan};

/// The folders where the client commands keep their state between runs.
#[derive(Clone, Debug)]
pub(crate) struct StateFolders {
    /// The journal of unfinished uploads.
    pub(crate) uploads: PathBuf,
    /// The records of files that interrupted runs over several files have uploaded.
    pub(crate) batches: PathBuf,
}

/// Returns the state folders, from `XDG_STATE_HOME` or `HOME`. `None` if neither is set.
pub(crate) fn state_folders() -> Option<StateFolders> {
    let (state, home) = (std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME"));
    let uploads = hoist_client::Journal::folder(state.as_deref(), home.as_deref())?;
    let batches = uploads.with_file_name("batches");
    Some(StateFolders { uploads, batches })
}

/// Reads an environment variable.
pub(crate) fn variable(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// The variable with the bearer token of the client commands, which is no setting of `serve`.
const CLIENT_BEARER: &str = "HOIST_BEARER";

/// Returns the bearer token of the client commands in the environment. An empty one counts as none.
pub(crate) fn client_bearer() -> Option<std::ffi::OsString> {
    variable(CLIENT_BEARER).filter(|secret| !secret.is_empty())
}

/// The settings of `serve`, with defaults filled in.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub(crate) struct Config {
    pub(crate) listen: Vec<ListenAt>,
    /// The permissions of the files of unix sockets.
    pub(crate) socket_mode: u32,
    pub(crate) data: PathBuf,
    pub(crate) endpoint: String,
    pub(crate) public_origin: Option<String>,
    pub(crate) locations: Locations,
    pub(crate) durability: Durability,
    pub(crate) headroom: Headroom,
    /// True if a missing or broken key file may be replaced.
    pub(crate) new_key: bool,
    pub(crate) policy: Policy,
    pub(crate) target: TargetConfig,
    pub(crate) downloads: bool,
    pub(crate) accepts_forms: bool,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) trusted_proxies: Vec<Network>,
    pub(crate) cors: Cors,
    pub(crate) cors_headers: Vec<HeaderName>,
    pub(crate) interims: Interims,
    pub(crate) tus: Extensions,
    pub(crate) ietf_versions: Versions,
    pub(crate) completes_at_length: bool,
    pub(crate) auth: AuthConfig,
    pub(crate) hooks: HooksConfig,
    pub(crate) events: EventsConfig,
    pub(crate) quotas: Quotas,
    pub(crate) limits: hoist_http::Limits,
    pub(crate) sweep_interval: Duration,
    pub(crate) workers: usize,
    pub(crate) log: LogFormat,
    pub(crate) log_level: tracing::Level,
    pub(crate) log_requests: bool,
    pub(crate) admin: Option<AdminConfig>,
    /// Messages about probable mistakes that do not prevent a start.
    pub(crate) notes: Vec<String>,
    layers: Layers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetConfig {
    Keep,
    Files { directory: PathBuf, template: String },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthConfig {
    Anyone,
    Bearer(PathBuf),
    Jwt { keys: JwtKeys, audiences: Vec<String>, issuers: Vec<String>, main_issuer: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwtKeys {
    Single(PathBuf, Algorithm),
    Set(PathBuf),
    /// Issuers, each with the key set that verifies its tokens.
    ByIssuer(Vec<(String, PathBuf)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookCommand {
    pub(crate) program: String,
    pub(crate) arguments: Vec<String>,
}

/// The receivers of hooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HooksConfig {
    pub(crate) command: Option<HookCommand>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) url: Option<String>,
    /// The time limit of a program.
    pub(crate) timeout: Duration,
    pub(crate) progress_interval: Duration,
    pub(crate) webhook: WebhookOptions,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminConfig {
    pub(crate) listen: ListenAt,
    /// The file of the tokens. Only a unix socket may be without.
    pub(crate) tokens: Option<PathBuf>,
    /// The permissions of the file of a unix socket.
    pub(crate) socket_mode: u32,
    /// True if the metrics have those of tusd.
    pub(crate) has_tusd_metrics: bool,
}

/// The sinks of events.
#[derive(Clone, Debug)]
pub(crate) struct EventsConfig {
    pub(crate) sinks: Vec<SinkConfig>,
    /// The time limit of programs.
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct SinkConfig {
    /// The sink, without its secrets.
    pub(crate) sink: Sink,
    pub(crate) secret_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

/// An invalid setting: its location, and a message that says what is wrong and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    location: String,
    message: String,
}

impl ConfigError {
    fn new(source: &SettingSource, message: impl Into<String>) -> Self {
        Self { location: source.to_string(), message: message.into() }
    }

    /// An error in the value that `source` gives to the setting `name`.
    fn in_setting(source: &SettingSource, name: &str, message: impl fmt::Display) -> Self {
        Self { location: location(source, name), message: message.to_string() }
    }

    /// An error found while using a setting, such as a certificate file that cannot be read.
    pub(crate) fn at(location: impl Into<String>, message: impl fmt::Display) -> Self {
        Self { location: location.into(), message: message.to_string() }
    }
}

/// Returns the location of a setting for a message. Unlike flags and variables, a line of a file does not show the
/// setting's name, so it is added.
fn location(source: &SettingSource, name: &str) -> String {
    match source {
        SettingSource::Flag(_) | SettingSource::Default => format!("--{name}"),
        SettingSource::Variable(variable) => variable.clone(),
        SettingSource::File { .. } => format!("{source}: {name}"),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

impl Config {
    /// Reads and merges all layers.
    ///
    /// # Errors
    /// Returns all errors, not only the first.
    pub(crate) fn load(flags: &Flags, file: Option<PathBuf>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let (variables, file) = read_layers(file, &mut errors);
        Self::of(flags, &variables, &file, errors)
    }

    /// Returns the format of the log, for messages about a configuration that has errors.
    pub(crate) fn log_format(flags: &Flags, file: Option<PathBuf>) -> LogFormat {
        let (variables, file) = read_layers(file, &mut Vec::new());
        let layers = Layers::new(flags, &variables, &file);
        let is_json = layers.get("log-format").is_some_and(|written| written.texts == ["json"]);
        if is_json { LogFormat::Json } else { LogFormat::Human }
    }

    fn of(
        flags: &Flags,
        variables: &Variables,
        file: &Layers,
        errors: Vec<ConfigError>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut layers = Layers::new(flags, variables, file);
        let is_files = layers.get("target").is_some_and(|written| written.texts == ["files"]);
        layers.assume("retain", if is_files { "24h" } else { "none" });
        layers.assume("workers", std::thread::available_parallelism().map_or(1, usize::from).to_string());
        let mut read = SettingsReader { layers: &layers, errors };
        let config = read.config(layers::unknown_variables(variables));
        let errors = read.errors;
        if errors.is_empty() { Ok(Self { layers, ..config }) } else { Err(errors) }
    }

    /// Returns warnings about allowed but risky settings.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.notes.clone();
        //= TOK-TOKEN-05
        if self.auth == AuthConfig::Anyone && self.policy.token_octets_min < 16 {
            warnings.push(format!(
                "uploads are not authenticated and tokens may have as few as {} byte{}, so they can be guessed; set \
                 --min-token-length 16, or authenticate users with --bearer-file or --jwt-key",
                self.policy.token_octets_min,
                if self.policy.token_octets_min == 1 { "" } else { "s" }
            ));
        }
        //= TOK-SEC-01
        let open = self.listen.iter().find(|place| !place.is_local());
        if let (Some(address), None, true) = (open, &self.tls, self.trusted_proxies.is_empty()) {
            warnings.push(format!(
                "{address} can be reached from other machines without encryption; set --tls-cert and --tls-key, or \
                 --trusted-proxy if a proxy terminates TLS"
            ));
        }
        if let Some(admin) = &self.admin
            && !admin.listen.is_local()
        {
            warnings.push(format!(
                "{} can be reached from other machines without encryption, and its tokens be read on the way; use a loopback \
                 address or unix:PATH, and a proxy that terminates TLS",
                self.location("admin")
            ));
        }
        if let AuthConfig::Jwt { keys: JwtKeys::Set(_), issuers, .. } = &self.auth
            && issuers.is_empty()
        {
            warnings.push(format!(
                "{} accepts tokens of every issuer, and treats equal subjects of different issuers as one user; list the \
                 issuers with --jwt-issuer",
                self.location("jwks-file")
            ));
        }
        if self.downloads && self.target != TargetConfig::Keep {
            warnings.push(format!(
                "{} finds nothing to serve, because --target files moves complete uploads away; serve the files from \
                 --files-dir",
                self.location("downloads")
            ));
        }
        if let (Some(origin), Some(_)) = (&self.public_origin, &self.tls)
            && let Some(authority) = origin.strip_prefix("http://")
        {
            warnings.push(format!(
                "{} sends clients to cleartext, but the server speaks TLS; write https://{authority}",
                self.location("public-url")
            ));
        }
        if self.trusted_proxies.iter().any(Network::covers_all) {
            warnings.push(format!(
                "{} trusts every address, so any client can forge its own address; list only the addresses of the proxies",
                self.location("trusted-proxy")
            ));
        }
        warnings
    }

    /// Returns advice on settings that are unlimited by default, shown by `config check`.
    pub(crate) fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.policy.retention.is_none() && self.quotas.bytes_max.is_none() {
            let content = if self.target == TargetConfig::Keep { "content" } else { "records" };
            advice.push(format!(
                "the {content} of complete uploads is kept forever and will fill the disk; set --retain or \
                 --max-stored-bytes"
            ));
        }
        if self.policy.lifetime.is_none() {
            advice.push(
                "unfinished uploads are kept forever and count towards --max-open-uploads; set --max-age"
                    .to_owned(),
            );
        }
        let unix = self.listen.iter().find(|place| matches!(place, ListenAt::Unix(_)));
        if let Some(place) = unix
            && !self.trusted_proxies.contains(&Network::UNIX)
        {
            advice.push(format!(
                "requests over {place} carry no client address; if a proxy connects there, set --trusted-proxy unix"
            ));
        }
        advice
    }

    /// Returns whether a flag, a variable or the file gives a value to a setting.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.layers.get(name).is_some_and(|written| written.source != SettingSource::Default)
    }

    /// Returns the location of a setting, for messages about it.
    pub(crate) fn location(&self, name: &str) -> String {
        location(self.layers.get(name).map_or(&SettingSource::Default, |written| &written.source), name)
    }
}

/// Reads the environment variables and the file, which a flag or a variable may name.
fn read_layers(file: Option<PathBuf>, errors: &mut Vec<ConfigError>) -> (Variables, Layers) {
    let mut variables = Variables::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("HOIST_")) else { continue };
        match value.into_string() {
            Ok(value) => drop(variables.insert(name.to_owned(), value)),
            Err(_) => errors.push(ConfigError::at(name, "is not UTF-8 text")),
        }
    }
    let path =
        file.or_else(|| variables.get("HOIST_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
    let file = match path.as_ref().map(|path| (path, std::fs::read_to_string(path))) {
        None => Layers::default(),
        Some((path, Ok(text))) => Layers::of_file(path, &text, errors),
        Some((path, Err(error))) => {
            errors.push(ConfigError::at("--config", format!("cannot read {}: {error}", path.display())));
            Layers::default()
        }
    };
    (variables, file)
}

impl HookCommand {
    /// Searches the program in `PATH`, as a shell would.
    ///
    /// # Errors
    /// Returns the reason why it cannot be run, with the next step.
    pub(crate) fn require_program(&self) -> Result<(), String> {
        require_program(&self.program)
    }
}

/// Searches a program in `PATH`, as a shell would.
///
/// # Errors
/// Returns the reason why it cannot be run, with the next step.
pub(crate) fn require_program(program: &str) -> Result<(), String> {
    let is_executable =
        |path: &Path| path.metadata().is_ok_and(|file| file.permissions().mode() & 0o111 != 0);
    let candidates: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(program)).collect()
    };
    let mut files = candidates.iter().filter(|path| path.is_file()).peekable();
    let first = files.peek().map(|path| path.display().to_string());
    match first {
        None => Err(format!("program {program} not found; write its full path")),
        Some(_) if files.any(|path| is_executable(path)) => Ok(()),
        Some(first) => Err(format!("{first} is not executable; run chmod +x {first}")),
    }
}

/// Flags as tests write them.
#[cfg(test)]
pub(crate) type Given<'a> = &'a [(&'static str, &'a [&'a str])];

/// Builds flags by name, for tests of other modules.
#[cfg(test)]
pub(crate) fn flags(given: Given<'_>) -> Flags {
    given.iter().map(|(name, texts)| (*name, texts.iter().map(ToString::to_string).collect())).collect()
}

#[cfg(test)]
mod tests;
