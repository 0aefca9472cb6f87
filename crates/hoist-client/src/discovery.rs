//! From the name of a server to its upload URL.
//!
//! In this order: what its HTTPS record says (feature `dns`), what its well-known document says, `/uploads`.

#[cfg(feature = "dns")]
mod dns;

use http::uri::PathAndQuery;
use http::{Request, Uri, header};
use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::{FinalResponse, ReusedConnection};
use crate::location;
use crate::origin::Origin;
use crate::upload;

const WELL_KNOWN: &str = "/.well-known/resumable-uploads";
const CONVENTION: &str = "/uploads";

#[derive(Deserialize)]
struct Document {
    url: String,
}

impl Client {
    /// The upload URL of a server, given its host name (with or without port) or its origin. A URL with a path is taken
    /// for an upload URL already.
    ///
    /// # Errors
    /// [`Error::Url`] when it is no name of a server, or when the server names a URL that cannot be followed; otherwise
    /// what kept the server from answering. A server that answers with anything but a document follows the convention.
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
        let (mut connection, given) = (ReusedConnection::default(), Origin::of(&base)?);
        let answer = connection.ask(&self.connector, &base, head, &given, upload::now()).await;
        let answer = answer.map_err(|broken| broken.error)?;
        let Some(document) = document(&answer) else { return at(&base, CONVENTION) };
        let url = resolve(&base, &document.url)?;
        if self.connector.credentials.would_leak(&given, &Origin::of(&url)?) {
            let wrong = "is not where the credentials were given for: bind them to an origin";
            return Err(Error::Location { url: url.to_string(), wrong });
        }
        Ok(url)
    }
}

fn document(answer: &FinalResponse) -> Option<Document> {
    answer.status.is_success().then(|| serde_json::from_slice(&answer.content).ok()).flatten()
}

/// The origin's URL. Without a scheme it is `https`.
fn base(origin: &str) -> Result<Uri, Error> {
    let text = if origin.contains("://") { origin.to_owned() } else { format!("https://{origin}") };
    let url: Uri = text.parse().map_err(|_| wrong(origin, "is not the name of a server"))?;
    Origin::of(&url).map(|_| url)
}

/// Resolves the URL of the document against the origin.
fn resolve(base: &Uri, told: &str) -> Result<Uri, Error> {
    if told.starts_with('/') && !told.starts_with("//") {
        return at(base, told);
    }
    let unusable = |wrong| Error::Location { url: told.to_owned(), wrong };
    let url: Uri = told.parse().map_err(|_| unusable("is not a url"))?;
    if url.authority().is_none() {
        return Err(unusable("is neither a path nor an http or https url"));
    }
    location::followed(base, &url)
}

fn at(base: &Uri, path: &str) -> Result<Uri, Error> {
    let path = PathAndQuery::try_from(path);
    let unusable = |_| Error::Location { url: base.to_string(), wrong: "has an invalid path" };
    path.map(|path| location::at(base, path)).map_err(unusable)
}

fn wrong(url: &str, wrong: &'static str) -> Error {
    Error::Url { url: url.to_owned(), wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_many_names() {
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
    fn the_document_leads_to_a_path_or_a_url_but_not_out_of_tls() {
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
        for (base, told, expected) in table {
            let found = resolve(base, told).ok().map(|url| url.to_string());
            assert_eq!(found.as_deref(), expected, "{told}");
        }
    }
}
