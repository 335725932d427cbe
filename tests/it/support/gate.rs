//! A door before the database that a test can shut: what a server that is away looks
//! like to the program, without disturbing the other tests' databases.

use std::{path::PathBuf, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use url::Url;

/// A relay on loopback to the database's server.
pub(crate) struct Gate {
    url: Url,
    open: watch::Sender<bool>,
    door: JoinHandle<()>,
}

/// Where the server of a database is.
pub(crate) enum Server {
    Socket(PathBuf),
    Tcp(String, u16),
}

/// A connection to a server.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line for S {}

impl Server {
    pub(crate) async fn connect(&self) -> std::io::Result<Box<dyn Line>> {
        Ok(match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(host, port) => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
        })
    }
}

/// The database's server, and the database's address by a port of this machine instead.
pub(crate) fn detour(database: &SecretString, port: u16) -> (Server, Url) {
    let mut url = Url::parse(database.expose_secret()).unwrap();
    let server = server_of(&url);
    let user = parameter(&url, "user").unwrap_or_else(|| url.username().to_owned());
    url.set_query(None);
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    url.set_username(&user).unwrap();
    (server, url)
}

impl Gate {
    /// A gate to the server of this address, open or shut.
    pub(crate) async fn to(database: &SecretString, open: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (server, url) = detour(database, listener.local_addr().unwrap().port());
        let server = Arc::new(server);
        let (open, state) = watch::channel(open);
        let door = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                // Shut: hung up on before the first byte, as by a server that is going down.
                if *state.borrow() {
                    tokio::spawn(relay(client, Arc::clone(&server), state.clone()));
                }
            }
        });
        Self { url, open, door }
    }

    /// The database's address through this gate.
    pub(crate) fn url(&self) -> SecretString {
        SecretString::from(String::from(self.url.clone()))
    }

    /// Breaks every connection and lets nobody in.
    pub(crate) fn shut(&self) {
        self.open.send_replace(false);
    }

    /// Lets everybody in.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open.send_replace(false);
        self.door.abort();
    }
}

/// A parameter of the address, which overrules its other parts.
fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// Where the driver would connect to: a socket where the host is a directory.
fn server_of(url: &Url) -> Server {
    let port = parameter(url, "port").map(|port| port.parse().unwrap());
    let port = port.or(url.port()).unwrap_or(5432);
    let host = parameter(url, "host").unwrap_or_else(|| url.host_str().unwrap().to_owned());
    if host.starts_with('/') {
        Server::Socket(PathBuf::from(host).join(format!(".s.PGSQL.{port}")))
    } else {
        Server::Tcp(host, port)
    }
}

async fn relay(mut client: TcpStream, server: Arc<Server>, mut open: watch::Receiver<bool>) {
    let shut = async move { open.wait_for(|open| !open).await.map(drop) };
    let relayed = async {
        if let Ok(mut server) = server.connect().await {
            // A connection that broke off is what this gate is for.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    };
    tokio::select! {
        () = relayed => {}
        _ = shut => {}
    }
}

/// Waits for something to become true, and fails with its name when that takes too long.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_mins(4);
    while !ask().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
