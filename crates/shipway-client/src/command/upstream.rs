//! `shipway upstream [set|unset|fetch|push|require]`.

use super::comparison::{self, names};
use super::{App, only_pipeline, segment};
use crate::environment::Change;
use crate::error::Result;
use crate::profile::{self, SignIn};
use crate::terminal::{Cell, Tone, age, text};
use crate::{Context, Error};
use http::Method;
use serde_json::{Value, json};

/// The flags of `upstream`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The pipeline
    #[arg(short, long, value_name = "NAME", global = true)]
    pipeline: Option<String>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// What is done with an upstream; without a word it is shown.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say where the team's line is: fetched from an https address, or only pushed to us
    Set {
        /// Such as https://github.com/acme/shop.git
        url: Option<String>,
        /// The branch
        #[arg(long, default_value = "main", value_name = "NAME")]
        branch: String,
    },
    /// Forget it
    Unset,
    /// Fetch it now
    Fetch,
    /// Push the end of the line to an app of the pipeline (CI, after each merge)
    Push {
        /// What to push
        #[arg(default_value = "HEAD")]
        commit: String,
        /// The branch
        #[arg(long, default_value = "main", value_name = "NAME")]
        branch: String,
        #[command(flatten)]
        app: App,
    },
    /// Have stages refuse code that lacks commits of it; without a stage, none does
    Require {
        /// Such as production
        stages: Vec<String>,
        /// Have them refuse commits that CI has not passed instead
        #[arg(long)]
        ci: bool,
    },
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    if let Some(Command::Push { commit, branch, app }) = &args.command {
        return push(commit, branch, &app.resolve(context, &account)?, context, &account);
    }
    let client = account.client();
    let name = match &args.pipeline {
        Some(name) => segment("pipeline", name)?,
        None => only_pipeline(&client.get("/pipelines").await?, "--pipeline")?,
    };
    let path = format!("/shipway/v1/pipelines/{name}/upstream");
    let send = async |method: Method, body: Value| client.send(method, &path, Some(&body)).await?.success();
    let answer = match &args.command {
        None => client.get(&path).await?,
        Some(Command::Set { url, branch }) => send(Method::POST, json!({ "url": url, "branch": branch })).await?,
        Some(Command::Unset) => send(Method::DELETE, json!({})).await?,
        Some(Command::Fetch) => client.post(&format!("{path}/actions/fetch"), &json!({})).await?,
        Some(Command::Require { stages, ci }) => {
            let rule = if *ci { "refuse_unchecked" } else { "refuse_behind" };
            send(Method::PATCH, json!({ rule: stages })).await?
        }
        Some(Command::Push { .. }) => Value::Null,
    };
    if args.json { context.terminal.json(&answer) } else { show(&answer, context) }
}

fn show(answer: &Value, context: &Context) -> Result<()> {
    let now = jiff::Timestamp::now();
    let branch = text(answer, &["branch"]);
    let upstream = match (branch.as_str(), text(answer, &["url"])) {
        ("", _) => "unknown: shipway upstream set URL, or shipway upstream push from CI".to_string(),
        (branch, url) if url.is_empty() => format!("{branch}, pushed to us"),
        (branch, url) => format!("{branch} of {url}"),
    };
    let tip: String = text(answer, &["tip"]).chars().take(7).collect();
    let heard = match text(answer, &["heard_at"]) {
        never if never.is_empty() => "not yet".to_string(),
        at => format!("{tip}, {} ago", age(&at, now)),
    };
    let mut rows = vec![
        vec![Cell::new("pipeline", Tone::Quiet), text(answer, &["pipeline", "name"]).into()],
        vec![Cell::new("upstream", Tone::Quiet), upstream.into()],
        vec![Cell::new("heard of", Tone::Quiet), heard.into()],
    ];
    let failure = text(answer, &["failure"]);
    if !failure.is_empty() {
        rows.push(vec![Cell::new("failure", Tone::Quiet), Cell::new(failure, Tone::Accent)]);
    }
    for (words, rule) in [("required by", "refuse_behind"), ("CI required by", "refuse_unchecked")] {
        let ruled = names(&answer[rule]);
        if !ruled.is_empty() {
            rows.push(vec![Cell::new(words, Tone::Quiet), ruled.join(", ").into()]);
        }
    }
    for app in comparison::items(&answer["apps"]) {
        let words = text(app, &["beside", "words"]);
        let words = if words.is_empty() { "not known".to_string() } else { words };
        rows.push(vec![
            Cell::new(text(app, &["stage"]), Tone::Quiet),
            format!("{}: {words}", text(app, &["name"])).into(),
        ]);
    }
    context.terminal.say(&context.terminal.columns(&rows))
}

/// Runs git, with the settings of `shipway env` and no others of ours.
fn push(commit: &str, branch: &str, app: &str, context: &Context, account: &crate::server::Account) -> Result<()> {
    let files = super::env::files(context, account, SignIn::Token)?;
    let mut git = std::process::Command::new("git");
    for change in profile::exported(&context.environment, account, &files, SignIn::Token) {
        match change {
            Change::Set(name, value) if name.starts_with("GIT_") => _ = git.env(name, value),
            Change::Unset(name) if name.starts_with("GIT_") => _ = git.env_remove(name),
            Change::Set(..) | Change::Unset(..) => {}
        }
    }
    let remote = format!("{}/{}.git", account.url.https(), segment("app", app)?);
    let refspec = format!("+{commit}:refs/upstream/{branch}");
    git.args(["push", "--quiet", "--end-of-options", &remote, &refspec]);
    let status = git.status().map_err(|e| Error::new(format!("git could not be started: {e}")))?;
    if !status.success() {
        return Err(Error::new(format!("{branch} was not pushed to {app}")));
    }
    eprintln!("{app} knows {branch} now.");
    Ok(())
}
