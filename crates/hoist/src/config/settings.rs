//! The table of `serve` settings. Each row defines a flag, its environment variable, its key in the file and its help.
//!
//! Owns names, default texts and help. `config/reader.rs` parses the texts.

use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::tus1::Extension;

/// A setting of `serve`.
pub(crate) struct Setting {
    /// The flag without its dashes, which is also the key in the file.
    pub(crate) name: &'static str,
    /// The placeholder of the value in the help.
    pub(crate) value: &'static str,
    pub(crate) values: Values,
    /// The default, as a user would write it. `None` if leaving the setting out has a meaning of its own.
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    /// The heading in the help.
    pub(crate) heading: &'static str,
    /// The words that the setting accepts, if these are a closed set; completion offers them. Empty otherwise.
    pub(crate) words: &'static [&'static str],
    pub(crate) reload: Reload,
    /// True if each value may be a section of the file, like `[[events]]`.
    pub(crate) has_sections: bool,
}

/// The effect of a changed setting when a running server reads its configuration again (SIGHUP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The new value applies.
    Live,
    /// The new value applies. Setting what was not set, or the reverse, needs a restart.
    IfSet,
    /// The change needs a restart.
    Restart,
}

impl Reload {
    /// Returns the note in the help.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::IfSet => " [restart to set or unset]",
            Self::Restart => " [restart to change]",
        }
    }
}

/// The number of values that a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    One,
    Many,
    /// `on` or `off`; a flag without a value is `on`.
    Switch,
}

impl Setting {
    /// Returns the setting with a closed set of words.
    const fn of(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Returns the setting with another effect of a reload.
    const fn on_reload(self, reload: Reload) -> Self {
        Self { reload, ..self }
    }

    /// Returns the setting with sections in the file.
    const fn or_sections(self) -> Self {
        Self { has_sections: true, ..self }
    }

    /// Returns whether the setting takes several values.
    pub(crate) fn many(&self) -> bool {
        self.values == Values::Many
    }

    /// Returns the name of the environment variable.
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    /// Returns the former name of the environment variable.
    pub(crate) fn former_variable(&self) -> Option<String> {
        former_name(self.name).map(variable)
    }
}

fn variable(name: &str) -> String {
    format!("HOIST_{}", name.to_uppercase().replace('-', "_"))
}

/// Returns the setting with this name, or with this former name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name || former_name(setting.name) == Some(name))
}

/// Returns the setting name most similar to `name`, or `None` if none is similar enough to be suggested.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-").to_lowercase();
    if let Some(setting) = SETTINGS.iter().find(|setting| name.len() > 3 && setting.name.starts_with(&name)) {
        return Some(setting.name);
    }
    let distances = SETTINGS.iter().map(|setting| (distance(&name, setting.name), setting.name));
    let (distance, nearest) = distances.min()?;
    (distance <= name.len().max(nearest.len()) / 2).then_some(nearest)
}

/// Returns the Levenshtein distance between two names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const NETWORK: &str = "Network";
const STORAGE: &str = "Storage";
const UPLOADS: &str = "Uploads";
const TARGET: &str = "Target";
const AUTH: &str = "Authentication and TLS";
const CORS: &str = "CORS";
const HOOKS: &str = "Hooks";
const EVENTS: &str = "Events";
const LIMITS: &str = "Limits";
const OPERATION: &str = "Operation";
const ADMIN: &str = "Admin";

type Text = &'static str;

const fn one(heading: Text, name: Text, value: Text, default: Option<Text>, help: Text) -> Setting {
    Setting {
        name,
        value,
        values: Values::One,
        default,
        help,
        heading,
        words: &[],
        reload: Reload::Live,
        has_sections: false,
    }
}

const fn many(heading: Text, name: Text, value: Text, default: Option<Text>, help: Text) -> Setting {
    Setting {
        name,
        value,
        values: Values::Many,
        default,
        help,
        heading,
        words: &[],
        reload: Reload::Live,
        has_sections: false,
    }
}

const fn switch(heading: Text, name: Text, help: Text) -> Setting {
    Setting {
        name,
        value: "on|off",
        values: Values::Switch,
        default: Some("off"),
        help,
        heading,
        words: &["on", "off"],
        reload: Reload::Live,
        has_sections: false,
    }
}

const TUS_EXTENSIONS: &[Text] = &{
    let mut names = [""; Extension::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Extension::ALL[at].name();
        at += 1;
    }
    names
};

const JWT_ALGORITHMS: &[Text] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",
    "EdDSA",
];

/// All settings, in the order of the help.
pub(crate) const SETTINGS: &[Setting] = &[
    many(
        NETWORK,
        "listen",
        "ADDR:PORT",
        Some("127.0.0.1:8080"),
        "Address to listen on: IP or host name with a port, or `unix:PATH`; port 0 picks a free port",
    )
    .on_reload(Reload::Restart),
    one(
        NETWORK,
        "socket-mode",
        "MODE",
        Some("660"),
        "Permissions of the socket file of `--listen unix:PATH`, in octal",
    )
    .on_reload(Reload::Restart),
    one(NETWORK, "endpoint", "PATH", Some("/uploads"), "Path of the upload URL")
    .on_reload(Reload::Restart),
    one(
        NETWORK,
        "public-url",
        "URL",
        None,
        "Scheme and host under which clients reach the server, for example behind a proxy [default: taken from each request]",
    ),
    one(
        NETWORK,
        "location",
        "FORM",
        Some("absolute"),
        "Form of upload URLs in responses: `absolute` (with scheme and host) or `relative` (path only)",
    )
    .of(&["absolute", "relative"]),
    many(
        NETWORK,
        "trusted-proxy",
        "CIDR",
        None,
        "Proxy whose Forwarded and X-Forwarded-* fields are trusted for scheme, host and client address; `unix` for the peers of unix sockets",
    ),
    one(STORAGE, "data", "DIR", Some("./hoist-data"), "Directory to store uploads in; created if missing")
    .on_reload(Reload::Restart),
    one(
        STORAGE,
        "durability",
        "LEVEL",
        Some("disk"),
        "What acknowledged bytes survive: `disk` a power failure, `os` a crash of the server process",
    )
    .of(&["disk", "os"])
    .on_reload(Reload::Restart),
    switch(
        STORAGE,
        "new-key",
        "Create a new key in the data directory if its `key` file is missing or broken; clients can no longer reach uploads identified by tokens",
    )
    .on_reload(Reload::Restart),
    one(UPLOADS, "max-size", "SIZE", None, "Maximum size of an upload"),
    one(UPLOADS, "min-size", "SIZE", Some("0"), "Minimum size of a resumable upload"),
    one(UPLOADS, "max-append-size", "SIZE", None, "Maximum size of the content of one request"),
    one(
        UPLOADS,
        "min-append-size",
        "SIZE",
        Some("0"),
        "Minimum size of the content of one request, except the last",
    ),
    one(
        UPLOADS,
        "max-age",
        "TIME",
        Some("7d"),
        "Delete an unfinished upload this long after its last byte, or `none`",
    ),
    one(
        UPLOADS,
        "retain",
        "TIME",
        None,
        "Delete a complete upload after this time, or `none` to keep it forever [default: none; 24h with --target files]",
    ),
    one(
        UPLOADS,
        "ietf-versions",
        "LIST",
        Some(Interop::RANGE),
        "Interop versions of the IETF draft to support, like 5,6,8-10; later versions are treated as the newest known one",
    ),
    one(
        UPLOADS,
        "ietf-complete-at-length",
        "VERSIONS",
        Some("off"),
        "With `v5-v6`, treat an upload of these draft versions as complete once it reaches its length, as tus-js-client expects",
    )
    .of(&["off", "v5-v6"]),
    many(
        UPLOADS,
        "tus-disable",
        "EXTENSION",
        None,
        "tus 1.0 extension to turn off, like termination or concatenation-unfinished",
    )
    .of(TUS_EXTENSIONS),
    switch(
        UPLOADS,
        "accept-forms",
        "Accept a file in a form (multipart/form-data), as sent by browsers and `curl -F`",
    ),
    one(UPLOADS, "min-token-length", "N", Some("1"), "Minimum length of an Upload-Token in bytes"),
    one(
        UPLOADS,
        "interim",
        "WHEN",
        Some("auto"),
        "When to send 104 responses: `auto` (only to clients that name a draft version), `always` or `never`",
    )
    .of(&["auto", "always", "never"]),
    one(
        TARGET,
        "target",
        "TARGET",
        Some("keep"),
        "Destination of complete uploads: `keep` leaves them in the data directory, `files` moves them into --files-dir",
    )
    .of(&["keep", "files"]),
    one(TARGET, "files-dir", "DIR", None, "Directory for --target files"),
    one(
        TARGET,
        "files-name",
        "TEMPLATE",
        Some("{name}"),
        "Name of each file in --files-dir: directories and a file name with {name}, {path} (the name with the client's \
         directories), {id}, {date} (of creation, UTC) or {user}",
    ),
    switch(TARGET, "downloads", "Serve complete uploads to GET requests by the user who uploaded them"),
    one(
        AUTH,
        "tls-cert",
        "FILE",
        None,
        "TLS certificate chain (PEM); read again when the file changes, or at once on SIGHUP",
    )
    .on_reload(Reload::IfSet),
    one(AUTH, "tls-key", "FILE", None, "TLS private key (PEM)")
    .on_reload(Reload::IfSet),
    one(AUTH, "bearer-file", "FILE", None, "File of accepted bearer tokens, one `token principal` per line"),
    one(
        AUTH,
        "jwt-key",
        "FILE",
        None,
        "Key to verify JWTs with: a shared secret for HS*, otherwise a public key (PEM)",
    ),
    one(AUTH, "jwt-algorithm", "ALG", None, "Algorithm of --jwt-key: HS256, RS256, ES256, EdDSA, ...")
    .of(JWT_ALGORITHMS),
    one(AUTH, "jwks-file", "FILE", None, "JSON Web Key Set to verify JWTs with"),
    many(AUTH, "jwt-audience", "AUD", None, "Accepted audience of a JWT"),
    many(
        AUTH,
        "jwt-issuer",
        "ISS",
        None,
        "Accepted issuer of a JWT; with several, a user is identified by issuer and subject instead of subject alone",
    ),
    many(
        AUTH,
        "jwt-issuer-keys",
        "ISS=FILE",
        None,
        "Accepted issuer together with the JSON Web Key Set that verifies its JWTs",
    ),
    one(
        AUTH,
        "jwt-main-issuer",
        "ISS",
        None,
        "With several issuers, the one whose users are still identified by subject alone, so that they keep their uploads",
    ),
    many(
        CORS,
        "cors-origin",
        "ORIGIN",
        Some("*"),
        "Origin whose pages may upload, `*` for any, `off` for none",
    ),
    switch(
        CORS,
        "cors-credentials",
        "Allow pages of these origins to send the browser's credentials, such as cookies for a proxy",
    ),
    many(CORS, "cors-header", "NAME", None, "Additional request field that pages of these origins may send"),
    one(
        HOOKS,
        "hook-command",
        "CMD",
        None,
        "Command to run before an upload is created: gets JSON on stdin, exits with 0 to accept (no shell; arguments may be quoted)",
    ),
    one(HOOKS, "hook-timeout", "TIME", Some("10s"), "Time limit of the hook command, and of a program in --hooks-dir"),
    one(
        HOOKS,
        "hooks-dir",
        "DIR",
        None,
        "Directory of programs named after the hooks, like pre-create: each gets tusd's JSON on stdin",
    ),
    one(HOOKS, "hooks-http", "URL", None, "URL that gets tusd's JSON of each hook as a POST request"),
    many(
        HOOKS,
        "hooks-events",
        "NAME",
        Some("pre-create,post-create,post-receive,post-terminate,post-finish"),
        "Hook of --hooks-dir and --hooks-http that is called; there are pre-finish and pre-terminate, too",
    ),
    one(
        HOOKS,
        "progress-hooks-interval",
        "TIME",
        Some("1s"),
        "Time between two post-receive hooks of one transfer",
    ),
    one(HOOKS, "hooks-http-retry", "N", Some("3"), "Maximum number of attempts, after 5xx and network errors"),
    one(HOOKS, "hooks-http-backoff", "TIME", Some("1s"), "Time between two attempts"),
    one(HOOKS, "hooks-http-timeout", "TIME", Some("15s"), "Time limit of all attempts together"),
    many(
        HOOKS,
        "hooks-http-forward-headers",
        "NAME",
        None,
        "Field of the client's request that is sent along as a field",
    ),
    one(HOOKS, "hooks-http-size-limit", "SIZE", Some("5KiB"), "Maximum size of an answer"),
    many(
        EVENTS,
        "events",
        "SINK",
        None,
        "Recipient of events, delivered at least once: `http://...`, `https://...`, or `exec:PROGRAM` with the event on stdin; in the file also sections `[[events]]` with url, format, secret-file, types",
    )
    .or_sections()
    .on_reload(Reload::Restart),
    one(
        EVENTS,
        "events-format",
        "FORMAT",
        Some("cloudevents"),
        "Format of events: `cloudevents` (CloudEvents 1.0) or `tusd` (the JSON of tusd's hooks)",
    )
    .of(&["cloudevents", "tusd"])
    .on_reload(Reload::Restart),
    one(
        EVENTS,
        "events-secret-file",
        "FILE",
        None,
        "Secrets that sign each event (Standard Webhooks), one `whsec_...` a line; several lines sign several times",
    )
    .on_reload(Reload::Restart),
    one(
        LIMITS,
        "keep-free",
        "SIZE|N%",
        Some("1%"),
        "Disk space to keep free on the volume of --data; a percentage means at most 1 GiB. Uploads that need it get 507",
    ),
    one(LIMITS, "max-open-uploads", "N", Some("10000"), "Maximum number of unfinished uploads, or `none`"),
    one(
        LIMITS,
        "max-open-uploads-per-user",
        "N",
        Some("1000"),
        "Maximum number of unfinished uploads of one user, or `none`",
    ),
    one(
        LIMITS,
        "max-open-uploads-per-address",
        "N",
        Some("1000"),
        "Maximum number of unfinished uploads of one unauthenticated client address (IPv6: one /64), or `none`",
    ),
    one(
        LIMITS,
        "max-complete-uploads",
        "N",
        Some("1000000"),
        "Maximum number of complete uploads kept, or `none`",
    ),
    one(LIMITS, "max-stored-bytes", "SIZE", None, "Maximum total size of all uploads")
    .on_reload(Reload::IfSet),
    one(LIMITS, "max-stored-bytes-per-user", "SIZE", None, "Maximum total size of one user's uploads")
    .on_reload(Reload::IfSet),
    one(
        LIMITS,
        "head-timeout",
        "TIME",
        Some("30s"),
        "Time limit for receiving a request header section, and for a handshake",
    ),
    one(LIMITS, "idle-timeout", "TIME", Some("60s"), "Time limit without any content received"),
    one(
        LIMITS,
        "min-rate",
        "BYTES/S",
        Some("100"),
        "Minimum upload rate, averaged over a minute; 0 for none",
    ),
    one(
        LIMITS,
        "max-connections",
        "N",
        Some("16384"),
        "Maximum number of concurrent connections per --listen address",
    ),
    one(
        LIMITS,
        "max-h2-memory",
        "SIZE",
        Some("64MiB"),
        "Maximum memory for the content of uploads in flight on all HTTP/2 connections of a --listen address",
    )
    .on_reload(Reload::Restart),
    one(
        OPERATION,
        "drain-timeout",
        "TIME",
        Some("30s"),
        "Time limit for a graceful shutdown; the next start finishes what is left",
    ),
    one(OPERATION, "sweep-interval", "TIME", Some("5m"), "Interval between removals of expired uploads"),
    one(OPERATION, "workers", "N", None, "Number of worker threads [default: number of CPUs]")
    .on_reload(Reload::Restart),
    one(OPERATION, "log-format", "FORMAT", Some("human"), "Log format on stderr: `human` or `json`")
    .of(&["human", "json"])
    .on_reload(Reload::Restart),
    one(OPERATION, "log-level", "LEVEL", Some("info"), "Log level: error, warn, info, debug or trace")
    .of(&["error", "warn", "info", "debug", "trace"]),
    switch(
        OPERATION,
        "log-requests",
        "Log every request, and not only uploads that end and requests that are refused",
    ),
    one(
        ADMIN,
        "admin",
        "ADDR:PORT|unix:PATH",
        None,
        "Address for health, metrics and administration, which must not be that of uploads; a TCP address needs \
         --admin-token-file",
    )
    .on_reload(Reload::Restart),
    one(
        ADMIN,
        "admin-token-file",
        "FILE",
        None,
        "File of the tokens that --admin accepts, one per line; read again when it changes",
    )
    .on_reload(Reload::Restart),
    one(
        ADMIN,
        "admin-socket-mode",
        "MODE",
        Some("600"),
        "Permissions of the socket file of `--admin unix:PATH`, in octal",
    )
    .on_reload(Reload::Restart),
    one(
        ADMIN,
        "metrics-compat",
        "SERVER",
        None,
        "Other server whose metrics /metrics of --admin has too, under their names: `tusd`",
    )
    .of(&["tusd"])
    .on_reload(Reload::Restart),
];

/// Former names of settings, which stay valid, and a name of tusd's.
pub(crate) const FORMER_NAMES: &[(&str, &str)] =
    &[("log", "log-format"), ("hooks-enabled-events", "hooks-events")];

/// Returns the former name of a setting.
pub(crate) fn former_name(name: &str) -> Option<&'static str> {
    FORMER_NAMES.iter().find(|(_, present)| *present == name).map(|(former, _)| *former)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_names_are_unique() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..at].iter().all(|other| other.name != setting.name), "{}", setting.name);
        }
    }

    #[test]
    fn settings_that_need_a_restart_are_these() {
        let of = |reload| -> Vec<_> {
            SETTINGS.iter().filter(|setting| setting.reload == reload).map(|setting| setting.name).collect()
        };
        let restart = [
            "listen",
            "socket-mode",
            "endpoint",
            "data",
            "durability",
            "new-key",
            "events",
            "events-format",
            "events-secret-file",
            "max-h2-memory",
            "workers",
            "log-format",
            "admin",
            "admin-token-file",
            "admin-socket-mode",
            "metrics-compat",
        ];
        assert_eq!(of(Reload::Restart), restart);
        assert_eq!(
            of(Reload::IfSet),
            ["tls-cert", "tls-key", "max-stored-bytes", "max-stored-bytes-per-user"]
        );
    }

    #[test]
    fn a_misspelt_name_suggests_the_nearest_setting() {
        let cases = [
            ("max-sise", Some("max-size")),
            ("maxsize", Some("max-size")),
            ("max_size", Some("max-size")),
            ("Listen", Some("listen")),
            ("bind", None),
            ("jwks", Some("jwks-file")),
            ("completely-different-thing", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }
}
