//! `shipway redeploy`.

use super::OneApp;
use crate::Context;
use crate::error::Result;
use crate::terminal::{printable, text};
use serde_json::json;

/// The flags of `redeploy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    app: OneApp,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    eprintln!("Redeploying {app} at {}", account.url);
    let answer = account.client().post(&format!("/shipway/v1/apps/{app}/redeploy"), &json!({})).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let version = text(&answer, &["version"]);
    let operation = [text(&answer, &["operation", "id"]), text(&answer, &["id"])].into_iter().find(|id| !id.is_empty());
    let told = match (version.is_empty(), operation) {
        (false, _) => format!("{app} runs release v{version}."),
        (true, Some(id)) => format!("Follow it: shipway ops {id}"),
        (true, None) => format!("{app} is being released again. Follow it: shipway ops --app {app}"),
    };
    context.terminal.say(&format!("{}\n", printable(&told)))
}
