//! `hoist serve`: starts the server from a configuration, and stops it.
//!
//! Owns the order of start and shutdown. `serve/components.rs` builds the parts from the settings.

mod admin;
pub(crate) mod certificate;
pub(crate) mod components;
mod descriptors;
mod host;
pub(crate) mod listeners;
mod log;
mod naming_key;
mod reload;
mod signals;
mod systemd;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hoist_http::tls::Acceptor;
use hoist_http::{Connections, Limits, LiveLimits, Server};
use hoist_server::admin::{Admin, Tokens};
use hoist_server::observe::Metrics;
use hoist_server::{Hoist, Running};
use hoist_store::fs::{LocalStore, Options};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::config_failure;
use crate::cli::ServeArgs;
use crate::config::{Config, ConfigError, LogFormat};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use components::{Components, Lockout};
use listeners::{Bound, PassedSockets, Place, SocketFile};
use reload::Reloader;
use signals::Signals;
use systemd::Notice;

/// The time for storing the bytes of transfers that were ended when the grace period was over.
const STORE_GRACE: Duration = Duration::from_secs(1);

/// The time that busy threads get after that.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(250);

/// The longest time that the ready line waits until the unfinished uploads are counted. The server already listens.
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
    keep_freed_memory();
    let config =
        Config::load(&settings.flags, settings.file.clone()).map_err(|problems| failed(&problems))?;
    let passed = PassedSockets::take()?;
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
    if !passed.is_empty() && config.is_given("listen") {
        tracing::warn!(
            "{} is ignored, because systemd passed sockets to listen on",
            config.location("listen")
        );
    }
    descriptors::raise_limit();
    let ended = runtime.block_on(serve(config, settings, parts, passed, signals, output));
    if let Ok(Exit::Forced) = ended {
        // A second signal does not wait for busy threads either.
        drop(log);
        std::process::exit(Exit::Forced.code().into());
    }
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    ended
}

/// Makes the allocator of glibc keep 2 MiB of freed memory for each of its heaps: twice the size of the largest block
/// that was freed. It starts with 256 KiB, less than what one fast upload has in flight, and returned and got back its
/// pages all the time, in up to 100,000 page faults per GiB. Other allocators are not affected.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
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
    config: Config,
    args: &ServeArgs,
    parts: Components,
    passed: PassedSockets,
    mut signals: Signals,
    output: Output,
) -> Result<Exit, Failure> {
    let tls = parts.tls.clone();
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"));
    for (_, lockout) in parts.lockouts.iter().filter(|(lockout, _)| *lockout == Lockout::NoTokens) {
        tracing::warn!("{lockout}");
    }
    let starting = async {
        let bound = if passed.is_empty() {
            listeners::bind(&config).await?
        } else {
            passed.into_bound().context("using the sockets of LISTEN_FDS")?
        };
        let admin = admin::bind(&config).await?;
        Ok::<_, Failure>((bound, admin, open(&config, parts, &metrics).await?))
    };
    let (bound, admin, Opened { hoist, running, store, admin_tokens }) = tokio::select! {
        biased;
        signal = signals.stop.next() => {
            let signal = signal.name();
            tracing::info!(signal, "stopped during the start");
            return Ok(Exit::Success);
        }
        started = starting => started?,
    };
    let ready = ready_line(&bound, tls.is_some(), hoist.endpoint());

    let stop = CancellationToken::new();
    let connections_max = descriptors::connections_max(config.limits.connections_max, bound.len());
    let limits = LiveLimits::new(Limits { connections_max, ..config.limits.clone() });
    let listeners = bound.len();
    let connections = Connections::default();
    let (mut servers, files) = start_servers(bound, &hoist, &limits, &connections, tls.as_ref(), &stop);
    let service = Admin::new(hoist.clone(), metrics.clone()).connections(connections);
    let (admin, reloads) = admin::start(&config, admin, service, admin_tokens);
    // Lets a script that requests /readyz right away find a server with few unfinished uploads ready.
    let _ = tokio::time::timeout(READY_TIMEOUT, running.ready()).await;
    if let Err(error) = output.result(&ready, &json!({ "ready": ready })) {
        // Uploads work without the ready line.
        tracing::warn!(error = %error.0, "cannot write to standard output; {ready}");
    }
    systemd::notify(Notice::Ready(ready.clone())).await;

    let serving = async {
        while let Some(ended) = servers.join_next().await {
            if let Err(error) | Ok(Err(error)) = ended.map_err(io::Error::other) {
                tracing::error!(%error, "a listener ended");
                stop.cancel();
            }
        }
    };
    let hangup = &mut signals.hangup;
    let draining = async {
        let reloader = Reloader {
            args,
            config,
            hoist: &hoist,
            running: &running,
            store: &store,
            limits: &limits,
            tls: tls.as_ref(),
            listeners,
            metrics: &metrics,
            status: &ready,
            reloads,
        };
        let watching = async { tokio::join!(reloader.run(hangup), certificate::watch(tls.as_ref())) };
        stop.run_until_cancelled(watching).await;
        systemd::notify(Notice::Stopping).await;
        running.stop().await;
    };
    let in_order = async {
        tokio::join!(serving, draining);
    };
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(limits.current().drain_grace + STORE_GRACE).await;
    };
    let second_signal = async {
        let signal = signals.stop.next().await.name();
        tracing::info!(signal, "stopping; running transfers are ended and their bytes kept");
        stop.cancel();
        signals.stop.next().await.name()
    };
    let ended = tokio::select! {
        biased;
        () = in_order => {
            tracing::info!("stopped");
            Ok(Exit::Success)
        }
        () = overdue => {
            let after_s = limits.current().drain_grace.as_secs();
            tracing::warn!(after_s, "stopped at --drain-timeout before all work was done; the next start finishes it");
            Ok(Exit::Success)
        }
        signal = second_signal => {
            tracing::warn!(signal, "stopped at once, without waiting for transfers");
            Ok(Exit::Forced)
        }
        never = systemd::keep_alive() => match never {},
    };
    // The listeners first.
    drop((servers, files));
    admin.close().await;
    ended
}

/// Starts a server for each listener. Returns them, and the files of unix sockets, which are removed when dropped.
fn start_servers(
    bound: Vec<Bound>,
    hoist: &Hoist,
    limits: &LiveLimits,
    connections: &Connections,
    tls: Option<&Acceptor>,
    stop: &CancellationToken,
) -> (JoinSet<io::Result<()>>, Vec<SocketFile>) {
    let (mut servers, mut files) = (JoinSet::new(), Vec::new());
    for Bound { listener, place, file } in bound {
        let server = Server::new().live_limits(limits.clone()).connections(connections.clone());
        let server = match (tls, place) {
            (Some(acceptor), Place::Tcp(_)) => server.tls(acceptor.clone()),
            // Proxies on this machine speak cleartext on a unix socket.
            (_, Place::Unix(_)) | (None, Place::Tcp(_)) => server,
        };
        servers.spawn(server.serve(listener, hoist.clone(), stop.clone()));
        files.extend(file);
    }
    (servers, files)
}

/// An open data directory and the endpoint on it.
struct Opened {
    hoist: Hoist,
    running: Running,
    store: Arc<LocalStore>,
    admin_tokens: Option<Tokens>,
}

/// Opens the data directory. Work that a crash left unfinished is completed in the background.
async fn open(config: &Config, mut parts: Components, metrics: &Metrics) -> Result<Opened, Failure> {
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
    let store = Arc::new(store);
    let admin_tokens = parts.admin_tokens.take();
    let hoist = parts.hoist(config, store.clone(), metrics);
    let hoist = hoist.map_err(|problem| Failure::message(Exit::Config, problem))?.key(key).build();
    let running = hoist.start(config.sweep_interval).await;
    tracing::info!(data = %config.data.display(), "data directory open");
    Ok(Opened { hoist, running, store, admin_tokens })
}

/// Returns the line that tells scripts that the server is ready.
fn ready_line(bound: &[Bound], is_tls: bool, endpoint: &str) -> String {
    let urls = bound.iter().map(|bound| bound.place.url(is_tls, endpoint));
    format!("hoist listening on {}", urls.collect::<Vec<_>>().join(" "))
}
