//! What a connection is after a 101: bytes both ways.

use crate::access::Entry;
use crate::fault::Fault;
use crate::target::InFlight;
use crate::upstream::Upstream;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shipway_net::lifecycle::ConnectionGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once, each way.
const CHUNK: usize = 16 * 1024;

/// A tunnel that waits for both ends to change over.
pub struct Tunnel {
    /// The client's end.
    pub client: OnUpgrade,
    /// The connection to the dyno.
    pub upstream: Upstream,
    /// Counts it as a stream of the target's.
    pub in_flight: InFlight,
    /// Its line.
    pub entry: Entry,
    /// Keeps a retiring router waiting for it.
    pub guard: ConnectionGuard,
    /// How long no byte may move either way.
    pub idle: Duration,
}

impl Tunnel {
    /// Runs it to its end and writes its line.
    pub async fn run(self) {
        let Self { client, upstream, in_flight, entry, guard, idle } = self;
        let (Ok(client), Some(dyno)) = futures::join!(client, upstream.into_stream()) else {
            return entry.answered(0, Instant::now());
        };
        let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
        let (dyno_read, dyno_write) = tokio::io::split(dyno);
        let moved = AtomicU64::new(0);
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        let both = async {
            futures::join!(
                copy(client_read, dyno_write, &moved, &received),
                copy(dyno_read, client_write, &moved, &sent),
            )
        };
        let fault = tokio::select! {
            _ = both => None,
            () = quiet(&moved, idle) => Some(Fault::H15),
        };
        let sent = sent.load(Ordering::Relaxed);
        match fault {
            None => entry.answered(sent, Instant::now()),
            Some(fault) => entry.failed(fault, sent),
        }
        drop((in_flight, guard));
    }
}

/// Copies until the end or an error, then says so to the other side.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: &AtomicU64, total: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        moved.fetch_add(1, Ordering::Relaxed);
        if to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            break;
        }
        total.fetch_add(n as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown().await;
}

/// Completes when nothing has moved for `idle` (at most a tenth more).
async fn quiet(moved: &AtomicU64, idle: Duration) {
    let mut seen = moved.load(Ordering::Relaxed);
    let mut ticks = 0;
    while ticks < 10 {
        tokio::time::sleep(idle / 10).await;
        let now = moved.load(Ordering::Relaxed);
        ticks = if now == seen { ticks + 1 } else { 0 };
        seen = now;
    }
}
