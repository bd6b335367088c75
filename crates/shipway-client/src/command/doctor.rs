//! `shipway doctor`.

use super::comparison::names;
use super::heroku::find_cli;
use super::install::{self, WRAPPER, wrapper_directory};
use super::items;
use crate::Context;
use crate::address::ServerUrl;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::finding::{Finding, Level};
use crate::git::{self, Leads, Remote};
use crate::server::{Account, Server};
use crate::terminal::{Cell, Tone, printable, text};
use http::{Method, StatusCode};
use serde_json::Value;
use std::io::Read;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The oldest Node.js that the Heroku CLI runs on (its `package.json`, `engines`, version 11). Debian 12 has 18.
const NODE: u32 = 20;

/// Exit code 1 when there is a problem, 0 otherwise.
pub async fn run(context: &Context, machine: Vec<Finding>) -> Result<ExitCode> {
    let mut findings = machine;
    match context.account().await {
        Ok(account) => {
            if let Server::Remote(_) = account.server {
                // What this machine could run is not the question.
                findings.clear();
            }
            let whose = match &account.server {
                Server::Local(home) => {
                    format!("the server is {} (data in {}), you are {}", account.url, home.display(), account.email)
                }
                Server::Remote(url) => format!("the server is {url}, you are {}", account.email),
            };
            findings.push(Finding::new(Level::Good, whose));
            findings.push(cli(context));
            let program = context.program(&account.server);
            let wrapper = wrapper(context, &program);
            // It goes its own way, whatever the variables say.
            if wrapper.level != Level::Good {
                findings.push(shell(&context.environment, &account.url, &program));
            }
            findings.push(wrapper);
            findings.push(git_settings(context, &program));
            findings.extend(git::remotes().iter().map(|remote| checkout(remote, &account.url)));
            findings.extend(hosts(&account).await);
            findings.extend(of_server(&account).await.unwrap_or_else(|error| vec![no_server(error)]));
        }
        Err(error) => findings.push(no_server(error)),
    }
    show(context, &findings)?;
    let broken = findings.iter().any(|f| f.level == Level::Problem);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn no_server(error: Error) -> Finding {
    error.hints().iter().fold(Finding::new(Level::Problem, error.to_string()), |f, hint| f.next(hint))
}

/// Whether there is a Heroku CLI, and a Node.js that it runs on.
fn cli(context: &Context) -> Finding {
    let path = match find_cli(&context.environment, wrapper_directory(context).as_deref()) {
        Ok(path) => path,
        Err(error) => {
            let missing = Finding::new(Level::Note, error.to_string());
            return error.hints().iter().fold(missing, |f, hint| f.next(hint));
        }
    };
    let node = needs_node(&path).then(node_version).flatten();
    cli_on_node(&path, node.as_deref())
}

/// Whether a program is a script that the Node.js on PATH runs; the CLI's own packages bring theirs.
fn needs_node(program: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(program).and_then(|file| file.take(64).read_to_end(&mut start));
    let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    read.is_ok() && first.starts_with(b"#!/usr/bin/env ") && first.windows(4).any(|word| word == b"node")
}

/// What `node --version` says, such as `v18.20.4`.
fn node_version() -> Option<String> {
    let output = Command::new("node").arg("--version").output().ok()?;
    Some(printable(String::from_utf8(output.stdout).ok()?.trim()))
}

fn cli_on_node(path: &Path, node: Option<&str>) -> Finding {
    let major = node.and_then(|version| version.trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    let path = printable(&path.to_string_lossy());
    match (node, major) {
        (Some(version), Some(major)) if major < NODE => {
            let what = format!("the Heroku CLI {path} runs on Node.js {version}, and needs {NODE}: most commands fail");
            Finding::new(Level::Warning, what)
                .next("one with a Node.js of its own: curl https://cli-assets.heroku.com/install.sh | sh")
        }
        _ => Finding::new(Level::Good, format!("the Heroku CLI is {path}")),
    }
}

/// Where `heroku`, typed in this shell, leads by its variables.
fn shell(environment: &Environment, server: &ServerUrl, program: &str) -> Finding {
    const DOMAINS: [&str; 4] = ["heroku.com", "herokai.com", "herokuspace.com", "herokudev.com"];
    let key = environment.filled("HEROKU_API_KEY").is_some();
    // Variables cannot point the CLI at a server elsewhere.
    let eval =
        if server.is_loopback() { format!("eval \"$({program} env)\"") } else { format!("{program} env --install") };
    let Some(host) = environment.filled("HEROKU_HOST") else {
        let what = "this shell's `heroku` leads to the real Heroku: HEROKU_HOST is not set";
        return Finding::new(Level::Warning, what).next(eval);
    };
    let shown = printable(host);
    if host == server.to_string() {
        return if key {
            Finding::new(Level::Good, format!("this shell's `heroku` leads to {server}"))
        } else {
            Finding::new(Level::Note, format!("this shell's `heroku` leads to {server}, as whom `heroku login` says"))
        };
    }
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    if DOMAINS.iter().any(|d| bare == *d || bare.ends_with(&format!(".{d}"))) {
        return Finding::new(
            Level::Warning,
            format!("this shell's `heroku` leads to the real Heroku: HEROKU_HOST={shown}"),
        )
        .next(eval);
    }
    if bare.contains("localhost") || bare.contains("127.0.0.1") {
        return Finding::new(Level::Warning, format!("this shell's `heroku` leads to {shown}, not to {server}"))
            .next(eval);
    }
    Finding::new(
        Level::Warning,
        format!("the Heroku CLI does not believe HEROKU_HOST={shown} and uses the real Heroku instead"),
    )
    .next(eval)
}

fn wrapper(context: &Context, program: &str) -> Finding {
    let installed = wrapper_directory(context).filter(|d| d.join(WRAPPER).exists());
    let Some(directory) = installed else {
        return Finding::new(
            Level::Note,
            "no `heroku` wrapper is installed: a new shell's `heroku` leads to the real Heroku",
        )
        .next(format!("{program} env --install"));
    };
    let path = context.environment.get("PATH").unwrap_or_default();
    let first = std::env::split_paths(path).find(|d| d.join(WRAPPER).exists());
    if first.as_deref() == Some(directory.as_path()) {
        return Finding::new(Level::Good, "`heroku` is Shipway's wrapper: it leads to your server in every shell");
    }
    Finding::new(Level::Warning, "the `heroku` wrapper is installed, but another `heroku` comes first in PATH")
        .next("export PATH=\"$HOME/.shipway/bin:$PATH\"")
}

fn git_settings(context: &Context, program: &str) -> Finding {
    if install::git_is_held(context) {
        return Finding::new(Level::Good, "git stops before the real Heroku in every shell");
    }
    let what = "git stops before the real Heroku only where `shipway env` was evaluated";
    Finding::new(Level::Note, what).next(format!("{program} env --install"))
}

/// An address without its user and what may be a password.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", host.rsplit('@').next().unwrap_or(host))
}

fn checkout(remote: &Remote, server: &ServerUrl) -> Finding {
    let (name, url) = (printable(&remote.name), printable(&without_user(&remote.url)));
    match git::leads(&remote.url, server) {
        Leads::Here(app) => {
            Finding::new(Level::Good, format!("the remote {name} leads to the app {} here", printable(&app)))
        }
        Leads::Elsewhere => Finding::new(Level::Good, format!("the remote {name} leads elsewhere: {url}")),
        Leads::RealHeroku => {
            let app = remote.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
            let app = app.strip_suffix(".git").unwrap_or(app);
            Finding::new(Level::Warning, format!("the remote {name} leads to the real Heroku: {url}")).next(format!(
                "git remote set-url {name} {}/{}.git",
                server.https(),
                printable(app)
            ))
        }
    }
}

/// What the server itself knows.
async fn of_server(account: &Account) -> Result<Vec<Finding>> {
    let answer = account.client().send(Method::GET, "/shipway/v1/findings", None).await?;
    if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN) {
        // A server of a version that knows nothing, or a token that may not ask.
        return Ok(Vec::new());
    }
    // This machine's own disk is told already.
    let told = |about: &str| about == "disk" && matches!(account.server, Server::Local(_));
    let found = answer.success()?;
    Ok(items(&found).into_iter().filter(|one| !told(&text(one, &["about"]))).map(known_there).collect())
}

fn known_there(found: &Value) -> Finding {
    let level = if text(found, &["level"]) == "problem" { Level::Problem } else { Level::Warning };
    let what = Finding::new(level, printable(&text(found, &["what"])));
    names(&found["next"]).into_iter().fold(what, Finding::next)
}

/// The lines for `/etc/hosts` of apps whose names programs other than browsers and curl cannot find.
async fn hosts(account: &Account) -> Option<Finding> {
    let apps = account.client().get("/apps").await.ok()?;
    let names: Vec<String> = items(&apps)
        .into_iter()
        .filter_map(|app| text(app, &["web_url"]).split_once("://").map(|(_, rest)| rest.to_owned()))
        .filter_map(|rest| rest.split(['/', ':']).next().map(printable))
        .filter(|host| host.ends_with(".localhost"))
        .filter(|host| (host.as_str(), 80).to_socket_addrs().is_err())
        .collect();
    if names.is_empty() {
        return None;
    }
    let what = "browsers and curl find the apps by name; other programs need these lines in /etc/hosts";
    let finding = Finding::new(Level::Note, what);
    Some(names.iter().fold(finding, |f, name| f.next(format!("127.0.0.1 {name}"))))
}

fn show(context: &Context, findings: &[Finding]) -> Result<()> {
    let mut out = String::new();
    let width = findings.iter().map(|f| f.level.word().len()).max().unwrap_or(0);
    for finding in findings {
        let tone = if finding.level >= Level::Warning { Tone::Accent } else { Tone::Quiet };
        let word = format!("{:width$}", finding.level.word());
        out.push_str(&context.terminal.columns(&[vec![Cell::new(word, tone), Cell::from(&finding.what)]]));
        for line in &finding.next {
            out.push_str(&format!("{:width$}    {}\n", "", printable(line)));
        }
    }
    context.terminal.say(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_an_address_is_not_shown() {
        let check = |url: &str, expected: &str| assert_eq!(without_user(url), expected);
        check("https://heroku:token@git.heroku.com/blog.git", "https://git.heroku.com/blog.git");
        check("https://a:b@c@example.org", "https://example.org");
        check("https://example.org/@team/blog.git", "https://example.org/@team/blog.git");
        check("git@example.org:blog.git", "git@example.org:blog.git");
    }

    #[test]
    fn a_node_too_old_for_the_heroku_cli_is_said() {
        let check = |node: Option<&str>, expected: Level| {
            assert_eq!(cli_on_node(Path::new("/usr/local/bin/heroku"), node).level, expected, "{node:?}");
        };
        check(Some("v18.20.4"), Level::Warning);
        check(Some("v20.0.0"), Level::Good);
        check(Some("v100.1.2"), Level::Good);
        check(None, Level::Good);
    }

    #[cfg(unix)]
    #[test]
    fn a_cli_that_brings_its_node_is_told_from_one_that_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: bool| {
            let path = directory.path().join("heroku");
            std::fs::write(&path, text).unwrap();
            assert_eq!(needs_node(&path), expected, "{text}");
        };
        check("#!/usr/bin/env -S node --no-deprecation\n", true);
        check("#!/usr/bin/env node\n", true);
        check("#!/usr/bin/env bash\nexec /usr/local/lib/heroku/bin/node run.js\n", false);
        check("\u{7f}ELF", false);
    }

    #[test]
    fn the_shell_leads_where_the_cli_would_go() {
        let server = "http://127.0.0.1:5000".parse().unwrap();
        let check = |pairs: &[(&str, &str)], level: Level, words: &str| {
            let finding = shell(&pairs.iter().copied().collect(), &server, "shipway");
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
        };
        let ours = ("HEROKU_HOST", "http://127.0.0.1:5000");
        check(&[ours, ("HEROKU_API_KEY", "x")], Level::Good, "leads to http://127.0.0.1:5000");
        check(&[ours], Level::Note, "heroku login");
        check(&[], Level::Warning, "real Heroku");
        check(&[("HEROKU_HOST", "http://127.0.0.1:5001")], Level::Warning, "not to");
        check(&[("HEROKU_HOST", "http://127.0.0.l:5000")], Level::Warning, "does not believe");
        check(&[("HEROKU_HOST", "heroku.com")], Level::Warning, "real Heroku");
        let elsewhere = "https://paas.example.org".parse().unwrap();
        let next = |server| shell(&Environment::default(), server, "shipway --home /srv/a").next;
        assert_eq!(next(&elsewhere), ["shipway --home /srv/a env --install"]);
        assert_eq!(next(&server), [r#"eval "$(shipway --home /srv/a env)""#]);
    }

    #[test]
    fn what_the_server_knows_is_said_with_what_to_type() {
        let found = serde_json::json!({
            "level": "problem", "about": "slug", "what": "shop: \u{1b}[2Jdamaged", "next": ["git push heroku main"],
        });
        let finding = known_there(&found);
        assert_eq!((finding.level, finding.what.as_str()), (Level::Problem, "shop: \\u{1b}[2Jdamaged"));
        assert_eq!(finding.next, ["git push heroku main"]);
        assert_eq!(known_there(&serde_json::json!({ "level": "warning", "what": "x" })).level, Level::Warning);
    }

    #[test]
    fn a_remote_at_the_real_heroku_gets_the_line_that_repoints_it() {
        let server = "http://127.0.0.1:5000".parse().unwrap();
        let remote = Remote { name: "heroku".into(), url: "https://git.heroku.com/shop.git".into() };
        assert_eq!(checkout(&remote, &server).next, ["git remote set-url heroku https://127.0.0.1:5000/shop.git"]);
    }
}
