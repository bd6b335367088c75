//! Output becomes log lines.

use shipway_logs::{Cutter, Limits, Record, Source, Writer};
use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What a dyno may write per second for ever. What it may write at once before it is slowed is the configuration's.
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
    /// Opens the dyno's chain under `SHIPWAY_HOME/logs/<app-id>`, which is made when it is missing. `burst` is how many
    /// bytes may be written at once.
    pub(super) fn open(app_dir: &Path, id: &str, dyno: &str, owner: (u32, u32), burst: u64) -> io::Result<Self> {
        if !app_dir.exists() {
            std::fs::create_dir_all(app_dir)?;
            crate::wire::own(app_dir, owner.0, owner.1)?;
        }
        let writer = Writer::open(app_dir, id, Limits::default())?;
        Ok(Self { writer, dyno: dyno.to_owned(), allowance: Allowance::new(burst), unwritten: Vec::new() })
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
            self.append(&lines);
        }
        self.unwritten.is_empty()
    }

    fn append(&mut self, lines: &[impl AsRef<[u8]>]) {
        let time_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let record = |message| Record { time_us, sequence: 0, source: Source::App, dyno: &self.dyno, message };
        let mut records: Vec<_> = lines.iter().map(|line| record(line.as_ref())).collect();
        let bytes = lines.iter().map(|line| line.as_ref().len() as u64 + 1).sum();
        if self.allowance.spend(bytes, Instant::now()) {
            records.push(Record { source: Source::Heroku, ..record(SLOWED) });
        }
        if self.writer.append_batch(&records).is_err() {
            self.unwritten = lines.iter().map(|line| line.as_ref().to_vec()).collect();
        }
    }
}

/// A token bucket.
struct Allowance {
    burst: u64,
    left: i64,
    at: Instant,
    slowed: bool,
}

impl Allowance {
    fn new(burst: u64) -> Self {
        Self { burst, left: burst as i64, at: Instant::now(), slowed: false }
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
            let earned = i64::try_from(earned).unwrap_or(i64::MAX);
            self.left = self.left.saturating_add(earned).min(self.burst as i64);
        }
        // Said once per flood: it is over when half of the burst has been earned again.
        self.slowed &= self.left < self.burst as i64 / 2;
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
    cutter: Cutter,
}

impl Splitter {
    /// Appends the lines that end in `chunk`.
    pub(super) fn feed(&mut self, chunk: &[u8], log: &mut Log) {
        let mut begun = std::mem::take(&mut self.begun);
        let mut lines: Vec<Cow<'_, [u8]>> = Vec::new();
        let mut from = 0;
        if !begun.is_empty() {
            let end = memchr::memchr(b'\n', chunk);
            begun.extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
            from = end.map_or(chunk.len(), |end| end + 1);
            if end.is_none() && begun.len() <= self.cutter.room() {
                self.begun = begun;
                return;
            }
            let cut = self.cutter.cut(&begun, end.is_some(), &mut lines);
            self.begun = begun[cut..].to_vec();
        }
        let unread = &chunk[from..];
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', unread) {
            self.cutter.cut(&unread[start..end], true, &mut lines);
            start = end + 1;
        }
        let rest = &unread[start..];
        let cut = self.cutter.cut(rest, false, &mut lines);
        self.begun.extend_from_slice(&rest[cut..]);
        if !lines.is_empty() {
            log.append(&lines);
        }
    }

    /// Appends a last line that has no end.
    pub(super) fn finish(&mut self, log: &mut Log) {
        let begun = std::mem::take(&mut self.begun);
        if !begun.is_empty() {
            let mut lines = Vec::new();
            self.cutter.cut(&begun, true, &mut lines);
            log.append(&lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shipway_logs::MAX_LINE;

    /// The lines that come of chunks.
    fn lines(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let home = tempfile::tempdir().unwrap();
        let owner = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let app = home.path().join("app");
        let mut log = Log::open(&app, "dyno", "web.1", owner, 1 << 30).unwrap();
        let mut splitter = Splitter::default();
        for chunk in chunks {
            splitter.feed(chunk, &mut log);
        }
        splitter.finish(&mut log);
        let (entries, _) = shipway_logs::Reader::last(&app, shipway_logs::Filter::default(), 1_000).unwrap();
        entries.into_iter().map(|entry| entry.message.to_vec()).collect()
    }

    #[test]
    fn a_line_of_the_greatest_length_is_whole() {
        let line = "x".repeat(MAX_LINE);
        assert_eq!(lines(&[line.as_bytes(), b"\n\nnext"]), [line.as_bytes(), b"", b"next"]);
        let (half, rest) = line.as_bytes().split_at(4_000);
        assert_eq!(lines(&[half, rest, b"\n"]), [line.as_bytes()]);
    }

    #[test]
    fn a_longer_line_is_cut_and_each_cut_is_marked_on_both_sides() {
        let line = "x".repeat(MAX_LINE + 1);
        let expected = [format!("{} …", "x".repeat(9_996)), "… xxxxx".to_string(), "short".to_string()];
        assert_eq!(lines(&[format!("{line}\nshort\n").as_bytes()]), expected.map(String::into_bytes));
    }

    /// However the text comes in, the pieces are the same, none is too long, none ends within a character, and without
    /// their marks they are the line.
    #[test]
    fn no_cut_goes_through_a_character_however_the_line_arrives() {
        for character in ["x", "ä", "…", "🦀"] {
            for shift in 0..4 {
                let text = "y".repeat(shift) + &character.repeat(40_000 / character.len());
                let whole = lines(&[text.as_bytes()]);
                assert!(whole.len() >= 4, "{} pieces", whole.len());
                for size in [1_000, 9_999, 16_384] {
                    let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                    assert_eq!(lines(&chunks), whole, "{character} in chunks of {size}");
                }
                let mut joined = String::new();
                for (n, piece) in whole.iter().enumerate() {
                    assert!(piece.len() <= MAX_LINE, "piece {n} has {} bytes", piece.len());
                    let piece = std::str::from_utf8(piece).unwrap();
                    let piece = if n > 0 { piece.strip_prefix("… ").unwrap() } else { piece };
                    let last = n + 1 == whole.len();
                    joined.push_str(if last { piece } else { piece.strip_suffix(" …").unwrap() });
                }
                assert_eq!(joined, text);
            }
        }
        let bytes = vec![0x80; 25_000];
        let kept: usize = lines(&[&bytes]).iter().flatten().filter(|byte| **byte == 0x80).count();
        // The marks have such a byte each: two cuts, four marks.
        assert_eq!(kept, 25_000 + 4, "what is not UTF-8 is kept byte for byte");
    }

    #[test]
    fn who_writes_too_fast_is_slowed_and_told_once() {
        let mut allowance = Allowance::new(1_000);
        let now = allowance.at;
        assert!(!allowance.spend(1_000, now) && allowance.closed_until(now).is_none());
        assert!(allowance.spend(STEADY_BYTES_PER_SECOND, now) && !allowance.spend(1, now));
        let closed = allowance.closed_until(now).unwrap().duration_since(now);
        assert!(closed >= Duration::from_secs(1) && closed < Duration::from_millis(1_100), "{closed:?}");
        // What is earned in a pause is the burst and no more, and the next flood is told again.
        let later = now + Duration::from_secs(60);
        assert!(allowance.closed_until(later).is_none() && allowance.spend(1_001, later));
    }
}
