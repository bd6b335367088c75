//! `shipway checks`: what CI says of a commit, where no forge tells the server.

use super::segment;
use crate::Context;
use crate::error::{Error, Result};
use crate::terminal::{printable, text};
use serde_json::json;

/// The flags of `checks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline
    pipeline: String,
    /// The commit, or a name that git has for it here, such as HEAD
    commit: String,
    /// What all its checks say together
    #[arg(value_parser = ["pending", "succeeded", "failed"])]
    state: String,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let path = format!("/shipway/v1/pipelines/{}/checks", segment("pipeline", &args.pipeline)?);
    let whole = args.commit.len() == 40 && args.commit.bytes().all(|b| b.is_ascii_hexdigit());
    let commit = if whole { args.commit.to_ascii_lowercase() } else { named(&args.commit)? };
    let client = context.account().await?.client();
    let answer = client.post(&path, &json!({ "commit": commit, "state": args.state })).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let short: String = text(&answer, &["commit"]).chars().take(7).collect();
    context.terminal.say(&format!("{}: checks of {short} {}.\n", args.pipeline, said(&args.state)))
}

fn said(state: &str) -> &'static str {
    match state {
        "succeeded" => "have passed",
        "failed" => "have failed",
        _ => "run",
    }
}

/// The whole id of a commit that the checkout we stand in has a name for. Errors: it has none.
fn named(name: &str) -> Result<String> {
    crate::git::commit(name).ok_or_else(|| {
        Error::new(format!("git knows no commit {:?} here", printable(&name.chars().take(80).collect::<String>())))
            .hint("give its 40 digits, or stand in the checkout that has it")
    })
}
