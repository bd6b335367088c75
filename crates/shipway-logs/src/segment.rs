//! Segments of a chain as files: their names, their valid end, reading them from the start and from the end.

use crate::frame::{Decoded, SEGMENT_HEADER, Salt, decode, size_from_end};
use crate::{Entry, Filter};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read at once. Small, because an app may have hundreds of chains open while they are merged.
const BLOCK: usize = 32 << 10;

/// The name of the segment whose first record is `first`; zeros in front make a listing sort by age.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

pub(crate) fn path(chain: &Path, first: u64) -> PathBuf {
    chain.join(file_name(first))
}

/// The first sequences of a chain's segments, oldest first; empty when there is no such directory.
pub(crate) fn list(chain: &Path) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(chain) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut firsts = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        firsts.extend(name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Reads a segment from a position on; the file may grow meanwhile.
///
/// The file is opened for each block that is read: an app may have thousands of chains, a process few descriptors.
pub(crate) struct Scanner {
    path: PathBuf,
    salt: Salt,
    /// The place in the file of `buffer[start]`.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
    /// The sequence after the last record that was passed.
    pub(crate) next: u64,
}

/// What a scanner found.
pub(crate) enum Scanned<T> {
    Record(T),
    /// Nothing whole is there (yet).
    End,
}

impl Scanner {
    /// Opens the segment whose first record is `first`; none when it is gone or its header is not written yet.
    pub(crate) fn open(chain: &Path, first: u64) -> io::Result<Option<Self>> {
        let path = path(chain, first);
        let Some(salt) = read_salt(&path)? else { return Ok(None) };
        Ok(Some(Self { path, salt, offset: SEGMENT_HEADER as u64, buffer: Vec::new(), start: 0, next: first }))
    }

    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// Whether the file is still the one that was opened, and not one of the same name in a chain begun anew.
    pub(crate) fn is_same_file(&self) -> io::Result<bool> {
        Ok(read_salt(&self.path)? == Some(self.salt))
    }

    /// Goes to `offset`, a boundary between records, behind which the record `next` comes.
    pub(crate) fn seek(&mut self, offset: u64, next: u64) {
        (self.buffer, self.start) = (Vec::new(), 0);
        (self.offset, self.next) = (offset, next);
    }

    /// Where the next record begins, in bytes from the start of the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record that matches, as an entry.
    pub(crate) fn next_entry(
        &mut self,
        filter: &Filter,
        writer: &Arc<str>,
        dyno: &mut Arc<str>,
    ) -> io::Result<Scanned<Entry>> {
        self.scan(|record| filter.matches(record).then(|| Entry::new(writer, dyno, record)))
    }

    /// Passes all records that are there; the time of the last one, if there was one.
    pub(crate) fn skip_to_end(&mut self) -> io::Result<Option<u64>> {
        let mut last = None;
        let Scanned::End = self.scan(|record| {
            last = Some(record.time_us);
            None::<std::convert::Infallible>
        })?;
        Ok(last)
    }

    /// Passes records until `wanted` makes something of one.
    fn scan<T>(&mut self, mut wanted: impl FnMut(&crate::Record<'_>) -> Option<T>) -> io::Result<Scanned<T>> {
        loop {
            match decode(&self.buffer[self.start..], self.salt) {
                Decoded::Frame(frame) => {
                    self.start += frame.size;
                    self.offset += frame.size as u64;
                    self.next = frame.record.sequence + 1;
                    if let Some(found) = wanted(&frame.record) {
                        return Ok(Scanned::Record(found));
                    }
                }
                // What looks corrupt may be a record that is just being written, seen half: it is read again.
                Decoded::Incomplete(_) | Decoded::Corrupt if self.start > 0 => self.refill(BLOCK)?,
                Decoded::Incomplete(size) => {
                    self.refill(size.max(BLOCK))?;
                    if self.buffer.len() < size {
                        self.buffer = Vec::new();
                        return Ok(Scanned::End);
                    }
                }
                Decoded::Corrupt => {
                    self.buffer = Vec::new();
                    return Ok(Scanned::End);
                }
            }
        }
    }

    fn refill(&mut self, capacity: usize) -> io::Result<()> {
        self.start = 0;
        self.buffer.resize(capacity, 0);
        let filled = read_at(&self.path, self.offset, &mut self.buffer)?;
        self.buffer.truncate(filled);
        Ok(())
    }
}

/// Whether an error of opening says that there is nothing (yet). A writer that is another user makes a chain first and
/// gives it to the reader in the next moment: until then it may not be opened.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied)
}

/// Fills `buffer` from `offset` on as far as the file goes; nothing when the file is gone.
fn read_at(path: &Path, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn read_salt(path: &Path) -> io::Result<Option<Salt>> {
    let mut header = [0; SEGMENT_HEADER];
    let filled = read_at(path, 0, &mut header)?;
    Ok(Salt::read(&header[..filled]))
}

/// Walks a segment from its end to its start.
pub(crate) struct BackScanner {
    path: PathBuf,
    salt: Salt,
    /// Bytes of the file from `base` on; records up to their end have not been passed yet.
    buffer: Vec<u8>,
    base: u64,
}

impl BackScanner {
    /// Begins at `end`, a boundary between records, or at the end of what is whole; none when the segment is gone or
    /// has no header.
    pub(crate) fn open(chain: &Path, first: u64, end: Option<u64>) -> io::Result<Option<Self>> {
        let path = path(chain, first);
        let Some(salt) = read_salt(&path)? else { return Ok(None) };
        let end = match end {
            Some(end) => end,
            None => match std::fs::metadata(&path) {
                Ok(metadata) => metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let mut scanner = Self { path, salt, buffer: Vec::new(), base: end };
        if !scanner.at_boundary()? {
            // The end is torn: walked from the start, the last whole record is found for sure.
            let Some(mut forward) = Scanner::open(chain, first)? else { return Ok(None) };
            forward.skip_to_end()?;
            scanner.base = forward.offset().min(end);
            scanner.buffer.clear();
        }
        Ok(Some(scanner))
    }

    /// Where the records that were not passed yet end.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    fn at_boundary(&mut self) -> io::Result<bool> {
        Ok(self.end() == SEGMENT_HEADER as u64 || self.last_size()?.is_some())
    }

    /// The record before the ones that were passed, as what `wanted` makes of it; none at the start of the segment.
    pub(crate) fn previous<T>(&mut self, wanted: impl FnOnce(&crate::Record<'_>) -> T) -> io::Result<Option<T>> {
        let Some(size) = self.last_size()? else { return Ok(None) };
        let start = self.buffer.len() - size;
        let Decoded::Frame(frame) = decode(&self.buffer[start..], self.salt) else { return Ok(None) };
        let found = wanted(&frame.record);
        self.buffer.truncate(start);
        Ok(Some(found))
    }

    /// The size of the last record in the buffer, which is whole and valid; none when there is no such record.
    fn last_size(&mut self) -> io::Result<Option<usize>> {
        if self.buffer.len() < crate::frame::TAIL && !self.load(crate::frame::TAIL)? {
            return Ok(None);
        }
        let Some(size) = size_from_end(&self.buffer) else { return Ok(None) };
        if self.buffer.len() < size && !self.load(size)? {
            return Ok(None);
        }
        let whole =
            matches!(decode(&self.buffer[self.buffer.len() - size..], self.salt), Decoded::Frame(f) if f.size == size);
        Ok(whole.then_some(size))
    }

    /// Loads what lies before the buffer until it has `size` bytes; false when the segment does not have them.
    fn load(&mut self, size: usize) -> io::Result<bool> {
        let before = self.base.saturating_sub(SEGMENT_HEADER as u64);
        let wanted = (size.max(BLOCK).saturating_sub(self.buffer.len()) as u64).min(before) as usize;
        let mut buffer = vec![0; wanted];
        if read_at(&self.path, self.base - wanted as u64, &mut buffer)? < wanted {
            return Ok(false);
        }
        self.base -= wanted as u64;
        buffer.extend_from_slice(&self.buffer);
        self.buffer = buffer;
        Ok(self.buffer.len() >= size)
    }
}
