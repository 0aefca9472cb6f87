//! The sockets that the server accepts connections on: addresses, host names, unix sockets, and sockets that systemd
//! passes.
//!
//! Owns binding them and the files of unix sockets.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hoist_http::Listener;
use listenfd::ListenFd;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::{Config, ListenAt};
use crate::exit::{Exit, Failure};

/// A listening socket. Dropping it removes the file of a unix socket.
pub(super) struct Bound {
    pub(super) listener: Listener,
    pub(super) place: Place,
    pub(super) file: Option<SocketFile>,
}

/// The place where clients reach a listening socket.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The connections that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: i32 = 1024;

/// Binds all places of `--listen`.
///
/// # Cancellation
/// Safe to drop. The sockets are closed.
pub(super) async fn bind(config: &Config) -> Result<Vec<Bound>, Failure> {
    let mut all = Vec::new();
    for place in &config.listen {
        all.extend(bind_place(place, config.socket_mode, "listen").await?);
    }
    Ok(all)
}

/// Binds a place that the setting `name` gives.
///
/// # Cancellation
/// Safe to drop. The sockets are closed.
pub(super) async fn bind_place(
    place: &ListenAt,
    socket_mode: u32,
    name: &str,
) -> Result<Vec<Bound>, Failure> {
    let bound = match place {
        ListenAt::Address(address) => bind_address(*address).await.map(|bound| vec![bound]),
        ListenAt::Host(name, port) => bind_host(name, *port).await,
        ListenAt::Unix(path) => {
            let path = path.clone();
            let bound = tokio::task::spawn_blocking(move || bind_unix(&path, socket_mode)).await;
            bound
                .map_err(io::Error::other)
                .and_then(|bound| bound)
                .and_then(Bound::unix)
                .map(|bound| vec![bound])
        }
    };
    bound.map_err(|error| Failure::message(Exit::Start, cannot_listen(place, &error, name)))
}

async fn bind_address(address: SocketAddr) -> io::Result<Bound> {
    Bound::tcp(TcpListener::bind(address).await?)
}

/// Binds every address of a name, all on one port. Skips addresses that this machine does not have, unless it has none.
async fn bind_host(name: &str, port: u16) -> io::Result<Vec<Bound>> {
    /// The attempts to find a port that is free at every address.
    const ATTEMPTS: u32 = 16;
    let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((name, port)).await?.collect();
    addresses.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
    addresses.dedup();
    for attempt in 1.. {
        match bind_all(&addresses).await {
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {}
            bound => return bound,
        }
    }
    unreachable!("the last attempt returns")
}

async fn bind_all(addresses: &[SocketAddr]) -> io::Result<Vec<Bound>> {
    let (mut all, mut skipped, mut port) = (Vec::<Bound>::new(), Vec::new(), 0);
    for address in addresses {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(port);
        }
        match bind_address(address).await {
            Ok(bound) => {
                if let Place::Tcp(bound) = bound.place {
                    port = bound.port();
                }
                all.push(bound);
            }
            Err(error) if is_foreign(&error) => skipped.push((address, error)),
            Err(error) => return Err(error),
        }
    }
    match (all.is_empty(), skipped.pop()) {
        (true, Some((_, error))) => Err(error),
        (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        (false, last) => {
            for (address, error) in skipped.into_iter().chain(last) {
                tracing::warn!(%address, %error, "not listening on an address of the name");
            }
            Ok(all)
        }
    }
}

/// Returns whether an address cannot be bound because this machine does not have it, or not its family.
fn is_foreign(error: &io::Error) -> bool {
    let no_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(no_family)
}

/// Binds a unix socket. Replaces a socket that no process listens on, such as one left by a crash.
fn bind_unix(path: &Path, mode: u32) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            require_stale(path)?;
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::of(path)?;
    // Before it listens, so that no peer connects with other permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

/// Fails unless a path is a socket that no process listens on.
pub(crate) fn require_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that does not accept would block the connection.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The file of a unix socket that this process has bound. Removed on drop, after the listener, unless another process has
/// replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        // An absolute path stays valid if the working directory changes.
        Ok(Self { path: std::path::absolute(path)?, identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A file system may give the inode of a removed file to its successor, so its listener counts too.
        let is_own = identity(&self.path).is_ok_and(|present| present == self.identity);
        if is_own && require_stale(&self.path).is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Bound {
    fn tcp(listener: TcpListener) -> io::Result<Self> {
        let place = Place::Tcp(listener.local_addr()?);
        Ok(Self { listener: listener.into(), place, file: None })
    }

    fn unix((listener, file): (std::os::unix::net::UnixListener, SocketFile)) -> io::Result<Self> {
        let place = Place::Unix(file.path.clone());
        Ok(Self { listener: UnixListener::from_std(listener)?.into(), place, file: Some(file) })
    }
}

/// The sockets that systemd passed to this process (`LISTEN_FDS`).
#[derive(Debug, Default)]
pub(super) struct PassedSockets {
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<std::os::unix::net::UnixListener>,
}

impl PassedSockets {
    /// Takes the sockets. Must be called before any other thread starts, because it changes the environment.
    pub(super) fn take() -> Result<Self, Failure> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for at in 0..passed.len() {
            let unusable = |what: &str| {
                let number = at + 1;
                let message =
                    format!("cannot use socket {number} of LISTEN_FDS: {what}; check the socket unit");
                Failure::message(Exit::Start, message)
            };
            let listening = |socket: SockRef<'_>| match socket.is_listener() {
                Ok(true) => socket.set_nonblocking(true).map_err(|error| unusable(&error.to_string())),
                Ok(false) => Err(unusable("it does not listen; the unit needs Accept=no")),
                Err(error) => Err(unusable(&error.to_string())),
            };
            if let Ok(Some(listener)) = passed.take_tcp_listener(at) {
                listening(SockRef::from(&listener))?;
                sockets.tcp.push(listener);
            } else if let Ok(Some(listener)) = passed.take_unix_listener(at) {
                listening(SockRef::from(&listener))?;
                sockets.unix.push(listener);
            } else {
                return Err(unusable("it is neither a TCP nor a unix stream socket"));
            }
        }
        Ok(sockets)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }

    /// Returns the sockets as listeners of the runtime. The files of unix sockets belong to systemd and stay.
    pub(super) fn into_bound(self) -> io::Result<Vec<Bound>> {
        let tcp = self.tcp.into_iter().map(|listener| Bound::tcp(TcpListener::from_std(listener)?));
        let unix = self.unix.into_iter().map(|listener| {
            let path = listener.local_addr()?.as_pathname().map_or_else(PathBuf::new, Path::to_owned);
            let listener = UnixListener::from_std(listener)?.into();
            Ok(Bound { listener, place: Place::Unix(path), file: None })
        });
        tcp.chain(unix).collect()
    }
}

impl Place {
    /// Returns the URL of the upload endpoint here, or the name of the socket, which no URL can name.
    pub(super) fn url(&self, is_tls: bool, endpoint: &str) -> String {
        match self {
            Self::Tcp(address) if is_tls => format!("https://{address}{endpoint}"),
            Self::Tcp(address) => format!("http://{address}{endpoint}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// Returns the message for a place of the setting `name` that cannot be bound, with the next step.
pub(crate) fn cannot_listen(place: &impl fmt::Display, error: &io::Error, name: &str) -> String {
    let place = place.to_string();
    let is_unix = place.starts_with("unix:");
    let port = place.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let why = match error.kind() {
        io::ErrorKind::AddrInUse if is_unix => {
            format!("another process listens on it; stop that process, or choose another with --{name}")
        }
        io::ErrorKind::AddrInUse => format!("address in use; choose another with --{name}"),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use 0.0.0.0 or [::] for all addresses".to_owned()
        }
        io::ErrorKind::NotFound if is_unix => "its directory does not exist; create it first".to_owned(),
        io::ErrorKind::PermissionDenied if is_unix => {
            "permission denied; let the server's user write to its directory".to_owned()
        }
        io::ErrorKind::PermissionDenied if port.is_some_and(|port| port < 1024) => {
            format!("ports below 1024 need the capability CAP_NET_BIND_SERVICE; choose another with --{name}")
        }
        _ => format!("{error}; choose another with --{name}"),
    };
    format!("cannot listen on {place}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_errors_name_the_next_step() {
        let tcp = [
            (io::ErrorKind::AddrInUse, "address in use; choose another with --listen"),
            (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
            (io::ErrorKind::PermissionDenied, "ports below 1024"),
            (io::ErrorKind::OutOfMemory, "choose another with --listen"),
        ];
        let unix = [
            (io::ErrorKind::AddrInUse, "another process listens on it"),
            (io::ErrorKind::NotFound, "its directory does not exist"),
            (io::ErrorKind::PermissionDenied, "write to its directory"),
        ];
        for (place, cases) in [("127.0.0.1:80", &tcp[..]), ("unix:/run/a.sock", &unix)] {
            let place: ListenAt = place.parse().expect("a place");
            for (kind, expected) in cases {
                let message = cannot_listen(&place, &(*kind).into(), "listen");
                let start = format!("cannot listen on {place}: ");
                assert!(message.starts_with(&start) && message.contains(expected), "{message}");
            }
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("socket");
        let (listener, file) = bind_unix(&path, 0o640).expect("bound");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        let refused = bind_unix(&path, 0o640).err().expect("another process listens");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let (listener, successor) = bind_unix(&path, 0o600).expect("the socket is stale");
        drop(file);
        assert!(path.exists(), "the socket of the successor stays");
        drop(listener);
        drop(successor);
        assert!(!path.exists());
        fs::write(&path, "a file").expect("written");
        assert!(bind_unix(&path, 0o600).is_err() && path.exists(), "no other file is replaced");
    }

    #[tokio::test]
    async fn a_name_is_bound_at_all_its_addresses_on_one_port() {
        let all = bind_host("localhost", 0).await.expect("bound");
        let ports = all.iter().map(|bound| match &bound.place {
            Place::Tcp(address) => {
                assert!(address.ip().is_loopback(), "{address}");
                address.port()
            }
            Place::Unix(_) => panic!("a name is no unix socket"),
        });
        let mut ports: Vec<_> = ports.collect();
        ports.dedup();
        assert!(ports.len() == 1 && ports[0] != 0, "{ports:?}");
        assert!(bind_host("no-such-host.invalid", 0).await.is_err());
    }
}
