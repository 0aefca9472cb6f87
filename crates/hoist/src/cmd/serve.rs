//! `hoist serve`: starts the server from a configuration, and stops it.
//!
//! Owns the order of start and shutdown. `serve/components.rs` builds the parts from the settings.

pub(crate) mod components;
mod descriptors;
mod log;
mod naming_key;
mod signals;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hoist_http::tls::Acceptor;
use hoist_http::{Limits, Server};
use hoist_server::{Hoist, Running};
use hoist_store::fs::{LocalStore, Options};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::config_failure;
use crate::cli::ServeArgs;
use crate::config::{Config, ConfigError, LogFormat};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use components::Components;
use signals::Signals;

/// The time for storing the bytes of transfers that were ended when the grace period was over.
const STORE_GRACE: Duration = Duration::from_secs(1);

/// The time that busy threads get after that.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(250);

/// The longest time that the ready line waits for the scan of the data directory. The server already listens.
const READY_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves until a signal stops it.
pub(crate) fn run(settings: &ServeArgs, output: Output) -> Result<Exit, Failure> {
    match Config::log_format(&settings.flags, settings.file.clone()) {
        LogFormat::Human => start(settings, &|problems| config_failure(problems, output), output),
        // A failure is a line of the log, like everything else on standard error.
        LogFormat::Json => start(settings, &logged_config_failure, output).or_else(|failure| {
            log::write_failure(&failure);
            Ok(failure.exit)
        }),
    }
}

/// Logs all errors but the last, and returns the last as the failure.
fn logged_config_failure(problems: &[ConfigError]) -> Failure {
    let mut failures = problems.iter().map(|problem| Failure::message(Exit::Config, problem));
    let last = failures.next_back().expect("at least one error");
    failures.for_each(|failure| log::write_failure(&failure));
    last
}

fn start(
    settings: &ServeArgs,
    failed: &dyn Fn(&[ConfigError]) -> Failure,
    output: Output,
) -> Result<Exit, Failure> {
    let config =
        Config::load(&settings.flags, settings.file.clone()).map_err(|problems| failed(&problems))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(config.workers).enable_all().build();
    let runtime = runtime.context("cannot start threads; try a smaller --workers")?;
    // Before everything else, so that neither a signal during the start nor a log file at its size limit ends the process.
    let signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    let log = log::start(&config);
    for warning in config.warnings().into_iter().chain(file_size_warning()) {
        tracing::warn!("{warning}");
    }
    let parts = Components::of(&config).map_err(|problems| failed(&problems))?;
    descriptors::raise_limit();
    let ended = runtime.block_on(serve(&config, parts, signals, output));
    if let Ok(Exit::Forced) = ended {
        // A second signal does not wait for busy threads either.
        drop(log);
        std::process::exit(Exit::Forced.code().into());
    }
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

/// Returns a warning if the process has a limit on file sizes.
fn file_size_warning() -> Option<String> {
    use rustix::process::{Resource, getrlimit};
    let bytes = getrlimit(Resource::Fsize).current?;
    Some(format!(
        "files are limited to {bytes} bytes (ulimit -f), so larger uploads are refused with 507; start the server with \
         `ulimit -f unlimited`, or set LimitFSIZE=infinity in its unit"
    ))
}

async fn serve(
    config: &Config,
    parts: Components,
    mut signals: Signals,
    output: Output,
) -> Result<Exit, Failure> {
    let listeners = bind(config).await?;
    let tls = parts.tls.clone();
    let (hoist, running) = tokio::select! {
        biased;
        signal = signals.stop.next() => {
            let signal = signal.name();
            tracing::info!(signal, "stopped during the start");
            return Ok(Exit::Success);
        }
        hoist = open(config, parts) => hoist?,
    };
    let ready = ready_line(&listeners, tls.is_some(), hoist.endpoint());

    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    let connections_max = descriptors::connections_max(config.limits.connections_max, listeners.len());
    let limits = Limits { connections_max, ..config.limits.clone() };
    for (listener, _) in listeners {
        let server = Server::new().limits(limits.clone());
        let server = match &tls {
            Some(acceptor) => server.tls(acceptor.clone()),
            None => server,
        };
        servers.spawn(server.serve(listener, hoist.clone(), stop.clone()));
    }
    // Lets a script that requests /readyz right away find a small data directory ready.
    let _ = tokio::time::timeout(READY_TIMEOUT, running.recovered()).await;
    if let Err(error) = output.result(&ready, &json!({ "ready": ready })) {
        // Uploads work without the ready line.
        tracing::warn!(error = %error.0, "cannot write to standard output; {ready}");
    }

    let serving = async {
        while let Some(ended) = servers.join_next().await {
            if let Err(error) | Ok(Err(error)) = ended.map_err(io::Error::other) {
                tracing::error!(%error, "a listener ended");
                stop.cancel();
            }
        }
    };
    let draining = async {
        stop.cancelled().await;
        running.stop().await;
    };
    let hangups = reload_on(&mut signals.hangup, tls, &stop);
    let in_order = async {
        tokio::join!(serving, draining, hangups);
    };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(config.limits.drain_grace + STORE_GRACE).await;
    };
    let second_signal = async {
        let signal = signals.stop.next().await.name();
        tracing::info!(signal, "stopping; running transfers are ended and their bytes kept");
        stop.cancel();
        signals.stop.next().await.name()
    };
    tokio::select! {
        biased;
        () = in_order => {
            tracing::info!("stopped");
            Ok(Exit::Success)
        }
        () = overdue => {
            let after_s = config.limits.drain_grace.as_secs();
            tracing::warn!(after_s, "stopped at --drain-timeout before all work was done; the next start finishes it");
            Ok(Exit::Success)
        }
        signal = second_signal => {
            tracing::warn!(signal, "stopped at once, without waiting for transfers");
            Ok(Exit::Forced)
        }
    }
}

async fn bind(config: &Config) -> Result<Vec<(TcpListener, SocketAddr)>, Failure> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let bound = TcpListener::bind(address).await.and_then(|listener| {
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        });
        listeners
            .push(bound.map_err(|error| Failure::message(Exit::Start, cannot_listen(*address, &error)))?);
    }
    Ok(listeners)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "address in use; choose another with --listen".to_owned(),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use 0.0.0.0 or [::] for all addresses".to_owned()
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose another with --listen"
                .to_owned()
        }
        _ => format!("{error}; choose another with --listen"),
    };
    format!("cannot listen on {address}: {why}")
}

/// Opens the data directory. Work that a crash left unfinished is completed in the background.
async fn open(config: &Config, parts: Components) -> Result<(Hoist, Running), Failure> {
    let directory = config.data.clone();
    let may_be_new = config.new_key;
    let mut options = Options::default();
    options.durability = config.durability;
    options.headroom = config.headroom;
    let opened = tokio::task::spawn_blocking(move || {
        let store = LocalStore::open(&directory, &options)?;
        let key = naming_key::load_or_create(&directory, may_be_new);
        anyhow::Ok((store, key?))
    });
    let unusable = |error: anyhow::Error| {
        let directory = config.data.display();
        Failure::message(
            Exit::Start,
            format_args!(
                "cannot use data directory {directory}: {error:#}; choose another with {}",
                config.location("data")
            ),
        )
    };
    let (store, key) =
        opened.await.context("opening the store").and_then(|opened| opened).map_err(unusable)?;
    let hoist =
        parts.hoist(config, Arc::new(store)).map_err(|problem| Failure::message(Exit::Config, problem))?;
    let hoist = hoist.key(key).build();
    let running = hoist.start(config.sweep_interval).await;
    tracing::info!(data = %config.data.display(), "data directory open");
    Ok((hoist, running))
}

/// Returns the line that tells scripts that the server is ready.
fn ready_line(listeners: &[(TcpListener, SocketAddr)], is_tls: bool, endpoint: &str) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    let urls = listeners.iter().map(|(_, address)| format!("{scheme}://{address}{endpoint}"));
    format!("hoist listening on {}", urls.collect::<Vec<_>>().join(" "))
}

/// Reloads the certificate at every SIGHUP.
//= TOK-SEC-01
async fn reload_on(hangups: &mut Signal, tls: Option<Acceptor>, stop: &CancellationToken) {
    while stop.run_until_cancelled(hangups.recv()).await.is_some() {
        let Some(acceptor) = tls.clone() else {
            tracing::info!("SIGHUP ignored: no certificate to reload");
            continue;
        };
        match tokio::task::spawn_blocking(move || acceptor.reload()).await.map_err(anyhow::Error::new) {
            Ok(Ok(())) => tracing::info!("certificate reloaded"),
            Ok(Err(error)) => {
                let error = anyhow::Error::new(error);
                tracing::error!("cannot reload the certificate, keeping the old one: {error:#}");
            }
            Err(error) => tracing::error!(%error, "cannot reload the certificate"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_errors_name_the_next_step() {
        let address: SocketAddr = "127.0.0.1:80".parse().expect("an address");
        let cases = [
            (io::ErrorKind::AddrInUse, "address in use; choose another with --listen"),
            (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
            (io::ErrorKind::PermissionDenied, "ports below 1024"),
            (io::ErrorKind::OutOfMemory, "choose another with --listen"),
        ];
        for (kind, expected) in cases {
            let message = cannot_listen(address, &kind.into());
            assert!(
                message.starts_with("cannot listen on 127.0.0.1:80: ") && message.contains(expected),
                "{message}"
            );
        }
    }
}
