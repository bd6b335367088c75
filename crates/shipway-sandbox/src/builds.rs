//! Builds' share of the processor on the `root` tier.
//!
//! Builds give way to everybody else on the machine, so that no visitor waits for one. Apps that want every processor
//! would let them stand still, the build among them that would end it: builds that had next to nothing while they were
//! watched have their share for a while.

use crate::cgroup::{Controllers, Part};
use crate::config::Network;
use crate::metronome::Metronome;
use crate::wire::Failure;
use shipway_domain::DynoId;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long builds that give way are watched.
const WATCHED: Duration = Duration::from_millis(200);
/// How long they have their share.
const SHARE: Duration = Duration::from_millis(500);

/// Builds that had less than this part of all processors, in percent, stand still, if nobody could have had more.
const NEXT_TO_NOTHING: u128 = 10;

/// The builds that run.
#[derive(Debug, Default)]
pub(crate) struct Builds {
    running: Mutex<BTreeSet<DynoId>>,
    changed: Condvar,
}

impl Builds {
    pub(crate) fn begin(&self, build: DynoId) {
        self.lock().insert(build);
        self.changed.notify_all();
    }

    /// A build was removed, or something that is none.
    pub(crate) fn end(&self, build: DynoId) {
        if self.lock().remove(&build) {
            self.changed.notify_all();
        }
    }

    /// Keeps builds from standing still, for ever. Sleeps while there are none.
    pub(crate) fn keep_going(&self, controllers: &Controllers, network: Network) {
        let have = |part| {
            controllers.set_builds(network, part).unwrap_or_else(|failure: Failure| {
                tracing::warn!(%failure, "builds may stand still beside busy apps, or be noticed by their visitors");
            });
        };
        loop {
            self.wait_for_one();
            let mut beating = Some(Metronome::start());
            loop {
                let before = Reading::take(controllers, network);
                if !self.pass(WATCHED) {
                    break;
                }
                let passed = before.zip(Reading::take(controllers, network));
                beating = match passed {
                    Some((before, after)) if after.waits(before) => None,
                    _ => beating.or_else(|| Some(Metronome::start())),
                };
                if passed.is_some_and(|(before, after)| after.stands_still(before)) {
                    have(Part::Share);
                    self.pass(SHARE);
                    have(Part::GivesWay);
                }
            }
        }
    }

    fn wait_for_one(&self) {
        let running = self.changed.wait_while(self.lock(), |running| running.is_empty());
        drop(running.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for so long, or until no build runs. Says whether one does.
    fn pass(&self, time: Duration) -> bool {
        let passed = self.changed.wait_timeout_while(self.lock(), time, |running| !running.is_empty());
        !passed.unwrap_or_else(PoisonError::into_inner).0.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<DynoId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far the clocks of builds and processors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    builds: Duration,
    /// Of all processors together, as is the time that they had nothing to do.
    all: Duration,
    idle: Duration,
}

impl Reading {
    /// None where builds' time is counted by nobody.
    fn take(controllers: &Controllers, network: Network) -> Option<Self> {
        let builds = controllers.builds_time(network)?;
        let (all, idle) = processors(&std::fs::read_to_string("/proc/stat").ok()?)?;
        Some(Self { builds, all, idle })
    }

    /// Whether, since `before`, builds wanted no processor: they wait for a network, or are over and not removed yet.
    fn waits(self, before: Self) -> bool {
        self.builds == before.builds && !self.stands_still(before)
    }

    /// Whether, since `before`, builds had next to nothing for others had it.
    fn stands_still(self, before: Self) -> bool {
        let all = self.all.saturating_sub(before.all);
        let little = |now: Duration, then: Duration| {
            now.saturating_sub(then).as_nanos() * 100 < all.as_nanos() * NEXT_TO_NOTHING
        };
        little(self.builds, before.builds) && little(self.idle, before.idle)
    }
}

/// The time of all processors in `/proc/stat`, and how much of it they had nothing to do.
fn processors(stat: &str) -> Option<(Duration, Duration)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is in the first two already.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    // The kernel's unit for programs is always a hundredth of a second.
    let time = |ticks: &[u64]| Duration::from_millis(10 * ticks.iter().sum::<u64>());
    Some((time(&ticks), time(ticks.get(3..5)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_stand_still_when_others_leave_them_nothing_and_wait_when_they_want_nothing() {
        let stat = |idle: u64, iowait: u64, user: u64| {
            let text = format!("cpu  {user} 0 0 {idle} {iowait} 0 0 0 7 7\ncpu0 1 2 3 4 5 6 7 8 9 0\nctxt 12\n");
            processors(&text).unwrap()
        };
        // Two processors for a second; what is said are their hundredths.
        let check = |builds: u64, idle: u64, iowait: u64, stands_still: bool, waits: bool| {
            let reading = |builds, (all, idle)| Reading { builds: Duration::from_millis(10 * builds), all, idle };
            let before = reading(100, stat(1000, 500, 3000));
            let after = reading(100 + builds, stat(1000 + idle, 500 + iowait, 3000 + 200 - idle - iowait));
            let found = (after.stands_still(before), after.waits(before));
            assert_eq!(found, (stands_still, waits), "{builds} {idle} {iowait}");
        };
        check(0, 0, 0, true, false);
        check(19, 19, 0, true, false);
        check(20, 0, 0, false, false);
        check(0, 20, 0, false, true);
        check(0, 0, 20, false, true);
        check(0, 200, 0, false, true);
        check(1, 199, 0, false, false);
        assert_eq!(processors("intr 1 2\n"), None);
    }
}
