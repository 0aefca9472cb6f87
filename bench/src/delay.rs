//! A proxy that delays what passes through it, as a long distance does.
//!
//! Each direction holds the bytes of its delay, up to a bound that suffices for more than 200 MiB/s at a round trip of
//! 100 ms. It does not imitate the congestion control of TCP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// The largest piece that is held, in bytes.
const PIECE_BYTES: usize = 128 << 10;
/// The number of pieces that each direction of a connection holds at most.
const PIECES_MAX: usize = 256;

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
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if pieces.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
            return;
        }
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
