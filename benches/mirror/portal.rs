//! The simulated portal, in a process of its own.

use std::time::Duration;

use anyhow::Context as _;
use b24mirror::simulator::{Action, BucketLimit, Cost, Entity, OperatingLimit, Outcome, Stats};
use tokio::time::sleep;

use crate::{
    processes::{Process, Usage},
    support::{contacts, http},
};

/// A running portal.
pub(crate) struct Portal {
    process: Process,
    webhook: String,
    control: String,
}

/// What the portal allows, and how long it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// No limits and no delay: whatever time passes is ours.
    Unlimited,
    /// The limits of the common cloud plans, and time that really passes.
    Cloud {
        /// Before each request is looked at, in milliseconds.
        per_request: u64,
        /// For each command, in milliseconds.
        per_command: u32,
    },
}

/// What the portal holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    /// Contacts.
    pub(crate) contacts: u64,
    /// Leads.
    pub(crate) leads: u64,
    /// The percentage of IDs that do not exist. Whatever it is, the last twentieth of
    /// the records lies above 2³¹.
    pub(crate) gaps: u32,
}

impl Portal {
    /// Starts a portal without limits or delays and waits until it serves.
    pub(crate) async fn start(records: Records) -> anyhow::Result<Self> {
        let Records { contacts, leads, gaps } = records;
        let options = format!(
            "simulate --port 0 --contacts {contacts} --leads {leads} --gaps {gaps} \
             --bucket 0 --operating-limit 0"
        );
        let arguments: Vec<&str> = options.split(' ').collect();
        let mut process = Process::start(&arguments, "", &[])?;
        loop {
            process.check()?;
            let printed = process.printed()?;
            let address = |word: &str| {
                let line = printed.lines().find(|line| line.starts_with(word))?;
                Some(line.split_whitespace().nth(1)?.to_owned())
            };
            if let (Some(webhook), Some(control)) = (address("webhook"), address("control")) {
                return Ok(Self { process, webhook, control });
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads every contact once and starts counting anew, so that the portal has its rows
    /// at hand: how quickly a simulator makes them up is not what is measured.
    pub(crate) fn warm_up(&self) -> anyhow::Result<()> {
        contacts::read_all(&self.webhook, drop)?;
        self.reset_stats()
    }

    /// From now on it is as slow and as strict as that.
    pub(crate) fn keep_pace(&self, pace: Pace) -> anyhow::Result<()> {
        let Pace::Cloud { per_request, per_command } = pace else { return Ok(()) };
        let seconds = f64::from(per_command) / 1e3;
        for action in [
            Action::Latency { millis: per_request },
            Action::Cost {
                method: "*".to_owned(),
                cost: Cost { seconds, count_seconds: 0.0, real: true },
            },
            Action::Bucket { limit: Some(BucketLimit::default()) },
            Action::Operating { limit: Some(OperatingLimit::default()) },
        ] {
            self.apply(&action)?;
        }
        Ok(())
    }

    fn apply(&self, action: &Action) -> anyhow::Result<Outcome> {
        let action = serde_json::to_string(action)?;
        let answer = http::call(&format!("{}/action", self.control), Some(&action))?;
        serde_json::from_slice(&answer).context("the portal's answer to an action")
    }

    /// The counters since the last reset.
    pub(crate) fn stats(&self) -> anyhow::Result<Stats> {
        let answer = http::call(&format!("{}/stats", self.control), None)?;
        serde_json::from_slice(&answer).context("the portal's counters cannot be read")
    }

    /// Starts counting anew.
    pub(crate) fn reset_stats(&self) -> anyhow::Result<()> {
        http::call(&format!("{}/stats/reset", self.control), Some("")).map(drop)
    }

    /// Changes one random contact, and says which.
    pub(crate) fn change_one(&self) -> anyhow::Result<i64> {
        let (entity, ids, count) = (Entity::Contacts, Vec::new(), 1);
        let change = Action::Change { entity, ids, count, visible_after: 0.0 };
        self.apply(&change)?.ids.first().copied().context("the portal changed nothing")
    }

    /// What the portal's process has used so far.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        self.process.usage()
    }

    /// The webhook.
    pub(crate) fn webhook(&self) -> &str {
        &self.webhook
    }
}
