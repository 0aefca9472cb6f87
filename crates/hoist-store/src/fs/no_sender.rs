//! Sending content files to sockets on systems without the calls for it: content is read instead.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustix::io::Errno;

use crate::store::Error;

#[derive(Clone)]
pub(super) struct Sender;

#[expect(dead_code, reason = "nothing is sent")]
pub(super) struct Outgoing {
    pub(super) file: Arc<OwnedFd>,
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) socket: Arc<OwnedFd>,
    pub(super) sent: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "nothing is sent")]
pub(super) enum End {
    Complete,
    Short(u64),
    Unsupported,
}

#[expect(
    clippy::unnecessary_wraps,
    clippy::unused_async,
    clippy::unused_self,
    reason = "as where files are sent"
)]
impl Sender {
    pub(super) fn start(_: usize) -> Result<Self, Error> {
        Ok(Self)
    }

    pub(super) async fn send(&self, _: Outgoing) -> Result<Result<End, Errno>, Error> {
        Ok(Ok(End::Unsupported))
    }

    pub(super) fn close(&self) {}
}
