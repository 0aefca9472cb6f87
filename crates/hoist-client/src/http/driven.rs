//! A connection that makes progress only while the caller awaits something that depends on it.

use std::pin::{Pin, pin};

/// A connection, as long as it lives, and why it ended.
pub(super) struct Driven<C, E> {
    /// Dropped when it ends, which ends the requests that wait for it.
    connection: Option<Pin<Box<C>>>,
    cause: Option<E>,
}

impl<C: Future<Output = Result<(), E>>, E> Driven<C, E> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection: Some(Box::pin(connection)), cause: None }
    }

    /// True if it was open when it was last polled.
    pub(super) fn is_there(&self) -> bool {
        self.connection.is_some()
    }

    /// Awaits `work`, which the connection makes possible.
    ///
    /// # Cancellation
    /// The connection stands still until it is run again.
    pub(super) async fn run<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        while let Some(connection) = &mut self.connection {
            tokio::select! {
                biased;
                done = &mut work => return done,
                ended = connection => {
                    self.cause = ended.err();
                    self.connection = None;
                }
            }
        }
        work.await
    }

    /// The error that ended the connection. It is more specific than the error of the request that was broken off.
    pub(super) fn cause(&mut self) -> Option<E> {
        self.cause.take()
    }
}
