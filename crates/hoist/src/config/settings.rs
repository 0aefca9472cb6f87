//! The settings of `serve`: one row each, the source of the flag, the variable, the key and the help.
//!
//! Owns names, defaults as text, and help. What a text means is `config.rs`'s.

/// One setting.
pub(crate) struct Setting {
    /// The flag without its dashes, which is also the key in the file.
    pub(crate) name: &'static str,
    /// What a value is called in the help.
    pub(crate) value: &'static str,
    pub(crate) values: Values,
    /// As it would be written; nothing where not set means something by itself.
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    /// The heading it stands under in the help.
    pub(crate) heading: &'static str,
}

/// How many values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    One,
    Many,
    /// `on` or `off`; the flag alone is `on`.
    Switch,
}

impl Setting {
    /// Whether there may be several values.
    pub(crate) fn many(&self) -> bool {
        self.values == Values::Many
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("HOIST_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// The setting of this name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// The known name that is least different, if it is not too different to have been meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-").to_lowercase();
    if let Some(setting) = SETTINGS.iter().find(|setting| name.len() > 3 && setting.name.starts_with(&name)) {
        return Some(setting.name);
    }
    let distances = SETTINGS.iter().map(|setting| (distance(&name, setting.name), setting.name));
    let (distance, nearest) = distances.min()?;
    (distance <= name.len().max(nearest.len()) / 2).then_some(nearest)
}

/// How many characters have to be added, removed or exchanged to make one of the other.
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

const PLACE: &str = "Where";
const UPLOADS: &str = "Uploads";
const TARGET: &str = "What becomes of them";
const SECURITY: &str = "Who may";
const BOUNDS: &str = "Bounds";
const RUNNING: &str = "Running";

const fn one(
    heading: &'static str,
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { name, value, values: Values::One, default, help, heading }
}

const fn many(
    heading: &'static str,
    name: &'static str,
    value: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { name, value, values: Values::Many, default, help, heading }
}

const fn switch(heading: &'static str, name: &'static str, help: &'static str) -> Setting {
    Setting { name, value: "on|off", values: Values::Switch, default: Some("off"), help, heading }
}

/// Every setting there is, in the order of the help.
pub(crate) const SETTINGS: &[Setting] = &[
    many(
        PLACE,
        "listen",
        "ADDR:PORT",
        Some("127.0.0.1:8080"),
        "Accept connections here; port 0 takes a free one",
    ),
    one(
        PLACE,
        "data",
        "DIR",
        Some("./hoist-data"),
        "Keep uploads in this directory, which is made if need be",
    ),
    one(PLACE, "endpoint", "PATH", Some("/uploads"), "The path of the upload URL"),
    one(
        PLACE,
        "public-url",
        "URL",
        None,
        "Scheme and authority clients reach the server by, as behind a proxy [default: what each request names]",
    ),
    one(
        PLACE,
        "location",
        "FORM",
        Some("absolute"),
        "How responses name an upload: `absolute` with scheme and host, or `relative`, by its path alone",
    ),
    one(
        PLACE,
        "durability",
        "LEVEL",
        Some("disk"),
        "What an acknowledged byte survives: `disk` a power cut, `os` the end of the process",
    ),
    switch(
        PLACE,
        "new-key",
        "Make the data directory's `key` anew if it is missing or broken; uploads that tokens name are lost to clients",
    ),
    one(UPLOADS, "max-size", "SIZE", None, "The largest upload"),
    one(UPLOADS, "min-size", "SIZE", Some("0"), "The smallest upload for which resuming is offered"),
    one(UPLOADS, "max-append-size", "SIZE", None, "The largest content of one request"),
    one(
        UPLOADS,
        "min-append-size",
        "SIZE",
        Some("0"),
        "The smallest content of one request that is not the last",
    ),
    one(
        UPLOADS,
        "max-age",
        "TIME",
        Some("7d"),
        "How long an unfinished upload is kept after its last byte, or `none`",
    ),
    one(
        UPLOADS,
        "retain",
        "TIME",
        None,
        "How long a complete upload is remembered, or `none` for ever [default: none; 24h with --target files]",
    ),
    one(
        UPLOADS,
        "ietf-versions",
        "LIST",
        Some("3-10"),
        "Interop versions of the draft that are spoken, like 3-10 or 5,6,8-10; one after 10 is spoken as 10",
    ),
    one(
        UPLOADS,
        "ietf-complete-at-length",
        "VERSIONS",
        Some("off"),
        "`v5-v6`: uploads of these versions of the draft are complete once their length is reached, as tus-js-client has it",
    ),
    many(
        UPLOADS,
        "tus-disable",
        "EXTENSION",
        None,
        "An extension of tus 1.0 that is not offered, like termination or concatenation-unfinished",
    ),
    switch(
        UPLOADS,
        "accept-forms",
        "Take the file out of a form (multipart/form-data), as browsers and `curl -F` send it; refused otherwise",
    ),
    one(UPLOADS, "min-token-length", "N", Some("1"), "The fewest octets of an Upload-Token"),
    one(
        UPLOADS,
        "interim",
        "WHEN",
        Some("auto"),
        "Who is sent 104 responses: `auto` who names a version of the draft, `always` who names none too, `never` nobody",
    ),
    one(
        TARGET,
        "target",
        "TARGET",
        Some("keep"),
        "`keep` complete uploads in the data directory, or put `files` into --files-dir",
    ),
    one(TARGET, "files-dir", "DIR", None, "The directory of --target files"),
    one(TARGET, "files-name", "TEMPLATE", Some("{name}"), "Their names, made of {name}, {id} and {date}"),
    switch(
        TARGET,
        "downloads",
        "Let complete uploads be fetched with GET on their URL, by whoever uploaded them",
    ),
    one(
        SECURITY,
        "tls-cert",
        "FILE",
        None,
        "Certificate chain (PEM); renewed files are noticed, at once with SIGHUP",
    ),
    one(SECURITY, "tls-key", "FILE", None, "Private key (PEM)"),
    many(
        SECURITY,
        "trusted-proxy",
        "CIDR",
        None,
        "A proxy in front, believed about scheme, host and client (Forwarded, X-Forwarded-*)",
    ),
    many(
        SECURITY,
        "cors-origin",
        "ORIGIN",
        Some("*"),
        "An origin whose pages may upload, `*` for all, `off` for none",
    ),
    switch(
        SECURITY,
        "cors-credentials",
        "Let pages of these origins send the browser's own credentials, such as cookies for a proxy in front",
    ),
    many(SECURITY, "cors-header", "NAME", None, "A further request field these pages may send"),
    one(SECURITY, "bearer-file", "FILE", None, "Bearer tokens that are let in: lines of `token principal`"),
    one(
        SECURITY,
        "jwt-key",
        "FILE",
        None,
        "Let in whose JWT this key verifies: a secret for HS..., else a public key (PEM)",
    ),
    one(
        SECURITY,
        "jwt-algorithm",
        "ALG",
        None,
        "The one algorithm of --jwt-key: HS256, RS256, ES256, EdDSA, ...",
    ),
    one(SECURITY, "jwks-file", "FILE", None, "Let in whose JWT a key of this JSON Web Key Set verifies"),
    many(SECURITY, "jwt-audience", "AUD", None, "An audience a JWT may be for"),
    many(
        SECURITY,
        "jwt-issuer",
        "ISS",
        None,
        "An issuer a JWT may be from; with several, a user is an issuer and a subject, and no longer a subject alone",
    ),
    many(
        SECURITY,
        "jwt-issuer-keys",
        "ISS=FILE",
        None,
        "Let in whose JWT of this issuer a key of this JSON Web Key Set verifies, and no key of another issuer's",
    ),
    one(
        SECURITY,
        "jwt-main-issuer",
        "ISS",
        None,
        "Of several issuers, the one whose subjects keep their uploads of the time when it was the only one",
    ),
    one(
        SECURITY,
        "hook-command",
        "CMD",
        None,
        "Run before an upload is created: JSON on its stdin, exit 0 to go on (no shell; words may be quoted)",
    ),
    one(SECURITY, "hook-timeout", "TIME", Some("10s"), "How long it may take"),
    one(
        BOUNDS,
        "keep-free",
        "SIZE|N%",
        Some("1%"),
        "Room on the volume of --data that uploads leave free; a share is at most 1 GiB. Beyond it they are answered 507",
    ),
    one(BOUNDS, "max-open-uploads", "N", Some("10000"), "Unfinished uploads of all, or `none`"),
    one(
        BOUNDS,
        "max-open-uploads-per-user",
        "N",
        Some("1000"),
        "Unfinished uploads of one principal, or `none`",
    ),
    one(
        BOUNDS,
        "max-open-uploads-per-address",
        "N",
        Some("1000"),
        "Unfinished uploads of one client address without a principal (IPv6: of one /64), or `none`",
    ),
    one(BOUNDS, "max-complete-uploads", "N", Some("1000000"), "Complete uploads that are kept, or `none`"),
    one(BOUNDS, "max-stored-bytes", "SIZE", None, "Bytes of all uploads together"),
    one(BOUNDS, "max-stored-bytes-per-user", "SIZE", None, "Bytes of one principal's uploads together"),
    one(
        BOUNDS,
        "head-timeout",
        "TIME",
        Some("30s"),
        "How long a request's header section, or a handshake, may take",
    ),
    one(BOUNDS, "idle-timeout", "TIME", Some("60s"), "How long content may stand still"),
    one(BOUNDS, "min-rate", "BYTES/S", Some("100"), "The slowest content tolerated over a minute; 0 for any"),
    one(BOUNDS, "max-connections", "N", Some("16384"), "Connections at once, for each --listen"),
    one(
        RUNNING,
        "drain-timeout",
        "TIME",
        Some("30s"),
        "How long the server may take to stop; what is not done by then is done after the next start",
    ),
    one(RUNNING, "sweep-interval", "TIME", Some("5m"), "How often uploads whose time is over are removed"),
    one(RUNNING, "workers", "N", None, "Threads for connections [default: one for each processor]"),
    one(RUNNING, "log", "FORMAT", Some("human"), "Log lines on stderr: `human` or `json`"),
    one(RUNNING, "log-level", "LEVEL", Some("info"), "error, warn, info, debug or trace"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_each() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[..at].iter().all(|other| other.name != setting.name), "{}", setting.name);
        }
    }

    #[test]
    fn a_slip_finds_what_was_meant() {
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
