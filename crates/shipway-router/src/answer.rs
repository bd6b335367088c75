//! The answer on its way to the client: a page of ours, or the dyno's body.

use crate::access::Entry;
use crate::fault::Fault;
use crate::target::InFlight;
use crate::upload::Progress;
use crate::upstream::Upstream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// A response body.
pub enum Answer {
    /// Ours, or none.
    Page(Option<Bytes>),
    /// The dyno's.
    Stream(Box<Stream>),
}

/// The body broke off; hyper tells the client by ending the connection or resetting the stream.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.words().1)]
pub struct Interrupted(Fault);

/// A body that streams from a dyno.
pub struct Stream {
    body: Incoming,
    /// Given back when the body is complete.
    upstream: Option<Upstream>,
    in_flight: Option<InFlight>,
    /// Written when the body is over, however it ends.
    entry: Option<Entry>,
    upload: Option<Arc<Progress>>,
    idle: Duration,
    /// Made when there is something to wait for, with the time of the last piece.
    timer: Option<(Pin<Box<Sleep>>, Instant)>,
    bytes: u64,
    /// The dyno broke off, which the client is told next.
    broken: bool,
}

impl Stream {
    /// Streams `body`; `idle` is how long no byte may move either way.
    pub fn new(
        body: Incoming,
        upstream: Upstream,
        in_flight: InFlight,
        entry: Entry,
        upload: Option<Arc<Progress>>,
        idle: Duration,
    ) -> Self {
        Self {
            body,
            upstream: Some(upstream),
            in_flight: Some(in_flight),
            entry: Some(entry),
            upload,
            idle,
            timer: None,
            bytes: 0,
            broken: false,
        }
    }

    /// The whole body went through: keeps the connection, writes the line.
    fn complete(&mut self, cx: &mut Context<'_>) {
        if let (Some(mut upstream), Some(in_flight)) = (self.upstream.take(), &self.in_flight)
            && upstream.is_ready(cx)
        {
            upstream.rest(Instant::now());
            in_flight.target().keep_idle(upstream);
        }
        self.end(None);
    }

    fn end(&mut self, fault: Option<Fault>) {
        // The count goes down after the line is written: a drained dyno has nothing left to log.
        if let Some(entry) = self.entry.take() {
            match fault {
                None => entry.answered(self.bytes),
                Some(fault) => entry.failed(fault, self.bytes),
            }
        }
        self.upstream = None;
        self.in_flight = None;
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if self.broken {
            return Poll::Ready(Some(Err(Interrupted(Fault::H18))));
        }
        let mut driven = false;
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if let Some((_, last)) = &mut self.timer {
                        *last = Instant::now();
                    }
                    if self.body.is_end_stream() {
                        self.complete(cx);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    self.complete(cx);
                    return Poll::Ready(None);
                }
                // hyper drops what it has not flushed when a body fails: one turn later the client has what came.
                Poll::Ready(Some(Err(_))) => {
                    self.end(Some(Fault::H18));
                    self.broken = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending if driven => break,
                Poll::Pending => {}
            }
            driven = true;
            if let Some(upstream) = &mut self.upstream {
                let _ = upstream.poll_connection(cx);
            }
        }
        self.poll_idle(cx)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let (timer, last) = self.timer.get_or_insert_with(|| (Box::pin(tokio::time::sleep(self.idle)), Instant::now()));
        while timer.as_mut().poll(cx).is_ready() {
            let mut quiet = last.elapsed();
            if let Some(upload) = &self.upload {
                quiet = quiet.min(upload.quiet());
            }
            match self.idle.checked_sub(quiet).filter(|left| !left.is_zero()) {
                Some(left) => timer.as_mut().reset(tokio::time::Instant::now() + left),
                None => {
                    self.end(Some(Fault::H15));
                    return Poll::Ready(Some(Err(Interrupted(Fault::H15))));
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.entry.is_none() {
            return;
        }
        // hyper does not ask for more once a body of known length is through. Otherwise the client left in the middle
        // of an answer that had begun, which is no fault of the app's and usual for event streams.
        if self.body.is_end_stream() {
            self.complete(&mut Context::from_waker(Waker::noop()));
        } else {
            self.end(None);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match self.get_mut() {
            Self::Page(page) => Poll::Ready(page.take().map(|page| Ok(Frame::data(page)))),
            Self::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Page(page) => page.is_none(),
            Self::Stream(stream) => stream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Page(page) => SizeHint::with_exact(page.as_ref().map_or(0, |page| page.len() as u64)),
            Self::Stream(stream) => stream.body.size_hint(),
        }
    }
}
