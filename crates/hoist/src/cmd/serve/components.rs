//! The components of a server, built from the settings: TLS, authentication, hook and target.
//!
//! Reports the errors of files that settings name, so that `config check` finds everything that would keep `serve` from
//! starting, except for errors of the address and the data directory.

use std::sync::Arc;

use hoist_http::tls::{self, Acceptor};
use hoist_server::admin::Tokens;
use hoist_server::auth::bearer::Bearer;
use hoist_server::auth::jwt::Jwt;
use hoist_server::auth::{Anyone, Authenticator, Unusable};
use hoist_server::hook::command::Command;
use hoist_server::hook::directory::Directory;
use hoist_server::hook::webhook::Webhook;
use hoist_server::hook::{Hooks, Receiver};
use hoist_server::observe::{Log, Metrics, Observer};
use hoist_server::outbox::{NotASecret, Outbox, Secret};
use hoist_server::targets::Files;
use hoist_server::{BadEndpoint, Builder, Hoist, Settings};
use hoist_store::fs::make_directory;
use hoist_store::memory::MemoryStore;
use hoist_store::store::Store;

use super::certificate;
use crate::config::{
    AuthConfig, Config, ConfigError, EventsConfig, HooksConfig, JwtKeys, SinkConfig, TargetConfig, TlsFiles,
    require_program,
};

/// The components of a server, except for its store.
pub(crate) struct Components {
    pub(crate) tls: Option<Acceptor>,
    auth: Arc<dyn Authenticator>,
    hooks: Hooks,
    files: Option<Files>,
    /// The tokens of the admin listener.
    pub(crate) admin_tokens: Option<Tokens>,
    events: Option<Outbox>,
    /// Reasons for which the server would run, but serve no client.
    pub(crate) lockouts: Vec<(Lockout, ConfigError)>,
}

/// A reason for which a server that runs serves no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lockout {
    /// The certificate has expired, or is not valid yet.
    Certificate,
    /// No bearer token is accepted. Not an error at start, because the file is read again when a token is added.
    NoTokens,
}

impl Components {
    /// Builds the components, reading the files that settings name.
    ///
    /// # Errors
    /// Returns all errors, not only the first.
    pub(crate) fn of(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut note = |name: &str, what: String| {
            errors.push(ConfigError::at(config.location(name), what));
        };
        let tls = config.tls.as_ref().and_then(|tls| {
            let acceptor = Acceptor::from_pem_files(&tls.cert, &tls.key);
            acceptor
                .map_err(|error| {
                    let (name, wrong) = unusable_certificate(tls, error);
                    note(name, wrong);
                })
                .ok()
        });
        let auth = auth(config).unwrap_or_else(|(name, error)| {
            note(name, error.to_string());
            Admission { by: Arc::new(Anyone), has_no_tokens: false }
        });
        let lockouts = lockouts(config, tls.as_ref(), &auth);
        let hooks = hooks(&config.hooks).unwrap_or_else(|(name, wrong)| {
            note(name, wrong);
            Hooks::default()
        });
        let files = match &config.target {
            TargetConfig::Keep => None,
            TargetConfig::Files { directory, template } => {
                if directory.exists() && !directory.is_dir() {
                    note("files-dir", format!("{} is not a directory", directory.display()));
                }
                Files::new(directory, template).map_err(|error| note("files-name", error.to_string())).ok()
            }
        };
        let tokens = config.admin.as_ref().and_then(|admin| admin.tokens.as_ref());
        let admin_tokens = tokens.and_then(|file| {
            Tokens::open(file).map_err(|error| note("admin-token-file", error.to_string())).ok()
        });
        if config.data.exists() && !config.data.is_dir() {
            note("data", format!("{} is not a directory", config.data.display()));
        }
        if let Err(error) = Hoist::builder(Arc::new(MemoryStore::new())).endpoint(&config.endpoint) {
            note("endpoint", error.to_string());
        }
        let events = events(&config.events, &mut note);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { tls, auth: auth.by, hooks, files, admin_tokens, events, lockouts })
    }

    /// Builds the upload service on a store, observed by `metrics` if there is an admin listener.
    pub(super) fn hoist(
        self,
        config: &Config,
        store: Arc<dyn Store>,
        metrics: &Metrics,
    ) -> Result<Builder, ConfigError> {
        let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(Log { requests: config.log_requests })];
        if config.admin.is_some() {
            observers.push(Arc::new(metrics.clone()));
        }
        let endpoint = |error: BadEndpoint| ConfigError::at(config.location("endpoint"), error);
        let builder = Hoist::builder(store)
            .endpoint(&config.endpoint)
            .map_err(endpoint)?
            .policy(config.policy.clone())
            .auth(self.auth)
            .hooks(self.hooks)
            .cors(config.cors.clone())
            .cors_headers(&config.cors_headers)
            .trusted_proxies(config.trusted_proxies.clone())
            .quotas(config.quotas)
            .observers(observers)
            .settings(Settings {
                interims: config.interims,
                locations: config.locations,
                tus_extensions: config.tus,
                ietf_versions: config.ietf_versions,
                completes_at_length: config.completes_at_length,
                public_origin: config.public_origin.clone(),
                downloads: config.downloads,
                accepts_forms: config.accepts_forms,
            });
        let builder = match self.events {
            Some(events) => builder.events(events),
            None => builder,
        };
        let (Some(files), TargetConfig::Files { directory, .. }) = (self.files, &config.target) else {
            return Ok(builder);
        };
        make_directory(directory, 0o777).map_err(|error| {
            ConfigError::at(
                config.location("files-dir"),
                format!("cannot create {}: {error}", directory.display()),
            )
        })?;
        Ok(builder.target(files))
    }
}

/// Builds the outbox, if there are sinks, and reads their secrets.
fn events(config: &EventsConfig, note: &mut impl FnMut(&str, String)) -> Option<Outbox> {
    if config.sinks.is_empty() {
        return None;
    }
    let mut sinks = Vec::new();
    for SinkConfig { sink, secret_file } in &config.sinks {
        if let Some(Err(wrong)) = sink.program().map(|program| require_program(&program.to_string_lossy())) {
            note("events", wrong);
        }
        let secrets = secret_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            Secret::parse_lines(&text).map_err(|line| match line {
                0 => format!("{} has no secret; add a line `whsec_...`", file.display()),
                line => format!("line {line} of {} is {NotASecret}", file.display()),
            })
        });
        match secrets.transpose() {
            Ok(secrets) => sinks.push(sink.clone().secrets(secrets.unwrap_or_default())),
            Err(wrong) => note("events-secret-file", wrong),
        }
    }
    Outbox::new(sinks, config.timeout).map_err(|error| note("events", error.to_string())).ok()
}

//= TOK-SEC-02
fn auth(config: &Config) -> Result<Admission, (&'static str, Unusable)> {
    let mut has_no_tokens = false;
    let by: Arc<dyn Authenticator> = match &config.auth {
        AuthConfig::Anyone => Arc::new(Anyone),
        AuthConfig::Bearer(file) => {
            let bearer = Bearer::open(file).map_err(|error| ("bearer-file", error))?;
            has_no_tokens = bearer.is_empty();
            Arc::new(bearer)
        }
        AuthConfig::Jwt { keys, audiences, issuers, main_issuer } => {
            let jwt = match keys {
                JwtKeys::Single(file, algorithm) => {
                    Jwt::with_key_file(file, *algorithm).map_err(|error| ("jwt-key", error))?
                }
                JwtKeys::Set(file) => Jwt::with_jwks_file(file).map_err(|error| ("jwks-file", error))?,
                JwtKeys::ByIssuer(sets) => {
                    Jwt::with_jwks_files(sets.clone()).map_err(|error| ("jwt-issuer-keys", error))?
                }
            };
            let jwt = if issuers.is_empty() { jwt } else { jwt.issuers(issuers.clone()) };
            Arc::new(jwt.audiences(audiences.clone()).main_issuer(main_issuer.clone()))
        }
    };
    Ok(Admission { by, has_no_tokens })
}

/// Builds the receivers of hooks: the program that approves first, because the others may change an upload.
fn hooks(config: &HooksConfig) -> Result<Hooks, (&'static str, String)> {
    let mut receivers: Vec<Arc<dyn Receiver>> = Vec::new();
    if let Some(command) = &config.command {
        command.require_program().map_err(|wrong| ("hook-command", wrong))?;
        receivers.push(Arc::new(Command::new(&command.program, command.arguments.clone(), config.timeout)));
    }
    if let Some(path) = &config.directory {
        if !path.is_dir() {
            return Err(("hooks-dir", format!("{} is not a directory", path.display())));
        }
        let directory = Directory::new(path, config.webhook.points, config.timeout);
        receivers.push(Arc::new(directory.map_err(|error| ("hooks-dir", error.to_string()))?));
    }
    if let Some(url) = &config.url {
        let webhook = Webhook::new(url, config.webhook.clone());
        receivers.push(Arc::new(webhook.map_err(|wrong| ("hooks-http", format!("is {wrong}")))?));
    }
    Ok(Hooks::new(receivers).with_progress_interval(config.progress_interval))
}

/// The authentication of requests.
struct Admission {
    by: Arc<dyn Authenticator>,
    /// True if it accepts no token, and so no request.
    has_no_tokens: bool,
}

/// Returns the setting that names a certificate or key that cannot be used, and the message.
fn unusable_certificate(tls: &TlsFiles, error: tls::Error) -> (&'static str, String) {
    let (cert, key) = (tls.cert.display(), tls.key.display());
    match error {
        tls::Error::Pem { path, source } => {
            let name = if path == tls.key && path != tls.cert { "tls-key" } else { "tls-cert" };
            let what = if name == "tls-key" { "a private key" } else { "a certificate chain" };
            (name, format!("cannot read {}: {source}; give a PEM file with {what}", path.display()))
        }
        tls::Error::OtherKey { .. } => (
            "tls-key",
            format!("{key} is not the key of the certificate in {cert}; give the key it was made with"),
        ),
        error => ("tls-cert", format!("{:#}; give a PEM chain and its key", anyhow::Error::new(error))),
    }
}

fn lockouts(config: &Config, tls: Option<&Acceptor>, auth: &Admission) -> Vec<(Lockout, ConfigError)> {
    let mut lockouts = Vec::new();
    let validity = tls.and_then(Acceptor::validity);
    let refused =
        validity.and_then(|validity| certificate::refused_for_its_dates(validity, certificate::now()));
    if let Some(refused) = refused {
        let file = config.tls.as_ref().map(|tls| format!(" ({})", tls.cert.display())).unwrap_or_default();
        let at = config.location("tls-cert") + &file;
        lockouts.push((Lockout::Certificate, ConfigError::at(at, refused)));
    }
    if let (true, AuthConfig::Bearer(file)) = (auth.has_no_tokens, &config.auth) {
        let wrong = format!(
            "{} has no tokens, so every request is refused with 401; add a line with a token, a space and a principal",
            file.display()
        );
        lockouts.push((Lockout::NoTokens, ConfigError::at(config.location("bearer-file"), wrong)));
    }
    lockouts
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Given, flags};

    #[test]
    fn invalid_files_named_by_settings_are_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::write(at("tokens"), "s3cret alice\n").expect("written");
        fs::write(at("bad"), "s3cret\n").expect("written");
        let errors = |given: Given<'_>| {
            let config = Config::load(&flags(given), None).expect("sound");
            let errors = Components::of(&config).err().unwrap_or_default();
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (tokens, bad, none) = (at("tokens"), at("bad"), at("none"));
        let cases: [(Given<'_>, &str); 18] = [
            (&[("bearer-file", &[&tokens])], ""),
            (&[("bearer-file", &[&bad])], "--bearer-file: "),
            (&[("bearer-file", &[&none])], "--bearer-file: "),
            (&[("jwt-key", &[&tokens]), ("jwt-algorithm", &["HS256"])], "--jwt-key: "),
            (&[("jwks-file", &[&tokens])], "--jwks-file: "),
            (&[("tls-cert", &[&none]), ("tls-key", &[&none])], "--tls-cert: "),
            (&[("hook-command", &[&none])], "--hook-command: program "),
            (&[("admin", &["[::1]:0"]), ("admin-token-file", &[&none])], "--admin-token-file: "),
            (&[("admin", &["[::1]:0"]), ("admin-token-file", &[&tokens])], "--admin-token-file: "),
            (&[("endpoint", &["uploads"])], "--endpoint: "),
            (&[("endpoint", &["/a/../b"])], "--endpoint: "),
            (&[("endpoint", &["/a/./b"])], "--endpoint: "),
            (&[("endpoint", &["/a/.."])], "--endpoint: "),
            (&[("endpoint", &["/healthz"])], "--endpoint: "),
            (&[("endpoint", &["/readyz/"])], "--endpoint: "),
            (&[("endpoint", &["/.well-known/resumable-uploads"])], "--endpoint: "),
            (&[("endpoint", &["/a/..b/healthz"])], ""),
            (
                &[("target", &["files"]), ("files-dir", &[&tokens]), ("files-name", &["{nme}"])],
                "--files-dir: ",
            ),
        ];
        for (given, expected) in cases {
            let errors = errors(given);
            assert_eq!(errors.is_empty(), expected.is_empty(), "{given:?}: {errors:?}");
            assert!(errors.first().is_none_or(|problem| problem.starts_with(expected)), "{errors:?}");
            assert!(errors.iter().all(|problem| !problem.contains("s3cret") && !problem.contains('\n')));
        }
    }
}
