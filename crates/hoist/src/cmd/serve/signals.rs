//! The signals that the server handles.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cmd::stop_signal::StopSignals;
use crate::exit::Failure;

/// Listeners for the signals that the server handles.
pub(super) struct Signals {
    pub(super) stop: StopSignals,
    /// SIGHUP, upon which the configuration is read again.
    pub(super) hangup: Signal,
    /// SIGXFSZ, sent when a file reaches the size limit (`ulimit -f`). By default it ends the process; with a listener the
    /// write fails with EFBIG instead, which affects one upload only. Child processes get the default back.
    _file_size: Signal,
}

impl Signals {
    /// Starts to listen. From then on these signals no longer terminate the process by default.
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            stop: StopSignals::listen()?,
            hangup: listen(SignalKind::hangup())?,
            _file_size: listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }
}
