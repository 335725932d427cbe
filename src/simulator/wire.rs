//! Connections that can break off, trickle or be reset on demand.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// What happens to the answer on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WireFault {
    #[default]
    None,
    /// The connection ends after so many bytes of the body.
    Cut { bytes: usize },
    /// The body goes out in pieces with pauses between them.
    Trickle { piece: usize, pause: Duration },
    /// The connection is reset at once.
    Reset,
}

/// Who asks, and the handle to the connection's fault.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    wire: Arc<Mutex<Wire>>,
}

/// A connection's fault, and how far the answer has got.
#[derive(Clone, Copy, Debug, Default)]
struct Wire {
    fault: WireFault,
    /// Whether the head of the answer has gone out.
    in_body: bool,
}

impl Peer {
    /// Arms the connection for the answer that is about to be sent.
    pub(super) fn arm(&self, fault: WireFault) {
        *lock(&self.wire) = Wire { fault, in_body: false };
    }
}

impl Connected<IncomingStream<'_, FaultyListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, FaultyListener>) -> Self {
        stream.remote_addr().clone()
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A listener of connections that can fail.
#[derive(Debug)]
pub(super) struct FaultyListener(pub(super) TcpListener);

impl Listener for FaultyListener {
    type Io = FaultyStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (FaultyStream, Peer) {
        loop {
            let Ok((stream, address)) = self.0.accept().await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Without it an answer in two writes waits for the client's delayed ACK.
            let _ = stream.set_nodelay(true);
            let wire = Arc::default();
            let peer = Peer { address: address.ip(), wire: Arc::clone(&wire) };
            let stream = FaultyStream { stream, wire, pause: None };
            return (stream, peer);
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        let address = self.0.local_addr().map(|address| address.ip());
        Ok(Peer {
            address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            wire: Arc::default(),
        })
    }
}

/// A connection that can fail.
#[derive(Debug)]
pub(super) struct FaultyStream {
    stream: TcpStream,
    wire: Arc<Mutex<Wire>>,
    pause: Option<Pin<Box<Sleep>>>,
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    end.map(|at| at + 4)
}

fn broken() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl FaultyStream {
    /// How much of `bytes` may go out now.
    fn allowance(wire: Wire, bytes: &[u8]) -> usize {
        let head = if wire.in_body { 0 } else { end_of_head(bytes).unwrap_or(bytes.len()) };
        let body = match wire.fault {
            WireFault::Cut { bytes } => bytes,
            WireFault::Trickle { piece, .. } => piece.max(1),
            WireFault::None | WireFault::Reset => bytes.len(),
        };
        (head + body).min(bytes.len())
    }

    fn note_written(&mut self, bytes: &[u8], written: usize) {
        let mut wire = lock(&self.wire);
        let mut body = written;
        if !wire.in_body {
            let Some(head) = end_of_head(bytes).filter(|head| *head <= written) else {
                return;
            };
            wire.in_body = true;
            body = written - head;
        }
        match &mut wire.fault {
            WireFault::Cut { bytes } => *bytes = bytes.saturating_sub(body),
            WireFault::Trickle { pause, .. } => self.pause = Some(Box::pin(sleep(*pause))),
            WireFault::None | WireFault::Reset => {}
        }
    }
}

impl AsyncRead for FaultyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FaultyStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let wire = *lock(&this.wire);
        match wire.fault {
            WireFault::None => return Pin::new(&mut this.stream).poll_write(context, bytes),
            WireFault::Reset => {
                let _ = this.stream.set_zero_linger();
                return Poll::Ready(Err(broken()));
            }
            WireFault::Cut { bytes: 0 } if wire.in_body => return Poll::Ready(Err(broken())),
            _ => {}
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let allowed = Self::allowance(wire, bytes);
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, &bytes[..allowed]))?;
        this.note_written(bytes, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if lock(&self.wire).fault == WireFault::None {
            let stream = &mut self.get_mut().stream;
            return Pin::new(stream).poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let wire = *lock(&this.wire);
        if wire.in_body && wire.fault == (WireFault::Cut { bytes: 0 }) {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
