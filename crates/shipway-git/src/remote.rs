//! Fetches from other people's servers, over https from public hosts, and nothing else.
//!
//! Addresses come from strangers (`.gitmodules`) or from users (an upstream), and a server that fetches what it is told
//! to is a door into its own network (attacks 3, 23, 26). Only `https` is spoken; the host is resolved by us, refused
//! when it is not on the public internet, and git is pinned to the address that was checked; redirects are not followed.

use crate::git::{GitError, stderr_text};
use crate::repo::Repo;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What one fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(300);

/// An `https://` address that git may be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsAddress {
    address: String,
    host: String,
    port: u16,
}

/// What came of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// It is here.
    Done,
    /// The other side, or our guard, said no; in words, without the address.
    Refused(String),
}

impl HttpsAddress {
    /// Reads an address. Errors: the end of a sentence that says what is wrong with it.
    pub fn parse(address: &str) -> Result<Self, String> {
        let Some(rest) = address.strip_prefix("https://") else {
            let kind = address.split([':', '/']).next().unwrap_or_default();
            return Err(format!(
                "only https:// addresses are fetched, and it begins with {:?}",
                crate::text::one_line(kind, 20)
            ));
        };
        let bad = || "it is not a plain https:// address".to_string();
        if address.len() > 1000 || address.bytes().any(|b| !b.is_ascii_graphic() || b"\\\"'<>^`{|}".contains(&b)) {
            return Err(bad());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
            None => (host_port, 443),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if host.is_empty() || host.starts_with(['-', '.']) || !host.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Self { address: address.to_string(), host: host.to_ascii_lowercase(), port })
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The whole address, with the credentials that may be in it.
    pub fn secret(&self) -> &str {
        &self.address
    }

    /// The address without credentials, for people to read.
    pub fn shown(&self) -> String {
        let rest = self.address.trim_start_matches("https://");
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest[..end].rsplit('@').next().unwrap_or_default();
        format!("https://{authority}{}", &rest[end..])
    }

    /// An address of the host, when all of them are on the public internet.
    async fn resolve(&self) -> Result<IpAddr, String> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<IpAddr> = found.map_err(|error| format!("{}: {error}", self.host))?.map(|a| a.ip()).collect();
        match found.iter().find(|ip| !is_public(**ip)) {
            Some(_) => Err(format!("{} is an address of a private network, which is not fetched from", self.host)),
            None => found.first().copied().ok_or_else(|| format!("{} has no address", self.host)),
        }
    }
}

impl Repo {
    /// Fetches `refspec` from a server elsewhere. `flags`: more of `git fetch`.
    pub async fn fetch_https(&self, from: &HttpsAddress, flags: &[&str], refspec: &str) -> Result<Fetched, GitError> {
        let pin = match from.resolve().await {
            Ok(pin) => pin,
            Err(problem) => return Ok(Fetched::Refused(problem)),
        };
        let resolve = format!("http.curloptResolve={}:{}:{pin}", from.host, from.port);
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
        arguments.extend(["--end-of-options", &from.address, refspec]);
        match tokio::time::timeout(FETCH_TIME, self.git.output(&self.path, &arguments, b"")).await {
            Err(_) => Ok(Fetched::Refused(format!("{} did not send it within {} s", from.host, FETCH_TIME.as_secs()))),
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(Fetched::Done);
                }
                // Git repeats the address, in which there may be a token.
                let said = stderr_text(&output.stderr).replace(&from.address, &from.host);
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
    fn attack_03_addresses() {
        let check = |address: &str, expected: Option<(&str, u16)>| {
            let parsed = HttpsAddress::parse(address).ok();
            assert_eq!(parsed.as_ref().map(|a| (a.host.as_str(), a.port)), expected, "{address:?}");
        };
        check("https://github.com/a/b.git", Some(("github.com", 443)));
        check("https://token:x@GitHub.com:8443/a", Some(("github.com", 8443)));
        for bad in [
            "http://github.com/a",
            "ext::sh -c id",
            "file:///etc",
            "/etc",
            "../x",
            "ssh://-oProxyCommand=id/x",
            "git@github.com:a/b",
            "--upload-pack=id",
            "https://",
            "https://-x/",
            "https://a b/",
            "https://a\nb/",
            "https://[::1]/",
            "https://a:99999/",
            "https://$(id)/",
        ] {
            check(bad, None);
        }
    }

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

    #[test]
    fn attack_41_credentials_of_an_address_are_not_shown() {
        let check = |address: &str, expected: &str| assert_eq!(HttpsAddress::parse(address).unwrap().shown(), expected);
        check("https://x-token:s3cret@github.com/a/b.git", "https://github.com/a/b.git");
        check("https://github.com/a@b", "https://github.com/a@b");
        check("https://u:p@q@github.com", "https://github.com");
    }
}
