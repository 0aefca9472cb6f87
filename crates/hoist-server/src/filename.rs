//! Sanitising of file names that clients chose.
//!
//! Owns the rules for a name that reaches a file system.

use std::borrow::Cow;

use hoist_proto::hex;
use hoist_proto::upload::Origin;
use http::{HeaderMap, header};

/// The most octets in a file name. Most file systems allow 255, and a suffix may be added.
pub(crate) const OCTETS_MAX: usize = 200;

/// Returns the name that the creation request gave its content: in `Content-Disposition`, or else as the last segment of
/// its path below `endpoint`. The name is safe as one path segment.
//= TOK-CRE-07, IETF-CRE-15, IETF-SEC-04
pub(crate) fn of(origin: &Origin, endpoint: &str) -> Option<String> {
    let given = from_disposition(&origin.fields).or_else(|| from_target(&origin.target, endpoint))?;
    sanitise(&given)
}

fn from_target(target: &str, endpoint: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let below = path.strip_prefix(endpoint.trim_end_matches('/'))?;
    let last = below.rsplit('/').next().filter(|segment| !segment.is_empty())?;
    Some(percent_decoded(last))
}

/// Returns `filename*` (RFC 8187), or else `filename`.
pub(crate) fn from_disposition(fields: &HeaderMap) -> Option<String> {
    let value = fields.get(header::CONTENT_DISPOSITION)?;
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut plain = None;
    for (name, value) in parameters(&text) {
        match name.to_ascii_lowercase().as_str() {
            "filename*" => {
                if let [charset, _, encoded] = value.splitn(3, '\'').collect::<Vec<_>>()[..]
                    && charset.eq_ignore_ascii_case("utf-8")
                {
                    return Some(percent_decoded(encoded));
                }
            }
            "filename" => plain = plain.or(Some(value)),
            _ => {}
        }
    }
    plain
}

/// Returns the parameters of a disposition or media type, with quoted strings unquoted. Skips what does not parse.
pub(crate) fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, behind)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_owned();
        let behind = behind.trim_start();
        let value;
        (value, rest) = if let Some(quoted) = behind.strip_prefix('"') {
            let (value, rest) = unquoted(quoted);
            (value, rest.unwrap_or_default())
        } else {
            let (value, rest) = behind.split_once(';').unwrap_or((behind, ""));
            (value.trim().to_owned(), rest)
        };
        found.push((name, value));
    }
    found
}

/// Reads a quoted string after its opening quote. Returns the rest of the text, unless the string does not end.
pub(crate) fn unquoted(text: &str) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, char)) = chars.next() {
        match char {
            '"' => return (value, Some(&text[place + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(char),
        }
    }
    (value, None)
}

pub(crate) fn percent_decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits =
            behind.get(..2).filter(|_| *first == b'%').and_then(|digits| str::from_utf8(digits).ok());
        if let Some(octet) = digits.and_then(hex::decode) {
            octets.extend(octet);
            rest = &behind[2..];
        } else {
            octets.push(*first);
            rest = behind;
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Returns `given` as one safe path segment, or `None` if no character is left.
pub(crate) fn sanitise(given: &str) -> Option<String> {
    // Some clients send a whole path of their own file system.
    let last = given.rsplit(['/', '\\']).find(|segment| !segment.trim().is_empty())?;
    // No hidden files.
    sanitise_segment(last, &['.', '-', '~', ' '])
}

/// Returns `given` without the characters that are not safe in one path segment, and without those of `not_first` at its
/// beginning, or `None` if no character is left.
pub(crate) fn sanitise_segment(given: &str, not_first: &[char]) -> Option<String> {
    let harmless: String = given.chars().filter(|char| is_harmless(*char)).collect();
    let name = shortened(&harmless);
    // No `.` and `..`, and no ends that are special to a shell or to Windows.
    let name = name.trim().trim_start_matches(not_first).trim_end_matches(['.', ' ']);
    if name.is_empty() {
        return None;
    }
    Some(if is_device(name) { format!("_{name}") } else { name.to_owned() })
}

/// Shortens a name to [`OCTETS_MAX`] octets by cutting its middle, so that the extension stays.
fn shortened(name: &str) -> Cow<'_, str> {
    if name.len() <= OCTETS_MAX {
        return Cow::Borrowed(name);
    }
    let beginning = &name[..name.floor_char_boundary(OCTETS_MAX / 2)];
    let end = &name[name.ceil_char_boundary(name.len() - OCTETS_MAX / 2)..];
    Cow::Owned([beginning, end].concat())
}

fn is_harmless(char: char) -> bool {
    let is_bidi_control =
        matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !char.is_control()
        && !is_bidi_control
        && !matches!(char, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Returns whether a name is that of a device on Windows, with any extension.
pub(crate) fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit())
    };
    matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    fn name(disposition: Option<&[u8]>, target: &str) -> Option<String> {
        let value = disposition.map(|value| HeaderValue::from_bytes(value).expect("a field value"));
        let fields = value.map(|value| (header::CONTENT_DISPOSITION, value)).into_iter().collect();
        of(&Origin { method: Method::POST, target: target.into(), fields }, "/uploads")
    }

    // proves: TOK-CRE-07
    #[test]
    fn names_are_read_from_the_request_and_sanitised() {
        type Case = (Option<&'static [u8]>, &'static str, Option<&'static str>);
        let cases: [Case; 22] = [
            (None, "/uploads", None),
            (None, "/uploads/", None),
            (None, "/uploads/report.pdf", Some("report.pdf")),
            (None, "/uploads/a%20b%2f..%2fc.txt?x=/y", Some("c.txt")),
            (None, "/uploads/%00%2e%2e", None),
            (None, "/uploads/%zz", Some("%zz")),
            (Some(b"attachment; filename=plain.txt"), "/uploads/other", Some("plain.txt")),
            (
                Some(br#"attachment; filename="with \"quotes\"; and.txt""#),
                "/uploads",
                Some("with quotes; and.txt"),
            ),
            (
                Some(b"attachment; filename=a.txt; filename*=UTF-8''na%C3%AFve.txt"),
                "/uploads",
                Some("na\u{ef}ve.txt"),
            ),
            (Some(b"attachment; filename*=utf-8'en'%e2%82%ac.txt"), "/uploads", Some("\u{20ac}.txt")),
            (Some(br#"attachment; filename="../../etc/passwd""#), "/uploads", Some("passwd")),
            (Some(br#"attachment; filename="C:\\Windows\\system.ini""#), "/uploads", Some("system.ini")),
            (Some(br#"attachment; filename="..""#), "/uploads", None),
            (Some(br#"attachment; filename=".bashrc""#), "/uploads", Some("bashrc")),
            (Some(br#"attachment; filename="-rf""#), "/uploads", Some("rf")),
            (Some(br#"attachment; filename="nul.txt""#), "/uploads", Some("_nul.txt")),
            (Some(br#"attachment; filename="COM7""#), "/uploads", Some("_COM7")),
            (Some(b"attachment; filename=\"caf\xe9\""), "/uploads", Some("caf\u{fffd}")),
            (Some(b"attachment; filename=\"\xe2\x80\xaetxt.exe\""), "/uploads", Some("txt.exe")),
            (Some(b"attachment; filename=\"open"), "/uploads", Some("open")),
            (Some(b"attachment; filename"), "/uploads", None),
            (Some(b";;;=;=\"\\"), "/uploads", None),
        ];
        for (disposition, target, expected) in cases {
            assert_eq!(name(disposition, target).as_deref(), expected, "{disposition:?} {target}");
        }
    }

    #[test]
    fn long_names_keep_their_ends() {
        let name = sanitise(&format!("{}{}.tar.gz", "\u{20ac}".repeat(300), "x")).expect("not empty");
        assert!(
            name.len() <= OCTETS_MAX && name.ends_with("x.tar.gz") && name.starts_with('\u{20ac}'),
            "{name}"
        );
    }
}
