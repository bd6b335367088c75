//! `shipway sign-offs [require]` and `shipway sign-off`.

use super::comparison::items;
use super::{only_pipeline, segment, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, age, name_of, printable, text};
use http::Method;
use serde_json::{Value, json};

/// The flags of `sign-offs`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The pipeline
    pipeline: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What is done; without a word they are listed.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Have a stage take only code that all of these parties have signed off
    Require {
        /// The pipeline
        pipeline: String,
        /// Such as production
        stage: String,
        /// A party and who may sign for it, such as qa=ada@example.org,bob@example.org
        #[arg(long, value_name = "NAME=PEOPLE", required_unless_present = "none", conflicts_with = "none", value_parser = party)]
        party: Vec<(String, Vec<String>)>,
        /// `none`: the stage takes any code again
        #[arg(value_parser = ["none"])]
        none: Option<String>,
    },
}

/// The flags of `sign-off`.
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    /// The pipeline
    pipeline: String,
    /// The stage that may take it
    stage: String,
    /// The commit: its first seven digits, or more
    commit: String,
    /// The party that you sign for
    #[arg(long = "as", value_name = "PARTY", required_unless_present = "withdraw")]
    party: Option<String>,
    /// What you have to say about it
    #[arg(long, value_name = "TEXT", conflicts_with = "withdraw")]
    comment: Option<String>,
    /// Take back what you signed
    #[arg(long)]
    withdraw: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// `qa=ada@example.org,bob@example.org` in its parts.
fn party(given: &str) -> std::result::Result<(String, Vec<String>), String> {
    let (name, people) = given.split_once('=').unwrap_or((given, ""));
    let people: Vec<String> =
        people.split(',').map(str::trim).filter(|who| !who.is_empty()).map(String::from).collect();
    if name.is_empty() || people.is_empty() {
        return Err("name a party and who may sign for it: qa=ada@example.org,bob@example.org".into());
    }
    Ok((name.to_string(), people))
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let answer = match &args.command {
        Some(Command::Require { pipeline, stage, party, .. }) => {
            let (pipeline, stage) = (segment("pipeline", pipeline)?, segment("stage", stage)?);
            let parties: Vec<Value> =
                party.iter().map(|(name, people)| json!({ "name": name, "people": people })).collect();
            let path = format!("/shipway/v1/pipelines/{pipeline}/stages/{stage}/parties");
            client.send(Method::PUT, &path, Some(&json!({ "parties": parties }))).await?.success()?
        }
        None => {
            let name = match &args.pipeline {
                Some(name) => segment("pipeline", name)?,
                None => only_pipeline(&client.get("/pipelines").await?, "shipway sign-offs")?,
            };
            client.get(&format!("/shipway/v1/pipelines/{name}/sign-offs")).await?
        }
    };
    if args.json { context.terminal.json(&answer) } else { show(&answer, context) }
}

fn emails(party: &Value) -> String {
    let all: Vec<String> = items(&party["people"]).iter().map(|person| text(person, &["email"])).collect();
    if all.is_empty() { "nobody any more".to_string() } else { all.join(", ") }
}

fn show(answer: &Value, context: &Context) -> Result<()> {
    let pipeline = text(answer, &["pipeline", "name"]);
    let mut rows = Vec::new();
    for stage in items(&answer["stages"]) {
        for party in items(&stage["parties"]) {
            rows.push(vec![text(stage, &["stage"]).into(), text(party, &["name"]).into(), emails(party).into()]);
        }
    }
    let empty = format!(
        "No stage of {pipeline} wants sign-offs: shipway sign-offs require {pipeline} production --party qa=ada@example.org"
    );
    table(context.terminal, &["stage", "party", "signed by"], rows, &printable(&empty))?;
    let now = jiff::Timestamp::now();
    let short = |of: &Value| text(of, &["commit"]).chars().take(7).collect::<String>();
    let waiting: Vec<Vec<Cell>> = items(&answer["waiting"])
        .iter()
        .map(|it| {
            let missing: Vec<String> = items(&it["missing"]).iter().map(|party| text(party, &["name"])).collect();
            vec![
                short(it).into(),
                format!("{} {}", text(it, &["kind"]), text(it, &["name"])).into(),
                format!("{} ({})", name_of(it, "app"), text(it, &["stage"])).into(),
                missing.join(", ").into(),
                format!("{} ago", age(&text(it, &["created_at"]), now)).into(),
            ]
        })
        .collect();
    if !waiting.is_empty() {
        context.terminal.say("\n")?;
        table(context.terminal, &["waits", "from", "for", "until signed by", ""], waiting, "")?;
    }
    let signed: Vec<Vec<Cell>> = items(&answer["sign_offs"])
        .iter()
        .map(|it| {
            vec![
                short(it).into(),
                text(it, &["stage"]).into(),
                text(it, &["party"]).into(),
                text(it, &["user", "email"]).into(),
                format!("{} ago", age(&text(it, &["created_at"]), now)).into(),
                text(it, &["comment"]).into(),
            ]
        })
        .collect();
    if !signed.is_empty() {
        context.terminal.say("\n")?;
        table(context.terminal, &["signed", "for", "as", "by", "", ""], signed, "")?;
    }
    Ok(())
}

pub async fn sign(args: &SignArgs, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let (pipeline, stage) = (segment("pipeline", &args.pipeline)?, segment("stage", &args.stage)?);
    let path = format!("/shipway/v1/pipelines/{pipeline}/stages/{stage}/sign-offs");
    let answer = match args.withdraw {
        true => {
            let path = format!("{path}/{}", segment("commit", &args.commit)?);
            client.send(Method::DELETE, &path, None).await?.success()?
        }
        false => {
            let body = json!({ "commit": args.commit, "party": args.party, "comment": args.comment });
            client.post(&path, &body).await?
        }
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    let commit: String = text(&answer, &["commit"]).chars().take(7).collect();
    let (party, stage) = (text(&answer, &["party"]), text(&answer, &["stage"]));
    let missing: Vec<String> = items(&answer["missing"]).iter().map(|party| text(party, &["name"])).collect();
    let left = match missing.is_empty() {
        true => "All parties have signed it.".to_string(),
        false => format!("Still to sign: {}.", missing.join(", ")),
    };
    let done = match args.withdraw {
        true => format!("{party} takes its sign-off of {commit} for {stage} of {pipeline} back."),
        false => format!("{party} signed {commit} off for {stage} of {pipeline}."),
    };
    context.terminal.say(&format!("{}\n", printable(&format!("{done} {left}"))))
}
