//! Submodules: fetched over https from public hosts, into the app's own repository, and nothing else.
//!
//! A repository names its submodules' addresses, so this is a request that a stranger chooses (attacks 3, 23, 26). Only
//! `https` is spoken; the host is resolved by us, refused when it is not on the public internet, and git is pinned
//! to the address that was checked; redirects are not followed; the commit is asked for by its id.

use crate::checkout::{CheckoutError, Gitlink, shown};
use crate::git::{GitError, stderr_text};
use crate::repo::Repo;
use shipway_domain::CommitId;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

/// Submodules of submodules, and so on, down to here.
const MAX_DEPTH: u32 = 4;
/// What one submodule may take.
const FETCH_TIME: Duration = Duration::from_secs(300);

impl Repo {
    /// What `.gitmodules` of a commit says: address by path.
    pub(crate) async fn submodule_addresses(&self, commit: &CommitId) -> Result<HashMap<String, String>, GitError> {
        let blob = format!("{commit}:.gitmodules");
        let arguments = ["config", "--blob", &blob, "--null", "--get-regexp", r"^submodule\..*\.(path|url)$"];
        let output = self.git.output(&self.path, &arguments, b"").await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut paths = HashMap::new();
        let mut addresses = HashMap::new();
        for (key, value) in text.split('\0').filter_map(|entry| entry.split_once('\n')) {
            match key.rsplit_once('.') {
                Some((name, "path")) => _ = paths.insert(name, value),
                Some((name, "url")) => _ = addresses.insert(name, value),
                _ => {}
            }
        }
        let found = paths.into_iter().filter_map(|(name, path)| Some((path, *addresses.get(name)?)));
        Ok(found.map(|(path, address)| (path.to_string(), address.to_string())).collect())
    }

    /// Has the commit that `link` names in this repository, from the address that belongs to it.
    pub(crate) async fn fetch_submodule(
        &self,
        link: &Gitlink,
        path: &Path,
        addresses: &HashMap<String, String>,
        depth: u32,
        count: usize,
        limit: usize,
    ) -> Result<(), CheckoutError> {
        let refuse = |problem: String| CheckoutError::Submodule { path: shown(path), problem };
        if count > limit || depth >= MAX_DEPTH {
            return Err(refuse(format!(
                "there are more than {limit} submodules, or more than {MAX_DEPTH} levels of them"
            )));
        }
        let Some(address) = link.path.to_str().and_then(|path| addresses.get(path)) else {
            return Err(refuse("it has no url in .gitmodules; add it there, or `git rm --cached` it".into()));
        };
        let refname = format!("refs/shipway/submodules/{}", link.commit);
        let https = HttpsAddress::parse(address).map_err(refuse)?;
        if self.resolve(&refname).await?.is_some() {
            return Ok(());
        }
        let pin = https.resolve().await.map_err(refuse)?;
        let refspec = format!("+{}:{refname}", link.commit);
        let resolve = format!("http.curloptResolve={}:{}:{pin}", https.host, https.port);
        let arguments = [
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
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--end-of-options",
            address,
            &refspec,
        ];
        let fetch = self.git.output(&self.path, &arguments, b"");
        match tokio::time::timeout(FETCH_TIME, fetch).await {
            Err(_) => Err(refuse(format!("{} did not send it within {} s", https.host, FETCH_TIME.as_secs()))),
            Ok(output) => {
                let output = output?;
                if output.status.success() {
                    return Ok(());
                }
                // Git repeats the address, in which there may be a token.
                let said = stderr_text(&output.stderr).replace(address.as_str(), &https.host);
                Err(refuse(format!("{} did not give commit {}: {said}", https.host, link.commit.short())))
            }
        }
    }
}

/// The parts of an address that matter.
#[derive(Debug, PartialEq, Eq)]
struct HttpsAddress {
    host: String,
    port: u16,
}

impl HttpsAddress {
    fn parse(address: &str) -> Result<Self, String> {
        let Some(rest) = address.strip_prefix("https://") else {
            let kind = address.split([':', '/']).next().unwrap_or_default();
            return Err(format!(
                "only https:// addresses are fetched, and its url in .gitmodules begins with {:?}; \
                 use the https:// address, or commit the files themselves",
                crate::text::one_line(kind, 20)
            ));
        };
        let bad = || "its url in .gitmodules is not a plain https:// address".to_string();
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
        Ok(Self { host: host.to_ascii_lowercase(), port })
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
}
