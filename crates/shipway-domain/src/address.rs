//! Addresses of other people's servers.

use std::net::{IpAddr, Ipv4Addr};

/// Longest address, in bytes: those that object stores sign for a while have some thousands.
const MAX_ADDRESS: usize = 8192;

/// An address of a server elsewhere: `https://`, or `http://` of a host that the operator has named.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteAddress {
    address: String,
    credentials: Option<String>,
    host: String,
    port: u16,
    secure: bool,
}

impl std::fmt::Debug for RemoteAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RemoteAddress").field(&self.address).finish()
    }
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
        if address.len() > MAX_ADDRESS || address.bytes().any(|b| !b.is_ascii_graphic() || b"\\\"'<>^`{|}".contains(&b))
        {
            return Err(bad());
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (credentials, host_port) = match authority.rsplit_once('@') {
            Some((credentials, host_port)) => (Some(percent_decoded(credentials)), host_port),
            None => (None, authority),
        };
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
        let scheme = if secure { "https" } else { "http" };
        let address = format!("{scheme}://{host_port}{}", &rest[authority.len()..]);
        Ok(Self { address, credentials, host, port, secure })
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

    /// The address without credentials.
    pub fn shown(&self) -> &str {
        &self.address
    }

    /// Its scheme, host and port, as they were written.
    pub fn origin(&self) -> &str {
        let host = self.address.find("://").map_or(0, |at| at + 3);
        let end = self.address[host..].find(['/', '?', '#']).map_or(self.address.len(), |at| host + at);
        &self.address[..end]
    }

    /// `USER:PASSWORD` or `USER`, where the address had one.
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }
}

/// Text with `%41` as `A`. What is no such triple stays, and what is no UTF-8 is replaced.
pub fn percent_decoded(text: &str) -> String {
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let pair = (bytes.get(i + 1).copied().and_then(hex), bytes.get(i + 2).copied().and_then(hex));
        match (bytes[i], pair) {
            (b'%', (Some(high), Some(low))) => {
                out.push(high << 4 | low);
                i += 2;
            }
            (other, _) => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
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
        let check = |address: &str, expected: &str, credentials: Option<&str>| {
            let parsed = RemoteAddress::parse(address).unwrap();
            assert_eq!((parsed.shown(), parsed.credentials()), (expected, credentials));
            assert!(!format!("{parsed:?}").contains("s3cret"));
        };
        check("https://x-token:s3cret@github.com/a/b.git", "https://github.com/a/b.git", Some("x-token:s3cret"));
        check("https://github.com/a@b", "https://github.com/a@b", None);
        check("https://u:p@q@github.com", "https://github.com", Some("u:p@q"));
        check("https://s3cret@github.com:8443?a", "https://github.com:8443?a", Some("s3cret"));
        assert_eq!(
            RemoteAddress::parse("https://u:p@github.com:8443/a?b").unwrap().origin(),
            "https://github.com:8443"
        );
        check("https://u:%73%40%zz%@github.com/%41", "https://github.com/%41", Some("u:s@%zz%"));
    }
}
