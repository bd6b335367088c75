//! Control groups, version 1 and 2 found per controller: a machine may have memory in one and nothing in the other.

use crate::config::Network;
use crate::wire::{Can, Doing, Failure};
use shipway_domain::size::DynoSize;
use shipway_runtime::Usage;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the controllers that we use are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    memory: Option<Hierarchy>,
    pids: Option<Hierarchy>,
    cpu: Option<Hierarchy>,
    cpuacct: Option<Hierarchy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    version: u8,
}

impl Controllers {
    /// Looks at this machine.
    pub(crate) fn find() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::parse(&mounts, |root| std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default())
    }

    fn parse(mountinfo: &str, controllers_of: impl Fn(&Path) -> String) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
            let Some(root) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut words = filesystem.split(' ');
            let (names, version) = match words.next() {
                Some("cgroup") => (words.nth(1).unwrap_or_default().replace(',', " "), 1),
                Some("cgroup2") => (controllers_of(&root), 2),
                _ => continue,
            };
            for name in names.split_whitespace() {
                let slot = match name {
                    "memory" => &mut found.memory,
                    "pids" => &mut found.pids,
                    "cpu" => &mut found.cpu,
                    "cpuacct" => &mut found.cpuacct,
                    _ => continue,
                };
                slot.get_or_insert(Hierarchy { root: root.clone(), version });
            }
        }
        // Version 2 counts time in the same controller that shares it.
        if found.cpuacct.is_none() && found.cpu.as_ref().is_some_and(|cpu| cpu.version == 2) {
            found.cpuacct = found.cpu.clone();
        }
        found
    }

    pub(crate) fn can(&self) -> Can {
        Can { memory: self.memory.is_some(), pids: self.pids.is_some(), cpu: self.cpu.is_some() }
    }

    fn all(&self) -> Vec<&Hierarchy> {
        let mut all: Vec<&Hierarchy> = Vec::new();
        for hierarchy in [&self.memory, &self.pids, &self.cpu, &self.cpuacct].into_iter().flatten() {
            if !all.iter().any(|seen| seen.root == hierarchy.root) {
                all.push(hierarchy);
            }
        }
        all
    }

    /// Makes the groups that hold the dynos' and the builds' groups, with our controllers passed on to them. Builds give
    /// way to everybody.
    pub(crate) fn prepare(&self, network: Network) -> Result<(), Failure> {
        for hierarchy in self.all() {
            let parents = Kind::ALL.map(|kind| hierarchy.root.join(kind.parent(network)));
            for parent in &parents {
                make(parent)?;
            }
            make(&hierarchy.root.join(shims(network)))?;
            if hierarchy.version == 2 {
                for name in ["memory", "pids", "cpu"] {
                    // A controller that is mounted as version 1 cannot be passed on here, and need not be.
                    for directory in std::iter::once(&hierarchy.root).chain(&parents) {
                        let _ = std::fs::write(directory.join("cgroup.subtree_control"), format!("+{name}"));
                    }
                }
            }
        }
        self.set_builds(network, Part::GivesWay)
    }

    /// Says which part builds take beside everything else on the machine.
    pub(crate) fn set_builds(&self, network: Network, part: Part) -> Result<(), Failure> {
        let Some(cpu) = &self.cpu else { return Ok(()) };
        let parent = cpu.root.join(Kind::Build.parent(network));
        let idle = std::fs::write(parent.join("cpu.idle"), if part == Part::GivesWay { "1" } else { "0" });
        let weight = match part {
            // The kernel has its own weight for those who give way, and takes no other.
            Part::GivesWay if idle.is_ok() => return Ok(()),
            // Kernels before 5.15 have weights alone.
            Part::GivesWay => 25,
            Part::Share => 100,
        };
        let (name, weight) = cpu.weight(weight);
        let file = parent.join(name);
        std::fs::write(&file, weight.to_string()).doing(|| format!("writing {weight} to {}", file.display()))
    }

    /// The processor time that builds took so far; none where nobody counts it.
    pub(crate) fn builds_time(&self, network: Network) -> Option<Duration> {
        let cpuacct = self.cpuacct.as_ref()?;
        cpuacct.time(&cpuacct.root.join(Kind::Build.parent(network)))
    }

    /// Makes a dyno's group, without limits yet.
    pub(crate) fn make(&self, network: Network, name: &str) -> Result<Group, Failure> {
        let group = Group { controllers: self.clone(), network, name: name.to_owned() };
        for hierarchy in self.all() {
            make(&hierarchy.root.join(group.path()))?;
        }
        Ok(group)
    }

    /// Removes the groups that nobody is in, which a spawner that was killed left.
    pub(crate) fn sweep(&self, network: Network) {
        for hierarchy in self.all() {
            for parent in Kind::ALL.map(|kind| hierarchy.root.join(kind.parent(network))) {
                let groups = std::fs::read_dir(parent).into_iter().flatten().flatten();
                for group in groups.filter(|group| group.file_name() != SHIMS && group.path().is_dir()) {
                    // One with processes in it refuses.
                    let _ = std::fs::remove_dir(group.path());
                }
            }
        }
    }

    /// Removes every group that [`Controllers::prepare`] and [`Controllers::make`] made. Their processes were killed.
    pub(crate) fn purge(&self, network: Network) -> io::Result<()> {
        for hierarchy in self.all() {
            for parent in Kind::ALL.map(|kind| hierarchy.root.join(kind.parent(network))) {
                for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                    if entry.path().is_dir() {
                        remove(&entry.path())?;
                    }
                }
                remove(&parent)?;
            }
        }
        Ok(())
    }
}

/// How long killed processes may take to leave a group.
const LEAVING: Duration = Duration::from_secs(15);

/// Removes a group once nobody is in it any more. Not being there is no error.
fn remove(directory: &Path) -> io::Result<()> {
    let patience = Instant::now() + LEAVING;
    loop {
        match std::fs::remove_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn make(directory: &Path) -> Result<(), Failure> {
    match std::fs::create_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("making the control group {}", directory.display()), e))
        }
        _ => Ok(()),
    }
}

/// The group in which the shims themselves run, beside the dynos'.
const SHIMS: &str = "shims";

fn shims(network: Network) -> PathBuf {
    Path::new(&network.cgroup()).join(SHIMS)
}

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What visitors wait for: a formation's dynos, release phases, one-off dynos.
    Dyno,
    /// Builds, and the tools of add-ons.
    Build,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Dyno, Self::Build];

    /// What its groups' names begin with; a group is found again by its name alone.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Dyno => "dyno-",
            Self::Build => "build-",
        }
    }

    /// What the group of this name is for.
    pub(crate) fn of(name: &str) -> Self {
        if name.starts_with(Self::Build.prefix()) { Self::Build } else { Self::Dyno }
    }

    /// The group that holds its groups. Builds' lies beside the dynos', at the top: the kernel compares two processes by
    /// the groups of theirs that lie side by side, and what builds wait for is the router and the server too.
    fn parent(self, network: Network) -> String {
        match self {
            Self::Dyno => network.cgroup(),
            Self::Build => format!("{}-builds", network.cgroup()),
        }
    }
}

/// Which part of the processor builds take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What nobody else wants. More than a small weight: whoever wakes has the processor at once, and a build's process
    /// does not run on to the end of its slice, milliseconds later.
    GivesWay,
    /// All together as much as all dynos together, or as anything else at the top of the hierarchy.
    Share,
}

impl Hierarchy {
    /// The file that a weight of 1 to 10,000 is written to, 100 being usual, and the number that says it there.
    fn weight(&self, weight: u64) -> (&'static str, u64) {
        match self.version {
            // 1,024 shares are what a weight of 100 is.
            1 => ("cpu.shares", (weight * 1024 / 100).max(2)),
            _ => ("cpu.weight", weight),
        }
    }

    /// The processor time of a group and those in it.
    fn time(&self, group: &Path) -> Option<Duration> {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
        match self.version {
            1 => read("cpuacct.usage")?.trim().parse().ok().map(Duration::from_nanos),
            _ => field(&read("cpu.stat")?, "usage_usec").map(Duration::from_micros),
        }
    }
}

/// One dyno's group, in every hierarchy that we use.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    controllers: Controllers,
    network: Network,
    name: String,
}

impl Group {
    /// A group that was made before.
    pub(crate) fn of(network: Network, name: &str) -> Self {
        Self { controllers: Controllers::find(), network, name: name.to_owned() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> PathBuf {
        Path::new(&Kind::of(&self.name).parent(self.network)).join(&self.name)
    }

    /// Sets what a dyno of this size may use.
    pub(crate) fn limit(&self, size: &DynoSize) -> Result<(), Failure> {
        let limit = size.memory_limit_bytes();
        if let Some(memory) = &self.controllers.memory {
            if memory.version == 1 {
                self.set(memory, "memory.limit_in_bytes", limit)?;
                // Where swap is not accounted for there is no such file.
                let _ = self.set(memory, "memory.memsw.limit_in_bytes", limit);
            } else {
                self.set(memory, "memory.max", limit)?;
                let _ = self.set(memory, "memory.swap.max", 0);
            }
        }
        if let Some(pids) = &self.controllers.pids {
            // Our own first process is one of them.
            self.set(pids, "pids.max", u64::from(size.pids) + 1)?;
        }
        if let Some(cpu) = &self.controllers.cpu {
            let (name, weight) = cpu.weight(size.cpu_weight.clamp(1, 10_000).into());
            self.set(cpu, name, weight)?;
        }
        Ok(())
    }

    fn file(&self, hierarchy: &Hierarchy, name: &str) -> PathBuf {
        hierarchy.root.join(self.path()).join(name)
    }

    fn set(&self, hierarchy: &Hierarchy, name: &str, value: u64) -> Result<(), Failure> {
        let file = self.file(hierarchy, name);
        std::fs::write(&file, value.to_string()).doing(|| format!("writing {value} to {}", file.display()))
    }

    fn get(&self, hierarchy: Option<&Hierarchy>, name_1: &str, name_2: &str) -> Option<String> {
        let hierarchy = hierarchy?;
        let name = if hierarchy.version == 1 { name_1 } else { name_2 };
        std::fs::read_to_string(self.file(hierarchy, name)).ok()
    }

    /// Moves the calling process into the group. What it starts from then on is in it too.
    ///
    /// Takes 10 to 20 ms on hierarchies of version 1, for which the kernel waits until every processor has seen the
    /// move: a shim enters ahead of time, and its fork costs nothing of that.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        self.move_to(&self.path())
    }

    /// Moves the calling process out, to where the shims are.
    pub(crate) fn leave(&self) -> Result<(), Failure> {
        self.move_to(&shims(self.network))
    }

    fn move_to(&self, group: &Path) -> Result<(), Failure> {
        for hierarchy in self.controllers.all() {
            let file = hierarchy.root.join(group).join("cgroup.procs");
            std::fs::write(&file, "0").doing(|| format!("moving into {}", file.display()))?;
        }
        Ok(())
    }

    /// How often the kernel killed a process of this group for its memory.
    pub(crate) fn memory_kills(&self) -> u64 {
        let text = self.get(self.controllers.memory.as_ref(), "memory.oom_control", "memory.events");
        text.and_then(|text| field(&text, "oom_kill")).unwrap_or(0)
    }

    /// How often the kernel refused a process of this group another one for there were as many as there may be.
    pub(crate) fn refused_processes(&self) -> u64 {
        let text = self.get(self.controllers.pids.as_ref(), "pids.events", "pids.events");
        text.and_then(|text| field(&text, "max")).unwrap_or(0)
    }

    /// What the group uses now. Memory is what cannot be given back: without the page cache of files.
    pub(crate) fn usage(&self) -> Usage {
        let number = |text: Option<String>| text.and_then(|t| t.trim().parse::<u64>().ok()).unwrap_or(0);
        let memory = self.controllers.memory.as_ref();
        let used = number(self.get(memory, "memory.usage_in_bytes", "memory.current"));
        let stat = self.get(memory, "memory.stat", "memory.stat").unwrap_or_default();
        let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| field(&stat, name)).unwrap_or(0);
        let cpuacct = self.controllers.cpuacct.as_ref();
        let time = cpuacct.and_then(|hierarchy| hierarchy.time(&hierarchy.root.join(self.path())));
        let cpu_us = time.map_or(0, |time| time.as_micros() as u64);
        let pids = number(self.get(self.controllers.pids.as_ref(), "pids.current", "pids.current"));
        // Our own first process is not the dyno's.
        Usage { memory_bytes: used.saturating_sub(cache), cpu_us, pids: (pids as u32).saturating_sub(1) }
    }

    /// Removes the group, which must be empty of processes, from every hierarchy. Not being there is no error.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for hierarchy in self.controllers.all() {
            match std::fs::remove_dir(hierarchy.root.join(self.path())) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The number behind `name` in a text of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, controllers: &str, expected: [Option<(&str, u8)>; 4]) {
        let found = Controllers::parse(mountinfo, |_| controllers.to_owned());
        let expected = expected.map(|e| e.map(|(root, version)| Hierarchy { root: root.into(), version }));
        assert_eq!([found.memory, found.pids, found.cpu, found.cpuacct], expected);
    }

    #[test]
    fn controllers_are_found_one_by_one() {
        let v1 = "30 25 0:26 / /cg/memory rw - cgroup cgroup rw,memory\n31 25 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
        let unified = "32 25 0:28 / /cg/unified rw - cgroup2 cgroup2 rw\n";
        let (memory, cpu, v2) = (Some(("/cg/memory", 1)), Some(("/cg/cpu", 1)), Some(("/cg/unified", 2)));
        check("", "", [None; 4]);
        check(v1, "", [memory, None, cpu, cpu]);
        check(&format!("{v1}{unified}"), "pids io", [memory, v2, cpu, cpu]);
        check(unified, "cpuset cpu io memory pids", [v2; 4]);
    }

    /// Controllers of one version on directories of `root`, in which writing to a file makes it.
    fn made_of_files(root: &Path, version: u8) -> Controllers {
        let hierarchy = |name: &str| {
            let root = if version == 1 { root.join(name) } else { root.to_owned() };
            std::fs::create_dir_all(&root).unwrap();
            Some(Hierarchy { root, version })
        };
        let [memory, pids, cpu, cpuacct] = ["memory", "pids", "cpu", "cpuacct"].map(hierarchy);
        Controllers { memory, pids, cpu, cpuacct }
    }

    #[test]
    fn builds_give_way_at_the_top_of_the_hierarchy() {
        let network = Network::of(Path::new("/var/lib/shipway"));
        for (version, place, weight) in [(1, "cpu/", ("cpu.shares", "1024")), (2, "", ("cpu.weight", "100"))] {
            let root = tempfile::tempdir().unwrap();
            let controllers = made_of_files(root.path(), version);
            controllers.prepare(network).unwrap();
            let file = |name: &str| {
                let path = root.path().join(format!("{place}{}-builds/{name}", network.cgroup()));
                std::fs::read_to_string(path).ok()
            };
            assert_eq!((file("cpu.idle").as_deref(), file(weight.0)), (Some("1"), None), "version {version}");
            assert_eq!(file("cgroup.subtree_control").is_some(), version == 2);
            controllers.set_builds(network, Part::Share).unwrap();
            assert_eq!((file("cpu.idle").as_deref(), file(weight.0).as_deref()), (Some("0"), Some(weight.1)));

            let build = controllers.make(network, "build-1-2").unwrap();
            assert!(root.path().join(format!("{place}{}-builds/build-1-2", network.cgroup())).is_dir());
            let dyno = controllers.make(network, "dyno-1-3").unwrap();
            assert!(root.path().join(format!("{place}{}/dyno-1-3", network.cgroup())).is_dir());
            build.remove().unwrap();
            controllers.sweep(network);
            assert_eq!(dyno.controllers.all().iter().filter(|h| h.root.join(dyno.path()).exists()).count(), 0);
        }
    }

    #[test]
    fn fields_are_whole_words() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "oom"), None);
    }
}
