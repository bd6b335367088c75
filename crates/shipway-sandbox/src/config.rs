//! What the runtime is told about the machine and the platform.

use serde::{Deserialize, Serialize};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Which sandbox is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// By the kernel's own means, as root: everything that [`crate::doctor::ISOLATION`] lists.
    Root,
    /// By `bwrap`, as anybody: the host's network, limits by watching.
    Bwrap,
}

/// How the spawner runs. The same value for every start of a spawner on one data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The data directory, absolute.
    pub home: PathBuf,
    /// The server's user: may give orders, owns the data directory's files.
    pub uid: u32,
    /// The server's group.
    pub gid: u32,
    /// Which sandbox is made.
    pub tier: Tier,
    /// Directories outside `/usr` that every dyno and build sees read-only at the same path, named by the operator
    /// (a Python under `/opt`).
    pub toolchains: Vec<PathBuf>,
    /// TCP ports of the services address that dynos may reach: the router's, the databases'.
    pub services: Vec<u16>,
    /// Bytes that a dyno may write to its log at once before it is slowed.
    pub log_burst_bytes: u64,
    /// Arguments with which the running executable starts a shim; `["shim"]` for the one binary.
    pub shim: Vec<String>,
}

impl Config {
    /// The usual configuration for a data directory and the server's user.
    pub fn new(home: impl Into<PathBuf>, tier: Tier, uid: u32, gid: u32) -> Self {
        let home = home.into();
        Self {
            home,
            uid,
            gid,
            tier,
            toolchains: Vec::new(),
            services: Vec::new(),
            log_burst_bytes: 256 << 20,
            shim: vec!["shim".into()],
        }
    }

    pub(crate) fn network(&self) -> Network {
        Network::of(&self.home)
    }
}

/// Names and addresses of one data directory on a machine that may have several.
///
/// All follow from a number that the directory keeps, so that a new spawner finds what an old one made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    tag: u16,
}

/// How many dynos can have an address at a time: a /22 less the network, services and broadcast addresses.
pub(crate) const MAX_SLOTS: u16 = 1020;

/// Where a directory keeps its number.
fn kept(home: &Path) -> PathBuf {
    home.join("run/network")
}

impl Network {
    /// How many blocks of addresses there are.
    const BASES: u16 = 2048;

    /// What the directory chose, or what it would try first.
    pub(crate) fn of(home: &Path) -> Self {
        let kept = std::fs::read_to_string(kept(home)).ok();
        let tag = kept.and_then(|tag| u16::from_str_radix(tag.trim(), 16).ok());
        tag.map_or_else(|| Self::first_of(home), |tag| Self { tag })
    }

    /// What the directory chose. It chooses once, before its first dyno: the first whose services address no other
    /// directory has, as `is_taken` says.
    ///
    /// Errors: the directory's.
    pub(crate) fn choose(home: &Path, is_taken: impl Fn(Ipv4Addr) -> bool) -> io::Result<Self> {
        let kept = kept(home);
        if kept.exists() {
            return Ok(Self::of(home));
        }
        let first = Self::first_of(home);
        let all = (0..Self::BASES).map(|n| Self { tag: first.tag.wrapping_add(n) });
        let free = all.into_iter().find(|network| !is_taken(network.services())).unwrap_or(first);
        std::fs::create_dir_all(home.join("run"))?;
        std::fs::write(kept, free.tag())?;
        Ok(free)
    }

    /// FNV-1a of the path, so that two directories seldom try the same.
    fn first_of(home: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let hash = home
            .as_os_str()
            .as_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        Self { tag: (hash ^ (hash >> 16)) as u16 }
    }

    /// What this directory's control groups, tables and interfaces carry in their names.
    pub(crate) fn tag(self) -> String {
        format!("{:04x}", self.tag)
    }

    /// The control group that holds the dynos' groups; that of the builds is named after it.
    pub(crate) fn cgroup(self) -> String {
        format!("shipway-{}", self.tag())
    }

    /// The nftables table.
    pub(crate) fn table(self) -> String {
        format!("shipway_{}", self.tag())
    }

    /// What the names of all dynos' interfaces on the host begin with.
    pub(crate) fn interface_prefix(self) -> String {
        format!("sw{}", self.tag())
    }

    /// The host's end of a slot's cable.
    pub(crate) fn interface(self, slot: u16) -> String {
        format!("{}{slot:03x}", self.interface_prefix())
    }

    /// The first address of the /22: one of 2,048 in 10.192.0.0/11, where home and office networks seldom are.
    pub(crate) fn base(self) -> Ipv4Addr {
        Ipv4Addr::from(0x0ac0_0000_u32 + (u32::from(self.tag % Self::BASES) << 10))
    }

    /// The services address: reachable from the host and from dynos.
    pub(crate) fn services(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base()) + 1)
    }

    /// The address of a slot, from 0.
    pub(crate) fn address(self, slot: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base()) + 2 + u32::from(slot))
    }
}

/// Uids of an app's block, as the host sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UidBlock {
    /// The block's first uid: root inside.
    pub(crate) base: u32,
}

impl UidBlock {
    /// How many uids a block has.
    pub(crate) const SIZE: u32 = 65_536;
    /// The uid and gid of the app's processes inside.
    pub(crate) const INSIDE: u32 = 1000;

    /// Block `n`, from 1; none for numbers whose block would leave the range of uids.
    pub(crate) fn new(n: u32) -> Option<Self> {
        let base = n.checked_mul(Self::SIZE)?.checked_add(1_000_000)?;
        (n > 0 && base < u32::MAX - 2 * Self::SIZE).then_some(Self { base })
    }

    /// The uid of the app's processes outside.
    pub(crate) fn outside(self) -> u32 {
        self.base + Self::INSIDE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_fit() {
        let network = Network::of(Path::new("/var/lib/shipway"));
        assert!(network.interface(MAX_SLOTS - 1).len() <= 15);
        let (base, last) = (u32::from(network.base()), u32::from(network.address(MAX_SLOTS - 1)));
        assert_eq!((base & 0x3ff, last - base), (0, 1021), "inside a /22, short of its broadcast address");
    }

    #[test]
    fn a_directory_keeps_clear_of_the_addresses_of_others() {
        let home = tempfile::tempdir().unwrap();
        let first = Network::of(home.path());
        let chosen = Network::choose(home.path(), |address| address == first.services()).unwrap();
        assert_ne!(chosen.base(), first.base());
        assert_eq!(Network::of(home.path()), chosen);
        let again = Network::choose(home.path(), |address| address == chosen.services()).unwrap();
        assert_eq!(again, chosen, "its own address is there when it comes back");
    }

    #[test]
    fn uid_blocks_do_not_overlap_and_do_not_wrap() {
        let block = |n| UidBlock::new(n).map(|b| b.base);
        assert_eq!(block(1), Some(1_065_536));
        assert_eq!(block(2), Some(1_065_536 + UidBlock::SIZE));
        assert_eq!((block(0), block(u32::MAX), block(65_535)), (None, None, None));
    }
}
