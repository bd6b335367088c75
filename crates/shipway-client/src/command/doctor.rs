//! `shipway doctor`.

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
use std::net::ToSocketAddrs;
use std::process::ExitCode;

/// Exit code 1 when there is a problem, 0 otherwise.
pub async fn run(context: &Context, machine: Vec<Finding>) -> Result<ExitCode> {
    let mut findings = machine;
    match context.account().await {
        Ok(account) => {
            let whose = match &account.server {
                Server::Local(home) => {
                    format!("the server is {} (data in {}), you are {}", account.url, home.display(), account.email)
                }
                Server::Remote(url) => format!("the server is {url}, you are {}", account.email),
            };
            findings.push(Finding::new(Level::Good, whose));
            findings.push(shell(&context.environment, &account.url));
            findings.push(wrapper(context));
            findings.push(git_settings(context));
            findings.extend(git::remotes().iter().map(|remote| checkout(remote, &account.url)));
            findings.extend(hosts(&account).await);
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

/// Where `heroku`, typed in this shell, leads by its variables.
fn shell(environment: &Environment, server: &ServerUrl) -> Finding {
    const DOMAINS: [&str; 4] = ["heroku.com", "herokai.com", "herokuspace.com", "herokudev.com"];
    let key = environment.filled("HEROKU_API_KEY").is_some();
    let eval = r#"eval "$(shipway env)""#;
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

fn wrapper(context: &Context) -> Finding {
    let installed = wrapper_directory(context).filter(|d| d.join(WRAPPER).exists());
    let Some(directory) = installed else {
        return Finding::new(
            Level::Note,
            "no `heroku` wrapper is installed: a new shell's `heroku` leads to the real Heroku",
        )
        .next("shipway env --install");
    };
    let path = context.environment.get("PATH").unwrap_or_default();
    let first = std::env::split_paths(path).find(|d| d.join(WRAPPER).exists());
    if first.as_deref() == Some(directory.as_path()) {
        return Finding::new(Level::Good, "`heroku` is Shipway's wrapper: it leads to your server in every shell");
    }
    Finding::new(Level::Warning, "the `heroku` wrapper is installed, but another `heroku` comes first in PATH")
        .next("export PATH=\"$HOME/.shipway/bin:$PATH\"")
}

fn git_settings(context: &Context) -> Finding {
    if install::git_is_held(context) {
        return Finding::new(Level::Good, "git stops before the real Heroku in every shell");
    }
    let what = "git stops before the real Heroku only where `shipway env` was evaluated";
    Finding::new(Level::Note, what).next("shipway env --install")
}

fn checkout(remote: &Remote, server: &ServerUrl) -> Finding {
    let (name, url) = (printable(&remote.name), printable(&remote.url));
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
    fn the_shell_leads_where_the_cli_would_go() {
        let server = "http://127.0.0.1:5000".parse().unwrap();
        let check = |pairs: &[(&str, &str)], level: Level, words: &str| {
            let finding = shell(&pairs.iter().copied().collect(), &server);
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
    }

    #[test]
    fn a_remote_at_the_real_heroku_gets_the_line_that_repoints_it() {
        let server = "http://127.0.0.1:5000".parse().unwrap();
        let remote = Remote { name: "heroku".into(), url: "https://git.heroku.com/shop.git".into() };
        assert_eq!(checkout(&remote, &server).next, ["git remote set-url heroku https://127.0.0.1:5000/shop.git"]);
    }
}
