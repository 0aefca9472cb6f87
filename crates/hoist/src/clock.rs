//! The local time, for messages.

use std::time::Duration;

use jiff::Zoned;

/// Formats the local time of day after `wait`, with seconds if that is soon. The date is added if it is another day.
pub(crate) fn time_of_day_in(wait: Duration) -> String {
    let now = Zoned::now();
    let then = now.checked_add(wait).unwrap_or_else(|_| now.clone());
    let format = match (now.date() == then.date(), wait < Duration::from_mins(10)) {
        (true, true) => "%H:%M:%S",
        (true, false) => "%H:%M",
        (false, _) => "%Y-%m-%d %H:%M",
    };
    then.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distant_time_has_a_date() {
        let distant = time_of_day_in(Duration::from_hours(48));
        assert_eq!((distant.len(), distant.matches('-').count()), ("2026-01-31 20:51".len(), 2), "{distant}");
        assert!(time_of_day_in(Duration::ZERO).contains(':'));
    }
}
