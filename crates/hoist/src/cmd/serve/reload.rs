//! Reading the configuration again while the server runs, and applying what has changed.
//!
//! Everything is read and checked first. If anything is wrong, nothing changes.

use std::sync::Arc;

use hoist_http::tls::Acceptor;
use hoist_http::{Limits, LiveLimits};
use hoist_server::observe::Metrics;
use hoist_server::{Builder, Hoist, Running};
use hoist_store::fs::LocalStore;
use hoist_store::memory::MemoryStore;
use tokio::signal::unix::Signal;

use super::components::{Components, Lockout};
use super::systemd::{Notice, notify};
use super::{certificate, descriptors, log};
use crate::cli::ServeArgs;
use crate::config::{Change, Changes, Config, ConfigError};

/// The parts of a running server that a reload changes.
pub(super) struct Reloader<'a> {
    pub(super) args: &'a ServeArgs,
    /// The configuration that the server runs with.
    pub(super) config: Config,
    pub(super) hoist: &'a Hoist,
    pub(super) running: &'a Running,
    pub(super) store: &'a LocalStore,
    pub(super) limits: &'a LiveLimits,
    pub(super) tls: Option<&'a Acceptor>,
    pub(super) listeners: usize,
    pub(super) metrics: &'a Metrics,
    /// The status line while the server runs.
    pub(super) status: &'a str,
}

/// A new configuration, checked and ready to be applied.
struct Prepared {
    changes: Changes,
    tls: Option<Acceptor>,
    builder: Builder,
    warnings: Vec<String>,
}

impl Reloader<'_> {
    /// Reads the configuration again at every SIGHUP, forever.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn run(mut self, hangup: &mut Signal) {
        while hangup.recv().await.is_some() {
            notify(Notice::Reloading).await;
            let status = self.reload().await;
            notify(Notice::Ready(status)).await;
        }
    }

    /// Reloads once. Returns the status line.
    async fn reload(&mut self) -> String {
        let (args, config, tls) = (self.args.clone(), self.config.clone(), self.tls.cloned());
        let metrics = self.metrics.clone();
        let prepared =
            tokio::task::spawn_blocking(move || prepare(&args, &config, tls.as_ref(), &metrics)).await;
        self.metrics.reloaded(matches!(prepared, Ok(Ok(_))));
        match prepared {
            Ok(Ok(prepared)) => {
                self.apply(prepared);
                self.status.to_owned()
            }
            Ok(Err(problems)) => {
                for problem in &problems {
                    tracing::error!("cannot reload: {problem}; the previous settings stay in use");
                }
                format!("{}; the last reload failed, see the log", self.status)
            }
            Err(bug) => {
                tracing::error!(error = %bug, "cannot reload: the reading of the configuration ended in a bug");
                format!("{}; the last reload failed, see the log", self.status)
            }
        }
    }

    /// Applies a checked configuration. No step can fail, and none waits.
    fn apply(&mut self, Prepared { changes, tls, builder, warnings }: Prepared) {
        let Changes { config, applied, postponed } = changes;
        self.hoist.reconfigure(builder);
        self.running.set_sweep_interval(config.sweep_interval);
        self.store.set_headroom(config.headroom);
        let mut has_new_certificate = false;
        if let (Some(in_use), Some(new)) = (self.tls, &tls) {
            has_new_certificate = in_use.replace_with(new);
        }
        let asked = config.limits.connections_max;
        // Counted again only if necessary, because open connections count as used descriptors.
        let connections_max = if asked == self.config.limits.connections_max {
            self.limits.current().connections_max
        } else {
            descriptors::connections_max(asked, self.listeners)
        };
        self.limits.replace(Limits { connections_max, ..config.limits.clone() });
        // The line about the reload is written at the more talkative of both levels.
        let (old_level, new_level) = (self.config.log_level, config.log_level);
        log::set_level(old_level.max(new_level));
        tracing::info!("{}", summary(&applied));
        if has_new_certificate {
            tracing::info!("certificate reloaded");
        }
        if !postponed.is_empty() {
            let names: Vec<_> = postponed.iter().map(ToString::to_string).collect();
            tracing::warn!("not applied until a restart: {}", names.join(", "));
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        log::set_level(new_level);
        self.config = config;
    }
}

/// Reads and checks the configuration, and every file that it names. Blocks.
fn prepare(
    args: &ServeArgs,
    running: &Config,
    tls: Option<&Acceptor>,
    metrics: &Metrics,
) -> Result<Prepared, Vec<ConfigError>> {
    let new = Config::load(&args.flags, args.file.clone())?;
    let changes = running.changes(&new)?;
    let config = &changes.config;
    if !changes.postponed.is_empty() {
        // The next start would fail.
        Components::of(&new)?;
    }
    let parts = Components::of(config)?;
    let lockouts: Vec<ConfigError> = parts
        .lockouts
        .iter()
        .filter(|(lockout, _)| !already_locked_out(*lockout, running, config, tls))
        .map(|(_, problem)| problem.clone())
        .collect();
    if !lockouts.is_empty() {
        return Err(lockouts);
    }
    let known = running.warnings();
    let warnings = config.warnings().into_iter().filter(|warning| !known.contains(warning));
    let remaining = parts.lockouts.iter().map(|(_, problem)| problem.to_string());
    let warnings = warnings.chain(remaining).collect();
    let tls = parts.tls.clone();
    // The store is that of the running server.
    let builder =
        parts.hoist(config, Arc::new(MemoryStore::new()), metrics).map_err(|problem| vec![problem])?;
    Ok(Prepared { changes, tls, builder, warnings })
}

/// Returns whether the running server keeps clients out for the same reason, so that a reload does not make it worse.
fn already_locked_out(lockout: Lockout, running: &Config, new: &Config, tls: Option<&Acceptor>) -> bool {
    match lockout {
        Lockout::Certificate => {
            let validity = tls.and_then(Acceptor::validity);
            validity.is_some_and(|validity| {
                certificate::refused_for_its_dates(validity, certificate::now()).is_some()
            })
        }
        // The running server reads the same file again by itself.
        Lockout::NoTokens => running.auth == new.auth,
    }
}

fn summary(applied: &[Change]) -> String {
    if applied.is_empty() {
        return "reloaded: no setting has changed; the files that settings name were read again".to_owned();
    }
    let changes: Vec<_> = applied.iter().map(ToString::to_string).collect();
    format!("reloaded: {}", changes.join(", "))
}
