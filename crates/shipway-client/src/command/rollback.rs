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
    #[arg(value_name = "APP", required_unless_present = "called")]
    first: Option<String>,
    /// The release to go back to, such as v12; without one the release before
    #[arg(value_name = "RELEASE")]
    second: Option<String>,
    /// The app's name, as other commands have it; the release is then the first word
    #[arg(short = 'a', long = "app", value_name = "NAME")]
    called: Option<String>,
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

impl Args {
    /// The app and the release, whichever way they are written.
    fn which(&self) -> Result<(String, Option<&String>)> {
        let (app, release) = match (&self.called, &self.first, &self.second) {
            (Some(app), release, None) => (app, release.as_ref()),
            (None, Some(app), release) => (app, release.as_ref()),
            _ => return Err(Error::new("the app is named twice").hint("shipway rollback shop v12, or -a shop v12")),
        };
        Ok((segment("app", app)?, release))
    }
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let (app, release) = args.which()?;
    let client = context.account().await?.client();
    let path = format!("/shipway/v1/apps/{app}/rollback");
    let query = release.map(|release| format!("?to={}", encoded(release))).unwrap_or_default();
    let preview = client.get(&format!("{path}{query}")).await?;
    let (to, warning) = (number(&preview["to"], "version"), names(&preview["warning"]));
    warn(&warning);
    if args.dry_run {
        warn(&names(&preview["coming"]));
        let told = format!("{app} would go back to v{to}, code and config.\n");
        return if args.json { context.terminal.json(&preview) } else { context.terminal.say(&told) };
    }
    if !warning.is_empty() && !args.anyway {
        return Err(Error::new(format!("{app} still runs what it ran: the schema has moved on since v{to}"))
            .hint(format!(
                "take the migrations back first, or go back all the same: shipway rollback {app} v{to} --anyway"
            ))
            .exit(2));
    }
    let answer = client.post(&path, &json!({ "release": to.to_string() })).await?;
    warn(&names(&answer["coming"]));
    if args.json {
        return context.terminal.json(&answer);
    }
    let version = number(&answer, "version");
    context
        .terminal
        .say(&format!("Rolling back {app} to v{to}: release v{version}. Follow it: shipway ops --app {app}\n"))
}

/// Says on stderr what there is to mind.
pub(super) fn warn(sentences: &[String]) {
    for sentence in sentences {
        eprintln!(" !    {}", printable(sentence));
    }
}
