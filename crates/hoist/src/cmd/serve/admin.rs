//! The admin listener: its sockets and the server on them.
//!
//! It serves cleartext, and until the very end of the process, so that operators see a shutdown go on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hoist_http::{Limits, Server};
use hoist_server::admin::{Admin, Tokens};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::host::{self, Reloads};
use super::listeners::{self, Bound, SocketFile};
use crate::config::Config;
use crate::exit::Failure;

/// The most connections per admin address. Its clients are few, and uploads need the descriptors.
const CONNECTIONS_MAX: usize = 64;

/// The time for the servers to end.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// The running admin listener. Dropping it closes its connections and sockets.
pub(super) struct AdminListener {
    servers: JoinSet<io::Result<()>>,
    files: Vec<SocketFile>,
}

impl AdminListener {
    /// Closes the connections and sockets.
    ///
    /// # Cancellation
    /// If dropped, they are closed too, but socket files may be left.
    pub(super) async fn close(mut self) {
        // Before the files: a socket file is removed once nothing listens on it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.servers.shutdown()).await;
        drop(self.files);
    }
}

/// Binds the address of `--admin`, if there is one.
///
/// # Cancellation
/// Safe to drop. The sockets are closed.
pub(super) async fn bind(config: &Config) -> Result<Vec<Bound>, Failure> {
    match &config.admin {
        None => Ok(Vec::new()),
        Some(admin) => listeners::bind_place(&admin.listen, admin.socket_mode, "admin").await,
    }
}

/// Serves on the bound addresses. Returns the reloads that operators ask for too.
pub(super) fn start(
    config: &Config,
    bound: Vec<Bound>,
    mut admin: Admin,
    tokens: Option<Tokens>,
) -> (AdminListener, Reloads) {
    let (host, reloads) = host::channel(config.in_force());
    admin = admin.host(Arc::new(host));
    if let Some(tokens) = tokens {
        admin = admin.tokens(tokens);
    }
    if config.admin.as_ref().is_some_and(|admin| admin.has_tusd_metrics) {
        admin = admin.tusd_names();
    }
    let limits = Limits { connections_max: CONNECTIONS_MAX, ..Limits::default() };
    let (mut servers, mut files) = (JoinSet::new(), Vec::new());
    for Bound { listener, place, file } in bound {
        tracing::info!("admin listening on {}", place.url(false, ""));
        let server = Server::new().limits(limits.clone());
        servers.spawn(server.serve(listener, admin.clone(), CancellationToken::new()));
        files.extend(file);
    }
    (AdminListener { servers, files }, reloads)
}
