//! The memory for answers that are decoded and not written yet, and the thread that decodes.
//!
//! Shared by all entities of a session, so that there is one bound however many of them
//! are being read.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

/// What decoded answers may hold together, in bytes of the JSON that they came from.
const BYTES: usize = 8 << 20;

/// Bytes are counted in pieces of this size; answers below it are not counted.
const PIECE: usize = 1 << 20;

/// Memory is waited for no longer than this, so that answers that wait for one another in
/// any other way cannot wait for ever.
const MEMORY_WITHIN: Duration = Duration::from_secs(10);

/// Something to be done on the thread that decodes.
type Job = Box<dyn FnOnce() + Send>;

/// The room for decoded answers. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pieces: Arc<Semaphore>,
    /// The way to the thread, which is there from the first job on; none where there can be
    /// no thread.
    desk: Arc<OnceLock<Option<mpsc::UnboundedSender<Job>>>>,
}

/// Memory that is spoken for; given back when dropped.
#[derive(Default)]
pub(super) struct Memory(#[expect(dead_code, reason = "held")] Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self { pieces: Arc::new(Semaphore::new(BYTES / PIECE)), desk: Arc::default() }
    }
}

impl Room {
    /// Waits for memory to decode so many bytes of JSON. More than all of it counts as all.
    pub(super) async fn memory(&self, bytes: usize) -> Memory {
        let Ok(pieces @ 1..) = u32::try_from(bytes.min(BYTES) / PIECE) else {
            return Memory(None);
        };
        let permit = Arc::clone(&self.pieces).acquire_many_owned(pieces);
        Memory(timeout(MEMORY_WITHIN, permit).await.ok().and_then(Result::ok))
    }

    /// Decodes on a thread of its own: it would hold up everything else for the tenth of a
    /// second that a long answer takes. It is one thread for all, because an allocator keeps
    /// the memory that an answer has left for the thread that had it.
    pub(super) async fn decode<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let (done, answer) = oneshot::channel::<Result<T, Box<dyn Any + Send>>>();
        let job: Job = Box::new(move || {
            // Nobody listens any more when the asker was given up.
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        let refused = match self.desk.get_or_init(decoding_thread) {
            Some(desk) => desk.send(job).err().map(|mpsc::error::SendError(job)| job),
            None => Some(job),
        };
        if let Some(job) = refused {
            job();
        }
        match answer.await {
            Ok(Ok(decoded)) => decoded,
            Ok(Err(panic)) => resume_unwind(panic),
            // A job answers whatever becomes of it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Starts the thread, which ends with the last room that leads to it.
fn decoding_thread() -> Option<mpsc::UnboundedSender<Job>> {
    let (desk, mut jobs) = mpsc::unbounded_channel::<Job>();
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            job();
        }
    };
    let started = thread::Builder::new().name("decoding".to_owned()).spawn(work);
    started
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "no thread to decode on could be started; everything waits while it is done"
            );
        })
        .ok()
        .map(|_| desk)
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

    #[tokio::test]
    async fn everything_is_decoded_on_one_thread_that_outlives_a_panic() {
        let room = Room::default();
        let on = || thread::current().id();
        let first = room.decode(on).await;
        assert_ne!(first, on());
        let clone = room.clone();
        let panicked = tokio::spawn(async move { clone.decode(|| panic!("on purpose")).await });
        assert!(panicked.await.is_err_and(|error| error.is_panic()));
        assert_eq!(room.decode(on).await, first);
    }
}
