//! All chains of an app as one log.

use crate::chain::{BackChain, Chain};
use crate::{Entry, EventId, Filter};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How old a line must be before it is given out, in microseconds, so that a line of another writer which was stamped
/// before it has arrived too. It makes the order that a follower sees the order of the event ids, and so a
/// `Last-Event-ID` a complete description of what was seen.
const SETTLE_US: u64 = 10_000;
/// A line that is further in the future than this many microseconds was written under another clock; it is given out.
const OTHER_CLOCK_US: u64 = 1_000_000;
/// Shortest and longest pause between two looks at chains that are being written.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// How often chains without a writer, and the directory itself, are looked at.
const RECHECK: Duration = Duration::from_secs(1);

/// Reads the log of one app: what is there, then what is added.
///
/// Files are looked at, not watched: a watch costs a kernel object per follower, of which a user has 128 by default,
/// and every look costs one `pread` for each chain that has a writer. All calls block on the disk; async callers use a
/// blocking thread.
pub struct Reader {
    app_dir: PathBuf,
    filter: Filter,
    chains: Vec<Chain>,
    known: BTreeSet<Arc<str>>,
    checked: Option<Instant>,
    directory_modified: Option<std::time::SystemTime>,
    pause: Duration,
}

impl Reader {
    /// Everything that is kept, from the oldest line on. A directory that is not there (yet) is an empty log.
    pub fn oldest(app_dir: &Path, filter: Filter) -> io::Result<Self> {
        let mut reader = Self {
            app_dir: app_dir.to_path_buf(),
            filter,
            chains: Vec::new(),
            known: BTreeSet::new(),
            checked: None,
            directory_modified: None,
            pause: PAUSE.0,
        };
        reader.discover()?;
        Ok(reader)
    }

    /// The newest `count` lines that match, oldest of them first, and a reader that goes on behind them.
    ///
    /// Costs what it reads from the end of each chain; with a filter, as much as it takes to find matching lines.
    pub fn last(app_dir: &Path, filter: Filter, count: usize) -> io::Result<(Vec<Entry>, Self)> {
        let mut reader = Self::oldest(app_dir, filter)?;
        let mut heads = BinaryHeap::new();
        let mut walks: Vec<BackChain> = Vec::with_capacity(reader.chains.len());
        for chain in &mut reader.chains {
            let mut walk = chain.seek_end()?;
            if count > 0
                && let Some(entry) = walk.previous(&reader.filter)?
            {
                heads.push(Head { entry, chain: walks.len() });
            }
            walks.push(walk);
        }
        let mut lines = Vec::new();
        while lines.len() < count
            && let Some(Head { entry, chain }) = heads.pop()
        {
            lines.push(entry);
            if let Some(entry) = walks[chain].previous(&reader.filter)? {
                heads.push(Head { entry, chain });
            }
        }
        lines.reverse();
        Ok((lines, reader))
    }

    /// What comes after the event `id`, which a follower has seen last.
    pub fn after(app_dir: &Path, filter: Filter, id: &EventId) -> io::Result<Self> {
        let mut reader = Self::oldest(app_dir, filter)?;
        for chain in &mut reader.chains {
            chain.seek_after(id)?;
            // The seek looks at every record; the one that it stopped at may not be wanted.
            chain.head.take_if(|head| !reader.filter.matches(&head.as_record()));
        }
        Ok(reader)
    }

    /// Appends to `lines` what has come and settled, in order of time, until it holds `max` lines or nothing is left;
    /// whether more is there now. `now_us`: the writers' clock, microseconds since 1970.
    pub fn poll(&mut self, now_us: u64, max: usize, lines: &mut Vec<Entry>) -> io::Result<bool> {
        let thorough = self.discover()?;
        let before = lines.len();
        let mut heads = BinaryHeap::new();
        for (index, chain) in self.chains.iter_mut().enumerate() {
            if chain.head.is_none() && (chain.live || thorough) {
                chain.head = chain.advance(&self.filter, thorough)?;
            }
            heads.extend(chain.head.take().map(|entry| Reverse(Head { entry, chain: index })));
        }
        let mut result = Ok(());
        while lines.len() < max && heads.peek().is_some_and(|Reverse(head)| is_settled(now_us, head.entry.id.time_us)) {
            let Reverse(Head { entry, chain }) = heads.pop().expect("peeked");
            lines.push(entry);
            match self.chains[chain].advance(&self.filter, false) {
                Ok(next) => heads.extend(next.map(|entry| Reverse(Head { entry, chain }))),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let more = heads.peek().is_some_and(|Reverse(head)| is_settled(now_us, head.entry.id.time_us));
        let quiet = lines.len() == before && heads.is_empty();
        self.pause = if quiet { (self.pause * 2).min(PAUSE.1) } else { PAUSE.0 };
        for Reverse(Head { entry, chain }) in heads {
            self.chains[chain].head = Some(entry);
        }
        result.map(|()| more)
    }

    /// How long to wait before the next [`Reader::poll`] when the last one left nothing: 10 ms while lines come,
    /// growing to 100 ms.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Takes in new chains, drops those that are gone, and looks which have a writer; true when that was due.
    fn discover(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let due = self.checked.is_none_or(|checked| now.duration_since(checked) >= RECHECK);
        let modified = match std::fs::metadata(&self.app_dir) {
            Ok(metadata) => metadata.modified().ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if due || modified != self.directory_modified {
            self.directory_modified = modified;
            self.list_chains()?;
        }
        if due {
            self.checked = Some(now);
            self.chains.retain(|chain| !chain.is_gone() || !self.known.remove(&chain.writer));
            for chain in &mut self.chains {
                chain.recheck()?;
            }
        }
        Ok(due)
    }

    fn list_chains(&mut self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.app_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(writer) = name.to_str()
                && !self.known.contains(writer)
                && entry.file_type()?.is_dir()
            {
                let chain = Chain::new(&self.app_dir, writer);
                self.known.insert(chain.writer.clone());
                self.chains.push(chain);
            }
        }
        Ok(())
    }
}

fn is_settled(now_us: u64, time_us: u64) -> bool {
    time_us.saturating_add(SETTLE_US) <= now_us || time_us > now_us.saturating_add(OTHER_CLOCK_US)
}

/// The next entry of a chain in the merge, ordered by its event id.
struct Head {
    entry: Entry,
    chain: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.entry.id == other.entry.id
    }
}
impl Eq for Head {}
impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.entry.id.cmp(&other.entry.id)
    }
}
