//! One connection to a dyno.
//!
//! hyper's client connection wants a task of its own and talks to it through channels that wake across threads. Here
//! nobody owns it but the request that uses it: the request polls it, and between requests it lies still in its target's
//! pool. That saves two task switches per request; a connection that the dyno closed meanwhile is noticed when it is
//! taken out or pruned.

use crate::upload::{Progress, Upload};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shipway_net::Rewind;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// How long an unused connection is kept. Shorter than the keep-alive of common servers would lose them all (Node: 5 s,
/// gunicorn: 2 s); those close first, which is noticed.
pub const MAX_IDLE: Duration = Duration::from_secs(50);
/// How long a connection may have been unused to carry a request that cannot be repeated. The dyno may be closing it at
/// this very moment, and servers that close idle connections do so after two seconds or more.
pub const MAX_IDLE_UNREPEATABLE: Duration = Duration::from_secs(1);
/// Buffers of one connection, each way. hyper's default of 400 KiB multiplies by the connections that stream.
const BUFFER_BYTES: usize = 128 * 1024;

/// hyper's builder clones into each connection.
static BUILDER: LazyLock<http1::Builder> = LazyLock::new(|| {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES);
    builder
});

/// A connection to a dyno, in use or idle.
pub struct Upstream {
    sender: SendRequest<Upload>,
    /// Boxed: it is large and changes hands several times per request.
    connection: Box<http1::Connection<TokioIo<Wire>, Upload>>,
    ended: bool,
    reused: bool,
    idle_since: Instant,
}

/// Why there is no answer.
pub enum SendError {
    /// Nothing of the request was sent; here it is again.
    Unsent(Box<Request<Upload>>),
    /// The dyno closed the connection before the head of its answer was complete.
    Closed,
    /// What the dyno sent is not HTTP.
    Malformed,
    /// No answer in time.
    Timeout,
    /// The client stopped sending its body.
    ClientIdle,
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy)]
pub struct AnswerPatience {
    /// From the last byte of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between pieces of the request's body.
    pub idle: Duration,
}

impl Upstream {
    /// Connects. Errors: `TimedOut` after `patience`, and what the system says.
    pub async fn connect(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = tokio::time::timeout(patience, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            BUILDER.handshake(TokioIo::new(Wire { stream, deaf: false })).await.map_err(io::Error::other)?;
        let connection = Box::new(connection);
        Ok(Self { sender, connection, ended: false, reused: false, idle_since: Instant::now() })
    }

    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Moves bytes both ways as far as they go.
    pub fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended {
            self.ended = self.connection.poll_without_shutdown(cx).is_ready();
        }
        if self.ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether it can carry another request now.
    pub fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_connection(cx).is_pending() && self.sender.is_ready()
    }

    /// Marks the beginning of its idle time.
    pub fn rest(&mut self, now: Instant) {
        self.reused = true;
        self.idle_since = now;
    }

    /// Whether it is open and has been idle for less than `age`.
    pub fn is_usable(&mut self, now: Instant, age: Duration) -> bool {
        now.saturating_duration_since(self.idle_since) < age && self.is_ready(&mut Context::from_waker(Waker::noop()))
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Upload>,
        progress: Option<&Progress>,
        patience: AnswerPatience,
    ) -> Result<Response<Incoming>, SendError> {
        let mut sent = pin!(self.sender.try_send_request(request));
        let mut timer = pin!(tokio::time::sleep(patience.first_byte));
        let (connection, ended) = (&mut self.connection, &mut self.ended);
        std::future::poll_fn(|cx| {
            if !*ended {
                *ended = connection.poll_without_shutdown(cx).is_ready();
            }
            if let Poll::Ready(result) = sent.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|mut failure| match failure.take_message() {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None if failure.error().is_parse() => SendError::Malformed,
                    None => SendError::Closed,
                }));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let Some(progress) = progress else { return Poll::Ready(Err(SendError::Timeout)) };
                // With a body the clock starts when its last piece is through.
                let limit = if progress.waits_for_client() { patience.idle } else { patience.first_byte };
                match limit.checked_sub(progress.quiet()).filter(|left| !left.is_zero()) {
                    Some(left) => timer.as_mut().reset(tokio::time::Instant::now() + left),
                    None if progress.waits_for_client() => return Poll::Ready(Err(SendError::ClientIdle)),
                    None => return Poll::Ready(Err(SendError::Timeout)),
                }
            }
            Poll::Pending
        })
        .await
    }

    /// After a 101: the stream, from its first byte that is not HTTP.
    pub async fn into_stream(mut self) -> Rewind<Wire> {
        std::future::poll_fn(|cx| self.poll_connection(cx)).await;
        let parts = self.connection.into_parts();
        Rewind::new(parts.read_buf, parts.io.into_inner())
    }
}

/// A socket that keeps reading when it cannot write any more.
///
/// A dyno that answers early (401, 413) and closes makes our next write fail while its answer waits to be read. What
/// cannot be written is thrown away; reading then finds the answer, or the reason.
pub struct Wire {
    stream: TcpStream,
    deaf: bool,
}

impl Wire {
    fn written(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        Ok(result.unwrap_or_else(|_| {
            self.deaf = true;
            length
        }))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.written(result, buf.len()))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A head alone is the usual case, and a plain write is cheaper for the kernel.
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        let result = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(self.written(result, length))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
