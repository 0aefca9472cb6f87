//! URLs that a server names: in `Location`, and in its well-known document. Nothing else in this crate resolves URLs.

use hoist_proto::client::resolve;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri, header};

use crate::error::Error;
use crate::origin::Origin;

/// Returns the URL to request when the response to a request for `requested` names the absolute URL `named`, or
/// [`Error::Location`] if that must not be used.
///
/// A server must not lead from `https` to `http`. An `http` URL of the same host is changed to the origin of `requested`
/// instead, since a server behind a proxy that terminates TLS may not know its public scheme.
pub(crate) fn follow(requested: &Uri, named: &Uri) -> Result<Uri, Error> {
    let wrong = |wrong| Error::Location { url: named.to_string(), wrong };
    let from = Origin::of(requested)?;
    let to = Origin::parse(named).map_err(wrong)?;
    if !from.is_secure() || to.is_secure() {
        return Ok(named.clone());
    }
    if from.host() == to.host() {
        let path = named.path_and_query().cloned();
        return Ok(with_path(requested, path.unwrap_or_else(|| PathAndQuery::from_static("/"))));
    }
    Err(wrong("would leave https"))
}

/// Returns the URL with the scheme and authority of `url` and another path and query.
pub(crate) fn with_path(url: &Uri, path: PathAndQuery) -> Uri {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).expect("a scheme, an authority and a path make a URL")
}

/// Returns the path and query of a URL: the target of a request to its origin.
pub(crate) fn request_target(url: &Uri) -> &str {
    url.path_and_query().map_or("/", |target| target.as_str())
}

pub(crate) fn request_uri(url: &Uri) -> Uri {
    request_target(url).parse().expect("the path of a URL is a URI")
}

pub(crate) fn location_field(fields: &HeaderMap) -> Option<&str> {
    fields.get(header::LOCATION)?.to_str().ok()
}

/// Replaces a relative `Location` in a response from `url` by an absolute one. The uploader resolves references against
/// the upload's target, which is another URL after a redirect.
pub(crate) fn make_location_absolute(fields: &mut HeaderMap, url: &Uri) {
    let absolute = location_field(fields).and_then(|text| resolve(url, text));
    if let Some(Ok(value)) = absolute.map(|url| HeaderValue::try_from(url.to_string())) {
        fields.insert(header::LOCATION, value);
    }
}

/// Returns an error if the response from `url` has a `Location` that is not a URL reference.
pub(crate) fn malformed_location(fields: &HeaderMap, url: &Uri) -> Option<Error> {
    let text = location_field(fields)?;
    let error = || Error::Location { url: text.to_owned(), wrong: "is not a url" };
    resolve(url, text).is_none().then(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_url_is_followed_unless_it_is_invalid_or_leaves_tls() {
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
        for (requested, named, expected) in table {
            let url = |text: &str| text.parse::<Uri>().expect(text);
            let followed = follow(&url(requested), &url(named));
            assert!(matches!(followed, Ok(_) | Err(Error::Location { .. })), "{followed:?}");
            let followed = followed.ok().map(|url| url.to_string());
            assert_eq!(followed.as_deref(), expected, "{requested} names {named}");
        }
    }
}
