//! Where a server is.

use std::fmt;
use std::str::FromStr;

/// The address of a Shipway server: scheme, host, port, nothing else.
///
/// `http` only for this machine (`127.0.0.1`, `localhost`): a token must not cross a network in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    tls: bool,
    host: String,
    port: u16,
}

impl ServerUrl {
    /// Whether the address is spoken to by TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host name or IPv4 address, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is on this machine by its name alone.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "127.0.0.1" | "localhost")
    }

    /// `host`, or `host:port` when the port is not the one of https. What git and certificates call the host.
    pub fn https_authority(&self) -> String {
        if self.port == 443 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The address by https, without a slash at the end. The same port answers both (HTTP and TLS told apart by the first byte).
    pub fn https(&self) -> String {
        format!("https://{}", self.https_authority())
    }

    /// A name for files about this server: host and port.
    pub fn file_stem(&self) -> String {
        format!("{}-{}", self.host, self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.tls, self.port) {
            (true, 443) => write!(f, "https://{}", self.host),
            (true, port) => write!(f, "https://{}:{port}", self.host),
            (false, 80) => write!(f, "http://{}", self.host),
            (false, port) => write!(f, "http://{}:{port}", self.host),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let shown: String = s.chars().take(80).collect();
        let wrong =
            |why: &str| format!("{shown:?} is not the address of a server: {why} (such as https://paas.example.org)");
        let (tls, rest) = match s.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(wrong("it must begin with https:// (or http:// on this machine)")),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => {
                let number = port.parse().ok().filter(|p| *p != 0);
                (host, number.ok_or_else(|| wrong("the port must be a number from 1 to 65535"))?)
            }
            None => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.to_ascii_lowercase();
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && !l.starts_with('-')
                && !l.ends_with('-')
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(wrong("after the scheme comes a host name and perhaps a port, no path, no user"));
        }
        if ["heroku.com", "herokuapp.com", "herokai.com", "herokuspace.com", "herokudev.com"]
            .iter()
            .any(|real| host == *real || host.ends_with(&format!(".{real}")))
        {
            return Err(wrong("that is the real Heroku"));
        }
        let url = Self { tls, host, port };
        if !tls && !url.is_loopback() {
            return Err(wrong("http:// would send your token in the clear; use https://"));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_at_the_edge() {
        let check = |given: &str, expected: Option<&str>| {
            assert_eq!(given.parse::<ServerUrl>().ok().map(|u| u.to_string()).as_deref(), expected, "{given}");
        };
        check("http://127.0.0.1:5000", Some("http://127.0.0.1:5000"));
        check("https://PaaS.example.org/", Some("https://paas.example.org"));
        check("https://paas.example.org:8443", Some("https://paas.example.org:8443"));
        check("http://paas.example.org", None);
        check("paas.example.org", None);
        check("htps://paas.example.org", None);
        check("https://", None);
        check("https://-oProxyCommand=x", None);
        check("https://user@paas.example.org", None);
        check("https://paas.example.org/path", None);
        check("https://paas.example.org:0", None);
        check("https://a b", None);
        check("https://api.heroku.com", None);
        check("https://x.herokuapp.com", None);
    }
}
