//! Who may run beside whom.
//!
//! A test that holds the program to the second says nothing while another one keeps the
//! machine busy. So such a test runs alone. Every test with a database takes part; whatever
//! has none is too light to matter.

use std::{
    collections::HashMap,
    sync::LazyLock,
    thread::{self, ThreadId},
};

use tokio::sync::watch;

static ROOM: LazyLock<watch::Sender<Room>> = LazyLock::new(|| watch::Sender::new(Room::default()));

/// What kind of test it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Timed,
}

#[derive(Default)]
struct Room {
    /// Who is inside, and how many times: a test is one thread, which may come in again.
    inside: HashMap<ThreadId, (Kind, usize)>,
    /// Timed tests before the door; nobody else is let in, so that their turn comes.
    waiting: usize,
}

impl Room {
    fn admits(&self, thread: ThreadId, kind: Kind) -> bool {
        self.inside.contains_key(&thread)
            || match kind {
                Kind::Timed => self.inside.is_empty(),
                Kind::Ordinary => {
                    self.waiting == 0
                        && self.inside.values().all(|(other, _)| *other == Kind::Ordinary)
                }
            }
    }
}

/// A place in the room, given up when dropped.
#[derive(Debug)]
pub(crate) struct Company {
    thread: ThreadId,
}

impl Company {
    /// For a test that takes the time; to be called before anything else.
    pub(crate) async fn quiet() -> Self {
        ROOM.send_modify(|room| room.waiting += 1);
        let company = Self::enter(Kind::Timed).await;
        ROOM.send_modify(|room| room.waiting -= 1);
        company
    }

    /// For any other test.
    pub(crate) async fn ordinary() -> Self {
        Self::enter(Kind::Ordinary).await
    }

    async fn enter(kind: Kind) -> Self {
        let thread = thread::current().id();
        let mut changes = ROOM.subscribe();
        loop {
            let entered = ROOM.send_if_modified(|room| {
                let admitted = room.admits(thread, kind);
                if admitted {
                    room.inside.entry(thread).or_insert((kind, 0)).1 += 1;
                }
                admitted
            });
            if entered {
                return Self { thread };
            }
            changes.changed().await.unwrap();
        }
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        ROOM.send_modify(|room| {
            if let Some((_, times)) = room.inside.get_mut(&self.thread) {
                *times -= 1;
                if *times == 0 {
                    room.inside.remove(&self.thread);
                }
            }
        });
    }
}
