//! The client's request body on its way to the dyno.

use crate::fault::{Cause, Fault};
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use shipway_net::RequestBody;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// How long a dyno may stay silent on `Expect: 100-continue` before the body is sent anyway. Many servers ignore it.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

const WHOLE: u8 = 0;
const LEFT: u8 = 1;
const NOT_HTTP: u8 = 2;

/// How far an upload is, for whoever waits for the answer.
pub struct Progress {
    started: Instant,
    /// Milliseconds after `started` when the last piece came.
    last_ms: AtomicU64,
    /// Nothing has come since the last piece although the dyno would take it.
    waiting: AtomicBool,
    done: AtomicBool,
    /// The dyno said 100, or it need not.
    permitted: AtomicBool,
    /// How it broke off: one of [`WHOLE`], [`LEFT`], [`NOT_HTTP`].
    broken: AtomicU8,
    waker: AtomicWaker,
}

impl Progress {
    /// Time since the last piece, or since the end of the body.
    pub fn quiet(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Whether it is the client that keeps everybody waiting.
    pub fn waits_for_client(&self) -> bool {
        !self.done.load(Ordering::Acquire) && self.waiting.load(Ordering::Relaxed)
    }

    /// What the client did wrong, when it broke off.
    pub fn fault(&self) -> Option<Fault> {
        match self.broken.load(Ordering::Relaxed) {
            WHOLE => None,
            LEFT => Some(Fault::H27),
            _ => Some(Fault::H26(Cause::Chunk)),
        }
    }

    fn breaks(&self, error: &hyper::Error) {
        use io::ErrorKind::{InvalidData, InvalidInput};
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let not_http = cause.is_some_and(|cause| matches!(cause.kind(), InvalidData | InvalidInput));
        self.broken.store(if not_http { NOT_HTTP } else { LEFT }, Ordering::Relaxed);
    }

    /// The dyno wants the body.
    pub fn permit(&self) {
        self.permitted.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn moved(&self) {
        self.last_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.waiting.store(false, Ordering::Relaxed);
    }
}

/// The body as it is sent to the dyno.
pub struct Upload {
    stream: Option<Box<Stream>>,
}

struct Stream {
    body: RequestBody,
    progress: Arc<Progress>,
    /// Runs while the dyno's 100 is awaited.
    gate: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// No body.
    pub const EMPTY: Self = Self { stream: None };

    /// Sends `body`, with `expects_continue` only when the dyno asks for it.
    pub fn new(body: RequestBody, expects_continue: bool) -> Self {
        if body.is_end_stream() {
            return Self::EMPTY;
        }
        let progress = Arc::new(Progress {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            done: AtomicBool::new(false),
            permitted: AtomicBool::new(!expects_continue),
            broken: AtomicU8::new(WHOLE),
            waker: AtomicWaker::new(),
        });
        let gate = expects_continue.then(|| Box::pin(tokio::time::sleep(CONTINUE_PATIENCE)));
        Self { stream: Some(Box::new(Stream { body, progress, gate })) }
    }

    /// How far it is; `None` without a body.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        self.stream.as_ref().map(|stream| stream.progress.clone())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(stream) = self.stream.as_deref_mut() else { return Poll::Ready(None) };
        if let Some(gate) = &mut stream.gate {
            stream.progress.waker.register(cx.waker());
            if !stream.progress.permitted.load(Ordering::Acquire) {
                ready!(gate.as_mut().poll(cx));
            }
            stream.gate = None;
        }
        let frame = Pin::new(&mut stream.body).poll_frame(cx);
        match &frame {
            Poll::Pending => stream.progress.waiting.store(true, Ordering::Relaxed),
            Poll::Ready(Some(Ok(_))) => stream.progress.moved(),
            Poll::Ready(Some(Err(error))) => stream.progress.breaks(error),
            Poll::Ready(None) => {}
        }
        if matches!(frame, Poll::Ready(None)) || stream.body.is_end_stream() {
            stream.progress.done.store(true, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map_or_else(|| SizeHint::with_exact(0), |stream| stream.body.size_hint())
    }
}
