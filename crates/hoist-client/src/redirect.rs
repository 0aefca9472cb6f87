//! Redirects: 307 and 308 are followed, others are reported with the URL they lead to.

use hoist_proto::client::resolve;
use hoist_proto::dialect::status::{self, Redirection};
use hoist_proto::dialect::{CLIENT_UPLOAD_TOKEN, UPLOAD_COMPLETE, UPLOAD_TOKEN};
use hoist_proto::field::{self, Field};
use http::{Request, Uri};

use crate::error::Error;
use crate::location::{follow, location_field};
use crate::origin::Origin;
use crate::response::FinalResponse;

/// Redirects of one request that are followed.
const REDIRECTS_MAX: usize = 5;

/// The number of redirects that one request has followed.
#[derive(Debug, Default)]
pub(crate) struct Redirects(usize);

impl Redirects {
    /// Returns the URL at which to repeat a request that was sent to `url`, or `None` if the response is no redirect to
    /// be followed.
    ///
    /// # Errors
    /// Returns [`Error::Redirected`] if the redirect leads to a URL that the request must not be sent to.
    //= IETF-CLI-07, IETF-CLI-12
    pub(crate) fn next(
        &mut self,
        head: &Request<()>,
        url: &Uri,
        response: &FinalResponse,
    ) -> Result<Option<Uri>, Error> {
        let repeats = matches!(status::redirection(response.status), Some(Redirection::Repeat { .. }));
        // The response of the target resource itself, which may have any status.
        let is_final = field::boolean(&response.fields, &UPLOAD_COMPLETE) == Field::Is(true);
        let Some(text) = location_field(&response.fields).filter(|_| repeats && !is_final) else {
            return Ok(None);
        };
        let refused = |wrong| Error::Redirected { status: response.status, to: text.to_owned(), wrong };
        let named = resolve(url, text).ok_or_else(|| refused(Some("is not a url")))?;
        let next = follow(url, &named).map_err(|error| match error {
            Error::Location { wrong, .. } => refused(Some(wrong)),
            error => error,
        })?;
        let has_token =
            [UPLOAD_TOKEN, CLIENT_UPLOAD_TOKEN].iter().any(|name| head.headers().contains_key(name));
        if has_token && Origin::of(&next)? != Origin::of(url)? {
            return Err(refused(Some("is another server, which must not see the upload's token")));
        }
        self.0 += 1;
        if self.0 > REDIRECTS_MAX {
            return Err(refused(Some("is one redirect too many")));
        }
        // The URL of an upload may be a capability, so only its origin is logged.
        tracing::debug!(to = %Origin::of(&next)?, status = %response.status, "following a redirect");
        Ok(Some(next))
    }
}

/// Returns whether the response is a permanent redirect of the kind that is followed.
pub(crate) fn is_permanent(response: &FinalResponse) -> bool {
    status::redirection(response.status) == Some(Redirection::Repeat { permanent: true })
}

/// Returns the error for a redirect that was not followed, or `None` if the response is no redirect.
pub(crate) fn error(response: &FinalResponse) -> Option<Error> {
    status::redirection(response.status)?;
    let to = location_field(&response.fields)?.to_owned();
    Some(Error::Redirected { status: response.status, to, wrong: None })
}
