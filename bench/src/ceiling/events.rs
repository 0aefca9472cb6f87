//! Many connections on few threads: each thread waits for its share of them with `epoll`.
//!
//! A request that has begun to arrive is read to its end before the thread turns to another connection, which suits small
//! requests.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use rustix::event::epoll::{self, Event, EventData, EventFlags};

use super::{LastFile, Options, Responder};

/// The connections of a thread.
struct Share {
    epoll: OwnedFd,
    open: Mutex<HashMap<u64, (TcpStream, LastFile)>>,
}

/// Serves connections until the process is killed.
pub(super) fn run(listener: &TcpListener, options: &Options) -> Result<()> {
    let mut shares = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let share =
            Arc::new(Share { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, open: Mutex::default() });
        shares.push(Arc::clone(&share));
        let responder = Responder::new(options.clone());
        thread::spawn(move || share.serve(responder));
    }
    for (number, tcp) in (0_u64..).zip(listener.incoming()) {
        let tcp = tcp?;
        tcp.set_nodelay(true)?;
        let share = &shares[usize::try_from(number)? % shares.len()];
        let mut open = share.open.lock().unwrap_or_else(PoisonError::into_inner);
        epoll::add(&share.epoll, &tcp, EventData::new_u64(number), EventFlags::IN)?;
        open.insert(number, (tcp, None));
    }
    Ok(())
}

impl Share {
    fn serve(&self, mut responder: Responder) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        loop {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let number = event.data.u64();
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((tcp, file)) = open.get_mut(&number) else { continue };
                if !matches!(responder.answer(&mut &*tcp, Some(&*tcp), file), Ok(true)) {
                    // Closing the socket takes it out of the set.
                    open.remove(&number);
                }
            }
        }
    }
}
