//! A relay to the database that counts what the program says and hangs up on it at any
//! word: before the server has heard it, or after the server has done it and before the
//! program learns so.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use secrecy::SecretString;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, split},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};
use url::Url;

use crate::support::gate::{Server, detour};

/// On which side of a message the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The server never hears of it.
    Before,
    /// The server has done what it was told, and the program never hears of that.
    After,
}

/// A message by its number since counting began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Of all messages.
    Any(u64),
    /// Of those that commit.
    Commit(u64),
}

/// What was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) messages: u64,
    pub(super) commits: u64,
    /// Whether the connection was ended.
    pub(super) cut: bool,
}

/// What is counted, and where the connection ends.
#[derive(Debug, Default)]
struct Plan {
    heard: Heard,
    at: Option<(Word, Cut)>,
}

/// The relay.
pub(super) struct Cutter {
    url: Url,
    plan: Arc<Mutex<Plan>>,
    door: JoinHandle<()>,
}

impl Cutter {
    pub(super) async fn to(database: &SecretString) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (server, mut url) = detour(database, listener.local_addr().unwrap().port());
        // What is encrypted cannot be counted.
        url.set_query(Some("sslmode=disable"));
        let (server, plan) = (Arc::new(server), Arc::<Mutex<Plan>>::default());
        let shared = Arc::clone(&plan);
        let door = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&server), Arc::clone(&shared)));
            }
        });
        Self { url, plan, door }
    }

    /// The database's address through this relay.
    pub(super) fn url(&self) -> SecretString {
        SecretString::from(String::from(self.url.clone()))
    }

    /// Starts counting, and ends the connection that says the message of that number.
    pub(super) fn arm(&self, at: Option<(Word, Cut)>) {
        *self.plan.lock().unwrap() = Plan { at, ..Plan::default() };
    }

    /// What was heard since it was armed.
    pub(super) fn disarm(&self) -> Heard {
        std::mem::take(&mut *self.plan.lock().unwrap()).heard
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.door.abort();
    }
}

/// One message: its kind and all of its bytes.
async fn message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let mut bytes = vec![0; 5];
    from.read_exact(&mut bytes).await?;
    let kind = bytes[0];
    let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
    bytes.resize(length + 1, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok((kind, bytes))
}

async fn relay(client: TcpStream, server: Arc<Server>, plan: Arc<Mutex<Plan>>) {
    let Ok(server) = server.connect().await else { return };
    // Else every small message waits for the one before it to be acknowledged.
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = split(server);
    let (deaf, done) = (AtomicBool::new(false), Notify::new());
    let speaking = async {
        // The first message has no kind.
        let mut length = [0; 4];
        from_client.read_exact(&mut length).await?;
        let mut first = vec![0; u32::from_be_bytes(length) as usize - 4];
        from_client.read_exact(&mut first).await?;
        to_server.write_all(&length).await?;
        to_server.write_all(&first).await?;
        loop {
            let (kind, bytes) = message(&mut from_client).await?;
            match heard(&plan, kind, &bytes) {
                None => to_server.write_all(&bytes).await?,
                Some(Cut::Before) => return Ok(()),
                Some(Cut::After) => {
                    deaf.store(true, Ordering::SeqCst);
                    to_server.write_all(&bytes).await?;
                    to_server.flush().await?;
                    // Only a query and a sync are answered at once.
                    if matches!(kind, b'Q' | b'S') {
                        done.notified().await;
                    }
                    return Ok(());
                }
            }
        }
    };
    let answering = async {
        loop {
            let (kind, bytes) = message(&mut from_server).await?;
            if !deaf.load(Ordering::SeqCst) {
                to_client.write_all(&bytes).await?;
            } else if kind == b'Z' {
                done.notify_one();
            }
        }
    };
    let speaking: std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>> =
        Box::pin(speaking);
    let answering: std::pin::Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>> =
        Box::pin(answering);
    // Whoever hangs up first ends it for both.
    tokio::select! {
        _ = speaking => {}
        _ = answering => {}
    }
}

/// Counts a message; says whether and how it is the last of its connection.
fn heard(plan: &Mutex<Plan>, kind: u8, bytes: &[u8]) -> Option<Cut> {
    let mut plan = plan.lock().unwrap();
    let commits = kind == b'Q' && bytes[5..].starts_with(b"COMMIT");
    plan.heard.messages += 1;
    plan.heard.commits += u64::from(commits);
    let Heard { messages, commits: so_far, .. } = plan.heard;
    let cut = plan.at.filter(|(word, _)| match word {
        Word::Any(number) => *number == messages,
        Word::Commit(number) => commits && *number == so_far,
    });
    plan.heard.cut |= cut.is_some();
    cut.map(|(_, cut)| cut)
}
