//! The client's half of uploads without a dialect.

use http::Request;

use super::super::client::{Intent, method};

/// Writes an ordinary request.
///
/// # Errors
/// Returns an error if `target` is not the target of a request.
pub(crate) fn request(target: &str, intent: &Intent<'_>) -> Result<Request<()>, http::Error> {
    let mut head = Request::builder().method(method(intent)).uri(target).body(())?;
    if let Intent::Create { origin, .. } = intent {
        head.headers_mut().extend(origin.fields.clone());
    }
    Ok(head)
}
