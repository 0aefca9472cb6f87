//! Discovery of the upload URL of a server.
//!
//! Tries, in this order: the server's HTTPS record (feature `dns`), its well-known document, and the path `/uploads`.

#[cfg(feature = "dns")]
mod dns;

use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Request, Uri, header};
use serde::Deserialize;

use crate::client::Client;
use crate::clock;
use crate::error::Error;
use crate::http::ReusedConnection;
use crate::location;
use crate::origin::Origin;
use crate::response::FinalResponse;

const WELL_KNOWN: &str = "/.well-known/resumable-uploads";
const DEFAULT_PATH: &str = "/uploads";

#[derive(Deserialize)]
struct WellKnownDocument {
    url: String,
}

impl Client {
    /// Returns the upload URL of a server, given its host name (with or without a port) or its origin. A URL with a path
    /// is returned as it is. If the server has no well-known document, returns `/uploads` at its origin.
    ///
    /// # Errors
    /// Returns [`Error::Url`] if the argument names no server, [`Error::Location`] if the server names a URL that must
    /// not be used, or the error that kept the server from answering.
    ///
    /// # Cancellation
    /// Safe to drop.
    //= TOK-DISC-04
    pub async fn discover(&self, origin: &str) -> Result<Uri, Error> {
        let base = base(origin)?;
        if base.path() != "/" || base.query().is_some() {
            return Ok(base);
        }
        #[cfg(feature = "dns")]
        if let Some(path) = self.path_in_dns(&base).await {
            return at(&base, &path);
        }
        let head = Request::get(WELL_KNOWN)
            .header(header::ACCEPT, "application/json")
            .body(())
            .expect("constants make a request");
        let (mut connection, caller_origin) = (ReusedConnection::default(), Origin::of(&base)?);
        let response =
            connection.query(&self.connector, &base, head, &caller_origin, clock::now(), Duration::MAX).await;
        let response = response.map_err(|failed| failed.error)?;
        let Some(document) = document(&response) else { return at(&base, DEFAULT_PATH) };
        let url = resolve(&base, &document.url)?;
        if self.connector.credentials.would_leak(&caller_origin, &Origin::of(&url)?) {
            let wrong = "has another origin than the credentials: bind them to an origin";
            return Err(Error::Location { url: url.to_string(), wrong });
        }
        Ok(url)
    }
}

fn document(response: &FinalResponse) -> Option<WellKnownDocument> {
    response.status.is_success().then(|| serde_json::from_slice(&response.content).ok()).flatten()
}

/// Parses the name of a server. The default scheme is `https`.
fn base(origin: &str) -> Result<Uri, Error> {
    let text = if origin.contains("://") { origin.to_owned() } else { format!("https://{origin}") };
    let wrong = "is not the name or the url of a server";
    let url: Uri = text.parse().map_err(|_| Error::Url { url: origin.to_owned(), wrong })?;
    Origin::of(&url).map(|_| url)
}

/// Resolves the URL in the well-known document. It must be an absolute path or an absolute URL.
fn resolve(base: &Uri, named: &str) -> Result<Uri, Error> {
    if named.starts_with('/') && !named.starts_with("//") {
        return at(base, named);
    }
    let unusable = |wrong| Error::Location { url: named.to_owned(), wrong };
    let url: Uri = named.parse().map_err(|_| unusable("is not a url"))?;
    if url.authority().is_none() {
        return Err(unusable("is neither a path nor an http or https url"));
    }
    location::follow(base, &url)
}

fn at(base: &Uri, path: &str) -> Result<Uri, Error> {
    let path = PathAndQuery::try_from(path);
    let unusable = |_| Error::Location { url: base.to_string(), wrong: "has an invalid path" };
    path.map(|path| location::with_path(base, path)).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_host_or_url() {
        let table = [
            ("example.org", Some("https://example.org/")),
            ("example.org:8443", Some("https://example.org:8443/")),
            ("http://localhost:8080", Some("http://localhost:8080/")),
            ("[::1]:80", Some("https://[::1]:80/")),
            ("https://example.org/files/", Some("https://example.org/files/")),
            ("ftp://example.org", None),
            ("example.org:65616", None),
            ("https://user:secret@example.org", None),
            ("", None),
            ("a b", None),
        ];
        for (name, expected) in table {
            assert_eq!(base(name).ok().map(|url| url.to_string()).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn the_document_names_a_path_or_a_url_but_does_not_leave_tls() {
        let secure: Uri = "https://example.org".parse().expect("a URL");
        let plain: Uri = "http://example.org:81".parse().expect("a URL");
        let table = [
            (&secure, "/files", Some("https://example.org/files")),
            (&plain, "/files?a=b", Some("http://example.org:81/files?a=b")),
            (&secure, "https://cdn.example/up", Some("https://cdn.example/up")),
            (&plain, "http://cdn.example/up", Some("http://cdn.example/up")),
            (&plain, "https://cdn.example/up", Some("https://cdn.example/up")),
            (&secure, "http://example.org/files", Some("https://example.org/files")),
            (&secure, "http://other.example/files", None),
            (&secure, "https://example.org:65616/files", None),
            (&secure, "//evil.example/files", None),
            (&secure, "files", None),
            (&secure, "file:///etc/passwd", None),
            (&secure, "/a b", None),
        ];
        for (base, named, expected) in table {
            let found = resolve(base, named).ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{named}");
        }
    }
}
