//! Notifications to systemd, or another supervisor with the same protocol (`NOTIFY_SOCKET`, see `sd_notify(3)`).

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;

/// A change of the server's state.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// The server accepts connections. Carries a status line.
    Ready(String),
    Reloading,
    /// The server accepts no more connections.
    Stopping,
    /// The server is alive.
    Watchdog,
}

/// Sends a notice. Has no effect without `NOTIFY_SOCKET`.
///
/// # Cancellation
/// If dropped, the notice is sent nevertheless.
pub(super) async fn notify(notice: Notice) {
    if crate::config::variable("NOTIFY_SOCKET").is_none() {
        return;
    }
    // A supervisor that does not read would block the sender.
    let sent = tokio::task::spawn_blocking(move || send(&notice)).await;
    if let Ok(Err(error)) = sent {
        tracing::warn!(%error, "cannot notify the supervisor (NOTIFY_SOCKET)");
    }
}

fn send(notice: &Notice) -> std::io::Result<()> {
    match notice {
        Notice::Ready(status) => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)]),
        Notice::Reloading => {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[
                NotifyState::Reloading,
                now,
                NotifyState::Status("reloading the configuration"),
            ])
        }
        Notice::Stopping => {
            let status = "stopping; running transfers are ended and their bytes kept";
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(status)])
        }
        Notice::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
    }
}

/// Sends a sign of life at half the interval that the supervisor expects (`WATCHDOG_USEC`). Without one it waits forever.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn keep_alive() -> Infallible {
    /// The shortest interval, which bounds the work that a wrong value can cause.
    const INTERVAL_MIN: Duration = Duration::from_millis(10);
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval((limit / 2).max(INTERVAL_MIN));
    loop {
        ticks.tick().await;
        notify(Notice::Watchdog).await;
    }
}
