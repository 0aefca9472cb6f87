//! The value types of settings: sizes, times, origins, command lines.
//!
//! Each error message shows a valid value.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use hoist_store::fs::Headroom;
use http::Uri;

/// A size in bytes: `1024`, `64MiB`, `64M`, `10GB`. Units are binary unless they end with a `B` alone: `M` and `MiB` are
/// 1024 × 1024 bytes, `MB` is 1 000 000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a size; write it like 64M or 64MiB (binary), 10MB (decimal) or 1024";
        let (number, unit) = split(text);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(WRONG),
        };
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        let bytes = number.checked_mul(factor).filter(|bytes| *bytes <= hoist_proto::types::LARGEST_INTEGER);
        bytes.map(Self).ok_or("is more than the largest possible upload, 999999999999999 bytes")
    }
}

/// The disk space to keep free: a size, or a percentage of the volume like `1%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeepFree(pub(crate) Headroom);

impl FromStr for KeepFree {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(number) = text.trim().strip_suffix('%') else {
            return text.parse::<Size>().map(|size| Self(Headroom::Bytes(size.0)));
        };
        let percent = number.trim_end().parse().ok().filter(|percent| *percent < 100);
        percent
            .map(|percent| Self(Headroom::Percent(percent)))
            .ok_or("is not a percentage or a size; write it like 1% or 10GiB")
    }
}

/// A duration: `30s`, `5m`, `7d`, or a number of seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeSpan(pub(crate) Duration);

impl FromStr for TimeSpan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a time; write it like 30s, 5m, 12h, 7d, or as a number of seconds";
        /// A thousand years, so that adding a duration to a date cannot overflow.
        const SECONDS_MAX: u64 = 1000 * 366 * 86_400;
        let (number, unit) = split(text);
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        let seconds = match unit {
            "ms" if number <= SECONDS_MAX => return Ok(Self(Duration::from_millis(number))),
            "ms" => return Err("is too many milliseconds; write it in seconds"),
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return Err(WRONG),
        };
        let seconds = number.checked_mul(seconds).filter(|seconds| *seconds <= SECONDS_MAX);
        seconds
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .ok_or("is more than a thousand years; write `none` for no limit")
    }
}

/// Splits a text into a number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// An optional value, written `none` if absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrNone<T>(pub(crate) Option<T>);

impl<T> Default for OrNone<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        if text.trim() == "none" { Ok(Self(None)) } else { text.parse().map(|value| Self(Some(value))) }
    }
}

/// A whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) usize);

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self).map_err(|_| "is not a whole number")
    }
}

/// An origin, like `https://upload.example.org`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicOrigin(pub(crate) String);

impl FromStr for PublicOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is not a scheme and a host; write it like https://upload.example.org";
        let uri: Uri = text.trim().parse().map_err(|_| WRONG)?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(WRONG);
        };
        if uri.path_and_query().is_some_and(|rest| rest.as_str() != "/") {
            return Err("has a path; set the path with --endpoint");
        }
        if hoist_client::Origin::of(&uri).is_err() || authority.as_str().ends_with(':') {
            return Err(WRONG);
        }
        let address = authority.host().trim_matches(['[', ']']).parse();
        if address.is_ok_and(|address: IpAddr| address.to_canonical().is_unspecified()) {
            return Err("names an address that no client can reach; write the name that clients use");
        }
        Ok(Self(format!("{scheme}://{authority}")))
    }
}

/// A program and its arguments, separated by white space. Single and double quotes group words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine(pub(crate) Vec<String>);

impl FromStr for CommandLine {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
        for c in text.chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if matches!(c, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                None if c.is_whitespace() => words.extend(word.take()),
                Some(_) | None => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        match (quote, words.first()) {
            (Some(_), _) => Err("has an unterminated quote"),
            (None, None) => Err("names no program"),
            (None, Some(program)) if program.is_empty() => Err("names no program"),
            (None, Some(_)) => Ok(Self(words)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        let good = [
            ("0", 0),
            ("1024", 1024),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("64M", 64 << 20),
            ("1k", 1 << 10),
            ("2 g", 2 << 30),
            ("3T", 3 << 40),
            ("10MB", 10_000_000),
            ("10GB", 10_000_000_000),
            ("1kb", 1000),
            ("7B", 7),
            ("999999999999999", 999_999_999_999_999),
        ];
        for (text, bytes) in good {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        let bad = [
            "",
            "MiB",
            "-1",
            "1.5GiB",
            "64Mi",
            "64 MiBs",
            "1e9",
            "1000000000000000",
            "99999999999999999999TiB",
        ];
        for text in bad {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_parsed() {
        let good = [
            ("https://upload.example.org", "https://upload.example.org"),
            ("https://upload.example.org/", "https://upload.example.org"),
            ("HTTP://[::1]:8080", "http://[::1]:8080"),
        ];
        for (text, origin) in good {
            assert_eq!(text.parse(), Ok(PublicOrigin(origin.into())), "{text}");
        }
        let bad = [
            "",
            "upload.example.org",
            "//a",
            "ftp://a",
            "https://",
            "https://:443",
            "https://a/b",
            "https://a?b",
            "https://a@b",
            "https://a:99999999",
            "/uploads",
        ];
        for text in bad {
            assert!(text.parse::<PublicOrigin>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_parsed() {
        let good = [
            ("30s", 30),
            ("5m", 300),
            ("12h", 43_200),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("604800", 604_800),
        ];
        for (text, seconds) in good {
            assert_eq!(text.parse(), Ok(TimeSpan(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!("250ms".parse(), Ok(TimeSpan(Duration::from_millis(250))));
        for text in ["", "s", "-1s", "1.5h", "7 days", "99999999999999999d"] {
            assert!(text.parse::<TimeSpan>().is_err(), "{text}");
        }
        assert!("99999999999999ms".parse::<TimeSpan>().is_err());
        assert_eq!("none".parse(), Ok(OrNone::<TimeSpan>(None)));
        assert_eq!("1s".parse(), Ok(OrNone(Some(TimeSpan(Duration::from_secs(1))))));
        assert!("never".parse::<OrNone<TimeSpan>>().is_err());
    }

    #[test]
    fn command_lines_are_split_into_words() {
        let good: [(&str, &[&str]); 5] = [
            ("/bin/check", &["/bin/check"]),
            ("  check  --strict\t-v ", &["check", "--strict", "-v"]),
            ("sh -c 'exit 1'", &["sh", "-c", "exit 1"]),
            ("check \"it's\" ''", &["check", "it's", ""]),
            ("a\"b c\"d", &["ab cd"]),
        ];
        for (text, words) in good {
            assert_eq!(
                text.parse::<CommandLine>().map(|words| words.0),
                Ok(words.iter().map(ToString::to_string).collect())
            );
        }
        for text in ["", "  ", "check 'open", "'' x"] {
            assert!(text.parse::<CommandLine>().is_err(), "{text}");
        }
    }
}
