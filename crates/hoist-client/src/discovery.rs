//! From the name of a server to its upload URL.
//!
//! In this order: what its HTTPS record says (feature `dns`), what its well-known document says, `/uploads`.

#[cfg(feature = "dns")]
mod dns;

use http::uri::{PathAndQuery, Scheme};
use http::{Request, Uri, header};
use serde::Deserialize;

use crate::client::Client;
use crate::error::Error;
use crate::http::Answer;
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
        let answer = self.connector.ask(&base, head, upload::now()).await;
        let answer = answer.map_err(|broken| broken.error)?;
        match document(&answer) {
            Some(document) => resolve(&base, &document.url),
            None => at(&base, CONVENTION),
        }
    }
}

fn document(answer: &Answer) -> Option<Document> {
    answer.status.is_success().then(|| serde_json::from_slice(&answer.content).ok()).flatten()
}

/// The origin's URL. Without a scheme it is `https`.
fn base(origin: &str) -> Result<Uri, Error> {
    let text = if origin.contains("://") { origin.to_owned() } else { format!("https://{origin}") };
    let url: Uri = text.parse().map_err(|_| wrong(origin, "is not the name of a server"))?;
    match url.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => Ok(url),
        _ => Err(wrong(origin, "is not an http or https url")),
    }
}

/// What the document says, seen from the origin. From a server that proved its identity, the way does not lead to one
/// that cannot.
fn resolve(base: &Uri, told: &str) -> Result<Uri, Error> {
    if told.starts_with('/') && !told.starts_with("//") {
        return at(base, told);
    }
    let url: Uri = told.parse().map_err(|_| wrong(told, "is not a url"))?;
    match (base.scheme_str(), url.scheme_str()) {
        (_, Some("https")) | (Some("http"), Some("http")) => Ok(url),
        (_, Some("http")) => Err(wrong(told, "would leave https")),
        _ => Err(wrong(told, "is neither a path nor an http or https url")),
    }
}

fn at(base: &Uri, path: &str) -> Result<Uri, Error> {
    let path = PathAndQuery::try_from(path).map_err(|_| wrong(path, "is not a path"))?;
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(path);
    Ok(Uri::from_parts(parts).expect("an origin and a path make a URL"))
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
            (&secure, "http://example.org/files", None),
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
