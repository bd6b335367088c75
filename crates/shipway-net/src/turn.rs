//! What an HTTP/2 connection writes in one turn leaves at once.
//!
//! h2 writes and flushes each frame with a body by itself, and is run again whenever one of its streams has something to
//! send: over TLS, a record and a system call for each answer, though a dozen may be ready. So a connection first lets
//! those run that are ready already, and what it writes then is collected until its turn is over.

use crate::watch::Connection;
use pin_project_lite::pin_project;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are collected at most: those of a TLS record. A single write of half as many is not worth a copy.
const FULL: usize = 16 * 1024;

/// A stream that holds writes back until [`Turns`] sends them. A flush by itself sends nothing, a shutdown does.
pub(crate) struct Collected<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    stream: T,
    waiting: Vec<u8>,
    /// Bytes of `waiting` that are sent.
    sent: usize,
}

impl<T> Collected<T> {
    fn lock(&self) -> MutexGuard<'_, Shared<T>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Shared<T> {
    /// Sends what is waiting.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.sent += n,
            }
        }
        self.waiting.clear();
        self.sent = 0;
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Collected<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Collected<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.lock();
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if shared.waiting.len() + length > FULL {
            ready!(shared.poll_send(cx))?;
        }
        if length > FULL / 2 && shared.waiting.is_empty() {
            return Pin::new(&mut shared.stream).poll_write_vectored(cx, bufs);
        }
        bufs.iter().for_each(|buf| shared.waiting.extend_from_slice(buf));
        Poll::Ready(Ok(length))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.lock();
        ready!(shared.poll_send(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

pin_project! {
    /// Runs a connection in turns; what it has written is sent at the end of each.
    pub(crate) struct Turns<C, T> {
        #[pin]
        connection: C,
        stream: Collected<T>,
        // Whether those that were ready before have run.
        waited: bool,
    }
}

impl<C, T> Turns<C, T> {
    /// `connection` makes a connection of the stream that it gets.
    pub(crate) fn new(stream: T, connection: impl FnOnce(Collected<T>) -> C) -> Self {
        let shared = Arc::new(Mutex::new(Shared { stream, waiting: Vec::new(), sent: 0 }));
        let connection = connection(Collected { shared: shared.clone() });
        Self { connection, stream: Collected { shared }, waited: false }
    }
}

impl<C: Connection, T: AsyncWrite + Unpin> Future for Turns<C, T> {
    /// None when what was written cannot be sent.
    type Output = Option<C::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !std::mem::replace(this.waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        *this.waited = false;
        let polled = this.connection.poll(cx);
        let sent = this.stream.lock().poll_send(cx);
        match (polled, sent) {
            (Poll::Ready(output), _) => Poll::Ready(Some(output)),
            (Poll::Pending, Poll::Ready(Err(_))) => Poll::Ready(None),
            (Poll::Pending, _) => Poll::Pending,
        }
    }
}

impl<C: Connection, T: AsyncWrite + Unpin> Connection for Turns<C, T> {
    const LEAVES_SAFELY: bool = C::LEAVES_SAFELY;
    fn finish(self: Pin<&mut Self>) {
        self.project().connection.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Writes three times, with a flush after each, then waits for ever.
    struct Chatty(Collected<tokio::io::DuplexStream>, Vec<Vec<u8>>);

    impl Future for Chatty {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            while let Some(piece) = self.1.first().cloned() {
                let n = ready!(Pin::new(&mut self.0).poll_write(cx, &piece)).unwrap();
                assert!(Pin::new(&mut self.0).poll_flush(cx).is_ready());
                self.1[0].drain(..n);
                self.1.retain(|piece| !piece.is_empty());
            }
            Poll::Pending
        }
    }

    impl Connection for Chatty {
        const LEAVES_SAFELY: bool = true;
        fn finish(self: Pin<&mut Self>) {}
    }

    #[tokio::test]
    async fn what_is_written_in_a_turn_comes_at_once() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let pieces = vec![b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()];
        let mut turns = std::pin::pin!(Turns::new(near, |stream| Chatty(stream, pieces)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(turns.as_mut().poll(&mut cx).is_pending());
        assert!(turns.as_mut().poll(&mut cx).is_pending());
        let mut read = [0; 64];
        let n = far.read(&mut read).await.unwrap();
        assert_eq!(&read[..n], b"one two three");
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_other_end_reads_slowly() {
        let (near, mut far) = tokio::io::duplex(1000);
        let pieces: Vec<Vec<u8>> = [10, FULL - 1, 1, 3 * FULL, 40, FULL, 5]
            .iter()
            .enumerate()
            .map(|(n, size)| (0..*size).map(|at| (at * 7 + n) as u8).collect())
            .collect();
        let expected = pieces.concat();
        let turns = tokio::spawn(Turns::new(near, |stream| Chatty(stream, pieces)));
        let mut read = vec![0; expected.len()];
        far.read_exact(&mut read).await.unwrap();
        assert!(read == expected);
        drop(far);
        turns.abort();
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_is_waiting() {
        let (near, mut far) = tokio::io::duplex(1000);
        let shared = Arc::new(Mutex::new(Shared { stream: near, waiting: Vec::new(), sent: 0 }));
        let mut stream = Collected { shared };
        stream.write_all(b"goodbye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"goodbye");
    }
}
