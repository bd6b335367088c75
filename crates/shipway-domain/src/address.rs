//! Addresses of other people's servers.

/// An `https://` address that something is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsAddress {
    address: String,
    host: String,
    port: u16,
}

impl HttpsAddress {
    /// Reads an address. Errors: the end of a sentence that says what is wrong with it.
    pub fn parse(address: &str) -> Result<Self, String> {
        let Some(rest) = address.strip_prefix("https://") else {
            let kind = address.split([':', '/']).next().unwrap_or_default();
            return Err(format!(
                "only https:// addresses are fetched, and it begins with {:?}",
                kind.chars().take(20).collect::<String>()
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

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_03_addresses() {
        let check = |address: &str, expected: Option<(&str, u16)>| {
            let parsed = HttpsAddress::parse(address).ok();
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
    fn attack_41_credentials_of_an_address_are_not_shown() {
        let check = |address: &str, expected: &str| assert_eq!(HttpsAddress::parse(address).unwrap().shown(), expected);
        check("https://x-token:s3cret@github.com/a/b.git", "https://github.com/a/b.git");
        check("https://github.com/a@b", "https://github.com/a@b");
        check("https://u:p@q@github.com", "https://github.com");
    }
}
