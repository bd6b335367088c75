//! Serves HTTP/1, HTTP/2 and TLS on one port.

use crate::body::{ActiveBody, RequestBody};
use crate::lifecycle::{ConnectionGuard, Lifecycle, Phase};
use crate::pieces::InPieces;
use crate::rewind::Rewind;
use crate::turn::Turns;
use crate::watch::{self, ActiveGuard, Activity, Counted, Patience};
use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// How far the first line is searched for a space before it is taken for HTTP.
const RAW_LINE_LIMIT: usize = 1024;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnInfo {
    /// The client's address, an IPv4 one written as such.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Whether TLS lies between.
    pub tls: bool,
}

/// Takes over a TLS connection whose first line is not an HTTP request, from its first byte.
pub type RawHandler = Arc<dyn Fn(Rewind<TlsStream<TcpStream>>, ConnInfo) -> BoxFuture<'static, ()> + Send + Sync>;

/// Limits of a listener. The defaults are those of the router.
#[derive(Clone)]
pub struct Options {
    /// Connections open at once; more wait in the kernel's queue.
    pub max_connections: usize,
    /// Until the first byte and, again, until the TLS handshake is done.
    pub handshake_timeout: Duration,
    /// Without a complete request head (slow ones included); applied at once to half as much more.
    pub idle_timeout: Duration,
    /// With a request in flight and no byte moved either way; `None` for handlers that may be silent for ever.
    pub stalled_timeout: Option<Duration>,
    /// Bytes of a request head, and of a connection's read and write buffers. At least 8 KiB.
    pub buffer_bytes: usize,
    /// Header lines of a request.
    pub max_headers: usize,
    /// HTTP/2 streams open at once in one connection.
    pub max_streams: u32,
    /// Takes TLS connections that do not speak HTTP.
    pub raw: Option<RawHandler>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stalled_timeout: Some(Duration::from_secs(120)),
            buffer_bytes: 64 * 1024,
            max_headers: 1000,
            max_streams: 128,
            raw: None,
        }
    }
}

/// Serves `listener` until `lifecycle` retires; connections live on as its phases say.
///
/// `handler` answers one request. Without `tls` a TLS client is refused with a closed connection.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    options: Options,
    lifecycle: Lifecycle,
    handler: H,
) where
    H: Fn(Request<RequestBody>, ConnInfo) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let slots = Arc::new(Semaphore::new(options.max_connections));
    let server =
        Arc::new(Server { http1: http1(&options), http2: http2(&options), tls: tls.map(TlsAcceptor::from), options });
    let mut retired = Box::pin(lifecycle.reached(Phase::Retiring));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut retired => return,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = accepted;
        let server = server.clone();
        let lifecycle = lifecycle.clone();
        let handler = handler.clone();
        let guard = lifecycle.guard();
        tokio::spawn(async move {
            server.connection(stream, peer, lifecycle, guard, handler).await;
            drop(slot);
        });
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>) {
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, canonical(peer), slot),
            Err(error) => {
                // Out of descriptors or memory: connections wait in the kernel's queue until some are free.
                tracing::warn!(%error, "cannot accept a connection; trying again in 50 ms");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// An IPv4 client of an IPv6 socket, written as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn http1(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // One timer per connection does this job: see `watch`.
    builder.header_read_timeout(None).max_buf_size(options.buffer_bytes.max(8192)).max_headers(options.max_headers);
    builder
}

fn http2(options: &Options) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_streams)
        // Rapid reset (CVE-2023-44487) and MadeYouReset (CVE-2025-8671): a client that makes us reset stream after
        // stream is sent away.
        .max_pending_accept_reset_streams(32)
        .max_local_error_reset_streams(64)
        .max_header_list_size(options.buffer_bytes as u32)
        .header_table_size(4096)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(options.buffer_bytes)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

struct Server {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    tls: Option<TlsAcceptor>,
    options: Options,
}

impl Server {
    async fn connection<H, F, B>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        lifecycle: Lifecycle,
        guard: ConnectionGuard,
        handler: H,
    ) where
        H: Fn(Request<RequestBody>, ConnInfo) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _guard = guard;
        let deadline = self.options.handshake_timeout;
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr().map(canonical) else { return };
        let mut first = [0];
        // A browser opens connections ahead of need: waiting for the first byte is idling, not a handshake.
        let silent = tokio::time::timeout(self.options.idle_timeout, stream.peek(&mut first));
        let peeked = tokio::select! {
            peeked = silent => peeked,
            () = lifecycle.reached(Phase::Closing) => return,
        };
        let Ok(Ok(1)) = peeked else { return };
        if first[0] != TLS_HANDSHAKE {
            let info = ConnInfo { peer, local, tls: false };
            return self.http(stream, Version::HTTP_11, info, lifecycle, handler).await;
        }
        let Some(tls) = &self.tls else { return };
        let Ok(Ok(mut stream)) = tokio::time::timeout(deadline, tls.accept(stream)).await else { return };
        let info = ConnInfo { peer, local, tls: true };
        let version = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Version::HTTP_2,
            _ => Version::HTTP_11,
        };
        let mut front = Bytes::new();
        if let (Some(raw), Version::HTTP_11) = (&self.options.raw, version) {
            let Ok(Some((read, is_raw))) = tokio::time::timeout(deadline, first_line(&mut stream)).await else {
                return;
            };
            if is_raw {
                return raw(Rewind::new(read, stream), info).await;
            }
            front = read;
        }
        self.http(InPieces(Rewind::new(front, stream)), version, info, lifecycle, handler).await;
    }

    async fn http<T, H, F, B>(&self, stream: T, version: Version, info: ConnInfo, lifecycle: Lifecycle, handler: H)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<RequestBody>, ConnInfo) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let activity = Arc::new(Activity::default());
        let stream = Counted::new(stream, activity.clone());
        let patience = Patience { idle: self.options.idle_timeout, stalled: self.options.stalled_timeout };
        let service = {
            let (activity, lifecycle) = (activity.clone(), lifecycle.clone());
            service_fn(move |request: Request<Incoming>| {
                let active = activity.begin();
                let says_close = version == Version::HTTP_11 && lifecycle.phase() >= Phase::Retiring;
                let expects_continue = !request.body().is_end_stream() && request.headers().contains_key(EXPECT);
                let answer = Box::pin(handler(request.map(|body| RequestBody::new(body, expects_continue)), info));
                Answering { answer, active: Some(active), says_close }
            })
        };
        if version == Version::HTTP_2 {
            let connection = Turns::new(stream, |stream| self.http2.serve_connection(TokioIo::new(stream), service));
            watch::drive(connection, activity, lifecycle, patience).await;
        } else {
            let connection = self.http1.serve_connection(TokioIo::new(stream), service).with_upgrades();
            watch::drive(connection, activity, lifecycle, patience).await;
        }
    }
}

/// Reads until the first line shows whether it is HTTP: the bytes read, and whether they are *not* HTTP. `None` when the
/// client left first.
async fn first_line(stream: &mut TlsStream<TcpStream>) -> Option<(Bytes, bool)> {
    let mut read = BytesMut::with_capacity(RAW_LINE_LIMIT);
    loop {
        if let Some(at) = read.iter().position(|byte| matches!(byte, b' ' | b'\n')) {
            let raw = read[at] == b'\n';
            return Some((read.freeze(), raw));
        }
        if read.len() >= RAW_LINE_LIMIT {
            return Some((read.freeze(), false));
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// The handler's future with what the connection adds to its response. Boxed because hyper copies it several times for
/// each request and keeps the room for it while a connection idles.
struct Answering<F> {
    answer: Pin<Box<F>>,
    active: Option<ActiveGuard>,
    says_close: bool,
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<F> {
    type Output = Result<Response<ActiveBody<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut response = ready!(this.answer.as_mut().poll(cx));
        if this.says_close {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let active = this.active.take();
        Poll::Ready(Ok(response.map(|body| ActiveBody::new(body, active))))
    }
}
