//! Log segments: one append-only chain per writer, merged by readers.
//!
//! An app's log is a directory with one chain per writer: `<app-dir>/<writer>/<first-sequence>.seg`. Every writer (a
//! dyno's shim, the router, the platform) appends to its own chain and knows of no other, so nobody waits for anybody
//! and nothing is lost when the server is gone. Readers merge the chains by time; the order within one chain is never
//! changed. A record is named by its [`EventId`]: time, writer, sequence.
//!
//! Roads not taken: one file for all writers (needs a lock or a daemon between a dyno and its log); an index beside
//! the records (a second thing to repair after a crash: records carry their length at both ends instead, so the end
//! of a segment is found from the end).

mod chain;
mod cutter;
mod event;
mod filter;
mod frame;
mod prune;
mod reader;
mod segment;
mod writer;

pub use cutter::{Cutter, MAX_LINE};
pub use event::{Entry, EventId, EventIdError};
pub use filter::Filter;
pub use frame::{MAX_DYNO, MAX_MESSAGE};
pub use prune::{Pruned, prune};
pub use reader::Reader;
pub use writer::{Limits, Writer};

/// Who speaks in a line: the app itself or the platform about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Output of the app's processes; `app` on screen.
    App,
    /// What the platform says: router, state changes, errors; `heroku` on screen, as tools expect it.
    Heroku,
}

impl Source {
    /// The word that stands in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Heroku => "heroku",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Source {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        match s {
            "app" => Ok(Self::App),
            "heroku" => Ok(Self::Heroku),
            _ => Err(()),
        }
    }
}

/// One line as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub time_us: u64,
    /// Its place in the chain, from 1. Given by the [`Writer`]: what a caller puts here is not read.
    pub sequence: u64,
    /// Who speaks.
    pub source: Source,
    /// `web.1`, `router`, `api`: what stands in brackets. At most [`MAX_DYNO`] bytes.
    pub dyno: &'a str,
    /// The line without its end. At most [`MAX_MESSAGE`] bytes; any bytes.
    pub message: &'a [u8],
}
