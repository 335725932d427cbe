//! Quiet hours: the times of the week when only incremental cycles work.

use std::{fmt, str::FromStr};

use chrono::{Datelike as _, NaiveDateTime, NaiveTime, TimeDelta, Timelike as _, Weekday};

const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;

/// Spans of the week in the portal's local time, such as `mon-fri 09:00-18:00`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuietHours {
    /// Minutes since Monday, from and up to; apart from each other, in order. One that
    /// passes the week's end goes beyond it.
    spans: Vec<(u32, u32)>,
}

/// Why quiet hours cannot be read. Does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuietHours {
    /// A text is no span.
    #[error(
        "span {number} {problem}; write it like \"mon-fri 09:00-18:00\", \"sat 22:00-06:00\" \
         or \"sun 00:00-24:00\""
    )]
    Span {
        /// Which one, from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no other time.
    #[error(
        "together the spans are the whole week, so nothing else would ever be done; leave some time"
    )]
    WholeWeek,
}

impl QuietHours {
    /// Reads spans; together they are quiet whenever one of them is.
    ///
    /// Days are `mon` … `sun`, single, as a range (`fri-mon` goes across the week's end)
    /// or listed with commas. A span that ends at or before its beginning ends on the
    /// next day.
    ///
    /// # Errors
    /// [`InvalidQuietHours`] for the first text that is no span, and when no hour of the
    /// week is left.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, InvalidQuietHours> {
        let mut spans = Vec::new();
        for (text, number) in texts.iter().zip(1..) {
            let read = span(text.as_ref());
            spans.extend(read.map_err(|problem| InvalidQuietHours::Span { number, problem })?);
        }
        let quiet = Self { spans: merged(spans) };
        if quiet.spans.first().is_some_and(|(from, to)| to - from >= WEEK) {
            return Err(InvalidQuietHours::WholeWeek);
        }
        Ok(quiet)
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// When the quiet time ends that a moment of the portal's local time lies in.
    #[must_use]
    pub fn end(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        let monday = local.date() - TimeDelta::days(local.weekday().num_days_from_monday().into());
        let minute =
            local.weekday().num_days_from_monday() * DAY + local.hour() * 60 + local.minute();
        let (_, to, begun) = self
            .spans
            .iter()
            .flat_map(|(from, to)| [(*from, *to, minute), (*from, *to, minute + WEEK)])
            .find(|(from, to, at)| from <= at && at < to)?;
        let to = i64::from(to) - i64::from(begun - minute);
        Some(monday.and_time(NaiveTime::MIN) + TimeDelta::minutes(to))
    }
}

/// A span of each of its days.
fn span(text: &str) -> Result<Vec<(u32, u32)>, &'static str> {
    let (days, hours) = text.trim().split_once(' ').ok_or("does not name days and hours")?;
    let (from, to) = hours.trim().split_once('-').ok_or("has no hours from and up to")?;
    let minutes = |text| minute_of_day(text).ok_or("has a time that is not from 00:00 to 24:00");
    let (from, mut to) = (minutes(from)?, minutes(to)?);
    if from == DAY {
        return Err("begins at 24:00, which is 00:00 of the next day");
    }
    if to <= from {
        to += DAY;
    }
    let mut spans = Vec::new();
    for part in days.split(',') {
        let day = |name| {
            weekday(name).ok_or("has a day that is none of mon, tue, wed, thu, fri, sat, sun")
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let mut at = first;
        loop {
            let midnight = at.num_days_from_monday() * DAY;
            spans.push((midnight + from, midnight + to));
            if at == last {
                break;
            }
            at = at.succ();
        }
    }
    Ok(spans)
}

fn weekday(name: &str) -> Option<Weekday> {
    Weekday::from_str(name.trim()).ok()
}

fn minute_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| (text.len() == 2).then(|| text.parse::<u32>().ok()).flatten();
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

/// Joins spans that meet or overlap, around the end of the week too.
fn merged(mut spans: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    spans.sort_unstable();
    let mut apart: Vec<(u32, u32)> = Vec::with_capacity(spans.len());
    for (from, to) in spans {
        match apart.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => apart.push((from, to)),
        }
    }
    // What passes the week's end meets what begins it.
    while let [(first, end), .., last] = apart.as_mut_slice()
        && last.1 >= *first + WEEK
    {
        last.1 = last.1.max(*end + WEEK);
        apart.remove(0);
    }
    apart
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.spans.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{} to {}", moment(*from), moment(*to))?;
        }
        Ok(())
    }
}

fn moment(minute: u32) -> String {
    let mut day = Weekday::Mon;
    for _ in 0..minute % WEEK / DAY {
        day = day.succ();
    }
    format!("{day} {:02}:{:02}", minute % DAY / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;
    use proptest::{collection, prelude::*};

    use super::*;

    fn quiet(texts: &[&str]) -> QuietHours {
        QuietHours::parse(texts).unwrap()
    }

    /// A moment of the week that begins with Monday, 1 September 2025.
    fn at(day: u32, time: &str) -> NaiveDateTime {
        let date = NaiveDate::from_ymd_opt(2025, 9, 1).unwrap();
        let day = date + TimeDelta::days(i64::from(day));
        day.and_time(NaiveTime::parse_from_str(time, "%H:%M").unwrap())
    }

    #[test]
    fn working_days_are_quiet_and_nights_and_weekends_are_not() {
        let quiet = quiet(&["mon-fri 09:00-18:00"]);
        assert_eq!(quiet.end(at(0, "08:59")), None);
        assert_eq!(quiet.end(at(0, "09:00")), Some(at(0, "18:00")));
        assert_eq!(quiet.end(at(4, "17:59")), Some(at(4, "18:00")));
        assert_eq!(quiet.end(at(4, "18:00")), None);
        assert_eq!(quiet.end(at(5, "12:00")), None);
    }

    #[test]
    fn a_span_may_cross_midnight_and_the_end_of_the_week() {
        let quiet = quiet(&["sat,sun 22:00-06:00"]);
        assert_eq!(quiet.end(at(5, "23:30")), Some(at(6, "06:00")));
        assert_eq!(quiet.end(at(6, "05:59")), Some(at(6, "06:00")));
        assert_eq!(quiet.end(at(6, "22:00")), Some(at(7, "06:00")));
        assert_eq!(quiet.end(at(0, "05:00")), Some(at(0, "06:00")), "begun on Sunday");
        assert_eq!(quiet.end(at(0, "06:00")), None);
    }

    #[test]
    fn spans_that_meet_end_together() {
        let quiet = quiet(&["fri 18:00-24:00", "sat-sun 00:00-24:00", "mon 00:00-08:00"]);
        assert_eq!(quiet.end(at(4, "18:00")), Some(at(7, "08:00")));
        assert_eq!(quiet.end(at(0, "07:00")), Some(at(0, "08:00")));
        assert_eq!(quiet.to_string(), "Fri 18:00 to Mon 08:00");
        assert!(quiet.end(at(0, "08:00")).is_none());
    }

    #[test]
    fn what_is_no_span_is_refused_with_the_right_form() {
        for (text, problem) in [
            ("", "span 2 does not name days and hours; write it like \"mon-fri 09:00-18:00\""),
            ("mon", "does not name days and hours"),
            ("mon 9-18", "has a time that is not from 00:00 to 24:00"),
            ("mon 09:00", "has no hours from and up to"),
            ("mon 09:00-25:00", "has a time that is not"),
            ("mon 09:60-10:00", "has a time that is not"),
            ("mon 24:00-06:00", "begins at 24:00"),
            ("mo-frx 09:00-18:00", "has a day that is none of mon"),
            ("mon- 09:00-18:00", "has a day that is none of mon"),
        ] {
            let error = QuietHours::parse(&["tue 01:00-02:00", text]).unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let whole = QuietHours::parse(&["mon-sun 00:00-24:00"]).unwrap_err();
        assert_eq!(whole, InvalidQuietHours::WholeWeek);
        assert!(QuietHours::parse::<&str>(&[]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn a_moment_is_quiet_exactly_when_one_of_the_spans_says_so(
            spans in collection::vec((0_u32..7, 0_u32..DAY, 0_u32..=DAY), 1..6),
            minute in 0_u32..WEEK,
        ) {
            const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let time = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
            let texts: Vec<String> = spans
                .iter()
                .map(|(day, from, to)| {
                    let day = DAYS[usize::try_from(*day).unwrap()];
                    format!("{day} {}-{}", time(*from), time(*to))
                })
                .collect();
            let Ok(quiet) = QuietHours::parse(&texts) else { return Ok(()) };
            let length = |from: u32, to: u32| if to <= from { to + DAY - from } else { to - from };
            let inside = |minute: u32| spans.iter().any(|(day, from, to)| {
                (minute + WEEK - (day * DAY + from)) % WEEK < length(*from, *to)
            });
            let monday = at(0, "00:00");
            let end = quiet.end(monday + TimeDelta::minutes(minute.into()));
            prop_assert_eq!(end.is_some(), inside(minute));
            if let Some(end) = end {
                // Quiet up to the end, and no more there.
                let last = u32::try_from((end - monday).num_minutes()).unwrap();
                prop_assert!((minute..last).all(|minute| inside(minute % WEEK)));
                prop_assert!(!inside(last % WEEK));
            }
        }
    }
}
