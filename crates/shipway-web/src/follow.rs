//! Follows an app's log without holding a thread while nothing comes.

use shipway_logs::{Entry, EventId, Filter, Reader};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Looks at logs at once, in all; further ones wait a moment. Each takes a thread for as long as the disk takes.
static LOOKS: Semaphore = Semaphore::const_new(16);
/// Lines taken from the disk at once.
const BATCH: usize = 500;

/// A log that is read on.
pub(crate) struct Follower {
    /// On a thread of its own for a moment in every [`Self::next`].
    reader: Option<Reader>,
}

impl Follower {
    /// The newest `count` lines, and who goes on behind them.
    pub(crate) async fn last(directory: &Path, filter: Filter, count: usize) -> io::Result<(Vec<Entry>, Self)> {
        let directory = directory.to_path_buf();
        let (lines, reader) = look(move || Reader::last(&directory, filter, count)).await?;
        Ok((lines, Self { reader: Some(reader) }))
    }

    /// Goes on behind the event that was seen last.
    pub(crate) async fn after(directory: &Path, filter: Filter, seen: EventId) -> io::Result<Self> {
        let directory = directory.to_path_buf();
        let reader = look(move || Reader::after(&directory, filter, &seen)).await?;
        Ok(Self { reader: Some(reader) })
    }

    /// What has come since; nothing when nothing has. `now_us`: microseconds since 1970.
    pub(crate) async fn next(&mut self, now_us: u64) -> io::Result<Vec<Entry>> {
        let Some(mut reader) = self.reader.take() else {
            return Err(io::Error::other("the log's reader was lost"));
        };
        let (reader, lines) = look(move || {
            let mut lines = Vec::new();
            reader.poll(now_us, BATCH, &mut lines)?;
            Ok((reader, lines))
        })
        .await?;
        self.reader = Some(reader);
        Ok(lines)
    }

    /// How long to wait before the next look, when the last one found nothing.
    pub(crate) fn pause(&self) -> Duration {
        self.reader.as_ref().map_or(Duration::from_millis(100), Reader::pause)
    }
}

async fn look<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let turn = LOOKS.acquire().await;
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
    drop(turn);
    done
}
