//! Processes of a dyno as `/proc` shows them, for the tier that has nothing better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// All processes below `root`, itself left out, parents before their children.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in pids() {
        if let Some(parent) = stat(pid).and_then(|s| s.parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    below(root, |pid| children.remove(&pid).unwrap_or_default())
}

/// The same for who looks often: it costs by the processes below `root`, not by those of the machine. One whose sibling
/// ends at that moment may be left out (proc_pid_children(5)).
pub(crate) fn descendants_at_a_glance(root: u32) -> Vec<u32> {
    // A kernel may be built without these lists.
    if !Path::new("/proc/thread-self/children").exists() {
        return descendants(root);
    }
    below(root, |pid| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        lists
            .flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>())
            .collect()
    })
}

fn below(root: u32, mut children_of: impl FnMut(u32) -> Vec<u32>) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        all.extend(children_of(*pid));
        next += 1;
    }
    all.split_off(1)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: Option<u32>,
    /// Processor time in clock ticks of 10 ms.
    pub(crate) ticks: u64,
    pub(crate) threads: u32,
    /// Resident pages.
    pub(crate) pages: u64,
}

/// None for a process that is gone.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name in parentheses is the program's own and may contain anything.
    let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Some(Stat {
        parent: u32::try_from(number(1)).ok(),
        ticks: number(11) + number(12),
        threads: number(17) as u32,
        pages: number(21),
    })
}

/// The listening TCP addresses in the network of `pid`; of the sockets of `only` these processes, where given.
pub(crate) fn listeners(pid: u32, only: Option<&[u32]>) -> Vec<SocketAddr> {
    let owned: Option<BTreeSet<u64>> = only.map(|pids| pids.iter().flat_map(|pid| sockets(*pid)).collect());
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        found.extend(parse_listeners(&text).into_iter().filter_map(|(address, inode)| {
            owned.as_ref().is_none_or(|owned| owned.contains(&inode)).then_some(address)
        }));
    }
    found.into_iter().collect()
}

fn sockets(pid: u32) -> Vec<u64> {
    let fds = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).into_iter().flatten().flatten();
    fds.filter_map(|fd| {
        let target = std::fs::read_link(fd.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
    .collect()
}

/// Listening addresses and their sockets' inodes in the text of `/proc/net/tcp` or `tcp6`.
fn parse_listeners(text: &str) -> Vec<(SocketAddr, u64)> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A is TCP_LISTEN.
            if *fields.get(3)? != "0A" {
                return None;
            }
            let (address, port) = fields.get(1)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            // Each group of eight digits is a word in the machine's byte order.
            let words: Option<Vec<u32>> =
                (0..address.len() / 8).map(|i| u32::from_str_radix(address.get(i * 8..i * 8 + 8)?, 16).ok()).collect();
            let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
            let ip: IpAddr = match bytes.len() {
                4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
                16 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
                _ => return None,
            };
            Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_have_any_name() {
        let line = "42 (a) b) 1 2) S 7 42 42 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 3 0 99 1000 25 18446744073709551615";
        assert_eq!(parse_stat(line), Some(Stat { parent: Some(7), ticks: 11, threads: 3, pages: 25 }));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_told_from_others() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n\
            1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n\
            2: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 0:0 0:0 0  1000 0 4713 1\n";
        let expected = [("127.0.0.1:8080", 4711), ("[::1]:5000", 4713)];
        assert_eq!(parse_listeners(text), expected.map(|(a, inode)| (a.parse().expect("an address"), inode)));
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        for look in [descendants, descendants_at_a_glance] {
            assert!(look(std::process::id()).contains(&child.id()));
        }
        child.kill().and_then(|()| child.wait()).expect("it ends");
    }
}
