//! Listening sockets of this machine: binding them, and saying who has one.

use crate::problem::Problem;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Connections that may wait to be accepted: what comes while a role is replaced.
const BACKLOG: i32 = 4096;

/// Listens at `address`. Errors: who has the port, or what it takes to get it, named by the `flag` that chose it.
pub fn listen_at(address: SocketAddr, flag: &str) -> Result<OwnedFd, Problem> {
    open(address).map_err(|e| {
        let problem = Problem::new(format!("cannot listen at {address} ({flag}): {e}"));
        match e.kind() {
            io::ErrorKind::AddrInUse => {
                let whose = match holder(address) {
                    Some(name) => format!("{address} is taken by {name}"),
                    None => format!("{address} is taken by another program"),
                };
                Problem::new(whose).hint(format!("stop it, or choose another port with {flag} ADDRESS:PORT"))
            }
            io::ErrorKind::PermissionDenied => {
                problem.hint(format!("ports below 1024 need root; choose another with {flag} ADDRESS:PORT"))
            }
            io::ErrorKind::AddrNotAvailable => {
                problem.hint(format!("that is not an address of this machine; choose another with {flag} ADDRESS:PORT"))
            }
            _ => problem.hint(format!("choose another with {flag} ADDRESS:PORT")),
        }
    })
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    // An address whose last connections are still ending may be used again at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Where a listening socket listens.
pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(socket)?.try_into()?)
}

/// The program that listens at `address`, with its process id; none when it may not be known.
pub fn holder(address: SocketAddr) -> Option<String> {
    let table = fs::read_to_string(if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" }).ok()?;
    let inode = table.lines().find_map(|line| listening_inode(line, address))?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        files.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())).then_some(())?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("{} (process {pid})", name.trim_end()))
    })
}

/// The inode of a line of `/proc/net/tcp` that listens where `address` would. Source: proc(5).
fn listening_inode(line: &str, address: SocketAddr) -> Option<&str> {
    const LISTENS: &str = "0A";
    let words: Vec<&str> = line.split_whitespace().collect();
    let (host, port) = words.get(1)?.split_once(':')?;
    let any = host.bytes().all(|b| b == b'0');
    let same = match address.ip() {
        IpAddr::V4(ip) => {
            u32::from_str_radix(host, 16).is_ok_and(|h| Ipv4Addr::from(h.to_ne_bytes()) == ip) || ip.is_unspecified()
        }
        IpAddr::V6(_) => true,
    };
    let fits = words.get(3) == Some(&LISTENS) && u16::from_str_radix(port, 16) == Ok(address.port()) && (any || same);
    fits.then(|| words.get(9).copied()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_who_has_it() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let problem = listen_at(address, "--listen").unwrap_err();
        assert!(problem.what().starts_with(&format!("{address} is taken by ")), "{problem:?}");
        assert!(problem.what().ends_with(&format!("(process {})", std::process::id())), "{problem:?}");
        assert!(problem.hints()[0].contains("--listen"), "{problem:?}");
    }

    #[test]
    fn somebody_elses_address_is_named() {
        let problem = listen_at("192.0.2.1:0".parse().unwrap(), "--router-listen").unwrap_err();
        assert!(problem.hints()[0].contains("not an address of this machine"), "{problem:?}");
    }
}
