//! `shipway promote FROM TO`.

use super::{items, table, tone};
use crate::error::Result;
use crate::http::Client;
use crate::terminal::{Cell, Tone, name_of, printable, text};
use crate::{Context, Error};
use serde_json::{Value, json};
use std::time::Duration;

/// The flags of `promote`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// From where: a stage (dev, staging) or an app
    from: String,
    /// To where: a stage (staging, production) or an app
    to: String,
    /// All pipelines of this product, together or not at all
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// This pipeline
    #[arg(long, value_name = "NAME", conflicts_with = "product")]
    pipeline: Option<String>,
    /// These pipelines or apps alone
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Why; needed where a stage is left out or a record names other code than what runs, and kept
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would be promoted, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// Between two looks at a promotion under way.
const LOOK: Duration = Duration::from_millis(300);

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let mut order = json!({
        "from": args.from, "to": args.to, "product": args.product, "pipeline": args.pipeline, "only": args.only,
        "reason": args.reason, "dry_run": true,
    });
    let planned = client.post("/shipway/v1/promotions", &order).await?;
    if args.dry_run {
        return if args.json { context.terminal.json(&planned) } else { dry_run(&planned, context) };
    }
    if !args.json {
        eprintln!("Promoting at {}", account.url);
        plan(&planned, context)?;
    }
    order["dry_run"] = false.into();
    // What was said is what is done, or nothing is.
    order["seen"] = planned["moves"].as_array().into_iter().flatten().map(seen).collect();
    let begun = client.post("/shipway/v1/promotions", &order).await?;
    let ended = follow(&client, begun, args.json).await?;
    if args.json {
        context.terminal.json(&ended)?;
    } else {
        outcome(&ended, context)?;
    }
    let failed = targets(&ended).any(|t| text(t, &["status"]) == "failed");
    if failed { Err(Error::new("nothing was promoted: all apps run what they ran").exit(1)) } else { Ok(()) }
}

/// What would happen. Errors: it would be refused.
fn dry_run(planned: &Value, context: &Context) -> Result<()> {
    plan(planned, context)?;
    let refused = said(planned, "refused");
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("this would be refused: {}", refused.join(" "))).exit(1))
}

/// One line an app: what it runs from where, or that it runs it already.
fn plan(planned: &Value, context: &Context) -> Result<()> {
    let moves = planned["moves"].as_array().into_iter().flatten();
    let rows = moves.map(|one| {
        let unchanged = text(one, &["unchanged"]);
        let what =
            if unchanged.is_empty() { String::new() } else { format!("no changes: v{unchanged} runs it already") };
        vec![
            name_of(one, "pipeline").into(),
            format!("{} v{}", name_of(one, "source"), text(one, &["version"])).into(),
            text(one, &["commit"]).into(),
            name_of(one, "app").into(),
            Cell::new(text(one, &["to"]), Tone::Quiet),
            Cell::new(what, Tone::Quiet),
        ]
    });
    table(context.terminal, &["PIPELINE", "FROM", "COMMIT", "TO", "STAGE", ""], rows.collect(), "Nothing to promote.")?;
    let steps = items(&planned["steps"]);
    if !steps.is_empty() {
        let row = |(at, step): (usize, &&Value)| {
            vec![
                (at + 1).to_string().into(),
                text(step, &["name"]).into(),
                name_of(step, "app").into(),
                text(step, &["command"]).into(),
            ]
        };
        context.terminal.say("\nSteps elsewhere, in this order, before anything switches:\n")?;
        table(context.terminal, &["", "STEP", "IN", "COMMAND"], steps.iter().enumerate().map(row).collect(), "")?;
    }
    for said in said(planned, "against") {
        eprintln!("shipway: all the same, with your reason: {}", printable(&said));
    }
    Ok(())
}

/// What is said of the moves under this key, each sentence once.
fn said(planned: &Value, key: &str) -> Vec<String> {
    let moves = planned["moves"].as_array().into_iter().flatten();
    let mut all: Vec<String> = moves.map(|one| text(one, &[key])).filter(|said| !said.is_empty()).collect();
    all.dedup();
    all
}

fn seen(one: &Value) -> Value {
    json!({ "app": text(one, &["app", "name"]), "digest": text(one, &["digest"]) })
}

/// Waits for the end, and says each step that begins.
async fn follow(client: &Client, begun: Value, quiet: bool) -> Result<Value> {
    let path = format!("/shipway/v1/promotions/{}", text(&begun, &["id"]));
    let operation = text(&begun, &["operation", "id"]);
    let (mut promotion, mut said) = (begun, String::new());
    while text(&promotion, &["status"]) == "pending" {
        tokio::time::sleep(LOOK).await;
        if !quiet && !operation.is_empty() {
            let shown = client.get(&format!("/shipway/v1/operations/{operation}")).await?;
            let step = text(&shown, &["step"]);
            if !step.is_empty() && step != said {
                eprintln!("-----> {}", printable(&step));
                said = step;
            }
        }
        promotion = client.get(&path).await?;
    }
    Ok(promotion)
}

fn targets(promotion: &Value) -> impl Iterator<Item = &Value> {
    promotion["targets"].as_array().into_iter().flatten()
}

fn outcome(promotion: &Value, context: &Context) -> Result<()> {
    let rows = targets(promotion).map(|target| {
        let status = text(target, &["status"]);
        let state = if text(target, &["unchanged"]) == "true" { "unchanged".to_string() } else { status };
        let tone = tone(&state);
        let version = text(target, &["version"]);
        vec![
            name_of(target, "app").into(),
            Cell::new(state, tone),
            (if version.is_empty() { version } else { format!("v{version}") }).into(),
            text(target, &["error"]).into(),
        ]
    });
    table(context.terminal, &["APP", "STATE", "RELEASE", "ERROR"], rows.collect(), "Nothing was promoted.")
}
