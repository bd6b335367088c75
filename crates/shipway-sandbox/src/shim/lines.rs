//! Output becomes log lines.

use shipway_logs::{Limits, Record, Source, Writer};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longer lines become several, as on Heroku.
const MAX_LINE_BYTES: usize = 10_000;

/// A dyno may write this much at once before it is slowed, and this much per second for ever.
const BURST_BYTES: u64 = 256 << 20;
const STEADY_BYTES_PER_SECOND: u64 = 8 << 20;

/// What the log says when a dyno is slowed.
const SLOWED: &[u8] =
    b"Error L10 (log flood) -> The dyno writes faster than its log may grow (8 MiB per second). It is \
slowed down; nothing is lost.";

/// Appends to one dyno's chain of segments.
pub(super) struct Log {
    writer: Writer,
    dyno: String,
    allowance: Allowance,
    /// What could not be written yet, because the disk was full. Nothing further is read until it is.
    unwritten: Vec<Vec<u8>>,
}

impl Log {
    /// Opens the dyno's chain under `SHIPWAY_HOME/logs/<app-id>`, which is made when it is missing.
    pub(super) fn open(app_dir: &Path, id: &str, dyno: &str, owner: (u32, u32)) -> io::Result<Self> {
        if !app_dir.exists() {
            std::fs::create_dir_all(app_dir)?;
            crate::wire::own(app_dir, owner.0, owner.1)?;
        }
        let writer = Writer::open(app_dir, id, Limits::default())?;
        Ok(Self { writer, dyno: dyno.to_owned(), allowance: Allowance::new(), unwritten: Vec::new() })
    }

    /// Until when nothing must be read from the dyno, if it must not.
    pub(super) fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        if self.unwritten.is_empty() {
            self.allowance.closed_until(now)
        } else {
            Some(now + Duration::from_millis(200))
        }
    }

    /// Tries again to write what could not be written. Whether all is written now.
    pub(super) fn retry(&mut self) -> bool {
        if !self.unwritten.is_empty() {
            let lines = std::mem::take(&mut self.unwritten);
            self.append(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        self.unwritten.is_empty()
    }

    fn append(&mut self, lines: &[&[u8]]) {
        let time_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let record = |message| Record { time_us, sequence: 0, source: Source::App, dyno: &self.dyno, message };
        let mut records: Vec<_> = lines.iter().map(|line| record(line)).collect();
        let bytes = lines.iter().map(|line| line.len() as u64 + 1).sum();
        if self.allowance.spend(bytes, Instant::now()) {
            records.push(Record { source: Source::Heroku, ..record(SLOWED) });
        }
        if self.writer.append_batch(&records).is_err() {
            self.unwritten = lines.iter().map(|line| line.to_vec()).collect();
        }
    }
}

/// A token bucket.
struct Allowance {
    left: i64,
    at: Instant,
    slowed: bool,
}

impl Allowance {
    fn new() -> Self {
        Self { left: BURST_BYTES as i64, at: Instant::now(), slowed: false }
    }

    /// Takes `bytes`; whether this is where the dyno begins to be slowed.
    fn spend(&mut self, bytes: u64, now: Instant) -> bool {
        self.refill(now);
        self.left -= bytes as i64;
        let begins = self.left < 0 && !self.slowed;
        self.slowed |= begins;
        begins
    }

    fn refill(&mut self, now: Instant) {
        let earned =
            now.saturating_duration_since(self.at).as_micros() * u128::from(STEADY_BYTES_PER_SECOND) / 1_000_000;
        if earned > 0 {
            self.at = now;
            self.left = (self.left + earned.min(u128::from(BURST_BYTES)) as i64).min(BURST_BYTES as i64);
        }
        // Said once per flood: it is over when half of the burst has been earned again.
        self.slowed &= self.left < BURST_BYTES as i64 / 2;
    }

    fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        self.refill(now);
        let missing = u64::try_from(-self.left).ok().filter(|missing| *missing > 0)?;
        Some(now + Duration::from_micros(missing.saturating_mul(1_000_000) / STEADY_BYTES_PER_SECOND + 1))
    }
}

/// Cuts one stream into lines.
#[derive(Default)]
pub(super) struct Splitter {
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

impl Splitter {
    /// Appends the lines that end in `chunk`.
    pub(super) fn feed(&mut self, chunk: &[u8], log: &mut Log) {
        let mut lines: Vec<&[u8]> = Vec::new();
        let mut from = 0;
        let mut begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            let end = memchr::memchr(b'\n', chunk);
            begun.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            from = end.map_or(chunk.len(), |end| end + 1);
            if end.is_none() && begun.len() < MAX_LINE_BYTES {
                self.begun = begun;
                return;
            }
            let whole = if end.is_some() { begun.len() } else { begun.len() - begun.len() % MAX_LINE_BYTES };
            pieces(&begun[..whole], &mut lines);
            self.begun = begun[whole..].to_vec();
        }
        let unread = &chunk[from..];
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', unread) {
            pieces(&unread[start..end], &mut lines);
            start = end + 1;
        }
        let rest = &unread[start..];
        let whole = rest.len() - rest.len() % MAX_LINE_BYTES;
        if whole > 0 {
            pieces(&rest[..whole], &mut lines);
        }
        self.begun.extend_from_slice(&rest[whole..]);
        if !lines.is_empty() {
            log.append(&lines);
        }
    }

    /// Appends a last line that has no end.
    pub(super) fn finish(&mut self, log: &mut Log) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            log.append(&[&begun]);
        }
    }
}

fn pieces<'a>(line: &'a [u8], lines: &mut Vec<&'a [u8]>) {
    if line.is_empty() {
        lines.push(line);
    }
    lines.extend(line.chunks(MAX_LINE_BYTES));
}
