//! One chain, read forwards as it grows or backwards from its end.

use crate::segment::{self, BackScanner, Scanned, Scanner};
use crate::{Entry, EventId, Filter};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads a chain in its order, segment after segment, and goes on when it grows.
pub(crate) struct Chain {
    directory: PathBuf,
    pub(crate) writer: Arc<str>,
    dyno: Arc<str>,
    scanner: Option<(u64, Scanner)>,
    /// The record that comes next. Only a lower bound after segments were pruned.
    next: u64,
    /// Read but not given out yet.
    pub(crate) head: Option<Entry>,
    /// Whether its writer was there when somebody looked.
    pub(crate) live: bool,
}

impl Chain {
    /// The chain from its oldest record on.
    pub(crate) fn new(app_dir: &Path, writer: &str) -> Self {
        Self {
            directory: app_dir.join(writer),
            writer: writer.into(),
            dyno: "".into(),
            scanner: None,
            next: 0,
            head: None,
            live: true,
        }
    }

    /// Begins at the end that the chain has now; a walk back from the same end.
    pub(crate) fn seek_end(&mut self) -> io::Result<BackChain> {
        let mut segments = segment::list(&self.directory)?;
        let mut scanner = None;
        if let Some(&newest) = segments.last() {
            scanner = BackScanner::open(&self.directory, newest, None)?;
            segments.pop();
            match &mut scanner {
                Some(back) => {
                    let end = back.end();
                    // Which record comes next is known from the last one, so that one is read and then walked again.
                    self.next = back.previous(|record| record.sequence + 1)?.unwrap_or(newest);
                    scanner = BackScanner::open(&self.directory, newest, Some(end))?;
                    if let Some(mut forward) = Scanner::open(&self.directory, newest)? {
                        forward.seek(end, self.next);
                        self.scanner = Some((newest, forward));
                    }
                }
                None => self.next = newest,
            }
        }
        Ok(BackChain {
            directory: self.directory.clone(),
            writer: self.writer.clone(),
            dyno: self.dyno.clone(),
            segments,
            scanner,
        })
    }

    /// Passes everything up to and including `id`.
    pub(crate) fn seek_after(&mut self, id: &EventId) -> io::Result<()> {
        let segments = segment::list(&self.directory)?;
        // The newest segment that begins at or before the event; older ones hold nothing that comes after it.
        for &first in segments.iter().rev() {
            self.next = first;
            let Some(mut scanner) = Scanner::open(&self.directory, first)? else { continue };
            match scanner.next_entry(&Filter::default(), &self.writer, &mut self.dyno)? {
                Scanned::Record(entry) if comes_after(&entry.id, id) => {}
                _ => break,
            }
        }
        while let Some(entry) = self.advance(&Filter::default(), true)? {
            if comes_after(&entry.id, id) {
                self.head = Some(entry);
                break;
            }
        }
        Ok(())
    }

    /// The next record that matches; none when there is none yet. `thorough` also looks for segments behind a gap.
    pub(crate) fn advance(&mut self, filter: &Filter, thorough: bool) -> io::Result<Option<Entry>> {
        loop {
            let Some((first, scanner)) = &mut self.scanner else {
                let Some(first) = self.segment_from(self.next, thorough)? else { return Ok(None) };
                let Some(scanner) = Scanner::open(&self.directory, first)? else { return Ok(None) };
                self.scanner = Some((first, scanner));
                continue;
            };
            let first = *first;
            if let Scanned::Record(entry) = scanner.next_entry(filter, &self.writer, &mut self.dyno)? {
                self.next = scanner.next;
                return Ok(Some(entry));
            }
            self.next = scanner.next;
            let Some(following) = self.segment_from((first + 1).max(self.next), thorough)? else { return Ok(None) };
            // The writer has gone on to the next segment: what it wrote to this one before is all there now.
            let (_, scanner) = self.scanner.as_mut().expect("set above");
            if let Scanned::Record(entry) = scanner.next_entry(filter, &self.writer, &mut self.dyno)? {
                self.next = scanner.next;
                return Ok(Some(entry));
            }
            if scanner.next > self.next {
                // More was there, but nothing that matches.
                self.next = scanner.next;
                continue;
            }
            let Some(scanner) = Scanner::open(&self.directory, following)? else { return Ok(None) };
            self.scanner = Some((following, scanner));
        }
    }

    /// The segment that begins at `sequence`, or with `thorough` the first one that begins there or later.
    fn segment_from(&self, sequence: u64, thorough: bool) -> io::Result<Option<u64>> {
        if sequence > 0 && segment::path(&self.directory, sequence).exists() {
            return Ok(Some(sequence));
        }
        if !thorough && sequence > 0 {
            return Ok(None);
        }
        Ok(segment::list(&self.directory)?.into_iter().find(|first| *first >= sequence))
    }

    /// Looks whether somebody holds the chain's lock, and whether it is still the chain that was read: one that was
    /// pruned away and begun anew counts from 1 again.
    pub(crate) fn recheck(&mut self) -> io::Result<()> {
        if let Some((first, scanner)) = &self.scanner
            && !scanner.is_same_file()?
            && segment::list(&self.directory)?.last().is_some_and(|newest| newest <= first)
        {
            (self.scanner, self.next) = (None, 0);
        }
        self.live = File::open(&self.directory)
            .is_ok_and(|directory| matches!(directory.try_lock_shared(), Err(TryLockError::WouldBlock)));
        Ok(())
    }

    /// Whether nothing of the chain is left on the disk.
    pub(crate) fn is_gone(&self) -> bool {
        self.head.is_none() && !self.directory.exists()
    }
}

/// Whether the record `id` is one that somebody who has seen all up to `seen` has not seen.
fn comes_after(id: &EventId, seen: &EventId) -> bool {
    if id.writer == seen.writer {
        // The time counts too: a chain that was pruned away and begun anew counts from 1 again.
        id.sequence > seen.sequence || id.time_us > seen.time_us
    } else {
        (id.time_us, &id.writer) > (seen.time_us, &seen.writer)
    }
}

/// Walks a chain from newer to older records.
pub(crate) struct BackChain {
    directory: PathBuf,
    pub(crate) writer: Arc<str>,
    dyno: Arc<str>,
    /// Not opened yet, oldest first.
    segments: Vec<u64>,
    scanner: Option<BackScanner>,
}

impl BackChain {
    /// The record before, if it is one that matches.
    pub(crate) fn previous(&mut self, filter: &Filter) -> io::Result<Option<Entry>> {
        loop {
            if let Some(scanner) = &mut self.scanner {
                let (writer, dyno) = (&self.writer, &mut self.dyno);
                let step =
                    |record: &crate::Record<'_>| filter.matches(record).then(|| Entry::new(writer, dyno, record));
                match scanner.previous(step)? {
                    Some(Some(entry)) => return Ok(Some(entry)),
                    Some(None) => continue,
                    None => self.scanner = None,
                }
            }
            let Some(first) = self.segments.pop() else { return Ok(None) };
            self.scanner = BackScanner::open(&self.directory, first, None)?;
        }
    }
}
