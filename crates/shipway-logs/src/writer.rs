//! The one who appends to a chain.

use crate::frame::{MAX_DYNO, MAX_MESSAGE, SEGMENT_HEADER, Salt, encode};
use crate::segment::{self, Scanner};
use crate::{Record, Source};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// A clock that was set back by less than this many microseconds is smoothed: a line is never older than the one
/// before it. A larger step is believed, or every line would carry one time until the clock has caught up.
const SMOOTHED_US: u64 = 1_000_000;

/// How long a writer tries to get its chain's lock, and how often.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(2);

/// How large the files of a chain grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A segment that would grow over this many bytes is closed and the next begun. What is pruned is pruned in these
    /// units.
    pub segment_bytes: u64,
}

impl Default for Limits {
    /// 4 MiB: 30,000 lines of 100 bytes.
    fn default() -> Self {
        Self { segment_bytes: 4 << 20 }
    }
}

/// Appends to one chain. One per chain at a time, ensured by a lock on the chain's directory.
///
/// Needs no thread and, once its buffer has grown, allocates nothing. An append writes all of its records or, with an
/// error, none. Nothing is flushed to the disk: a crash of the process loses nothing, a power cut loses the last
/// seconds and at most tears the last record, which [`Writer::open`] cuts off.
#[derive(Debug)]
pub struct Writer {
    limits: Limits,
    /// The chain's directory, locked for as long as it is open.
    directory: File,
    file: File,
    salt: Salt,
    size: u64,
    /// The sequence of the record that comes next.
    next: u64,
    last_us: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Opens or makes the chain `<app_dir>/<writer>` and continues the sequence of what is there.
    ///
    /// `app_dir` must exist, `writer` is one path segment. What is made gets the owner of `app_dir` (a shim runs as
    /// root, the server that reads and prunes does not) and the modes 0750 and 0640; symbolic links are not followed.
    ///
    /// Errors: `InvalidInput` for a writer's name that is not a segment, `WouldBlock` when another process writes to
    /// this chain, and what the file system says.
    pub fn open(app_dir: &Path, writer: &str, limits: Limits) -> io::Result<Self> {
        if writer.is_empty() || writer.starts_with('.') || writer.contains(['/', '\0']) {
            let message = format!("a log writer's name must be one path segment, not {writer:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let app = File::open(app_dir)?;
        let owner = Owner::of(&app)?;
        loop {
            match rustix::fs::mkdirat(&app, writer, Mode::from_raw_mode(0o750)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = File::from(rustix::fs::openat(&app, writer, flags, Mode::empty())?);
            lock(&directory, writer)?;
            // Whoever prunes removes an empty chain while holding its lock: what was opened may be gone.
            match rustix::fs::statat(&app, writer, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if stat.st_ino == directory.metadata()?.ino() => {
                    owner.give(&directory)?;
                    return Self::continue_chain(&app_dir.join(writer), directory, limits, owner);
                }
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn continue_chain(chain: &Path, directory: File, limits: Limits, owner: Owner) -> io::Result<Self> {
        let buffer = Vec::with_capacity(16 << 10);
        let Some(first) = segment::list(chain)?.pop() else {
            let (file, salt) = create_segment(&directory, 1, owner)?;
            let size = SEGMENT_HEADER as u64;
            return Ok(Self { limits, directory, file, salt, size, next: 1, last_us: 0, buffer });
        };
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::APPEND;
        let file = File::from(rustix::fs::openat(&directory, segment::file_name(first), flags, Mode::empty())?);
        let Some(mut scanner) = Scanner::open(chain, first)? else {
            // The machine went down between the making of the file and its header.
            file.set_len(0)?;
            let salt = Salt::random();
            (&file).write_all(&salt.header())?;
            let size = SEGMENT_HEADER as u64;
            return Ok(Self { limits, directory, file, salt, size, next: first, last_us: 0, buffer });
        };
        let last_us = scanner.skip_to_end()?.unwrap_or(0);
        let (size, next, salt) = (scanner.offset(), scanner.next, scanner.salt());
        file.set_len(size)?;
        Ok(Self { limits, directory, file, salt, size, next, last_us, buffer })
    }

    /// Appends one line by one `write`; its sequence.
    ///
    /// Errors: `InvalidInput` for a message over [`MAX_MESSAGE`] or a name over [`MAX_DYNO`] bytes; the disk's. Either
    /// way nothing was written.
    pub fn append(&mut self, time_us: u64, source: Source, dyno: &str, message: &[u8]) -> io::Result<u64> {
        self.append_batch(&[Record { time_us, sequence: 0, source, dyno, message }])
    }

    /// Appends all of `records` by one `write`; the sequence of the last one (of the last ever, when there are none).
    ///
    /// Errors: as [`Writer::append`]; nothing of the batch was written then.
    pub fn append_batch(&mut self, records: &[Record<'_>]) -> io::Result<u64> {
        self.encode(records)?;
        if self.size + self.buffer.len() as u64 > self.limits.segment_bytes && self.size > SEGMENT_HEADER as u64 {
            let (file, salt) = create_segment(&self.directory, self.next, Owner::of(&self.directory)?)?;
            (self.file, self.salt, self.size) = (file, salt, SEGMENT_HEADER as u64);
            self.encode(records)?;
        }
        if let Err(error) = (&self.file).write_all(&self.buffer) {
            // A full disk takes a part; the rest of the chain must not lie behind half a record.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += self.buffer.len() as u64;
        self.next += records.len() as u64;
        if let Some(last) = records.last() {
            self.last_us = smoothed(self.last_us, last.time_us);
        }
        Ok(self.next - 1)
    }

    /// Fills the buffer with `records` as the present segment wants them.
    fn encode(&mut self, records: &[Record<'_>]) -> io::Result<()> {
        self.buffer.clear();
        let mut last_us = self.last_us;
        for (place, record) in records.iter().enumerate() {
            if record.message.len() > MAX_MESSAGE || record.dyno.len() > MAX_DYNO {
                let message = format!(
                    "a log line has at most {MAX_MESSAGE} bytes and its name {MAX_DYNO}; these have {} and {}",
                    record.message.len(),
                    record.dyno.len(),
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            last_us = smoothed(last_us, record.time_us);
            let sequence = self.next + place as u64;
            encode(&mut self.buffer, self.salt, &Record { time_us: last_us, sequence, ..*record });
        }
        Ok(())
    }
}

/// Takes the chain's lock. Readers and whoever prunes hold it for moments, so one refusal says nothing.
fn lock(directory: &File, writer: &str) -> io::Result<()> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => {
                let message = format!("log chain {writer} has a writer already");
                return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
            }
        }
    }
}

fn smoothed(last_us: u64, time_us: u64) -> u64 {
    if time_us < last_us && last_us - time_us < SMOOTHED_US { last_us } else { time_us }
}

fn create_segment(directory: &File, first: u64, owner: Owner) -> io::Result<(File, Salt)> {
    let name = segment::file_name(first);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::APPEND;
    let file = File::from(rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o640))?);
    let salt = Salt::random();
    // A segment without a header would be in the way of the next try to make it.
    if let Err(error) = owner.give(&file).and_then(|()| (&file).write_all(&salt.header())) {
        rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
        return Err(error);
    }
    Ok((file, salt))
}

/// Whose the files of a chain are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    fn give(self, file: &File) -> io::Result<()> {
        if Self::of(file)? == self || !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}
