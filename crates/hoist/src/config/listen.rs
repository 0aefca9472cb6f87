//! The values of `--listen`: an address, a host name with a port, or a unix socket; and the mode of socket files.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenAt {
    Address(SocketAddr),
    /// A name and a port: every address that the name resolves to.
    Host(String, u16),
    /// The file of a unix socket.
    Unix(PathBuf),
}

impl ListenAt {
    /// Returns the port, which is zero if the system chooses it. `None` for a unix socket.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => Some(address.port()),
            Self::Host(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }

    /// Returns whether only programs of this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().to_canonical().is_loopback(),
            // Reserved for loopback addresses (RFC 6761, Domain Name Reservation Considerations for "localhost.").
            Self::Host(name, _) => {
                let name = name.to_ascii_lowercase();
                let name = name.strip_suffix('.').unwrap_or(&name);
                name == "localhost" || name.ends_with(".localhost")
            }
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not an address and a port; write it like 127.0.0.1:8080, [::]:8080, localhost:8080 or \
                             unix:/run/hoist/hoist.sock";
        /// The bytes of a socket's path that the system accepts.
        const PATH_BYTES_MAX: usize = 107;
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("names no file; write it like unix:/run/hoist/hoist.sock"),
                path if path.len() > PATH_BYTES_MAX => Err("is longer than the 107 bytes of a socket's path"),
                path if path.contains('\0') => Err("contains a zero byte"),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (name, port) = text.rsplit_once(':').ok_or(WRONG)?;
        let port = port.parse().map_err(|_| WRONG)?;
        if is_name(name) { Ok(Self::Host(name.to_owned(), port)) } else { Err(WRONG) }
    }
}

/// Returns whether a text is a host name rather than a misspelt address (RFC 1123, Host Names and Numbers).
fn is_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
    };
    let ends_in_number =
        labels.clone().next_back().is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
    text.len() <= 253 && !ends_in_number && labels.clone().all(is_label)
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The permissions of a socket file, written in octal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketMode(pub(crate) u32);

impl FromStr for SocketMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_octal =
            (3..=4).contains(&text.len()) && text.bytes().all(|octet| (b'0'..=b'7').contains(&octet));
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
        mode.map(Self).ok_or("is not a file mode in octal; write it like 660")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_listen_are_parsed() {
        let good = [
            ("127.0.0.1:8080", Some(8080), true),
            ("[::1]:0", Some(0), true),
            ("0.0.0.0:80", Some(80), false),
            ("localhost:8080", Some(8080), true),
            ("a.LocalHost.:1", Some(1), true),
            ("upload.example.org:443", Some(443), false),
            ("unix:/run/hoist/hoist.sock", None, true),
            ("unix:here.sock", None, true),
        ];
        for (text, port, is_local) in good {
            let parsed: ListenAt = text.parse().expect(text);
            assert_eq!((parsed.port(), parsed.is_local(), parsed.to_string()), (port, is_local, text.into()));
        }
        let long = format!("unix:/{}", "x".repeat(107));
        let bad = [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:99999",
            "127.0.0.256:80",
            "::1:80x",
            "a b:1",
            "http://a:80",
            "unix:",
            &long,
            "a..b:1",
            "[::1]",
            "1.2.3:4",
        ];
        for text in bad {
            assert!(text.parse::<ListenAt>().is_err(), "{text}");
        }
    }

    #[test]
    fn socket_modes_are_octal() {
        for (text, mode) in [("660", 0o660), ("0666", 0o666), ("000", 0)] {
            assert_eq!(text.parse(), Ok(SocketMode(mode)), "{text}");
        }
        for text in ["", "66", "888", "1777", "rw-rw----", "-660", "0o660"] {
            assert!(text.parse::<SocketMode>().is_err(), "{text}");
        }
    }
}
