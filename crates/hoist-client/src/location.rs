//! URLs that a server names: in `Location`, and in its well-known document.

use http::Uri;
use http::uri::PathAndQuery;

use crate::error::Error;
use crate::origin::Origin;

/// Resolves the URL `named` in an answer to a request for `asked`. After a request over TLS, a URL without TLS is
/// refused, unless it names the server's own host, as behind a proxy that terminates TLS; TLS is then kept.
///
/// # Errors
/// [`Error::Location`] for a URL that cannot be used.
pub(crate) fn followed(asked: &Uri, named: &Uri) -> Result<Uri, Error> {
    let wrong = |wrong| Error::Location { url: named.to_string(), wrong };
    let from = Origin::of(asked)?;
    let origin = Origin::read(named).map_err(wrong)?;
    if !from.is_secure() || origin.is_secure() {
        return Ok(named.clone());
    }
    if from.host() == origin.host() {
        let path = named.path_and_query().cloned();
        return Ok(at(asked, path.unwrap_or_else(|| PathAndQuery::from_static("/"))));
    }
    Err(wrong("would leave https"))
}

/// A path at the origin of a URL.
pub(crate) fn at(origin: &Uri, path: PathAndQuery) -> Uri {
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("an origin and a path make a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_leads_to_urls_that_exist_and_not_out_of_tls() {
        let table = [
            ("https://a/u", "https://b:1/x", Some("https://b:1/x")),
            ("https://a/u", "http://a:8080/x?y", Some("https://a/x?y")),
            ("https://a/u", "http://A", Some("https://a/")),
            ("https://a/u", "http://b/x", None),
            ("http://a/u", "http://b/x", Some("http://b/x")),
            ("http://a/u", "https://b/x", Some("https://b/x")),
            ("http://a/u", "http://a:65616/x", None),
            ("http://a/u", "http://a:0/x", None),
            ("http://a/u", "http://x:y@a/x", None),
            ("http://a/u", "ftp://a/x", None),
        ];
        for (asked, named, expected) in table {
            let url = |text: &str| text.parse::<Uri>().expect(text);
            let followed = followed(&url(asked), &url(named));
            assert!(matches!(followed, Ok(_) | Err(Error::Location { .. })), "{followed:?}");
            let followed = followed.ok().map(|url| url.to_string());
            assert_eq!(followed.as_deref(), expected, "{asked} names {named}");
        }
    }
}
