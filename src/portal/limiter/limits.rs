//! What the portal grants, and what of it we allow ourselves.

use std::time::Duration;

use super::quiet::QuietHours;

/// The portal's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How many requests the portal forgets per second (2, or 5 on Enterprise).
    pub requests_per_second: f64,
    /// How many requests it remembers before it refuses (50, or 250 on Enterprise).
    pub burst: u32,
    /// The operating time per method; `None` where the portal has no such limit.
    pub operating: Option<OperatingLimit>,
}

impl Limits {
    /// What a share of them allows.
    #[must_use]
    pub fn part(&self, share: Share) -> Self {
        let limit = self.operating.map(|operating| OperatingLimit {
            limit: operating.limit.mul_f64(share.get()),
            ..operating
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
        let burst = (f64::from(self.burst) * share.get()) as u32;
        Self {
            requests_per_second: self.requests_per_second * share.get(),
            burst: burst.max(1),
            operating: limit,
        }
    }
}

/// The operating time that a portal grants each method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatingLimit {
    /// The time granted within the window (480 s).
    pub limit: Duration,
    /// The sliding window (600 s).
    pub window: Duration,
}

/// A part of the portal's limits: above 0, and 1 for all of them.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(1.0);

    /// A share; `None` for what is not above 0 and at most 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

/// How far we stay below what the portal grants, by our own will.
#[derive(Debug, Clone, PartialEq)]
pub struct Restraint {
    /// The part of the request rate, of the burst and of each method's operating time
    /// that is used at most.
    pub share: Share,
    /// When nothing but incremental cycles may call the portal.
    pub quiet_hours: QuietHours,
}

impl Default for Restraint {
    fn default() -> Self {
        Self { share: Share::WHOLE, quiet_hours: QuietHours::default() }
    }
}
