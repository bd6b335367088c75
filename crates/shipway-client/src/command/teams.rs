//! `shipway teams`: what the Heroku CLI has no command for. The people of a team are `heroku members`.

use super::{ListArgs, items, segment, table};
use crate::Context;
use crate::error::Result;
use crate::terminal::{printable, text};
use http::Method;
use serde_json::json;

const NONE: &str = "No teams. Make one: shipway teams create NAME";

/// The flags of `teams`.
pub type Args = ListArgs<Action>;

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// The same as without a word
    #[command(hide = true)]
    List,
    /// Make a team with you as its admin
    Create {
        /// Its name
        name: String,
    },
    /// Give a team another name
    Rename {
        /// The team
        team: String,
        /// Its new name
        name: String,
    },
    /// End a team that owns nothing any more
    Destroy {
        /// Its name
        name: String,
    },
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let client = account.client();
    let at = |team: &str| Ok::<_, crate::error::Error>(format!("/teams/{}", segment("team", team)?));
    let answer = match &args.action {
        None | Some(Action::List) => client.get("/teams").await?,
        Some(Action::Create { name }) => client.post("/teams", &json!({ "name": name })).await?,
        Some(Action::Rename { team, name }) => {
            client.send(Method::PATCH, &at(team)?, Some(&json!({ "name": name }))).await?.success()?
        }
        Some(Action::Destroy { name }) => client.send(Method::DELETE, &at(name)?, None).await?.success()?,
    };
    if args.json {
        return context.terminal.json(&answer);
    }
    let name = printable(&text(&answer, &["name"]));
    match &args.action {
        None | Some(Action::List) => {
            let rows = items(&answer).into_iter().map(|t| vec![text(t, &["name"]).into(), text(t, &["role"]).into()]);
            table(context.terminal, &["TEAM", "ROLE"], rows.collect(), NONE)
        }
        Some(Action::Create { .. }) => context.terminal.say(&format!(
            "{name} is there, and you are its admin. Add people: heroku members:add EMAIL -r member -t {name}\n"
        )),
        Some(Action::Rename { .. }) => context.terminal.say(&format!("The team is called {name} now.\n")),
        Some(Action::Destroy { .. }) => context.terminal.say(&format!("{name} is gone.\n")),
    }
}
