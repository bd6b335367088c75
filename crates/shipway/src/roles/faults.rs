//! In development builds only: the server dies where a test says so.
//!
//! `run/die-at` in the data directory names a step and a moment of it, such as `switch Worked`. There the server removes
//! the file and sends itself SIGKILL. A release build never looks for the file.

use rustix::process::{Signal, getpid, kill_process};
use shipway_engine::Faults;
use std::path::Path;
use std::sync::Arc;

/// What watches for the file; none in a release build.
pub fn faults(home: &Path) -> Option<Faults> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let file = home.join("run/die-at");
    Some(Arc::new(move |step, moment| {
        let named = std::fs::read_to_string(&file).ok()?;
        if named.trim() == format!("{step} {moment:?}") && std::fs::remove_file(&file).is_ok() {
            tracing::warn!(step, ?moment, "a test ends this server here");
            // Nothing to do for an error: SIGKILL to oneself cannot fail.
            let _ = kill_process(getpid(), Signal::KILL);
        }
        None
    }))
}
