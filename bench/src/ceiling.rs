//! The ceiling: a program that does with each request the least that any server must do.
//!
//! A minimal HTTP/1.1 server with a thread for each connection. `PUT` writes a file, `PATCH` appends to it, `GET` sends
//! it, `HEAD` has a fixed answer. It copies with `recv` and `write` through one buffer, or moves the pages with `splice`.
//! It keeps no state, checks nothing, and trusts its peer.

mod head;
mod splice;

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use self::head::Head;
use crate::tls;

/// The buffer of a connection, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// The options of the program.
#[derive(clap::Args, Clone)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// The directory of the files.
    #[arg(long)]
    data: PathBuf,
    /// Calls `fdatasync` before each answer.
    #[arg(long)]
    sync: bool,
    /// Moves the content with `splice`.
    #[arg(long)]
    splice: bool,
    /// Expects TLS, with the certificate and key in this directory.
    #[arg(long)]
    tls: Option<PathBuf>,
}

/// Runs the program until it is killed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen).context("cannot listen")?;
    let tls = options.tls.as_deref().map(tls::server_config).transpose()?.map(Arc::new);
    loop {
        let (tcp, _) = listener.accept()?;
        let (options, tls) = (options.clone(), tls.clone());
        // An error is the end of a connection, which is how each of them ends.
        thread::spawn(move || serve(tcp, &options, tls).ok());
    }
}

fn serve(tcp: TcpStream, options: &Options, tls: Option<Arc<ServerConfig>>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut file = Current::new(&options.data);
    match tls {
        Some(config) => {
            let mut stream = StreamOwned::new(ServerConnection::new(config)?, tcp);
            requests(&mut stream, options, &mut file, None)
        }
        None => requests(&mut &tcp, options, &mut file, Some(&tcp)),
    }
}

/// Answers the requests of a connection. `socket` is the stream itself if it is not encrypted.
fn requests(
    stream: &mut (impl Read + Write),
    options: &Options,
    file: &mut Current<'_>,
    socket: Option<&TcpStream>,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut splicer = None;
    let mut filled = 0;
    loop {
        let Some(head) = Head::read(stream, &mut buffer, &mut filled)? else { return Ok(()) };
        match head.method.as_str() {
            "GET" => {
                filled = head.remove(&mut buffer, filled);
                send(stream, file.open(&head.path, false)?, &head, socket)?;
                continue;
            }
            "HEAD" => filled = head.remove(&mut buffer, filled),
            _ => {
                let target = file.open(&head.path, head.method == "PUT")?;
                let first = (filled - head.bytes).min(usize::try_from(head.content)?);
                target.write_all(&buffer[head.bytes..head.bytes + first])?;
                let left = head.content - first as u64;
                // What follows the content is the next request, which a client sends after the answer.
                filled = 0;
                match socket.filter(|_| options.splice && left > 0) {
                    Some(socket) => splice::receive(&mut splicer, socket, target, left)?,
                    None => copy(stream, target, left, &mut buffer)?,
                }
                if options.sync {
                    target.sync_data()?;
                }
            }
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nupload-offset: 0\r\n\r\n")?;
    }
}

fn copy(stream: &mut impl Read, file: &mut File, mut left: u64, buffer: &mut [u8]) -> Result<()> {
    while left > 0 {
        let room = usize::try_from(left.min(buffer.len() as u64))?;
        let count = stream.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        file.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// Sends a file, or a range of it, with `sendfile` if the stream is not encrypted.
fn send(stream: &mut impl Write, file: &mut File, head: &Head, socket: Option<&TcpStream>) -> Result<()> {
    let length = file.metadata()?.len();
    let (status, from, until) = match head.range {
        Some((from, last)) => ("206 Partial Content", from, (last + 1).min(length)),
        None => ("200 OK", 0, length),
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", until - from)?;
    let mut offset = from;
    let Some(socket) = socket else {
        file.seek(SeekFrom::Start(from))?;
        io::copy(&mut (&*file).take(until - from), stream)?;
        return Ok(());
    };
    while offset < until {
        let count = usize::try_from((until - offset).min(1 << 30))?;
        rustix::fs::sendfile(socket, &*file, Some(&mut offset), count)?;
    }
    Ok(())
}

/// The file of the last request, which the next one often continues.
struct Current<'a> {
    data: &'a Path,
    file: Option<(String, File)>,
}

impl<'a> Current<'a> {
    fn new(data: &'a Path) -> Self {
        Self { data, file: None }
    }

    /// Returns the file of this name, created if it is new.
    fn open(&mut self, path: &str, is_new: bool) -> Result<&mut File> {
        if is_new || self.file.as_ref().is_none_or(|(name, _)| name != path) {
            let mut options = File::options();
            options.read(true).write(true).create(is_new).truncate(is_new);
            let file = options.open(self.data.join(path.trim_start_matches('/')))?;
            self.file = Some((path.to_owned(), file));
        }
        let (_, file) = self.file.as_mut().expect("opened above");
        Ok(file)
    }
}
