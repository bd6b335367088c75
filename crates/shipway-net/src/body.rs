//! Bodies that know about the connection that carries them.
//!
//! A client that is still sending when the answer comes (401, 413, a 404 during an upload) must be read on for a while:
//! closing early resets the connection and the client reports a broken pipe instead of the status.

use crate::watch::ActiveGuard;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of an unread request body that are read and thrown away after an early answer.
pub const DRAIN_BYTES: u64 = 64 << 20;
/// How long that may take.
pub const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A request body that reads itself out, within [`DRAIN_BYTES`] and [`DRAIN_TIME`], when it is dropped unfinished.
///
/// The rest of a request that said `Expect: 100-continue` and was never read is not drained: its client is waiting for
/// permission and gets the final answer instead.
pub struct RequestBody {
    inner: Option<Incoming>,
    waits_for_continue: bool,
}

impl RequestBody {
    pub(crate) fn new(inner: Incoming, expects_continue: bool) -> Self {
        Self { inner: Some(inner), waits_for_continue: expects_continue }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits_for_continue = false;
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(inner).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.inner = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if self.waits_for_continue || inner.is_end_stream() || inner.size_hint().lower() > DRAIN_BYTES {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(inner)));
        }
    }
}

async fn drain(mut body: Incoming) {
    let mut left = DRAIN_BYTES;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let read = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A response body that counts its connection as busy until it is gone.
pub struct ActiveBody<B> {
    inner: B,
    _active: Option<ActiveGuard>,
}

impl<B> ActiveBody<B> {
    pub(crate) fn new(inner: B, active: Option<ActiveGuard>) -> Self {
        Self { inner, _active: active }
    }
}

impl<B: Body + Unpin> Body for ActiveBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
