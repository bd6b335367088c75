//! `shipway login --server URL`.

use crate::address::ServerUrl;
use crate::error::{Error, Result};
use crate::http::{Client, Route};
use crate::server::{self, Server};
use crate::terminal::{printable, text};
use crate::{Context, trust};
use serde_json::json;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The flags of `login`; the server is named by `--server`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's own certificate authority (PEM), when its certificate is not publicly trusted
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Read a token from standard input instead of asking in the browser (the way without a terminal)
    #[arg(long)]
    token_stdin: bool,
}

/// For somebody to find the page, sign in and approve.
const APPROVAL_TIME: Duration = Duration::from_secs(10 * 60);

pub async fn run(args: Args, context: &Context) -> Result<()> {
    let Some(url) = context.place.server.clone() else {
        let error = match context.server() {
            Ok(Server::Local(_)) => {
                Error::new("the server on this machine needs no login: it knows you by your user id")
            }
            _ => Error::new("which server?"),
        };
        return Err(error.hint("name one elsewhere: shipway login --server https://paas.example.org"));
    };
    let authority = args.ca.as_ref().map(read_authority).transpose()?;
    let token = if args.token_stdin || !std::io::stdin().is_terminal() {
        token_of_stdin()?
    } else {
        token_of_browser(&url, authority.as_deref(), context).await?
    };
    let email = server::log_in(&url, &token, authority, &context.environment, &context.config).await?;
    eprintln!("Logged in to {url} as {}.", printable(&email));
    eprintln!("  shipway --server {url} heroku apps");
    eprintln!("So that `heroku` and `git push` lead there in every shell: shipway --server {url} env --install");
    Ok(())
}

fn read_authority(path: &PathBuf) -> Result<String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| Error::new(format!("could not read {}: {e}", path.display())))?;
    if trust::certificates(&text).is_empty() {
        return Err(Error::new(format!("{} holds no certificate in PEM form", path.display()))
            .hint("it begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(trust::joined(&[&text]))
}

fn token_of_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|e| Error::new(format!("could not read a token from standard input: {e}")))?;
    match text.trim() {
        "" => {
            Err(Error::new("standard input holds no token").hint("printf %s \"$TOKEN\" | shipway login --server URL"))
        }
        token => Ok(token.to_owned()),
    }
}

/// The Heroku CLI's own browser login: ask for a page, show it, wait at the address that answers when it was approved.
async fn token_of_browser(url: &ServerUrl, authority: Option<&str>, context: &Context) -> Result<String> {
    let route = Route::Network(server::network(url, authority, &context.environment)?);
    let asked = Client::new(route.clone(), None).post("/auth", &json!({ "description": "shipway login" })).await?;
    let (page, poll) = (text(&asked, &["browser_url"]), text(&asked, &["cli_url"]));
    if !page.starts_with('/') || !poll.starts_with('/') {
        return Err(Error::new(format!("{url} offers no login in the browser")).hint("pipe a token in: --token-stdin"));
    }
    eprintln!("Open this page to log in, then come back here:");
    eprintln!("  {url}{}", printable(&page));
    let waiter = Client::new(route, Some(text(&asked, &["token"])));
    let end = Instant::now() + APPROVAL_TIME;
    loop {
        // The server holds the request; one that ran out of time is asked again.
        match waiter.get(&poll).await {
            Ok(answer) => {
                let refusal = text(&answer, &["error"]);
                let token = text(&answer, &["access_token"]);
                if !token.is_empty() {
                    return Ok(token);
                }
                if !refusal.is_empty() {
                    return Err(Error::new(format!("the login was not approved: {}", printable(&refusal)))
                        .hint("try again, and approve it on the page; or pipe a token in: --token-stdin"));
                }
            }
            Err(e) if e.exit_code() == 2 => return Err(e),
            Err(e) if Instant::now() > end => return Err(e),
            Err(_) => {}
        }
        if Instant::now() > end {
            return Err(Error::new("nobody approved the login within ten minutes")
                .hint("try again, and open the page that is named; or pipe a token in: --token-stdin"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
