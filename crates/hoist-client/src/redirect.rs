//! Answers that lead elsewhere: 307 and 308 are followed, others are reported with where they lead.

use hoist_proto::client::resolve;
use hoist_proto::dialect::answer::{self, Redirection};
use hoist_proto::dialect::{CLIENT_UPLOAD_TOKEN, UPLOAD_COMPLETE, UPLOAD_TOKEN};
use hoist_proto::field::{self, Field};
use http::{HeaderMap, HeaderValue, Request, Uri, header};

use crate::error::Error;
use crate::http::FinalResponse;
use crate::location;
use crate::origin::Origin;

/// Redirections of one request that are followed.
const HOPS_MAX: usize = 5;

/// The redirections of one request.
#[derive(Debug, Default)]
pub(crate) struct Hops(usize);

impl Hops {
    /// The URL at which to make a request again that was sent to `url`. None where the answer does not ask for that.
    ///
    /// # Errors
    /// [`Error::Redirected`] where the answer asks for it and leads to where the request must not go.
    //= IETF-CLI-07, IETF-CLI-12
    pub(crate) fn next(
        &mut self,
        head: &Request<()>,
        url: &Uri,
        answer: &FinalResponse,
    ) -> Result<Option<Uri>, Error> {
        let repeats = matches!(answer::redirection(answer.status), Some(Redirection::Repeat { .. }));
        // The answer of the target itself, which may be anything.
        let is_final = field::boolean(&answer.fields, &UPLOAD_COMPLETE) == Field::Is(true);
        let Some(text) = leads_to(&answer.fields).filter(|_| repeats && !is_final) else { return Ok(None) };
        let refused = |wrong| Error::Redirected { status: answer.status, to: text.to_owned(), wrong };
        let named = resolve(url, text).ok_or_else(|| refused(Some("is not a url")))?;
        let next = location::followed(url, &named).map_err(|error| match error {
            Error::Location { wrong, .. } => refused(Some(wrong)),
            error => error,
        })?;
        let has_token =
            [UPLOAD_TOKEN, CLIENT_UPLOAD_TOKEN].iter().any(|name| head.headers().contains_key(name));
        if has_token && Origin::of(&next)? != Origin::of(url)? {
            return Err(refused(Some("is another server, which must not see the upload's token")));
        }
        self.0 += 1;
        if self.0 > HOPS_MAX {
            return Err(refused(Some("is one redirection too many")));
        }
        // An upload's URL may be a capability, so the log has the origin alone.
        tracing::debug!(to = %Origin::of(&next)?, status = %answer.status, "following a redirection");
        Ok(Some(next))
    }
}

/// True if an answer leads elsewhere for good.
pub(crate) fn is_permanent(answer: &FinalResponse) -> bool {
    answer::redirection(answer.status) == Some(Redirection::Repeat { permanent: true })
}

/// The error of an answer that leads elsewhere and was not followed.
pub(crate) fn error(answer: &FinalResponse) -> Option<Error> {
    answer::redirection(answer.status)?;
    let to = leads_to(&answer.fields)?.to_owned();
    Some(Error::Redirected { status: answer.status, to, wrong: None })
}

/// The error of an answer to a request for `url` whose `Location` cannot be read.
pub(crate) fn unreadable(answer: &FinalResponse, url: &Uri) -> Option<Error> {
    let text = leads_to(&answer.fields)?;
    let wrong = "is not a url";
    resolve(url, text).is_none().then(|| Error::Location { url: text.to_owned(), wrong })
}

/// Makes a `Location` absolute that is seen from `url`, where the upload was begun at another URL.
pub(crate) fn rebase(fields: &mut HeaderMap, url: &Uri) {
    let absolute = leads_to(fields).and_then(|text| resolve(url, text));
    if let Some(Ok(value)) = absolute.map(|url| HeaderValue::try_from(url.to_string())) {
        fields.insert(header::LOCATION, value);
    }
}

/// The path and query of a URL, as a request to its server has them.
pub(crate) fn target(url: &Uri) -> Uri {
    let path = url.path_and_query().map_or("/", |target| target.as_str());
    path.parse().expect("a URL's path is a URI")
}

fn leads_to(fields: &HeaderMap) -> Option<&str> {
    fields.get(header::LOCATION)?.to_str().ok()
}
