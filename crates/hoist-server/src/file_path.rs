//! Sanitising of paths that clients chose: the directories and the name of a file, relative to a directory of the client.
//!
//! Owns the rules for a path that reaches a file system. Leaves those for its segments to [`filename`].

use hoist_proto::dialect::tus1::{UPLOAD_METADATA, metadata};
use hoist_proto::types::UploadId;
use hoist_proto::upload::Origin;

use crate::filename;

/// The most segments of a path, and its most octets, as far as clients choose them. Other programs have to open the file by
/// its whole path, of which most systems allow 4096 octets.
const SEGMENTS_MAX: usize = 32;
const OCTETS_MAX: usize = 2048;

/// Returns the relative path that the creation request gave its content: in `relativePath` of the tus metadata, or else in
/// `Content-Disposition`, or else as its path below `endpoint`. Each segment is safe. Returns `None` if there is no such
/// path, or if it is absolute, leads upwards, or is too long or too deep: the caller then uses the name alone.
//= TOK-CRE-07, IETF-CRE-15, IETF-SEC-04
pub(crate) fn of(origin: &Origin, endpoint: &str) -> Option<String> {
    let given = from_metadata(origin)
        .or_else(|| filename::from_disposition(&origin.fields))
        .or_else(|| from_target(&origin.target, endpoint))?;
    sanitise(&given)
}

fn from_metadata(origin: &Origin) -> Option<String> {
    let metadata = metadata::read(origin.fields.get(UPLOAD_METADATA)?.as_bytes()).ok()?;
    metadata::relative_path(&metadata).map(ToOwned::to_owned)
}

fn from_target(target: &str, endpoint: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let below = path.strip_prefix(endpoint.trim_end_matches('/'))?.trim_start_matches('/');
    Some(filename::percent_decoded(below)).filter(|below| !below.is_empty())
}

fn sanitise(given: &str) -> Option<String> {
    // Windows clients separate with backslashes, and name drives before a colon.
    let is_separator = |char| matches!(char, '/' | '\\');
    let has_drive = matches!(given.as_bytes(), [b'a'..=b'z' | b'A'..=b'Z', b':', b'/' | b'\\', ..]);
    if given.starts_with(is_separator) || has_drive {
        return None;
    }
    let mut path = String::new();
    let segments = given.split(is_separator).filter(|segment| !matches!(*segment, "" | "."));
    for (number, segment) in segments.enumerate() {
        // The segments of `..` with spaces or dots after it would become empty, too.
        let segment = sanitise_segment(segment)?;
        if number > 0 {
            path.push('/');
        }
        path.push_str(&segment);
        if number >= SEGMENTS_MAX || path.len() > OCTETS_MAX {
            return None;
        }
    }
    (!path.is_empty()).then_some(path)
}

/// Returns `given` as one safe segment. A dot at its beginning stays, because a tree without its hidden files is another
/// tree.
fn sanitise_segment(given: &str) -> Option<String> {
    let is_hidden = given.trim_start().starts_with('.');
    let not_first: &[char] = if is_hidden { &['-', '~', ' '] } else { &['.', '-', '~', ' '] };
    let segment = filename::sanitise_segment(given, not_first)?;
    // The name under which the store creates a file, which it replaces if it is there.
    let own = segment.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part"));
    if own.is_some_and(|id| id.to_ascii_lowercase().parse::<UploadId>().is_ok()) {
        return Some(segment[1..].to_owned());
    }
    Some(segment)
}

/// Returns whether a path that the operator's program chose is relative, leads nowhere but down, and is one that a store takes.
pub(crate) fn is_relative(path: &str) -> bool {
    let is_own = |segment: &str| {
        let own = segment.strip_prefix('.').and_then(|rest| rest.strip_suffix(".part"));
        own.is_some_and(|id| id.to_ascii_lowercase().parse::<UploadId>().is_ok())
    };
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.len() <= filename::OCTETS_MAX
            && !segment.contains('\0')
            && !is_own(segment)
    };
    path.len() <= OCTETS_MAX && path.split('/').count() <= SEGMENTS_MAX && path.split('/').all(is_segment)
}

/// Returns the name of a user as one path segment. Different users have different segments: every octet that is not
/// harmless in all places is percent-encoded.
pub(crate) fn of_user(name: &str) -> String {
    use sha2::{Digest as _, Sha256};
    use std::fmt::Write as _;

    let mut segment = String::new();
    for (at, octet) in name.bytes().enumerate() {
        let is_plain =
            octet.is_ascii_alphanumeric() || b"_@+".contains(&octet) || (at > 0 && b"-.".contains(&octet));
        let is_last = at + 1 == name.len();
        if is_plain && !(is_last && octet == b'.') {
            segment.push(char::from(octet));
        } else {
            let _ = write!(segment, "%{octet:02X}");
        }
    }
    if filename::is_device(&segment) {
        let first = segment.remove(0);
        segment.insert_str(0, &format!("%{:02X}", u32::from(first)));
    }
    if segment.is_empty() {
        return "%".to_owned();
    }
    if segment.len() > filename::OCTETS_MAX {
        // `%-` is not the beginning of an encoded octet, so no shorter name has this segment.
        let digest = hoist_proto::hex::encode(&Sha256::digest(name)[..16]);
        segment.truncate(filename::OCTETS_MAX - digest.len() - 2);
        let _ = write!(segment, "%-{digest}");
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_a_path_are_safe_and_unsafe_paths_are_no_paths() {
        let cases: [(&str, Option<&str>); 28] = [
            ("films/old/a.mkv", Some("films/old/a.mkv")),
            ("films\\old\\a.mkv", Some("films/old/a.mkv")),
            ("a.mkv", Some("a.mkv")),
            ("./a//b/./c/", Some("a/b/c")),
            (".git/.gitignore", Some(".git/.gitignore")),
            ("..a/...b", Some("..a/...b")),
            ("a/-rf", Some("a/rf")),
            ("~root/a", Some("root/a")),
            ("a/nul.txt/COM1", Some("a/_nul.txt/_COM1")),
            ("a /b. /c", Some("a/b/c")),
            ("a\n\u{1b}[2J/b\0", Some("a[2J/b")),
            ("a/b:c*?\"<>|d", Some("a/bcd")),
            ("a/\u{202e}b", Some("a/b")),
            ("na\u{ef}ve/\u{20ac}", Some("na\u{ef}ve/\u{20ac}")),
            ("", None),
            ("/", None),
            (".", None),
            ("..", None),
            ("../a", None),
            ("a/../b", None),
            ("a/..", None),
            ("a\\..\\..\\b", None),
            ("a/.. /b", None),
            ("a/.\0./b", None),
            ("a/:/b", None),
            ("/etc/passwd", None),
            ("\\\\server\\share", None),
            ("C:\\Windows\\a", None),
        ];
        for (given, expected) in cases {
            assert_eq!(sanitise(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn a_chosen_path_leads_down_only() {
        let own = format!("a/.{}.part", UploadId::from_bits([7; 16]));
        for good in ["a", "a/b c/.d", "..a/b"] {
            assert!(is_relative(good), "{good}");
        }
        let (deep, long) = (vec!["a"; SEGMENTS_MAX + 1].join("/"), "n".repeat(filename::OCTETS_MAX + 1));
        for bad in ["", "/a", "a/", "a//b", "..", "a/../../b", "./a", "a\0b", &own, &deep, &long] {
            assert!(!is_relative(bad), "{bad:?}");
        }
    }

    #[test]
    fn deep_and_long_paths_are_no_paths() {
        assert!(sanitise(&vec!["a"; SEGMENTS_MAX].join("/")).is_some());
        assert_eq!(sanitise(&vec!["a"; SEGMENTS_MAX + 1].join("/")), None);
        let long = ["n".repeat(5000), "m".repeat(100)].join("/");
        assert_eq!(sanitise(&long).map(|path| path.len()), Some(301), "a long segment is shortened");
        assert_eq!(sanitise(&vec!["n".repeat(150); 14].join("/")), None);
    }

    #[test]
    fn no_path_has_a_name_that_the_store_uses_itself() {
        let id = UploadId::from_bits([7; 16]);
        assert_eq!(sanitise(&format!("a/.{id}.part")), Some(format!("a/{id}.part")));
        assert_eq!(sanitise("a/.b.part").as_deref(), Some("a/.b.part"));
        assert_eq!(sanitise("a/*.glob").as_deref(), Some("a/glob"), "a name becomes hidden by no removal");
    }

    #[test]
    fn different_users_have_different_segments() {
        let long = "x".repeat(300);
        let cases = [
            ("alice", "alice"),
            ("bob@example.org", "bob@example.org"),
            ("https://id.example 42", "https%3A%2F%2Fid.example%2042"),
            ("..", "%2E%2E"),
            (".a", "%2Ea"),
            ("a.", "a%2E"),
            ("-a", "%2Da"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("nul", "%6Eul"),
            ("\u{e9}", "%C3%A9"),
            ("", "%"),
        ];
        for (name, expected) in cases {
            assert_eq!(of_user(name), expected, "{name:?}");
            assert_eq!(filename::sanitise_segment(expected, &['.', '-']).as_deref(), Some(expected));
        }
        let (one, other) = (of_user(&format!("{long}1")), of_user(&format!("{long}2")));
        assert!(one != other && one.len() == filename::OCTETS_MAX, "{one} {other}");
        assert!(of_user(&"\u{e9}".repeat(300)).is_char_boundary(10));
    }
}
