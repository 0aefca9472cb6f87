//! The origin of a URL, which connections are made to and credentials are bound to.

use std::fmt;

use http::uri::Scheme;
use http::{HeaderMap, Uri};

use crate::error::Error;

/// Scheme, host and port of a URL (RFC 9110, URI Origin).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    /// In lower case, with the brackets of a literal IPv6 address.
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of a URL that this client can use: `http` or `https`, with a host, a port that exists, and no
    /// credentials.
    ///
    /// # Errors
    /// [`Error::Url`] for any other URL.
    pub fn of(url: &Uri) -> Result<Self, Error> {
        Self::read(url).map_err(|wrong| Error::Url { url: url.to_string(), wrong })
    }

    pub(crate) fn read(url: &Uri) -> Result<Self, &'static str> {
        let secure = match url.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("is not an http or https url"),
        };
        let authority = url.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("contains credentials: give them apart from the url");
        }
        let host = authority.host();
        if host.is_empty() {
            return Err("names no host");
        }
        let port = match authority.as_str()[host.len()..].strip_prefix(':') {
            // An empty port is the scheme's own (RFC 3986, Port).
            None | Some("") => standard(secure),
            Some(digits) => port(digits).ok_or("has an invalid port: ports go from 1 to 65535")?,
        };
        Ok(Self { secure, host: host.to_ascii_lowercase(), port })
    }

    /// Returns `true` if connections to this origin use TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host as a name server or a certificate has it: a literal IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        bare(&self.host)
    }

    /// The port, also where it is the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, also where the port is the scheme's own.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The value of a `Host` field.
    pub fn host_field(&self) -> String {
        if self.port == standard(self.secure) { self.host.clone() } else { self.authority() }
    }
}

/// Formats the origin as the beginning of a URL.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host_field())
    }
}

/// A host without the brackets around a literal IPv6 address.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A port that something can listen on.
pub(crate) fn port(digits: &str) -> Option<u16> {
    // The parser of the standard library takes a sign.
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| are_digits && *port > 0)
}

fn standard(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Header fields that may hold secrets, and the origin they may be sent to.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    fields: HeaderMap,
    /// The only origin they are for. None leaves that to the URL of each call.
    bound: Option<Origin>,
}

impl Credentials {
    pub(crate) fn new(fields: HeaderMap, bound: Option<Origin>) -> Self {
        Self { fields, bound }
    }

    /// The fields of a request to `to`, in a call whose URL had the origin `given`. There are none unless both are the
    /// same, and the one they are bound to: a URL that a server names gets them only at the origin of the caller's URL.
    pub(crate) fn fields(&self, given: &Origin, to: &Origin) -> HeaderMap {
        let is_bound_elsewhere = self.bound.as_ref().is_some_and(|bound| bound != to);
        if given != to || is_bound_elsewhere { HeaderMap::new() } else { self.fields.clone() }
    }

    /// Returns `true` if a URL from a server must not be returned to the caller, because the next call with it would
    /// send the fields there.
    pub(crate) fn would_leak(&self, given: &Origin, named: &Origin) -> bool {
        !self.fields.is_empty() && self.bound.is_none() && given != named
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
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
    fn credentials_stay_at_the_origin_they_were_given_for() {
        let of = |text: &str| Origin::of(&text.parse().expect("a URL")).expect("an origin");
        let mut fields = HeaderMap::new();
        fields.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer hush"));
        let free = Credentials::new(fields.clone(), None);
        let bound = Credentials::new(fields, Some(of("https://a")));
        let table = [
            ("https://a", "https://a:443/x", true, true),
            ("https://a", "http://a", false, false),
            ("https://a", "http://a:443", false, false),
            ("https://a", "https://a:444", false, false),
            ("https://a", "https://b", false, false),
            ("https://b", "https://b", true, false),
        ];
        for (given, to, by_call, by_bond) in table {
            let sent = |credentials: &Credentials| !credentials.fields(&of(given), &of(to)).is_empty();
            assert_eq!((sent(&free), sent(&bound)), (by_call, by_bond), "{given} to {to}");
        }
    }
}
