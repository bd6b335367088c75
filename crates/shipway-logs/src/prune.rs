//! Keeping an app's log within its size and age.

use crate::segment;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What [`prune`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Segments that were deleted.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are left.
    pub left_bytes: u64,
}

struct Segment {
    chain: PathBuf,
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
    newest: bool,
}

/// Deletes the oldest segments of an app until at most `max_bytes` are left, and all that were last written to more
/// than `max_age` before `now`. The newest segment of a chain that has a writer always stays; so `max_bytes` can be
/// missed by one segment for each writer. A chain of which nothing is left is removed.
///
/// Errors: the first one of the file system; what was deleted before stays deleted, and running again goes on.
pub fn prune(app_dir: &Path, max_bytes: u64, max_age: Duration, now: SystemTime) -> io::Result<Pruned> {
    let mut segments = segments_of(app_dir)?;
    segments.sort_by_key(|segment| segment.modified);
    let mut pruned = Pruned { left_bytes: segments.iter().map(|segment| segment.bytes).sum(), ..Pruned::default() };
    for segment in segments {
        let age = now.duration_since(segment.modified).unwrap_or_default();
        if pruned.left_bytes <= max_bytes && age <= max_age {
            break;
        }
        if segment.newest {
            // Without a writer this takes the lock, so that none begins while its chain goes away.
            let directory = File::open(&segment.chain)?;
            if directory.try_lock().is_err() {
                continue;
            }
            std::fs::remove_file(&segment.path)?;
            match std::fs::remove_dir(&segment.chain) {
                // A writer has come and gone since the listing.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                result => result?,
            }
        } else {
            std::fs::remove_file(&segment.path)?;
        }
        pruned.segments += 1;
        pruned.bytes += segment.bytes;
        pruned.left_bytes -= segment.bytes;
    }
    Ok(pruned)
}

fn segments_of(app_dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(app_dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let chain = entry.path();
        let firsts = segment::list(&chain)?;
        for first in &firsts {
            let path = segment::path(&chain, *first);
            let metadata = path.metadata()?;
            let newest = Some(first) == firsts.last();
            let (modified, bytes) = (metadata.modified()?, metadata.len());
            segments.push(Segment { chain: chain.clone(), path, modified, bytes, newest });
        }
    }
    Ok(segments)
}
