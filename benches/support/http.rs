//! The plainest HTTP there is, so that reading from the simulator costs next to nothing.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use url::Url;

/// No answer of the simulator takes as long.
const PATIENCE: Duration = Duration::from_mins(1);

/// Fetches an address, or posts a JSON text to it. The query is sent as it stands.
pub(crate) fn call(address: &str, json: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let (method, body) = json.map_or(("GET", ""), |json| ("POST", json));
    let url = Url::parse(address)?;
    let host = url.host_str().context("the address has no host")?;
    let port = url.port().context("the address has no port")?;
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut stream = TcpStream::connect((host, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // A server must not send chunks to a client of version 1.0, and closes after its answer.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.context("the answer has no head")?;
    let status = answer.get(9..12).unwrap_or_default();
    ensure!(
        status == b"200",
        "the simulator answered {} to {method} {}",
        String::from_utf8_lossy(status),
        url.path()
    );
    Ok(answer.split_off(end + 4))
}
