//! What happens to the address book of the webhook's user. It has neither times nor a bin, so
//! what records can do becomes what entries can do.

use b24mirror::simulator::Action;

use super::{
    history::{Event, Who},
    scene::Scene,
};

/// The most entries that one event moves or changes.
const MOST: usize = 60;

impl Scene {
    /// The entries, by ascending ID.
    fn entries(&self) -> Vec<i64> {
        self.portal.recipients().iter().map(|one| one.id).collect()
    }

    /// Which entries are meant. One that came last but so many has the highest ID but so many.
    fn which(&self, who: Who) -> Vec<i64> {
        let ids = self.entries();
        let newest = |count: usize| ids[ids.len().saturating_sub(count)..].to_vec();
        match who {
            Who::Newest(count) => newest(count),
            Who::LastPage => newest(50),
            Who::Oldest(count) => ids.into_iter().take(count).collect(),
            Who::All => ids,
            Who::Made(but) => ids.into_iter().rev().nth(but).into_iter().collect(),
            Who::Some(count) => {
                let step = (ids.len() as u64 / count).max(1);
                ids.into_iter().step_by(usize::try_from(step).unwrap()).collect()
            }
        }
    }

    /// Does that to the address book.
    pub(super) fn book_actions(&self, event: &Event) -> Vec<Action> {
        let added = |count: u64| {
            let stamp = self.portal.now();
            let one = |number| Action::AddRecipient {
                email: format!("New.{stamp}.{number}@Example.org"),
                name: format!("New {number}"),
            };
            (0..count).map(one).collect()
        };
        let moved = |who: Who| {
            let ids = self.which(who).into_iter().take(MOST);
            ids.map(|id| Action::TouchRecipient { id }).collect()
        };
        // An address book that comes empty is believed when a person says so, and not before.
        let removed = |mut ids: Vec<i64>| {
            if ids.len() == self.entries().len() {
                ids.pop();
            }
            vec![Action::RemoveRecipient { ids }]
        };
        match *event {
            Event::Create { count, .. }
            | Event::Import { count, .. }
            | Event::Restore { count, .. } => added(count),
            Event::Edit { who, .. } => {
                let ids = self.which(who).into_iter().take(MOST);
                let stamp = self.portal.now();
                let changed = |id| Action::ChangeRecipient {
                    id,
                    email: Some(format!(" changed.{id}.{stamp}@example.com")),
                    name: (id % 2 == 0).then(String::new),
                };
                ids.map(changed).collect()
            }
            Event::Phones { who, .. } | Event::Activity { who } => moved(who),
            Event::Delete { who } => removed(self.which(who)),
            Event::Merge { count } => removed(self.which(Who::Some(count))),
            Event::Reshuffle => moved(Who::All),
            Event::NewField => Vec::new(),
            Event::Jump(_) | Event::WildJump(_) => unreachable!("no theme of the book has clocks"),
        }
    }
}
