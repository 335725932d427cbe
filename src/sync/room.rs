//! The memory for answers that are decoded and not written yet.
//!
//! Shared by all entities of a session, so that there is one bound however many of them
//! are being read.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What decoded answers may hold together, in bytes of the JSON that they came from.
const BYTES: usize = 8 << 20;

/// Bytes are counted in pieces of this size; answers below it are not counted.
const PIECE: usize = 1 << 20;

/// Memory is waited for no longer than this, so that answers that wait for one another in
/// any other way cannot wait for ever.
const MEMORY_WITHIN: Duration = Duration::from_secs(10);

/// The room for decoded answers. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// Memory that is spoken for; given back when dropped.
#[derive(Default)]
pub(super) struct Memory(#[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES / PIECE)))
    }
}

impl Room {
    /// Waits for memory to decode so many bytes of JSON. More than all of it counts as all.
    pub(super) async fn memory(&self, bytes: usize) -> Memory {
        let Ok(pieces @ 1..) = u32::try_from(bytes.min(BYTES) / PIECE) else {
            return Memory(None);
        };
        let permit = Arc::clone(&self.0).acquire_many_owned(pieces);
        Memory(timeout(MEMORY_WITHIN, permit).await.ok().and_then(Result::ok))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_wait_for_memory_but_not_for_ever() {
        let room = Room::default();
        let began = Instant::now();
        let half = room.memory(BYTES / 2).await;
        let _rest = room.memory(BYTES / 2).await;
        let _small = room.memory(PIECE - 1).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let _patient = room.memory(10 * BYTES).await;
        assert_eq!(began.elapsed(), MEMORY_WITHIN);
        drop(half);
        let _again = room.memory(BYTES / 2).await;
        assert_eq!(began.elapsed(), MEMORY_WITHIN);
    }
}
