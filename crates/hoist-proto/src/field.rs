//! Header fields as values: structured fields by `sfv`, and the looser syntax of tokens.
//!
//! Dialects treat a malformed field as an error or as absent, so each reader returns a [`Field`] and the dialect
//! decides.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Item, Parser};

use crate::types::{Durable, LARGEST_INTEGER, Length, Offset, PartNumber, Timestamp, Token};
use crate::upload::Part;

/// The value of one field of a header section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field<T> {
    /// The field is absent.
    Absent,
    /// The field is present and does not parse.
    Malformed,
    /// The field has this value.
    Is(T),
}

impl<T> Field<T> {
    /// Returns the value, treating a malformed field as absent.
    pub fn ignoring_malformed(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Malformed => None,
        }
    }

    /// Returns whether the field is present, malformed or not.
    pub fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }

    /// Parses the value. A value that does not parse is malformed.
    fn parse<U>(self, parse: impl FnOnce(T) -> Option<U>) -> Field<U> {
        match self {
            Self::Is(value) => parse(value).map_or(Field::Malformed, Field::Is),
            Self::Absent => Field::Absent,
            Self::Malformed => Field::Malformed,
        }
    }
}

/// Reads an Item that is an integer from 0 to 999,999,999,999,999 (RFC 9651, Integers). Parameters are ignored.
//= IETF-SF-01, IETF-SF-07
pub fn integer(fields: &HeaderMap, name: &HeaderName) -> Field<u64> {
    item(fields, name, |item| natural(&item))
}

/// Reads an Item that is a boolean, `?0` or `?1`. Parameters are ignored.
//= IETF-SF-02, IETF-SF-07
pub fn boolean(fields: &HeaderMap, name: &HeaderName) -> Field<bool> {
    item(fields, name, |item| item.as_boolean())
}

/// Reads the members of a Dictionary that have `known` keys, in the order of those. A known key whose value is not a
/// non-negative integer makes the field malformed. Unknown keys and parameters are ignored. Lines are joined.
pub fn integers<const N: usize>(
    fields: &HeaderMap,
    name: &HeaderName,
    known: [&str; N],
) -> Field<[Option<u64>; N]> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Field::Absent;
    }
    let Ok(members) = Parser::new(&lines.join(&b", "[..])).parse::<sfv::Dictionary>() else {
        return Field::Malformed;
    };
    let mut numbers = [None; N];
    for (number, key) in numbers.iter_mut().zip(known) {
        *number = match members.get(key) {
            None => None,
            Some(sfv::ListEntry::Item(item)) => match natural(&item.bare_item) {
                Some(value) => Some(value),
                None => return Field::Malformed,
            },
            Some(sfv::ListEntry::InnerList(_)) => return Field::Malformed,
        };
    }
    Field::Is(numbers)
}

/// Reads a part: an integer from 0 to 9999, its number, with an optional boolean parameter `last`.
//= TOK-IDX-01
pub fn part(fields: &HeaderMap, name: &HeaderName) -> Field<Part> {
    single(fields, name).parse(|value| {
        let Item { bare_item, params } = Parser::new(value.as_bytes()).parse().ok()?;
        let number = natural(&bare_item).and_then(PartNumber::new)?;
        let last = match (params.get("last"), params.len()) {
            (None, 0) => false,
            (Some(last), 1) => last.as_boolean()?,
            _ => return None,
        };
        Some(Part { number, last })
    })
}

/// Writes a part.
pub fn part_value(part: Part) -> HeaderValue {
    let last = if part.last { ";last" } else { "" };
    HeaderValue::try_from(format!("{}{last}", part.number)).expect("digits and letters")
}

/// Reads a value that may be repeated, on several lines or within one, because proxies join repeated lines (RFC 9110,
/// Field Order). Different values are malformed.
pub fn agreed<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Field<&'a [u8]> {
    let lines = fields.get_all(name).iter();
    let mut values =
        lines.flat_map(|line| line.as_bytes().split(|octet| *octet == b',')).map(<[u8]>::trim_ascii);
    match values.next() {
        None => Field::Absent,
        Some(first) if values.all(|value| value == first) => Field::Is(first),
        Some(_) => Field::Malformed,
    }
}

/// Reads a list, whose lines are joined in order (RFC 9110, Field Order). Empty lines are ignored.
pub fn list(fields: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    match lines[..] {
        [] => None,
        [line] => HeaderValue::from_bytes(line).ok(),
        _ => {
            let filled: Vec<&[u8]> = lines.into_iter().filter(|line| !line.trim_ascii().is_empty()).collect();
            HeaderValue::from_bytes(&filled.join(&b","[..])).ok()
        }
    }
}

fn item<T>(fields: &HeaderMap, name: &HeaderName, read: impl FnOnce(BareItem) -> Option<T>) -> Field<T> {
    let parse = |value: &HeaderValue| Parser::new(value.as_bytes()).parse::<Item>().ok();
    single(fields, name).parse(|value| read(parse(value)?.bare_item))
}

pub(crate) fn natural(item: &BareItem) -> Option<u64> {
    u64::try_from(i64::from(item.as_integer()?)).ok()
}

/// Returns the only line of a field. Two lines form a list (RFC 9110, Field Order), which is not an Item.
//= IETF-SF-08
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Field<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Field::Absent,
        (Some(line), None) => Field::Is(line),
        (Some(_), Some(_)) => Field::Malformed,
    }
}

/// Reads a token: a byte sequence, a string, or visible ASCII without comma and space.
///
/// Its octets are its identity, so `abcdef`, `"abcdef"` and `:YWJjZGVm:` are the same token.
//= TOK-TOKEN-01, TOK-TOKEN-02
pub fn token(fields: &HeaderMap, name: &HeaderName) -> Field<Token> {
    single(fields, name).parse(|value| {
        let text = value.as_bytes().trim_ascii();
        let octets = match text.first() {
            Some(b':' | b'"') => structured_octets(text).or_else(|| bare_octets(text)),
            _ => bare_octets(text),
        };
        octets.and_then(Token::new)
    })
}

fn structured_octets(text: &[u8]) -> Option<Vec<u8>> {
    match Parser::new(text).parse::<Item>().ok()?.bare_item {
        BareItem::ByteSequence(octets) => Some(octets),
        BareItem::String(text) => Some(text.as_str().as_bytes().to_vec()),
        _ => None,
    }
}

fn bare_octets(text: &[u8]) -> Option<Vec<u8>> {
    text.iter().all(|octet| octet.is_ascii_graphic() && *octet != b',').then(|| text.to_vec())
}

/// Writes the offset of a response, which must be durable.
pub fn offset_value(offset: Durable) -> HeaderValue {
    integer_value(offset.offset().get())
}

/// Writes the offset of a request.
pub fn position_value(offset: Offset) -> HeaderValue {
    integer_value(offset.get())
}

/// Writes a length.
pub fn length_value(length: Length) -> HeaderValue {
    integer_value(length.get())
}

/// Writes an integer. Those above [`LARGEST_INTEGER`] are written as it.
//= IETF-SF-09
pub fn integer_value(number: u64) -> HeaderValue {
    HeaderValue::from(number.min(LARGEST_INTEGER))
}

/// Writes a Dictionary of integers.
pub fn dictionary_value(members: &[(&str, u64)]) -> HeaderValue {
    let spelled = members.iter().map(|(key, number)| format!("{key}={}", (*number).min(LARGEST_INTEGER)));
    HeaderValue::try_from(spelled.collect::<Vec<_>>().join(", ")).expect("keys and numbers")
}

/// Writes a moment as an IMF-fixdate (RFC 9110, Date/Time Formats).
pub fn date_value(moment: Timestamp) -> HeaderValue {
    // The last second that has an IMF-fixdate.
    const MILLIS_MAX: u64 = 253_402_300_799_000;
    let since = Duration::from_millis(moment.millis().min(MILLIS_MAX));
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since);
    HeaderValue::try_from(date).expect("a date is a field value")
}

/// Writes a boolean.
pub fn boolean_value(value: bool) -> HeaderValue {
    HeaderValue::from_static(if value { "?1" } else { "?0" })
}

/// Writes a token as a byte sequence.
//= TOK-TOKEN-06
pub fn token_value(token: &Token) -> HeaderValue {
    let text = sfv::ItemSerializer::new().bare_item(token.expose()).finish();
    let mut value = HeaderValue::try_from(text).expect("base64 between colons is a field value");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("upload-token");

    fn map(lines: &[&[u8]]) -> HeaderMap {
        lines.iter().map(|line| (NAME, HeaderValue::from_bytes(line).expect("a field value"))).collect()
    }

    // proves: TOK-TOKEN-01
    #[test]
    fn all_spellings_of_a_token_are_equal() {
        let expected = Field::Is(Token::new(*b"abcdef").expect("in range"));
        for line in ["abcdef", "\"abcdef\"", ":YWJjZGVm:", " abcdef ", "abcdef\t", ":YWJjZGVm:;a=1"] {
            assert_eq!(token(&map(&[line.as_bytes()]), &NAME), expected, "{line}");
        }
        for (line, octets) in
            [("a;b=1", "a;b=1"), ("/../x", "/../x"), ("\"a b\"", "a b"), (":not!base64:", ":not!base64:")]
        {
            let expected = Field::Is(Token::new(octets.as_bytes()).expect("in range"));
            assert_eq!(token(&map(&[line.as_bytes()]), &NAME), expected, "{line}");
        }
        assert!(matches!(token(&map(&["x".repeat(256).as_bytes()]), &NAME), Field::Is(_)));
    }

    // proves: TOK-TOKEN-02, TDR-HDR-04
    #[test]
    fn invalid_tokens_are_malformed() {
        let long = "x".repeat(257);
        let lines: [&[u8]; 9] =
            [b"", b" ", b"a b", b"a,b", b"a\tb", b"caf\xc3\xa9", b"\"\"", b"::", long.as_bytes()];
        for line in lines {
            assert_eq!(token(&map(&[line]), &NAME), Field::Malformed, "{line:?}");
        }
        assert_eq!(token(&map(&[b"a", b"a"]), &NAME), Field::Malformed);
        assert_eq!(token(&map(&[]), &NAME), Field::Absent);
        assert!(matches!(token(&map(&[format!(":{}:", "QUJD".repeat(32)).as_bytes()]), &NAME), Field::Is(_)));
    }

    // proves: TUS1-HDR-12
    #[test]
    fn a_repeated_value_is_one_value() {
        type Case<'a> = (&'a [&'a [u8]], Field<&'a [u8]>);
        let cases: [Case<'_>; 9] = [
            (&[], Field::Absent),
            (&[b"1.0.0"], Field::Is(b"1.0.0")),
            (&[b"1.0.0, 1.0.0"], Field::Is(b"1.0.0")),
            (&[b" 1.0.0 ,1.0.0\t", b"1.0.0"], Field::Is(b"1.0.0")),
            (&[b""], Field::Is(b"")),
            (&[b"1.0.0, 2.0.0"], Field::Malformed),
            (&[b"1.0.0", b"2.0.0"], Field::Malformed),
            (&[b"1.0.0,"], Field::Malformed),
            (&[b"PATCH", b"patch"], Field::Malformed),
        ];
        for (lines, expected) in cases {
            assert_eq!(agreed(&map(lines), &NAME), expected, "{lines:?}");
        }
    }

    // proves: TUS1-MET-08
    #[test]
    fn the_lines_of_a_list_are_joined() {
        type Case<'a> = (&'a [&'a [u8]], Option<&'a str>);
        let cases: [Case<'_>; 6] = [
            (&[], None),
            (&[b"a YQ=="], Some("a YQ==")),
            (&[b""], Some("")),
            (&[b"a YQ==", b"b Yg=="], Some("a YQ==,b Yg==")),
            (&[b"", b"a YQ==,b Yg==", b" ", b"c"], Some("a YQ==,b Yg==,c")),
            (&[b"", b""], Some("")),
        ];
        for (lines, expected) in cases {
            let list = list(&map(lines), &NAME);
            assert_eq!(list.as_ref().map(|list| list.to_str().expect("ASCII")), expected, "{lines:?}");
        }
    }

    #[test]
    fn integers_and_booleans_are_strict() {
        let accepted = [
            ("0", 0),
            ("7", 7),
            ("007", 7),
            ("-0", 0),
            ("999999999999999", LARGEST_INTEGER),
            ("12;foo", 12),
            ("12; a=1", 12),
            (" 5 ", 5),
        ];
        for (line, number) in accepted {
            assert_eq!(integer(&map(&[line.as_bytes()]), &NAME), Field::Is(number), "{line}");
        }
        for line in [
            "",
            "+1",
            "-1",
            "1.0",
            "1e3",
            "0x10",
            "\"5\"",
            ":NQ==:",
            "1000000000000000",
            "5,6",
            "5 6",
            "?1",
            "@5",
        ] {
            assert_eq!(integer(&map(&[line.as_bytes()]), &NAME), Field::Malformed, "{line}");
        }
        assert_eq!(integer(&map(&[b"5", b"5"]), &NAME), Field::Malformed);
        for (line, value) in [
            ("?1", Field::Is(true)),
            ("?0", Field::Is(false)),
            ("1", Field::Malformed),
            ("true", Field::Malformed),
            ("?2", Field::Malformed),
            ("\"?1\"", Field::Malformed),
        ] {
            assert_eq!(boolean(&map(&[line.as_bytes()]), &NAME), value, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_written_token_reads_back(octets in proptest::collection::vec(any::<u8>(), 1..=256)) {
            let token = Token::new(octets).expect("in range");
            let fields: HeaderMap = [(NAME, token_value(&token))].into_iter().collect();
            prop_assert_eq!(super::token(&fields, &NAME), Field::Is(token));
        }

        #[test]
        fn no_field_value_panics(line in proptest::collection::vec(0x20..=0xff_u8, 0..300)) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                let fields: HeaderMap = [(NAME, value)].into_iter().collect();
                let read = (token(&fields, &NAME), integer(&fields, &NAME), boolean(&fields, &NAME));
                prop_assert!(read.0.is_present() && read.1.is_present() && read.2.is_present());
            }
        }
    }
}
