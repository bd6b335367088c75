//! `shipway builds`.

use super::{App, items, table, tone};
use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, Tone, age, text};

/// The flags of `builds`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    app: App,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    let answer = account.client().get(&format!("/shipway/v1/apps/{app}/builds")).await?;
    if args.json {
        return context.terminal.json(&answer);
    }
    let now = jiff::Timestamp::now();
    let rows = items(&answer)
        .into_iter()
        .map(|build| {
            let status = text(build, &["status"]);
            let tone = tone(&status);
            let commit: String = text(build, &["source_blob", "version"]).chars().take(12).collect();
            vec![
                text(build, &["id"]).into(),
                Cell::new(status, tone),
                commit.into(),
                text(build, &["user", "email"]).into(),
                Cell::new(age(&text(build, &["created_at"]), now), Tone::Quiet),
            ]
        })
        .collect();
    let empty = format!("{app} has no builds yet. Push something: git push heroku main");
    table(context.terminal, &["ID", "STATUS", "COMMIT", "BY", "AGE"], rows, &empty)
}
