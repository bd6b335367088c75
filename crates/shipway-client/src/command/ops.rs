//! `shipway ops [ID]`.

use super::{items, segment, table, tone};
use crate::Context;
use crate::error::{Error, Result};
use crate::terminal::{Cell, Tone, age, duration, minute, name_of, printable, text};
use serde_json::{Value, json};

/// The flags of `ops`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One operation, with its steps
    id: Option<String>,
    /// Only those of this app
    #[arg(short, long, value_name = "NAME")]
    app: Option<String>,
    /// Cancel the operation: what it did so far is undone. Without one, say which could be
    #[arg(long)]
    cancel: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let Some(id) = &args.id else {
        let query = match &args.app {
            Some(app) => format!("?app={}", segment("app", app)?),
            None => String::new(),
        };
        let answer = client.get(&format!("/shipway/v1/operations{query}")).await?;
        if args.cancel {
            return Err(which_to_cancel(&answer, &account.email));
        }
        return if args.json { context.terminal.json(&answer) } else { list(&answer, context) };
    };
    let id = segment("operation", id)?;
    if args.cancel {
        let answer = client.post(&format!("/shipway/v1/operations/{id}/actions/cancel"), &json!({})).await?;
        if args.json {
            return context.terminal.json(&answer);
        }
        eprintln!("Cancelling {id}: what it did so far is undone.");
    }
    let answer = client.get(&format!("/shipway/v1/operations/{id}")).await?;
    if args.json { context.terminal.json(&answer) } else { show(&answer, context) }
}

/// What is said to whoever cancels and does not say what: the command for each that could be.
fn which_to_cancel(answer: &Value, email: &str) -> Error {
    let now = jiff::Timestamp::now();
    let own = |op: &Value| text(op, &["user", "email"]) == email;
    let words = |op: &Value| {
        let by = text(op, &["user", "email"]);
        let by = if own(op) { "yours".to_string() } else { format!("by {by}") };
        let (kind, app, since) = (text(op, &["kind"]), name_of(op, "app"), age(&text(op, &["created_at"]), now));
        printable(&format!("{kind} of {app}, {by}, for {since}"))
    };
    let all: Vec<&Value> = items(answer).into_iter().filter(|op| op["cancellable"] == true).collect();
    let mine: Vec<&Value> = all.iter().copied().filter(|op| own(op)).collect();
    let (what, shown) = match (mine.as_slice(), all.len()) {
        (_, 0) => {
            return Error::new("nothing is in progress that could be cancelled")
                .hint("to go back to what ran before: shipway rollback");
        }
        ([_], _) => ("one operation of yours is in progress", mine),
        ([], _) => ("no operation of yours is in progress; others' could be cancelled by who may", all),
        _ => ("several operations of yours are in progress: say which", mine),
    };
    shown.iter().fold(Error::new(what), |error, op| {
        error.hint(format!("{}: shipway ops {} --cancel", words(op), printable(&text(op, &["id"]))))
    })
}

fn list(answer: &Value, context: &Context) -> Result<()> {
    let now = jiff::Timestamp::now();
    let rows = items(answer)
        .into_iter()
        .map(|op| {
            let state = text(op, &["state"]);
            let tone = tone(&state);
            vec![
                text(op, &["id"]).into(),
                apps(op).join(", ").into(),
                text(op, &["kind"]).into(),
                Cell::new(state, tone),
                name_of(op, "step").into(),
                Cell::new(age(&text(op, &["created_at"]), now), Tone::Quiet),
            ]
        })
        .collect();
    table(context.terminal, &["ID", "APP", "KIND", "STATE", "STEP", "AGE"], rows, "No operations.")
}

/// The names of the apps that it is on.
fn apps(op: &Value) -> Vec<String> {
    let all: Vec<String> = items(&op["apps"]).into_iter().map(|app| text(app, &["name"])).collect();
    if all.is_empty() { vec![name_of(op, "app")] } else { all }
}

fn show(op: &Value, context: &Context) -> Result<()> {
    let field =
        |name: &str, value: String| (!value.is_empty()).then(|| vec![Cell::new(name, Tone::Quiet), value.into()]);
    let heads = [
        field("operation", text(op, &["id"])),
        field(if apps(op).len() > 1 { "apps" } else { "app" }, apps(op).join(", ")),
        field("kind", text(op, &["kind"])),
        field("state", text(op, &["state"])),
        field("by", text(op, &["user", "email"])),
        field("since", minute(&text(op, &["created_at"]))),
        field("waits for", text(op, &["waiting_for"])),
        field("error", text(op, &["error"])),
    ];
    let of_each = items(&op["apps"]).into_iter().filter_map(|app| field(&text(app, &["name"]), text(app, &["error"])));
    let heads: Vec<_> = heads.into_iter().flatten().chain(of_each).collect();
    context.terminal.say(&format!("{}\n", context.terminal.columns(&heads)))?;
    let steps = op.get("steps").and_then(Value::as_array).into_iter().flatten().map(|step| {
        let state = text(step, &["state"]);
        let tone = tone(&state);
        let took = step.get("duration_ms").and_then(Value::as_u64).map(duration).unwrap_or_default();
        vec![
            text(step, &["name"]).into(),
            Cell::new(state, tone),
            Cell::new(took, Tone::Quiet),
            text(step, &["error"]).into(),
        ]
    });
    table(context.terminal, &["STEP", "STATE", "TOOK", "ERROR"], steps.collect(), "It has no steps yet.")
}
