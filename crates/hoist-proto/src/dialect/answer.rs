//! What a response's status tells the client of an upload to do next.
//!
//! Owns the reading of status codes and `Retry-After`; the fields that tell an upload's state are each dialect's own.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

/// What a final status means to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was done.
    Done,
    /// The upload is not where the client thinks it is.
    Conflict,
    /// There is no such upload.
    Unknown,
    /// The same may work later: the server, not the request, is in trouble.
    Later,
    /// Asking again is of no use.
    No,
}

/// The action that a redirecting status asks for (RFC 9110, Redirection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// The same request, at the other URL.
    Repeat {
        /// True if all later requests are to use that URL, too.
        permanent: bool,
    },
    /// Another request, or one that may differ.
    Elsewhere,
}

/// Reads a status that leads elsewhere.
pub fn redirection(status: StatusCode) -> Option<Redirection> {
    match status {
        StatusCode::TEMPORARY_REDIRECT => Some(Redirection::Repeat { permanent: false }),
        StatusCode::PERMANENT_REDIRECT => Some(Redirection::Repeat { permanent: true }),
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
            Some(Redirection::Elsewhere)
        }
        _ => None,
    }
}

/// Reads a final status.
//= TDR-CLI-01
pub fn said(status: StatusCode) -> Said {
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Said::Unknown,
        StatusCode::CONFLICT => Said::Conflict,
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::LOCKED
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Said::Later,
        // A server that cannot do it at all, or a network that wants a login first, will not change its mind.
        StatusCode::NOT_IMPLEMENTED
        | StatusCode::HTTP_VERSION_NOT_SUPPORTED
        | StatusCode::NETWORK_AUTHENTICATION_REQUIRED => Said::No,
        _ if status.is_success() => Said::Done,
        _ if status.is_server_error() => Said::Later,
        _ => Said::No,
    }
}

/// Whether a request that failed with this status may have been carried out all the same: something behind whoever
/// answers had it. A server that has no time has not begun.
pub fn is_in_doubt(status: StatusCode) -> bool {
    status.is_server_error() && said(status) == Said::Later && status != StatusCode::SERVICE_UNAVAILABLE
}

/// Whether it is the expectation of a 100 that could not be met (RFC 9110, Expect), and nothing else about the request.
pub fn is_unexpected(status: StatusCode) -> bool {
    status == StatusCode::EXPECTATION_FAILED
}

/// How long the server asks a client to wait, when it says so in seconds. A date would need a clock, and counts as
/// absent.
pub fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repeated_request_is_the_same() {
        let table = [
            (307, Some(Redirection::Repeat { permanent: false })),
            (308, Some(Redirection::Repeat { permanent: true })),
            (301, Some(Redirection::Elsewhere)),
            (302, Some(Redirection::Elsewhere)),
            (303, Some(Redirection::Elsewhere)),
            (300, None),
            (304, None),
            (200, None),
        ];
        for (status, expected) in table {
            assert_eq!(redirection(status.try_into().expect("a status")), expected, "{status}");
        }
    }

    // proves: TDR-CLI-01
    #[test]
    fn every_status_has_a_meaning() {
        let table: [(Said, &[u16]); 5] = [
            (Said::Done, &[200, 201, 204, 299]),
            (Said::Conflict, &[409]),
            (Said::Unknown, &[404, 410]),
            (Said::Later, &[408, 423, 425, 429, 500, 502, 503, 504, 507, 599]),
            (
                Said::No,
                &[300, 302, 308, 400, 401, 403, 405, 411, 412, 413, 415, 418, 422, 501, 505, 511, 999],
            ),
        ];
        for (meaning, statuses) in table {
            for status in statuses {
                assert_eq!(said(StatusCode::from_u16(*status).expect("in range")), meaning, "{status}");
            }
        }
    }

    #[test]
    fn what_may_have_been_done_is_in_doubt() {
        let doubtful = [500, 502, 504, 507];
        for status in [200, 404, 409, 417, 429, 500, 501, 502, 503, 504, 505, 507] {
            let code = StatusCode::from_u16(status).expect("in range");
            assert_eq!(is_in_doubt(code), doubtful.contains(&status), "{status}");
            assert_eq!(is_unexpected(code), status == 417, "{status}");
        }
    }

    #[test]
    fn waits_are_in_seconds() {
        let table = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ];
        for (text, seconds) in table {
            let mut fields = HeaderMap::new();
            fields.insert(header::RETRY_AFTER, text.parse().expect("a field value"));
            assert_eq!(retry_after(&fields), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
