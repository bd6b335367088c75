//! A TLS stream that is handed what is to be encrypted in small pieces.
//!
//! rustls copies each record's bytes, up to 16 KiB, into a buffer of its own before it encrypts them there. For copies of
//! that size the C library takes `rep movsb`, and on some processors (AMD since Zen 3) that is several times slower than
//! vector moves when source and destination lie unequally, as they do behind a record's header: a third of all processor
//! time of large answers over TLS. Of several pieces rustls copies each by itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Copies up to here are vector moves. Where `rep movsb` is said to be fast, glibc takes it from 2,112 bytes on.
const PIECE_BYTES: usize = 2048;
/// 64 KiB, which is what rustls takes before it wants to be rid of it, and room for a head and chunk sizes.
const PIECES: usize = 64 * 1024 / PIECE_BYTES + 8;

/// Writes in pieces.
pub(crate) struct InPieces<T>(pub T);

impl<T: AsyncRead + Unpin> AsyncRead for InPieces<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InPieces<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.0);
        if bufs.iter().all(|buf| buf.len() <= PIECE_BYTES) {
            return stream.poll_write_vectored(cx, bufs);
        }
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for piece in bufs.iter().flat_map(|buf| buf.chunks(PIECE_BYTES)).take(PIECES) {
            pieces[count] = IoSlice::new(piece);
            count += 1;
        }
        stream.poll_write_vectored(cx, &pieces[..count])
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// Takes at most `room` bytes a time; remembers how long the longest buffer was that it was handed.
    struct Taker {
        room: usize,
        taken: Vec<u8>,
        longest: usize,
    }

    impl AsyncWrite for Taker {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(buf)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let before = self.taken.len();
            for buf in bufs {
                self.longest = self.longest.max(buf.len());
                let left = before + self.room - self.taken.len();
                self.taken.extend_from_slice(&buf[..buf.len().min(left)]);
            }
            Poll::Ready(Ok(self.taken.len() - before))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn every_byte_arrives_once_and_in_order_in_small_pieces() {
        let head: Vec<u8> = (0..300).map(|i| (i % 251) as u8).collect();
        let body: Vec<u8> = (0..300_000).map(|i| (i % 241) as u8).collect();
        for room in [1, 700, PIECE_BYTES, 64 * 1024, 1 << 20] {
            let mut stream = InPieces(Taker { room, taken: Vec::new(), longest: 0 });
            let mut rest = bytes::Buf::chain(&head[..], bytes::Buf::chain(&b"x"[..], &body[..]));
            stream.write_all_buf(&mut rest).await.unwrap();
            stream.write_all(&body).await.unwrap();
            assert!(stream.0.taken == [&head[..], b"x", &body, &body].concat(), "in turns of {room}");
            assert_eq!(stream.0.longest, PIECE_BYTES);
        }
    }
}
