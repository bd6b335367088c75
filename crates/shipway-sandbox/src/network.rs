//! Networks of dynos: a cable each, routed, never a shared segment.
//!
//! A dyno has an address of its own (/32) and one neighbour: the services address on the host. Its cable ends on the
//! host in an interface that only its own address may come from. There is no bridge, so there is no segment on which
//! neighbours could speak past the host's rules (ARP, link-local IPv6, `bridge-nf-call-*`): whatever goes from dyno to
//! dyno would have to be forwarded by the host, and is dropped there.
//!
//! A network is made ahead of time and held by its descriptor; when that and the dyno's processes are gone, so are the
//! network, the cable and the address.

use crate::config::{MAX_SLOTS, Network};
use crate::wire::{Doing, Failure};
use futures::TryStreamExt;
use nix::sched::CloneFlags;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;
use std::io::{self, Seek};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What dynos may reach besides what all may: ports of the services address, by the dyno's own address.
pub(crate) type Grants = BTreeMap<Ipv4Addr, Vec<u16>>;

/// A network that no dyno uses yet.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) namespace: OwnedFd,
    pub(crate) address: Ipv4Addr,
}

impl Network {
    /// The directory's network: the one that it has, or one that no other directory of this machine uses.
    ///
    /// Errors: the directory's.
    pub(crate) fn claim(home: &Path) -> io::Result<Self> {
        let here: BTreeSet<IpAddr> = nix::ifaddrs::getifaddrs()?
            .filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| address.ip().into()))
            .collect();
        Self::choose(home, |address| here.contains(&address.into()))
    }

    /// Makes what all dynos share: the services address, the rules, forwarding. Can be repeated.
    ///
    /// The services address lies on `lo`, where it needs no device of its own and is up as long as the machine is; it is
    /// not one of 127/8, so dynos can reach it.
    ///
    /// Errors: the machine's; `nft` is needed.
    pub(crate) fn prepare(self, home: &Path, services: &[u16], grants: &Grants) -> Result<(), Failure> {
        forward(home).doing(|| "turning IPv4 forwarding on".into())?;
        in_netlink(|handle| async move {
            let lo = index(&handle, "lo").await?;
            handle.address().add(lo, self.services().into(), 32).replace().execute().await?;
            handle.route().add(self.nowhere()).replace().execute().await
        })
        .doing(|| format!("giving the machine the services address {}", self.services()))?;
        nft(&self.rules(services, grants, &resolvers()))
    }

    /// The route of addresses that no dyno has: a request to a dyno that is gone fails at once, here, instead of leaving
    /// the machine by its default route.
    fn nowhere(self) -> RouteMessage {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(self.base(), 22);
        route.kind(RouteType::Unreachable).build()
    }

    /// Opens exactly these ports of the services address to dynos.
    pub(crate) fn open_services(self, ports: &[u16]) -> Result<(), Failure> {
        let table = self.table();
        let mut rules = format!("flush set inet {table} services\n");
        if !ports.is_empty() {
            let _ = writeln!(rules, "add element inet {table} services {{ {} }}", list(ports));
        }
        nft(&rules)
    }

    /// Lets the dyno at `address` reach these ports of the services address, and not those of `before`, which a dyno that
    /// is gone had there.
    pub(crate) fn grant(self, address: Ipv4Addr, before: &[u16], ports: &[u16]) -> Result<(), Failure> {
        let table = self.table();
        let element = |port: &u16| format!("{address} . {port}");
        let mut rules = String::new();
        for port in before {
            // Added first: what is not there cannot be deleted.
            let element = element(port);
            let _ = writeln!(rules, "add element inet {table} grants {{ {element} }}");
            let _ = writeln!(rules, "delete element inet {table} grants {{ {element} }}");
        }
        for port in ports {
            let _ = writeln!(rules, "add element inet {table} grants {{ {} }}", element(port));
        }
        if rules.is_empty() { Ok(()) } else { nft(&rules) }
    }

    /// The rules, as `nft` reads them; loading them replaces what was there in one step.
    fn rules(self, services: &[u16], grants: &Grants, resolvers: &[Ipv4Addr]) -> String {
        let (table, ours, address, base) = (self.table(), self.interface_prefix(), self.services(), self.base());
        let pins: Vec<String> =
            (0..MAX_SLOTS).map(|slot| format!("\"{}\" . {}", self.interface(slot), self.address(slot))).collect();
        let elements = |list: String| if list.is_empty() { list } else { format!("elements = {{ {list} }}") };
        let grants: Vec<String> =
            grants.iter().flat_map(|(ip, ports)| ports.iter().map(move |port| format!("{ip} . {port}"))).collect();
        let (pins, ports, grants) = (elements(list(&pins)), elements(list(services)), elements(list(&grants)));
        let resolvers = if resolvers.is_empty() {
            String::new()
        } else {
            format!("ip daddr {{ {} }} meta l4proto {{ tcp, udp }} th dport 53 accept", list(resolvers))
        };
        format!(
            r#"table inet {table}
delete table inet {table}
table inet {table} {{
  set pins {{ type ifname . ipv4_addr; {pins} }}
  set services {{ type inet_service; {ports} }}
  set grants {{ type ipv4_addr . inet_service; {grants} }}
  chain pinned {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{ours}*" meta nfproto ipv6 drop
    iifname "{ours}*" iifname . ip saddr != @pins drop
  }}
  chain to_host {{
    type filter hook input priority filter - 5; policy accept;
    ip daddr {address} iifname != {{ "lo", "{ours}*" }} drop
    iifname != "{ours}*" accept
    ct state established,related accept
    ip daddr {address} tcp dport @services accept
    ip daddr {address} ip saddr . tcp dport @grants accept
    {resolvers}
    drop
  }}
  chain through {{
    type filter hook forward priority filter - 5; policy accept;
    oifname "{ours}*" ct state established,related accept
    oifname "{ours}*" drop
    iifname "{ours}*" ip daddr {{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3, {base}/22 }} drop
  }}
  chain out {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {base}/22 oifname != "{ours}*" masquerade
  }}
}}
"#
        )
    }

    /// Slots whose interface exists: a dyno or a waiting network holds their address.
    fn taken(self) -> BTreeSet<u16> {
        let prefix = self.interface_prefix();
        let slot = |name: &str| u16::from_str_radix(name.strip_prefix(&prefix)?, 16).ok();
        interfaces().iter().filter_map(|name| slot(name)).collect()
    }

    /// Makes a network with the first free address. One caller at a time.
    pub(crate) fn cable(self) -> Result<Cable, Failure> {
        let taken = self.taken();
        let free = (0..MAX_SLOTS).find(|slot| !taken.contains(slot));
        let slot =
            free.ok_or_else(|| Failure::new("giving the dyno an address", format!("all {MAX_SLOTS} are taken")))?;
        let doing = || format!("making the network of {}", self.interface(slot));
        // A thread of its own: it moves into the new namespace and ends there.
        let made = std::thread::spawn(move || self.lay(slot)).join();
        made.unwrap_or_else(|_| Err(Failure::new(doing(), "its thread panicked")))
    }

    fn lay(self, slot: u16) -> Result<Cable, Failure> {
        let host = File::open("/proc/thread-self/ns/net").doing(|| "opening the host's network".into())?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNET).doing(|| "making a network namespace".into())?;
        let namespace = File::open("/proc/thread-self/ns/net").doing(|| "opening the new network".into())?;
        // `::1` stays, so that programs which bind it work; no other interface speaks IPv6.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        let (address, services) = (self.address(slot), self.services());
        let there = host.as_raw_fd();
        let inside = async move |handle: Handle| {
            let lo = index(&handle, "lo").await?;
            handle.link().set(LinkUnspec::new_with_index(lo).up().build()).execute().await?;
            let mut cable = LinkVeth::new("eth0", &self.interface(slot)).build();
            peer_in(&mut cable, &self.interface(slot), there);
            handle.link().add(cable).execute().await?;
            let eth0 = index(&handle, "eth0").await?;
            handle.address().add(eth0, address.into(), 32).execute().await?;
            handle.link().set(LinkUnspec::new_with_index(eth0).up().build()).execute().await?;
            let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(eth0);
            let near = route.destination_prefix(services, 32).scope(RouteScope::Link);
            handle.route().add(near.build()).execute().await?;
            let far = RouteMessageBuilder::<Ipv4Addr>::new().gateway(services).output_interface(eth0);
            handle.route().add(far.build()).execute().await
        };
        in_netlink(inside).doing(|| format!("laying the cable {} inside", self.interface(slot)))?;
        nix::sched::setns(&host, CloneFlags::CLONE_NEWNET).doing(|| "going back to the host's network".into())?;
        let name = self.interface(slot);
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let outside = async move |handle: Handle| {
            let host_end = index(&handle, &self.interface(slot)).await?;
            handle.link().set(LinkUnspec::new_with_index(host_end).up().build()).execute().await?;
            let route =
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).output_interface(host_end);
            let route = route.scope(RouteScope::Link).pref_source(services);
            handle.route().add(route.build()).execute().await
        };
        in_netlink(outside).doing(|| format!("laying the cable {name} outside"))?;
        Ok(Cable { namespace: namespace.into(), address })
    }

    /// Puts IPv4 forwarding back to how it was before the first dyno, unless another platform on this machine needs it.
    fn stop_forwarding(self, home: &Path) -> io::Result<()> {
        match std::fs::remove_file(forwarding_was_off(home)) {
            Ok(()) if self.is_alone() => std::fs::write(FORWARDING, "0"),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether no other data directory's dynos have cables here.
    fn is_alone(self) -> bool {
        let ours = self.interface_prefix();
        let is_cable = |name: &str| name.len() == ours.len() + 3 && name.starts_with("sw") && !name.starts_with(&ours);
        !interfaces().iter().any(|name| is_cable(name))
    }

    /// Removes what [`Network::prepare`] made.
    pub(crate) fn purge(self, home: &Path) -> Result<(), Failure> {
        self.stop_forwarding(home).doing(|| "turning IPv4 forwarding off again".into())?;
        in_netlink(|handle| async move {
            let own = handle.address().get().set_address_filter(self.services().into()).execute();
            for address in own.try_collect::<Vec<_>>().await? {
                handle.address().del(address).execute().await?;
            }
            // The kernel takes its time with cables whose dyno is gone; and not being there any more is what is wanted.
            for slot in self.taken() {
                if let Ok(cable) = index(&handle, &self.interface(slot)).await {
                    let _ = handle.link().del(cable).execute().await;
                }
            }
            let _ = handle.route().del(self.nowhere()).execute().await;
            Ok(())
        })
        .doing(|| format!("taking the services address {} away", self.services()))?;
        let table = self.table();
        nft(&format!("table inet {table}\ndelete table inet {table}\n"))
    }
}

/// The names of all interfaces of our own network, whatever network `/sys` shows.
fn interfaces() -> Vec<String> {
    let all = nix::net::if_::if_nameindex();
    let names = all.iter().flatten().filter_map(|interface| interface.name().to_str().ok());
    names.map(str::to_owned).collect()
}

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Where it is remembered that the machine did not forward before us.
fn forwarding_was_off(home: &Path) -> PathBuf {
    home.join("run/ip_forward-was-0")
}

fn forward(home: &Path) -> io::Result<()> {
    if std::fs::read_to_string(FORWARDING)?.trim() == "1" {
        return Ok(());
    }
    // Written down first: a crash between the two costs a setting that is put back in vain.
    File::create(forwarding_was_off(home))?;
    std::fs::write(FORWARDING, "1")
}

/// Makes the veth's other end appear in the network `namespace` under `name`.
fn peer_in(cable: &mut rtnetlink::packet_route::link::LinkMessage, name: &str, namespace: i32) {
    use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkInfo};
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name(name).setns_by_fd(namespace).build();
    for attribute in &mut cable.attributes {
        if let LinkAttribute::LinkInfo(infos) = attribute {
            for info in infos {
                if let LinkInfo::Data(data) = info {
                    *data = InfoData::Veth(InfoVeth::Peer(peer.clone()));
                }
            }
        }
    }
}

/// Runs requests over a netlink socket of the calling thread's network.
///
/// On a thread of its own, which is in the same network, because the caller may be inside an async runtime.
fn in_netlink<F: Future<Output = Result<(), rtnetlink::Error>>>(
    requests: impl FnOnce(Handle) -> F + Send,
) -> Result<(), String> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|e| e.to_string())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            requests(handle).await.map_err(|e| e.to_string())
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err("its thread panicked".into()))
}

async fn index(handle: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let found = handle.link().get().match_name(name.to_owned()).execute().try_next().await?;
    found.map(|link| link.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

fn nft(rules: &str) -> Result<(), Failure> {
    let doing = || "loading rules into nftables".to_owned();
    let mut file = tempfile().doing(doing)?;
    std::io::Write::write_all(&mut file, rules.as_bytes()).and_then(|()| file.rewind()).doing(doing)?;
    let mut command = Command::new("nft");
    command.args(["-f", "/dev/stdin"]).stdin(Stdio::from(file));
    run_with_input(command)
}

fn run_with_input(mut command: Command) -> Result<(), Failure> {
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    let output = command.output().doing(|| "running nft".into())?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new("running nft", errors.lines().next().unwrap_or("no reason given")))
}

/// A file without a name, in memory.
fn tempfile() -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create("rules", rustix::fs::MemfdFlags::CLOEXEC)?.into())
}

fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// The name servers that dynos are told: the machine's, past a forwarder on its loopback.
pub(crate) fn resolvers() -> Vec<Ipv4Addr> {
    let read = |path: &str| parse_resolvers(&std::fs::read_to_string(path).unwrap_or_default());
    let plain = read("/etc/resolv.conf");
    if plain.is_empty() { read("/run/systemd/resolve/resolv.conf") } else { plain }
}

fn parse_resolvers(text: &str) -> Vec<Ipv4Addr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let usable = servers.filter_map(|ip| match ip {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    });
    usable.take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarder_on_the_loopback_is_not_passed_on() {
        let text = "# made by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver ::1\n";
        assert_eq!(parse_resolvers(text), [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!(parse_resolvers(""), [] as [Ipv4Addr; 0]);
    }
}
