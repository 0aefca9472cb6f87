//! Final status codes, redirections and `Retry-After`, as a client reads them.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

/// The meaning of a final status code to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// The request was carried out.
    Success,
    /// The upload's offset is not the one that the request names.
    Conflict,
    /// The upload does not exist.
    NotFound,
    /// The same request may succeed later.
    Retry,
    /// The same request cannot succeed.
    Rejected,
}

impl StatusClass {
    /// Returns the class of a final status code.
    //= TDR-CLI-01
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Self::NotFound,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::LOCKED
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => Self::Retry,
            // A server without the feature, or a network that requires a login, does not change within a retry budget.
            StatusCode::NOT_IMPLEMENTED
            | StatusCode::HTTP_VERSION_NOT_SUPPORTED
            | StatusCode::NETWORK_AUTHENTICATION_REQUIRED => Self::Rejected,
            _ if status.is_success() => Self::Success,
            _ if status.is_server_error() => Self::Retry,
            _ => Self::Rejected,
        }
    }
}

/// The action that a redirecting status code asks for (RFC 9110, Redirection).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// Repeats the same request at the other URL.
    Repeat {
        /// True if all later requests are to use that URL, too.
        permanent: bool,
    },
    /// Sends another request, or one that may differ.
    Elsewhere,
}

/// Returns the redirection that a status code asks for, if any.
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

/// Returns whether a request that failed with this status may have been processed all the same, by a server behind the
/// one that answers. A server that answers 503 has not begun.
pub fn may_have_been_processed(status: StatusCode) -> bool {
    let is_retried = StatusClass::of(status) == StatusClass::Retry;
    status.is_server_error() && is_retried && status != StatusCode::SERVICE_UNAVAILABLE
}

/// Returns whether the server could not meet `Expect: 100-continue` (RFC 9110, Expect).
pub fn is_failed_expectation(status: StatusCode) -> bool {
    status == StatusCode::EXPECTATION_FAILED
}

/// Returns the delay of `Retry-After` in seconds. An HTTP date would need a clock and counts as absent.
pub fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let text = fields.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_307_and_308_repeat_the_request() {
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
    fn every_status_has_a_class() {
        let table: [(StatusClass, &[u16]); 5] = [
            (StatusClass::Success, &[200, 201, 204, 299]),
            (StatusClass::Conflict, &[409]),
            (StatusClass::NotFound, &[404, 410]),
            (StatusClass::Retry, &[408, 423, 425, 429, 500, 502, 503, 504, 507, 599]),
            (
                StatusClass::Rejected,
                &[300, 302, 308, 400, 401, 403, 405, 411, 412, 413, 415, 418, 422, 501, 505, 511, 999],
            ),
        ];
        for (class, statuses) in table {
            for status in statuses {
                assert_eq!(
                    StatusClass::of(StatusCode::from_u16(*status).expect("in range")),
                    class,
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn most_server_errors_leave_open_what_was_processed() {
        let doubtful = [500, 502, 504, 507];
        for status in [200, 404, 409, 417, 429, 500, 501, 502, 503, 504, 505, 507] {
            let code = StatusCode::from_u16(status).expect("in range");
            assert_eq!(may_have_been_processed(code), doubtful.contains(&status), "{status}");
            assert_eq!(is_failed_expectation(code), status == 417, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
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
