//! The plainest HTTP there is, for what is no part of the program under test.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

/// Fetches a `http://` address; gives the status and the body.
pub(crate) async fn get(address: &str) -> (u16, Vec<u8>) {
    ask("GET", address, "").await
}

/// Posts JSON to a `http://` address; gives the status and the body.
pub(crate) async fn post(address: &str, json: &str) -> (u16, Vec<u8>) {
    ask("POST", address, json).await
}

async fn ask(method: &str, address: &str, json: &str) -> (u16, Vec<u8>) {
    let url = Url::parse(address).unwrap();
    let server = (url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(server).await.unwrap();
    // A server must not send chunks to a client of version 1.0.
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let request = format!(
        "{method} {target} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{json}",
        server.0,
        json.len(),
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(head + 4))
}
