//! The signals that the server handles.

use std::io;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Listeners for the signals that stop the server.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    /// SIGXFSZ, sent when a file reaches the size limit (`ulimit -f`). By default it ends the process; with a listener the
    /// write fails with EFBIG instead, which affects one upload only. Child processes get the default back.
    _file_size: Signal,
}

/// A listener for SIGHUP, which reloads the certificate.
pub(super) struct Hangups(Signal);

impl Signals {
    /// Starts to listen. From then on these signals no longer terminate the process by default.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = || {
            Ok::<_, io::Error>(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: Some(signal(SignalKind::hangup())?),
                _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            })
        };
        Ok(listen().context("cannot listen for signals")?)
    }

    /// Waits for the next stop signal and returns its name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Takes the listener for SIGHUP.
    pub(super) fn hangups(&mut self) -> Result<Hangups, Failure> {
        let hangup = self.hangup.take().context("the SIGHUP listener was taken already")?;
        Ok(Hangups(hangup))
    }
}

impl Hangups {
    /// Waits for the next SIGHUP.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) {
        // `recv` never returns `None`: the runtime keeps the sending end open.
        let _ = self.0.recv().await;
    }
}
