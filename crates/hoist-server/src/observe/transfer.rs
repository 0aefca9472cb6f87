//! The transfers that are running: the content of a request on its way to the store, from its first byte to its end.

use super::{Event, Observers, TransferEnding, Transport};

/// A running transfer. Dropping it reports its end.
pub(crate) struct ActiveTransfer {
    observers: Observers,
    /// `None` for a request without content, which is no transfer.
    transport: Option<Transport>,
    /// The ending that is reported. A transfer that nothing else ends has failed in the store.
    pub(crate) ending: TransferEnding,
}

impl ActiveTransfer {
    /// Begins a transfer, and reports it if the request has content.
    pub(crate) fn begin(observers: &Observers, transport: Transport, has_content: bool) -> Self {
        let transport = has_content.then_some(transport);
        if let Some(transport) = transport {
            observers.tell(&Event::TransferBegan(transport));
        }
        Self { observers: observers.clone(), transport, ending: TransferEnding::Refused }
    }

    /// Reports content that the store has taken.
    pub(crate) fn stored(&self, bytes: u64) {
        if bytes > 0 {
            self.observers.tell(&Event::Stored(bytes));
        }
    }
}

impl Drop for ActiveTransfer {
    fn drop(&mut self) {
        if let Some(transport) = self.transport {
            self.observers.tell(&Event::TransferEnded(transport, self.ending));
        }
    }
}
