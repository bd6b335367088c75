//! The variables that point the Heroku CLI and git at a server.
//!
//! Two profiles. *Exported*, for a server on this machine: everything the CLI lets a variable move goes to its address, and nothing
//! else in the shell changes its way. *Bridged*, for one run of the CLI: on top, its proxy is a bridge of ours on loopback
//! that hands every tunnel to the server, so that the hosts no variable moves cannot be reached either. A server elsewhere needs the
//! bridge: the CLI believes only Heroku's own domains and loopback, and an exported Heroku domain without the bridge would send the
//! token there.

use crate::environment::{Change, Environment};
use crate::server::Account;

/// The domain of Heroku's developers that the CLI trusts with a token; inside a bridge it is the server.
pub const BRIDGED_DOMAIN: &str = "paas.herokudev.com";
/// By what git is to push or fetch where it would go to the real Heroku: there is no transport of this name, and git stops.
const REFUSED_TRANSPORT: &str = "shipway-refuses-the-real-heroku";
/// What git runs in its place, by an alias: it gets the remote's name and address, and says why git stops.
const REFUSAL: &str = concat!(
    "!refuse() { app=${2##*[/:]}; printf '%s\\n' \"error: git would have gone to the real Heroku: $2\"",
    " 'hint: Shipway has git stop there, so that nothing goes to the real Heroku by mistake'",
    " 'hint: see where the remotes of this checkout lead: shipway doctor'",
    " \"hint: have the remote heroku lead to your own server: shipway heroku git:remote -a ${app%.git}\"",
    " 'hint: to the real one all the same: shipway env --uninstall, and a shell without shipway env'",
    " >&2; exit 1; }; refuse",
);
const BLOCK_BEGIN: &str = "shipway.server";
const BLOCK_END: &str = "shipway.end";

/// Switches that keep the CLI's background traffic at home.
const QUIET: [(&str, &str); 5] = [
    ("DISABLE_TELEMETRY", "true"),
    ("HEROKU_SKIP_ANALYTICS", "1"),
    ("HEROKU_DISABLE_AUTOUPDATE", "1"),
    ("HEROKU_SKIP_NEW_VERSION_CHECK", "true"),
    ("HEROKU_NETRC_WRITE", "true"),
];

/// Variables that would lead elsewhere or send a header of another account.
const STRAY: [&str; 3] = ["HEROKU_HEADERS", "HEROKU_PARTICLEBOARD_HEADERS", "HEROKU_DATA_CONTROL_PLANE"];

/// Files and lines that the profile names.
#[derive(Debug, Clone)]
pub struct Files {
    /// For `NODE_EXTRA_CA_CERTS`; none when nothing has to be added.
    pub node: Option<String>,
    /// The server's own authority alone, for git's setting of our address.
    pub authority: Option<String>,
    /// For `GIT_SSL_CAINFO`, when that was set: it beats git's settings.
    pub git_ssl_cainfo: Option<String>,
    /// The shell line of our credential helper; `None` leaves credentials to what git is set to.
    pub helper: Option<String>,
    /// The directory of the `heroku` wrapper, when it is installed.
    pub wrapper: Option<String>,
    /// What keeps the CLI's login commands apart from the real Heroku's login.
    pub apart: Apart,
}

/// Two places that the CLI gets instead of the user's own: it knows logins of the keychain by e-mail address alone, and forgets at
/// `logout` whichever was the last, so that it would end the login of the same person at the real Heroku.
#[derive(Debug, Clone)]
pub struct Apart {
    /// A directory for `PATH`, whose programs find nothing of the CLI's in a keychain.
    pub programs: String,
    /// The CLI's data directory.
    pub data: String,
}

/// Whether the profile signs the CLI in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    /// By `HEROKU_API_KEY`.
    Token,
    /// Not at all: the CLI's own login commands refuse to run beside `HEROKU_API_KEY`.
    LoginCommands,
}

/// The exported profile.
pub fn exported(before: &Environment, account: &Account, files: &Files, sign_in: SignIn) -> Vec<Change> {
    let url = account.url.to_string();
    let host = account.url.host();
    let mut changes = vec![Change::set("HEROKU_HOST", &url)];
    changes.extend(moved(account, host, &url));
    let mut programs: Vec<&String> = files.wrapper.iter().collect();
    match sign_in {
        SignIn::Token => {
            changes.push(Change::set("HEROKU_API_KEY", &account.token));
            if before.get("HEROKU_DATA_DIR") == Some(&files.apart.data) {
                changes.push(Change::unset("HEROKU_DATA_DIR"));
            }
        }
        SignIn::LoginCommands => {
            changes.push(Change::unset("HEROKU_API_KEY"));
            changes.push(Change::set("HEROKU_DATA_DIR", &files.apart.data));
            programs.push(&files.apart.programs);
        }
    }
    if let crate::server::Server::Local(home) = &account.server {
        changes.push(Change::set("SHIPWAY_HOME", home.to_string_lossy()));
    }
    changes.extend(files.node.iter().map(|file| Change::set("NODE_EXTRA_CA_CERTS", file)));
    changes.extend(files.git_ssl_cainfo.iter().map(|file| Change::set("GIT_SSL_CAINFO", file)));
    changes.extend(git_settings(before, account, files, ""));
    changes.extend(past_the_proxy(before));
    let path = before.get("PATH").unwrap_or_default();
    programs.retain(|directory| !path.split(':').any(|entry| entry == *directory));
    if !programs.is_empty() {
        let directories: Vec<&str> = programs.into_iter().map(String::as_str).chain([path]).collect();
        changes.push(Change::set("PATH", directories.join(":")));
    }
    changes
}

/// A bridge that is open: its address and the files its tunnels are believed by.
#[derive(Debug, Clone)]
pub struct Bridge {
    /// `http://user:secret@127.0.0.1:port`.
    pub proxy: String,
    /// For `SSL_CERT_FILE`: the only authorities that the CLI believes behind a proxy.
    pub authorities: String,
    /// For `NODE_EXTRA_CA_CERTS`: what its other connections believe beside what Node has built in.
    pub extra_authorities: String,
}

/// The bridged profile: for one run of the CLI.
///
/// It takes Heroku's developer domain for the server's address even where the server is on loopback: the CLI picks its proxy by
/// that address and not by the host a command asks, so what is spared for loopback would let `telex.heroku.com` go past the bridge.
pub fn bridged(before: &Environment, account: &Account, files: &Files, bridge: &Bridge) -> Vec<Change> {
    let api = format!("api.{BRIDGED_DOMAIN}");
    let mut changes = vec![Change::set("HEROKU_HOST", BRIDGED_DOMAIN)];
    changes.extend(moved(account, &api, &format!("https://{api}")));
    // This one is opened in a browser, which knows no bridge.
    changes.push(Change::set("HEROKU_LOGIN_HOST", account.url.to_string()));
    changes.push(Change::set("HEROKU_API_KEY", &account.token));
    // Streams of logs and one-off dynos are opened past the bridge: the server's answers must name an address that is found.
    let reached_by = serde_json::json!({ "shipway-server": account.url.https_authority() });
    changes.push(Change::set("HEROKU_HEADERS", reached_by.to_string()));
    let proxy = before.filled("HTTPS_PROXY").or_else(|| before.filled("https_proxy")).unwrap_or_default();
    changes.extend(git_settings(before, account, files, if account.url.is_loopback() { "" } else { proxy }));
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        changes.push(Change::set(name, &bridge.proxy));
    }
    // What was spared from a proxy before could be a name of Heroku's, so this replaces it.
    for name in ["NO_PROXY", "no_proxy"] {
        changes.push(Change::set(name, "127.0.0.1,localhost"));
    }
    changes.push(Change::set("SSL_CERT_FILE", &bridge.authorities));
    changes.push(Change::unset("SSL_CERT_DIR"));
    changes.push(Change::set("NODE_EXTRA_CA_CERTS", &bridge.extra_authorities));
    changes
}

/// Everything apart from `HEROKU_HOST` and the token: `host` where a bare name is taken, `url` where an address is.
fn moved(account: &Account, host: &str, url: &str) -> Vec<Change> {
    let mut changes: Vec<Change> = STRAY.iter().map(|name| Change::unset(*name)).collect();
    changes.push(Change::set("HEROKU_GIT_HOST", account.url.https_authority()));
    for name in ["HEROKU_DATA_HOST", "HEROKU_POSTGRESQL_HOST", "HEROKU_REDIS_HOST", "PGDIAGNOSE_URL"] {
        changes.push(Change::set(name, host));
    }
    for name in [
        "HEROKU_PARTICLEBOARD_URL",
        "HEROKU_LOGIN_HOST",
        "HEROKU_BUILDPACK_REGISTRY_URL",
        "HEROKU_STATUS_HOST",
        "HEROKU_ANALYTICS_URL",
        "SSO_URL",
    ] {
        changes.push(Change::set(name, url));
    }
    changes.push(Change::set("HEROKU_EXEC_URL", account.url.https()));
    changes.push(Change::set("HEROKU_CI_WEBSOCKET_URL", format!("wss://{}", account.url.https_authority())));
    changes.extend(QUIET.iter().map(|(name, value)| Change::set(*name, *value)));
    changes
}

/// Git's settings for our address alone, after those that the environment had (`GIT_CONFIG_COUNT`, git-config(1)).
///
/// They stand between two marks; a second evaluation takes the first one's out again.
fn git_settings(before: &Environment, account: &Account, files: &Files, proxy: &str) -> Vec<Change> {
    let count = before.get("GIT_CONFIG_COUNT").and_then(|n| n.parse::<usize>().ok()).unwrap_or(0).min(10_000);
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut ours = false;
    for i in 0..count {
        let key = before.get(&format!("GIT_CONFIG_KEY_{i}")).unwrap_or_default().to_owned();
        let value = before.get(&format!("GIT_CONFIG_VALUE_{i}")).unwrap_or_default().to_owned();
        match key.as_str() {
            BLOCK_BEGIN => ours = true,
            BLOCK_END => ours = false,
            _ if ours => {}
            _ => entries.push((key, value)),
        }
    }

    entries.push((BLOCK_BEGIN.to_owned(), account.url.to_string()));
    entries.extend(git_ways(account, files, proxy));
    entries.extend(git_refusals());
    entries.push((BLOCK_END.to_owned(), "true".to_owned()));

    let mut changes = vec![Change::set("GIT_CONFIG_COUNT", entries.len().to_string())];
    for (i, (key, value)) in entries.iter().enumerate() {
        changes.push(Change::set(format!("GIT_CONFIG_KEY_{i}"), key));
        changes.push(Change::set(format!("GIT_CONFIG_VALUE_{i}"), value));
    }
    for i in entries.len()..count {
        changes.push(Change::unset(format!("GIT_CONFIG_KEY_{i}")));
        changes.push(Change::unset(format!("GIT_CONFIG_VALUE_{i}")));
    }
    changes
}

/// Git's settings for the server's address: whom to believe, by which proxy, with which token.
pub fn git_ways(account: &Account, files: &Files, proxy: &str) -> Vec<(String, String)> {
    let https = account.url.https();
    let mut entries = Vec::new();
    entries.extend(files.authority.iter().map(|file| (format!("http.{https}/.sslCAInfo"), file.clone())));
    entries.push((format!("http.{https}/.proxy"), proxy.to_owned()));
    if let Some(helper) = &files.helper {
        // Helpers run in order; the empty one forgets those before it.
        entries.push((format!("credential.{https}.helper"), String::new()));
        entries.push((format!("credential.{https}.helper"), helper.clone()));
    }
    entries
}

/// Git's settings with which a push or fetch that would go to the real Heroku stops, and says so.
pub fn git_refusals() -> Vec<(String, String)> {
    let real = [
        "https://git.heroku.com/",
        "http://git.heroku.com/",
        "git@heroku.com:",
        "heroku.com:",
        "ssh://git@heroku.com/",
        "ssh://git@heroku.com:22/",
        "ssh://heroku.com/",
    ];
    let mut entries = vec![(format!("alias.remote-{REFUSED_TRANSPORT}"), REFUSAL.to_owned())];
    entries.extend(real.map(|real| (format!("url.{REFUSED_TRANSPORT}::{real}.insteadOf"), real.to_owned())));
    // An address with a user, a port or capitals begins otherwise; git sets these aside where it looks for a proxy. There is
    // none of this name, and never will be (RFC 2606).
    let nowhere = format!("http://{REFUSED_TRANSPORT}.invalid:9");
    entries.extend(["https", "http"].map(|scheme| (format!("http.{scheme}://git.heroku.com.proxy"), nowhere.clone())));
    entries
}

/// Keeps loopback out of the proxy that was set, if one was.
fn past_the_proxy(before: &Environment) -> Vec<Change> {
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    if !proxies.iter().any(|name| before.filled(name).is_some()) {
        return Vec::new();
    }
    let mut entries: Vec<&str> = Vec::new();
    for list in [before.get("no_proxy"), before.get("NO_PROXY"), Some("127.0.0.1,localhost")].into_iter().flatten() {
        for entry in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
    }
    let value = entries.join(",");
    vec![Change::set("NO_PROXY", &value), Change::set("no_proxy", &value)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Route;
    use crate::server::Server;
    use std::path::PathBuf;

    fn account(url: &str) -> Account {
        let home = PathBuf::from("/srv/shipway");
        Account {
            server: Server::Local(home.clone()),
            url: url.parse().unwrap(),
            token: "token".into(),
            email: "you@example.org".into(),
            authority: None,
            route: Route::Socket(home),
        }
    }

    fn files() -> Files {
        Files {
            node: Some("/c/node.pem".into()),
            authority: Some("/c/ca.pem".into()),
            git_ssl_cainfo: None,
            helper: Some("!'/bin/shipway' credential".into()),
            wrapper: Some("/h/.shipway/bin".into()),
            apart: Apart { programs: "/c/login/bin".into(), data: "/c/login/data".into() },
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn evaluating_twice_is_the_same_as_once() {
        let before = environment(&[
            ("PATH", "/usr/bin"),
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "user.name"),
            ("GIT_CONFIG_VALUE_0", "Ada"),
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("no_proxy", "corp"),
        ]);
        let once = before.after(&exported(&before, &account("http://127.0.0.1:5000"), &files(), SignIn::Token));
        let twice = once.after(&exported(&once, &account("http://127.0.0.1:5000"), &files(), SignIn::Token));
        assert_eq!(format!("{once:?}"), format!("{twice:?}"));
        assert_eq!(once.get("GIT_CONFIG_VALUE_0"), Some("Ada"));
        assert_eq!(once.get("NO_PROXY"), Some("corp,127.0.0.1,localhost"));
        assert_eq!(once.get("PATH"), Some("/h/.shipway/bin:/usr/bin"));
    }

    #[test]
    fn another_server_takes_the_place_of_the_first() {
        let before = environment(&[]);
        let first = before.after(&exported(&before, &account("http://127.0.0.1:5000"), &files(), SignIn::Token));
        let login = Files { helper: None, ..files() };
        let second = first.after(&exported(&first, &account("http://127.0.0.1:6000"), &login, SignIn::LoginCommands));
        let text = format!("{second:?}");
        assert!(!text.contains("5000"), "{text}");
        assert_eq!(second.get("HEROKU_API_KEY"), None);
        assert_eq!(second.get("HEROKU_DATA_DIR"), Some("/c/login/data"));
        assert_eq!(second.get("PATH"), Some("/c/login/bin:/h/.shipway/bin:"));
        let count: usize = second.get("GIT_CONFIG_COUNT").unwrap().parse().unwrap();
        assert_eq!(second.get(&format!("GIT_CONFIG_KEY_{count}")), None);
        let third = second.after(&exported(&second, &account("http://127.0.0.1:6000"), &files(), SignIn::Token));
        assert_eq!(third.get("HEROKU_DATA_DIR"), None);
    }

    #[test]
    fn the_exported_profile_leaves_other_programs_alone() {
        let before = environment(&[("PATH", "/usr/bin"), ("SSL_CERT_FILE", "/corp.pem")]);
        let files = Files { wrapper: None, ..files() };
        for change in exported(&before, &account("http://127.0.0.1:5000"), &files, SignIn::Token) {
            let (Change::Set(name, _) | Change::Unset(name)) = &change;
            let ours = ["HEROKU_", "SHIPWAY_", "GIT_CONFIG_"].iter().any(|prefix| name.starts_with(prefix))
                || ["DISABLE_TELEMETRY", "NODE_EXTRA_CA_CERTS", "PGDIAGNOSE_URL", "SSO_URL"].contains(&name.as_str());
            assert!(ours, "{change:?}");
        }
    }

    #[test]
    fn a_bridged_run_names_no_host_of_its_own_and_spares_none() {
        let before = environment(&[("NO_PROXY", "*"), ("SSL_CERT_DIR", "/etc/ssl/certs"), ("HEROKU_HEADERS", "{}")]);
        let bridge = Bridge {
            proxy: "http://shipway:s@127.0.0.1:9".into(),
            authorities: "/t/ca.pem".into(),
            extra_authorities: "/t/x.pem".into(),
        };
        let mut remote = account("https://paas.example.org");
        remote.server = Server::Remote(remote.url.clone());
        let after = before.after(&bridged(&before, &remote, &files(), &bridge));
        let check = |name: &str, expected: Option<&str>| assert_eq!(after.get(name), expected, "{name}");
        check("HEROKU_HOST", Some("paas.herokudev.com"));
        check("HEROKU_GIT_HOST", Some("paas.example.org"));
        check("HTTPS_PROXY", Some("http://shipway:s@127.0.0.1:9"));
        check("NO_PROXY", Some("127.0.0.1,localhost"));
        check("SSL_CERT_FILE", Some("/t/ca.pem"));
        check("SSL_CERT_DIR", None);
        check("HEROKU_HEADERS", Some(r#"{"shipway-server":"paas.example.org"}"#));
    }
}
