//! Parsing of the settings' texts into values, and checks for contradictions between settings.
//!
//! All errors are collected, so that an operator sees them at once.

mod auth;
mod events;
mod hooks;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hoist_client::Origin;
use hoist_proto::dialect::tus1::{Extension, Extensions};
use hoist_proto::policy::{Limits, Policy};
use hoist_proto::types::Token;
use hoist_server::admission::Quotas;
use hoist_server::cors::Cors;
use hoist_server::proxy::BadNetwork;
use hoist_server::{Interims, Locations};
use http::HeaderValue;

use super::layers::{Layers, SettingSource};
use super::listen::{ListenAt, SocketMode};
use super::settings;
use super::value::{Count, KeepFree, OrNone, PublicOrigin, Size, TimeSpan};
use super::{AdminConfig, Config, ConfigError, LogFormat, TargetConfig, TlsFiles};

/// Reads settings and collects errors. The value returned in place of an invalid one is a placeholder and never used.
pub(super) struct SettingsReader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) errors: Vec<ConfigError>,
}

impl SettingsReader<'_> {
    /// Returns the configuration without its layers. Only valid if no errors were collected.
    pub(super) fn config(&mut self, notes: Vec<String>) -> Config {
        let (policy, limits) = (self.policy(), self.limits());
        Config {
            listen: self.many("listen"),
            socket_mode: self.one::<SocketMode>("socket-mode").unwrap_or_default().0,
            data: self.path("data").unwrap_or_default(),
            endpoint: self.one("endpoint").unwrap_or_default(),
            public_origin: self.one::<PublicOrigin>("public-url").map(|origin| origin.0),
            locations: self.locations(),
            durability: self.named("durability").unwrap_or_default(),
            headroom: self.one::<KeepFree>("keep-free").unwrap_or_default().0,
            new_key: self.switch("new-key"),
            policy,
            target: self.target(),
            downloads: self.switch("downloads"),
            accepts_forms: self.switch("accept-forms"),
            tls: self.tls(),
            trusted_proxies: self.each("trusted-proxy", |text| {
                text.parse().map_err(|wrong: BadNetwork| format!("is {wrong}"))
            }),
            cors: self.cors(),
            cors_headers: self.each("cors-header", |text| {
                text.parse().map_err(|_| "is not the name of a field; write it like X-Csrf-Token".into())
            }),
            ietf_versions: self.one("ietf-versions").unwrap_or_default(),
            completes_at_length: self.choice("ietf-complete-at-length", &[("off", false), ("v5-v6", true)]),
            tus: self.tus(),
            interims: self.choice(
                "interim",
                &[("auto", Interims::Auto), ("always", Interims::Always), ("never", Interims::Never)],
            ),
            auth: self.auth(),
            hooks: self.hooks(),
            events: self.events(),
            quotas: self.quotas(),
            limits,
            sweep_interval: self.positive_span("sweep-interval"),
            workers: self.count("workers", 1..=1024),
            log: self.choice("log-format", &[("human", LogFormat::Human), ("json", LogFormat::Json)]),
            log_level: self.choice(
                "log-level",
                &[
                    ("info", tracing::Level::INFO),
                    ("error", tracing::Level::ERROR),
                    ("warn", tracing::Level::WARN),
                    ("debug", tracing::Level::DEBUG),
                    ("trace", tracing::Level::TRACE),
                ],
            ),
            log_requests: self.switch("log-requests"),
            admin: self.admin(),
            notes,
            layers: Layers::default(),
        }
    }

    fn locations(&mut self) -> Locations {
        let choices = [("absolute", Locations::Absolute), ("relative", Locations::Relative)];
        let locations = self.choice("location", &choices);
        if locations == Locations::Relative && self.layers.get("public-url").is_some() {
            self.error("public-url", "has no effect with --location relative");
        }
        locations
    }

    //= TOK-SEC-04
    fn policy(&mut self) -> Policy {
        let size_max = self.limit("max-size");
        let append_max = self.limit("max-append-size");
        let limits = Limits {
            size_max,
            size_min: self.size("min-size"),
            append_max,
            append_min: self.size("min-append-size"),
        };
        for (min, max, name) in
            [(limits.size_min, size_max, "size"), (limits.append_min, append_max, "append-size")]
        {
            if max.is_some_and(|max| min > max) {
                self.error(&format!("min-{name}"), format!("is more than max-{name}"));
            }
        }
        let lifetime = self.one::<OrNone<TimeSpan>>("max-age").unwrap_or_default().0.map(|span| span.0);
        if lifetime == Some(Duration::ZERO) {
            self.error("max-age", "would expire every upload at once; write `none` for no limit");
        }
        let retention = self.one::<OrNone<TimeSpan>>("retain").unwrap_or_default().0.map(|span| span.0);
        let token_octets_min = self.count("min-token-length", 1..=Token::OCTETS_MAX);
        Policy { limits, lifetime, retention, token_octets_min }
    }

    //= TOK-SEC-04
    fn limits(&mut self) -> hoist_http::Limits {
        hoist_http::Limits {
            head_time: self.positive_span("head-timeout"),
            body_idle: self.positive_span("idle-timeout"),
            body_rate_min: self.size("min-rate"),
            connections_max: self.count("max-connections", 1..=1 << 24),
            h2_windows_bytes_max: self.size("max-h2-memory"),
            drain_grace: self.one::<TimeSpan>("drain-timeout").unwrap_or_default().0,
            ..hoist_http::Limits::default()
        }
    }

    //= TOK-SEC-04
    fn quotas(&mut self) -> Quotas {
        let mut count = |name| self.one::<OrNone<Count>>(name).unwrap_or_default().0.map(|count| count.0);
        let (open_max, open_max_each) = (count("max-open-uploads"), count("max-open-uploads-per-user"));
        let (open_max_address, complete_max) =
            (count("max-open-uploads-per-address"), count("max-complete-uploads"));
        let (bytes_max, bytes_max_each) =
            (self.limit("max-stored-bytes"), self.limit("max-stored-bytes-per-user"));
        Quotas { open_max, open_max_each, open_max_address, complete_max, bytes_max, bytes_max_each }
    }

    fn target(&mut self) -> TargetConfig {
        let directory = self.path("files-dir");
        let template = self.one("files-name").unwrap_or_default();
        let is_files = self.choice("target", &[("keep", false), ("files", true)]);
        match (is_files, directory) {
            (true, Some(directory)) => TargetConfig::Files { directory, template },
            (true, None) => {
                self.error("target", "`files` needs a directory; set --files-dir");
                TargetConfig::Keep
            }
            (false, None) => TargetConfig::Keep,
            (false, Some(_)) => {
                self.error("files-dir", "has no effect with --target keep; set --target files");
                TargetConfig::Keep
            }
        }
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        match (self.path("tls-cert"), self.path("tls-key")) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                self.error("tls-cert", "needs its private key; set --tls-key");
                None
            }
            (None, Some(_)) => {
                self.error("tls-key", "needs its certificate; set --tls-cert");
                None
            }
        }
    }

    fn cors(&mut self) -> Cors {
        let texts: Vec<String> = self.many("cors-origin");
        let is_credentialed = self.switch("cors-credentials");
        if is_credentialed && (texts == ["*"] || texts == ["off"]) {
            let wrong = "needs a list of origins; set --cors-origin";
            self.error("cors-credentials", wrong);
        }
        match texts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["*"] => Cors::Any,
            ["off"] => Cors::Off,
            several if several.contains(&"*") || several.contains(&"off") => {
                self.error("cors-origin", "`*` and `off` cannot be combined with other origins");
                Cors::Off
            }
            _ if is_credentialed => Cors::Credentialed(self.origins()),
            _ => Cors::Origins(self.origins()),
        }
    }

    fn origins(&mut self) -> Vec<HeaderValue> {
        self.each("cors-origin", |text| {
            let is_origin = text.split_once("://").is_some_and(|(scheme, authority)| {
                // Any scheme is allowed, so host and port are checked as those of an http URL.
                let is_sound =
                    format!("http://{authority}").parse().is_ok_and(|url| Origin::of(&url).is_ok());
                !scheme.is_empty() && !authority.contains(['/', '?']) && is_sound
            });
            // Origins are compared byte for byte, and browsers send them in lower case.
            let value = HeaderValue::from_str(&text.to_ascii_lowercase()).ok().filter(|_| is_origin);
            value.ok_or_else(|| "is not an origin; write it as browsers do, like https://example.org".into())
        })
    }

    fn admin(&mut self) -> Option<AdminConfig> {
        let (listen, tokens) = (self.one::<ListenAt>("admin"), self.path("admin-token-file"));
        let socket_mode = self.one::<SocketMode>("admin-socket-mode").unwrap_or_default().0;
        if self.layers.get("admin").is_none() {
            self.reject_without("admin-token-file", "--admin");
            self.reject_without("metrics-compat", "--admin");
        }
        let compat = self.layers.get("metrics-compat").is_some();
        let has_tusd_metrics = compat && self.choice("metrics-compat", &[("tusd", true)]);
        let listen = listen?;
        if tokens.is_none() && !matches!(listen, ListenAt::Unix(_)) {
            self.error(
                "admin",
                "needs tokens, because others can connect to it; set --admin-token-file, or use unix:PATH",
            );
        }
        Some(AdminConfig { listen, tokens, socket_mode, has_tusd_metrics })
    }

    /// Reports a setting that has no effect without another one.
    fn reject_without(&mut self, name: &'static str, without: &str) {
        if self.layers.get(name).is_some() {
            self.error(name, format!("has no effect without {without}"));
        }
    }

    fn size(&mut self, name: &str) -> u64 {
        self.one::<Size>(name).unwrap_or_default().0
    }

    /// Reads a maximum size, `None` if unlimited.
    fn limit(&mut self, name: &str) -> Option<u64> {
        let limit = self.one::<OrNone<Size>>(name)?.0?.0;
        if limit == 0 {
            self.error(name, "would reject every upload; write `none` for no limit");
        }
        Some(limit)
    }

    fn positive_span(&mut self, name: &str) -> Duration {
        let span = self.one::<TimeSpan>(name).map(|span| span.0);
        if span == Some(Duration::ZERO) {
            self.error(name, "must be greater than zero");
        }
        span.unwrap_or_default()
    }

    fn count(&mut self, name: &str, range: std::ops::RangeInclusive<usize>) -> usize {
        let count = self.one::<Count>(name).map(|count| count.0);
        if count.is_some_and(|count| !range.contains(&count)) {
            self.error(name, format!("is not between {} and {}", range.start(), range.end()));
        }
        count.unwrap_or_default()
    }

    fn tus(&mut self) -> Extensions {
        let named = |text: &str| {
            let names: Vec<_> = Extension::ALL.into_iter().map(Extension::name).collect();
            Extension::of_name(text).ok_or_else(|| format!("is none of {}", names.join(", ")))
        };
        self.each("tus-disable", named).into_iter().fold(Extensions::ALL, Extensions::without)
    }

    /// Reads one of several words. The first one is the placeholder for an invalid word.
    fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let text: String = self.one(name).unwrap_or_default();
        let chosen = choices.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.error(name, format!("`{text}` is none of {}", words.join(", ")));
        }
        chosen.unwrap_or(&choices[0]).1
    }

    fn switch(&mut self, name: &str) -> bool {
        self.choice(name, &[("off", false), ("on", true), ("false", false), ("true", true)])
    }

    fn path(&mut self, name: &str) -> Option<PathBuf> {
        let path: String = self.one(name)?;
        if path.is_empty() {
            self.error(name, "is empty");
        }
        Some(path.into())
    }

    /// Reads a value whose parser returns messages like "not a durability", to be completed to a sentence.
    fn named<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        self.single(name, |text| text.parse().map_err(|wrong: T::Err| format!("is {wrong}")))
    }

    fn one<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Option<T> {
        self.single(name, |text| text.parse().map_err(|wrong: T::Err| wrong.to_string()))
    }

    fn single<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if self.layers.get(name)?.texts.len() > 1 {
            self.error(name, "is given more than once");
            return None;
        }
        self.each(name, parse).pop()
    }

    fn many<T: FromStr<Err: fmt::Display>>(&mut self, name: &str) -> Vec<T> {
        self.each(name, |text| text.parse().map_err(|wrong: T::Err| wrong.to_string()))
    }

    fn each<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        debug_assert!(settings::find(name).is_some(), "{name} is a setting");
        let Some(written) = self.layers.get(name) else { return Vec::new() };
        let mut values = Vec::new();
        for text in &written.texts {
            match parse(text) {
                Ok(value) => values.push(value),
                Err(wrong) => {
                    let what = format!("`{text}` {wrong}");
                    self.errors.push(ConfigError::in_setting(&written.source, name, what));
                }
            }
        }
        values
    }

    fn error(&mut self, name: &str, wrong: impl fmt::Display) {
        let source = self.layers.get(name).map_or(&SettingSource::Default, |written| &written.source);
        self.errors.push(ConfigError::in_setting(source, name, wrong));
    }
}
