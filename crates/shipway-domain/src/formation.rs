//! Wanted and seen dynos of an app, and what brings one to the other.
//!
//! A *slot* is a process type and an index: `web.1`. Types that overlap (`web`, unless set otherwise) may have an old
//! and a new dyno in one slot while one replaces the other; of every other type there are never two of one slot.

use crate::ids::{DynoId, ReleaseId};
use crate::lifecycle::DynoState;
use crate::names::ProcessType;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many dynos of one process type are wanted, and how they replace each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// How many.
    pub quantity: u32,
    /// Whether a new dyno may run beside the old one of its slot.
    pub overlap: bool,
}

/// One dyno as the platform last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which dyno.
    pub dyno: DynoId,
    /// Its slot's type.
    pub process_type: ProcessType,
    /// Its slot's index, from 1.
    pub index: u32,
    /// The release it runs.
    pub release: ReleaseId,
    /// Its state.
    pub state: DynoState,
    /// Whether an operation that has not switched yet owns it; such dynos are left alone.
    pub owned: bool,
    /// How often its slot crashed in a row, and when last.
    pub crashes: u32,
    /// When its state last changed.
    pub since: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a dyno in an empty slot; `crashes` is carried over from the crashed one that it replaces.
    Start {
        /// The slot's type.
        process_type: ProcessType,
        /// The slot's index.
        index: u32,
        /// How often the slot crashed in a row.
        crashes: u32,
        /// The crashed dyno whose place it takes; it is removed first.
        replaces: Option<DynoId>,
    },
    /// Take the dyno out of the routes and stop it.
    Stop(DynoId),
    /// Nothing before this moment: a crashed dyno waits out its back-off.
    WakeAt(Timestamp),
}

/// How long a crashed dyno waits before the next start: at once, then 10 s doubling up to 20 minutes.
///
/// Source: Heroku Dev Center, "Dyno crash restart policy" (the first at once, then growing intervals).
pub fn backoff_seconds(crashes: u32) -> i64 {
    match crashes {
        0 | 1 => 0,
        n => (10_i64 << (n - 2).min(7)).min(20 * 60),
    }
}

/// What brings `seen` to `wanted` for the current release.
///
/// Dynos of other releases that no operation owns are stopped. Crashed dynos are replaced when their back-off is over.
pub fn reconcile(
    wanted: &BTreeMap<ProcessType, Wanted>,
    current: ReleaseId,
    seen: &[Seen],
    now: Timestamp,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut wake: Option<Timestamp> = None;
    let mut filled: BTreeSet<(&ProcessType, u32)> = BTreeSet::new();
    let mut crashed: BTreeMap<(&ProcessType, u32), &Seen> = BTreeMap::new();
    for s in seen.iter().filter(|s| !s.owned) {
        let slot = (&s.process_type, s.index);
        let rule = wanted.get(&s.process_type);
        let in_formation = rule.is_some_and(|w| s.index <= w.quantity) && s.release == current;
        match s.state {
            DynoState::Down => {}
            DynoState::Stopping => {
                if !rule.is_some_and(|w| w.overlap) {
                    filled.insert(slot);
                }
            }
            DynoState::Starting | DynoState::Up => {
                if in_formation && filled.insert(slot) {
                    continue;
                }
                actions.push(Action::Stop(s.dyno));
                if !rule.is_some_and(|w| w.overlap) {
                    filled.insert(slot);
                }
            }
            DynoState::Crashed => {
                if in_formation && !crashed.contains_key(&slot) {
                    crashed.insert(slot, s);
                } else {
                    actions.push(Action::Stop(s.dyno));
                }
            }
        }
    }
    for (process_type, rule) in wanted {
        for index in 1..=rule.quantity {
            let slot = (process_type, index);
            if filled.contains(&slot) {
                if let Some(s) = crashed.get(&slot) {
                    actions.push(Action::Stop(s.dyno));
                }
                continue;
            }
            let (crashes, replaces) = match crashed.get(&slot) {
                None => (0, None),
                Some(s) => {
                    let at = s.since + jiff::SignedDuration::from_secs(backoff_seconds(s.crashes));
                    if at > now {
                        wake = Some(wake.map_or(at, |w| w.min(at)));
                        continue;
                    }
                    (s.crashes, Some(s.dyno))
                }
            };
            actions.push(Action::Start { process_type: process_type.clone(), index, crashes, replaces });
        }
    }
    actions.extend(wake.map(Action::WakeAt));
    actions
}

/// The slots that a release or a restart fills before its switch: all of overlapping types.
pub fn slots_before_switch(wanted: &BTreeMap<ProcessType, Wanted>) -> Vec<(ProcessType, u32)> {
    wanted.iter().filter(|(_, w)| w.overlap).flat_map(|(t, w)| (1..=w.quantity).map(move |i| (t.clone(), i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use DynoState::*;

    const CURRENT: u128 = 7;

    fn id(n: u128) -> uuid::Uuid {
        uuid::Uuid::from_u128(n)
    }

    fn seen(n: u128, slot: &str, release: u128, state: DynoState) -> Seen {
        let (t, i) = slot.split_once('.').unwrap();
        Seen {
            dyno: DynoId(id(n)),
            process_type: ProcessType::parse(t).unwrap(),
            index: i.parse().unwrap(),
            release: ReleaseId(id(release)),
            state,
            owned: false,
            crashes: 0,
            since: Timestamp::UNIX_EPOCH,
        }
    }

    /// `wanted` as `web=2 worker=1`; the answer as `start web.1, stop 3, wake +10`.
    fn check(wanted: &str, seen: &[Seen], now: i64, expected: &str) {
        let wanted = wanted
            .split_whitespace()
            .map(|w| w.split_once('=').unwrap())
            .map(|(t, n)| {
                (ProcessType::parse(t).unwrap(), Wanted { quantity: n.parse().unwrap(), overlap: t == "web" })
            })
            .collect();
        let got: Vec<String> = reconcile(&wanted, ReleaseId(id(CURRENT)), seen, Timestamp::from_second(now).unwrap())
            .into_iter()
            .map(|a| match a {
                Action::Start { process_type, index, replaces: None, .. } => format!("start {process_type}.{index}"),
                Action::Start { process_type, index, crashes, replaces: Some(d) } => {
                    format!("start {process_type}.{index} for {} after {crashes}", d.0.as_u128())
                }
                Action::Stop(d) => format!("stop {}", d.0.as_u128()),
                Action::WakeAt(t) => format!("wake +{}", t.as_second()),
            })
            .collect();
        assert_eq!(got.join(", "), expected);
    }

    #[test]
    fn starts_what_is_missing_and_stops_what_is_too_many() {
        check("web=2", &[], 0, "start web.1, start web.2");
        check("web=1", &[seen(1, "web.1", 7, Up), seen(2, "web.2", 7, Up)], 0, "stop 2");
        check("web=1", &[seen(1, "web.1", 7, Up)], 0, "");
        check("web=0", &[seen(1, "web.1", 7, Starting)], 0, "stop 1");
        check("", &[seen(1, "worker.1", 7, Up)], 0, "stop 1");
    }

    #[test]
    fn overlap_decides_whether_a_slot_waits_for_the_old_dyno() {
        check(
            "web=1 worker=1",
            &[seen(1, "web.1", 6, Up), seen(2, "worker.1", 6, Up)],
            0,
            "stop 1, stop 2, start web.1",
        );
        check("worker=1", &[seen(2, "worker.1", 6, Stopping)], 0, "");
        check("web=1", &[seen(2, "web.1", 6, Stopping)], 0, "start web.1");
    }

    #[test]
    fn crashed_dynos_wait_out_their_back_off() {
        let crashed = |crashes| Seen { crashes, ..seen(1, "web.1", 7, Crashed) };
        check("web=1", &[crashed(1)], 0, "start web.1 for 1 after 1");
        check("web=1", &[crashed(2)], 9, "wake +10");
        check("web=1", &[crashed(2)], 10, "start web.1 for 1 after 2");
        check("web=1", &[crashed(30)], 10, "wake +1200");
        check("web=0", &[crashed(2)], 0, "stop 1");
    }

    #[test]
    fn dynos_of_an_operation_that_has_not_switched_are_left_alone() {
        let owned = Seen { owned: true, ..seen(2, "web.1", 8, Up) };
        check("web=1", &[seen(1, "web.1", 7, Up), owned], 0, "");
    }

    #[test]
    fn never_two_dynos_of_one_slot_of_a_type_that_does_not_overlap() {
        // Every pair of states and releases in worker.1: a start is only planned when nothing is left there.
        for a in [Starting, Up, Stopping] {
            for release in [6, CURRENT] {
                let wanted =
                    BTreeMap::from([(ProcessType::parse("worker").unwrap(), Wanted { quantity: 1, overlap: false })]);
                let actions = reconcile(
                    &wanted,
                    ReleaseId(id(CURRENT)),
                    &[seen(1, "worker.1", release, a)],
                    Timestamp::UNIX_EPOCH,
                );
                assert!(!actions.iter().any(|x| matches!(x, Action::Start { .. })), "{a:?} of release {release}");
            }
        }
    }
}
