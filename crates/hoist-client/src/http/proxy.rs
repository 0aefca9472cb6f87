//! Proxies: the choice of the proxy for a URL, and tunnels.

use std::ffi::OsString;
use std::fmt;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;

use super::driven::Driven;
use super::exchange::USER_AGENT;
use super::io::Stream;
use crate::error::Error;
use crate::origin::Origin;

/// The proxies that requests go through. The default is none.
///
/// A proxy is given as an `http` or `https` URL, which may contain a user name and password; without a scheme it is
/// `http`. Hosts to reach without a proxy are given as a list separated by commas: names, which include their subdomains,
/// addresses, networks such as `10.0.0.0/8`, or `*` for all.
#[derive(Clone, Default)]
pub struct Proxies {
    http: String,
    https: String,
    except: String,
}

impl Proxies {
    /// Uses this proxy for all hosts but the excepted ones.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if it is not the URL of a proxy.
    pub fn through(self, proxy: &str) -> Result<Self, Error> {
        let proxy = check_url("the proxy", proxy)?;
        Ok(Self { http: proxy.clone(), https: proxy, ..self })
    }

    /// Reads the proxies from the environment variables `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, which
    /// `variable` looks up. The upper-case name is used if the lower-case one is missing or empty, except for
    /// `HTTP_PROXY` in a CGI program (with `REQUEST_METHOD`), where a request's `Proxy` field sets it.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if one of them is not the URL of a proxy.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Error> {
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let read = |lower: &str| {
            let upper = lower.to_ascii_uppercase();
            let names = [lower, &upper].into_iter().filter(|name| !(is_cgi && *name == "HTTP_PROXY"));
            let found = names.filter_map(|name| Some((name.to_owned(), variable(name)?)));
            let Some((name, value)) = found.into_iter().find(|(_, value)| !value.is_empty()) else {
                return Ok((lower.to_owned(), String::new()));
            };
            match value.into_string() {
                Ok(text) => Ok((name, text)),
                Err(_) => Err(Error::Url { url: name, wrong: "is not text" }),
            }
        };
        let proxy = |lower: &str| {
            let (name, text) = read(lower)?;
            if text.is_empty() { Ok(text) } else { check_url(&name, &text) }
        };
        let (http, https, all) = (proxy("http_proxy")?, proxy("https_proxy")?, proxy("all_proxy")?);
        let or_all = |proxy: String| if proxy.is_empty() { all.clone() } else { proxy };
        Ok(Self { http: or_all(http), https: or_all(https), except: read("no_proxy")?.1 })
    }

    /// Replaces the list of hosts to reach without a proxy.
    pub fn except(self, hosts: impl Into<String>) -> Self {
        Self { except: hosts.into(), ..self }
    }

    pub(crate) fn of(&self, origin: &Origin) -> Option<Proxy> {
        // The matcher applies `*` to names only, not to addresses.
        if self.except.split(',').any(|host| host.trim() == "*") {
            return None;
        }
        let rules = Matcher::builder().http(&*self.http).https(&*self.https).no(&*self.except).build();
        let chosen = rules.intercept(&origin.to_string().parse().ok()?)?;
        let origin = Origin::of(chosen.uri()).ok()?;
        Some(Proxy { origin, authorization: chosen.basic_auth().cloned() })
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("except", &self.except).finish_non_exhaustive()
    }
}

/// Checks the URL of a proxy and adds a missing scheme. The error contains no password.
fn check_url(name: &str, text: &str) -> Result<String, Error> {
    let text = text.trim();
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let (scheme, rest) = full.split_once("://").unwrap_or_default();
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let wrong = |wrong| Error::Url { url: format!("{name} {scheme}://{address}"), wrong };
    let bare: Uri = format!("{scheme}://{address}").parse().map_err(|_| wrong("is not a url"))?;
    Origin::parse(&bare).map_err(wrong)?;
    // Checks the credentials, too.
    full.parse::<Uri>().map_err(|_| wrong("has a user name or password that must be percent-encoded"))?;
    Ok(full)
}

/// The proxy for a request.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(super) origin: Origin,
    pub(super) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// Returns the name of the proxy for error messages.
    pub(super) fn name(&self) -> String {
        format!("the proxy {}", self.origin.authority())
    }

    /// Returns the error for a proxy that refused the request or could not reach the server.
    pub(super) fn refused(&self, status: StatusCode) -> Error {
        Error::Proxy { proxy: self.origin.authority(), status }
    }

    /// Opens a tunnel to a server (RFC 9110, CONNECT).
    pub(super) async fn tunnel(&self, stream: Stream, to: &Origin) -> Result<Stream, Error> {
        let lost = |error: hyper::Error| {
            let source = std::io::Error::other(error);
            Error::Connect { authority: format!("{} through {}", to.authority(), self.name()), source }
        };
        let authority = to.authority();
        let mut request = Request::connect(&authority).header(header::HOST, &authority);
        request = request.header(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Error::Field("the host"))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let connect = async {
            let response = sender.send_request(request).await.map_err(lost)?;
            if !response.status().is_success() {
                return Err(self.refused(response.status()));
            }
            hyper::upgrade::on(response).await.map_err(lost)
        };
        let upgraded = Driven::new(connection.with_upgrades()).run(connect).await?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Returns the origin of the proxy for a URL, followed by its authorization.
    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        let origin = Origin::of(&url.parse().expect("a URL")).expect("an origin");
        let proxy = proxies.of(&origin)?;
        let authorization = proxy.authorization.map(|value| value.to_str().expect("text").to_owned());
        Some(
            [Some(proxy.origin.to_string()), authorization]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    fn of(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Proxies::from_variables(|name| variables.get(name).map(Into::into))
    }

    #[test]
    fn environment_variables_set_a_proxy_for_each_scheme() {
        type Row = (&'static [(&'static str, &'static str)], Option<&'static str>, Option<&'static str>);
        let (plain, secure) = ("http://h.example/u", "https://h.example/u");
        let table: [Row; 9] = [
            (&[], None, None),
            (&[("http_proxy", "p:3128")], Some("http://p:3128"), None),
            (&[("HTTPS_PROXY", "https://p/")], None, Some("https://p")),
            (&[("ALL_PROXY", "p"), ("https_proxy", "q")], Some("http://p"), Some("http://q")),
            (&[("http_proxy", "p"), ("HTTP_PROXY", "q")], Some("http://p"), None),
            (&[("http_proxy", ""), ("HTTP_PROXY", "q")], Some("http://q"), None),
            (&[("HTTP_PROXY", "p"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("http_proxy", "p"), ("REQUEST_METHOD", "GET")], Some("http://p"), None),
            (
                &[("all_proxy", "us%20er:p%40ss@p:1")],
                Some("http://p:1 Basic dXMgZXI6cEBzcw=="),
                Some("http://p:1 Basic dXMgZXI6cEBzcw=="),
            ),
        ];
        for (variables, http, https) in table {
            let proxies = of(variables).expect("proxies");
            assert_eq!(through(&proxies, plain).as_deref(), http, "{variables:?}");
            assert_eq!(through(&proxies, secure).as_deref(), https, "{variables:?}");
        }
    }

    #[test]
    fn excepted_hosts_are_reached_without_a_proxy() {
        let proxies = of(&[("all_proxy", "p"), ("no_proxy", "example.org, 10.0.0.0/8,[::1],::1 ,.local")])
            .expect("proxies");
        let table = [
            ("http://example.org:8080/", false),
            ("https://a.example.org/", false),
            ("http://notexample.org/", true),
            ("http://10.1.2.3/", false),
            ("http://11.1.2.3/", true),
            ("http://[::1]:1/", false),
            ("http://printer.local/", false),
        ];
        for (url, expected) in table {
            assert_eq!(through(&proxies, url).is_some(), expected, "{url}");
        }
        for url in ["http://h/", "http://10.0.0.1/"] {
            assert_eq!(through(&proxies.clone().except("a, *"), url), None, "{url}");
        }
        assert!(through(&proxies.except(""), "http://example.org/").is_some());
    }

    #[test]
    fn the_error_for_an_invalid_proxy_contains_no_password() {
        for wrong in
            ["p:65616", "http://p:0", "socks5://p:1", "user:s3cret@p:x", "http://user:s3 cret@p", "http://"]
        {
            let by_variable = of(&[("https_proxy", wrong)]).expect_err(wrong).to_string();
            let by_name = Proxies::default().through(wrong).expect_err(wrong).to_string();
            assert!(!by_variable.contains("cret") && !by_name.contains("cret"), "{by_variable}; {by_name}");
            assert!(by_variable.starts_with("https_proxy"), "{by_variable}");
        }
    }
}
