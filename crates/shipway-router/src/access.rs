//! The request log: one line per request in the app's own log, in Heroku's format.
//!
//! Requests put finished lines into a shard's buffer; one thread collects them every few milliseconds and writes each
//! app's lines by one `write`. A full buffer drops lines and says how many: the log must not slow the traffic.

use crate::fault::Fault;
use crate::headers::Marks;
use crate::target::Target;
use crate::text;
use http::{HeaderValue, Method, Uri};
use shipway_domain::AppId;
use shipway_logs::{Limits, Record, Source, Writer};
use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Buffers, so that worker threads do not wait for each other.
const SHARDS: usize = 8;
/// Bytes of lines that a shard holds before it drops.
const SHARD_BYTES: usize = 4 << 20;
/// How long lines are collected before they are written.
const BATCH: Duration = Duration::from_millis(10);
/// Apps whose log stays open.
const MAX_OPEN: usize = 128;
/// Bytes of a path or an address list in a line.
const MAX_FIELD: usize = 4096;
/// Routers that may write at once: one that serves and those that retire.
const MAX_WRITERS: usize = 16;

/// Takes lines; cheap to call from any thread.
pub struct AccessLog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    shards: [Mutex<Shard>; SHARDS],
    /// Whether the writing thread sleeps with nothing to do.
    asleep: AtomicBool,
    closing: Mutex<bool>,
    wake: Condvar,
    lines: AtomicU64,
}

#[derive(Default)]
struct Shard {
    text: Vec<u8>,
    lines: Vec<Line>,
    dropped: HashMap<AppId, u64>,
}

/// One line: `text[from..to]` of its shard.
struct Line {
    app: AppId,
    time_us: u64,
    from: usize,
    to: usize,
}

impl AccessLog {
    /// Starts the writing thread. Lines of an app go to `<logs>/<app-id>/<chain>/`, where the chain is `router`, or
    /// `router-2` and so on while a router that retires still holds the one before; `run` holds the locks.
    pub fn start(logs: PathBuf, run: &Path) -> io::Result<Self> {
        let (log, scribe) = Self::with_scribe(logs, run)?;
        let thread = std::thread::Builder::new().name("request-log".into()).spawn(move || scribe.run())?;
        *lock(&log.thread) = Some(thread);
        Ok(log)
    }

    /// The log, and what is to write its lines.
    fn with_scribe(logs: PathBuf, run: &Path) -> io::Result<(Self, Scribe)> {
        let (chain, lock) = free_chain(run)?;
        let shared = Arc::new(Shared {
            shards: Default::default(),
            asleep: AtomicBool::new(false),
            closing: Mutex::new(false),
            wake: Condvar::new(),
            lines: AtomicU64::new(0),
        });
        let scribe = Scribe { shared: shared.clone(), logs, chain, writers: HashMap::new(), round: 0, _lock: lock };
        Ok((Self { shared, thread: Mutex::new(None) }, scribe))
    }

    /// Lines taken since the start.
    pub fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    /// Writes what is waiting and ends the thread. Lines that come later are lost.
    pub fn close(&self) {
        *lock(&self.shared.closing) = true;
        self.shared.wake.notify_one();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    fn push(&self, app: AppId, time_us: u64, write: impl FnOnce(&mut Vec<u8>)) {
        self.shared.lines.fetch_add(1, Ordering::Relaxed);
        {
            let mut shard = lock(&self.shared.shards[own_shard()]);
            let from = shard.text.len();
            if from > SHARD_BYTES {
                *shard.dropped.entry(app).or_default() += 1;
                return;
            }
            write(&mut shard.text);
            let to = shard.text.len();
            shard.lines.push(Line { app, time_us, from, to });
        }
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            let _closing = lock(&self.shared.closing);
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.close();
    }
}

/// When something began, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// For how long it takes.
    pub at: Instant,
    /// For when it was: microseconds since 1970.
    pub time_us: u64,
}

impl Start {
    /// Now.
    pub fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at: Instant::now(), time_us: since_1970.as_micros() as u64 }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shard of this thread.
fn own_shard() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed) as usize % SHARDS);
    OWN.with(|own| *own)
}

/// The first chain name that no other router uses, and the lock that keeps it ours.
fn free_chain(run: &Path) -> io::Result<(String, File)> {
    for n in 1..=MAX_WRITERS {
        let chain = if n == 1 { "router".to_string() } else { format!("router-{n}") };
        let path = run.join(format!("{chain}.log-lock"));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => return Ok((chain, file)),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "too many routers write request logs at once"))
}

/// The thread that writes.
struct Scribe {
    shared: Arc<Shared>,
    logs: PathBuf,
    chain: String,
    /// With the round in which each was used last.
    writers: HashMap<AppId, (Writer, u64)>,
    round: u64,
    _lock: File,
}

impl Scribe {
    fn run(mut self) {
        let mut spare: [Shard; SHARDS] = Default::default();
        loop {
            let wrote = self.collect(&mut spare);
            let closing = lock(&self.shared.closing);
            if *closing {
                drop(closing);
                self.collect(&mut spare);
                return;
            }
            if wrote {
                let _ = self.shared.wake.wait_timeout(closing, BATCH);
                continue;
            }
            self.shared.asleep.store(true, Ordering::SeqCst);
            // A line that came between the look and the sleep must not wait for the next one.
            if self.shared.shards.iter().any(|shard| !lock(shard).lines.is_empty()) {
                self.shared.asleep.store(false, Ordering::SeqCst);
                continue;
            }
            drop(self.shared.wake.wait(closing));
            self.shared.asleep.store(false, Ordering::SeqCst);
        }
    }

    /// Swaps the shards' buffers for empty ones and writes what they held. Whether there was anything.
    fn collect(&mut self, taken: &mut [Shard; SHARDS]) -> bool {
        for (shard, taken) in self.shared.shards.iter().zip(taken.iter_mut()) {
            taken.text.clear();
            taken.lines.clear();
            taken.dropped.clear();
            // After a flood the buffers must not stay as large as it made them.
            taken.text.shrink_to(256 << 10);
            taken.lines.shrink_to(4096);
            std::mem::swap(&mut *lock(shard), taken);
        }
        let mut by_app: HashMap<AppId, Vec<(u64, &[u8])>> = HashMap::new();
        for shard in taken.iter() {
            for line in &shard.lines {
                by_app.entry(line.app).or_default().push((line.time_us, &shard.text[line.from..line.to]));
            }
        }
        let mut dropped: HashMap<AppId, u64> = HashMap::new();
        for (app, count) in taken.iter().flat_map(|shard| &shard.dropped) {
            *dropped.entry(*app).or_default() += count;
        }
        let any = !by_app.is_empty() || !dropped.is_empty();
        self.round += u64::from(any);
        for app in dropped.keys() {
            by_app.entry(*app).or_default();
        }
        for (app, mut lines) in by_app {
            lines.sort_by_key(|(time_us, _)| *time_us);
            let marker = dropped.get(&app).copied().map(drop_marker);
            if let Some(marker) = &marker {
                let time_us = lines.last().map_or_else(|| Start::now().time_us, |(time_us, _)| *time_us);
                lines.push((time_us, marker.as_bytes()));
            }
            self.write(app, &lines);
        }
        any
    }

    fn write(&mut self, app: AppId, lines: &[(u64, &[u8])]) {
        let records: Vec<Record<'_>> = lines
            .iter()
            .map(|(time_us, message)| Record {
                time_us: *time_us,
                sequence: 0,
                source: Source::Heroku,
                dyno: "router",
                message,
            })
            .collect();
        let round = self.round;
        let written = self.writer(app).and_then(|writer| {
            writer.1 = round;
            writer.0.append_batch(&records)
        });
        if let Err(error) = written {
            tracing::warn!(app.id = %app, %error, lines = lines.len(), "request log lines are lost");
            self.writers.remove(&app);
        }
    }

    fn writer(&mut self, app: AppId) -> io::Result<&mut (Writer, u64)> {
        if !self.writers.contains_key(&app) {
            if self.writers.len() >= MAX_OPEN
                && let Some(oldest) = self.writers.iter().min_by_key(|(_, (_, used))| *used).map(|(app, _)| *app)
            {
                self.writers.remove(&oldest);
            }
            let dir = self.logs.join(app.to_string());
            DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
            let writer = Writer::open(&dir, &self.chain, Limits::default())?;
            self.writers.insert(app, (writer, 0));
        }
        self.writers.get_mut(&app).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn drop_marker(count: u64) -> String {
    format!("at=error code=L10 desc=\"Request log overflow\" dropped={count}")
}

/// A request's line in the making. Whoever drops it unfinished lost the client: H27.
pub struct Entry {
    log: Arc<AccessLog>,
    app: AppId,
    /// ` method=… path=… host=… request_id=… fwd=…`
    request: Vec<u8>,
    started: Start,
    connect: Option<Duration>,
    connected: bool,
    target: Option<Arc<Target>>,
    status: u16,
    tls: bool,
    written: bool,
}

impl Entry {
    /// Notes what the line says about the request.
    pub fn new(
        log: Arc<AccessLog>,
        app: AppId,
        started: Start,
        request: (&Method, &Uri, &HeaderValue),
        marks: &Marks,
        tls: bool,
    ) -> Self {
        let (method, uri, host) = request;
        let mut text = Vec::with_capacity(192);
        text.extend_from_slice(b" method=");
        text.extend_from_slice(method.as_str().as_bytes());
        text.extend_from_slice(b" path=\"");
        escape(&mut text, uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
        text.extend_from_slice(b"\" host=");
        escape(&mut text, host.as_bytes());
        text.extend_from_slice(b" request_id=");
        text.extend_from_slice(marks.request_id.as_bytes());
        text.extend_from_slice(b" fwd=\"");
        escape(&mut text, marks.forwarded_for.as_bytes());
        text.push(b'"');
        let (connect, target) = (None, None);
        Self { log, app, request: text, started, connect, connected: false, target, status: 0, tls, written: false }
    }

    /// A dyno was reached, in `connect`.
    pub fn reached(&mut self, target: &Arc<Target>, connect: Duration) {
        self.target = Some(target.clone());
        self.connect = Some(connect);
        self.connected = true;
    }

    /// A dyno was tried for `connect`, in vain.
    pub fn missed(&mut self, target: &Arc<Target>, connect: Duration) {
        self.reached(target, connect);
        self.connected = false;
    }

    /// The dyno answered with `status`.
    pub fn status(&mut self, status: u16) {
        self.status = status;
    }

    /// When the request came.
    pub fn started(&self) -> Instant {
        self.started.at
    }

    /// Writes the line of a request that was answered, `now`, with `bytes` of body.
    pub fn answered(mut self, bytes: u64, now: Instant) {
        let status = self.status;
        self.write(None, status, bytes, now);
    }

    /// Writes the line of a request that failed after `bytes` of body.
    pub fn failed(mut self, fault: Fault, bytes: u64) {
        self.write(Some(fault), fault.logged_status(), bytes, Instant::now());
    }

    /// There is nobody any more whose log has a line for it.
    pub fn forget(mut self) {
        self.written = true;
    }

    fn write(&mut self, fault: Option<Fault>, status: u16, bytes: u64, now: Instant) {
        self.written = true;
        let took = now.saturating_duration_since(self.started.at);
        let service = took.saturating_sub(self.connect.unwrap_or_default());
        self.log.push(self.app, self.started.time_us + took.as_micros() as u64, |line| {
            match fault {
                None => line.extend_from_slice(b"at=info"),
                Some(fault) => {
                    let (code, desc) = fault.words();
                    // Writing to a vector cannot fail.
                    let _ = fault.sock().map(|sock| write!(line, "sock={sock} "));
                    let _ = write!(line, "at={} code={code} desc=\"{desc}\"", fault.level());
                    let _ = fault.cause().map(|cause| write!(line, " cause=\"{cause}\""));
                }
            }
            line.extend_from_slice(&self.request);
            match (&self.target, self.connect) {
                (Some(target), Some(connect)) => {
                    line.extend_from_slice(b" dyno=");
                    line.extend_from_slice(target.name.as_bytes());
                    line.extend_from_slice(b" connect=");
                    text::number(line, connect.as_millis() as u64);
                    line.extend_from_slice(b"ms service=");
                    if self.connected {
                        text::number(line, service.as_millis() as u64);
                        line.extend_from_slice(b"ms");
                    }
                }
                _ => line.extend_from_slice(b" dyno= connect= service="),
            }
            line.extend_from_slice(b" status=");
            text::number(line, status.into());
            line.extend_from_slice(b" bytes=");
            text::number(line, bytes);
            line.extend_from_slice(if self.tls { b" protocol=https" } else { b" protocol=http" });
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.written {
            self.write(Some(Fault::H27), Fault::H27.logged_status(), 0, Instant::now());
        }
    }
}

/// The bytes that could end a field or a line. A table: this is asked for every byte that a client sends as path or host.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'"' | b'\\' | 0..=0x1f | 0x7f..);
        byte += 1;
    }
    table
};

/// Appends `text` so that it cannot end its field or its line: bytes that could are written as `%XX`.
fn escape(line: &mut Vec<u8>, text: &[u8]) {
    let mut rest = &text[..text.len().min(MAX_FIELD)];
    while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        line.extend_from_slice(&rest[..at]);
        let _ = write!(line, "%{:02X}", rest[at]);
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut line = Vec::new();
        escape(&mut line, text.as_bytes());
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn attack_12_a_path_cannot_forge_a_line() {
        check("/a?b=c", "/a?b=c");
        check("/\" status=200 x=\"", "/%22 status=200 x=%22");
        check("/\n2026 heroku[router]: \x1b[2J", "/%0A2026 heroku[router]: %1B[2J");
        check("/ü\\", "/%C3%BC%5C");
    }

    #[test]
    fn attack_44_what_a_full_buffer_drops_is_counted_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut scribe) = AccessLog::with_scribe(dir.path().join("logs"), dir.path()).unwrap();
        let (flooded, calm) = (AppId(uuid::Uuid::from_u128(1)), AppId(uuid::Uuid::from_u128(2)));
        let line = |app, text: &str| log.push(app, 1, |line| line.extend_from_slice(text.as_bytes()));
        line(calm, "before");
        let long = "x".repeat(1 << 20);
        // Four fit.
        for _ in 0..8 {
            line(flooded, &long);
        }
        line(calm, "dropped");
        assert!(scribe.collect(&mut Default::default()));
        line(flooded, "after");
        scribe.collect(&mut Default::default());
        let seen = |app: AppId| {
            let chains = dir.path().join("logs").join(app.to_string());
            let (entries, _) = shipway_logs::Reader::last(&chains, shipway_logs::Filter::default(), 100).unwrap();
            let text = |message: &[u8]| String::from_utf8_lossy(&message[..message.len().min(80)]).into_owned();
            entries.iter().map(|entry| text(&entry.message)).filter(|l| !l.starts_with('x')).collect::<Vec<_>>()
        };
        let marker = |count| format!("at=error code=L10 desc=\"Request log overflow\" dropped={count}");
        assert_eq!(seen(flooded), [marker(4), "after".into()]);
        assert_eq!(seen(calm), ["before".into(), marker(1)]);
    }

    #[test]
    fn two_routers_do_not_share_a_chain() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _held) = free_chain(dir.path()).unwrap();
        let (second, held) = free_chain(dir.path()).unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("router", "router-2"));
        drop(held);
        assert_eq!(free_chain(dir.path()).unwrap().0, "router-2");
    }
}
