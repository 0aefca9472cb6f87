//! A connection that makes progress only while a caller awaits something that depends on it.

use std::pin::{Pin, pin};

/// The future of a connection, and the error that ended it.
pub(super) struct Driven<C, E> {
    /// Dropped when the connection ends, which fails the requests that wait for it.
    connection: Option<Pin<Box<C>>>,
    cause: Option<E>,
}

impl<C: Future<Output = Result<(), E>>, E> Driven<C, E> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection: Some(Box::pin(connection)), cause: None }
    }

    /// Returns whether the connection was open when it was last polled.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Awaits `work` and polls the connection meanwhile.
    ///
    /// # Cancellation
    /// The connection makes no progress until the next call.
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

    /// Takes the error that ended the connection. It is more specific than the error of the request that failed.
    pub(super) fn cause(&mut self) -> Option<E> {
        self.cause.take()
    }
}
