//! `shipway rollback APP [RELEASE]`.

use super::comparison::{encoded, names, number};
use super::segment;
use crate::error::Result;
use crate::terminal::printable;
use crate::{Context, Error};
use serde_json::json;

/// The flags of `rollback`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The app
    app: String,
    /// The release to go back to, such as v12; without one the release before
    release: Option<String>,
    /// Go back although the schema has moved on since
    #[arg(long)]
    anyway: bool,
    /// Say what would have to be minded, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let client = context.account().await?.client();
    let path = format!("/shipway/v1/apps/{}/rollback", segment("app", &args.app)?);
    let query = args.release.as_ref().map(|release| format!("?to={}", encoded(release))).unwrap_or_default();
    let preview = client.get(&format!("{path}{query}")).await?;
    let (to, warning) = (number(&preview["to"], "version"), names(&preview["warning"]));
    for line in &warning {
        eprintln!(" !    {}", printable(line));
    }
    if args.dry_run {
        let told = format!("{} would go back to v{to}, code and config.\n", args.app);
        return if args.json { context.terminal.json(&preview) } else { context.terminal.say(&told) };
    }
    if !warning.is_empty() && !args.anyway {
        return Err(Error::new(format!("{} still runs what it ran: the schema has moved on since v{to}", args.app))
            .hint(format!(
                "take the migrations back first, or go back all the same: shipway rollback {} v{to} --anyway",
                args.app
            ))
            .exit(2));
    }
    let answer = client.post(&path, &json!({ "release": to.to_string() })).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let version = number(&answer, "version");
    context.terminal.say(&format!(
        "Rolling back {} to v{to}: release v{version}. Follow it: shipway ops --app {}\n",
        args.app, args.app
    ))
}
