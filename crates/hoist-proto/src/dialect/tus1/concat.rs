//! `Upload-Concat`: a partial upload, or the list of the partial uploads that a final upload concatenates.

use http::request::Parts;

use super::{UPLOAD_CONCAT, single_line};
use crate::refusal::Refusal;
use crate::types::UploadId;
use crate::upload::Composition;

/// Reads the field, or refuses it if it is malformed, names a URL that is no upload of this server, or is not enabled.
//= TUS1-CAT-06, TUS1-CAT-07, TUS1-DF-09
pub(super) fn read(head: &Parts, is_enabled: bool) -> Result<Composition, Refusal> {
    let refuse = |problem| Err(Refusal::field("Upload-Concat", problem));
    let Some(value) = single_line(&head.headers, &UPLOAD_CONCAT, "Upload-Concat")? else {
        return Ok(Composition::Direct);
    };
    if !is_enabled {
        return refuse("this server does not concatenate uploads");
    }
    let Ok(text) = std::str::from_utf8(value) else { return refuse("must contain URLs") };
    if text.trim() == "partial" {
        return Ok(Composition::Part);
    }
    let Some(urls) = text.trim().strip_prefix("final;") else {
        return refuse("must be `partial`, or `final;` and the URLs of partial uploads, separated by spaces");
    };
    let mut parts = Vec::new();
    let endpoint = EndpointPaths::of(head.uri.path());
    for url in urls.split_ascii_whitespace() {
        match endpoint.upload_id(url) {
            Some(id) => parts.push(id),
            None => return refuse("contains a URL that is not the URL of an upload on this server"),
        }
    }
    if parts.is_empty() { refuse("must name a partial upload") } else { Ok(Composition::Concatenated(parts)) }
}

/// The paths below which URLs of uploads may be: the target of the creation, and its parent in case the target has a
/// name.
struct EndpointPaths<'a> {
    target: &'a str,
    parent: Option<&'a str>,
}

impl<'a> EndpointPaths<'a> {
    fn of(target: &'a str) -> Self {
        let target = target.trim_end_matches('/');
        Self { target, parent: target.rsplit_once('/').map(|(parent, _)| parent) }
    }

    /// Returns the upload that a URL names. Only the path counts, because a proxy may change scheme and host.
    fn upload_id(&self, url: &str) -> Option<UploadId> {
        let path = match url.split_once("://") {
            Some((_, rest)) => &rest[rest.find('/')?..],
            None => url,
        };
        let path = path.split(['?', '#']).next()?;
        //= TUS1-DF-15
        let path = path.strip_suffix('/').unwrap_or(path);
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let is_below = above == self.target || Some(above) == self.parent || !path.contains('/');
        name.parse().ok().filter(|_| is_below)
    }
}
