//! Negotiation of the dialect with a server.
//!
//! A server that supports resumable uploads announces it in its response to `OPTIONS`. A server that does not may still
//! support them: an upload in the newest version of the IETF dialect looks like an ordinary request to servers without
//! the dialect, so it is tried anyway.

use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode, Uri};
use hoist_proto::client::VERSIONS;
use hoist_proto::dialect::ietf::PARTIAL_UPLOAD;
use hoist_proto::dialect::ietf::client::refuses_version;
use hoist_proto::dialect::interop::Interop;
use hoist_proto::dialect::status::{self, StatusClass};
use hoist_proto::dialect::tus1::client::Capabilities;
use hoist_proto::dialect::{ACCEPT_PATCH, INTEROP_VERSION, UPLOAD_LIMIT};
use hoist_proto::field;

use crate::clock;
use crate::error::Error;
use crate::http::{ExchangeError, ReusedConnection};
use crate::location::request_target;
use crate::origin::Origin;
use crate::origin_cache::ServerSupport;
use crate::progress::Activity;
use crate::random;
use crate::response::FinalResponse;
use crate::retry::{RetryClock, silent_since};
use crate::upload::Put;

/// Returns the upload protocol of the server at a URL, from the cache or by asking the server.
pub(crate) async fn server_support(
    put: &Put,
    connection: &mut ReusedConnection,
) -> Result<ServerSupport, Error> {
    let origin = Origin::of(&put.url)?;
    if let Some(support) = put.client.origins.get(&origin).support {
        return Ok(support);
    }
    let (response, version) = send_options(put, connection).await?;
    let is_success = response.status.is_success();
    let support =
        if is_success { support_in(&response.fields, version) } else { ServerSupport::Unknown(version) };
    tracing::debug!(url = %put.url, ?support, "asked the server for its upload protocol");
    let tus = Capabilities::of(&response.fields).filter(|_| is_success);
    put.client.origins.update(&origin, |facts| (facts.support, facts.tus) = (Some(support), tus));
    Ok(support)
}

/// Returns the capabilities of a server of tus 1.0, from the cache or by asking the server.
pub(crate) async fn tus_capabilities(
    put: &Put,
    connection: &mut ReusedConnection,
) -> Result<Capabilities, Error> {
    if let Some(ServerSupport::Tus1(capabilities)) = put.client.origins.get(&Origin::of(&put.url)?).support {
        return Ok(capabilities);
    }
    let (response, _) = send_options(put, connection).await?;
    Ok(Capabilities::of(&response.fields).unwrap_or(Capabilities::assumed()))
}

/// Sends a query to a URL that may be that of an upload. If it is not, the server may answer with any error, so only
/// the statuses that ask the client to wait are retried.
pub(crate) async fn query_upload(
    put: &Put,
    connection: &mut ReusedConnection,
    head: impl Fn() -> Request<()>,
) -> Result<FinalResponse, Error> {
    query(put, connection, head, |status| matches!(status.as_u16(), 423 | 429 | 503)).await
}

/// Returns whether a response has a field that only servers with an upload protocol send.
pub(crate) fn has_protocol_fields(fields: &HeaderMap) -> bool {
    fields.keys().any(|name| name.as_str().starts_with("upload-") || name.as_str() == "tus-resumable")
}

/// Sends `OPTIONS` in one version after the other until the server does not refuse it. Returns the version, too.
//= IETF-VER-11
async fn send_options(
    put: &Put,
    connection: &mut ReusedConnection,
) -> Result<(FinalResponse, Interop), Error> {
    let asks_to_retry = |status| StatusClass::of(status) == StatusClass::Retry;
    let mut first = None;
    for version in VERSIONS {
        let response = query(put, connection, || options(&put.url, version), asks_to_retry).await?;
        if !refuses_version(response.status, &response.fields) {
            return Ok((response, version));
        }
        first.get_or_insert((response, version));
    }
    // The server refuses the method, not the version.
    Ok(first.expect("there is a version"))
}

fn options(url: &Uri, version: Interop) -> Request<()> {
    let request = Request::builder().method(Method::OPTIONS).uri(request_target(url)).body(());
    let mut head = request.expect("the path of a URL is a URI");
    if let Some(number) = version.number() {
        head.headers_mut().insert(INTEROP_VERSION, number.into());
    }
    head
}

/// Sends a request without content until its response is final or the retries are used up.
async fn query(
    put: &Put,
    connection: &mut ReusedConnection,
    head: impl Fn() -> Request<()>,
    asks_to_retry: fn(StatusCode) -> bool,
) -> Result<FinalResponse, Error> {
    let (retries, caller_origin) = (put.client.settings.retries, Origin::of(&put.url)?);
    let (mut retry_clock, mut attempts) = (RetryClock::default(), 0);
    loop {
        let (began, patience) = (clock::now(), retry_clock.patience(&put.retry_context()?));
        let connector = &put.client.connector;
        let result = connection.query(connector, &put.url, head(), &caller_origin, began, patience).await;
        let (error, after) = match result {
            Ok(response) if !asks_to_retry(response.status) => {
                put.client.origins.note_progress(&caller_origin);
                return Ok(response);
            }
            Ok(response) => {
                let (status, detail) = (response.status, response.problem_detail());
                (Error::Refused { status, detail }, status::retry_after(&response.fields))
            }
            Err(ExchangeError { error, .. }) if error.ends_an_attempt() => (error, None),
            Err(ExchangeError { error, .. }) => return Err(error),
        };
        attempts += 1;
        let Some(pause) = retries.pause(attempts, Duration::ZERO, after, random::number()?) else {
            return Err(Error::Exhausted { attempts, concerns_origin: true, source: Box::new(error) });
        };
        let since = silent_since(&error, began);
        let pause = retry_clock.fail(&put.retry_context()?, error, since, pause)?;
        put.reporter.update(|progress| progress.activity = Activity::Waiting(pause));
        tokio::time::sleep(pause).await;
        put.reporter.update(|progress| progress.activity = Activity::Preparing);
    }
}

/// Reads the upload protocol of a server from its response to a request in `version`.
fn support_in(fields: &HeaderMap, version: Interop) -> ServerSupport {
    let accepted = fields.get_all(ACCEPT_PATCH).iter().filter_map(|value| value.to_str().ok());
    let accepts_appends = accepted.flat_map(|line| line.split(',')).any(|media_type| {
        let essence = media_type.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(PARTIAL_UPLOAD)
    });
    if accepts_appends || fields.contains_key(UPLOAD_LIMIT) {
        return ServerSupport::Ietf(version_in(fields).unwrap_or(version));
    }
    Capabilities::of(fields).map_or(ServerSupport::Unknown(version), ServerSupport::Tus1)
}

/// Returns the interop version that a response names.
pub(crate) fn version_in(fields: &HeaderMap) -> Option<Interop> {
    field::integer(fields, &INTEROP_VERSION).ignoring_malformed().and_then(Interop::of_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_read_from_the_fields_of_a_response() {
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
            let support = format!("{:?}", support_in(&parsed.collect(), Interop::V10));
            assert!(support.starts_with(expected), "{lines:?}: {support}");
        }
    }
}
