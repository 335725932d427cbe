//! The portal's clock: real time plus a shift, in a zone that can be switched.
//!
//! Times of records are seconds of local wall-clock time without an offset,
//! which is what the portal stores; in autumn an hour comes twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

use super::php::write_int;

const DAY: i64 = 86_400;

/// Where time comes from.
#[derive(Clone, Debug)]
pub(super) enum Ticks {
    /// The machine's monotonic clock.
    Real(Instant),
    /// Microseconds set by hand.
    Manual(Arc<AtomicU64>),
}

impl Ticks {
    pub(super) fn real() -> Self {
        Self::Real(Instant::now())
    }

    /// Time that stands still.
    pub(super) fn still() -> Self {
        Self::Manual(Arc::default())
    }

    /// Time since the portal started.
    pub(super) fn elapsed(&self) -> Duration {
        match self {
            Self::Real(origin) => origin.elapsed(),
            Self::Manual(micros) => Duration::from_micros(micros.load(Ordering::Relaxed)),
        }
    }
}

/// The portal's clock and zone.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    ticks: Ticks,
    /// Time that was let pass at once.
    passed: Duration,
    /// Real Unix time at the origin of the ticks, in microseconds.
    real: i64,
    /// The portal's Unix time at the origin of the ticks, in microseconds.
    base: i64,
    pub(super) zone: Tz,
}

impl Clock {
    pub(super) fn new(ticks: Ticks, real: DateTime<Utc>, zone: Tz) -> Self {
        let real = real.timestamp_micros() - micros(ticks.elapsed());
        Self { ticks, passed: Duration::ZERO, real, base: real, zone }
    }

    /// Time since the portal started.
    fn elapsed(&self) -> Duration {
        self.ticks.elapsed() + self.passed
    }

    /// Lets time pass at once.
    pub(super) fn pass(&mut self, time: Duration) {
        self.passed += time;
    }

    /// Seconds since the portal started; never falls back.
    pub(super) fn mono(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }

    /// The portal's Unix time in microseconds.
    pub(super) fn now_micros(&self) -> i64 {
        self.base + micros(self.elapsed())
    }

    /// The portal's Unix time in whole seconds.
    pub(super) fn now(&self) -> i64 {
        self.now_micros().div_euclid(1_000_000)
    }

    /// The portal's wall clock, whole seconds.
    pub(super) fn now_local(&self) -> i64 {
        let now = self.now();
        now + offset_at(self.zone, now)
    }

    /// The zone's offset from UTC at this moment, in seconds.
    pub(super) fn offset(&self) -> i64 {
        offset_at(self.zone, self.now())
    }

    /// Seconds by which the portal's clock is ahead of the real one.
    pub(super) fn ahead(&self) -> i64 {
        (self.base - self.real) / 1_000_000
    }

    /// Sets the difference to the real clock.
    pub(super) fn shift(&mut self, micros: i64) {
        self.base = self.real + micros;
    }

    /// Makes it `unix_micros` now; the clock runs on from there.
    pub(super) fn set(&mut self, unix_micros: i64) {
        self.base = unix_micros - micros(self.elapsed());
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn naive(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0).unwrap_or_default().naive_utc()
}

/// The zone's offset at a Unix time, in seconds.
pub(super) fn offset_at(zone: Tz, unix: i64) -> i64 {
    let offset = zone.offset_from_utc_datetime(&naive(unix));
    i64::from(offset.fix().local_minus_utc())
}

/// The offset that PHP gives to a local time: the earlier one when the hour
/// comes twice, the one before the gap when it does not come at all.
pub(super) fn offset_of_local(zone: Tz, local: i64) -> i64 {
    match zone.offset_from_local_datetime(&naive(local)) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
            i64::from(offset.fix().local_minus_utc())
        }
        MappedLocalTime::None => offset_at(zone, local - DAY),
    }
}

/// The Unix time of a local time.
pub(super) fn local_to_unix(zone: Tz, local: i64) -> i64 {
    local - offset_of_local(zone, local)
}

/// Writes `2021-05-31T15:10:16+02:00` for a Unix time.
pub(super) fn write_instant(out: &mut Vec<u8>, zone: Tz, unix: i64) {
    let offset = offset_at(zone, unix);
    write_wall(out, unix + offset);
    out.push(if offset < 0 { b'-' } else { b'+' });
    let minutes = offset.abs() / 60;
    write_pair(out, minutes / 60);
    out.push(b':');
    write_pair(out, minutes % 60);
}

/// Writes a stored local time with its offset.
pub(super) fn write_local(out: &mut Vec<u8>, zone: Tz, local: i64) {
    write_instant(out, zone, local_to_unix(zone, local));
}

/// Writes a date field: local midnight plus the *current* offset, printed with
/// the offset of that day.
pub(super) fn write_day(out: &mut Vec<u8>, zone: Tz, day: i64, current_offset: i64) {
    write_instant(out, zone, local_to_unix(zone, day * DAY) + current_offset);
}

/// A Unix time as `2021-05-31T13:10:16Z`.
pub(super) fn utc_text(unix: i64) -> String {
    let mut out = Vec::with_capacity(20);
    write_wall(&mut out, unix);
    out.push(b'Z');
    String::from_utf8(out).unwrap_or_default()
}

/// A day as `2021-05-31`.
pub(super) fn day_text(day: i64) -> String {
    let (year, month, day) = civil(day);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A Unix time as text in a zone.
pub(super) fn instant_text(zone: Tz, unix: i64) -> String {
    let mut out = Vec::with_capacity(25);
    write_instant(&mut out, zone, unix);
    String::from_utf8(out).unwrap_or_default()
}

fn write_wall(out: &mut Vec<u8>, seconds: i64) {
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let clock = seconds.rem_euclid(DAY);
    if year < 1000 {
        out.extend_from_slice(format!("{year:04}").as_bytes());
    } else {
        write_int(out, year);
    }
    out.push(b'-');
    write_pair(out, month);
    out.push(b'-');
    write_pair(out, day);
    out.push(b'T');
    write_pair(out, clock / 3600);
    out.push(b':');
    write_pair(out, clock / 60 % 60);
    out.push(b':');
    write_pair(out, clock % 60);
}

fn write_pair(out: &mut Vec<u8>, value: i64) {
    if value < 10 {
        out.push(b'0');
    }
    write_int(out, value);
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant's algorithm).
pub(super) fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, date)
}

/// The day of a civil date, `None` when there is no such day.
pub(super) fn day_of(year: i64, month: i64, date: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&date) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + date - 1;
    let day = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (civil(day) == (year, month, date)).then_some(day)
}

/// A parsed moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// With an offset: seconds since 1970 in UTC.
    Unix(i64),
    /// Without: seconds of wall-clock time.
    Local(i64),
}

impl Moment {
    /// Wall-clock seconds in the portal's zone.
    pub(super) fn local(self, zone: Tz) -> i64 {
        match self {
            Self::Unix(unix) => unix + offset_at(zone, unix),
            Self::Local(local) => local,
        }
    }

    /// Unix seconds.
    #[cfg(test)]
    pub(super) fn unix(self, zone: Tz) -> i64 {
        match self {
            Self::Unix(unix) => unix,
            Self::Local(local) => local_to_unix(zone, local),
        }
    }
}

/// Reads a date the way PHP's `strtotime` does, for the forms that clients send.
/// `None` is PHP's `false`: the filter then means "is null".
pub(super) fn strtotime(text: &str, clock: &Clock) -> Option<Moment> {
    let text = text.trim();
    let today = clock.now_local().div_euclid(DAY) * DAY;
    match text.to_ascii_lowercase().as_str() {
        "now" => return Some(Moment::Unix(clock.now())),
        "today" | "midnight" => return Some(Moment::Local(today)),
        "yesterday" => return Some(Moment::Local(today - DAY)),
        "tomorrow" => return Some(Moment::Local(today + DAY)),
        _ => {}
    }
    if let Some(unix) = text.strip_prefix('@') {
        return unix.parse().ok().map(Moment::Unix);
    }
    if let Some(relative) = relative(text) {
        return Some(Moment::Unix(clock.now() + relative));
    }
    let (day, rest) = date_part(text)?;
    if rest.is_empty() {
        return Some(Moment::Local(day * DAY));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?.trim_start();
    let (clock_seconds, rest) = time_part(rest)?;
    let local = day * DAY + clock_seconds;
    match rest.trim_start() {
        "" => Some(Moment::Local(local)),
        zone => zone_part(zone).map(|offset| Moment::Unix(local - offset)),
    }
}

fn relative(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => return None,
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let amount: i64 = rest[..digits].parse().ok()?;
    let unit = match rest[digits..].trim().trim_end_matches('s') {
        "sec" | "second" => 1,
        "min" | "minute" => 60,
        "hour" => 3600,
        "day" => DAY,
        "week" => 7 * DAY,
        _ => return None,
    };
    Some(sign * amount * unit)
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let found = text.bytes().take_while(u8::is_ascii_digit).count();
    digits.contains(&found).then_some(())?;
    Some((text[..found].parse().ok()?, &text[found..]))
}

fn date_part(text: &str) -> Option<(i64, &str)> {
    if let Some((year, rest)) = number(text, 4..=4) {
        let (month, rest) = number(rest.strip_prefix(['-', '/'])?, 1..=2)?;
        let (date, rest) = number(rest.strip_prefix(['-', '/'])?, 1..=2)?;
        return Some((day_of(year, month, date)?, rest));
    }
    let (date, rest) = number(text, 1..=2)?;
    let (month, rest) = number(rest.strip_prefix('.')?, 1..=2)?;
    let (year, rest) = number(rest.strip_prefix('.')?, 4..=4)?;
    Some((day_of(year, month, date)?, rest))
}

fn time_part(text: &str) -> Option<(i64, &str)> {
    let (hour, rest) = number(text, 1..=2)?;
    let (minute, mut rest) = number(rest.strip_prefix(':')?, 2..=2)?;
    let mut second = 0;
    if let Some(tail) = rest.strip_prefix(':') {
        (second, rest) = number(tail, 2..=2)?;
        if let Some(tail) = rest.strip_prefix('.') {
            (_, rest) = number(tail, 1..=9)?;
        }
    }
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 3600 + minute * 60 + second, rest))
}

fn zone_part(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z" | "UTC" | "GMT") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at_checked(2)?,
        _ => return None,
    };
    let hours: i64 = hours.parse().ok()?;
    let minutes: i64 = minutes.parse().ok()?;
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: Tz) -> Clock {
        let ticks = Ticks::Manual(Arc::new(AtomicU64::new(0)));
        Clock::new(ticks, DateTime::from_timestamp(1_700_000_000, 0).unwrap(), zone)
    }

    fn local(text: &str) -> i64 {
        strtotime(text, &clock(Tz::UTC)).unwrap().local(Tz::UTC)
    }

    fn day(text: &str) -> i64 {
        local(text).div_euclid(DAY)
    }

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_local_time_is_printed_with_the_offset_of_its_own_season() {
        let zone = Tz::Europe__Berlin;
        let print = |text: &str| written(|out| write_local(out, zone, local(text)));
        assert_eq!(print("2024-01-15 10:00"), "2024-01-15T10:00:00+01:00");
        assert_eq!(print("2024-07-15 10:00"), "2024-07-15T10:00:00+02:00");
        // The autumn hour comes twice and is read as its first coming.
        assert_eq!(print("2024-10-27 02:30"), "2024-10-27T02:30:00+02:00");
        // The spring hour does not exist and moves forward.
        assert_eq!(print("2024-03-31 02:30"), "2024-03-31T03:30:00+02:00");
    }

    #[test]
    fn a_birthday_is_midnight_moved_by_the_current_offset() {
        let print = |zone: Tz, text: &str, offset: i64| {
            written(|out| write_day(out, zone, day(text), offset))
        };
        let kiev = Tz::Europe__Kyiv;
        assert_eq!(print(kiev, "2001-11-11", 7200), "2001-11-11T02:00:00+02:00");
        assert_eq!(print(kiev, "2001-11-11", 10_800), "2001-11-11T03:00:00+02:00");
        let moscow = Tz::Europe__Moscow;
        assert_eq!(print(moscow, "1985-07-01", 10_800), "1985-07-01T03:00:00+04:00");
        let york = Tz::America__New_York;
        assert_eq!(print(york, "1980-01-10", -14_400), "1980-01-09T20:00:00-05:00");
    }

    #[test]
    fn dates_with_an_offset_are_instants_and_without_are_local() {
        let clock = clock(Tz::Europe__Moscow);
        let read = |text: &str| strtotime(text, &clock).map(|m| utc_text(m.unix(clock.zone)));
        let noon = Some("2024-05-01T09:00:00Z".to_owned());
        assert_eq!(read("2024-05-01T12:00:00+03:00"), noon);
        assert_eq!(read("2024-05-01T12:00:00"), noon);
        assert_eq!(read("2024-05-01 12:00"), noon);
        assert_eq!(read("01.05.2024 12:00:00"), noon);
        assert_eq!(read("2024-05-01T09:00:00.123Z"), noon);
        assert_eq!(read("2024-05-01T04:00:00-0500"), noon);
    }

    #[test]
    fn a_damaged_date_is_not_read() {
        for text in
            ["", "garbage", "2024-05-01T12:00:00 03:00", "2024-02-30", "2024-05-01T25:00:00"]
        {
            assert_eq!(strtotime(text, &clock(Tz::UTC)), None, "{text}");
        }
    }

    #[test]
    fn the_clock_can_be_set_and_runs_on() {
        let ticks = Arc::new(AtomicU64::new(5_000_000));
        let mut clock = Clock::new(
            Ticks::Manual(Arc::clone(&ticks)),
            DateTime::from_timestamp(1_000, 0).unwrap(),
            Tz::UTC,
        );
        assert_eq!(clock.now(), 1_000);
        clock.set(9_000_000_000);
        ticks.store(8_000_000, Ordering::Relaxed);
        assert_eq!(clock.now(), 9_003);
        clock.shift(600_000_000);
        assert_eq!(clock.now(), 1_603);
        assert_eq!(clock.ahead(), 600);
        clock.pass(Duration::from_secs(7));
        assert_eq!((clock.now(), clock.ahead()), (1_610, 600));
    }
}
