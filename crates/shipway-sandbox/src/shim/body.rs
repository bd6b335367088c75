//! The dyno's processes, as its shim reaches them on each tier.

use crate::cgroup::Group;
use crate::process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shipway_runtime::Usage;
use std::net::SocketAddr;
use std::time::Duration;

/// What the shim holds of a running dyno.
pub(super) enum Body {
    /// The dyno's init and its control group.
    Root { init: u32, group: Group },
    /// `bwrap`, whose child is process 1 inside.
    Bwrap { bwrap: u32, memory_limit_bytes: u64, pids: u32 },
}

impl Body {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Self::Root { init, .. } => *init,
            Self::Bwrap { bwrap, .. } => *bwrap,
        }
    }

    pub(super) fn group_name(&self) -> Option<String> {
        match self {
            Self::Root { group, .. } => Some(group.name().to_owned()),
            Self::Bwrap { .. } => None,
        }
    }

    /// SIGTERM to every process of the dyno.
    pub(super) fn terminate(&self) {
        match self {
            Self::Root { init, .. } => signal(*init, Signal::SIGTERM),
            Self::Bwrap { .. } => {
                self.own(process::descendants).into_iter().for_each(|pid| signal(pid, Signal::SIGTERM))
            }
        }
    }

    /// SIGKILL to every process: with their first one, the kernel ends all of a pid namespace.
    pub(super) fn kill(&self) {
        match self {
            Self::Root { init, .. } => signal(*init, Signal::SIGKILL),
            // `bwrap` ends by itself when the first process has, which does not end before the others: killed at once it
            // would be gone, and the dyno with it for all that we can see, while they still listen.
            Self::Bwrap { bwrap, .. } => {
                signal(process::descendants(*bwrap).first().copied().unwrap_or(*bwrap), Signal::SIGKILL);
            }
        }
    }

    /// How often the shim should look at the memory: where the kernel keeps the limit, only to name what it did.
    pub(super) fn look_every(&self) -> Duration {
        match self {
            Self::Root { .. } => Duration::from_secs(1),
            Self::Bwrap { .. } => Duration::from_millis(200),
        }
    }

    pub(super) fn broke_memory_limit(&self) -> bool {
        match self {
            Self::Root { group, .. } => group.memory_kills() > 0,
            Self::Bwrap { memory_limit_bytes, .. } => self.usage().memory_bytes > *memory_limit_bytes,
        }
    }

    /// Whether it wanted more processes than it may have. Without a control group nobody counts refusals: there a build
    /// can have more than it may, so that it can be seen ([`crate::bwrap`]).
    pub(super) fn broke_process_limit(&self) -> bool {
        match self {
            Self::Root { group, .. } => group.refused_processes() > 0,
            Self::Bwrap { pids, .. } => self.usage().pids > *pids,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        match self {
            Self::Root { group, .. } => group.usage(),
            Self::Bwrap { .. } => {
                let page = rustix::param::page_size() as u64;
                let all = self.own(process::descendants_at_a_glance);
                all.into_iter().filter_map(process::stat).fold(Usage::default(), |sum, stat| Usage {
                    memory_bytes: sum.memory_bytes + stat.pages * page,
                    cpu_us: sum.cpu_us + stat.ticks * 10_000,
                    pids: sum.pids + stat.threads,
                })
            }
        }
    }

    pub(super) fn listeners(&self) -> Vec<SocketAddr> {
        match self {
            Self::Root { init, .. } => process::listeners(*init, None),
            Self::Bwrap { bwrap, .. } => process::listeners(*bwrap, Some(&self.own(process::descendants))),
        }
    }

    /// Gives back what the kernel does not give back by itself.
    pub(super) fn bury(&self) {
        if let Self::Root { group, .. } = self {
            // The spawner tries again at the dyno's removal.
            let _ = group.remove();
        }
    }

    /// All processes but the sandbox's own two.
    fn own(&self, descendants: fn(u32) -> Vec<u32>) -> Vec<u32> {
        let mut all = descendants(self.pid());
        if !all.is_empty() {
            all.remove(0);
        }
        all
    }
}

fn signal(pid: u32, signal: Signal) {
    // Being gone already is what was wanted.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_kernel_limits_is_looked_at_five_times_a_second() {
        let body = Body::Bwrap { bwrap: 0, memory_limit_bytes: 0, pids: 0 };
        assert_eq!(body.look_every() * 5, Duration::from_secs(1));
    }
}
