//! What an answer teaches the books: its cost, and whether they are right.

use tokio::time::Instant;

use super::{
    super::{super::OperatingLimit, Figures, Lane, expectation::count},
    Booked, Books, Knowledge, Landed, SLICES, Used,
};

/// What the books may fail to explain, as a share of our part of the limit, before it is
/// taken for somebody else's use.
const UNEXPLAINED: f64 = 0.02;

impl Books {
    /// Books what the commands of an answer cost. Where the account is that of `whole`
    /// batches, there is one entry of figures for so many commands. `limit` is our part.
    pub(in super::super) fn settle(
        &mut self,
        now: Instant,
        limit: Option<OperatingLimit>,
        lane: Lane,
        flight: Option<&Landed>,
        whole: Option<usize>,
        figures: &[Figures],
    ) {
        let ran = whole.unwrap_or(figures.len());
        let whole = whole.is_some();
        if ran == 0 || figures.is_empty() {
            return;
        }
        self.keep_pace(now, lane, flight, ran, figures);
        if let Some(reset) = figures.iter().rev().find_map(|figures| figures.reset_in) {
            self.reset = Some(now + reset);
        }
        let sums: Vec<f64> = figures.iter().filter_map(|figures| figures.operating).collect();
        let Some(report) = sums.last() else {
            match self.knowledge {
                Knowledge::Unknown => self.knowledge = Knowledge::Silent,
                Knowledge::Silent => {}
                // The portal does account, so what it left out is guessed.
                Knowledge::Known => self.book(now, self.expected(lane) * count(ran), Some(lane)),
            }
            return;
        };
        let exclusive = flight.is_some_and(|flight| flight.exclusive);
        let crowd = flight.filter(|_| !exclusive).map_or(1.0, |flight| flight.crowd);
        let spent: f64 = figures.iter().filter_map(|figures| figures.spent).sum();
        let expected = self.expected(lane) * count(ran);
        let (cost, measured) = match sums.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => {
                let added = added(*first, rest);
                (self.between(expected, added / crowd, added, *report), true)
            }
            _ if self.knowledge != Knowledge::Known => (spent.min(*report), false),
            _ => {
                let (least, most) = self.unexplained(now, limit, *report);
                // Of batches under way at once, the sum holds each as a whole or not at all,
                // and answers may overtake each other.
                let least = if whole && !exclusive { 0.0 } else { least / crowd };
                (self.between(expected, least, most, *report), exclusive)
            }
        };
        self.knowledge = Knowledge::Known;
        // A figure of zero means that the portal books nothing; the next call may still
        // take what this one took.
        let average = if cost > 0.0 { cost } else { spent } / count(ran);
        self.expectation_mut(lane).learn(average, ran, measured);
        self.book(now, cost, Some(lane));
        if let Some(limit) = limit {
            self.reconcile(now, limit, *report, flight);
        }
    }

    /// Books the expected cost of commands whose answer never came: they may have run.
    pub(in super::super) fn forfeit(&mut self, now: Instant, lane: Lane, flight: &Landed) {
        if self.knowledge != Knowledge::Silent {
            self.book(now, flight.reserved, Some(lane));
        }
    }

    /// Learns how long a command takes: from the portal, else from the whole answer.
    fn keep_pace(
        &mut self,
        now: Instant,
        lane: Lane,
        flight: Option<&Landed>,
        ran: usize,
        figures: &[Figures],
    ) {
        let took: Vec<f64> = figures.iter().filter_map(|figures| figures.took).collect();
        let whole = flight.map(|flight| (now - flight.sent_at).as_secs_f64());
        let seconds = if took.is_empty() { whole } else { Some(took.iter().sum()) };
        if let Some(seconds) = seconds {
            self.expectation_mut(lane).keep_pace(seconds / count(ran));
        }
    }

    fn book(&mut self, at: Instant, cost: f64, lane: Option<Lane>) {
        if cost > 0.0 {
            self.booked.push_back(Booked { at, cost, lane });
        }
    }

    /// Of what commands may have cost, what was expected; more where the portal's sum is
    /// higher than that and everything else that is known.
    fn between(&self, expected: f64, least: f64, most: f64, report: f64) -> f64 {
        let known: f64 = self.booked.iter().map(|booked| booked.cost).sum();
        expected.max(report - known - self.reserved).min(most).max(least)
    }

    /// The part of a single sum that the books do not explain, at least and at most: the
    /// cost of the commands that it comes with. The oldest tenth of the books may have
    /// left the portal's window already, for it forgets by slices.
    fn unexplained(&self, now: Instant, limit: Option<OperatingLimit>, report: f64) -> (f64, f64) {
        let known: f64 = self.booked.iter().map(|booked| booked.cost).sum();
        let doubtful = limit.map_or(0.0, |limit| {
            let old = |booked: &&Booked| now - booked.at >= limit.window * (SLICES - 1) / SLICES;
            self.booked.iter().take_while(old).map(|booked| booked.cost).sum::<f64>()
        });
        let least = (report - known).max(0.0);
        (least, (report - known + doubtful).max(least))
    }

    /// Holds our books against the portal's sum.
    fn reconcile(
        &mut self,
        now: Instant,
        limit: OperatingLimit,
        report: f64,
        flight: Option<&Landed>,
    ) {
        let contained = |booked: &&Booked| {
            flight.is_some_and(|flight| flight.exclusive || booked.at <= flight.sent_at)
        };
        let mut surplus: f64 =
            self.booked.iter().filter(contained).map(|booked| booked.cost).sum::<f64>() - report;
        while surplus > 0.0 {
            let Some(oldest) = self.booked.front_mut() else { break };
            let cut = surplus.min(oldest.cost);
            oldest.cost -= cut;
            surplus -= cut;
            if oldest.cost <= 0.0 {
                self.booked.pop_front();
            }
        }
        let Used { own, foreign, .. } = self.used(now, limit.window);
        let unexplained = report - own - foreign - self.reserved;
        let small = UNEXPLAINED * limit.limit.as_secs_f64();
        if unexplained > small {
            self.book(now, unexplained, None);
        } else {
            // Less is our own that was dearer than it looked.
            self.book(now, unexplained, Some(Lane::Rolling));
        }
        let reset = self.reset.filter(|reset| *reset > now);
        let Used { own, foreign, .. } = self.used(now, limit.window);
        self.deficit = (report - own - foreign).max(0.0);
        self.look_again = (foreign > small).then_some(reset).flatten();
    }
}

/// What the commands of one answer added to their account's sum.
///
/// The first sum has no predecessor in the answer, so the first command counts as the
/// others did on average.
fn added(first: f64, rest: &[f64]) -> f64 {
    let mut previous = first;
    let mut added = 0.0;
    for sum in rest {
        added += (sum - previous).max(0.0);
        previous = *sum;
    }
    added + (added / count(rest.len())).min(first)
}
