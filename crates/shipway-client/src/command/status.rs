//! `shipway status`.

use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, Tone};
use serde_json::Value;

/// The flags of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
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
