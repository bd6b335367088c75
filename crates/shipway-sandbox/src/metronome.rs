//! Makes the kernel look again, on every processor, what should run there.
//!
//! Builds give way, but since Linux 6.6 (EEVDF) not always: a process that has just had more than its share must not be
//! chosen while one waits that had less, and next to a busy app that is the build. Once chosen it runs until somebody
//! else wakes on this processor or the clock ticks, up to 4 ms. A thread that wakes there every millisecond and does
//! nothing ends that.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks. Each processor of a virtual machine loses 2 % of its time to them.
const BEAT: Duration = Duration::from_millis(1);

/// Beats until it is dropped.
pub(crate) struct Metronome {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Metronome {
    /// A thread for each processor that this process may use. Where there can be none, builds are as polite as the kernel
    /// makes them.
    pub fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let processors = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let beat = |processor| {
            let ended = ended.clone();
            std::thread::Builder::new().name("metronome".into()).spawn(move || {
                let mut only = CpuSet::new();
                only.set(processor);
                if sched_setaffinity(None, &only).is_ok() {
                    while !ended.load(Ordering::Relaxed) {
                        std::thread::sleep(BEAT);
                    }
                }
            })
        };
        let threads = (0..CpuSet::MAX_CPU).filter(|each| processors.is_set(*each)).filter_map(|each| beat(each).ok());
        let threads = threads.collect();
        Self { ended, threads }
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beats_on_every_processor_until_it_is_dropped() {
        let processors = || sched_getaffinity(None).unwrap().count() as usize;
        let metronome = Metronome::start();
        assert_eq!(metronome.threads.len(), processors());
        assert!(metronome.threads.iter().all(|thread| !thread.is_finished()));
        let ended = metronome.ended.clone();
        drop(metronome);
        assert_eq!(Arc::strong_count(&ended), 1, "threads that still run");
        assert!(processors() > 0, "its threads bind themselves alone");
    }
}
