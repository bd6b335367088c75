//! Fetches from other people's servers, over https from public hosts, and nothing else.
//!
//! Addresses come from strangers (`.gitmodules`) or from users (an upstream), and a server that fetches what it is told
//! to is a door into its own network (attacks 3, 23, 26). Only `https` is spoken; the host is resolved by us, refused
//! when it is not on the public internet, unless the operator named it, and git is pinned to the address that was checked;
//! redirects are not followed.

use crate::git::{GitError, stderr_text};
use crate::repo::Repo;
use shipway_domain::address::HttpsAddress;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What one fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(300);

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Done,
    /// The other side, or our guard, said no; in words, without the address.
    Refused(String),
}

/// An address of a host, when all of them are on the public internet or the host is one of `private_hosts`. Errors: a
/// sentence.
async fn resolve(to: &HttpsAddress, private_hosts: &[String]) -> Result<IpAddr, String> {
    let found = tokio::net::lookup_host((to.host(), to.port())).await;
    let found: Vec<IpAddr> = found.map_err(|error| format!("{}: {error}", to.host()))?.map(|a| a.ip()).collect();
    let named = private_hosts.iter().any(|host| host == to.host());
    match found.iter().find(|ip| !named && !is_public(**ip)) {
        Some(_) => Err(format!(
            "{} is in a private network, which is not fetched from unless the operator names it (--private-host)",
            to.host()
        )),
        None => found.first().copied().ok_or_else(|| format!("{} has no address", to.host())),
    }
}

impl Repo {
    /// Fetches `refspec` from a server elsewhere. `flags`: more of `git fetch`.
    pub async fn fetch_https(&self, from: &HttpsAddress, flags: &[&str], refspec: &str) -> Result<Fetched, GitError> {
        let pin = match resolve(from, &self.git.config.private_hosts).await {
            Ok(pin) => pin,
            Err(problem) => return Ok(Fetched::Refused(problem)),
        };
        let resolve = format!("http.curloptResolve={}:{}:{pin}", from.host(), from.port());
        let mut arguments = vec![
            "-c",
            "protocol.https.allow=always",
            "-c",
            "http.followRedirects=false",
            "-c",
            "http.lowSpeedLimit=1000",
            "-c",
            "http.lowSpeedTime=30",
            "-c",
            &resolve,
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
        ];
        arguments.extend(flags);
        arguments.extend(["--end-of-options", from.secret(), refspec]);
        match tokio::time::timeout(FETCH_TIME, self.git.output(&self.path, &arguments, b"")).await {
            Err(_) => {
                Ok(Fetched::Refused(format!("{} did not send it within {} s", from.host(), FETCH_TIME.as_secs())))
            }
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(Fetched::Done);
                }
                // Git repeats the address, in which there may be a token.
                let said = stderr_text(&output.stderr).replace(from.secret(), from.host());
                Ok(Fetched::Refused(said))
            }
        }
    }
}

/// Whether an address is on the public internet. Source: IANA special-purpose address registries.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            // Only 2000::/3 is routed; in it, what carries an IPv4 address and what is for documents is left out.
            (s[0] & 0xe000) == 0x2000 && s[0] != 0x2002 && !(s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8))
        }
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(a == 0 || a >= 224 || ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation())
        && !(shared || protocol || benchmark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_23_private_networks() {
        for (ip, public) in [
            ("8.8.8.8", true),
            ("2606:4700::1111", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::ffff:8.8.8.8", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("2002:7f00:1::", false),
            ("64:ff9b::7f00:1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }

    #[tokio::test]
    async fn attack_23_a_private_host_is_fetched_from_only_when_the_operator_named_it() {
        let check = async |named: &[&str], expected: Result<&str, &str>| {
            let named: Vec<String> = named.iter().map(|host| (*host).to_owned()).collect();
            let resolved = resolve(&HttpsAddress::parse("https://127.0.0.1:8443/a").unwrap(), &named).await;
            match (resolved, expected) {
                (Ok(ip), Ok(expected)) => assert_eq!(ip.to_string(), expected),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{problem}"),
                (resolved, expected) => panic!("{named:?}: {resolved:?}, not {expected:?}"),
            }
        };
        check(&["127.0.0.1"], Ok("127.0.0.1")).await;
        check(&["127.0.0.2", "0.0.1"], Err("--private-host")).await;
        check(&[], Err("in a private network")).await;
    }
}
