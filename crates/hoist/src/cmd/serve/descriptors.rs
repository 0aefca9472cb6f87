//! The limit on open files, and the number of connections it allows.
//!
//! A connection without a descriptor waits, but an upload without one fails. So descriptors are reserved for the store.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The descriptors of a connection with an upload: its socket, and the upload's content and directory.
const EACH: u64 = 3;

/// The descriptors reserved for the store, with its pipes, and the runtime.
const RESERVED: u64 = 24;

/// Raises the soft limit on open files to the hard limit.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit on open files");
    }
}

/// The number of connections below which the operator is warned.
const FEW: usize = 1024;

/// Returns the number of connections per listener. Warns if there are few.
pub(super) fn connections_max(asked: usize, listeners: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return asked };
    let room = room(limit, in_use(), listeners);
    if room < asked.min(FEW) {
        tracing::warn!(
            "the limit of {limit} open files (ulimit -n) allows only {room} connections per --listen address instead of \
             {asked} (--max-connections); raise it with `ulimit -n`, or with LimitNOFILE in the unit"
        );
    }
    room.min(asked)
}

fn room(limit: u64, in_use: u64, listeners: usize) -> usize {
    let connections = limit.saturating_sub(in_use + RESERVED) / EACH;
    (usize::try_from(connections).unwrap_or(usize::MAX) / listeners.max(1)).max(1)
}

/// Returns the number of open descriptors.
fn in_use() -> u64 {
    // A guess, if they cannot be counted.
    std::fs::read_dir("/dev/fd").map_or(32, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_the_descriptors_that_are_not_reserved() {
        let cases = [
            (64, 20, 1, 6),
            (1024, 20, 1, 326),
            (1024, 20, 2, 163),
            (1 << 20, 20, 1, 349_510),
            (20, 20, 1, 1),
            (0, 20, 3, 1),
        ];
        for (limit, in_use, listeners, expected) in cases {
            assert_eq!(room(limit, in_use, listeners), expected, "{limit}");
        }
    }
}
