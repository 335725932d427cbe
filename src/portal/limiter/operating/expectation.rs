//! What commands are expected to cost, and how long they take.

/// What one command is expected to be like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expectation {
    /// What it costs, once one was seen.
    pub(super) cost: Option<f64>,
    /// Whether that was ever seen as the difference of two sums; else it is only what
    /// the portal says the command took.
    pub(super) measured: bool,
    /// How long it takes, in seconds.
    pub(super) pace: Option<f64>,
}

impl Expectation {
    /// Nothing was seen yet.
    pub(super) const NONE: Self = Self { cost: None, measured: false, pace: None };

    /// Goes up fast and down slowly, faster for many commands than for few.
    pub(super) fn learn(&mut self, average: f64, commands: usize, measured: bool) {
        self.cost = Some(match self.cost {
            _ if measured && !self.measured => average,
            Some(known) if average < known => {
                known + (average - known) * (count(commands) / 100.0).min(1.0)
            }
            // Somebody else's use may look like ours for once.
            Some(known) if self.measured && known > 0.0 => average.min(2.0 * known),
            _ => average,
        });
        self.measured |= measured;
    }

    /// Learns how long a command took.
    pub(super) fn keep_pace(&mut self, pace: f64) {
        // One slow answer is no rule for long.
        self.pace = Some(match self.pace {
            Some(known) if pace < known => f64::midpoint(known, pace),
            _ => pace,
        });
    }
}

/// A number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "numbers of commands are small")]
pub(super) const fn count(commands: usize) -> f64 {
    commands as f64
}

/// How many fit, at most as many as there are numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and the cast saturates"
)]
pub(super) const fn whole(number: f64) -> usize {
    number as usize
}
