//! The value of the `Date` field, formatted once per second and thread.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// Returns the current time as an IMF-fixdate (RFC 9110, Date/Time Formats).
pub(crate) fn now() -> HeaderValue {
    thread_local!(static CACHE: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) });
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    CACHE.with_borrow_mut(|cache| match cache {
        Some((at, value)) if *at == seconds => value.clone(),
        _ => {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
            let value = HeaderValue::try_from(text).expect("a date is ASCII");
            *cache = Some((seconds, value.clone()));
            value
        }
    })
}
