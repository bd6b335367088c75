//! `shipway users`.

use super::comparison::{encoded, names};
use super::{items, table};
use crate::Context;
use crate::error::Result;
use crate::http::Client;
use crate::server::Account;
use crate::terminal::{Cell, Tone, age, printable, text};
use http::Method;
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
    /// Remove a user for good: every token, sign-in, key and right of theirs ends at once; what they did stays on record
    Remove {
        /// The user's e-mail address
        email: String,
        /// Who gets the apps, pipelines, products and teams that are theirs
        #[arg(long, value_name = "EMAIL")]
        give_to: Option<String>,
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
        Action::Remove { email, give_to } => {
            return remove(args, context, &account, email, give_to.as_deref()).await;
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

async fn remove(args: &Args, context: &Context, account: &Account, email: &str, give_to: Option<&str>) -> Result<()> {
    let query = give_to.map_or_else(String::new, |to| format!("?give_to={}", encoded(to)));
    let path = format!("/shipway/v1/users/{}{query}", encoded(email));
    let answer = account.client().send(Method::DELETE, &path, None).await?.success()?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let mut said = format!(
        "Removed {} from {}. Every token, sign-in, key and right of theirs has ended.\n",
        printable(&text(&answer, &["email"])),
        account.url
    );
    let owned = ["apps", "pipelines", "products", "teams"].into_iter().filter_map(|kind| {
        let names = names(&answer[kind]).join(", ");
        (!names.is_empty()).then(|| format!("{kind} {names}"))
    });
    let owned: Vec<String> = owned.collect();
    if !owned.is_empty() {
        let to = printable(&text(&answer, &["given_to"]));
        said += &format!("{to} has what was theirs: {}.\n", printable(&owned.join("; ")));
    }
    context.terminal.say(&said)
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
        Action::List | Action::Remove { .. } => return,
        Action::Token { .. } => eprintln!("A new token for {email} at {url}, printed once; they log in with"),
    }
    eprintln!("  shipway login --server {url}");
}
