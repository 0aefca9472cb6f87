//! Reading the configuration again while the server runs, and applying what has changed.
//!
//! Everything is read and checked first. If anything is wrong, nothing changes.

use std::sync::Arc;

use hoist_http::tls::Acceptor;
use hoist_http::{Limits, LiveLimits};
use hoist_server::admin::Reloaded;
use hoist_server::observe::Metrics;
use hoist_server::{Builder, Hoist, Running};
use hoist_store::fs::LocalStore;
use hoist_store::memory::MemoryStore;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use super::components::{Components, Lockout};
use super::host::{ReloadOutcome, Reloads};
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
    /// Reloads through the admin API.
    pub(super) reloads: Reloads,
}

/// A new configuration, checked and ready to be applied.
struct Prepared {
    changes: Changes,
    tls: Option<Acceptor>,
    builder: Builder,
    warnings: Vec<String>,
}

/// The cause of a reload.
enum Cause {
    Signal,
    /// An operator, who is told the outcome.
    Operator(oneshot::Sender<ReloadOutcome>),
}

impl Reloader<'_> {
    /// Reads the configuration again at every SIGHUP, and when an operator asks for it, forever.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn run(mut self, hangup: &mut Signal) {
        while let Some(cause) = self.next(hangup).await {
            notify(Notice::Reloading).await;
            let outcome = self.reload().await;
            let status = match &outcome {
                Ok(_) => self.status.to_owned(),
                Err(_) => format!("{}; the last reload failed, see the log", self.status),
            };
            if let Cause::Operator(told) = cause {
                // An operator that has left finds the outcome in the log.
                let _ = told.send(outcome);
            }
            notify(Notice::Ready(status)).await;
        }
    }

    /// Waits for the cause of the next reload; `None` if there will be none.
    async fn next(&mut self, hangup: &mut Signal) -> Option<Cause> {
        tokio::select! {
            signal = hangup.recv() => signal.map(|()| Cause::Signal),
            Some(told) = self.reloads.asked_for.recv() => Some(Cause::Operator(told)),
        }
    }

    /// Reloads once.
    async fn reload(&mut self) -> ReloadOutcome {
        let (args, config, tls) = (self.args.clone(), self.config.clone(), self.tls.cloned());
        let metrics = self.metrics.clone();
        let prepared =
            tokio::task::spawn_blocking(move || prepare(&args, &config, tls.as_ref(), &metrics)).await;
        self.metrics.reloaded(matches!(prepared, Ok(Ok(_))));
        match prepared {
            Ok(Ok(prepared)) => Ok(self.apply(prepared)),
            Ok(Err(problems)) => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                for problem in &problems {
                    tracing::error!("cannot reload: {problem}; the previous settings stay in use");
                }
                Err(problems)
            }
            Err(bug) => {
                tracing::error!(error = %bug, "cannot reload: the reading of the configuration ended in a bug");
                Err(vec!["the reading of the configuration ended in a bug; see the log".to_owned()])
            }
        }
    }

    /// Applies a checked configuration. No step can fail, and none waits.
    fn apply(&mut self, Prepared { changes, tls, builder, warnings }: Prepared) -> Reloaded {
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
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        log::set_level(new_level);
        self.config = config;
        self.reloads.config.send_replace(self.config.in_force());
        let texts = |changes: &[Change]| changes.iter().map(ToString::to_string).collect();
        Reloaded { applied: texts(&applied), postponed: texts(&postponed), warnings }
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
