//! Drives one connection to its end: watches for idling and stalling, and leaves when the process retires.
//!
//! hyper's own header timeout allocates and arms a timer per request. Here each connection has one timer for its whole
//! life; it compares two counters with what they were a tick ago, so a request costs two increments and no clock.

use crate::lifecycle::{Lifecycle, Phase};
use http_body::Body;
use hyper::body::Incoming;
use hyper::rt::bounds::Http2ServerConnExec;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use pin_project_lite::pin_project;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Instant, Sleep};

/// What happened on a connection so far.
#[derive(Default)]
pub(crate) struct Activity {
    /// Requests begun.
    requests: AtomicU32,
    /// Requests whose answer is not complete.
    active: AtomicU32,
    /// Reads and writes that moved bytes.
    moves: AtomicU32,
}

/// One request in flight.
pub(crate) struct ActiveGuard(Arc<Activity>);

impl Activity {
    pub(crate) fn begin(self: &Arc<Self>) -> ActiveGuard {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        ActiveGuard(self.clone())
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that counts its moves.
pub(crate) struct Counted<T> {
    stream: T,
    activity: Arc<Activity>,
}

impl<T> Counted<T> {
    pub(crate) fn new(stream: T, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn moved(&self) {
        self.activity.moves.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.moved();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.moved();
        Poll::Ready(Ok(written))
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.moved();
        Poll::Ready(Ok(written))
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection that can be asked to finish.
pub(crate) trait Connection: Future {
    /// Whether it may be asked while the client might be sending its next request: HTTP/2 can (GOAWAY names the last
    /// stream that counts), HTTP/1 cannot.
    const LEAVES_SAFELY: bool;
    /// Finishes what is in flight, takes nothing new.
    fn finish(self: Pin<&mut Self>);
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl<I, B, S> Connection for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<AnyError>,
    I: Read + Write + Unpin + Send + 'static,
    B: Body + 'static,
    B::Error: Into<AnyError>,
{
    const LEAVES_SAFELY: bool = false;
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, B, S, E> Connection for http2::Connection<I, S, E>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<AnyError>,
    I: Read + Write + Unpin,
    B: Body + 'static,
    B::Error: Into<AnyError>,
    E: Http2ServerConnExec<S::Future, B>,
{
    const LEAVES_SAFELY: bool = true;
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// When a connection is given up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Without a complete request head for this long (at most half as long again).
    pub idle: Duration,
    /// With a request in flight and no byte moved for this long; `None` waits for ever.
    pub stalled: Option<Duration>,
}

/// Runs `connection` until it ends, idles out, stalls or the lifecycle ends it.
pub(crate) async fn drive<C: Connection>(
    connection: C,
    activity: Arc<Activity>,
    lifecycle: Lifecycle,
    patience: Patience,
) -> Option<C::Output> {
    let tick = patience.idle / 2;
    let stalled_ticks =
        patience.stalled.map(|after| after.as_nanos().div_ceil(tick.as_nanos().max(1)).try_into().unwrap_or(u32::MAX));
    let drive = Drive {
        connection,
        advanced: lifecycle.advanced(),
        registered: false,
        seen: Phase::Accepting,
        finishing: false,
        lifecycle,
        timer: tokio::time::sleep(tick),
        tick,
        stalled_ticks,
        marks: Marks::default(),
        activity,
    };
    drive.await
}

#[derive(Default)]
struct Marks {
    requests: u32,
    moves: u32,
    idle: u32,
    stalled: u32,
}

pin_project! {
    struct Drive<C> {
        #[pin]
        connection: C,
        #[pin]
        advanced: OwnedNotified,
        #[pin]
        timer: Sleep,
        // Whether timer and notification know this task. A task's waker stays the same, so once is enough.
        registered: bool,
        seen: Phase,
        finishing: bool,
        lifecycle: Lifecycle,
        tick: Duration,
        stalled_ticks: Option<u32>,
        marks: Marks,
        activity: Arc<Activity>,
    }
}

impl<C: Connection> Future for Drive<C> {
    type Output = Option<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.connection.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if !*this.registered {
            *this.registered = true;
            let _ = this.advanced.as_mut().poll(cx);
            let _ = this.timer.as_mut().poll(cx);
        }
        let active = this.activity.active.load(Ordering::Relaxed);
        let mut phase = this.lifecycle.phase();
        while phase > *this.seen {
            *this.seen = phase;
            this.advanced.set(this.lifecycle.advanced());
            let _ = this.advanced.as_mut().poll(cx);
            phase = this.lifecycle.phase();
        }
        let leave = match *this.seen {
            Phase::Accepting => false,
            Phase::Retiring => C::LEAVES_SAFELY,
            Phase::Closing if active == 0 && !C::LEAVES_SAFELY => return Poll::Ready(None),
            Phase::Closing => true,
            Phase::Aborting => return Poll::Ready(None),
        };
        if leave && !*this.finishing {
            *this.finishing = true;
            this.connection.as_mut().finish();
            if let Poll::Ready(output) = this.connection.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
        }
        while this.timer.is_elapsed() {
            let marks = &mut *this.marks;
            let requests = this.activity.requests.load(Ordering::Relaxed);
            let moves = this.activity.moves.load(Ordering::Relaxed);
            marks.idle = if active == 0 && requests == marks.requests { marks.idle + 1 } else { 0 };
            marks.stalled = if active > 0 && moves == marks.moves { marks.stalled + 1 } else { 0 };
            (marks.requests, marks.moves) = (requests, moves);
            if this.stalled_ticks.is_some_and(|limit| marks.stalled > limit) {
                return Poll::Ready(None);
            }
            if marks.idle >= 2 {
                if !C::LEAVES_SAFELY || *this.finishing {
                    return Poll::Ready(None);
                }
                // The client learns that no request of its was lost, and has another idle time to go.
                marks.idle = 0;
                *this.finishing = true;
                this.connection.as_mut().finish();
                cx.waker().wake_by_ref();
            }
            this.timer.as_mut().reset(Instant::now() + *this.tick);
            let _ = this.timer.as_mut().poll(cx);
        }
        Poll::Pending
    }
}
