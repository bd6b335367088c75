//! One file per command; its doc comment is its help.

mod board;
mod builds;
mod checks;
mod comparison;
mod credential;
mod database_programs;
mod diff;
mod doctor;
mod env;
mod forges;
mod heroku;
mod install;
mod login;
mod ops;
mod parity;
mod pg;
mod pipelines;
mod products;
mod promote;
mod redeploy;
mod reservations;
mod review_settings;
mod reviewapps;
mod rollback;
mod settings;
mod sign_offs;
mod status;
mod teams;
mod triggers;
mod upstream;
mod users;

use crate::error::Result;
use crate::finding::Finding;
use crate::terminal::Terminal;
use crate::{Context, Error};
use std::process::ExitCode;

/// The flags of a noun whose list is shown where nothing is to be done.
#[derive(Debug, clap::Args)]
pub struct ListArgs<A: clap::Subcommand> {
    #[command(subcommand)]
    action: Option<A>,
    /// Print the server's answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The commands of the client half.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print what points the Heroku CLI and git in this shell at your server
    Env(env::Args),
    /// Run the Heroku CLI against your server, and nothing else
    Heroku(heroku::Args),
    /// Say where this shell, this checkout and this machine lead, and what to type
    Doctor,
    /// Log in to a server elsewhere
    Login(login::Args),
    /// Answer git's question for a password (git calls this)
    #[command(hide = true)]
    Credential(credential::Args),
    /// Say how the server is, or what an app runs
    Status(status::Args),
    /// List operations, or show one with its steps
    Ops(ops::Args),
    /// List an app's builds, or forget what they left for the next one
    Builds(builds::Args),
    /// Show or change what an app does otherwise than usual: health check, overlap, release phase, other branches
    Settings(settings::Args),
    /// Say what would change: two stages or apps, or two releases of an app
    Diff(diff::Args),
    /// Say in what two apps differ that should be alike
    Parity(parity::Args),
    /// Promote what one stage or app runs to another, together or not at all
    Promote(promote::Args),
    /// List products, the pipelines that are promoted together; make and end them
    Products(products::Args),
    /// Show or change what a pipeline allows
    Pipelines(pipelines::Args),
    /// Go back to an earlier release, code and config, without a build
    Rollback(rollback::Args),
    /// Show or say where the team's line is, and which apps are ahead of it or behind
    Upstream(upstream::Args),
    /// Connect pipelines to their repositories at GitHub, GitLab, Gitea or Forgejo; list what their webhooks brought
    Forges(forges::Args),
    /// List review apps, remove one, allow a fork's, put them behind a password; show or change how they are made
    Reviewapps(reviewapps::Args),
    /// List teams; make, rename and end them
    Teams(teams::Args),
    /// Say what the checks of a commit say, where no forge does: what waits for CI goes on or stays
    Checks(checks::Args),
    /// Show or change which branches and tags deploy an app by themselves
    Triggers(triggers::Args),
    /// List what stages want signed off, what waits for it, and what was signed; say what a stage wants
    SignOffs(sign_offs::Args),
    /// Sign a commit off for a stage
    SignOff(sign_offs::SignArgs),
    /// Say who has an app, and whose code it runs
    Who(reservations::Args),
    /// Keep an app for yourself for a while
    Reserve(reservations::ReserveArgs),
    /// End a reservation
    Unreserve(reservations::Args),
    /// Bring back the code that the last deploy replaced
    Previous(reservations::PreviousArgs),
    /// Show what you are to be told: whose deploy replaced yours
    Notices(reservations::NoticesArgs),
    /// Release the running commit again
    Redeploy(redeploy::Args),
    /// Open a way to an app's database
    Pg(pg::Args),
    /// Run a program of PostgreSQL's (the Heroku CLI calls this, where `shipway heroku` runs it against a server elsewhere)
    #[command(hide = true)]
    DatabaseProgram(database_programs::Args),
    /// List users, add one, or give one a new token
    Users(users::Args),
}

impl Command {
    pub(crate) async fn run(self, context: &Context, findings: Vec<Finding>) -> Result<ExitCode> {
        match self {
            Self::Heroku(args) => return heroku::run(args, context).await,
            Self::DatabaseProgram(args) => return database_programs::run(args, context).await,
            Self::Doctor => return doctor::run(context, findings).await,
            Self::Env(args) => env::run(&args, context).await?,
            Self::Login(args) => login::run(args, context).await?,
            Self::Credential(args) => credential::run(&args, context).await?,
            Self::Status(args) => status::run(&args, context).await?,
            Self::Ops(args) => ops::run(&args, context).await?,
            Self::Builds(args) => builds::run(&args, context).await?,
            Self::Settings(args) => settings::run(&args, context).await?,
            Self::Diff(args) => diff::run(&args, context).await?,
            Self::Parity(args) => parity::run(&args, context).await?,
            Self::Promote(args) => promote::run(&args, context).await?,
            Self::Products(args) => products::run(&args, context).await?,
            Self::Pipelines(args) => pipelines::run(&args, context).await?,
            Self::Rollback(args) => rollback::run(&args, context).await?,
            Self::Upstream(args) => upstream::run(&args, context).await?,
            Self::Forges(args) => forges::run(&args, context).await?,
            Self::Reviewapps(args) => reviewapps::run(&args, context).await?,
            Self::Teams(args) => teams::run(&args, context).await?,
            Self::Checks(args) => checks::run(&args, context).await?,
            Self::Triggers(args) => triggers::run(&args, context).await?,
            Self::SignOffs(args) => sign_offs::run(&args, context).await?,
            Self::SignOff(args) => sign_offs::sign(&args, context).await?,
            Self::Who(args) => reservations::who(&args, context).await?,
            Self::Reserve(args) => reservations::reserve(&args, context).await?,
            Self::Unreserve(args) => reservations::unreserve(&args, context).await?,
            Self::Previous(args) => reservations::previous(&args, context).await?,
            Self::Notices(args) => reservations::notices(&args, context).await?,
            Self::Redeploy(args) => redeploy::run(&args, context).await?,
            Self::Pg(args) => pg::run(&args, context).await?,
            Self::Users(args) => users::run(&args, context).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Which app a command is about, which has no other words: named by itself, as in `shipway status shop`, or as everywhere.
#[derive(Debug, clap::Args)]
struct OneApp {
    /// The app's name, as with --app
    #[arg(value_name = "APP", conflicts_with_all = ["app", "remote"])]
    named: Option<String>,
    #[command(flatten)]
    app: App,
}

impl OneApp {
    fn resolve(&self, context: &Context, account: &crate::server::Account) -> Result<String> {
        match &self.named {
            Some(name) => segment("app", name),
            None => self.app.resolve(context, account),
        }
    }
}

/// Which app a command is about.
#[derive(Debug, clap::Args)]
struct App {
    /// The app's name
    #[arg(short, long, value_name = "NAME")]
    app: Option<String>,
    /// The git remote that leads to the app
    #[arg(short, long, value_name = "REMOTE")]
    remote: Option<String>,
}

impl App {
    fn resolve(&self, context: &Context, account: &crate::server::Account) -> Result<String> {
        let app = crate::git::app(
            self.app.as_deref(),
            self.remote.as_deref(),
            &context.environment,
            &account.url,
            &crate::git::remotes(),
        )?;
        segment("app", &app)
    }
}

/// A name that becomes one segment of a path. The server has the last word on names; this keeps a name from being another path.
fn segment(what: &str, name: &str) -> Result<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.bytes().all(plain) {
        let shown = crate::terminal::printable(&name.chars().take(80).collect::<String>());
        let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        return Err(Error::new(format!("\"{shown}\" is not the name of {article} {what}")));
    }
    Ok(name.to_owned())
}

/// The one pipeline of a list. Errors: none, or several, with what to add to the command: `hint`.
fn only_pipeline(list: &serde_json::Value, hint: &str) -> Result<String> {
    use crate::terminal::text;
    let all: Vec<String> = comparison::items(list).iter().map(|pipeline| text(pipeline, &["name"])).collect();
    match all.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            Err(Error::new("there is no pipeline that you can see")
                .hint("heroku pipelines:create NAME -a APP -s staging"))
        }
        several => {
            Err(Error::new("there are several pipelines").hint(format!("name one: {hint} {}", several.join("|"))))
        }
    }
}

/// The path of this executable, for lines that other programs will run later.
fn executable() -> Result<String> {
    let path = std::env::current_exe().map_err(|e| Error::new(format!("this program cannot find itself: {e}")))?;
    path.into_os_string().into_string().map_err(|p| {
        Error::new(format!("the path of this program is not UTF-8: {}", p.display())).hint("move it somewhere plainer")
    })
}

/// The items of an answer that is a list, or an object with one list in it.
fn items(answer: &serde_json::Value) -> Vec<&serde_json::Value> {
    let list = answer.as_array().or_else(|| answer.as_object().and_then(|o| o.values().find_map(|v| v.as_array())));
    list.map(|l| l.iter().collect()).unwrap_or_default()
}

/// Writes a table with its heads, or the sentence for an empty one.
fn table(terminal: Terminal, heads: &[&str], rows: Vec<Vec<crate::terminal::Cell>>, empty: &str) -> Result<()> {
    use crate::terminal::{Cell, Tone};
    if rows.is_empty() {
        return terminal.say(&format!("{empty}\n"));
    }
    let mut all = vec![heads.iter().map(|h| Cell::new(h, Tone::Quiet)).collect()];
    all.extend(rows);
    terminal.say(&terminal.columns(&all))
}

/// The tone of a state's word: what failed or waits stands out.
fn tone(state: &str) -> crate::terminal::Tone {
    match state {
        "failed" | "refused" | "error" | "undoing" | "undone" | "cancelled" | "stuck" => crate::terminal::Tone::Accent,
        _ => crate::terminal::Tone::Plain,
    }
}
