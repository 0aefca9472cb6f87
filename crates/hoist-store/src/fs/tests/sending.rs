//! Sending content to sockets: ranges, peers that do not read, files that change, and threads that wait for the disk.

use std::fs::OpenOptions;
use std::future::poll_fn;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use hoist_proto::types::{Fence, Offset, UploadId};
use rustix::io::Errno;

use super::upload;
use crate::fs::sys::faults::Faults;
use crate::fs::sys::{Call, read_cached, read_into};
use crate::fs::{LocalStore, Options};
use crate::store::{Error, Reader, Store, StoreFuture};

/// More than the buffers of both sockets hold.
const LONG: usize = 20 << 20;

struct Content {
    store: LocalStore,
    data: tempfile::TempDir,
    id: UploadId,
    bytes: Vec<u8>,
}

impl Content {
    async fn stored(bytes: usize, threads: usize) -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let options = Options { other_threads: threads, ..Options::default() };
        let store = LocalStore::open(data.path(), &options).expect("opens");
        let upload = upload(1, None);
        let bytes: Vec<u8> = (0_u32..).flat_map(u32::to_be_bytes).take(bytes).collect();
        let mut writer = store.create(&upload, Fence::new(1)).await.expect("creates");
        for piece in bytes.chunks(64 << 10) {
            writer.write(piece.to_vec().into()).await.expect("writes");
        }
        writer.sync().await.expect("syncs");
        Self { store, data, id: upload.id, bytes }
    }

    async fn reader(&self, from: u64) -> Box<dyn Reader> {
        self.store.read(self.id, Offset::new(from)).await.expect("can be read")
    }

    fn path(&self) -> PathBuf {
        self.data.path().join("open").join(self.id.to_string()).join("content")
    }
}

/// Two connected sockets, of which the first is for the store.
fn sockets() -> [(Arc<OwnedFd>, Box<dyn std::io::Read + Send>); 2] {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (server, _) = listener.accept().expect("a connection");
    server.set_nonblocking(true).expect("a socket");
    let (local, peer) = UnixStream::pair().expect("sockets");
    local.set_nonblocking(true).expect("a socket");
    [
        (Arc::new(OwnedFd::from(server)), Box::new(client) as _),
        (Arc::new(OwnedFd::from(local)), Box::new(peer) as _),
    ]
}

async fn is_pending<T>(sending: &mut StoreFuture<'_, T>) -> bool {
    poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await
}

/// Polls a transfer until its socket is full. A thread may still be in its turn, and may add to what is sent.
async fn fill(sending: &mut StoreFuture<'_, bool>, socket: &OwnedFd, sent: &AtomicU64) {
    let mut before = u64::MAX;
    loop {
        assert!(is_pending(sending).await);
        tokio::task::yield_now().await;
        let now = sent.load(Ordering::Relaxed);
        let poll = rustix::event::PollFlags::OUT;
        let mut fds = [rustix::event::PollFd::new(socket, poll)];
        let has_room = rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default()));
        if now > 0 && now == before && has_room.expect("a socket") == 0 {
            return;
        }
        before = now;
    }
}

#[tokio::test]
async fn a_reader_uses_a_buffer_again_when_its_piece_is_dropped() {
    let content = Content::stored((1 << 20) + 5, 1).await;
    let mut reader = content.reader(1).await;
    let mut read = Vec::new();
    let mut addresses = Vec::new();
    let mut held = None;
    while let Some(piece) = reader.next().await.expect("reads") {
        read.extend_from_slice(&piece);
        addresses.push(piece.as_ptr());
        // Only the second is held while the next is read.
        held = (addresses.len() == 2).then_some(piece);
    }
    drop(held);
    assert_eq!(read, content.bytes[1..]);
    assert_eq!(addresses[0], addresses[1]);
    assert_ne!(addresses[1], addresses[2]);
    assert!(addresses[3..].iter().all(|address| addresses[1..3].contains(address)));
}

#[tokio::test]
async fn a_cached_read_returns_what_the_file_has() {
    let content = Content::stored(1000, 1).await;
    let file = std::fs::File::open(content.path()).expect("opens");
    let mut bytes = [0; 600];
    // `None` on a file system without such reads.
    if let Some(filled) = read_cached(&file, 500, &mut bytes).expect("reads") {
        assert_eq!(bytes[..filled], content.bytes[500..]);
        assert_eq!(read_cached(&file, 1000, &mut bytes).expect("reads"), None);
    }
    assert_eq!(read_into(&file, 500, &mut bytes).expect("reads"), 500);
    assert_eq!(bytes[..500], content.bytes[500..]);
}

#[tokio::test]
async fn a_range_is_sent_as_it_is() {
    let content = Content::stored(LONG, 1).await;
    for (from, count) in [(0, LONG), (5, 1), (4097, 3 << 20), (LONG - 9, 9)] {
        for (socket, mut peer) in sockets() {
            let (mut reader, sent) = (content.reader(from as u64).await, Arc::default());
            let reading = tokio::task::spawn_blocking(move || {
                let mut seen = Vec::new();
                peer.read_to_end(&mut seen).map(|_| seen)
            });
            assert!(reader.send(&socket, count as u64, &sent).await.expect("is sent"));
            assert_eq!(sent.load(Ordering::Relaxed), count as u64);
            // What follows can still be read.
            let next = reader.next().await.expect("can be read").unwrap_or_default();
            assert!(
                content.bytes[from + count..].starts_with(&next) && next.is_empty() == (from + count == LONG)
            );
            drop(socket);
            let seen = reading.await.expect("runs").expect("the end of the stream");
            assert!(seen == content.bytes[from..from + count], "{} bytes from {from}", seen.len());
        }
    }
}

/// The peer sees the end of its stream only when no descriptor of the socket is open any more.
#[tokio::test]
async fn a_dropped_transfer_lets_go_of_its_socket() {
    let content = Content::stored(LONG, 1).await;
    for (socket, mut peer) in sockets() {
        let (mut reader, sent) = (content.reader(0).await, Arc::default());
        let mut sending = reader.send(&socket, LONG as u64, &sent);
        fill(&mut sending, &socket, &sent).await;
        drop(sending);
        let held = Arc::downgrade(&socket);
        drop(socket);
        let mut seen = Vec::new();
        peer.read_to_end(&mut seen).expect("the end of the stream");
        assert_eq!(held.strong_count(), 0);
        assert!(seen.len() < LONG && content.bytes.starts_with(&seen));
    }
}

#[tokio::test]
async fn peers_that_do_not_read_delay_no_other_transfer() {
    let content = Content::stored(LONG, 1).await;
    let stalled: Vec<_> =
        (0..20).flat_map(|_| sockets()).map(|(socket, peer)| (socket, peer, Arc::default())).collect();
    let mut readers = Vec::new();
    for _ in &stalled {
        readers.push(content.reader(0).await);
    }
    let mut all: Vec<_> = readers
        .iter_mut()
        .zip(&stalled)
        .map(|(reader, (socket, _, sent))| reader.send(socket, LONG as u64, sent))
        .collect();
    for (sending, (socket, _, sent)) in all.iter_mut().zip(&stalled) {
        fill(sending, socket, sent).await;
    }
    for (socket, mut peer) in sockets() {
        let (mut reader, sent) = (content.reader(0).await, Arc::default());
        assert!(reader.send(&socket, 9, &sent).await.expect("is sent"));
        let mut seen = [0; 9];
        peer.read_exact(&mut seen).expect("is there");
        assert!(seen == content.bytes[..9]);
    }
}

/// The runtime has one thread, which would be the one that waits.
#[tokio::test]
async fn a_transfer_that_waits_for_the_disk_delays_no_other() {
    let faults = Faults::install();
    let content = Content::stored(LONG, 2).await;
    let (mut held_reader, mut reader) = (content.reader(0).await, content.reader(0).await);
    let [(held_socket, _held_peer), (socket, mut peer)] = sockets();
    faults.hold(Call::Read, 0);
    let (held_sent, sent) = (Arc::default(), Arc::default());
    let mut held = held_reader.send(&held_socket, 9, &held_sent);
    while !faults.is_holding() {
        assert!(is_pending(&mut held).await);
        tokio::task::yield_now().await;
    }
    assert!(reader.send(&socket, 9, &sent).await.expect("is sent"));
    let mut seen = [0; 9];
    peer.read_exact(&mut seen).expect("is there");
    assert!(is_pending(&mut held).await && held_sent.load(Ordering::Relaxed) == 0);
    faults.release();
    assert!(held.await.expect("is sent"));
}

#[tokio::test]
async fn a_file_that_ends_too_early_is_damaged() {
    let content = Content::stored(LONG, 1).await;
    let [(socket, mut peer), _] = sockets();
    let (mut reader, sent) = (content.reader(0).await, Arc::default());
    let mut sending = reader.send(&socket, LONG as u64, &sent);
    fill(&mut sending, &socket, &sent).await;
    let file = OpenOptions::new().write(true).open(content.path()).expect("is there");
    file.set_len(sent.load(Ordering::Relaxed)).expect("shrinks");
    let reading = tokio::task::spawn_blocking(move || peer.read_to_end(&mut Vec::new()));
    let error = sending.await.expect_err("is too short");
    let at = sent.load(Ordering::Relaxed);
    assert!(matches!(&error, Error::Damaged(what) if what.ends_with(&format!("ends at {at}"))), "{error}");
    drop(socket);
    assert_eq!(reading.await.expect("runs").expect("the end of the stream") as u64, at);
    // More than there is by the record.
    let error = content.reader(0).await.send(&sockets()[0].0, at + 1, &sent).await.expect_err("is too short");
    assert!(matches!(error, Error::Damaged(_)), "{error}");
}

#[tokio::test]
async fn failures_are_reported() {
    let faults = Faults::install();
    let content = Content::stored(LONG, 1).await;
    for [(socket, peer), _] in [sockets()] {
        drop(peer);
        let (mut reader, sent) = (content.reader(0).await, Arc::default());
        let error = reader.send(&socket, LONG as u64, &sent).await.expect_err("the peer is gone");
        assert!(matches!(&error, Error::Io { doing, .. } if doing.starts_with("sending")), "{error}");
    }
    let (mut reader, sent) = (content.reader(0).await, Arc::default());
    faults.fail(Call::Read, 0, 1, Errno::IO);
    let [(socket, mut peer), _] = sockets();
    let error = reader.send(&socket, 9, &sent).await.expect_err("the disk fails");
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // A file system that cannot send: the content can still be read.
    faults.fail(Call::Read, 0, 1, Errno::INVAL);
    assert!(!reader.send(&socket, 9, &sent).await.expect("no error"));
    assert_eq!(sent.load(Ordering::Relaxed), 0);
    assert!(content.bytes.starts_with(&reader.next().await.expect("can be read").expect("bytes")));
    drop(socket);
    assert_eq!(peer.read(&mut [0]).expect("the end of the stream"), 0);
}

#[tokio::test]
async fn a_store_that_closes_ends_its_transfers() {
    let content = Content::stored(LONG, 1).await;
    let [(socket, _peer), (other, _)] = sockets();
    let (mut reader, mut late, sent) = (content.reader(0).await, content.reader(0).await, Arc::default());
    let mut sending = reader.send(&socket, LONG as u64, &sent);
    fill(&mut sending, &socket, &sent).await;
    drop(content.store);
    assert!(matches!(sending.await, Err(Error::Io { .. })));
    assert!(matches!(late.send(&other, 9, &sent).await, Err(Error::Io { .. })));
}
