//! `shipway reviewapps`: what the Heroku CLI has no command for.

use super::{items, review_settings, segment, table, tone};
use crate::error::{Error, Result};
use crate::terminal::{Cell, Tone, age, text};
use crate::{Context, http::Client};
use http::Method;
use serde_json::{Value, json};

/// The flags of `reviewapps`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: List,
}

/// What is done; without a word they are listed.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// List review apps, as without a word
    List(List),
    /// Remove a review app and all that it owned
    Destroy(One),
    /// Build the present commit of a fork's pull request; it gets none of the parent's config vars
    Allow(Allow),
    /// Put the review apps of a pipeline behind a password (user name: review), read from the first line of the input
    Password(Password),
    /// Show or change how the review apps of a pipeline are made
    Set(review_settings::Args),
}

#[derive(Debug, clap::Args)]
struct List {
    /// The pipeline; without one, all of yours
    #[arg(short, long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct One {
    /// The pipeline
    #[arg(short, long, value_name = "NAME")]
    pipeline: String,
    /// Its app's name, its branch, or the number of its pull request
    which: String,
}

#[derive(Debug, clap::Args)]
struct Allow {
    /// The pipeline
    #[arg(short, long, value_name = "NAME")]
    pipeline: String,
    /// The number of the pull request
    number: u64,
}

#[derive(Debug, clap::Args)]
struct Password {
    /// The pipeline
    #[arg(short, long, value_name = "NAME")]
    pipeline: String,
    /// Open them to everybody again
    #[arg(long)]
    off: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let client = context.account().await?.client();
    match &args.what {
        None => list(&args.list, &client, context).await,
        Some(What::List(args)) => list(args, &client, context).await,
        Some(What::Destroy(args)) => destroy(args, &client, context).await,
        Some(What::Allow(args)) => allow(args, &client, context).await,
        Some(What::Password(args)) => password(args, &client, context).await,
        Some(What::Set(args)) => review_settings::run(args, &client, context).await,
    }
}

async fn list(args: &List, client: &Client, context: &Context) -> Result<()> {
    let pipelines = match &args.pipeline {
        Some(name) => vec![segment("pipeline", name)?],
        None => items(&client.get("/pipelines").await?).iter().map(|pipeline| text(pipeline, &["name"])).collect(),
    };
    let mut all = Vec::new();
    for pipeline in &pipelines {
        let path = format!("/shipway/v1/pipelines/{}/review-apps", segment("pipeline", pipeline)?);
        let answer = client.get(&path).await?;
        all.extend(items(&answer).into_iter().map(|review| (pipeline.clone(), review.clone())));
    }
    if args.json {
        return context.terminal.json(&all.into_iter().map(|(_, review)| review).collect());
    }
    let now = jiff::Timestamp::now();
    let row = |(pipeline, review): &(String, Value)| {
        let state = text(review, &["status"]);
        let tone = tone(&state);
        let what = match review["pr_number"].as_u64() {
            Some(number) => format!("#{number} {}", text(review, &["title"])),
            None => text(review, &["branch"]),
        };
        let message = text(review, &["message"]);
        let note = if message.is_empty() { text(review, &["web_url"]) } else { message };
        let mut cells = vec![
            text(review, &["app_name"]).into(),
            what.trim_end().to_string().into(),
            Cell::new(state, tone),
            Cell::new(age(&text(review, &["updated_at"]), now), Tone::Quiet),
            on_one_line(&note).into(),
        ];
        if args.pipeline.is_none() {
            cells.insert(1, pipeline.clone().into());
        }
        cells
    };
    let rows = all.iter().map(row).collect();
    let which = args.pipeline.as_deref().or(pipelines.first().map(String::as_str)).unwrap_or("PIPELINE");
    let none = format!("No review apps. Make one: heroku reviewapps:create -p {which} -b BRANCH");
    let mut heads = vec!["APP", "FOR", "STATE", "AGE", ""];
    if args.pipeline.is_none() {
        heads.insert(1, "PIPELINE");
    }
    table(context.terminal, &heads, rows, &none)
}

/// A reason that has several lines, as that of an app that lacks config vars, for a table.
fn on_one_line(note: &str) -> String {
    note.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

async fn destroy(args: &One, client: &Client, context: &Context) -> Result<()> {
    let path = format!("/shipway/v1/pipelines/{}/review-apps", segment("pipeline", &args.pipeline)?);
    let answer = client.get(&path).await?;
    let wanted = args.which.trim_start_matches('#');
    let is = |review: &&Value| {
        review["app_name"] == wanted
            || review["branch"] == wanted
            || review["pr_number"].as_u64().is_some_and(|n| n.to_string() == wanted)
    };
    let found = items(&answer).into_iter().find(is);
    let found = found.ok_or_else(|| {
        Error::new(format!("{} has no review app {:?}", args.pipeline, args.which))
            .hint(format!("`shipway reviewapps list -p {}` lists them.", args.pipeline))
    })?;
    let id = text(found, &["id"]);
    client.send(Method::DELETE, &format!("/review-apps/{}", segment("review app", &id)?), None).await?.success()?;
    context.terminal.say(&format!("Removing the review app of {}.\n", text(found, &["branch"])))
}

async fn allow(args: &Allow, client: &Client, context: &Context) -> Result<()> {
    let pipeline = segment("pipeline", &args.pipeline)?;
    let path = format!("/shipway/v1/pipelines/{pipeline}/pull-requests/{}/actions/allow", args.number);
    let answer = client.post(&path, &json!({})).await?;
    let commit: String = text(&answer, &["commit"]).chars().take(7).collect();
    context.terminal.say(&format!("Allowed: {commit} of #{} ({}).\n", args.number, text(&answer, &["fork"])))
}

async fn password(args: &Password, client: &Client, context: &Context) -> Result<()> {
    let mut line = String::new();
    if !args.off {
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|e| Error::new(format!("the password could not be read: {e}")))?;
    }
    let given = line.trim_end_matches(['\n', '\r']);
    let body = json!({ "password": (!args.off).then_some(given) });
    let pipeline = segment("pipeline", &args.pipeline)?;
    let path = format!("/shipway/v1/pipelines/{pipeline}/review-apps/password");
    client.send(Method::PUT, &path, Some(&body)).await?.success()?;
    let state = if args.off { "are open to everybody" } else { "ask for the password (user name: review)" };
    context.terminal.say(&format!("The review apps of {} {state}.\n", args.pipeline))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_reason_is_told_whole() {
        let note =
            "shop-pr-2 lacks config vars that its app.json requires:\n  API_KEY (app.json line 2): Ask Ida.\nSet them.";
        assert_eq!(
            super::on_one_line(note),
            "shop-pr-2 lacks config vars that its app.json requires: API_KEY (app.json line 2): Ask Ida. Set them."
        );
    }
}
