//! What a pause means to a worker: it comes to the end of the transactions in hand, tells
//! everybody who waits, and then neither reads nor writes until the entity is resumed.

use super::{Worker, answer, cycles::Cycles, fills::Fills};
use crate::{
    store::RunKind,
    sync::{ending::Ending, orders::Task},
};

impl Worker {
    /// Brings the work in line with whether the entity is paused now.
    pub(super) async fn heed_pause(&mut self) {
        let paused = self.mirror.refuse_paused();
        let was_paused = std::mem::replace(&mut self.is_paused, paused.is_err());
        let entity = self.mirror.entity();
        match paused {
            Err(paused) if !was_paused => {
                let why = paused.reason();
                tracing::info!(entity = entity.name, why, "an entity rests");
                self.cycles.slot.give_up(&self.mirror, RunKind::Incremental, &why).await;
                self.give_up_fill(&why).await;
                let waiting = self.everybody().into_iter().chain(self.end_check(&why).await);
                answer(waiting, Some(&Ending::failed(entity, &paused)));
            }
            Ok(()) if was_paused => {
                tracing::info!(entity = entity.name, "an entity is resumed");
                // As after a restart: what happened meanwhile may have become visible late.
                self.mirror.begin_deep();
                self.cycles.begin_at_once();
                for backoff in
                    [&mut self.cycles.backoff, &mut self.fills.backoff, &mut self.checks.backoff]
                {
                    backoff.reset();
                }
            }
            _ => {}
        }
    }

    /// Tells whoever asks something of a paused entity that nothing is done.
    pub(super) fn turn_away(&self, task: Task) -> Option<Task> {
        match self.mirror.refuse_paused() {
            Err(paused) if self.is_paused => {
                task.end(Ending::failed(self.mirror.entity(), &paused));
                None
            }
            _ => Some(task),
        }
    }

    /// Everybody who waits for something that is not under way, or no longer.
    fn everybody(&mut self) -> Vec<Task> {
        let Cycles { asking, served, .. } = &mut self.cycles;
        let Fills { pending, waiting, .. } = &mut self.fills;
        let lists = [asking, served, pending, waiting];
        let mut everybody: Vec<Task> = lists.into_iter().flat_map(std::mem::take).collect();
        everybody.extend(self.checks.asked.drain(..));
        everybody
    }
}
