//! `shipway users`.

use super::comparison::encoded;
use super::{items, table};
use crate::Context;
use crate::error::Result;
use crate::http::Client;
use crate::server::Account;
use crate::terminal::{Cell, Tone, age, printable, text};
use serde_json::{Value, json};

/// The flags of `users`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List users, as without a word
    List,
    /// Add a user and print their token, once
    Add {
        /// The user's e-mail address
        email: String,
        /// The name that is shown beside the address
        #[arg(long)]
        name: Option<String>,
        /// May add users and see every app
        #[arg(long)]
        admin: bool,
    },
    /// Give a user who lost theirs another token, and print it, once
    Token {
        /// The user's e-mail address
        email: String,
        /// End every token and sign-in that they had; a password and SSH keys stay
        #[arg(long)]
        revoke: bool,
    },
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let Some(action) = &args.action else { return list(args, context, &client).await };
    let (path, body) = match action {
        Action::List => return list(args, context, &client).await,
        Action::Add { email, name, admin } => {
            ("/shipway/v1/users".to_owned(), json!({ "email": email, "name": name, "admin": admin }))
        }
        Action::Token { email, revoke } => {
            (format!("/shipway/v1/users/{}/tokens", encoded(email)), json!({ "revoke": revoke }))
        }
    };
    let answer = client.post(&path, &body).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    explain(action, &answer, &account);
    context.terminal.say(&format!("{}\n", printable(&text(&answer, &["token"]))))
}

async fn list(args: &Args, context: &Context, client: &Client) -> Result<()> {
    let answer = client.get("/shipway/v1/users").await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let now = jiff::Timestamp::now();
    let rows = items(&answer)
        .into_iter()
        .map(|user| {
            let role = if text(user, &["admin"]) == "true" { "admin" } else { "" };
            let since = age(&text(user, &["created_at"]), now);
            vec![
                text(user, &["email"]).into(),
                text(user, &["name"]).into(),
                role.into(),
                Cell::new(since, Tone::Quiet),
            ]
        })
        .collect();
    table(context.terminal, &["EMAIL", "NAME", "ROLE", "AGE"], rows, "No users.")
}

/// Says what was done beside the token, which alone is on standard output.
fn explain(action: &Action, answer: &Value, account: &Account) {
    let (url, email) = (&account.url, printable(&text(answer, &["email"])));
    match action {
        Action::Add { .. } => eprintln!("Added {email} to {url}. Their token is printed once; they log in with"),
        Action::Token { revoke: true, .. } => {
            let ended = answer["revoked"].as_u64().unwrap_or(0);
            let what = if ended == 1 { "token or sign-in" } else { "tokens and sign-ins" };
            eprintln!("Ended {ended} {what} of {email} at {url}. The new token is printed once; they log in with");
        }
        Action::List => return,
        Action::Token { .. } => eprintln!("A new token for {email} at {url}, printed once; they log in with"),
    }
    eprintln!("  shipway login --server {url}");
}
