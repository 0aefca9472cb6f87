//! Content that moves from a socket to a file without passing through the process.

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use anyhow::{Result, ensure};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};

/// The size of the pipe in bytes, the largest that an unprivileged process may have.
const PIPE_BYTES: usize = 1 << 20;

/// The two ends of a pipe.
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Moves `left` bytes through a pipe, which is made if there is none.
pub(super) fn receive(made: &mut Option<Pipe>, socket: &TcpStream, file: &File, mut left: u64) -> Result<()> {
    if made.is_none() {
        let (read, write) = pipe()?;
        fcntl_setpipe_size(&write, PIPE_BYTES)?;
        *made = Some(Pipe { read, write });
    }
    let Some(pipe) = made else { return Ok(()) };
    while left > 0 {
        let room = usize::try_from(left.min(PIPE_BYTES as u64))?;
        let mut held = splice(socket, None, &pipe.write, None, room, SpliceFlags::MOVE | SpliceFlags::MORE)?;
        ensure!(held > 0, "the peer ended the connection");
        left -= held as u64;
        while held > 0 {
            held -= splice(&pipe.read, None, file, None, held, SpliceFlags::MOVE)?;
        }
    }
    Ok(())
}
