//! What this machine can and cannot do for dynos, in sentences.

use crate::cgroup::Controllers;
use crate::disk::run;
use crate::loopback;
use crate::sandbox::mount;
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
/// The cells of the `root` tier are tried by `tests/runtime/attacks.rs` and the conformance suite.
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
    ("Processor", "shares by weight", "shared"),
    ("A log flood", "slows the dyno that writes", "slows the dyno that writes"),
];

/// Looks at this machine. Needs root to try everything; what it tries leaves nothing behind.
pub fn doctor() -> Vec<Finding> {
    let mut findings = vec![kernel(), controllers()];
    if nix::unistd::geteuid().is_root() {
        findings.extend([idmapped_mounts(), overlay(), disks(), nftables(), forwarding()]);
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

fn overlay() -> Finding {
    match std::fs::read_to_string("/proc/filesystems").unwrap_or_default().lines().any(|l| l.ends_with("\toverlay")) {
        true => finding("overlay", Level::Ok, "dynos get a writable /app over shared layers.", None),
        false => {
            let says = "the kernel does not know overlay file systems.";
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

/// Looks for somebody else's rule that drops what is forwarded: ours cannot overrule it.
fn forwarding() -> Finding {
    let mut list = Command::new("nft");
    list.args(["list", "ruleset"]);
    let rules = run(list).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
    let drops = foreign_drops(&rules, "hook forward");
    let Some((family, table, chain)) = drops.first() else {
        return finding("forwarding", Level::Ok, "nobody's firewall is in the way of dynos' connections out.", None);
    };
    let says = format!(
        "the firewall table \"{family} {table}\" drops what is forwarded: dynos cannot reach the outside, and builds fetch nothing."
    );
    let way_out = format!(
        "nft insert rule {family} {table} {chain} iifname \"sw*\" accept; nft insert rule {family} {table} {chain} oifname \"sw*\" ct state established,related accept"
    );
    Finding { about: "forwarding", level: Level::Warn, says, way_out: Some(way_out) }
}

/// Family, table and chain of base chains on `hook` with policy drop, in the text of `nft list ruleset`.
fn foreign_drops(rules: &str, hook: &str) -> Vec<(String, String, String)> {
    let (mut table, mut chain, mut found) = (None, "", Vec::new());
    for line in rules.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, "{"] => table = Some((family, name)),
            ["chain", name, "{"] => chain = name,
            _ if line.contains(hook) && line.contains("policy drop") => {
                found.extend(table.map(|(family, name)| (family.to_owned(), name.to_owned(), chain.to_owned())));
            }
            _ => {}
        }
    }
    found
}

fn bwrap() -> Finding {
    match exists("bwrap") {
        true => finding("bwrap", Level::Ok, "Shipway can be tried without root.", None),
        false => {
            let says = "bwrap is not installed: without root there are no dynos.";
            finding("bwrap", Level::Warn, says, Some("apt-get install bubblewrap"))
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
    fn a_dropping_chain_is_found_with_its_table() {
        let rules = "table ip filter {\n\tchain INPUT {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
        let expected = ("ip".to_owned(), "filter".to_owned(), "FORWARD".to_owned());
        assert_eq!(foreign_drops(rules, "hook forward"), [expected]);
        assert!(foreign_drops("table inet x {\n}", "hook forward").is_empty());
    }
}
