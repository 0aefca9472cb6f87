//! The server as an operator sees it through the admin API: its configuration, and reloads of it.

use hoist_server::admin::{Host, Reloaded, SettingInForce};
use hoist_store::store::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

/// The outcome of a reload. The error is a list of problems.
pub(super) type ReloadOutcome = Result<Reloaded, Vec<String>>;

/// The running server, for its admin API.
pub(super) struct ServerHost {
    reloads: mpsc::Sender<oneshot::Sender<ReloadOutcome>>,
    config: watch::Receiver<Vec<SettingInForce>>,
}

/// The other end of a [`ServerHost`], for the one that reloads.
pub(super) struct Reloads {
    /// The reloads that operators ask for, with the recipients of their outcomes.
    pub(super) asked_for: mpsc::Receiver<oneshot::Sender<ReloadOutcome>>,
    /// The configuration in force.
    pub(super) config: watch::Sender<Vec<SettingInForce>>,
}

/// Returns both ends. `config` is the configuration in force.
pub(super) fn channel(config: Vec<SettingInForce>) -> (ServerHost, Reloads) {
    // One at a time; the connections of the admin listener bound those that wait.
    let (reloads, asked_for) = mpsc::channel(1);
    let (sender, receiver) = watch::channel(config);
    (ServerHost { reloads, config: receiver }, Reloads { asked_for, config: sender })
}

impl Host for ServerHost {
    fn config(&self) -> Vec<SettingInForce> {
        self.config.borrow().clone()
    }

    fn reload(&self) -> BoxFuture<'_, ReloadOutcome> {
        Box::pin(async {
            let (outcome, told) = oneshot::channel();
            let is_asked = self.reloads.send(outcome).await.is_ok();
            let outcome = if is_asked { told.await.ok() } else { None };
            outcome.unwrap_or_else(|| Err(vec!["the server is shutting down".to_owned()]))
        })
    }
}
