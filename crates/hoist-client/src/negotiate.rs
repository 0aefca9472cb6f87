//! Which dialect a server speaks, with one question.
//!
//! A server that resumes says so in its answer to `OPTIONS`. One that does not answer as such may still: an upload in the
//! newest iteration of the IETF dialect is an ordinary one to a server that does not know it.

use ::http::{HeaderMap, Method, Request, StatusCode, Uri};
use hoist_proto::client::{Offers, VERSIONS};
use hoist_proto::dialect::answer::{self, Said};
use hoist_proto::dialect::ietf::client::refuses_version;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::{ACCEPT_PATCH, INTEROP_VERSION, UPLOAD_LIMIT};
use hoist_proto::field;

use crate::client::Client;
use crate::dialect::ServerSupport;
use crate::error::Error;
use crate::http::{ExchangeError, FinalResponse, ReusedConnection};
use crate::origin::Origin;
use crate::upload;

/// The media type of the IETF dialect's appends.
const PARTIAL_UPLOAD: &str = "application/partial-upload";

/// Returns the dialect of the server at a URL, as it is remembered or as the server says now.
///
/// # Cancellation
/// Safe to drop.
pub(crate) async fn spoken(
    client: &Client,
    connection: &mut ReusedConnection,
    url: &Uri,
) -> Result<ServerSupport, Error> {
    let origin = Origin::of(url)?;
    if let Some(spoken) = client.origins.of(&origin).support {
        return Ok(spoken);
    }
    let (answer, version) = answered(client, connection, url).await?;
    let is_success = answer.status.is_success();
    let spoken = if is_success { read(&answer.fields, version) } else { ServerSupport::Unknown(version) };
    tracing::debug!(%url, ?spoken, "the server was asked what it speaks");
    let tus = Offers::of(&answer.fields).filter(|_| is_success);
    client.origins.learn(&origin, |facts| (facts.support, facts.tus) = (Some(spoken), tus));
    Ok(spoken)
}

/// Asks in one version after the other until there is one that the server does not refuse.
//= IETF-VER-11
async fn answered(
    client: &Client,
    connection: &mut ReusedConnection,
    url: &Uri,
) -> Result<(FinalResponse, Interop), Error> {
    let [first, rest @ ..] = VERSIONS;
    let answer = asked(client, connection, url, || options(url, first), says_later).await?;
    if !refuses_version(answer.status, &answer.fields) {
        return Ok((answer, first));
    }
    for version in rest {
        let answer = asked(client, connection, url, || options(url, version), says_later).await?;
        if !refuses_version(answer.status, &answer.fields) {
            return Ok((answer, version));
        }
    }
    // It is the method that the server refuses.
    Ok((answer, first))
}

fn options(url: &Uri, version: Interop) -> Request<()> {
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let mut head =
        Request::builder().method(Method::OPTIONS).uri(target).body(()).expect("a URL's path is a URI");
    if let Some(number) = version.number() {
        head.headers_mut().insert(INTEROP_VERSION, number.into());
    }
    head
}

fn says_later(status: StatusCode) -> bool {
    answer::said(status) == Said::Later
}

/// Asks a URL for the state of an upload that it may be the URL of. Where it is not, a server may answer with any error, and
/// only those that ask for patience are worth another attempt.
pub(crate) async fn retrieved(
    client: &Client,
    connection: &mut ReusedConnection,
    url: &Uri,
    head: impl Fn() -> Request<()>,
) -> Result<FinalResponse, Error> {
    asked(client, connection, url, head, |status| matches!(status.as_u16(), 423 | 429 | 503)).await
}

/// Repeats a request until its answer is final or the retries are used up.
async fn asked(
    client: &Client,
    connection: &mut ReusedConnection,
    url: &Uri,
    head: impl Fn() -> Request<()>,
    is_later: fn(StatusCode) -> bool,
) -> Result<FinalResponse, Error> {
    let (retries, given) = (client.settings.retries, Origin::of(url)?);
    let start = upload::now();
    let mut attempts = 0;
    loop {
        let ended = connection.ask(&client.connector, url, head(), &given, upload::now()).await;
        let (error, after) = match ended {
            Ok(answer) if !is_later(answer.status) => return Ok(answer),
            Ok(answer) => {
                let detail = crate::problem::detail(&answer);
                (Error::Refused { status: answer.status, detail }, answer::retry_after(&answer.fields))
            }
            Err(ExchangeError { error, .. }) if error.ends_an_attempt() => (error, None),
            Err(ExchangeError { error, .. }) => return Err(error),
        };
        attempts += 1;
        let pause = retries.pause(attempts, start.elapsed(), after, upload::random()?);
        let Some(pause) = pause else { return Err(Error::Exhausted { attempts, source: Box::new(error) }) };
        tracing::debug!(%error, ?pause, "asking again");
        tokio::time::sleep(pause).await;
    }
}

/// Reads the protocol that a server speaks from its answer to a request in `version`.
fn read(fields: &HeaderMap, version: Interop) -> ServerSupport {
    let takes_parts = fields.get_all(ACCEPT_PATCH).iter().filter_map(|value| value.to_str().ok());
    let takes_parts = takes_parts.flat_map(|line| line.split(',')).any(|kind| {
        let essence = kind.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(PARTIAL_UPLOAD)
    });
    if takes_parts || fields.contains_key(UPLOAD_LIMIT) {
        let number = field::integer(fields, &INTEROP_VERSION).ignoring_malformed();
        return ServerSupport::Ietf(number.and_then(Interop::of_number).unwrap_or(version));
    }
    Offers::of(fields).map_or(ServerSupport::Unknown(version), ServerSupport::Tus1)
}

/// Returns `true` if an answer has a field that only a server with an upload protocol sends.
pub(crate) fn shows_a_protocol(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name.as_str().starts_with("upload-") || name.as_str() == "tus-resumable")
}

/// Returns the offers of a server of tus 1.0, asked at its creation URL.
pub(crate) async fn offers(
    client: &Client,
    connection: &mut ReusedConnection,
    url: &Uri,
) -> Result<Offers, Error> {
    if let Some(ServerSupport::Tus1(offers)) = client.origins.of(&Origin::of(url)?).support {
        return Ok(offers);
    }
    let (answer, _) = answered(client, connection, url).await?;
    Ok(Offers::of(&answer.fields).unwrap_or(Offers::least()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_what_it_speaks() {
        let table: [(&[(&str, &str)], &str); 8] = [
            (&[], "Unknown"),
            (&[("upload-limit", "min-size=0")], "Ietf(V10)"),
            (&[("accept-patch", "text/x, application/Partial-Upload;a=b")], "Ietf(V10)"),
            (
                &[("accept-patch", "application/partial-upload"), ("upload-draft-interop-version", "6")],
                "Ietf(V6)",
            ),
            (
                &[("accept-patch", "application/partial-upload"), ("upload-draft-interop-version", "77")],
                "Ietf(V10)",
            ),
            (&[("tus-version", "1.0.0"), ("tus-extension", "creation")], "Tus1"),
            (
                &[("tus-version", "1.0.0"), ("tus-extension", "creation"), ("upload-limit", "a=1")],
                "Ietf(V10)",
            ),
            (&[("accept-patch", "application/offset+octet-stream")], "Unknown"),
        ];
        for (lines, expected) in table {
            let parsed = lines.iter().map(|(name, value)| {
                (name.parse::<::http::HeaderName>().expect("a name"), value.parse().expect("a value"))
            });
            let spoken = format!("{:?}", read(&parsed.collect(), Interop::V10));
            assert!(spoken.starts_with(expected), "{lines:?}: {spoken}");
        }
    }
}
