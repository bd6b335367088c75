//! `shipway pipelines set`: what a pipeline allows. Everything else of pipelines is the Heroku CLI's.

use super::segment;
use crate::Context;
use crate::error::Result;
use crate::terminal::text;
use http::Method;
use serde_json::json;

/// The flags of `pipelines`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

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
    let Action::Set { pipeline, may_skip_stages } = &args.action;
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
