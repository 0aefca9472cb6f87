//! The key of an upload URL in the journal.

use http::Uri;

use crate::origin::Origin;

/// Returns the key of an upload URL in the [journal](super::Journal). URLs have the same key if they differ only in slashes
/// at the end of the path, the case of scheme and host, or the default port.
pub fn target_key(url: &Uri) -> String {
    key_with_path(url, url.path().trim_end_matches('/'))
}

/// Returns the keys that older versions may have used for the same upload URL.
pub(super) fn legacy_keys(url: &Uri) -> [String; 3] {
    let path = url.path().trim_end_matches('/');
    [url.to_string(), key_with_path(url, path), key_with_path(url, &format!("{path}/"))]
}

fn key_with_path(url: &Uri, path: &str) -> String {
    let Ok(origin) = Origin::parse(url) else { return url.to_string() };
    // Older versions used the URL itself, which always has a path.
    let path = if path.is_empty() { "/" } else { path };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{origin}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_urls_have_one_key_which_is_a_url() {
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
