//! `shipway status [APP]`.

use super::comparison::names;
use super::segment;
use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, Tone, minute, text};
use serde_json::Value;

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An app; without one, the server
    app: Option<String>,
    /// The same
    #[arg(short = 'a', long = "app", value_name = "NAME", conflicts_with = "app")]
    called: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    if let Some(app) = args.app.as_ref().or(args.called.as_ref()) {
        let path = format!("/shipway/v1/apps/{}/status", segment("app", app)?);
        let answer = account.client().get(&path).await?;
        return if args.json { context.terminal.json(&answer) } else { of_app(&answer, context) };
    }
    let answer = account.client().get("/shipway/v1/status").await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let mut rows = vec![
        vec![Cell::new("server", Tone::Quiet), Cell::from(account.url.to_string())],
        vec![Cell::new("you", Tone::Quiet), Cell::from(&account.email)],
    ];
    flatten(&answer, "", &mut rows);
    context.terminal.say(&context.terminal.columns(&rows))
}

/// What an app runs, and where that stands beside its upstream.
fn of_app(answer: &Value, context: &Context) -> Result<()> {
    let commit: String = text(answer, &["commit"]).chars().take(7).collect();
    let release = format!("v{} {}", text(answer, &["release", "version"]), text(answer, &["release", "description"]));
    let (pipeline, stage) = (text(answer, &["pipeline", "name"]), text(answer, &["stage"]));
    let upstream = match (text(answer, &["beside", "words"]), pipeline.is_empty()) {
        (words, _) if !words.is_empty() => words,
        (_, true) => "unknown: it is in no pipeline".to_string(),
        (_, false) => format!("unknown: shipway upstream set URL --pipeline {pipeline}"),
    };
    let reserved = match &answer["reserved"] {
        Value::Null => String::new(),
        held => format!("by {} until {}", text(held, &["by"]), minute(&text(held, &["until"]))),
    };
    let rows = [
        ("app", text(answer, &["app", "name"])),
        ("pipeline", format!("{pipeline} {stage}")),
        ("release", release),
        ("commit", format!("{commit} {}", text(answer, &["commit_description"]))),
        ("upstream", upstream),
        ("warning", text(answer, &["host_change"])),
        ("reserved", reserved),
        ("about", about(&answer["about"])),
        ("website", text(answer, &["about", "website"])),
        ("repository", text(answer, &["about", "repository"])),
        ("first page", text(answer, &["about", "success_url"])),
        ("logo", text(answer, &["about", "logo"])),
        ("notice", names(&answer["notices"]).join("\n")),
    ];
    let rows = rows.iter().filter(|(_, told)| !told.trim().is_empty());
    let rows: Vec<_> = rows.map(|(label, told)| vec![Cell::new(label, Tone::Quiet), Cell::from(told.trim())]).collect();
    context.terminal.say(&context.terminal.columns(&rows))
}

/// What an app.json says of its app, in one line: `Acorn: Grows oaks. (tree, forest)`.
fn about(about: &Value) -> String {
    let keywords = names(&about["keywords"]).join(", ");
    let keywords = if keywords.is_empty() { keywords } else { format!("({keywords})") };
    let said = [text(about, &["name"]), text(about, &["description"])];
    let said = said.into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join(": ");
    format!("{said} {keywords}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Every single value of an object as a row, nested names joined by spaces; a list is its length.
fn flatten(value: &Value, prefix: &str, rows: &mut Vec<Vec<Cell>>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = format!("{prefix}{}", key.replace('_', " "));
        let shown = match value {
            Value::Object(_) => {
                flatten(value, &format!("{name} "), rows);
                continue;
            }
            Value::Array(list) => list.len().to_string(),
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push(vec![Cell::new(name, Tone::Quiet), Cell::from(shown)]);
    }
}
