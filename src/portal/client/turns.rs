//! Who has to wait before a request is sent, to the portal or to the gateway in front of it.

use tokio::task;

use super::Portal;
use crate::portal::{
    envelope::PortalTime,
    limiter::{Limiter, Restraint, Waiting},
};

impl Portal {
    /// Stays below its limits from now on, and below those of the gateway. To be set before the
    /// first request.
    pub fn restrain(&self, restraint: &Restraint) {
        self.limiter().restrain(restraint);
        if let Some(gateway) = &self.gateway {
            gateway.limiter().restrain(restraint);
        }
    }

    /// The long waits that requests are in, at the gateway too, each reason once.
    #[must_use]
    pub fn waits(&self) -> Vec<Waiting> {
        let mut waits = self.limiter().waits();
        let beside = self.gateway.as_ref().map(|gateway| gateway.limiter().waits());
        for wait in beside.into_iter().flatten() {
            if !waits.iter().any(|known| known.reason == wait.reason) {
                waits.push(wait);
            }
        }
        waits
    }

    /// Whether a request that this task makes is waiting for its turn.
    #[must_use]
    pub fn holds_back(&self, task: task::Id) -> bool {
        let at = |limiter: &Limiter| limiter.holds_back(task);
        at(self.limiter()) || self.gateway.as_ref().is_some_and(|gateway| at(gateway.limiter()))
    }

    /// Takes note of the portal's clock, by which quiet hours go at the gateway as well.
    pub(super) fn learn_clock(&self, time: Option<PortalTime>) {
        self.limiter().learn_clock(time);
        if let Some(gateway) = &self.gateway {
            gateway.limiter().learn_clock(time);
        }
    }
}
