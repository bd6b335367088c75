//! `shipway users`.

use super::{items, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, Tone, age, printable, text};
use serde_json::json;

/// The flags of `users`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
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
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let Some(Action::Add { email, name, admin }) = &args.action else {
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
        return table(context.terminal, &["EMAIL", "NAME", "ROLE", "AGE"], rows, "No users.");
    };
    let answer = client.post("/shipway/v1/users", &json!({ "email": email, "name": name, "admin": admin })).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let url = &account.url;
    eprintln!("Added {} to {url}. Their token is printed once; they log in with", printable(email));
    eprintln!("  shipway login --server {url}");
    context.terminal.say(&format!("{}\n", printable(&text(&answer, &["token"]))))
}
