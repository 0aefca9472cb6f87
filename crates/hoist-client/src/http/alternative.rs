//! Other places that serve an origin: what `Alt-Svc` (RFC 7838) and HTTPS records say, as far as this client can use it.
//!
//! Only for origins reached by TLS, whose certificate proves that the other place may speak for them. HTTP/3 and HTTP/2
//! are not spoken here, so their entries are passed over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::origin;

/// The protocol this client speaks, by its ALPN name.
const SPOKEN: &str = "http/1.1";
/// The lifetime of an entry that does not state one.
const MAX_AGE: Duration = Duration::from_hours(24);
/// The longest an entry is believed.
const MAX_AGE_MOST: Duration = Duration::from_hours(24 * 30);
/// Origins remembered at a time.
const ORIGINS_MAX: usize = 64;

/// Host and port of another place that serves an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alternative {
    /// The origin's own host when absent.
    pub(crate) host: Option<String>,
    pub(crate) port: u16,
}

/// Alternatives of the origins in use, by authority.
#[derive(Default)]
pub(crate) struct Alternatives(Mutex<HashMap<String, (Alternative, Instant)>>);

impl Alternatives {
    pub(crate) fn of(&self, origin: &str, now: Instant) -> Option<Alternative> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| *until > now);
        known.get(origin).map(|(alternative, _)| alternative.clone())
    }

    pub(crate) fn learn(&self, origin: &str, alternative: Alternative, age: Duration, now: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < ORIGINS_MAX || known.contains_key(origin) {
            known.insert(origin.to_owned(), (alternative, now + age.min(MAX_AGE_MOST)));
        }
    }

    pub(crate) fn forget(&self, origin: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(origin);
    }

    /// Takes in an `Alt-Svc` field, which replaces all that an earlier one said.
    //= TOK-DISC-04
    pub(crate) fn hear(&self, origin: &str, field: &str, now: Instant) {
        match first_spoken(field) {
            Some((alternative, age)) => self.learn(origin, alternative, age, now),
            None => self.forget(origin),
        }
    }
}

/// The first entry of an `Alt-Svc` field that this client can use. None in `clear`, nor in a field it cannot read.
fn first_spoken(field: &str) -> Option<(Alternative, Duration)> {
    split(field, ',').into_iter().find_map(|entry| {
        let mut parts = split(entry, ';').into_iter().map(str::trim);
        let (protocol, authority) = parts.next()?.split_once('=')?;
        if !protocol.replace("%2F", "/").eq_ignore_ascii_case(SPOKEN) {
            return None;
        }
        let (host, port) = authority.strip_prefix('"')?.strip_suffix('"')?.rsplit_once(':')?;
        let host = (!host.is_empty()).then(|| host.to_owned());
        let port = origin::port(port)?;
        let seconds = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| *name == "ma");
        let age = match seconds {
            Some((_, seconds)) => Duration::from_secs(seconds.trim_matches('"').parse().ok()?),
            None => MAX_AGE,
        };
        Some((Alternative { host, port }, age))
    })
}

/// Splits where `separator` stands outside of quotes.
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
    fn only_what_can_be_spoken_is_used() {
        let place = |host: Option<&str>, port| Alternative { host: host.map(str::to_owned), port };
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
            (r#"http%2F1.1=":8443""#, Some((place(None, 8443), day))),
            (
                r#"http%2F1.1="alt.example:443"; ma=60; persist=1"#,
                Some((place(Some("alt.example"), 443), Duration::from_mins(1))),
            ),
            (
                r#"h3=":443", http%2F1.1="a,b;c:1";ma="5""#,
                Some((place(Some("a,b;c"), 1), Duration::from_secs(5))),
            ),
            (r#"h3=":443"; ma=1, http%2F1.1="[::1]:2""#, Some((place(Some("[::1]"), 2), day))),
        ];
        for (field, expected) in table {
            assert_eq!(first_spoken(field), expected, "{field}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_alternative_ages_and_is_replaced() {
        let alternatives = Alternatives::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        alternatives.hear("a:443", r#"http%2F1.1=":1"; ma=10"#, start);
        assert_eq!(alternatives.of("a:443", at(9)).map(|a| a.port), Some(1));
        assert_eq!(alternatives.of("b:443", at(9)), None);
        assert_eq!(alternatives.of("a:443", at(10)), None);
        alternatives.hear("a:443", r#"http%2F1.1=":1""#, start);
        alternatives.hear("a:443", "clear", start);
        assert_eq!(alternatives.of("a:443", start), None);
    }
}
