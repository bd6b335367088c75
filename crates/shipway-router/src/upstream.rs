//! One connection to a dyno.
//!
//! hyper's client connection wants a task of its own and talks to it through channels that wake across threads. Here
//! nobody owns it but the request that uses it: the request polls it, and between requests it lies still in its target's
//! pool. That saves two task switches per request; a connection that the dyno closed meanwhile is noticed when it is
//! used, before anything is sent, or pruned.
//!
//! What comes back through hyper's channels comes only when the connection is polled. So the channels need not wake
//! anybody, and where something is likely to be there the connection is first polled [`quietly`]: else the task would be
//! run once more for each answer, to find nothing to do.

use crate::alarm::Alarm;
use crate::upload::{Progress, Upload};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shipway_net::Rewind;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
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
/// Header lines of a request, ours included.
const MAX_LINES: usize = 1024;

/// Nothing is kept.
const FORGET: u8 = 0;
/// What was kept is dropped at the next write, which is kept.
const BEGIN: u8 = 1;
/// What is written is kept too.
const KEEP: u8 = 2;

/// hyper's builder clones into each connection.
static BUILDER: LazyLock<http1::Builder> = LazyLock::new(|| {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES);
    builder
});

/// The context of somebody who looks again without being woken.
pub fn quietly() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A connection to a dyno, in use or idle.
pub struct Upstream {
    sender: SendRequest<Upload>,
    /// Boxed: it is large and changes hands several times per request. None once it was given up.
    connection: Option<Box<http1::Connection<TokioIo<Wire>, Upload>>>,
    ended: bool,
    reused: bool,
    idle_since: Instant,
    /// Tells the wire whether to keep what is written: one of [`FORGET`], [`BEGIN`], [`KEEP`].
    keeps: Arc<AtomicU8>,
    alarm: Alarm,
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
        let keeps = Arc::new(AtomicU8::new(FORGET));
        let wire = Wire { stream, deaf: false, keeps: keeps.clone(), kept: Vec::new() };
        let (sender, connection) = BUILDER.handshake(TokioIo::new(wire)).await.map_err(io::Error::other)?;
        let (connection, now) = (Some(Box::new(connection)), Instant::now());
        let alarm = Alarm::new((now + MAX_IDLE).into());
        Ok(Self { sender, connection, ended: false, reused: false, idle_since: now, keeps, alarm })
    }

    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Moves bytes both ways as far as they go.
    pub fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.connection {
            Some(connection) if !self.ended => self.ended = connection.poll_without_shutdown(cx).is_ready(),
            _ => {}
        }
        if self.ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready once `deadline` has come; wakes the task by then.
    pub fn poll_deadline(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(deadline.into(), cx)
    }

    /// Whether it can carry another request now.
    pub fn is_ready(&mut self) -> bool {
        // hyper says so by itself when the poll that brought the end of the answer found nothing behind it.
        !self.ended
            && (self.sender.is_ready() || (self.poll_connection(&mut quietly()).is_pending() && self.sender.is_ready()))
    }

    /// Marks the beginning of its idle time.
    pub fn rest(&mut self, now: Instant) {
        self.reused = true;
        self.idle_since = now;
    }

    /// Whether it has been idle for less than `age`.
    pub fn is_fresh(&self, now: Instant, age: Duration) -> bool {
        now.saturating_duration_since(self.idle_since) < age
    }

    /// Whether it is fresh and the dyno has not closed it.
    pub fn is_usable(&mut self, now: Instant, age: Duration) -> bool {
        self.is_fresh(now, age) && self.poll_connection(&mut quietly()).is_pending() && self.sender.is_ready()
    }

    /// Sends a request at the time `now` and waits for the head of its answer. One that is `repeatable` has no body, and
    /// can be had [`again`](Self::again).
    pub async fn send(
        &mut self,
        request: Request<Upload>,
        progress: Option<&Progress>,
        repeatable: bool,
        patience: AnswerPatience,
        now: Instant,
    ) -> Result<Response<Incoming>, SendError> {
        self.keeps.store(if repeatable { BEGIN } else { FORGET }, Ordering::Relaxed);
        let mut sent = pin!(self.sender.try_send_request(request));
        let mut deadline = now + patience.first_byte;
        let mut woken = false;
        let Self { connection, ended, alarm, .. } = self;
        std::future::poll_fn(|cx| {
            // The answer is what usually wakes. The connection waits for the client's body too, and must be polled in
            // earnest then.
            let quiet_first = std::mem::replace(&mut woken, progress.is_none());
            for quiet in [true, false] {
                if quiet && !quiet_first {
                    continue;
                }
                if let Some(open) = connection.as_mut().filter(|_| !*ended) {
                    let polled =
                        if quiet { open.poll_without_shutdown(&mut quietly()) } else { open.poll_without_shutdown(cx) };
                    *ended = polled.is_ready();
                }
                let mut result = sent.as_mut().poll(&mut quietly());
                if *ended && result.is_pending() {
                    // It ended before it took the request out of its queue; dropped, it returns what is there.
                    *connection = None;
                    result = sent.as_mut().poll(cx);
                }
                if let Poll::Ready(result) = result {
                    return Poll::Ready(result.map_err(|mut failure| match failure.take_message() {
                        Some(request) => SendError::Unsent(Box::new(request)),
                        None if failure.error().is_parse() => SendError::Malformed,
                        None => SendError::Closed,
                    }));
                }
            }
            while alarm.poll(deadline.into(), cx).is_ready() {
                let Some(progress) = progress else { return Poll::Ready(Err(SendError::Timeout)) };
                // With a body the clock starts when its last piece is through.
                let limit = if progress.waits_for_client() { patience.idle } else { patience.first_byte };
                match limit.checked_sub(progress.quiet()).filter(|left| !left.is_zero()) {
                    Some(left) => deadline = Instant::now() + left,
                    None if progress.waits_for_client() => return Poll::Ready(Err(SendError::ClientIdle)),
                    None => return Poll::Ready(Err(SendError::Timeout)),
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The head of the repeatable request that was sent last. None when not all of it was written.
    pub fn again(self) -> Option<(Method, Uri, HeaderMap)> {
        let wire = self.connection?.into_parts().io.into_inner();
        read_head(&wire.kept)
    }

    /// After a 101: the stream, from its first byte that is not HTTP. None when there is no connection any more.
    pub async fn into_stream(mut self) -> Option<Rewind<Wire>> {
        std::future::poll_fn(|cx| self.poll_connection(cx)).await;
        let parts = self.connection?.into_parts();
        Some(Rewind::new(parts.read_buf, parts.io.into_inner()))
    }
}

/// Reads a request's head as hyper wrote it.
fn read_head(written: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = vec![httparse::EMPTY_HEADER; MAX_LINES];
    let mut request = httparse::Request::new(&mut lines);
    request.parse(written).ok().filter(httparse::Status::is_complete)?;
    let method = Method::from_bytes(request.method?.as_bytes()).ok()?;
    let uri = Uri::try_from(request.path?).ok()?;
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for line in request.headers.iter() {
        headers.append(HeaderName::from_bytes(line.name.as_bytes()).ok()?, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some((method, uri, headers))
}

/// A socket that keeps reading when it cannot write any more.
///
/// A dyno that answers early (401, 413) and closes makes our next write fail while its answer waits to be read. What
/// cannot be written is thrown away; reading then finds the answer, or the reason.
///
/// It can keep what is written: the head of a request that may have to be sent again. That is one copy; to keep the headers
/// themselves means an allocation for each, and nearly no request is repeated.
pub struct Wire {
    stream: TcpStream,
    deaf: bool,
    keeps: Arc<AtomicU8>,
    kept: Vec<u8>,
}

impl Wire {
    fn written(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        Ok(result.unwrap_or_else(|_| {
            self.deaf = true;
            length
        }))
    }

    fn keep(&mut self, written: &[u8]) {
        match self.keeps.load(Ordering::Relaxed) {
            FORGET => return,
            BEGIN => {
                self.kept.clear();
                self.keeps.store(KEEP, Ordering::Relaxed);
            }
            _ => {}
        }
        self.kept.extend_from_slice(written);
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
        let written = self.written(result, buf.len())?;
        self.keep(&buf[..written]);
        Poll::Ready(Ok(written))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let written = b"DELETE /a?b=c HTTP/1.1\r\nhost: app.test\r\ncookie: a=b\r\nx-twice: 1\r\nx-twice: \xff\r\n\r\n";
        let (method, uri, headers) = read_head(written).unwrap();
        assert_eq!((method, uri.to_string().as_str()), (Method::DELETE, "/a?b=c"));
        let lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(_, &[u8]); 4] =
            [("host", b"app.test"), ("cookie", b"a=b"), ("x-twice", b"1"), ("x-twice", b"\xff")];
        assert_eq!(lines, expected);
        assert!(read_head(&written[..written.len() - 1]).is_none(), "half a head");
        assert!(read_head(b"").is_none());
    }
}
