//! The bound on log lines that peers cause, so that a flood of refused requests does not fill a disk.
//!
//! Owns the budgets. They count lines in fixed windows of a second. A client that has used up its budget takes nothing from
//! the budget of all clients together, so a flood from one address does not hide the others. What is suppressed is counted.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing::callsite::Identifier;

const WINDOW: Duration = Duration::from_secs(1);

/// The most lines in a window about one client, and about all clients together.
const CLIENT_LINES_MAX: u32 = 10;
const CLIENTS_LINES_MAX: u32 = 100;

/// The most lines in a window about ended uploads.
const UPLOAD_LINES_MAX: u32 = 1000;

/// The most lines in a window of one kind that name no client.
const KIND_LINES_MAX: u32 = 20;

/// The budget that a line is counted in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A line that the operator has asked for, for every request.
    Request,
    /// The end of an upload.
    Upload,
    /// A line about a client: the address, or the network of an IPv6 address.
    Client(u128),
    /// Any other line, by the place in the code that writes it.
    Kind(Identifier),
}

impl Class {
    /// Returns the class of a line with this metadata, which may name a client.
    pub(super) fn of(metadata: &Metadata<'_>, client: Option<&str>) -> Self {
        match (metadata.target(), client.and_then(|client| client.parse().ok())) {
            (hoist_server::observe::REQUESTS, _) => Self::Request,
            (hoist_server::observe::UPLOADS, _) => Self::Upload,
            (_, Some(client)) => Self::Client(network(client)),
            (_, None) => Self::Kind(metadata.callsite()),
        }
    }
}

/// Returns an address, or the /64 of an IPv6 address, which is what one peer may have.
fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// The decision about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Write,
    Suppress,
    /// Suppress it; it is the first since the count was taken.
    SuppressFirst,
}

/// The budgets of the present window.
#[derive(Default)]
pub(super) struct FloodLimit {
    begun: Option<Instant>,
    /// Has at most one entry for each line about a client, so it is bounded too.
    clients: HashMap<u128, u32>,
    all_clients: u32,
    uploads: u32,
    kinds: HashMap<Identifier, u32>,
    suppressed: u64,
}

impl FloodLimit {
    /// Counts a line.
    pub(super) fn admit(&mut self, class: Class, now: Instant) -> Admission {
        if self.begun.is_none_or(|begun| now.duration_since(begun) >= WINDOW) {
            let suppressed = self.suppressed;
            *self = Self { begun: Some(now), suppressed, ..Self::default() };
        }
        let is_admitted = match class {
            Class::Request => true,
            Class::Upload => take(&mut self.uploads, UPLOAD_LINES_MAX),
            Class::Kind(kind) => take(self.kinds.entry(kind).or_default(), KIND_LINES_MAX),
            Class::Client(client) => {
                let used = self.clients.get(&client).copied().unwrap_or_default();
                let is_admitted = used < CLIENT_LINES_MAX && take(&mut self.all_clients, CLIENTS_LINES_MAX);
                if is_admitted {
                    self.clients.insert(client, used + 1);
                }
                is_admitted
            }
        };
        if is_admitted {
            return Admission::Write;
        }
        self.suppressed += 1;
        if self.suppressed == 1 { Admission::SuppressFirst } else { Admission::Suppress }
    }

    /// Returns the number of lines suppressed since the last call.
    pub(super) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}

fn take(used: &mut u32, most: u32) -> bool {
    let is_left = *used < most;
    *used += u32::from(is_left);
    is_left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u128) -> Class {
        Class::Client(number)
    }

    #[test]
    fn a_flood_from_one_client_leaves_lines_to_others() {
        let (mut limit, now) = (FloodLimit::default(), Instant::now());
        let written = (0..100_000).filter(|_| limit.admit(client(1), now) == Admission::Write).count();
        assert_eq!(written, CLIENT_LINES_MAX as usize);
        assert_eq!(limit.admit(client(2), now), Admission::Write);
        assert_eq!(limit.take_suppressed(), 100_000 - u64::from(CLIENT_LINES_MAX));
        assert_eq!(limit.admit(client(1), now), Admission::SuppressFirst);
        assert_eq!(limit.admit(client(1), now), Admission::Suppress);
        assert_eq!(limit.admit(client(1), now + WINDOW), Admission::Write, "a new window");
        assert_eq!(limit.take_suppressed(), 2, "the count survives the window");
    }

    #[test]
    fn a_flood_from_many_clients_is_bounded_in_lines_and_in_memory() {
        let (mut limit, now) = (FloodLimit::default(), Instant::now());
        let written = (0..100_000).filter(|number| limit.admit(client(*number), now) == Admission::Write);
        assert_eq!(written.count(), CLIENTS_LINES_MAX as usize);
        assert_eq!(limit.clients.len(), CLIENTS_LINES_MAX as usize);
        assert_eq!(limit.admit(Class::Upload, now), Admission::Write);
        let requests = (0..5000).all(|_| limit.admit(Class::Request, now) == Admission::Write);
        assert!(requests, "the operator has asked for all of them");
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let network = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
