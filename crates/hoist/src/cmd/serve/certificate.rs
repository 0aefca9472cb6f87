//! Warnings about the dates of the certificate: at start, once a day while it is about to expire, and when it expires.

use std::time::{Duration, SystemTime};

use hoist_http::tls::{Acceptor, Validity};
use hoist_proto::types::Timestamp;
use hoist_server::clock::{SystemClocks, TimeSource as _};

/// The time before the end of the validity from which on the operator is warned.
const NOTICE: Duration = Duration::from_hours(14 * 24);

const DAY: Duration = Duration::from_hours(24);

/// The state of a certificate at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Valid,
    NotYetValid,
    ExpiresSoon,
    Expired,
}

impl Standing {
    fn at(now: SystemTime, Validity { not_before, not_after }: Validity) -> Self {
        if now > not_after {
            Self::Expired
        } else if now < not_before {
            Self::NotYetValid
        } else if not_after.duration_since(now).is_ok_and(|left| left < NOTICE) {
            Self::ExpiresSoon
        } else {
            Self::Valid
        }
    }
}

/// Returns the time by which clients judge a certificate.
pub(crate) fn now() -> SystemTime {
    SystemClocks::default().wall()
}

/// Returns the message if clients refuse a certificate now because of its dates.
pub(super) fn refused_for_its_dates(validity: Validity, now: SystemTime) -> Option<String> {
    match Standing::at(now, validity) {
        Standing::Expired => Some(format!(
            "the certificate expired on {}, so clients refuse to connect; renew it",
            date(validity.not_after)
        )),
        Standing::NotYetValid => Some(format!(
            "the certificate is not valid before {}, so clients refuse to connect; check the clock of this machine, or use \
             another certificate",
            date(validity.not_before)
        )),
        Standing::ExpiresSoon | Standing::Valid => None,
    }
}

/// Returns the warning about a certificate that clients accept now, but not for much longer.
pub(crate) fn expires_soon(validity: Validity, now: SystemTime) -> Option<String> {
    let is_soon = Standing::at(now, validity) == Standing::ExpiresSoon;
    is_soon.then(|| {
        let left = validity.not_after.duration_since(now).unwrap_or_default();
        let days = left.as_secs() / DAY.as_secs();
        let days = match days {
            0 => "in less than a day".to_owned(),
            1 => "in 1 day".to_owned(),
            days => format!("in {days} days"),
        };
        format!("the certificate expires {days}, on {}; renew it", date(validity.not_after))
    })
}

/// Formats a time like `2026-11-22T13:14:15Z`.
fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).rfc3339()
}

/// The last warning, so that each one is repeated once a day only.
#[derive(Debug, Default)]
struct Reminder(Option<(Standing, Validity, SystemTime)>);

impl Reminder {
    /// Returns whether it is time for a warning.
    fn is_due(&mut self, validity: Validity, now: SystemTime) -> bool {
        let standing = Standing::at(now, validity);
        let is_repeated = self.0.is_some_and(|(last, of, at)| {
            let is_recent = now.duration_since(at).is_ok_and(|passed| passed < DAY);
            (last, of) == (standing, validity) && is_recent
        });
        if standing == Standing::Valid {
            self.0 = None;
        } else if !is_repeated {
            self.0 = Some((standing, validity, now));
        }
        standing != Standing::Valid && !is_repeated
    }
}

/// Logs warnings about the certificate in use, if there is one, forever.
///
/// # Cancellation
/// Safe to drop.
pub(super) async fn watch(acceptor: Option<&Acceptor>) {
    /// The longest time until a certificate that was replaced meanwhile is noticed.
    const INTERVAL_MAX: Duration = Duration::from_mins(1);
    let Some(acceptor) = acceptor else { return };
    let mut reminder = Reminder::default();
    loop {
        let now = now();
        let mut pause = INTERVAL_MAX;
        if let Some(validity) = acceptor.validity() {
            if reminder.is_due(validity, now) {
                match refused_for_its_dates(validity, now) {
                    Some(refused) => tracing::error!("{refused}"),
                    None => expires_soon(validity, now).into_iter().for_each(|soon| tracing::warn!("{soon}")),
                }
            }
            // One millisecond later it has expired.
            let left = validity.not_after.duration_since(now).ok();
            pause = left.map_or(pause, |left| pause.min(left + Duration::from_millis(1)));
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_hours(days * 24)
    }

    const VALID: fn() -> Validity = || Validity { not_before: at(100), not_after: at(200) };

    #[test]
    fn warnings_name_the_date_and_the_next_step() {
        let cases = [
            (at(99), Some("not valid before 1970-04-11T00:00:00Z"), None),
            (at(100), None, None),
            (at(186), None, None),
            (at(187), None, Some("expires in 13 days, on 1970-07-20T00:00:00Z; renew it")),
            (at(199), None, Some("expires in 1 day, on")),
            (at(200), None, Some("expires in less than a day, on")),
            (at(201), Some("expired on 1970-07-20T00:00:00Z"), None),
        ];
        for (now, refused, soon) in cases {
            let said = (refused_for_its_dates(VALID(), now), expires_soon(VALID(), now));
            for (said, expected) in [(said.0, refused), (said.1, soon)] {
                assert_eq!(said.is_some(), expected.is_some(), "{now:?}: {said:?}");
                assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{now:?}");
            }
        }
    }

    #[test]
    fn a_warning_is_repeated_once_a_day_and_at_each_change() {
        let mut reminder = Reminder::default();
        let minute = Duration::from_mins(1);
        let cases = [
            (VALID(), at(150), false),
            (VALID(), at(190), true),
            (VALID(), at(190) + minute, false),
            (VALID(), at(191), true),
            (VALID(), at(200), true),
            (VALID(), at(200) + minute, true),
            (VALID(), at(200) + 2 * minute, false),
            (Validity { not_after: at(205), ..VALID() }, at(200) + 3 * minute, true),
            (Validity { not_after: at(300), ..VALID() }, at(201), false),
            (VALID(), at(201), true),
        ];
        for (at, (validity, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(reminder.is_due(validity, now), expected, "case {at}");
        }
    }
}
