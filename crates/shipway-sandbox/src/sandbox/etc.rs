//! The `/etc` that a dyno sees: made, not filtered.

use crate::config::UidBlock;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// What the host shows of its own `/etc`, read-only, where present.
pub(crate) const FROM_HOST: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "mime.types",
    "php",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// What every bash at a terminal reads first. Its prompt is Heroku's: the directory and `$`, in colours.
const BASHRC: &str = "PS1='\\[\\033[01;34m\\]\\w\\[\\033[00m\\] \\[\\033[01;32m\\]$ \\[\\033[00m\\]'\n";

/// The files that are made, with their text.
pub(crate) fn files(
    hostname: &str,
    own: Option<Ipv4Addr>,
    services: Option<Ipv4Addr>,
    hosts: &[String],
    resolvers: &[Ipv4Addr],
) -> Vec<(&'static str, String)> {
    let id = UidBlock::INSIDE;
    let mut names = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let own = own.unwrap_or(Ipv4Addr::LOCALHOST);
    let _ = writeln!(names, "{own} {hostname}");
    for host in hosts {
        let _ = writeln!(names, "{} {host}", services.unwrap_or(Ipv4Addr::LOCALHOST));
    }
    let resolve = resolvers.iter().fold(String::new(), |text, ip| text + &format!("nameserver {ip}\n"));
    let nss = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n";
    vec![
        (
            "passwd",
            format!(
                "root:x:0:0:root:/root:/usr/sbin/nologin\ndyno:x:{id}:{id}:dyno:/app:/bin/bash\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
            ),
        ),
        ("group", format!("root:x:0:\ntty:x:5:\ndyno:x:{id}:\nnogroup:x:65534:\n")),
        ("hosts", names),
        ("hostname", format!("{hostname}\n")),
        ("resolv.conf", resolve),
        ("nsswitch.conf", nss.into()),
        ("timezone", "Etc/UTC\n".into()),
        ("shells", "/bin/sh\n/bin/bash\n".into()),
        ("bash.bashrc", BASHRC.into()),
    ]
}

/// What a dyno's host is called: its name in the characters of host names.
pub(crate) fn hostname(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_apps_lead_to_the_services_address() {
        let services = Some(Ipv4Addr::new(10, 0, 0, 1));
        let made = files("web-1", None, services, &["a.localhost".into()], &[Ipv4Addr::new(9, 9, 9, 9)]);
        let text = |name| made.iter().find(|(n, _)| *n == name).map(|(_, t)| t.as_str());
        assert!(text("hosts").is_some_and(|t| t.ends_with("127.0.0.1 web-1\n10.0.0.1 a.localhost\n")));
        assert_eq!(text("resolv.conf"), Some("nameserver 9.9.9.9\n"));
        assert_eq!(hostname("web.1"), "web-1");
    }
}
