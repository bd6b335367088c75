//! The answer on its way to the client: a page of ours, or the dyno's body.

use crate::access::Entry;
use crate::fault::Fault;
use crate::target::InFlight;
use crate::upload::Progress;
use crate::upstream::{Upstream, quietly};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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
    /// When the last piece came, from the first wait for another on.
    last: Option<Instant>,
    bytes: u64,
    /// The dyno broke off, which the client is told next.
    broken: bool,
}

/// How hard the next piece is looked for.
enum Turn {
    /// In hyper's channel.
    Look,
    /// On the connection, where it usually lies.
    DriveQuietly,
    /// On the connection, which wakes the task when there is nothing yet.
    Drive,
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
            last: None,
            bytes: 0,
            broken: false,
        }
    }

    /// The whole body went through: keeps the connection, writes the line.
    fn complete(&mut self) {
        let now = Instant::now();
        if let (Some(mut upstream), Some(in_flight)) = (self.upstream.take(), &self.in_flight)
            && upstream.is_ready()
        {
            upstream.rest(now);
            in_flight.target().keep_idle(upstream);
        }
        if let Some(entry) = self.entry.take() {
            entry.answered(self.bytes, now);
        }
        self.end(None);
    }

    fn end(&mut self, fault: Option<Fault>) {
        // The count goes down after the line is written: a drained dyno has nothing left to log.
        if let Some(entry) = self.entry.take() {
            match fault {
                None => entry.answered(self.bytes, Instant::now()),
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
        for turn in [Turn::Look, Turn::DriveQuietly, Turn::Drive] {
            let _ = match (turn, &mut self.upstream) {
                (Turn::DriveQuietly, Some(upstream)) => upstream.poll_connection(&mut quietly()),
                (Turn::Drive, Some(upstream)) => upstream.poll_connection(cx),
                _ => Poll::Pending,
            };
            match Pin::new(&mut self.body).poll_frame(&mut quietly()) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if let Some(last) = &mut self.last {
                        *last = Instant::now();
                    }
                    if self.body.is_end_stream() {
                        self.complete();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    self.complete();
                    return Poll::Ready(None);
                }
                // hyper drops what it has not flushed when a body fails: one turn later the client has what came.
                Poll::Ready(Some(Err(_))) => {
                    let client = self.upload.as_ref().and_then(|upload| upload.fault());
                    self.end(client.or(Some(Fault::H18)));
                    self.broken = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {}
            }
        }
        self.poll_idle(cx)
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let last = *self.last.get_or_insert_with(Instant::now);
        let mut deadline = last + self.idle;
        let Some(upstream) = &mut self.upstream else { return Poll::Pending };
        while upstream.poll_deadline(deadline, cx).is_ready() {
            let mut quiet = last.elapsed();
            if let Some(upload) = &self.upload {
                quiet = quiet.min(upload.quiet());
            }
            match self.idle.checked_sub(quiet).filter(|left| !left.is_zero()) {
                Some(left) => deadline = Instant::now() + left,
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
            self.complete();
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
