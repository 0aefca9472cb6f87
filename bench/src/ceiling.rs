//! The ceiling: a program that does with each request the least that any server must do.
//!
//! A minimal HTTP/1.1 server, with a thread for each connection or one for each core. `PUT` writes a file, `PATCH` appends to it, `GET` sends
//! it, `HEAD` has a fixed answer, and `PUT` with `Upload-Concat` joins files. It copies with `recv` and `write` through one buffer, or moves the pages with `splice`.
//! It keeps no state, checks nothing, and trusts its peer.

mod events;
mod head;
mod splice;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use self::head::Head;
use self::splice::Pipe;
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
    /// Serves all connections with a thread for each core, and `epoll`.
    #[arg(long)]
    events: bool,
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
    if options.events {
        return events::run(&listener, options);
    }
    let tls = options.tls.as_deref().map(tls::server_config).transpose()?.map(Arc::new);
    loop {
        let (tcp, _) = listener.accept()?;
        let (options, tls) = (options.clone(), tls.clone());
        // An error is the end of a connection, which is how each of them ends.
        thread::spawn(move || serve(tcp, options, tls).ok());
    }
}

/// Answers the requests of a connection in a thread of its own.
fn serve(tcp: TcpStream, options: Options, tls: Option<Arc<ServerConfig>>) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut responder = Responder::new(options);
    let mut file = None;
    match tls {
        Some(config) => {
            let tcp = BufferedSocket(BufReader::with_capacity(BUFFER_BYTES, tcp));
            let mut stream = StreamOwned::new(ServerConnection::new(config)?, tcp);
            while responder.answer(&mut stream, None, &mut file)? {}
        }
        None => while responder.answer(&mut &tcp, Some(&tcp), &mut file)? {},
    }
    Ok(())
}

/// A socket under TLS. rustls reads 4 KiB at a time, which would be as many system calls.
struct BufferedSocket(BufReader<TcpStream>);

impl Read for BufferedSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for BufferedSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// The file of a connection's last request, which the next one often continues, and its name.
type LastFile = Option<(String, File)>;

/// Answers one request after the other.
struct Responder {
    options: Options,
    buffer: Vec<u8>,
    /// Made for the first content that is spliced.
    pipe: Option<Pipe>,
}

impl Responder {
    fn new(options: Options) -> Self {
        Self { options, buffer: vec![0; BUFFER_BYTES], pipe: None }
    }

    /// Answers the next request of a connection, and returns false at its end. The peer sends no request before the
    /// answer to its last one. `socket` is the stream itself if it is not encrypted.
    fn answer(
        &mut self,
        stream: &mut (impl Read + Write),
        socket: Option<&TcpStream>,
        last: &mut LastFile,
    ) -> Result<bool> {
        let Some((head, filled)) = Head::read(stream, &mut self.buffer)? else { return Ok(false) };
        match head.method.as_str() {
            "HEAD" => {}
            "GET" => {
                send(stream, self.open(last, &head.path, false)?, &head, socket)?;
                return Ok(true);
            }
            _ => {
                let file = self.open(last, &head.path, head.method == "PUT")?;
                file.write_all(&self.buffer[head.bytes..filled])?;
                for part in &head.parts {
                    let part = self.options.data.join(part.trim_start_matches('/'));
                    io::copy(&mut File::open(part)?, file)?;
                }
                let left = head.content - (filled - head.bytes) as u64;
                match socket.filter(|_| self.options.splice && left > 0) {
                    Some(socket) => splice::receive(&mut self.pipe, socket, file, left)?,
                    None => copy(stream, file, left, &mut self.buffer)?,
                }
                if self.options.sync {
                    file.sync_data()?;
                }
            }
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\nupload-offset: 0\r\n\r\n")?;
        Ok(true)
    }

    /// Returns the file of this name, created if it is new.
    fn open<'a>(&self, last: &'a mut LastFile, path: &str, is_new: bool) -> Result<&'a mut File> {
        if is_new || last.as_ref().is_none_or(|(name, _)| name != path) {
            let mut options = File::options();
            options.read(true).write(true).create(is_new).truncate(is_new);
            let file = options.open(self.options.data.join(path.trim_start_matches('/')))?;
            *last = Some((path.to_owned(), file));
        }
        Ok(&mut last.as_mut().expect("opened above").1)
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
