//! Servers that are reached by ssh, and the keys by which they are known.

use crate::names::NameError;
use serde::{Deserialize, Serialize};

/// The kinds of keys that servers show.
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];
/// A key that is longer is none: 16384 bits of RSA have 2,800 characters.
const LONGEST: usize = 4096;
/// Keys of one server.
const MOST: usize = 16;

/// An account of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshServer {
    user: String,
    host: String,
    port: u16,
}

impl SshServer {
    /// Checks an account. Errors: what ssh could take for anything but names (attack 3).
    pub fn parse(user: &str, host: &str, port: u16) -> Result<Self, NameError> {
        let plain = |text: &str, also: &[u8]| {
            !text.is_empty()
                && text.len() <= 255
                && !text.starts_with(['-', '.'])
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b))
        };
        if !plain(user, b"-_.") || user.len() > 32 {
            return Err(NameError::new("ssh user", user, "must be a plain name, such as git"));
        }
        if !plain(host, b"-.") || port == 0 {
            return Err(NameError::new("ssh server", host, "must be a host, with a port from 1 to 65535"));
        }
        Ok(Self { user: user.to_owned(), host: host.to_ascii_lowercase(), port })
    }

    /// The account.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A key by which a server is known: its kind and its body, as `known_hosts` has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// Such as `ssh-ed25519`.
    pub kind: String,
    /// In base64.
    pub body: String,
}

impl HostKey {
    /// Reads `ssh-ed25519 AAAA…`. None for what is no key.
    fn parse(kind: &str, body: &str) -> Option<Self> {
        let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
        let good = KINDS.contains(&kind) && (16..=LONGEST).contains(&body.len()) && body.bytes().all(base64);
        good.then(|| Self { kind: kind.to_owned(), body: body.to_owned() })
    }
}

/// The keys in the output of `ssh-keyscan` for one server.
pub fn scanned_keys(text: &str) -> Vec<HostKey> {
    keys(text, |_| true)
}

/// The keys of a server in a file `known_hosts`. Lines with hashed names, patterns or marks count for nobody.
pub fn known_keys(text: &str, server: &SshServer) -> Vec<HostKey> {
    let (host, port) = (server.host(), server.port());
    let with_port = format!("[{host}]:{port}");
    keys(text, |name| name.eq_ignore_ascii_case(&with_port) || (port == 22 && name.eq_ignore_ascii_case(host)))
}

fn keys(text: &str, of: impl Fn(&str) -> bool) -> Vec<HostKey> {
    let key = |line: &str| {
        let mut words = line.split_whitespace();
        let (names, kind, body) = (words.next()?, words.next()?, words.next()?);
        names.split(',').any(&of).then(|| HostKey::parse(kind, body)).flatten()
    };
    text.lines().filter(|line| !line.starts_with(['#', '@'])).filter_map(key).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_03_accounts_are_plain_names() {
        let check = |user: &str, host: &str, good: bool| {
            assert_eq!(SshServer::parse(user, host, 22).is_ok(), good, "{user:?} at {host:?}");
        };
        check("git", "git.example.org", true);
        check("forge-jo_1", "10.0.0.1", true);
        for bad in ["", "-oProxyCommand=id", "a b", "a\nb", "$(id)", "git@x", "a;id", "a%h", ".x", "a\"b"] {
            check(bad, "git.example.org", false);
            check("git", bad, false);
        }
        check("git", "[::1]", false);
        assert!(SshServer::parse("git", "example.org", 0).is_err());
        assert_eq!(SshServer::parse("git", "GIT.example.org", 22).unwrap().host(), "git.example.org");
    }

    #[test]
    fn the_keys_of_a_server_in_known_hosts() {
        let body = "A".repeat(68);
        let text = format!(
            "# a comment\n\
             example.org,203.0.113.1 ssh-ed25519 {body} somebody\n\
             [example.org]:2222 ssh-rsa {body}\n\
             @revoked example.org ssh-ed25519 {body}\n\
             |1|c2FsdA==|aGFzaA== ssh-ed25519 {body}\n\
             *.org ssh-ed25519 {body}\n\
             example.org ssh-ed25519 $(id)\n\
             example.org command=x {body}\n"
        );
        let kinds = |host: &str, port: u16| {
            let keys = known_keys(&text, &SshServer::parse("git", host, port).unwrap());
            keys.into_iter().map(|key| key.kind).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(kinds("Example.org", 22), "ssh-ed25519");
        assert_eq!(kinds("example.org", 2222), "ssh-rsa");
        assert_eq!(kinds("203.0.113.1", 22), "ssh-ed25519");
        assert_eq!(kinds("other.org", 22), "");
        assert_eq!(scanned_keys(&text).len(), 4);
    }
}
