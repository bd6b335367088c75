//! `shipway builds`.

use super::{OneApp, items, table, tone};
use crate::Context;
use crate::error::Result;
use crate::terminal::{Cell, Tone, age, text};
use http::Method;

/// The flags of `builds`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    app: OneApp,
    /// Forget what earlier builds left for the next one: dependencies and whatever else is kept between builds
    #[arg(long, conflicts_with = "json")]
    purge_cache: bool,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let app = args.app.resolve(context, &account)?;
    if args.purge_cache {
        account.client().send(Method::DELETE, &format!("/apps/{app}/build-cache"), None).await?.success()?;
        return context.terminal.say(&format!("The next build of {app} finds nothing that earlier ones left.\n"));
    }
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
