//! What requests wait for, and how people learn of it: a long wait is logged once when
//! it begins and once when it has ended, however many requests and looks it takes.

use std::{fmt, time::Duration};

use chrono::{NaiveTime, Weekday};
use tokio::time::Instant;

/// Shorter waits are the normal course of things.
const LONG: Duration = Duration::from_secs(5);

/// Waits for the same thing with less than this between them are one wait: a chain goes
/// whenever enough operating time has come back, and the next one waits again.
const APART: Duration = Duration::from_secs(30);

/// The same for a wait that is not long yet: a blocked method is tried again and again.
const APART_AT_FIRST: Duration = Duration::from_secs(2);

/// Why requests are being held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// The request rate is used up.
    RequestRate,
    /// Incremental cycles use up the request rate, and nothing else gets a turn.
    CyclesFirst,
    /// The portal refused a request; somebody else uses its limit too.
    PortalBusy,
    /// A method's operating time is used up.
    OperatingTime {
        /// The method.
        method: String,
    },
    /// The portal has blocked a method.
    MethodBlocked {
        /// The method.
        method: String,
    },
    /// Another request is finding out what a method costs.
    CostUnknown {
        /// The method.
        method: String,
    },
    /// There are quiet hours, and the portal has not shown its clock yet.
    ClockUnknown,
    /// Only incremental cycles work at this time of the week.
    QuietHours {
        /// The day on which they end, unless they do within a day.
        day: Option<Weekday>,
        /// When they end, by the portal's clock.
        until: NaiveTime,
    },
}

impl WaitReason {
    /// Whether two reasons are the same wait.
    fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::QuietHours { .. }, Self::QuietHours { .. })) || self == other
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestRate => f.write_str("the portal's request rate is used up"),
            Self::CyclesFirst => f.write_str(
                "incremental cycles use up the portal's request rate, so backfills and checks make \
                 no progress; set a longer `sync.interval`",
            ),
            Self::PortalBusy => {
                f.write_str("the portal refuses requests; another program shares its limit")
            }
            Self::OperatingTime { method } => {
                write!(f, "the operating time of {method} is used up")
            }
            Self::MethodBlocked { method } => {
                write!(f, "the portal has blocked {method} for its operating time")
            }
            Self::CostUnknown { method } => {
                write!(f, "another request finds out what {method} costs")
            }
            Self::ClockUnknown => {
                f.write_str("there are quiet hours, and the portal's local time is not known yet")
            }
            Self::QuietHours { day, until } => {
                f.write_str("quiet hours until ")?;
                if let Some(day) = day {
                    write!(f, "{day} ")?;
                }
                write!(f, "{} (portal time)", until.format("%H:%M"))
            }
        }
    }
}

/// What a waiting request is waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why.
    pub reason: WaitReason,
    /// When it is expected to go on.
    pub until: Instant,
}

/// The long waits that have begun and not ended.
#[derive(Debug, Default)]
pub(super) struct Waits {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    waiting: Waiting,
    since: Instant,
    /// Whether it is long, and so was told.
    told: bool,
    /// When somebody was last seen waiting.
    seen: Instant,
}

impl Waits {
    /// Takes note that a request has to wait.
    pub(super) fn begin(&mut self, now: Instant, waiting: &Waiting) {
        if matches!(waiting.reason, WaitReason::CostUnknown { .. }) {
            return;
        }
        if let Some(open) = self.open.iter_mut().find(|open| open.is_for(&waiting.reason)) {
            open.waiting = waiting.clone();
            open.seen = now;
            open.tell(now);
            return;
        }
        let mut open = Open { waiting: waiting.clone(), since: now, told: false, seen: now };
        open.tell(now);
        self.open.push(open);
    }

    /// Takes note of who still waits; ends the waits that are over.
    pub(super) fn look<'a>(
        &mut self,
        now: Instant,
        waiting: &(impl Iterator<Item = &'a Waiting> + Clone),
    ) {
        self.open.retain_mut(|open| {
            if waiting.clone().any(|waiting| open.is_for(&waiting.reason)) {
                open.seen = now;
                return true;
            }
            let goes_on = now - open.seen < open.apart();
            if !goes_on {
                open.end();
            }
            goes_on
        });
    }

    /// The long waits that somebody is in.
    pub(super) fn of<'a>(
        &self,
        waiting: &(impl Iterator<Item = &'a Waiting> + Clone),
    ) -> Vec<Waiting> {
        self.open
            .iter()
            .filter(|open| open.told && waiting.clone().any(|waiting| open.is_for(&waiting.reason)))
            .map(|open| open.waiting.clone())
            .collect()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        for open in &self.open {
            open.end();
        }
    }
}

impl Open {
    fn is_for(&self, reason: &WaitReason) -> bool {
        self.waiting.reason.is_same(reason)
    }

    /// How long nobody must have waited until it is over.
    const fn apart(&self) -> Duration {
        match self.waiting.reason {
            WaitReason::QuietHours { .. } => Duration::ZERO,
            _ if self.told => APART,
            _ => APART_AT_FIRST,
        }
    }

    /// Tells of it once it is long: because it will be, or has been.
    fn tell(&mut self, now: Instant) {
        let expected = self.waiting.until.saturating_duration_since(now);
        // One request after the other waits for its place, as long as there is work.
        let has_been = match self.waiting.reason {
            WaitReason::RequestRate => Duration::ZERO,
            // It is noticed late.
            WaitReason::CyclesFirst => LONG,
            _ => now - self.since,
        };
        if !self.told && expected.max(has_been) >= LONG {
            self.told = true;
            let reason = &self.waiting.reason;
            tracing::info!(expected_seconds = expected.as_secs(), "waiting: {reason}");
        }
    }

    fn end(&self) {
        if !self.told {
            return;
        }
        let waited = self.seen - self.since;
        tracing::info!(
            waited_seconds = waited.as_secs(),
            "the wait is over: {}",
            self.waiting.reason
        );
    }
}
