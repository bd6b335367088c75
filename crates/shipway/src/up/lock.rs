//! One `up` per data directory.

use crate::home::lock_file;
use crate::problem::{Doing, Problem};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Held while `up` runs; the kernel lets go of it when the process is gone, however that came about.
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it. Errors: another `up` has it.
    pub fn take(home: &Path) -> Result<Self, Problem> {
        let path = lock_file(home);
        let locking = format!("locking {}", path.display());
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).doing(&locking)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => {
                let whose = Self::holder(home).map(|pid| format!(" (process {pid})")).unwrap_or_default();
                return Err(Problem::new(format!("Shipway is up already on {}{whose}", home.display()))
                    .hint("shipway status says how it is")
                    .hint("for a second one beside it, name other places: --home, --listen, --router-listen"));
            }
            Err(e) => return Err(e).doing(&locking),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).doing(&locking)?;
        Ok(Self { _file: file })
    }

    /// Whether anybody holds it.
    pub fn is_held(home: &Path) -> bool {
        File::open(lock_file(home)).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// The process that holds it; none when nobody does, or one that took it a moment ago.
    pub fn holder(home: &Path) -> Option<u32> {
        let said = || std::fs::read_to_string(lock_file(home)).ok()?.trim().parse().ok();
        Self::is_held(home).then(said).flatten()
    }
}
