//! `shipway pipelines [set]`: what a pipeline allows. Everything else of pipelines is the Heroku CLI's.

use super::{items, segment, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::text;
use http::Method;
use serde_json::{Value, json};

/// The flags of `pipelines`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What is done; without a word they are listed.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show or change what a pipeline allows
    Set {
        /// The pipeline
        pipeline: String,
        /// Whether a promotion may leave out a stage, with a reason
        #[arg(long, value_name = "YES|NO", value_parser = yes)]
        may_skip_stages: Option<bool>,
    },
}

/// A flag's `yes` or `no`, or `true` or `false`.
pub(super) fn yes(text: &str) -> std::result::Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("say yes or no".into()),
    }
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let client = context.account().await?.client();
    let Some(Action::Set { pipeline, may_skip_stages }) = &args.action else {
        let answer = client.get("/pipelines").await?;
        return if args.json { context.terminal.json(&answer) } else { list(&answer, context) };
    };
    let path = format!("/shipway/v1/pipelines/{}/settings", segment("pipeline", pipeline)?);
    let answer = match may_skip_stages {
        None => client.get(&path).await?,
        Some(allowed) => {
            let change = json!({ "may_skip_stages": allowed });
            client.send(Method::PATCH, &path, Some(&change)).await?.success()?
        }
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    let allowed = if text(&answer, &["may_skip_stages"]) == "true" { "may" } else { "may not" };
    context.terminal.say(&format!("{pipeline}: a promotion {allowed} leave out a stage.\n"))
}

fn list(answer: &Value, context: &Context) -> Result<()> {
    let row = |pipeline: &Value| {
        let name = text(pipeline, &["name"]);
        let allows = format!("shipway pipelines set {name}");
        vec![name.into(), allows.into()]
    };
    let rows = items(answer).into_iter().map(row).collect();
    let none = "No pipelines. Make one: heroku pipelines:create NAME -a APP -s staging";
    table(context.terminal, &["PIPELINE", "WHAT IT ALLOWS"], rows, none)
}
