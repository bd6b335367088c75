//! Addresses of other people's servers.

use std::net::{IpAddr, Ipv4Addr};

/// An address of a server elsewhere: `https://`, or `http://` of a host that the operator has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    address: String,
    host: String,
    port: u16,
    secure: bool,
}

impl RemoteAddress {
    /// Reads an `https://` address. Errors: the end of a sentence that says what is wrong with it.
    pub fn parse(address: &str) -> Result<Self, String> {
        Self::parse_within(address, &[])
    }

    /// The same; `http://` counts too where the host is one of `private_hosts`, which the operator named.
    pub fn parse_within(address: &str, private_hosts: &[String]) -> Result<Self, String> {
        let kind = || {
            let kind = address.split([':', '/']).next().unwrap_or_default();
            let kind: String = kind.chars().take(20).collect();
            format!("only https:// addresses are fetched, and it begins with {kind:?}")
        };
        let (secure, rest) = match (address.strip_prefix("https://"), address.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(kind()),
        };
        let bad = || "it is not a plain https:// address".to_string();
        if address.len() > 1000 || address.bytes().any(|b| !b.is_ascii_graphic() || b"\\\"'<>^`{|}".contains(&b)) {
            return Err(bad());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| bad())?),
            None => (host_port, if secure { 443 } else { 80 }),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        if host.is_empty() || host.starts_with(['-', '.']) || !host.bytes().all(plain) {
            return Err(bad());
        }
        let host = host.to_ascii_lowercase();
        if !secure && !private_hosts.contains(&host) {
            return Err(kind());
        }
        Ok(Self { address: address.to_string(), host, port, secure })
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The whole address, with the credentials that may be in it.
    pub fn secret(&self) -> &str {
        &self.address
    }

    /// The address without credentials, for people to read.
    pub fn shown(&self) -> String {
        let (scheme, rest) = self.address.split_once("://").unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = rest[..end].rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{authority}{}", &rest[end..])
    }
}

/// Whether an address is on the public internet. Source: IANA special-purpose address registries.
pub fn is_public(ip: IpAddr) -> bool {
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

    #[test]
    fn attack_03_addresses() {
        let check = |address: &str, expected: Option<(&str, u16)>| {
            let parsed = RemoteAddress::parse(address).ok();
            assert_eq!(parsed.as_ref().map(|a| (a.host(), a.port())), expected, "{address:?}");
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
    fn attack_23_plain_http_goes_to_hosts_that_the_operator_named() {
        let named = ["git.internal".to_string()];
        let check = |address: &str, expected: bool| {
            assert_eq!(RemoteAddress::parse_within(address, &named).is_ok(), expected, "{address}");
        };
        check("http://git.internal:3000/a", true);
        check("http://GIT.internal/a", true);
        check("http://git.internal.example.org/a", false);
        check("http://git.internal@example.org/a", false);
        check("http://127.0.0.1/a", false);
        check("http://[::ffff:127.0.0.1]/a", false);
        assert_eq!(RemoteAddress::parse_within("http://git.internal/a", &named).unwrap().port(), 80);
    }

    #[test]
    fn attack_41_credentials_of_an_address_are_not_shown() {
        let check =
            |address: &str, expected: &str| assert_eq!(RemoteAddress::parse(address).unwrap().shown(), expected);
        check("https://x-token:s3cret@github.com/a/b.git", "https://github.com/a/b.git");
        check("https://github.com/a@b", "https://github.com/a@b");
        check("https://u:p@q@github.com", "https://github.com");
    }
}
