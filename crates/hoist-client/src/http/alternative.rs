//! Alternative services of an origin, from `Alt-Svc` (RFC 7838) and HTTPS records.
//!
//! They are used only for `https` origins, where the certificate proves that the alternative may serve the origin. Entries
//! for HTTP/2 and HTTP/3 are ignored.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;
use crate::origin;

/// The only protocol for which alternatives are used, by its ALPN name.
const ALPN_HTTP1: &str = "http/1.1";
/// The lifetime of an entry without `ma`.
const MAX_AGE: Duration = Duration::from_hours(24);
/// The longest lifetime of an entry.
const MAX_AGE_LIMIT: Duration = Duration::from_hours(24 * 30);
/// Origins remembered at a time.
const ORIGINS_MAX: usize = 64;

/// The host and port of an alternative service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// `None` for the origin's own host.
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

/// The alternative services of the origins in use, by authority.
#[derive(Default)]
pub(crate) struct Alternatives(Mutex<HashMap<String, (Alternative, Instant)>>);

impl Alternatives {
    /// Returns the alternative of an origin, unless it has expired.
    pub(crate) fn get(&self, origin: &str, now: Instant) -> Option<Alternative> {
        let mut known = lock(&self.0);
        known.retain(|_, (_, until)| *until > now);
        known.get(origin).map(|(alternative, _)| alternative.clone())
    }

    /// Remembers an alternative for the time `age`, unless too many others are known.
    pub(crate) fn insert(&self, origin: &str, alternative: Alternative, age: Duration, now: Instant) {
        let mut known = lock(&self.0);
        if known.len() < ORIGINS_MAX || known.contains_key(origin) {
            known.insert(origin.to_owned(), (alternative, now + age.min(MAX_AGE_LIMIT)));
        }
    }

    pub(crate) fn remove(&self, origin: &str) {
        lock(&self.0).remove(origin);
    }

    /// Remembers the alternative in an `Alt-Svc` field, which replaces all earlier ones.
    //= TOK-DISC-04
    pub(crate) fn learn_from_field(&self, origin: &str, field: &str, now: Instant) {
        match first_supported(field) {
            Some((alternative, age)) => self.insert(origin, alternative, age, now),
            None => self.remove(origin),
        }
    }
}

/// Returns the first entry of an `Alt-Svc` field that this client can use. There is none in `clear` and in a malformed field.
fn first_supported(field: &str) -> Option<(Alternative, Duration)> {
    split(field, ',').into_iter().find_map(|entry| {
        let mut parts = split(entry, ';').into_iter().map(str::trim);
        let (protocol, authority) = parts.next()?.split_once('=')?;
        if !protocol.replace("%2F", "/").eq_ignore_ascii_case(ALPN_HTTP1) {
            return None;
        }
        let (host, port) = authority.strip_prefix('"')?.strip_suffix('"')?.rsplit_once(':')?;
        let host = (!host.is_empty()).then(|| host.to_owned());
        let port = origin::parse_port(port)?;
        let seconds = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| *name == "ma");
        let age = match seconds {
            Some((_, seconds)) => Duration::from_secs(seconds.trim_matches('"').parse().ok()?),
            None => MAX_AGE,
        };
        Some((Alternative { host, port }, age))
    })
}

/// Splits at each `separator` outside of quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |char| {
        quoted ^= char == '"';
        char == separator && !quoted
    })
    .map(str::trim)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // proves: TOK-DISC-04
    #[test]
    fn only_entries_for_http_1_are_used() {
        let alternative = |host: Option<&str>, port| Alternative { host: host.map(str::to_owned), port };
        let day = MAX_AGE;
        let table = [
            (r#"h3=":443"; ma=86400"#, None),
            (r#"h2="alt.example:443""#, None),
            ("clear", None),
            ("", None),
            ("http/1.1", None),
            (r#"http%2F1.1="alt.example""#, None),
            (r#"http%2F1.1="alt.example:99999""#, None),
            (r"http%2F1.1=alt.example:1", None),
            (r#"http%2F1.1=":8443""#, Some((alternative(None, 8443), day))),
            (
                r#"http%2F1.1="alt.example:443"; ma=60; persist=1"#,
                Some((alternative(Some("alt.example"), 443), Duration::from_mins(1))),
            ),
            (
                r#"h3=":443", http%2F1.1="a,b;c:1";ma="5""#,
                Some((alternative(Some("a,b;c"), 1), Duration::from_secs(5))),
            ),
            (r#"h3=":443"; ma=1, http%2F1.1="[::1]:2""#, Some((alternative(Some("[::1]"), 2), day))),
        ];
        for (field, expected) in table {
            assert_eq!(first_supported(field), expected, "{field}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alternative_expires_and_is_replaced() {
        let alternatives = Alternatives::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        alternatives.learn_from_field("a:443", r#"http%2F1.1=":1"; ma=10"#, start);
        assert_eq!(alternatives.get("a:443", at(9)).map(|a| a.port), Some(1));
        assert_eq!(alternatives.get("b:443", at(9)), None);
        assert_eq!(alternatives.get("a:443", at(10)), None);
        alternatives.learn_from_field("a:443", r#"http%2F1.1=":1""#, start);
        alternatives.learn_from_field("a:443", "clear", start);
        assert_eq!(alternatives.get("a:443", start), None);
    }
}
