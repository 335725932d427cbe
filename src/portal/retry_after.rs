//! Two headers that tell of time: `Retry-After`, for how long whoever refuses us wants to be left
//! alone, and `Date`, the clock of whoever answered (RFC 9110).
//!
//! No page of the vendor's promises the header, but whatever stands before a portal may send it,
//! as seconds or as a date. Its clock need not be ours, so a date is held against the `Date` of
//! the same answer.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Longer waits are asked for by mistake: the portal's own limits look back ten minutes.
const LONGEST: Duration = Duration::from_mins(10);

/// How long an answer asks to be left alone; `None` where it does not say, or not in time.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTime::parse_from_rfc2822(text).ok()?.to_utc();
        (until - date(headers)?).to_std().ok()?
    };
    Some(wait.min(LONGEST))
}

/// The clock of whoever answered, where the answer shows it.
pub(super) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        read(&headers)
    }

    #[test]
    fn seconds_and_dates_are_understood_and_nothing_else() {
        let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(asked(" 7 ", None), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:09 GMT", date), Some(Duration::from_secs(9)));
        for (text, date) in [
            ("Wed, 21 Oct 2015 07:28:09 GMT", None),
            ("Wed, 21 Oct 2015 07:27:00 GMT", date),
            ("soon", date),
            ("-5", date),
            ("1.5", date),
            ("", date),
        ] {
            assert_eq!(asked(text, date), None, "{text}");
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }

    #[test]
    fn nobody_is_waited_for_longer_than_the_portals_limits_last() {
        for text in ["86400", "18446744073709551615", "Thu, 31 Dec 2099 00:00:00 GMT"] {
            assert_eq!(asked(text, Some("Wed, 21 Oct 2015 07:28:00 GMT")), Some(LONGEST));
        }
    }
}
