//! The place a URL names, whichever way the URL is written.

use http::Uri;

use crate::origin::Origin;

/// The text by which the [journal](super::Journal) knows an upload URL. It is the same for two URLs that differ in nothing
/// but a slash at the end of the path, the case of scheme and host, or a port that is the scheme's own.
pub fn target_key(url: &Uri) -> String {
    key_with_path(url, url.path().trim_end_matches('/'))
}

/// The ways in which older versions may have been given the URL of the same place.
pub(super) fn legacy_keys(url: &Uri) -> [String; 3] {
    let path = url.path().trim_end_matches('/');
    [url.to_string(), key_with_path(url, path), key_with_path(url, &format!("{path}/"))]
}

fn key_with_path(url: &Uri, path: &str) -> String {
    let Ok(origin) = Origin::read(url) else { return url.to_string() };
    // A URL always has a path, and older versions named their entries by it.
    let path = if path.is_empty() { "/" } else { path };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{origin}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_text_which_older_versions_used_too() {
        let cases = [
            ("http://h/u", "http://h/u"),
            ("http://h/u/", "http://h/u"),
            ("http://h/u//", "http://h/u"),
            ("HTTP://H.Example:80/U", "http://h.example/U"),
            ("https://h:443/u?a=/", "https://h/u?a=/"),
            ("https://h:80/u/?a=b", "https://h:80/u?a=b"),
            ("http://[::1]:8080/", "http://[::1]:8080/"),
            ("http://h", "http://h/"),
        ];
        for (url, expected) in cases {
            let url: Uri = url.parse().expect("a URL");
            assert_eq!(target_key(&url), expected);
            let again: Uri = expected.parse().expect("a URL");
            assert_eq!((target_key(&again), again.to_string()), (expected.to_owned(), expected.to_owned()));
        }
    }
}
