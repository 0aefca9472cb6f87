//! [`DirectBody`]: response content that goes to the socket without passing through the memory of the process.
//!
//! Owns the way in which a service offers such a body. The body sends, because only it knows a thread that may wait for
//! a disk.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::service::BoxError;

/// A response body that can send its content to a socket itself, such as one whose content is in a file.
///
/// It is also an ordinary [`http_body::Body`], which yields the same content in frames: encrypted connections, HTTP/2 and
/// other servers need the bytes. A service that adds [`Direct`] to the extensions of its response permits the direct way,
/// which is used for HTTP/1.1 in cleartext if the size of the body is known.
pub trait DirectBody: Send + 'static {
    /// Sends the whole content to `socket`, which is in nonblocking mode. Pending until the socket has taken it; the task
    /// is woken then. Ready with false if the content can only be read; then no byte was sent.
    ///
    /// Does not block: a call that may wait for a disk belongs on another thread. If the body is dropped meanwhile, the
    /// connection is reset, and bytes that are still sent do no harm.
    ///
    /// # Errors
    /// The content or the socket failed. The connection is reset.
    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Arc<OwnedFd>) -> Poll<Result<bool, BoxError>>;

    /// Returns the number of bytes that the socket has taken so far.
    fn sent(&self) -> u64;
}

/// An extension of a response whose body is a [`DirectBody`].
///
/// ```
/// # fn example(body: impl hoist_http::DirectBody) {
/// let mut response = http::Response::new(body);
/// let direct = hoist_http::Direct::to(response.body());
/// response.extensions_mut().insert(direct);
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Direct(fn(&mut dyn Any) -> Option<&mut dyn DirectBody>);

impl Direct {
    /// Returns the extension for a response with a body of this type. If a layer replaces the body by one of another type,
    /// for example to compress it, the extension has no effect.
    pub fn to<B: DirectBody>(_body: &B) -> Self {
        Direct(|body| body.downcast_mut::<B>().map(|body| body as &mut dyn DirectBody))
    }

    /// Returns the body, if it is still of the type that the service offered.
    pub(crate) fn body(self, body: &mut dyn Any) -> Option<&mut dyn DirectBody> {
        (self.0)(body)
    }
}
