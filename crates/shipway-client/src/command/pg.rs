//! `shipway pg`: databases, from a machine that does not reach them.

use super::{App, items, segment, table};
use crate::error::Result;
use crate::server::Account;
use crate::terminal::{printable, text};
use crate::tunnel::{self, Way};
use crate::{Context, Error};
use http::{Method, StatusCode};
use serde_json::Value;

/// The flags of `pg`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    app: App,
}

/// What is done; without a word an app's databases are listed.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Open a port on this machine that leads to an app's database, for psql and its like
    Tunnel(TunnelArgs),
}

#[derive(Debug, clap::Args)]
struct TunnelArgs {
    /// The database: an attachment, a config var or an add-on
    #[arg(default_value = "DATABASE")]
    database: String,
    #[command(flatten)]
    app: App,
    /// The port; without it, a free one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Print the address with the password in it
    #[arg(long)]
    show_password: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<()> {
    let account = context.account().await?;
    let Some(Action::Tunnel(args)) = &args.action else { return list(&args.app, &account, context).await };
    let (app, database) = match args.database.split_once("::") {
        Some((app, database)) => (segment("app", app)?, database),
        None => (args.app.resolve(context, &account)?, args.database.as_str()),
    };
    let client = account.client();
    let addon = client.get(&format!("/apps/{app}/addons/{}", segment("database", database)?)).await?;
    let (id, name) = (segment("database", &text(&addon, &["id"]))?, printable(&text(&addon, &["name"])));
    // Asked once without going through: whoever may not is told before a port is open.
    let asked = client.send(Method::GET, &tunnel::path(&id), None).await?;
    if asked.status != StatusCode::UPGRADE_REQUIRED {
        asked.success()?;
    }
    let credential = client.get(&format!("/postgres/v0/databases/{id}/credentials/default")).await?;
    let one = &credential["credentials"][0];
    let (user, password) = (text(one, &["user"]), text(one, &["password"]));
    let tunnel = tunnel::open(args.port, Way::Server(client, tunnel::path(&id))).await?;
    let login = if args.show_password { format!("{user}:{password}") } else { user };
    let port = tunnel.port;
    let url = format!("postgres://{login}@127.0.0.1:{port}/{}", text(&credential, &["database"]));
    context.terminal.say(&format!("{}\n", printable(&url)))?;
    eprintln!("{name} of {} is there for programs on this machine, until Ctrl-C.", printable(&app));
    if !args.show_password {
        eprintln!("Its password is left out: --show-password prints it.");
    }
    tokio::signal::ctrl_c().await.map_err(|e| Error::new(format!("signals cannot be received: {e}")))
}

async fn list(app: &App, account: &Account, context: &Context) -> Result<()> {
    let app = app.resolve(context, account)?;
    let answer = account.client().get(&format!("/apps/{app}/addons")).await?;
    let row = |addon: &Value| {
        let name = text(addon, &["name"]);
        let tunnel = format!("shipway pg tunnel {name} -a {app}");
        vec![name.into(), text(addon, &["plan", "name"]).into(), text(addon, &["state"]).into(), tunnel.into()]
    };
    let is_database = |addon: &&Value| addon["addon_service"]["name"] == "heroku-postgresql";
    let rows = items(&answer).into_iter().filter(is_database).map(row).collect();
    let none = format!("{app} has no databases. Make one: heroku addons:create heroku-postgresql -a {app}");
    table(context.terminal, &["DATABASE", "PLAN", "STATE", "A WAY TO IT"], rows, &none)
}
