//! The URL that a `Location` refers to.

use http::Uri;

/// Resolves a `Location` against the target of the request (RFC 3986, Reference Resolution). Dot segments are left to the
/// server that wrote them.
pub fn resolve(target: &Uri, location: &str) -> Option<Uri> {
    let reference = location.split('#').next().unwrap_or_default();
    let is_absolute = reference.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    let origin = match (target.scheme_str(), target.authority()) {
        (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
        _ => String::new(),
    };
    let text = match reference {
        "" => return None,
        _ if is_absolute => reference.to_owned(),
        _ if reference.starts_with("//") => format!("{}:{reference}", target.scheme_str()?),
        _ if reference.starts_with('/') => format!("{origin}{reference}"),
        _ if reference.starts_with('?') => format!("{origin}{}{reference}", target.path()),
        _ => {
            let folder = target.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{origin}{folder}/{reference}")
        }
    };
    text.parse().ok()
}
