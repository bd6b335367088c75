//! `shipway triggers [add|remove]`.

use super::comparison::items;
use super::{App, table, tone};
use crate::error::Result;
use crate::terminal::{Cell, age, text};
use crate::{Context, Error};
use http::Method;
use serde_json::{Value, json};

/// The flags of `triggers`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    app: App,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

/// What is done; without a word they are listed.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Have a branch or tag deploy the app by itself
    Add {
        #[command(flatten)]
        refs: Refs,
        /// Wait until the checks of the commit have passed
        #[arg(long)]
        wait_for_ci: bool,
        #[command(flatten)]
        app: App,
    },
    /// End a trigger
    Remove {
        #[command(flatten)]
        refs: Refs,
        #[command(flatten)]
        app: App,
    },
}

/// Which refs.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Refs {
    /// A branch, or a pattern such as release/*
    #[arg(long, value_name = "NAME")]
    branch: Option<String>,
    /// A tag, or a pattern such as 'v*'
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

impl Refs {
    fn named(&self) -> (&'static str, &str) {
        match (&self.branch, &self.tag) {
            (Some(branch), _) => ("branch", branch),
            (None, tag) => ("tag", tag.as_deref().unwrap_or_default()),
        }
    }
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let app = match &args.command {
        Some(Command::Add { app, .. } | Command::Remove { app, .. }) => app,
        None => &args.app,
    };
    let app = app.resolve(context, &account)?;
    let path = format!("/shipway/v1/apps/{app}/triggers");
    match &args.command {
        None => {}
        Some(Command::Add { refs, wait_for_ci, .. }) => {
            let (kind, name) = refs.named();
            client.post(&path, &json!({ kind: name, "wait_for_ci": wait_for_ci })).await?;
        }
        Some(Command::Remove { refs, .. }) => {
            let (kind, name) = refs.named();
            let listed = client.get(&path).await?;
            let all = items(&listed["triggers"]);
            let found = all.into_iter().find(|t| text(t, &["kind"]) == kind && text(t, &["pattern"]) == name);
            let found = found.ok_or_else(|| {
                Error::new(format!("{app} has no trigger for {kind} {name}")).hint(format!("shipway triggers -a {app}"))
            })?;
            client.send(Method::DELETE, &format!("{path}/{}", text(found, &["id"])), None).await?.success()?;
        }
    }
    let answer = client.get(&path).await?;
    if args.json { context.terminal.json(&answer) } else { show(&answer, &app, context) }
}

fn show(answer: &Value, app: &str, context: &Context) -> Result<()> {
    let row = |t: &&Value| {
        let waits = t["wait_for_ci"].as_bool().unwrap_or(false);
        let when = if waits { "once its checks have passed" } else { "at once" };
        vec![text(t, &["kind"]).into(), text(t, &["pattern"]).into(), Cell::from(format!("deploys {app} {when}"))]
    };
    let triggers = items(&answer["triggers"]).iter().map(row).collect();
    let empty = format!("No branch and no tag deploys {app} by itself: shipway triggers add --tag 'v*' -a {app}");
    table(context.terminal, &["ref", "name", ""], triggers, &empty)?;
    let now = jiff::Timestamp::now();
    let deploy = |d: &&Value| {
        let commit: String = text(d, &["commit"]).chars().take(7).collect();
        let state = text(d, &["state"]);
        vec![
            text(d, &["name"]).into(),
            commit.into(),
            Cell::new(&state, tone(&state)),
            format!("{} ago", age(&text(d, &["created_at"]), now)).into(),
            text(d, &["by"]).into(),
            Cell::from(text(d, &["message"]).lines().next().unwrap_or_default()),
        ]
    };
    let deploys: Vec<Vec<Cell>> = items(&answer["deploys"]).iter().map(deploy).collect();
    if deploys.is_empty() {
        return Ok(());
    }
    context.terminal.say("\n")?;
    table(context.terminal, &["deploys", "commit", "state", "", "by", ""], deploys, "")
}
