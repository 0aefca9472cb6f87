//! The signals a server understands.

use std::io;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Told to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
    /// Sent when a file reaches the limit of the process (`ulimit -f`), and by default the end of it. With a listener the
    /// write fails with EFBIG instead, which concerns one upload. A program started from here gets the default back.
    _file_size: Signal,
}

/// Told to read files again.
pub(super) struct Hangups(Signal);

impl Signals {
    /// From here on no signal ends the process by itself.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = || {
            Ok::<_, io::Error>(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: Some(signal(SignalKind::hangup())?),
                _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            })
        };
        Ok(listen().context("cannot listen to signals")?)
    }

    /// The next one that tells to stop, by its name.
    ///
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The hang-ups, for whoever does something about them.
    pub(super) fn hangups(&mut self) -> Result<Hangups, Failure> {
        let hangup = self.hangup.take().context("hang-ups are listened to already")?;
        Ok(Hangups(hangup))
    }
}

impl Hangups {
    /// # Cancellation
    /// Safe to drop.
    pub(super) async fn next(&mut self) {
        // Nothing is never said: the runtime keeps the other end.
        let _ = self.0.recv().await;
    }
}
