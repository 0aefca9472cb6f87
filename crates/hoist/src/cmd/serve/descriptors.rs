//! File descriptors: what the process may have, and how many connections that leaves room for.
//!
//! Owns the division. A connection that finds no descriptor waits; an upload that finds none fails. So the store has its
//! share first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors of a connection that carries an upload: its socket, and the upload's content and directory.
const EACH: u64 = 3;

/// Descriptors that the store and the runtime need besides, for what does not belong to one connection.
const RESERVED: u64 = 16;

/// Raises the limit of the process as far as it may.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// So few connections that an operator should know.
const FEW: usize = 1024;

/// The connections that each of `listeners` may have. Warns when they are few.
pub(super) fn connections_max(asked: usize, listeners: usize) -> usize {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return asked };
    let room = room(limit, in_use(), listeners);
    if room < asked.min(FEW) {
        tracing::warn!(
            "the limit of {limit} open files (ulimit -n) leaves room for {room} connections of each --listen, not the \
             {asked} of --max-connections; raise it with `ulimit -n`, or LimitNOFILE in its unit"
        );
    }
    room.min(asked)
}

fn room(limit: u64, in_use: u64, listeners: usize) -> usize {
    let connections = limit.saturating_sub(in_use + RESERVED) / EACH;
    (usize::try_from(connections).unwrap_or(usize::MAX) / listeners.max(1)).max(1)
}

/// The descriptors that are open now.
fn in_use() -> u64 {
    // What cannot be counted is guessed.
    std::fs::read_dir("/dev/fd").map_or(32, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_what_the_store_leaves() {
        let cases = [
            (64, 20, 1, 9),
            (1024, 20, 1, 329),
            (1024, 20, 2, 164),
            (1 << 20, 20, 1, 349_513),
            (20, 20, 1, 1),
            (0, 20, 3, 1),
        ];
        for (limit, in_use, listeners, expected) in cases {
            assert_eq!(room(limit, in_use, listeners), expected, "{limit}");
        }
    }
}
