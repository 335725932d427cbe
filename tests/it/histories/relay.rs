//! The way to the database that a history leads through: it counts the statements of the
//! process and lets things happen between them, the end of the process among them.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    history::{Disturbance, What},
    scene::Scene,
};

/// What stands between the process and its database.
pub(super) struct Relay {
    url: SecretString,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Plan>,
    /// Counts the processes that were killed.
    deaths: watch::Sender<u64>,
}

#[derive(Default)]
struct Plan {
    /// Statements that went through since it was made.
    statements: usize,
    /// Which of them were a COMMIT.
    commits: Vec<usize>,
    /// What is still to happen, the next one last.
    due: Vec<Disturbance>,
    fired: bool,
    dead: bool,
    scene: Option<Arc<Scene>>,
    stop: CancellationToken,
}

/// The statements of a piece of work.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    pub(super) count: usize,
    /// How many came before each COMMIT.
    pub(super) commits: Vec<usize>,
}

/// What becomes of a statement.
enum Fate {
    Passes,
    /// The process dies, or its connection breaks; before that, the server may answer.
    Ends {
        answered: bool,
        kills: bool,
    },
}

impl Relay {
    /// Opens the way to a database.
    pub(super) async fn open(database: &SecretString) -> Self {
        let mut url = Url::parse(database.expose_secret()).unwrap();
        let server = Arc::new(Server::of(&url));
        let user = parameter(&url, "user").unwrap_or_else(|| url.username().to_owned());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        url.set_query(Some("sslmode=disable"));
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        url.set_username(&user).unwrap();
        let shared = Arc::new(Shared { plan: Mutex::default(), deaths: watch::Sender::new(0) });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                tokio::spawn(join(client, Arc::clone(&server), Arc::clone(&accepting)));
            }
        });
        Self { url: SecretString::from(String::from(url)), shared }
    }

    /// The database's address by this way.
    pub(super) fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Lets things happen between the statements that come from now on.
    pub(super) fn plan(
        &self,
        mut due: Vec<Disturbance>,
        scene: &Arc<Scene>,
        stop: &CancellationToken,
    ) {
        due.reverse();
        let (scene, stop) = (Some(Arc::clone(scene)), stop.clone());
        *self.shared.plan.lock().unwrap() = Plan { due, scene, stop, ..Plan::default() };
    }

    /// Lets nothing more happen; returns the statements that came, and whether the process
    /// was disturbed.
    pub(super) fn quiet(&self) -> (Statements, bool) {
        let Plan { statements: count, commits, fired, .. } =
            std::mem::take(&mut *self.shared.plan.lock().unwrap());
        (Statements { count, commits }, fired)
    }

    /// Completes when the process is killed.
    pub(super) fn death(&self) -> impl Future<Output = ()> + use<> {
        let mut deaths = self.shared.deaths.subscribe();
        deaths.mark_unchanged();
        async move {
            let _ = deaths.changed().await;
        }
    }
}

impl Shared {
    /// A statement is about to go through; lets happen what is due before it.
    async fn statement(&self, message: &[u8]) -> Fate {
        if message.ends_with(b"COMMIT\0") {
            let mut plan = self.plan.lock().unwrap();
            let before = plan.statements;
            plan.commits.push(before);
        }
        loop {
            let (what, scene) = {
                let mut plan = self.plan.lock().unwrap();
                let statements = plan.statements;
                let next = plan.due.pop_if(|next| usize::from(next.after) <= statements);
                let Some(next) = next else {
                    plan.statements += 1;
                    return Fate::Passes;
                };
                match next.what {
                    What::Kill { answered } | What::Cut { answered } => {
                        plan.fired = true;
                        plan.statements += 1;
                        let kills = matches!(next.what, What::Kill { .. });
                        plan.dead |= kills;
                        return Fate::Ends { answered, kills };
                    }
                    What::Stop => {
                        plan.fired = true;
                        plan.stop.cancel();
                        continue;
                    }
                    what => (what, plan.scene.clone()),
                }
            };
            match (what, scene) {
                (What::Happen(event), Some(scene)) => scene.happen(&event),
                (What::Pass(millis), Some(scene)) => scene.pass(millis).await,
                _ => {}
            }
        }
    }

    fn dead(&self) -> bool {
        self.plan.lock().unwrap().dead
    }
}

enum Server {
    Socket(PathBuf),
    Tcp(String, u16),
}

impl Server {
    fn of(url: &Url) -> Self {
        let port = parameter(url, "port").map(|port| port.parse().unwrap());
        let port = port.or(url.port()).unwrap_or(5432);
        let host = parameter(url, "host").unwrap_or_else(|| url.host_str().unwrap().to_owned());
        if host.starts_with('/') {
            Self::Socket(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
        } else {
            Self::Tcp(host, port)
        }
    }
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

async fn join(client: TcpStream, server: Arc<Server>, shared: Arc<Shared>) {
    // A process that is dead connects no more.
    if shared.dead() {
        return;
    }
    let mut deaths = shared.deaths.subscribe();
    let relayed = async {
        match &*server {
            Server::Socket(path) => {
                if let Ok(server) = UnixStream::connect(path).await {
                    let (up, down) = server.into_split();
                    relay(client, up, down, &shared).await;
                }
            }
            Server::Tcp(host, port) => {
                if let Ok(server) = TcpStream::connect((host.as_str(), *port)).await {
                    let _ = server.set_nodelay(true);
                    let (up, down) = server.into_split();
                    relay(client, up, down, &shared).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        _ = deaths.changed() => {}
        () = relayed => {}
    }
}

/// Passes bytes both ways until an end comes, planned or not.
async fn relay(
    client: TcpStream,
    mut answers: impl AsyncRead + Unpin,
    mut statements: impl AsyncWrite + Unpin,
    shared: &Shared,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let (mut asked, mut answered) =
        (Messages { untyped: true, left: 0, head: Vec::new() }, Messages::default());
    // Whom the next answer does not reach any more, and whether the process dies of it.
    let mut ends: Option<bool> = None;
    loop {
        tokio::select! {
            biased;
            read = answers.read_buf(&mut down) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                if let Some(kills) = ends {
                    if answered.until(&down, b"Z").is_some() {
                        return shared.end(kills);
                    }
                } else {
                    answered.until(&down, b"");
                    if to_client.write_all(&down).await.is_err() {
                        return;
                    }
                }
                down.clear();
            }
            read = from_client.read_buf(&mut up), if ends.is_none() => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
                let mut passed = 0;
                while let Some(length) = asked.until(&up[passed..], b"SQ") {
                    let message = &up[passed..passed + length];
                    passed += length;
                    if let Fate::Ends { answered, kills } = shared.statement(message).await {
                        if !answered {
                            return shared.end(kills);
                        }
                        ends = Some(kills);
                    }
                }
                if statements.write_all(&up).await.is_err() {
                    return;
                }
                up.clear();
            }
        }
    }
}

impl Shared {
    fn end(&self, kills: bool) {
        if kills {
            self.deaths.send_modify(|deaths| *deaths += 1);
        }
    }
}

/// Where the messages of one direction begin and end.
#[derive(Default)]
struct Messages {
    /// The first one of a client has no type.
    untyped: bool,
    /// Bytes that are left of the current message's body.
    left: usize,
    /// What is known of the next one's head.
    head: Vec<u8>,
}

impl Messages {
    /// Reads up to the end of the next message of these types; returns the bytes read, or
    /// nothing if all were read without one.
    fn until(&mut self, bytes: &[u8], types: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let body = self.left.min(bytes.len() - at);
            at += body;
            self.left -= body;
            let head = if self.untyped { 4 } else { 5 };
            if self.left == 0 && self.head.len() == head {
                let found = !self.untyped && types.contains(&self.head[0]);
                self.untyped = false;
                self.head.clear();
                if found {
                    return Some(at);
                }
            }
            if at == bytes.len() {
                return None;
            }
            let head = if self.untyped { 4 } else { 5 };
            self.head.push(bytes[at]);
            at += 1;
            if self.head.len() == head {
                let length = self.head[head - 4..].try_into().map(u32::from_be_bytes).unwrap();
                self.left = usize::try_from(length).unwrap() - 4;
            }
        }
    }
}
