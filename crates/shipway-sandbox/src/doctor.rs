//! What this machine can and cannot do for dynos, in sentences.

use crate::cgroup::Controllers;
use crate::disk::run;
use crate::loopback;
use crate::sandbox::mount;
use rustix::mount::FsOpenFlags;
use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Shipway runs, with something missing.
    Warn,
    /// The `root` tier does not run.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word or two.
    pub about: &'static str,
    /// How it is.
    pub level: Level,
    /// A sentence about it.
    pub says: String,
    /// What to do, where something is to be done: a sentence or a command.
    pub way_out: Option<String>,
}

/// What each tier protects from, row by row: the protection, the `root` tier, the `bwrap` tier.
///
/// `tests/runtime/isolation.rs` names the cases that try each cell, and fails for a cell without one.
pub const ISOLATION: &[(&str, &str, &str)] = &[
    ("Other apps' files, the platform's data and sockets", "hidden", "hidden"),
    ("Other apps' processes", "hidden", "hidden"),
    ("Users", "a block of 65,536 uids per app", "one user for all apps"),
    ("Capabilities, new privileges", "none", "none"),
    ("System calls", "an administrator's and new namespaces refused", "all"),
    ("Other dynos' ports", "out of reach", "within reach"),
    ("The host's loopback, gateway, link-local addresses", "out of reach", "within reach"),
    ("Memory", "limited by the kernel", "watched five times a second"),
    ("Processes", "limited by the kernel", "limited by the kernel (RLIMIT_NPROC)"),
    ("Disk", "a file system of its own", "the host's"),
    ("Processor", "shares by weight; builds have what nobody else wants", "shared"),
    ("A log flood", "slows the dyno that writes", "slows the dyno that writes"),
];

/// Looks at this machine. Needs root to try everything; what it tries leaves nothing behind.
pub fn doctor() -> Vec<Finding> {
    let mut findings = vec![kernel(), controllers()];
    if nix::unistd::geteuid().is_root() {
        findings.extend([idmapped_mounts(), overlay(), disks(), nftables()]);
        findings.extend(firewalls());
    } else {
        findings.push(finding(
            "root",
            Level::Warn,
            "not run as root: dynos run on the bwrap tier, with the host's network.",
            Some("start Shipway as root, or with sudo, to separate apps from each other's ports"),
        ));
    }
    findings.push(bwrap());
    findings
}

fn finding(about: &'static str, level: Level, says: impl Into<String>, way_out: Option<&str>) -> Finding {
    Finding { about, level, says: says.into(), way_out: way_out.map(str::to_owned) }
}

fn kernel() -> Finding {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    if is_at_least(&release, (5, 19)) {
        return finding("kernel", Level::Ok, format!("Linux {release}; 5.19 is needed."), None);
    }
    let says = format!("Linux {release} is too old: overlays of idmapped layers need 5.19.");
    finding("kernel", Level::Fail, says, Some("install a newer kernel (Debian 12, Ubuntu 24.04 have one)"))
}

fn is_at_least(release: &str, wanted: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= wanted
}

fn controllers() -> Finding {
    let can = Controllers::find().can();
    let missing: Vec<&str> = [("memory", can.memory), ("pids", can.pids), ("cpu", can.cpu)]
        .into_iter()
        .filter_map(|(name, there)| (!there).then_some(name))
        .collect();
    if missing.is_empty() {
        return finding("control groups", Level::Ok, "memory, pids and cpu can be limited.", None);
    }
    let says = format!("{} cannot be limited: no such controller.", missing.join(", "));
    finding("control groups", Level::Warn, says, Some("boot with cgroup_enable=memory, or mount /sys/fs/cgroup"))
}

fn idmapped_mounts() -> Finding {
    match mount::can_map_owners(Path::new("/usr")) {
        Ok(()) => finding("idmapped mounts", Level::Ok, "layers can be shared between apps' users.", None),
        Err(e) => finding(
            "idmapped mounts",
            Level::Fail,
            format!("the file system of /usr cannot be mapped to apps' users: {e}."),
            Some("keep SHIPWAY_HOME on ext4, XFS or Btrfs, with a kernel from 5.19 on"),
        ),
    }
}

/// The list of `/proc/filesystems` lacks what is in a module that nobody has needed yet: whoever asks for it loads it.
fn overlay() -> Finding {
    match rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => finding("overlay", Level::Ok, "dynos get a writable /app over shared layers.", None),
        Err(e) => {
            let says = format!("the kernel has no overlay file systems: {e}.");
            finding("overlay", Level::Fail, says, Some("modprobe overlay"))
        }
    }
}

fn disks() -> Finding {
    let mke2fs = exists("mke2fs");
    match (loopback::available(), mke2fs) {
        (true, true) => finding("disks", Level::Ok, "each dyno gets a disk of its size.", None),
        (false, _) => finding("disks", Level::Fail, "there are no loop devices.", Some("modprobe loop")),
        (_, false) => finding("disks", Level::Fail, "mke2fs is not installed.", Some("apt-get install e2fsprogs")),
    }
}

fn nftables() -> Finding {
    let mut list = Command::new("nft");
    list.args(["list", "tables"]);
    match run(list) {
        Ok(_) => finding("nftables", Level::Ok, "dynos' networks can be kept apart.", None),
        Err(e) => {
            let says = format!("dynos' networks cannot be kept apart: {e}.");
            finding("nftables", Level::Fail, says, Some("apt-get install nftables"))
        }
    }
}

/// What a firewall's base chain on a hook takes from dynos, and the words that let them through it again.
struct Hook {
    /// As `nft` names it.
    name: &'static str,
    about: &'static str,
    fine: &'static str,
    harm: &'static str,
    /// Rules to insert, of which the first tells whether it was done before.
    rules: &'static [&'static str],
}

/// Safe to accept: our own chains on the same hooks come first, and have dropped what dynos may not reach.
const FORWARD: Hook = Hook {
    name: "forward",
    about: "forwarding",
    fine: "nobody's firewall is in the way of dynos' connections out.",
    harm: "drops what is forwarded: dynos cannot reach the outside, and builds fetch nothing.",
    rules: &["iifname \"sw*\" accept", "oifname \"sw*\" ct state established,related accept"],
};
const INPUT: Hook = Hook {
    name: "input",
    about: "input",
    fine: "nobody's firewall is in the way of dynos' connections to their databases.",
    harm: "drops what comes in: dynos cannot reach their databases, nor, unless it accepts answers, the router dynos.",
    rules: &["iifname \"sw*\" accept"],
};

/// Looks for somebody else's rules that drop what goes from and to dynos: ours cannot overrule them.
fn firewalls() -> [Finding; 2] {
    let mut list = Command::new("nft");
    list.args(["list", "ruleset"]);
    let rules = run(list).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    [FORWARD, INPUT].map(|hook| firewall(&rules, &hook))
}

fn firewall(rules: &str, hook: &Hook) -> Finding {
    let drops = foreign_drops(rules, hook);
    let Some(first) = drops.first() else { return finding(hook.about, Level::Ok, hook.fine, None) };
    let says = format!("the firewall table \"{} {}\" {}", first.family, first.table, hook.harm);
    let commands = drops.iter().flat_map(|Chain { family, table, name, .. }| {
        hook.rules.iter().map(move |rule| format!("nft insert rule {family} {table} {name} '{rule}'"))
    });
    finding(hook.about, Level::Warn, says, Some(&commands.collect::<Vec<_>>().join("; ")))
}

/// A chain in the text of `nft list ruleset`, which has those of `iptables` (Docker, ufw) in it too.
#[derive(Debug, Default, PartialEq, Eq)]
struct Chain<'a> {
    family: &'a str,
    table: &'a str,
    name: &'a str,
    /// It lies on the hook.
    hooked: bool,
    /// Whoever comes to its end is dropped or refused.
    drops: bool,
    /// Dynos were let through.
    open: bool,
}

impl Chain<'_> {
    /// Of a platform of ours, of whatever data directory.
    fn is_ours(&self) -> bool {
        let tag = self.table.strip_prefix("shipway_");
        tag.is_some_and(|tag| tag.len() == 4 && tag.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// The base chains on the hook that drop or refuse what nothing in them accepted, dynos' packets among it.
fn foreign_drops<'a>(rules: &'a str, hook: &Hook) -> Vec<Chain<'a>> {
    let (mut found, mut table, mut chain) = (Vec::new(), ("", ""), None::<Chain<'a>>);
    for line in rules.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (&words[..], &mut chain) {
            (["table", family, name, "{"], _) => table = (family, name),
            (["chain", name, "{"], _) => {
                chain = Some(Chain { family: table.0, table: table.1, name, ..Chain::default() })
            }
            (["}"], Some(_)) => found.extend(chain.take().filter(|c| c.hooked && c.drops && !c.open && !c.is_ours())),
            (["type", "filter", "hook", name, ..], Some(chain)) => {
                chain.hooked = *name == hook.name;
                chain.drops = line.contains("policy drop");
            }
            (_, Some(chain)) => {
                // A counter stands between a rule's conditions and its verdict.
                let verdict = match words[..] {
                    ["counter", "packets", _, "bytes", _, ref verdict @ ..] => verdict,
                    ref verdict => verdict,
                };
                chain.drops |= matches!(verdict, ["drop"] | ["reject", ..]);
                chain.open |= line == hook.rules[0];
            }
            _ => {}
        }
    }
    found
}

/// Ubuntu's switch, from 23.10 on: programs without an AppArmor profile that allows it get no user namespaces.
const APPARMOR_SWITCH: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

fn bwrap() -> Finding {
    if !exists("bwrap") {
        let says = "bwrap is not installed: without root there are no dynos.";
        return finding("bwrap", Level::Warn, says, Some("apt-get install bubblewrap"));
    }
    let mut empty = Command::new("bwrap");
    empty.args(["--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]);
    let refused = run(empty).err().map(|e| e.to_string());
    let restricted = std::fs::read_to_string(APPARMOR_SWITCH).is_ok_and(|text| text.trim() == "1");
    sandboxes_without_root(refused.as_deref(), restricted)
}

/// Whether an empty sandbox was refused, and whether AppArmor keeps user namespaces back.
fn sandboxes_without_root(refused: Option<&str>, restricted: bool) -> Finding {
    match refused {
        // Root may make namespaces where others may not.
        None if nix::unistd::geteuid().is_root() && restricted => {
            let says =
                "works for root; other users get no user namespaces from AppArmor, and have no dynos without root.";
            finding("bwrap", Level::Ok, says, None)
        }
        None => finding("bwrap", Level::Ok, "Shipway can be tried without root.", None),
        Some(_) if restricted => finding(
            "bwrap",
            Level::Warn,
            "AppArmor gives this user no user namespaces (as on Ubuntu from 23.10 on): without root there are no dynos.",
            Some("start Shipway as root, or with sudo; or allow bwrap user namespaces, as docs/operating.md says"),
        ),
        Some(why) => {
            let says = format!("makes no sandbox, so that without root there are no dynos: {why}.");
            finding("bwrap", Level::Warn, says, Some("start Shipway as root, or with sudo"))
        }
    }
}

fn exists(program: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|directory| Path::new(directory).join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(is_at_least("6.1.0-13-amd64", (5, 19)) && is_at_least("5.19", (5, 19)));
        assert!(!is_at_least("5.4.0", (5, 19)) && !is_at_least("garbage", (5, 19)));
    }

    #[test]
    fn a_sandbox_that_is_refused_is_said_with_the_way_out() {
        let check = |refused, restricted, level, words: &str| {
            let finding = sandboxes_without_root(refused, restricted);
            assert!(finding.level == level && finding.says.contains(words), "{finding:?}");
        };
        check(None, false, Level::Ok, "tried without root");
        check(Some("setting up uid map: Permission denied"), true, Level::Warn, "AppArmor");
        check(Some("no namespaces"), false, Level::Warn, "no namespaces");
    }

    /// As Docker's `iptables` leaves the machine, ufw after `ufw enable`, firewalld-like tables, and ours.
    const DOCKER: &str = r#"
table ip filter {
	chain DOCKER {
		iifname != "docker0" oifname "docker0" counter packets 0 bytes 0 drop
	}

	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 12 bytes 720 jump DOCKER-USER
		oifname "docker0" ct state related,established counter packets 0 bytes 0 accept
	}

	chain INPUT {
		type filter hook input priority filter; policy accept;
	}
}
"#;
    const UFW: &str = r#"
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
		counter packets 9 bytes 812 jump ufw-before-input
	}

	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump ufw-before-forward
	}

	chain OUTPUT {
		type filter hook output priority filter; policy accept;
	}
}
"#;
    const REFUSING: &str = r#"
table inet fence {
	chain input {
		type filter hook input priority filter + 10; policy accept;
		ct state established,related accept
		tcp dport 22 accept
		tcp dport 23 drop
		counter packets 3 bytes 180 reject with icmpx admin-prohibited
	}
}
"#;
    const OURS: &str = r#"
table inet shipway_c77d {
	set services {
		type inet_service
		elements = { 5432 }
	}

	chain to_host {
		type filter hook input priority filter - 5; policy accept;
		iifname != "swc77d*" accept
		drop
	}

	chain through {
		type filter hook forward priority filter - 5; policy accept;
		oifname "swc77d*" drop
	}
}
"#;

    #[test]
    fn somebody_elses_firewall_is_named_with_the_rule_that_lets_dynos_through() {
        let check = |rules: &str, hook: &Hook, expected: Option<&str>| {
            let found = firewall(rules, hook);
            assert_eq!(found.way_out.as_deref(), expected, "{rules}");
            assert_eq!(found.level, if expected.is_some() { Level::Warn } else { Level::Ok }, "{rules}");
        };
        let forward = "nft insert rule ip filter FORWARD 'iifname \"sw*\" accept'; \
                       nft insert rule ip filter FORWARD 'oifname \"sw*\" ct state established,related accept'";
        check("", &FORWARD, None);
        check(DOCKER, &FORWARD, Some(forward));
        check(DOCKER, &INPUT, None);
        check(UFW, &FORWARD, Some(forward));
        check(UFW, &INPUT, Some("nft insert rule ip filter INPUT 'iifname \"sw*\" accept'"));
        check(REFUSING, &FORWARD, None);
        check(REFUSING, &INPUT, Some("nft insert rule inet fence input 'iifname \"sw*\" accept'"));
        check(OURS, &FORWARD, None);
        check(OURS, &INPUT, None);
        assert!(firewall(UFW, &INPUT).says.starts_with("the firewall table \"ip filter\" drops what comes in"));
    }

    #[test]
    fn a_firewall_that_lets_dynos_through_is_not_named_again() {
        let open = |rules: &str, policy: &str| rules.replace(policy, &format!("{policy}\n\t\tiifname \"sw*\" accept"));
        let rules = open(UFW, "hook input priority filter; policy drop;");
        assert_eq!(firewall(&rules, &INPUT).level, Level::Ok);
        assert_eq!(firewall(&rules, &FORWARD).level, Level::Warn, "the other hook is another matter");
    }
}
