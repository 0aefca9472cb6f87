//! A proxy that delays what passes through it, as a long link of 1 Gbit/s does.
//!
//! Each direction passes no more than the rate of the link, and holds every byte for half the round trip. It does not
//! imitate the congestion control of TCP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The largest piece that is held, in bytes.
const PIECE_BYTES: usize = 128 << 10;
/// The number of pieces that each direction of a connection holds at most.
const PIECES_MAX: usize = 4096;
/// The time that a byte takes at 1 Gbit/s, in nanoseconds.
const NANOS_PER_BYTE: u64 = 8;

/// A piece, and the time at which it arrives.
type Piece = (Instant, Vec<u8>);

/// Starts a proxy before `server`, which serves until the end of this process. Returns its address.
pub(crate) fn before(server: SocketAddr, round_trip: Duration) -> Result<SocketAddr> {
    let listener = TcpListener::bind((server.ip(), 0))?;
    let addr = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            // The client sees a failure as the end of its connection.
            let _ = connect(client, server, round_trip / 2);
        }
    });
    Ok(addr)
}

fn connect(client: TcpStream, server: SocketAddr, delay: Duration) -> Result<()> {
    let server = TcpStream::connect(server)?;
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        to.set_nodelay(true)?;
        let (pieces, held) = sync_channel(PIECES_MAX);
        thread::spawn(move || receive(from, &pieces, delay));
        thread::spawn(move || send(to, &held));
    }
    Ok(())
}

fn receive(mut from: TcpStream, pieces: &SyncSender<Piece>, delay: Duration) {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut free_at = Instant::now();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        free_at = free_at.max(Instant::now()) + Duration::from_nanos(NANOS_PER_BYTE * count as u64);
        if pieces.send((free_at + delay, buffer[..count].to_vec())).is_err() {
            return;
        }
        // Until then the link is busy, and the sender's bytes wait in its socket.
        thread::sleep(free_at.saturating_duration_since(Instant::now()));
    }
}

fn send(mut to: TcpStream, held: &Receiver<Piece>) {
    for (due, piece) in held {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
