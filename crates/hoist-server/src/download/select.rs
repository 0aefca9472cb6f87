//! Preconditions and ranges of a download request (RFC 9110).
//!
//! Pure functions of the header fields. There is one strong validator and no date, so a condition on a date never holds.

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, header};

/// The content that a request selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selected {
    Whole,
    Part(RangeInclusive<u64>),
    /// Nothing: the client has the current content.
    Unmodified,
    /// Nothing: a precondition failed.
    Failed,
    /// Nothing: the range is outside of the content.
    Unsatisfiable,
}

/// Selects what to send of `length` bytes with the entity tag `tag`.
///
/// Several ranges and malformed ranges are answered with the whole content (RFC 9110, Range).
pub(super) fn select(fields: &HeaderMap, tag: &str, length: u64) -> Selected {
    if fields.contains_key(header::IF_MATCH) && !names(fields, &header::IF_MATCH, tag, Weak::Differs) {
        return Selected::Failed;
    }
    if names(fields, &header::IF_NONE_MATCH, tag, Weak::IsEqual) {
        return Selected::Unmodified;
    }
    let if_range = fields.get(header::IF_RANGE);
    if if_range.is_some_and(|condition| condition.as_bytes() != tag.as_bytes()) {
        return Selected::Whole;
    }
    let mut lines = fields.get_all(header::RANGE).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().map_or(Selected::Whole, |line| range(line, length)),
        _ => Selected::Whole,
    }
}

/// The comparison of a weak tag with the strong one of the same text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weak {
    IsEqual,
    Differs,
}

/// Returns whether a list of entity tags contains `tag` or is `*`.
fn names(fields: &HeaderMap, name: &HeaderName, tag: &str, weak: Weak) -> bool {
    let lines = fields.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.into_iter().any(|line| {
        let mut rest = line.trim();
        if rest == "*" {
            return true;
        }
        while !rest.is_empty() {
            rest = rest.trim_start_matches([',', ' ', '\t']);
            let (is_weak, opaque) = rest.strip_prefix("W/").map_or((false, rest), |opaque| (true, opaque));
            // A tag may contain a comma, so the list cannot be split at commas.
            let end = opaque.strip_prefix('"').and_then(|inner| inner.find('"'));
            let Some(end) = end.map(|end| end + 2) else { return false };
            if &opaque[..end] == tag && (!is_weak || weak == Weak::IsEqual) {
                return true;
            }
            rest = &opaque[end..];
        }
        false
    })
}

fn range(line: &str, length: u64) -> Selected {
    let Some((unit, set)) = line.split_once('=') else { return Selected::Whole };
    let Some((first, last)) = set.trim().split_once('-') else { return Selected::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Selected::Whole;
    }
    match (position(first), position(last)) {
        (Position::Is(first), Position::Is(last)) if first > last => Selected::Whole,
        (Position::Is(first), Position::Is(_) | Position::Absent) if first >= length => {
            Selected::Unsatisfiable
        }
        (Position::Is(first), Position::Is(last)) => Selected::Part(first..=last.min(length - 1)),
        (Position::Is(first), Position::Absent) => Selected::Part(first..=length - 1),
        (Position::Absent, Position::Is(0)) => Selected::Unsatisfiable,
        // A suffix range of empty content is all of it.
        (Position::Absent, Position::Is(_)) if length == 0 => Selected::Whole,
        (Position::Absent, Position::Is(count)) => Selected::Part(length.saturating_sub(count)..=length - 1),
        (Position::Absent, Position::Absent) | (Position::Wrong, _) | (_, Position::Wrong) => Selected::Whole,
    }
}

enum Position {
    Is(u64),
    Absent,
    Wrong,
}

fn position(text: &str) -> Position {
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() {
        return Position::Absent;
    }
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Position::Wrong;
    }
    // A number that does not fit is beyond any content.
    Position::Is(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn selected(lines: &[(HeaderName, &str)], length: u64) -> Selected {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        select(&fields, "\"a,b\"", length)
    }

    #[test]
    fn one_range_is_one_range() {
        use Selected::{Part, Unsatisfiable, Whole};
        let cases = [
            ("bytes=0-0", 10, Part(0..=0)),
            ("bytes=2-5", 10, Part(2..=5)),
            ("Bytes = 2 - 5", 10, Part(2..=5)),
            ("bytes=2-", 10, Part(2..=9)),
            ("bytes=0-99", 10, Part(0..=9)),
            ("bytes=9-18446744073709551616", 10, Part(9..=9)),
            ("bytes=-3", 10, Part(7..=9)),
            ("bytes=-99", 10, Part(0..=9)),
            ("bytes=-99999999999999999999", 10, Part(0..=9)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999-", 10, Unsatisfiable),
            ("bytes=10-12", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=-1", 0, Whole),
            ("bytes=5-2", 10, Whole),
            ("bytes=0-1,4-5", 10, Whole),
            ("bytes=0-1,", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=--1", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes", 10, Whole),
            ("lines=1-2", 10, Whole),
            ("bytes=\u{e9}-2", 10, Whole),
            ("", 10, Whole),
        ];
        for (line, length, expected) in cases {
            assert_eq!(selected(&[(header::RANGE, line)], length), expected, "{line} of {length}");
        }
        let two = [(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=2-3")];
        assert_eq!(selected(&two, 10), Whole);
        assert_eq!(selected(&[], 10), Whole);
    }

    #[test]
    fn conditions_come_before_ranges() {
        use Selected::{Failed, Part, Unmodified, Whole};
        let (range, none, some) = (header::RANGE, header::IF_NONE_MATCH, header::IF_MATCH);
        let cases = [
            (&none, "\"a,b\"", Unmodified),
            (&none, "W/\"a,b\"", Unmodified),
            (&none, "\"x\", W/\"y,\" ,\"a,b\"", Unmodified),
            (&none, " * ", Unmodified),
            (&none, "\"a\", \"b\"", Part(0..=1)),
            (&none, "a,b", Part(0..=1)),
            (&none, "\"open", Part(0..=1)),
            (&none, "W/", Part(0..=1)),
            (&none, "", Part(0..=1)),
            (&some, "\"a,b\"", Part(0..=1)),
            (&some, "*", Part(0..=1)),
            (&some, "W/\"a,b\"", Failed),
            (&some, "\"x\"", Failed),
            (&some, "", Failed),
            (&header::IF_RANGE, "\"a,b\"", Part(0..=1)),
            (&header::IF_RANGE, "W/\"a,b\"", Whole),
            (&header::IF_RANGE, "\"x\"", Whole),
            (&header::IF_RANGE, "Wed, 25 Nov 2026 22:00:00 GMT", Whole),
            (&header::IF_MODIFIED_SINCE, "Wed, 25 Nov 2099 22:00:00 GMT", Part(0..=1)),
        ];
        for (name, value, expected) in cases {
            let lines = [(range.clone(), "bytes=0-1"), (name.clone(), value)];
            assert_eq!(selected(&lines, 10), expected, "{name}: {value}");
        }
    }
}
