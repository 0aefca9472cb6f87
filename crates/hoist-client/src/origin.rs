//! The origin of a URL: the peer of connections, and the scope of credentials.

use std::fmt;

use http::uri::Scheme;
use http::{HeaderMap, Uri};

use crate::error::Error;

/// Scheme, host and port of a URL (RFC 9110, URI Origin).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    /// In lower case, with the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of a URL that this client can use: `http` or `https`, with a host, a valid port, and no
    /// credentials.
    ///
    /// # Errors
    /// Returns [`Error::Url`] for any other URL.
    pub fn of(url: &Uri) -> Result<Self, Error> {
        Self::parse(url).map_err(|wrong| Error::Url { url: url.to_string(), wrong })
    }

    /// Like [`of`](Self::of), with the fault as the error: the end of a sentence about the URL.
    pub(crate) fn parse(url: &Uri) -> Result<Self, &'static str> {
        let secure = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("is not an http or https url"),
        };
        let authority = url.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("contains credentials: pass them separately");
        }
        let host = authority.host();
        if host.is_empty() {
            return Err("names no host");
        }
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            // An empty port is the default of the scheme (RFC 3986, Port).
            None | Some("") => default_port(secure),
            Some(digits) => parse_port(digits).ok_or("has an invalid port: use 1 to 65535")?,
        };
        Ok(Self { secure, host: host.to_ascii_lowercase(), port })
    }

    /// Returns whether connections to this origin use TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns the host as used in DNS and certificates: an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        without_brackets(&self.host)
    }

    /// Returns the port, which may be the default of the scheme.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns host and port, even if the port is the default of the scheme.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Returns the value of the `Host` field.
    pub fn host_field(&self) -> String {
        if self.port == default_port(self.secure) { self.host.clone() } else { self.authority() }
    }
}

/// Formats the origin as the beginning of a URL.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_field())
    }
}

/// Removes the brackets around an IPv6 address.
pub(crate) fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Parses a port from 1 to 65535.
pub(crate) fn parse_port(digits: &str) -> Option<u16> {
    // `str::parse` accepts a sign.
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| are_digits && *port > 0)
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Header fields that may contain secrets, and the origin to which they may be sent.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    fields: HeaderMap,
    /// The only origin that is sent the fields. If `None`, that is the origin of each call's URL.
    bound_to: Option<Origin>,
}

impl Credentials {
    pub(crate) fn new(fields: HeaderMap, bound_to: Option<Origin>) -> Self {
        Self { fields, bound_to }
    }

    /// Returns the fields of a request to the origin `to`, in a call whose URL had the origin `caller`. They are empty
    /// unless both are the same and the one that the fields are bound to, so another origin that a server names gets
    /// none.
    pub(crate) fn fields(&self, caller: &Origin, to: &Origin) -> HeaderMap {
        let is_bound_elsewhere = self.bound_to.as_ref().is_some_and(|bound| bound != to);
        if caller != to || is_bound_elsewhere { HeaderMap::new() } else { self.fields.clone() }
    }

    /// Returns whether a URL from a server must not be returned to the caller, because a call with it would send the
    /// fields there.
    pub(crate) fn would_leak(&self, caller: &Origin, named: &Origin) -> bool {
        !self.fields.is_empty() && self.bound_to.is_none() && caller != named
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn the_origin_of_a_url_is_scheme_host_and_port() {
        let table = [
            ("http://h/uploads", Some("http://h")),
            ("http://H:80", Some("http://h")),
            ("http://h:/a", Some("http://h")),
            ("https://h", Some("https://h")),
            ("https://h:80/", Some("https://h:80")),
            ("http://[::1]:8080/", Some("http://[::1]:8080")),
            ("http://h:65535", Some("http://h:65535")),
            ("http://h:65536/", None),
            ("http://127.0.0.1:65616/uploads", None),
            ("http://h:0/", None),
            ("http://h:+80/", None),
            ("http://h:99999999999/", None),
            ("http://a:b@h/", None),
            ("ftp://h/", None),
            ("/uploads", None),
        ];
        for (text, expected) in table {
            let url: Result<Uri, _> = text.parse();
            let origin = url.ok().and_then(|url| Origin::of(&url).ok()).map(|origin| origin.to_string());
            assert_eq!(origin.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn credentials_are_sent_to_their_own_origin_only() {
        let of = |text: &str| Origin::of(&text.parse().expect("a URL")).expect("an origin");
        let mut fields = HeaderMap::new();
        fields.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer hush"));
        let unbound = Credentials::new(fields.clone(), None);
        let bound = Credentials::new(fields, Some(of("https://a")));
        let table = [
            ("https://a", "https://a:443/x", true, true),
            ("https://a", "http://a", false, false),
            ("https://a", "http://a:443", false, false),
            ("https://a", "https://a:444", false, false),
            ("https://a", "https://b", false, false),
            ("https://b", "https://b", true, false),
        ];
        for (caller, to, by_call, by_binding) in table {
            let sent = |credentials: &Credentials| !credentials.fields(&of(caller), &of(to)).is_empty();
            assert_eq!((sent(&unbound), sent(&bound)), (by_call, by_binding), "{caller} to {to}");
        }
    }
}
